/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "fd-util.h"
#include "placement-internal.h"
#include "size.h"

static bool any_matches(const SliceRequest *slice, const PlacementRegion *regions,
                        size_t n_regions) {
        for (size_t i = 0; i < n_regions; i++)
                if (placement_matches(slice, regions + i))
                        return true;
        return false;
}

/* It could go there, but for the dma-bufs. */
static int refuse_no_dmabuf(const SliceRequest *slice, size_t i, const PlacementRegion *regions,
                            size_t n_regions, EgmError *reterr) {
        _cleanup_free_ char *text = NULL;
        SliceRequest plain = *slice;
        const char *comma = "";
        size_t text_size;
        FILE *f;

        plain.dmabuf = false;
        if (!slice->dmabuf || !any_matches(&plain, regions, n_regions))
                return 0;
        f = open_memstream(&text, &text_size);
        if (!f)
                return -ENOMEM;
        (void) fprintf(f, "Slice %zu: Dmabuf: no dma-bufs are exported by the driver of ", i);
        for (size_t j = 0; j < n_regions; j++)
                if (placement_matches(&plain, regions + j)) {
                        (void) fprintf(f, "%s%s (%s)", comma, regions[j].name,
                                       regions[j].no_dmabuf);
                        comma = ", ";
                }
        if (memstream_close(f, &text) < 0)
                return -ENOMEM;
        return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED, "%s", text);
}

static int refuse_no_such_region(const SliceRequest *slices, size_t i,
                                 const PlacementRegion *regions, size_t n_regions,
                                 EgmError *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t text_size;
        FILE *f;

        f = open_memstream(&text, &text_size);
        if (!f)
                return -ENOMEM;
        (void) fprintf(f, "Slice %zu: there is no EGM region", i);
        placement_describe_selectors(f, slices + i);
        (void) fputs(n_regions == 0 ? "; this host has none" : "; there is ", f);
        for (size_t j = 0; j < n_regions; j++) {
                if (j > 0)
                        (void) fputs(", ", f);
                placement_describe_place(f, regions + j);
        }
        if (memstream_close(f, &text) < 0)
                return -ENOMEM;
        return egm_error_set(reterr, EGM_ERROR_NO_SUCH_REGION, "%s", text);
}

static int check_arguments(const SliceRequest *slices, size_t n, EgmError *reterr) {
        if (n == 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "A request needs at least one slice");
        if (n > EGM_SLICES_MAX)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "A request of %zu slices; the limit is %u", n, EGM_SLICES_MAX);
        for (size_t i = 0; i < n; i++) {
                const SliceRequest *slice = slices + i;

                if (slice->whole && slice->size != 0)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Slice %zu: a size (%" PRIu64
                                             ") and the whole region exclude each other",
                                             i, slice->size);
                if (!slice->whole && slice->size == 0)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Slice %zu: size 0; it must be more", i);
                if (slice->node < EGM_NODE_ANY)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Slice %zu: node %d; it must be 0 or more", i,
                                             slice->node);
                if (slice->socket < EGM_SOCKET_ANY)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Slice %zu: socket %d; it must be 0 or more", i,
                                             slice->socket);
        }
        return 0;
}

static int check_alignment(const SliceRequest *slice, size_t i, const PlacementRegion *regions,
                           size_t n_regions, EgmError *reterr) {
        uint64_t granule = 0, max;

        for (size_t j = 0; j < n_regions; j++)
                if (regions[j].map && placement_matches(slice, regions + j))
                        granule = MAX(granule, extent_map_granule(regions[j].map));
        if (granule == 0)
                granule = EGM_GRANULE_MIN;
        max = MAX(granule, EGM_ALIGN_MAX);
        if ((slice->size & (granule - 1)) != 0)
                return egm_error_set(reterr, EGM_ERROR_BAD_ALIGNMENT,
                                     "Slice %zu: size %" PRIu64
                                     " is not a multiple of the granule, %" PRIu64 " (%s)",
                                     i, slice->size, granule, FORMAT_SIZE(granule));
        if (slice->align != 0 &&
            (!is_pow2(slice->align) || slice->align < granule || slice->align > max))
                return egm_error_set(reterr, EGM_ERROR_BAD_ALIGNMENT,
                                     "Slice %zu: alignment %" PRIu64
                                     "; it must be a power of two from the granule, %" PRIu64
                                     " (%s), to %" PRIu64 " (%s)",
                                     i, slice->align, granule, FORMAT_SIZE(granule), max,
                                     FORMAT_SIZE(max));
        return 0;
}

int placement_check(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                    size_t n_regions, EgmError *reterr) {
        int r;

        assert(slices || n == 0);
        assert(regions || n_regions == 0);

        r = check_arguments(slices, n, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                if (!any_matches(slices + i, regions, n_regions)) {
                        r = refuse_no_dmabuf(slices + i, i, regions, n_regions, reterr);
                        if (r < 0)
                                return r;
                        return refuse_no_such_region(slices, i, regions, n_regions, reterr);
                }
        for (size_t i = 0; i < n; i++) {
                r = check_alignment(slices + i, i, regions, n_regions, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}
