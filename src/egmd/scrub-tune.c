/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "log.h"
#include "scrub-cpus.h"
#include "scrubber-internal.h"

static uint64_t usec_now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * USEC_PER_SEC + (uint64_t) t.tv_nsec / 1000;
}

ScrubNode *scrub_job_node(ScrubJob *j) {
        const ScrubTask *task = &j->task;
        Scrubber *s = j->scrubber;

        if (s->config.threads > 0)
                return NULL;
        return scrub_nodes_get(&s->nodes, j->node,
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

/* In pieces that are mapped as windows: what is done between two looks has to be more than a few of them. */
#define SAMPLE_MIN (32 * MIB)

static bool node_did_enough(const Scrubber *s, const ScrubNode *n, uint64_t bytes) {
        return bytes - n->measured_bytes >= n->width.threads * MIN(s->config.window, SAMPLE_MIN);
}

static void node_rest(ScrubNode *n) {
        n->measured_from = 0;
        scrub_width_rest(&n->width);
}

/* Those that write at full duty show what so many threads can do; those in the background stand still for them. */
static bool job_counts(const ScrubJob *j, const ScrubNode *n) {
        return j->urgent && j->node == n->node;
}

static void node_found(const Scrubber *s, const ScrubNode *n) {
        const ScrubJob *j;

        TAILQ_FOREACH (j, &s->running, link)
                if (job_counts(j, n))
                        break;
        if (j && n->width.phase == SCRUB_WIDTH_SETTLED)
                log_info("%s: its node's memory is written fastest by %u %s for each range: %.1f "
                         "GiB/s",
                         j->task.provider->name, n->width.threads,
                         n->width.threads == 1 ? "thread" : "threads",
                         (double) n->width.best_rate / (double) GIB);
}

static void node_measure(Scrubber *s, ScrubNode *n) {
        uint64_t now = usec_now(), bytes = n->ended;
        bool any = false;
        ScrubJob *j;

        TAILQ_FOREACH (j, &s->running, link)
                if (job_counts(j, n)) {
                        bytes += scrub_job_done(j);
                        any = true;
                }
        if (!any || s->config.bandwidth > 0) {
                node_rest(n);
                return;
        }
        if (n->measured_from > 0) {
                if (!node_did_enough(s, n, bytes))
                        return;
                if (scrub_width_report(&n->width, bytes - n->measured_bytes,
                                       now - n->measured_from)) {
                        node_found(s, n);
                        TAILQ_FOREACH (j, &s->running, link)
                                if (job_counts(j, n))
                                        job_widen(j, &n->width);
                        /* Those that are on their way out still write. */
                        n->measured_from = 0;
                        return;
                }
        }
        n->measured_from = now;
        n->measured_bytes = bytes;
}

void scrubber_measure(Scrubber *s) {
        for (size_t i = 0; i < s->nodes.n; i++)
                node_measure(s, s->nodes.items + i);
}

bool scrubber_is_measuring(Scrubber *s) {
        const ScrubJob *j;

        if (s->config.bandwidth > 0)
                return false;
        for (size_t i = 0; i < s->nodes.n; i++) {
                const ScrubNode *n = s->nodes.items + i;

                if (n->width.limit == 1 || n->width.phase == SCRUB_WIDTH_SETTLED)
                        continue;
                TAILQ_FOREACH (j, &s->running, link)
                        if (job_counts(j, n))
                                return true;
        }
        return false;
}

void scrub_job_left(Scrubber *s, int node, bool urgent, uint64_t done) {
        ScrubNode *n = NULL;
        const ScrubJob *j;

        for (size_t i = 0; i < s->nodes.n && urgent; i++)
                if (s->nodes.items[i].node == node)
                        n = s->nodes.items + i;
        if (!n)
                return;
        n->ended += done;
        TAILQ_FOREACH (j, &s->running, link)
                if (job_counts(j, n))
                        return;
        TAILQ_FOREACH (j, &s->urgent, link)
                if (job_counts(j, n))
                        return;
        node_rest(n);
}

void scrub_job_joined(ScrubJob *j) {
        ScrubNode *n = scrub_job_node(j);

        if (n)
                n->measured_from = 0;
}
