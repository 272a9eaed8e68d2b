/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <strings.h>

#include "placement-internal.h"

/* Leases tried in one search. A request of the largest size takes 64 when nothing must be moved. */
#define STEPS_MAX 500U

typedef struct Search {
        const SliceRequest *slices;
        size_t n;
        const PlacementRegion *regions;
        size_t n_regions;
        uint64_t owner;
        size_t order[EGM_SLICES_MAX]; /* indices of slices */
        Placed placed[EGM_SLICES_MAX];
        PlacementFit *fits; /* n_regions for each slice */
        unsigned steps;
} Search;

bool placement_gpu_equal(const char *wanted, const char *address) {
        static const char domain[] = "0000:";
        const char *colon = strchr(wanted, ':');

        if (strcasecmp(wanted, address) == 0)
                return true;
        return colon && !strchr(colon + 1, ':') && strncmp(address, domain, strlen(domain)) == 0 &&
               strcasecmp(wanted, address + strlen(domain)) == 0;
}

bool placement_matches(const SliceRequest *slice, const PlacementRegion *region) {
        if (slice->region && !streq(slice->region, region->name))
                return false;
        if (slice->dmabuf && region->no_dmabuf)
                return false;
        if (slice->node != EGM_NODE_ANY && slice->node != region->node)
                return false;
        if (slice->socket != EGM_SOCKET_ANY && slice->socket != region->socket)
                return false;
        if (!slice->gpu)
                return true;
        for (const char *const *gpu = region->gpus; gpu && *gpu; gpu++)
                if (placement_gpu_equal(slice->gpu, *gpu))
                        return true;
        return false;
}

static uint64_t slice_align(const SliceRequest *slice, const ExtentMap *m) {
        return slice->align > 0 ? slice->align : MAX(EGM_ALIGN_DEFAULT, extent_map_granule(m));
}

uint64_t placement_lendable(const ExtentMap *m, bool include_retired) {
        uint64_t bytes = extent_map_bytes(m, EXTENT_FREE);

        if (!include_retired)
                return bytes;
        /* Retired pages of other leases are not to be had. */
        return bytes + extent_map_bytes(m, EXTENT_RETIRED) + extent_map_bytes(m, EXTENT_LEASED) +
               extent_map_bytes(m, EXTENT_DRAINING) - extent_map_owned(m);
}

uint64_t placement_run_at_start(const ExtentMap *m, bool include_retired) {
        uint64_t at = 0;
        Extent e;

        for (; extent_map_get(m, at, &e); at = e.offset + e.size)
                if (e.state != EXTENT_FREE &&
                    (!include_retired || e.state != EXTENT_RETIRED || e.owner != 0))
                        break;
        return at;
}

static int fit_at_start(const ExtentMap *m, uint64_t size, bool include_retired) {
        Extent e;

        if (extent_map_bytes(m, EXTENT_FREE) == 0 || placement_lendable(m, include_retired) < size)
                return -ENOSPC;
        /* Nothing but retired pages is no memory to lend. */
        if (placement_run_at_start(m, include_retired) < size ||
            !extent_map_next(m, 0, EXTENT_FREE, &e) || e.offset >= size)
                return -EXFULL;
        return 0;
}

int placement_fit(const SliceRequest *slice, const PlacementRegion *region, PlacementFit *ret) {
        const ExtentMap *m = region->map;
        uint64_t size, offset = 0;
        Extent e;
        int r;

        if (!region->ready || !m)
                return -ENOLINK;
        if (region->whole_only && extent_map_owned(m) > 0)
                return -ENOTUNIQ;
        if (region->reserved > 0)
                return -EAGAIN;
        size = slice->whole ? extent_map_size(m) : slice->size;
        if (slice->whole || region->whole_only)
                r = fit_at_start(m, size, slice->include_retired);
        else
                r = extent_map_fit(m, size, slice_align(slice, m), slice->include_retired, &offset);
        if (r < 0)
                return r;
        if (!extent_map_get(m, offset, &e))
                assert(false);
        ret->placed.offset = offset;
        ret->placed.size = size;
        ret->whole_only = region->whole_only;
        ret->retired = e.state != EXTENT_FREE || e.offset + e.size - offset < size;
        ret->rest = ret->retired || region->whole_only ? extent_map_size(m) - size : e.size - size;
        return 0;
}

/* Which of two places is better for the slice. */
static bool fit_before(const SliceRequest *slice, const PlacementFit *a, const PlacementFit *b) {
        if (a->retired != b->retired)
                return b->retired;
        /* In a region that serves one lease at a time a small slice takes everything. */
        if (a->whole_only != b->whole_only)
                return slice->whole ? a->whole_only : b->whole_only;
        if (slice->whole)
                return a->placed.size < b->placed.size;
        return a->rest < b->rest;
}

