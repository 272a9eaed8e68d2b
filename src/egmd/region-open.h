/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "region.h"

/* Getting hold of a region's one open file: minutes in the kernel, so in a worker; tried again while somebody
 * else has it. */

/* provider NULL: the real driver's, made from the region's facts. Consumed. */
int region_open_start(Region *r, Provider *provider);
/* What a worker that sits in the kernel brings is closed, and then region_settle() called: until it has ended nobody may
 * open the device again. */
void region_open_cancel(Region *r);
/* For exit: the worker is left to itself. */
void region_open_abandon(Region *r);
/* What there is, or a new one of the real driver's. */
int region_make_provider(Region *r, Provider **ret);
/* Takes the provider, whose retired pages these are, and a new map, all of it dirty. */
int region_set_map(Region *r, Provider *provider, const Ranges *retired);
/* The same when it is open: takes the provider, whose retired pages these are. All of it is dirty. */
int region_set_open(Region *r, Provider *provider, const Ranges *retired);
void region_set_state(Region *r, RegionState state, const char *reason);
/* Held elsewhere: the reason for everybody, and the one that names who. */
void region_set_held(Region *r, const char *reason, const char *held_by);
