/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "log.h"
#include "scrub-cpus.h"
#include "scrubber-internal.h"

static uint64_t usec_now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

ScrubWidth *scrub_job_width(ScrubJob *j) {
        const ScrubTask *task = &j->task;
        Scrubber *s = j->scrubber;

        if (s->config.threads > 0)
                return NULL;
        return scrub_widths_get(&s->widths, j->node,
                                task->cpus ? (unsigned) CPU_COUNT_S(task->cpus_size, task->cpus)
                                           : scrub_cpus_allowed());
}

static void job_retire_threads(ScrubJob *j, unsigned n) {
        ScrubThread *t;

        TAILQ_FOREACH (t, &j->threads, link)
                if (n > 0 && !atomic_load(&t->retired)) {
                        scrub_thread_retire(t);
                        n--;
                }
}

static unsigned job_count_active(const ScrubJob *j) {
        const ScrubThread *t;
        unsigned n = 0;

        TAILQ_FOREACH (t, &j->threads, link)
                n += !atomic_load(&t->retired);
        return n;
}

/* As many threads as are to be used now. */
static void job_widen(ScrubJob *j, const ScrubWidth *w) {
        /* As when it began: those in the background are on other nodes, and don't count. */
        unsigned others = scrubber_count_threads(j->scrubber, true) - j->n_threads;
        unsigned max = j->scrubber->config.max_threads, n = job_count_active(j), wanted;
        /* Towards the end there may be fewer than are to be used, and nothing left for more. */
        bool all_taken = atomic_load(&j->task.next) >= scrub_task_end_chunk(&j->task);

        wanted = MIN(w->threads, others < max ? max - others : n);
        atomic_store(&j->task.ahead, wanted > 1);
        if (n > wanted)
                job_retire_threads(j, n - wanted);
        for (; !all_taken && n < wanted && scrub_job_add_thread(j) >= 0; n++)
                ;
}

/* Who writes at full duty, and alone, shows what so many threads can do. */
static ScrubWidth *job_steady_width(ScrubJob *j) {
        bool steady = j->urgent && j->scrubber->config.bandwidth == 0 &&
                      !scrub_job_has_neighbour(j, false) && atomic_load(&j->task.result) == 0;

        return steady ? scrub_job_width(j) : NULL;
}

bool scrub_job_is_measured(ScrubJob *j) {
        const ScrubWidth *w = job_steady_width(j);

        return w && w->limit > 1 && w->phase != SCRUB_WIDTH_SETTLED;
}

/* What is done comes in pieces: a window that is being mapped is none of it. */
static bool job_did_enough(const ScrubJob *j, uint64_t done) {
        return done - j->measured_done >= j->n_threads * j->scrubber->config.window;
}

void scrub_job_measure(ScrubJob *j) {
        uint64_t now = usec_now(), done = scrub_job_done(j);
        ScrubWidth *w = job_steady_width(j);
        bool steady = w && j->measured_from > 0 && j->n_threads == w->threads;

        if (steady && !job_did_enough(j, done))
                return;
        if (steady && scrub_width_report(w, done - j->measured_done, now - j->measured_from) &&
            w->phase == SCRUB_WIDTH_SETTLED)
                log_info("%s: %u %s its node's memory, %.1f GiB/s", j->task.provider->name,
                         w->threads, w->threads == 1 ? "thread fills" : "threads fill",
                         (double) w->best_rate / (double) GIB);
        if (w && job_count_active(j) != w->threads)
                job_widen(j, w);
        /* One that is on its way out still writes. */
        j->measured_from = w && j->n_threads == w->threads ? now : 0;
        j->measured_done = done;
}
