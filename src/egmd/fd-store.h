/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* The service manager's descriptor store: what it keeps for us while we are away.
 *
 * Only the regions' descriptors go there. The manager hands their names over in one environment string, which the kernel
 * limits to 128 KiB, and compares every new one with all it has: one for each lease would end in a unit that cannot be started. */

typedef struct FdStore FdStore;

/* What was given to us at the start; close-on-exec. Never NULL on success. */
int fd_store_collect(FdStore **ret);
bool fd_store_is_empty(const FdStore *s); /* nothing was given */
/* Closes what nobody took, and has the manager forget it and what was rejected. Whoever took a descriptor still has it. */
void fd_store_finish(FdStore *s);
/* Closes, and leaves the manager as it is. */
FdStore *fd_store_free(FdStore *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(FdStore *, fd_store_free)

/* The next one of that name, the caller's; -ENOENT: there is none left. */
int fd_store_take(FdStore *s, const char *name, int *ret_fd);
/* The one that was taken is of no use; the caller closes it, or has. */
void fd_store_reject(FdStore *s, int fd);

/* Who keeps it: the process that started us, where it is a service manager; 0: nobody. */
pid_t fd_store_manager(void);

/* Without a service manager these do nothing. The same open file twice is kept once. */
int fd_store_put(const char *name, int fd);
int fd_store_remove(const char *name);
/* Waits, for a second at most, until the service manager has done what it was told so far: what was removed is closed then.
 * 0: nobody stores anything for us; -ETIMEDOUT. */
int fd_store_settle(void);
