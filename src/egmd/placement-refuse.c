/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "fd-util.h"
#include "placement-internal.h"
#include "size.h"

/* Arrangements looked at to tell why the slices do not fit together. */
#define STEPS_MAX 1000U

#define CLEAN_MAX 65

/* What clients say may hold anything, and a message must stay short and UTF-8. */
static char *clean(char buf[static CLEAN_MAX], const char *s) {
        size_t i;

        for (i = 0; s[i] && i < CLEAN_MAX - 1; i++)
                buf[i] = s[i];
        for (buf[i] = 0; i-- > 0;)
                if (buf[i] < ' ' || buf[i] > '~')
                        buf[i] = '?';
        return buf;
}
#define CLEAN(s) clean((char[CLEAN_MAX]){}, (s))

/* Rounded so that what is too much never reads the same as what there is. */
static char *format_rounded(char buf[static FORMAT_SIZE_MAX], uint64_t bytes, bool up) {
        unsigned shift = bytes > 0 ? (63 - (unsigned) __builtin_clzll(bytes)) / 10 * 10 : 0;
        uint64_t whole, tenths, fraction;

        if (shift == 0 || (bytes & ((UINT64_C(1) << shift) - 1)) == 0)
                return format_size(buf, bytes);
        whole = bytes >> shift;
        fraction = bytes - (whole << shift);
        tenths = (uint64_t) (((unsigned __int128) fraction * 10 +
                              (up ? (UINT64_C(1) << shift) - 1 : 0)) >>
                             shift);
        if (tenths == 10) {
                whole++;
                tenths = 0;
        }
        if (tenths == 0)
                (void) snprintf(buf, FORMAT_SIZE_MAX, "%" PRIu64 "%c", whole,
                                "BKMGTPE"[shift / 10]);
        else
                (void) snprintf(buf, FORMAT_SIZE_MAX, "%" PRIu64 ".%u%c", whole, (unsigned) tenths,
                                "BKMGTPE"[shift / 10]);
        return buf;
}

#define WANTED(bytes) format_rounded((char[FORMAT_SIZE_MAX]){}, (bytes), true)
#define AVAILABLE(bytes) format_rounded((char[FORMAT_SIZE_MAX]){}, (bytes), false)

void placement_describe_selectors(FILE *f, const SliceRequest *slice) {
        if (slice->region)
                (void) fprintf(f, " named %s", CLEAN(slice->region));
        if (slice->gpu)
                (void) fprintf(f, " near GPU %s", CLEAN(slice->gpu));
        if (slice->node != EGM_NODE_ANY)
                (void) fprintf(f, " on node %d", slice->node);
        if (slice->socket != EGM_SOCKET_ANY)
                (void) fprintf(f, " on socket %d", slice->socket);
}

void placement_describe_place(FILE *f, const PlacementRegion *region) {
        const char *separator = " (";

        (void) fputs(region->name, f);
        if (region->node >= 0) {
                (void) fprintf(f, "%snode %d", separator, region->node);
                separator = ", ";
        }
        if (region->socket >= 0) {
                (void) fprintf(f, "%ssocket %d", separator, region->socket);
                separator = ", ";
        }
        for (const char *const *gpu = region->gpus; gpu && *gpu; gpu++) {
                (void) fprintf(f, "%sGPU %s", separator, *gpu);
                separator = ", ";
        }
        if (*separator == ',')
                (void) fputc(')', f);
}

static void describe_bytes(FILE *f, uint64_t bytes, const char *what) {
        if (bytes > 0)
                (void) fprintf(f, ", %s %s", AVAILABLE(bytes), what);
}

/* What a region has and what keeps the rest. */
static void describe_use(FILE *f, const PlacementRegion *region, const SliceRequest *slice) {
        const ExtentMap *m = region->map;
        uint64_t run;

        (void) fputs(region->name, f);
        if (region->node >= 0)
                (void) fprintf(f, " (node %d)", region->node);
        if (!region->ready || !m) {
                (void) fprintf(f, " is not ready: %s",
                               region->ready ? "its size is not known"
                               : region->why ? region->why
                                             : "no reason known");
                return;
        }
        (void) fprintf(f, " %s of %s free", AVAILABLE(extent_map_bytes(m, EXTENT_FREE)),
                       AVAILABLE(extent_map_size(m)));
        run = region->whole_only || slice->whole ? placement_run_at_start(m, slice->include_retired)
                                                 : extent_map_largest_free(m);
        if (run > 0 && run < extent_map_size(m))
                (void) fprintf(f, ", %s run %s",
                               region->whole_only || slice->whole ? "first" : "largest",
                               AVAILABLE(run));
        describe_bytes(f, extent_map_bytes(m, EXTENT_LEASED), "leased");
        describe_bytes(f, extent_map_bytes(m, EXTENT_DRAINING), "released but still mapped");
        if (region->users && extent_map_owned(m) > 0)
                (void) fprintf(f, ", held by %s", region->users);
        describe_bytes(f, extent_map_bytes(m, EXTENT_SCRUBBING), "being scrubbed");
        describe_bytes(f, extent_map_bytes(m, EXTENT_DIRTY), "waiting to be scrubbed");
        describe_bytes(f, extent_map_bytes(m, EXTENT_RETIRED),
                       slice->whole && !slice->include_retired
                                       ? "retired (lent only if the request includes them)"
                                       : "retired");
        if (region->whole_only)
                (void) fputs(", lent to one lease at a time, from its start", f);
        if (region->reserved > 0)
                (void) fprintf(f, ", %u request%s ahead", region->reserved,
                               region->reserved == 1 ? " waits" : "s wait");
}

