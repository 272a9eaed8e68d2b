/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/stat.h>

#include "macro.h"

/* What stands for a region's memory: a memfd. As real memory it is there before the device that gives access to it and behind it,
 * so that one that goes and comes back finds what holders of the first one still map. Used by one thread at a time. */

typedef struct SimMemory SimMemory;

int sim_memory_new(SimMemory **ret);
SimMemory *sim_memory_ref(SimMemory *m);
SimMemory *sim_memory_unref(SimMemory *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(SimMemory *, sim_memory_unref)

/* -EBADF until it was cleared once, or adopted. */
int sim_memory_fd(const SimMemory *m);
/* As a driver does for whoever opens it: zero all over. Of another size it is other memory. */
int sim_memory_clear(SimMemory *m, const char *name, uint64_t size);
/* It is what fd is of, unless it is something already. Best effort: without it a device that comes back has other memory. */
void sim_memory_adopt(SimMemory *m, int fd);
