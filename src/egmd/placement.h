/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"
#include "extent-map.h"

/* Request + regions -> slices. Pure: it changes nothing but the extent maps it is given. */

#define EGM_NODE_ANY (-1)
#define EGM_SOCKET_ANY (-1)
#define EGM_ALIGN_DEFAULT (2 * MIB)
#define EGM_ALIGN_MAX (1 * GIB)
#define EGM_SLICES_MAX 64U /* slices in one request */

typedef struct SliceRequest {
        uint64_t size;      /* bytes; 0 with whole */
        bool whole;         /* the whole region, whatever its size */
        const char *region; /* NULL: any */
        const char *gpu;    /* PCI address as in sysfs; NULL: any */
        int node;           /* EGM_NODE_ANY: any */
        int socket;         /* EGM_SOCKET_ANY: any */
        uint64_t align;     /* 0: default (EGM_ALIGN_DEFAULT or the granule, whichever is larger) */
        bool include_retired;
} SliceRequest;

/* What placement must know of a region; all pointers borrowed. */
typedef struct PlacementRegion {
        const char *name;
        const char *const *gpus; /* NULL-terminated, or NULL */
        int node;
        int socket;
        ExtentMap *map; /* NULL while its size is not known */
        bool ready;     /* open, and lending is switched on */
        const char *why; /* when not ready: the reason in words, e.g. "held elsewhere by pid 7 (qemu)" */
        bool whole_only; /* one lease at a time, from offset 0 (I1 on drivers that ignore offsets) */
        bool reserved;   /* an earlier waiting request could use it: nobody may overtake */
} PlacementRegion;

typedef struct Placed {
        size_t region; /* index into the regions given */
        uint64_t offset;
        uint64_t size;
} Placed;

/* Checks a request by itself: n slices (1..EGM_SLICES_MAX), size > 0 xor whole, size a multiple of the granule…
 * The granule is the largest of the regions a slice could go to; unaligned is BadAlignment naming it. */
int placement_check(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                    size_t n_regions, EgmError *reterr);

/* Takes room for all slices (extent_map_lease() to owner) or for none. ret_slices has n places, in the
 * order of the request. Refusals, first that applies: InvalidArgs, NoSuchRegion (region, GPU, node or socket that
 * does not exist), BadAlignment, RegionNotReady (all that could serve it are not ready; says why),
 * NotPartitionable (whole-only regions with a lease out), NoCapacity (how much is free, where, how much is being
 * scrubbed or drained; that others wait ahead), Fragmented (largest free run). */
int placement_take(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                   size_t n_regions, uint64_t owner, Placed *ret_slices, EgmError *reterr);

/* Could slices[i] ever go to regions[j] (selectors match, region large enough when all were free)? */
bool placement_is_candidate(const SliceRequest *slice, const PlacementRegion *region);
