/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* The numbers in a directory: processes in /proc, threads in task, descriptors in fd. */

typedef struct ProcDir {
        int fd;
        size_t at, n;
        ino_t ino; /* of the entry last returned */
        /* Small, so that little time passes between the kernel naming a process and us looking at it, and
         * those born meanwhile with higher numbers are still met. */
        _Alignas(uint64_t) char buffer[1024];
} ProcDir;

int proc_dir_open(ProcDir *d, int dir_fd, const char *path);
void proc_dir_done(ProcDir *d);
#define _cleanup_proc_dir_ _cleanup_(proc_dir_done)

/* 1 and the next number, 0 at the end, or an error. */
int proc_dir_next(ProcDir *d, unsigned *ret);