/* All regions that one of the slices could go to. */
static void describe_regions(FILE *f, const SliceRequest *slices, size_t n,
                             const PlacementRegion *regions, size_t n_regions) {
        const char *separator = ": ";

        for (size_t j = 0; j < n_regions; j++)
                for (size_t i = 0; i < n; i++)
                        if (placement_matches(slices + i, regions + j)) {
                                (void) fputs(separator, f);
                                describe_use(f, regions + j, slices + i);
                                separator = "; ";
                                break;
                        }
}

/* What keeps the slice out when it is alone; NONE: nothing does. */
static EgmErrorKind slice_refusal(const SliceRequest *slice, const PlacementRegion *regions,
                                  size_t n_regions) {
        bool ready = false, shared = false, enough = false;

        for (size_t j = 0; j < n_regions; j++) {
                PlacementFit fit = {};
                int r;

                if (!placement_matches(slice, regions + j))
                        continue;
                r = placement_fit(slice, regions + j, &fit);
                if (r >= 0)
                        return EGM_ERROR_NONE;
                ready |= r != -ENOLINK;
                shared |= r != -ENOLINK && r != -ENOTUNIQ;
                enough |= r == -EXFULL;
        }
        return !ready    ? EGM_ERROR_REGION_NOT_READY
               : !shared ? EGM_ERROR_NOT_PARTITIONABLE
               : enough  ? EGM_ERROR_FRAGMENTED
                         : EGM_ERROR_NO_CAPACITY;
}

static void describe_no_capacity(FILE *f, const SliceRequest *slice, const PlacementRegion *regions,
                                 size_t n_regions) {
        uint64_t largest = 0;
        bool waiting = true;

        for (size_t j = 0; j < n_regions; j++) {
                if (!regions[j].ready || !regions[j].map || !placement_matches(slice, regions + j))
                        continue;
                largest = MAX(largest, extent_map_size(regions[j].map));
                waiting = waiting && regions[j].reserved > 0;
        }
        if (slice->size > largest) {
                (void) fprintf(f, "%s is more than any region", WANTED(slice->size));
                placement_describe_selectors(f, slice);
                (void) fputs(" has", f);
        } else if (waiting) {
                (void) fputs("other requests wait ahead for each region", f);
                placement_describe_selectors(f, slice);
        } else {
                (void) fputs("no region", f);
                placement_describe_selectors(f, slice);
                if (slice->whole)
                        (void) fputs(" is free as a whole", f);
                else
                        (void) fprintf(f, " has %s free", WANTED(slice->size));
        }
}

static void describe_slice_refusal(FILE *f, EgmErrorKind kind, const SliceRequest *slice,
                                   const PlacementRegion *regions, size_t n_regions) {
        switch (kind) {
        case EGM_ERROR_REGION_NOT_READY:
                (void) fputs("no region", f);
                placement_describe_selectors(f, slice);
                (void) fputs(" is ready", f);
                break;
        case EGM_ERROR_NOT_PARTITIONABLE:
                (void) fputs("each region", f);
                placement_describe_selectors(f, slice);
                (void) fputs(" serves one lease at a time and is in use", f);
                break;
        case EGM_ERROR_FRAGMENTED:
                (void) fputs("no region", f);
                placement_describe_selectors(f, slice);
                (void) fprintf(f, " has %s free in one run", WANTED(slice->size));
                if (slice->align > 0)
                        (void) fprintf(f, " aligned to %s", AVAILABLE(slice->align));
                break;
        default:
                describe_no_capacity(f, slice, regions, n_regions);
        }
}

/* The slices as mere amounts, or (without bytes) as mere users of regions that serve one at a
 * time. */
