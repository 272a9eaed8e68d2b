/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "region.h"

/* Keeps a region's dirty bytes on their way to free. */

/* Starts what can be started; call whenever bytes became dirty or somebody began to wait. */
void region_scrub_kick(Region *r);
/* Cancels everything; the jobs end by themselves later. */
void region_scrub_stop(Region *r);
/* Is any of it part of a scrub, be it a page that was retired meanwhile and may be written to all the same? */
bool region_scrub_touches(const Region *r, uint64_t offset, uint64_t size);
/* Retired pages are passed over by the scrubber, and only requests that include them get them: zeroes those in the
 * range, at once. What cannot be written cannot be read either. */
int region_scrub_retired(Region *r, uint64_t offset, uint64_t size);
/* For exit: the scrubber is gone, and its jobs with it. */
void region_scrub_forget(Region *r);
/* Bytes of running jobs that are zero already. */
uint64_t region_scrub_progress(const Region *r);
