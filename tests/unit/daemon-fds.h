/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "macro.h"

/* What the daemon has open that is not to grow. */

/* How many processes' and threads' counts it keeps open is up to who else sleeps on this machine; test-proc-still-open.c sees to
 * these. */
static inline bool daemon_fd_counts(const char *target) {
        static const char proc[] = "/proc/";
        const char *file = strrchr(target, '/');

        if (strncmp(target, proc, strlen(proc)) != 0)
                return true;
        /* " (deleted)" is behind the name once the process is gone. */
        return strncmp(file, "/schedstat", strlen("/schedstat")) != 0 &&
               strncmp(file, "/io", strlen("/io")) != 0;
}

static inline size_t daemon_fds_count(pid_t pid) {
        char path[64], target[128];
        const struct dirent *e;
        size_t n = 0;
        DIR *d;

        (void) snprintf(path, sizeof(path), "/proc/%i/fd", (int) pid);
        d = opendir(path);
        if (!d)
                return 0;
        while ((e = readdir(d))) {
                ssize_t k = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);

                if (k < 0)
                        continue;
                target[k] = '\0';
                n += daemon_fd_counts(target);
        }
        (void) closedir(d);
        return n;
}
