/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "provider.h"

/* Overwrites ranges with zeros in worker threads bound to the region's node. All functions are called, and all
 * callbacks run, in the event loop's thread. */

typedef struct Scrubber Scrubber;
typedef struct ScrubJob ScrubJob;

typedef struct ScrubOps {
        /* done bytes are zero so far; rate-limited to a few per second. */
        void (*progress)(ScrubJob *j, uint64_t done, void *userdata);
        /* The page at offset (of size bytes, granule) gave SIGBUS; it was passed over. Before `finished`. */
        void (*bad)(ScrubJob *j, uint64_t offset, uint64_t size, void *userdata);
        /* Once, last: r == 0: everything but the bad pages is zero. Otherwise (-ECANCELED, -ENOMEM, mmap's
         * error) nothing may be taken as clean. The job is freed after it returns. */
        void (*finished)(ScrubJob *j, int r, void *userdata);
} ScrubOps;

typedef struct ScrubConfig {
        unsigned threads; /* per job; 0: the default */
        uint64_t window;  /* bytes mapped at a time; 0: the default */
} ScrubConfig;

int scrubber_new(sd_event *event, const ScrubConfig *config, Scrubber **ret);
/* Cancels what runs and waits for the threads (milliseconds: they look between chunks); no callback runs. */
Scrubber *scrubber_free(Scrubber *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Scrubber *, scrubber_free)

/* Queues [offset, offset + size) of p; p must live until `finished`. node: NUMA node or -1. Urgent jobs (somebody
 * waits for the bytes) go first. */
int scrubber_submit(Scrubber *s, Provider *p, int node, uint64_t offset, uint64_t size, bool urgent,
                    const ScrubOps *ops, void *userdata, ScrubJob **ret);
/* finished(-ECANCELED) follows, from the event loop, unless the job was done already. */
void scrub_job_cancel(ScrubJob *j);
void scrub_job_set_urgent(ScrubJob *j);
uint64_t scrub_job_offset(const ScrubJob *j);
uint64_t scrub_job_size(const ScrubJob *j);
uint64_t scrub_job_done(const ScrubJob *j);
