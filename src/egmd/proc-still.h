/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* Which processes have not run since they were looked at. Who does not run opens, receives and maps nothing: a process
 * that had nothing then has nothing now. Most processes of a host sleep from one look to the next, and need not be
 * looked at again. That one has not run is what the scheduler says of each of its threads: how often it got a CPU.
 *
 * A program may be executed by another thread than the first, which then gets the first one's number and place, and its own count,
 * which it may have brought to what that was. So the process's count of reads must be the same, too: the kernel reads a program's
 * file before it runs it, and what threads have read that are gone is never taken off.
 *
 * Somebody else could act for a sleeping process if he shared its memory or its descriptors without being a
 * thread of it. Processes are compared for that, and those that share count as running, always; and so does one of whose
 * threads some have descriptors of their own. Where the kernel does not tell all this, all do.
 *
 * The counts of those that sleep stay open, as many as may be: to read one again is a fifth of opening it. A descriptor of a
 * thread's file is of that thread for good: once the thread is gone nothing can be read from it, whoever has its number then. */

typedef struct ProcStill ProcStill;

/* A process before a look at it: how often its threads have run. */
typedef struct StillThread {
        pid_t tid; /* 0: all of the process, and its reads */
        int fd;    /* its count, or -EBADF where that is looked up by name */
        uint64_t count;
} StillThread;

typedef struct StillMark {
        StillThread *threads;
        size_t n;
} StillMark;

void still_mark_done(StillMark *m);
#define _cleanup_still_mark_ _cleanup_(still_mark_done)

int proc_still_new(ProcStill **ret);
ProcStill *proc_still_free(ProcStill *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(ProcStill *, proc_still_free)

/* What was found to be nothing was of one set of things looked for, under one root; another one begins anew. root is
 * /proc, and borrowed until the next call; key is whatever tells sets apart. */
int proc_still_begin(ProcStill *s, int root, const void *key, size_t key_size);
/* Forgets those that were not met since the last call. */
void proc_still_sweep(ProcStill *s);

/* Meets a process; ino is that of its directory, as the kernel lists it. True: it had nothing, and still has. */
bool proc_still_meet(ProcStill *s, pid_t pid, ino_t ino);
/* Before a look: 1 and a mark if none of its threads is running, 0 if there is no use in remembering it. */
int proc_still_mark(ProcStill *s, pid_t pid, uint64_t n_threads, StillMark *ret);
/* After a look at any process, so that it can be compared with others. nothing: it has none of the things looked for;
 * only then, and with a mark, it can count as still. The mark's descriptors are taken over then. -ENOMEM. */
int proc_still_remember(ProcStill *s, pid_t pid, ino_t ino, StillMark *m, bool nothing);
/* A thread of the kernel, and one that stays one. */
int proc_still_remember_kernel(ProcStill *s, pid_t pid, ino_t ino);

size_t proc_still_count(const ProcStill *s);      /* how many count as still; for tests */
size_t proc_still_count_open(const ProcStill *s); /* and how many counts are open */
