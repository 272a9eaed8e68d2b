/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "provider.h"
#include "topology.h"

/* Overwrites ranges with zeros in worker threads bound to the region's node. All functions are
 * called, and all callbacks run, in the event loop's thread. */

typedef struct Scrubber Scrubber;
typedef struct ScrubJob ScrubJob;

typedef enum ScrubVerify {
        SCRUB_VERIFY_SAMPLES, /* a page of every 64 MiB, and of a range's first and last chunk */
        SCRUB_VERIFY_ALL,     /* every byte, at two to three times the cost of the zeroing */
        _SCRUB_VERIFY_MAX,
        _SCRUB_VERIFY_INVALID = -EINVAL,
} ScrubVerify;

const char *scrub_verify_to_string(ScrubVerify v); /* "samples", "all" */
ScrubVerify scrub_verify_from_string(const char *s);

/* Callbacks may submit, cancel and make urgent, but not free the scrubber. progress and bad may be
 * NULL. */
typedef struct ScrubOps {
        /* done bytes are behind us so far; a few times per second. */
        void (*progress)(ScrubJob *j, uint64_t done, void *userdata);
        /* Pages in [offset, offset + size), one or more whole granules, gave SIGBUS; they still
         * hold what they held, everything around them is zeroed. Each granule at most once per job,
         * in any order, all before `finished`. */
        void (*bad)(ScrubJob *j, uint64_t offset, uint64_t size, void *userdata);
        /* Once, last: r == 0: everything but the bad pages is zero. Otherwise (-ECANCELED, -ENOMEM,
         * -EAGAIN when no thread could be had, -EBADMSG when zeros did not read back, mmap's error)
         * nothing may be taken as clean. The job is freed after it returns. */
        void (*finished)(ScrubJob *j, int r, void *userdata);
} ScrubOps;

typedef struct ScrubConfig {
        /* Per job. 0: 1 where the node has up to 4 CPUs, else half, at most 8; for urgent ones as many as are found to write
         * most, of up to 4 CPUs, or half. */
        unsigned threads;
        unsigned max_threads; /* of all jobs together; 0: as many as there are CPUs for us */
        uint64_t window;    /* bytes mapped at a time, at least 2 MiB; 0: what 64 Ki pages cover */
        uint64_t bandwidth; /* bytes a second that all threads together write at most; 0: no limit */
        ScrubVerify verify;
        const Topology *topology; /* NULL: threads are not bound to nodes; must outlive the scrubber */
        /* The CPUs threads may use: those of the node among them, or all where none is of the node. NULL: those of the
         * node. As sched_setaffinity() takes it; must outlive the scrubber. */
        const cpu_set_t *cpus;
        size_t cpus_size;
} ScrubConfig;

int scrubber_new(sd_event *event, const ScrubConfig *config, Scrubber **ret);
/* Cancels what runs and waits for the threads, which look between chunks and so take milliseconds,
 * unless one sits in the mapping of a whole region whose offsets don't work. No callback runs; all
 * jobs are gone. */
Scrubber *scrubber_free(Scrubber *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Scrubber *, scrubber_free)

/* Queues [offset, offset + size) of p, whole granules; p must live until `finished`. node: NUMA
 * node or -1.
 *
 * Urgent jobs (somebody waits for the bytes) start as long as max_threads allows, run at normal
 * priority and full duty, and hold up background jobs on the same node. Of those, one runs per node
 * (region, where the node is not known), under SCHED_IDLE and half of the time. Both in the order
 * in which they came.
 *
 * -EINVAL: not whole granules; -ERANGE: past the region's end; -ENOMEM. */
int scrubber_submit(Scrubber *s, Provider *p, int node, uint64_t offset, uint64_t size, bool urgent,
                    const ScrubOps *ops, void *userdata, ScrubJob **ret);
/* finished(-ECANCELED) follows, from the event loop, unless the job was done already. */
void scrub_job_cancel(ScrubJob *j);
void scrub_job_set_urgent(ScrubJob *j);
uint64_t scrub_job_offset(const ScrubJob *j);
uint64_t scrub_job_size(const ScrubJob *j);
uint64_t scrub_job_done(const ScrubJob *j);