static size_t search_fits(Search *s, const SliceRequest *slice, PlacementFit *fits) {
        size_t n = 0;

        for (size_t i = 0; i < s->n_regions; i++) {
                PlacementFit fit = {.placed.region = i};
                size_t at;

                if (!placement_matches(slice, s->regions + i) ||
                    placement_fit(slice, s->regions + i, &fit) < 0)
                        continue;
                for (at = n++; at > 0 && fit_before(slice, &fit, fits + at - 1); at--)
                        fits[at] = fits[at - 1];
                fits[at] = fit;
        }
        return n;
}

/* Places the slices from this depth on; what it could not finish it has undone. */
static bool search_place(Search *s, size_t depth) {
        PlacementFit *fits = s->fits + depth * s->n_regions;
        const SliceRequest *slice;
        size_t n;
        int r;

        if (depth == s->n)
                return true;
        slice = s->slices + s->order[depth];
        n = search_fits(s, slice, fits);
        for (size_t i = 0; i < n && s->steps < STEPS_MAX; i++) {
                const Placed *p = &fits[i].placed;
                ExtentMap *m = s->regions[p->region].map;

                s->steps++;
                /* Memory is reserved, and the fit was found in this very map: neither can fail. */
                r = extent_map_lease(m, p->offset, p->size, s->owner, slice->include_retired);
                assert(r >= 0);
                if (search_place(s, depth + 1)) {
                        s->placed[s->order[depth]] = *p;
                        return true;
                }
                r = extent_map_cancel(m, p->offset, p->size, s->owner);
                assert(r >= 0);
        }
        return false;
}

/* Is a, which can go to choices_a regions, harder to place than b? */
static bool slice_before(const SliceRequest *a, size_t choices_a, const SliceRequest *b,
                         size_t choices_b) {
        if (choices_a != choices_b)
                return choices_a < choices_b;
        if (a->whole != b->whole)
                return a->whole;
        if (a->size != b->size)
                return a->size > b->size;
        return a->align > b->align;
}

/* Those first that are hardest to place. */
static void search_sort(Search *s) {
        size_t choices[EGM_SLICES_MAX];

        for (size_t i = 0; i < s->n; i++) {
                size_t at;

                choices[i] = 0;
                for (size_t j = 0; j < s->n_regions; j++)
                        choices[i] += s->regions[j].ready &&
                                      placement_matches(s->slices + i, s->regions + j);
                for (at = i; at > 0; at--) {
                        size_t k = s->order[at - 1];

                        if (!slice_before(s->slices + i, choices[i], s->slices + k, choices[k]))
                                break;
                        s->order[at] = k;
                }
                s->order[at] = i;
        }
}

static int search_reserve(const Search *s) {
        for (size_t j = 0; j < s->n_regions; j++) {
                size_t n = 0;
                int r;

                for (size_t i = 0; i < s->n && s->regions[j].ready; i++)
                        n += placement_matches(s->slices + i, s->regions + j);
                if (n == 0 || !s->regions[j].map)
                        continue;
                r = extent_map_reserve(s->regions[j].map, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

int placement_take(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                   size_t n_regions, uint64_t owner, Placed *ret_slices, EgmError *reterr) {
        _cleanup_free_ PlacementFit *fits = NULL;
        Search s = {
                        .slices = slices,
                        .n = n,
                        .regions = regions,
                        .n_regions = n_regions,
                        .owner = owner,
        };
        int r;

        assert(slices || n == 0);
        assert(regions || n_regions == 0);
        assert(owner != 0);
        assert(ret_slices);

        r = placement_check(slices, n, regions, n_regions, reterr);
        if (r < 0)
                return r;
        s.fits = fits = calloc(n * n_regions, sizeof(*fits));
        if (!fits)
                return -ENOMEM;
        r = search_reserve(&s);
        if (r < 0)
                return r;
        search_sort(&s);
        if (!search_place(&s, 0))
                return placement_refuse(slices, n, regions, n_regions, reterr);
        memcpy(ret_slices, s.placed, n * sizeof(*ret_slices));
        return 0;
}

bool placement_is_candidate(const SliceRequest *slice, const PlacementRegion *region) {
        const ExtentMap *m;
        uint64_t size, align, start = 0;
        Extent e;

        assert(slice);
        assert(region);

        m = region->map;
        if (!placement_matches(slice, region))
                return false;
        if (!m)
                return true;
        size = slice->whole ? extent_map_size(m) : slice->size;
        if (size > extent_map_size(m) || extent_map_bytes(m, EXTENT_RETIRED) == extent_map_size(m))
                return false;
        if (slice->include_retired)
                return true;
        align = slice->whole || region->whole_only ? extent_map_granule(m) : slice_align(slice, m);
        for (;;) {
                bool retired = extent_map_next(m, start, EXTENT_RETIRED, &e);
                uint64_t end = retired ? e.offset : extent_map_size(m);

                if (end >= start && end - start >= size)
                        return true;
                if (!retired || region->whole_only ||
                    !align_up_checked(e.offset + e.size, align, &start))
                        return false;
        }
}
