/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "macro.h"

/* Starts a command in two steps: a process that waits, so that it can be named to others, and then becomes the command. */

/* What the command shall find as it was. */
typedef struct SpawnSignals {
        sigset_t mask;
        struct sigaction child;
} SpawnSignals;

typedef struct Spawned {
        pid_t pid; /* 0: none */
        int pidfd;
        int channel; /* while it waits: bytes tell it to go on, the end stops it; it answers with errno, or execve() closes it */
} Spawned;

#define SPAWNED_NULL ((Spawned){.pidfd = -EBADF, .channel = -EBADF})

/* Blocks the signals that are for the command, and returns a signalfd for them. */
int spawn_block_signals(SpawnSignals *ret);

typedef struct SpawnWhat {
        char **argv;
        char **environment; /* "NAME=VALUE"s to add */
        const int *fds;     /* to stay open under the same numbers, in the command alone */
        size_t n_fds;
        int (*prepare)(void *userdata); /* in the process, between fork() and execve(): a descriptor, or -errno */
        void *userdata;
} SpawnWhat;

int spawn(const SpawnWhat *what, const SpawnSignals *signals, Spawned *ret);
/* Lets it prepare itself; the descriptor comes here. */
int spawned_prepare(Spawned *s, int *ret_fd);
/* Lets it become the command. The errno of execve() if it could not. */
int spawned_start(Spawned *s);
int spawned_kill(const Spawned *s, int signo);
/* Stops one that still waits, and takes its remains away. Leaves one that was started alone. */
void spawned_done(Spawned *s);
