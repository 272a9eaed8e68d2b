/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "keeper-store.h"

/* All that a start needs, made before the fork: after it, a process that has threads may only call the kernel. */

typedef struct KeeperLaunch {
        char **argv; /* not ours */
        char **env;  /* ours, but not all that is in it */
        char *listen_pid, *listen_fds, *listen_names;
        int *fds; /* not ours; become 3, 4, ... */
        size_t n_fds;
        int null_fd, log_fd;
        off_t log_start;
} KeeperLaunch;

#define KEEPER_LAUNCH_NULL ((KeeperLaunch){.null_fd = -EBADF, .log_fd = -EBADF})

int keeper_launch_prepare(KeeperLaunch *l, char **argv, char *const *env, const KeeperStore *store,
                          const char *log_path);
void keeper_launch_done(KeeperLaunch *l);
/* In the child. It exits with 127 when it cannot. */
_Noreturn void keeper_launch_exec(const KeeperLaunch *l);