typedef struct Arrangement {
        const SliceRequest *slices;
        size_t n;
        const PlacementRegion *regions;
        size_t n_regions;
        bool bytes;
        uint64_t *left; /* of each region */
        bool *used;
        unsigned steps;
} Arrangement;

static bool arrange(Arrangement *a, size_t i) {
        const SliceRequest *slice = a->slices + i;

        /* Not knowing is no proof that it cannot be. */
        if (i == a->n || a->steps >= STEPS_MAX)
                return true;
        for (size_t j = 0; j < a->n_regions; j++) {
                const PlacementRegion *region = a->regions + j;
                uint64_t size;

                if (!region->ready || !region->map || !placement_matches(slice, region))
                        continue;
                if (region->whole_only && (a->used[j] || extent_map_owned(region->map) > 0))
                        continue;
                size = !a->bytes ? 0 : slice->whole ? extent_map_size(region->map) : slice->size;
                if (a->bytes && (region->reserved > 0 || a->left[j] < size))
                        continue;
                a->steps++;
                a->left[j] -= size;
                a->used[j] = true;
                if (arrange(a, i + 1))
                        return true;
                a->left[j] += size;
                a->used[j] = false;
        }
        return false;
}

/* Each fits alone, but not all of them. */
static int joint_refusal(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                         size_t n_regions, EgmErrorKind *ret) {
        _cleanup_free_ uint64_t *left = NULL;
        _cleanup_free_ bool *used = NULL;
        bool include_retired = false;
        Arrangement a = {
                        .slices = slices,
                        .n = n,
                        .regions = regions,
                        .n_regions = n_regions,
        };

        a.left = left = calloc(n_regions, sizeof(*left));
        a.used = used = calloc(n_regions, sizeof(*used));
        if (!left || !used)
                return -ENOMEM;
        if (!arrange(&a, 0)) {
                *ret = EGM_ERROR_NOT_PARTITIONABLE;
                return 0;
        }
        for (size_t i = 0; i < n; i++)
                include_retired |= slices[i].include_retired;
        for (size_t j = 0; j < n_regions; j++)
                if (regions[j].map)
                        left[j] = placement_lendable(regions[j].map, include_retired);
        memset(used, 0, n_regions * sizeof(*used));
        a.bytes = true;
        a.steps = 0;
        *ret = arrange(&a, 0) ? EGM_ERROR_FRAGMENTED : EGM_ERROR_NO_CAPACITY;
        return 0;
}

static const char *joint_text(EgmErrorKind kind) {
        switch (kind) {
        case EGM_ERROR_NOT_PARTITIONABLE:
                return "need more regions than there are, since some serve one lease at a time";
        case EGM_ERROR_FRAGMENTED:
                return "do not fit together into the free runs";
        default:
                return "together are more than is free";
        }
}

int placement_refuse(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                     size_t n_regions, EgmError *reterr) {
        static const EgmErrorKind order[] = {
                        EGM_ERROR_REGION_NOT_READY,
                        EGM_ERROR_NOT_PARTITIONABLE,
                        EGM_ERROR_NO_CAPACITY,
                        EGM_ERROR_FRAGMENTED,
        };
        EgmErrorKind kinds[EGM_SLICES_MAX], kind = EGM_ERROR_NONE;
        _cleanup_free_ char *text = NULL;
        size_t text_size, at = 0;
        FILE *f;
        int r;

        assert(n <= EGM_SLICES_MAX);

        for (size_t i = 0; i < n; i++)
                kinds[i] = slice_refusal(slices + i, regions, n_regions);
        for (size_t k = 0; k < ELEMENTSOF(order) && kind == EGM_ERROR_NONE; k++)
                for (size_t i = 0; i < n && kind == EGM_ERROR_NONE; i++)
                        if (kinds[i] == order[k]) {
                                kind = kinds[i];
                                at = i;
                        }
        f = open_memstream(&text, &text_size);
        if (!f)
                return -ENOMEM;
        if (kind != EGM_ERROR_NONE) {
                (void) fprintf(f, "Slice %zu: ", at);
                describe_slice_refusal(f, kind, slices + at, regions, n_regions);
                describe_regions(f, slices + at, 1, regions, n_regions);
        } else {
                r = joint_refusal(slices, n, regions, n_regions, &kind);
                if (r < 0) {
                        (void) fclose(f);
                        return r;
                }
                (void) fprintf(f, "The %zu slices %s", n, joint_text(kind));
                describe_regions(f, slices, n, regions, n_regions);
        }
        if (memstream_close(f, &text) < 0)
                return -ENOMEM;
        return egm_error_set(reterr, kind, "%s", text);
}
