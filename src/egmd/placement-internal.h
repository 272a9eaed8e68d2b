/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "placement.h"

/* Between placement.c, which finds room, and placement-refuse.c, which finds words. */

typedef struct PlacementFit {
        Placed placed;
        bool whole_only;
        bool retired;  /* it holds retired pages */
        uint64_t rest; /* what is left of the run */
} PlacementFit;

/* The selectors only. */
bool placement_matches(const SliceRequest *slice, const PlacementRegion *region);
bool placement_gpu_equal(const char *wanted, const char *address);
/* Free, and with include_retired the retired bytes that could be lent with them. */
uint64_t placement_lendable(const ExtentMap *m, bool include_retired);
/* Length of the run that starts at 0 and is lendable. */
uint64_t placement_run_at_start(const ExtentMap *m, bool include_retired);

/* Where the slice would go in this region: -ENOLINK not ready, -ENOTUNIQ whole-only and in use,
 * -EAGAIN others wait ahead, -ENOSPC not so many bytes, -EXFULL not in one run. */
int placement_fit(const SliceRequest *slice, const PlacementRegion *region, PlacementFit *ret);

/* Finds out why the slices could not be placed; the maps are as they were before. */
int placement_refuse(const SliceRequest *slices, size_t n, const PlacementRegion *regions,
                     size_t n_regions, EgmError *reterr);

/* " named egm4 near GPU 0009:01:00.0 on node 1 on socket 0" */
void placement_describe_selectors(FILE *f, const SliceRequest *slice);
/* "egm4 (node 0, socket 0, GPU 0008:01:00.0)" */
void placement_describe_place(FILE *f, const PlacementRegion *region);
