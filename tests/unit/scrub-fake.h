/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test.h"
#include <pthread.h>
#include <stdatomic.h>

#include "scrubber.h"

/* What the scrubber's tests share: a region that is a memfd with chosen faults, jobs that keep a
 * record of their callbacks, gates at which threads can be made to wait, and the system calls that
 * may fail. */

#define FAKE_PATTERN 0xa5

/* Where threads stop until the test lets them on. */
typedef struct Gate {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned arrived;
        bool open;
} Gate;

#define GATE_CLOSED \
        (Gate) { \
                .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER \
        }

void gate_pass(Gate *g);
/* Waits until n threads stand before it, or did. */
void gate_await(Gate *g, unsigned n);
void gate_open(Gate *g);

typedef struct Fake {
        Provider provider;
        char memory[16]; /* the memfd's name */
        uint8_t *view;   /* the memory as it is */
        int hole;        /* an empty memfd: SIGBUS wherever it is mapped */
        bool *bad;       /* by page */
        int bad_prot;    /* bad in which mappings: PROT_WRITE, PROT_READ (read-only), both */
        bool *lossy;     /* by page; what is written there never arrives */
        atomic_uint n_maps;
        unsigned fail_at; /* the k-th mmap fails, from 1 */
        atomic_uint n_mapped;
        void (*on_map)(struct Fake *f, uint64_t offset, size_t size, bool writable);
        void *userdata;
} Fake;

/* Filled with the pattern. */
Fake *fake_new(uint64_t size, uint64_t granule);
/* Nothing may be mapped any more. */
Fake *fake_free(Fake *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(Fake *, fake_free)

/* Whether all bytes of the range are value; with skip_bad, those of bad pages the pattern. */
bool fake_holds(const Fake *f, uint64_t offset, uint64_t size, uint8_t value, bool skip_bad);

/* One job and what was heard of it. */
typedef struct Record {
        Fake *fake;
        ScrubJob *job;
        uint64_t offset;
        uint64_t size;
        unsigned finished;
        unsigned order; /* among all finished, from 1 */
        int r;
        unsigned n_progress;
        uint64_t progress;
        uint64_t n_bad;
        bool *bad; /* by granule of the region */
} Record;

extern const ScrubOps record_ops;
void record_done(Record *r);
void record_submit(Record *r, Scrubber *s, Fake *f, int node, uint64_t offset, uint64_t size,
                   bool urgent);
/* The range is zero but for the bad pages, whose granules (and no others) were reported. */
void record_expect_clean(const Record *r);

sd_event *test_event(void);
/* What is due now. */
void pump(sd_event *e);
/* Until all have finished. */
void run_all(sd_event *e, Record *records, size_t n);

/* The calls that the linker sends here. */
extern struct Calls {
        atomic_int threads_left; /* pthread_create() fails with EAGAIN after so many; -1: never */
        atomic_uint threads;     /* made */
        atomic_bool no_return;   /* out of SCHED_IDLE: EPERM */
        atomic_bool really_idle; /* SCHED_IDLE by the kernel, under which a thread may hardly run; or only as told here */
        atomic_uint idle;   /* threads that went to SCHED_IDLE */
        atomic_uint raised; /* asked out of SCHED_IDLE by the event loop */
        atomic_uint rests;
        atomic_uint rests_short; /* ended before now + what the thread had worked at least */
        atomic_uint rests_early; /* before it had worked for 2 ms */
        atomic_uint rests_long;  /* ended after now + what it had worked */
        atomic_uint rests_loud;  /* not under SCHED_IDLE */
        Gate *paused;            /* passed, opened before, by threads about to pause */
        cpu_set_t cpus;          /* of nodes 0 and up; none: not known */
} calls;

/* Whose CPUs are calls.cpus. */
extern const Topology *const fake_topology;

/* A scrubber with its loop. */
typedef struct Bench {
        sd_event *event;
        Scrubber *scrubber;
} Bench;

Bench bench_new(ScrubConfig config);
void bench_done(Bench *b);
#define _cleanup_bench_ _cleanup_(bench_done)

/* For on_map: the Gate in userdata before each window. */
void at_gate(Fake *f, uint64_t offset, size_t size, bool writable);

/* For on_map: before the n-th window only. */
typedef struct Stop {
        Gate gate;
        unsigned n;
        atomic_uint windows;
        pthread_t last;   /* who mapped the last window */
        atomic_uint loud; /* windows not mapped under SCHED_IDLE */
} Stop;

void at_stop(Fake *f, uint64_t offset, size_t size, bool writable);

void calls_reset(void);
/* Whether the calling thread is under SCHED_IDLE. */
bool calls_is_idle(void);
/* CPU time the calling thread has used since its last rest, at least. */
void calls_burn(uint64_t usec);
