/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "region.h"

/* Getting hold of a region's one open file: minutes in the kernel, so in a worker; tried again while somebody
 * else has it. */

/* provider NULL: the real driver's, made from the region's facts. Consumed. */
int region_open_start(Region *r, Provider *provider);
/* A worker that sits in the kernel is left alone; what it brings is closed. */
void region_open_cancel(Region *r);
void region_set_state(Region *r, RegionState state, const char *reason);
