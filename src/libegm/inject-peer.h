/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "macro.h"

/* The thread whose call waits for an answer: its memory, its descriptors, its registers. All of it may be gone, or another
 * thread's of the same number, when it is read: ask whether the notification is still valid before using it. */

typedef struct Peer {
        pid_t tid;  /* 0: in a PID namespace that is not ours to see */
        int mem_fd; /* from the first use of its memory on */
} Peer;

void peer_done(Peer *p);

/* The three that follow need it. */
int peer_open_memory(Peer *p);
/* -EFAULT: not all of it is there. */
int peer_read(const Peer *p, uint64_t address, void *buffer, size_t size);
int peer_write(const Peer *p, uint64_t address, const void *data, size_t size);
/* -ENAMETOOLONG: no end within size bytes. */
int peer_read_string(const Peer *p, uint64_t address, char *buffer, size_t size);

/* path as its open would take it, made absolute: relative ones are put behind what dir_fd (AT_FDCWD) is. */
int peer_resolve(const Peer *p, int dir_fd, const char *path, char **ret);

/* Is its descriptor that file? -EBADF: it has none of that number. */
int peer_fd_is(const Peer *p, int fd, const struct stat *file);

/* Makes its mmap(), which waits for an answer to this call, start over with these in the registers, so that it is seen once
 * more. Nobody can make a mapping in another process; but who may trace it can set its registers. The program's C library
 * has no use for them any more. 1: nothing was changed, but the call is answered: it is seen again, or its thread is gone.
 * Errors: it still waits for an answer. */
int peer_restart_mmap(const Peer *p, int listener, const struct seccomp_notif *call, uint64_t fd,
                      uint64_t offset);
