/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lease.h"

/* Waits until nobody can touch a released range: looks at /proc in a worker, and again when those who held a
 * range up have gone. One scan serves all ranges that were draining when it began. */

typedef struct Manager Manager;
typedef struct Drain Drain;

int drain_new(Manager *m, Drain **ret);
Drain *drain_free(Drain *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Drain *, drain_free)

/* The slice has just become draining. */
void drain_add(Drain *d, Slice *s);
/* Looks soon though nothing drains, for who has a region open without a lease of it (Region.lingered); serves those who wait
 * for memory then. */
void drain_look(Drain *d);
/* Should something drain, and nothing be on its way to look at it. */
void drain_resume(Drain *d);
/* It no longer is (its region went away). */
void drain_remove(Drain *d, Slice *s);
