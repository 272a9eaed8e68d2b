/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* A pidfd of the process that started at that time (field 22 of /proc/PID/stat), and of no other that has its pid now.
 * -ESRCH: it is gone; -EACCES: nothing can be said about the process with that pid. */
int process_open(pid_t pid, uint64_t start_time, int *ret_pidfd);
