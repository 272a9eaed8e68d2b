/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"
#include "extent-map.h"

/* Request + regions -> slices. Pure: it changes nothing but the extent maps it is given. */

#define EGM_NODE_ANY (-1)
#define EGM_SOCKET_ANY (-1)
#define EGM_ALIGN_DEFAULT (2 * MIB)
#define EGM_ALIGN_MAX (1 * GIB)
#define EGM_GRANULE_MIN (64 * KIB) /* assumed while no region tells its own */
#define EGM_SLICES_MAX 15U /* in one request: the system bus passes 16 descriptors in a message */

/* What is asked for together must be true together. */
typedef struct SliceRequest {
        uint64_t size;      /* bytes; 0 with whole */
        bool whole;         /* the whole region, whatever its size */
        const char *region; /* NULL: any */
        /* NULL: any. PCI address as in sysfs; case does not matter, and the domain may be left out
         * where it is 0000. */
        const char *gpu;
        int node;       /* EGM_NODE_ANY: any */
        int socket;     /* EGM_SOCKET_ANY: any */
        uint64_t align; /* 0: default (EGM_ALIGN_DEFAULT or the granule, whichever is larger) */
        bool include_retired;
        bool dmabuf; /* only where dma-bufs of it can be had */
} SliceRequest;

/* What placement must know of a region; all pointers borrowed. */
typedef struct PlacementRegion {
        const char *name;
        const char *const *gpus; /* NULL-terminated, or NULL */
        int node;
        int socket;
        ExtentMap *map;  /* NULL while its size is not known */
        bool ready;      /* open, and lending is switched on */
        const char *why; /* when not ready: the reason in words: "held elsewhere by pid 7 (qemu)" */
        bool whole_only; /* one lease at a time, from offset 0 (I1 on drivers that ignore offsets) */
        unsigned reserved; /* waiting requests that could use it: nobody may overtake them */
        const char *no_dmabuf; /* its driver's name, which exports none; NULL: it does, or is not known yet */
        const char *users; /* who holds what is leased, in words, for refusals; NULL: not said */
} PlacementRegion;

typedef struct Placed {
        size_t region; /* index into the regions given */
        uint64_t offset;
        uint64_t size;
} Placed;

/* Checks a request by itself, against what exists, not against what is in use: InvalidArgs (0 or
 * too many slices; size 0; size and whole), NoSuchRegion (region, GPU, node or socket that does
 * not exist, or not in one place), BadAlignment (size not a multiple of the granule; alignment not
 * a power of two from there to EGM_ALIGN_MAX). The granule is the largest of the regions that a
 * slice could go to. NotSupported: dma-bufs are asked for, and no driver of where it could go has them. */
int placement_check(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                    size_t n_regions, EgmError *reterr);

/* Takes room for all slices (extent_map_lease() to owner) or for none. ret_slices has n places, in
 * the order of the request. Until something else changes the maps, the slices can be given back by
 * extent_map_cancel(), in any order, without -ENOMEM.
 *
 * Best fit, across regions as well; regions that can only be lent whole come last for a slice that
 * is not. What can go to the fewest regions is placed first, and moved to another region where the
 * rest would not fit otherwise; that search gives up after some hundred steps.
 *
 * Refusals: those of placement_check(), then, first that applies: RegionNotReady (all that could
 * serve a slice are not ready; says why), NotPartitionable (all that could serve it are whole-only
 * and in use), NoCapacity (how much is free, where, how much is being scrubbed or drained, that
 * others wait ahead), Fragmented (largest free run). */
int placement_take(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                   size_t n_regions, uint64_t owner, Placed *ret_slices, EgmError *reterr);

/* Could this slice ever go to this region: selectors match, and it would fit if everything but
 * retired pages were free? True while the region's size is not known. */
bool placement_is_candidate(const SliceRequest *slice, const PlacementRegion *region);
