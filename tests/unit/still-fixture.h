/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "proc-still.h"
#include "test.h"

/* Real processes, asleep and awake. */

typedef struct Child {
        pid_t pid;
        int wake, answer;
} Child;

typedef enum Kind { SLEEPER, SPINNER, THREADED, ENDING, EXECUTING, OPENER } Kind;

extern int still_root; /* /proc */
extern int still_memory_fd;

void still_fixture_init(void);

Child child_start(Kind kind);
/* Answers what comes from fds[0] to fds[1], until it ends. */
void *child_serve(void *fds);
/* It has run once this returns. */
void child_wake(const Child *c);
void child_end(Child *c);

ino_t ino_of(pid_t pid);
uint64_t threads_of(pid_t pid);
uint64_t now_msec(void);

/* Whether all its threads sleep until they are told to go on, or end. */
bool all_wait_to_be_told(pid_t pid);
/* Nothing tells when a process has gone to sleep: tries until it has. */
void remember_asleep(ProcStill *s, pid_t pid, uint64_t n_threads);
/* Where the kernel does not tell, nobody counts as still, and there is nothing to test. */
ProcStill *still_new(void);
