/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "scrubber.h"

/* The threads that zero a range, and how they talk to the event loop. Private to the scrubber.
 *
 * A background thread runs under SCHED_IDLE: on a busy host it may be off the CPU for long at any
 * instruction. So the event loop must never wait for one. It shares no lock with them: what it
 * tells them are atomics and semaphores, what they tell it is a lock-free list, and it joins them
 * only when they are gone already. */

#define SCRUB_CHUNK_MIN (2 * MIB)

typedef struct ScrubTask ScrubTask;
typedef struct ScrubThread ScrubThread;
typedef struct ScrubWindow ScrubWindow;

typedef struct ScrubMessage {
        struct ScrubMessage *next;
        ScrubTask *task;
        ScrubThread *ended; /* the last that is heard of it; or NULL, and then bad granules: */
        uint64_t offset;
        uint64_t size;
} ScrubMessage;

typedef struct ScrubInbox {
        _Atomic(ScrubMessage *) head; /* newest first */
        int fd;                       /* eventfd, counts up with each message */
} ScrubInbox;

/* The pace of all threads together. */
typedef struct ScrubPace {
        uint64_t bandwidth;    /* bytes a second; 0: as fast as they can */
        _Atomic uint64_t next; /* when the next chunk may begin, CLOCK_MONOTONIC nsec */
} ScrubPace;

/* One range as its threads see it. Chunks and windows lie at multiples of their size. */
struct ScrubTask {
        /* Set before the first thread starts. */
        ScrubInbox *inbox;
        ScrubPace *pace;
        Provider *provider;
        uint64_t offset;
        uint64_t size;
        uint64_t chunk;  /* a multiple of the granule */
        uint64_t window; /* a multiple of chunk; 0: all in one */
        ScrubVerify verify;
        cpu_set_t *cpus; /* NULL: any */
        size_t cpus_size;

        /* Written by the event loop. */
        atomic_bool urgent;
        atomic_bool paused;
        atomic_bool ahead; /* several threads: the next window is mapped while they are in this one */
        /* Written by both; the first that is not 0 stays. */
        atomic_int result;

        /* The threads' own. */
        _Atomic uint64_t next; /* chunk nobody has taken, counted from the region's start */
        _Atomic uint64_t done; /* bytes */
        pthread_mutex_t lock;
        ScrubWindow *windows;
};

struct ScrubThread {
        TAILQ_ENTRY(ScrubThread) link; /* the event loop's */
        ScrubTask *task;               /* valid until the thread said that it ended */
        bool background;               /* SCHED_IDLE, half duty */
        atomic_bool retired;
        pthread_t id;
        sem_t wake;
        ScrubMessage ended;
        ScrubWindow *window;
        ScrubWindow *ahead; /* the one after */
        uint64_t rested;    /* CPU time at the last rest's end, nsec */
        uint64_t random;
        bool any_bad;
        bool bad[]; /* by granule of the chunk in work */
};

uint64_t scrub_task_first_chunk(const ScrubTask *task);
uint64_t scrub_task_end_chunk(const ScrubTask *task);
/* False when it had failed already. */
bool scrub_task_fail(ScrubTask *task, int r);

/* Empties the inbox; oldest first. */
ScrubMessage *scrub_inbox_take(ScrubInbox *inbox);

int scrub_thread_start(ScrubTask *task, bool background, ScrubThread **ret);
/* Look at task and thread again. */
void scrub_thread_wake(ScrubThread *t);
/* Out of SCHED_IDLE, if the kernel lets us. */
void scrub_thread_raise(ScrubThread *t);
/* Leave once the chunk in work is done, and it was woken if it rests. */
void scrub_thread_retire(ScrubThread *t);
/* After it said that it ended: true and freed when it is gone altogether, false when it is still
 * about to go. */
bool scrub_thread_reap(ScrubThread *t);
void scrub_thread_join(ScrubThread *t);
ScrubThread *scrub_thread_free(ScrubThread *t);
