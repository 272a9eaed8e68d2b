/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "world.h"

/* What a client does, until it is told that it is done: the daemon may die over any of it, and refuse what goes wrong. */

/* Zero all over, and then the lease's own pattern; known from then on. */
void client_acquire(World *w, Known *k);
void client_unmap(Known *k);
/* Ends it the way a process does that exits. */
void client_drop(World *w, Known *k);
void client_call_until_done(World *w, const char *path, const char *method, const char *type,
                            int value);
void client_release(World *w, Known *k);
void client_set_schedulable(World *w, bool b);
void client_reopen(World *w, Known *k);
void client_expect_not_schedulable(World *w);
