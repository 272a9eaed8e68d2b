/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <bsd/sys/tree.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* The descriptors that keep a lease alive: the read end of its lifetime pipe, whose end of file says that
 * no copy of the other end is open anywhere, and the pidfds of processes bound to it. */

typedef struct Lifeline Lifeline;

#define LIFELINE_BOUND_MAX 8U /* with all leases out that stays below the unit's LimitNOFILE */

typedef struct LifelineOps {
        /* No copy of the lifetime descriptor is open any more; once. */
        void (*closed)(Lifeline *l, void *userdata);
        /* A bound process is gone. */
        void (*unbound)(Lifeline *l, pid_t pid, void *userdata);
} LifelineOps;

/* Makes a pipe; *ret_fd is the holder's end (close-on-exec, the caller's), opened for reading and writing. */
int lifeline_new(sd_event *event, const LifelineOps *ops, void *userdata, Lifeline **ret,
                 int *ret_fd);
/* The same around a read end that there is already; consumes fd, also on failure. */
int lifeline_adopt(sd_event *event, const LifelineOps *ops, void *userdata, int fd, Lifeline **ret);
Lifeline *lifeline_free(Lifeline *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(Lifeline *, lifeline_free)

/* Another copy of the holder's end, also after all were closed. */
int lifeline_reopen(Lifeline *l, int *ret_fd);

/* Binds a process; copies pidfd. -ESRCH: it is gone; -EBADF: not a pidfd; -E2BIG: LIFELINE_BOUND_MAX reached. Returns
 * 1 when bound, 0 when it was already. */
int lifeline_bind(Lifeline *l, int pidfd, pid_t *ret_pid);

unsigned lifeline_bound(const Lifeline *l);
/* The i-th bound process. */
pid_t lifeline_pid(const Lifeline *l, unsigned i);
int lifeline_pidfd(const Lifeline *l, unsigned i);
/* Field 22 of its /proc/PID/stat; 0: not known. */
uint64_t lifeline_start_time(const Lifeline *l, unsigned i);
/* Takes the process back off, without a word. */
void lifeline_unbind(Lifeline *l, pid_t pid);
/* The read end (borrowed), and the pipe's inode: how /proc shows who has the other end. */
int lifeline_fd(const Lifeline *l);
/* Has nobody the other end open? The event loop may not have told yet. */
bool lifeline_hung_up(const Lifeline *l);
ino_t lifeline_inode(const Lifeline *l);

/* By what /proc shows who keeps a lease: its pipe, and the processes bound to it. One list of all leases finds what a process
 * shows among thousands of them. */
typedef struct LifelineName {
        RB_ENTRY(LifelineName) by_name;
        bool bound;       /* a process; otherwise the pipe */
        uint64_t name;    /* its pid, or the pipe's inode */
        uint64_t started; /* the process; 0: not known */
        void *userdata;   /* the lifeline's */
} LifelineName;

typedef RB_HEAD(LifelineNames, LifelineName) LifelineNames;

/* Lists it, and every process as long as it is bound, until it is freed. The list must live as long; all zero is an empty one. */
void lifeline_list(Lifeline *l, LifelineNames *names);
/* One of those with that name, and the next of the same; NULL: there is no other. */
const LifelineName *lifeline_names_first(const LifelineNames *names, bool bound, uint64_t name);
const LifelineName *lifeline_names_next(const LifelineName *n);
