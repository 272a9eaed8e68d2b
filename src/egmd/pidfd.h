/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* Processes by descriptor: unlike a number, it never comes to mean another process. */

/* Vets a descriptor that somebody sent: 0, or -EBADF unless it is the pidfd of a whole process (one of a
 * single thread says "gone" while the process lives on). */
int pidfd_verify(int fd);

/* -EBADF as above; -ESRCH: the process is gone and reaped; -EREMOTE: it is in a PID namespace that we
 * cannot see into. A zombie still has its number. */
int pidfd_get_pid(int fd, pid_t *ret);

/* When it started, in the clock ticks since boot of /proc/PID/stat: with its number, that names a process for this boot.
 * Errors as above. */
int pidfd_get_start_time(int fd, uint64_t *ret);

/* Its real, effective, saved and file system's user ids. Errors as above. */
#define PIDFD_UIDS 4
int pidfd_get_uids(int fd, uid_t ret[static PIDFD_UIDS]);

/* The same as pidfd_get_pid() of one that may hold a lease. -ESRCH: also for a zombie; -EBADF: also for a kernel thread, which has
 * no memory, never ends and forks programs of anybody; -EDEADLK: it is ourselves. */
int pidfd_get_holder(int fd, pid_t *ret);

/* 1 when the process is gone, or a zombie: its memory is unmapped. 0 when not. */
int pidfd_is_dead(int fd);

/* -ESRCH: no such process. Close-on-exec. */
int pidfd_new(pid_t pid, int *ret_fd);

/* A copy of one of its descriptors, of the same open file. -EBADF: it has none of that number. Close-on-exec. */
int pidfd_take_fd(int fd, int number, int *ret_fd);

/* -ESRCH: it is gone. */
int pidfd_signal(int fd, int sig);
