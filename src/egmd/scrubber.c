/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/eventfd.h>

#include "fd-util.h"
#include "log.h"
#include "scrub-cpus.h"
#include "scrubber-internal.h"
#include "sigbus.h"
#include "string-table.h"
#include "zero.h"

/* A window is what this many page-table entries map, whatever the page size (256 MiB of 4 KiB
 * pages, 4 GiB of 64 KiB): half a MiB of tables, and a millisecond during which mapping locks the
 * address space. Larger ones gain nothing, as the cost is per page and not per mapping. */
#define WINDOW_PAGES (64 * KIB)
#define TICK_USEC (50 * USEC_PER_MSEC) /* while threads are measured */
#define TICKS_PER_PROGRESS 5U
#define TIMER_ACCURACY_USEC (25 * USEC_PER_MSEC)
/* Callbacks in a row before the event loop gets to see to others. */
#define CALLBACKS_MAX 128U

static const char *const scrub_verify_table[_SCRUB_VERIFY_MAX] = {
                [SCRUB_VERIFY_SAMPLES] = "samples",
                [SCRUB_VERIFY_ALL] = "all",
};
DEFINE_STRING_TABLE(scrub_verify, ScrubVerify)

static void scrubber_want_work(Scrubber *s) {
        (void) sd_event_source_set_enabled(s->work, SD_EVENT_ONESHOT);
}

static ScrubJob *job_free(ScrubJob *j) {
        if (!j)
                return NULL;
        assert(j->n_threads == 0);
        assert(!j->task.windows);
        (void) pthread_mutex_destroy(&j->task.lock);
        free(j->task.cpus);
        return mfree(j);
}

static JobList *job_queue(ScrubJob *j) {
        return j->urgent ? &j->scrubber->urgent : &j->scrubber->background;
}

/* Whether two jobs would use the same memory's bandwidth. */
static bool job_beside(const ScrubJob *a, const ScrubJob *b) {
        return a->node >= 0 && b->node >= 0 ? a->node == b->node
                                            : a->task.provider == b->task.provider;
}

bool scrub_job_has_neighbour(const ScrubJob *j, bool only_urgent) {
        const ScrubJob *i;

        TAILQ_FOREACH (i, &j->scrubber->running, link)
                if (i != j && (i->urgent || !only_urgent) && job_beside(i, j))
                        return true;
        return false;
}

static void scrubber_update_paused(Scrubber *s) {
        ScrubJob *j;

        TAILQ_FOREACH (j, &s->running, link) {
                bool paused = !j->urgent && scrub_job_has_neighbour(j, true);
                ScrubThread *t;

                if (atomic_exchange(&j->task.paused, paused) == paused || paused)
                        continue;
                TAILQ_FOREACH (t, &j->threads, link)
                        scrub_thread_wake(t);
        }
}

unsigned scrubber_count_threads(const Scrubber *s, bool only_urgent) {
        unsigned n = 0;
        const ScrubJob *j;

        TAILQ_FOREACH (j, &s->running, link)
                if (j->urgent || !only_urgent)
                        n += j->n_threads;
        return n;
}

int scrub_job_add_thread(ScrubJob *j) {
        ScrubThread *t;
        int r;

        r = scrub_thread_start(&j->task, !j->urgent, &t);
        if (r < 0)
                return r;
        /* At the head, so that who walks the list while adding sees none of the new. */
        TAILQ_INSERT_HEAD(&j->threads, t, link);
        j->n_threads++;
        return 0;
}

static unsigned job_count_threads(ScrubJob *j, unsigned limit) {
        const ScrubTask *task = &j->task;
        uint64_t chunks = scrub_task_end_chunk(task) - scrub_task_first_chunk(task);
        const ScrubNode *node = scrub_job_node(j);
        unsigned n = MAX(j->scrubber->config.threads, 1U);

        if (node)
                n = j->urgent ? node->width.threads : MIN(node->width.best, node->width.first);
        n = MIN(n, limit);
        return (unsigned) MIN(n, chunks);
}

/* Queued -> running, or ended where not even one thread can be had. */
static void job_start(ScrubJob *j, unsigned limit) {
        Scrubber *s = j->scrubber;
        unsigned n;
        int r = 0;

        assert(j->state == JOB_QUEUED);
        assert(limit > 0);

        TAILQ_REMOVE(job_queue(j), j, link);
        scrub_cpus_of_node(&s->config, j->node, &j->task.cpus, &j->task.cpus_size);
        n = job_count_threads(j, limit);
        atomic_store(&j->task.ahead, n > 1);
        while (j->n_threads < n) {
                r = scrub_job_add_thread(j);
                if (r < 0)
                        break;
        }
        if (j->n_threads == 0) {
                (void) log_error_errno(r, "%s: failed to start a thread to scrub with: %m",
                                       j->task.provider->name);
                (void) scrub_task_fail(&j->task, r);
                j->state = JOB_ENDED;
                TAILQ_INSERT_TAIL(&s->ended, j, link);
                return;
        }
        if (r < 0)
                (void) log_warning_errno(r, "%s: scrubbing with %u of %u threads: %m",
                                         j->task.provider->name, j->n_threads, n);
        j->state = JOB_RUNNING;
        TAILQ_INSERT_TAIL(&s->running, j, link);
}

static void scrubber_start_jobs(Scrubber *s) {
        unsigned n;
        ScrubJob *j, *next;

        /* Background threads don't count here: they are on other nodes, or paused for us. */
        while ((j = TAILQ_FIRST(&s->urgent)) &&
               (n = scrubber_count_threads(s, true)) < s->config.max_threads)
                job_start(j, s->config.max_threads - n);
        scrubber_update_paused(s);

        n = scrubber_count_threads(s, false);
        for (j = TAILQ_FIRST(&s->background); j && n < s->config.max_threads; j = next) {
                next = TAILQ_NEXT(j, link);
                if (scrub_job_has_neighbour(j, false))
                        continue;
                job_start(j, s->config.max_threads - n);
                n = scrubber_count_threads(s, false);
        }
}

static void scrubber_reap(Scrubber *s) {
        ScrubThread *next;

        for (ScrubThread *t = TAILQ_FIRST(&s->gone); t; t = next) {
                next = TAILQ_NEXT(t, link);
                TAILQ_REMOVE(&s->gone, t, link);
                if (!scrub_thread_reap(t))
                        TAILQ_INSERT_HEAD(&s->gone, t, link);
        }
}

/* Runs only while there is something to report or to join: no wake-ups when idle. */
static void scrubber_arm_timer(Scrubber *s) {
        bool needed = !TAILQ_EMPTY(&s->running) || !TAILQ_EMPTY(&s->gone);
        unsigned ticks = TICKS_PER_PROGRESS;
        int enabled = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(s->timer, &enabled);
        if (needed == (enabled != SD_EVENT_OFF))
                return;
        if (scrubber_is_measuring(s))
                ticks = 1;
        s->ticks_armed = ticks;
        if (needed)
                (void) sd_event_source_set_time_relative(s->timer, ticks * TICK_USEC);
        (void) sd_event_source_set_enabled(s->timer, needed ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

static void job_finish(ScrubJob *j) {
        Scrubber *s = j->scrubber;
        int r = atomic_load(&j->task.result);

        assert(j->n_threads == 0);
        /* Whoever else sees it at 0 lends the memory. */
        assert(r != 0 || atomic_load(&j->task.done) == j->task.size);

        j->state = JOB_ENDED;
        s->in_callback = true;
        j->ops.finished(j, r, j->userdata);
        s->in_callback = false;
        scrub_job_left(s, j->node, j->urgent, scrub_job_done(j));
        (void) job_free(j);
}

static void scrubber_handle_message(Scrubber *s, ScrubMessage *m) {
        ScrubJob *j = CONTAINER_OF(m->task, ScrubJob, task);
        ScrubThread *t = m->ended;

        if (!t) {
                s->in_callback = true;
                if (j->ops.bad)
                        j->ops.bad(j, m->offset, m->size, j->userdata);
                s->in_callback = false;
                free(m);
                return;
        }
        TAILQ_REMOVE(&j->threads, t, link);
        TAILQ_INSERT_TAIL(&s->gone, t, link);
        j->n_threads--;
        if (j->n_threads > 0)
                return;
        TAILQ_REMOVE(&s->running, j, link);
        job_finish(j);
}

static int on_work(sd_event_source *source, void *userdata) {
        Scrubber *s = userdata;

        for (unsigned n = 0; n < CALLBACKS_MAX; n++) {
                ScrubMessage *m = s->messages;
                ScrubJob *j = TAILQ_FIRST(&s->ended);

                if (m) {
                        s->messages = m->next;
                        scrubber_handle_message(s, m);
                } else if (j) {
                        TAILQ_REMOVE(&s->ended, j, link);
                        job_finish(j);
                } else
                        break;
        }
        scrubber_start_jobs(s);
        scrubber_reap(s);
        scrubber_arm_timer(s);
        if (s->messages || !TAILQ_EMPTY(&s->ended))
                scrubber_want_work(s);
        return 0;
}

static int on_inbox(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Scrubber *s = userdata;
        ScrubMessage **tail = &s->messages;
        eventfd_t count;

        (void) eventfd_read(fd, &count);
        while (*tail)
                tail = &(*tail)->next;
        *tail = scrub_inbox_take(&s->inbox);
        return on_work(source, s);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Scrubber *s = userdata;
        ScrubJob *j;

        scrubber_measure(s);
        s->ticks += s->ticks_armed;
        s->in_callback = true;
        TAILQ_FOREACH (j, &s->running, link) {
                uint64_t done = scrub_job_done(j);

                if (s->ticks < TICKS_PER_PROGRESS)
                        break;

                if (done == j->reported || !j->ops.progress)
                        continue;
                j->reported = done;
                j->ops.progress(j, done, j->userdata);
        }
        s->in_callback = false;
        if (s->ticks >= TICKS_PER_PROGRESS)
                s->ticks = 0;
        scrubber_reap(s);
        scrubber_arm_timer(s);
        return 0;
}

static int scrubber_add_sources(Scrubber *s, sd_event *event) {
        int r;

        s->inbox.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->inbox.fd < 0)
                return -errno;
        r = sd_event_add_io(event, &s->inbox_source, s->inbox.fd, EPOLLIN, on_inbox, s);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &s->work, on_work, s);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(s->work, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(event, &s->timer, CLOCK_MONOTONIC, TICK_USEC,
                                       TIMER_ACCURACY_USEC, on_timer, s);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(s->inbox_source, "scrubber-inbox");
        (void) sd_event_source_set_description(s->work, "scrubber-work");
        (void) sd_event_source_set_description(s->timer, "scrubber-timer");
        return sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
}

int scrubber_new(sd_event *event, const ScrubConfig *config, Scrubber **ret) {
        _cleanup_(scrubber_freep) Scrubber *s = NULL;
        uint64_t window;
        int r;

        assert(event);
        assert(ret);

        r = sigbus_init();
        if (r < 0)
                return r;
        s = malloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (Scrubber){.inbox.fd = -EBADF};
        TAILQ_INIT(&s->urgent);
        TAILQ_INIT(&s->background);
        TAILQ_INIT(&s->running);
        TAILQ_INIT(&s->ended);
        TAILQ_INIT(&s->gone);

        if (config)
                s->config = *config;
        if (s->config.max_threads == 0)
                s->config.max_threads = scrub_cpus_allowed();
        s->pace.bandwidth = s->config.bandwidth;
        window = s->config.window > 0 ? s->config.window
                                      : WINDOW_PAGES * (uint64_t) sysconf(_SC_PAGESIZE);
        if (!align_up_checked(window, SCRUB_CHUNK_MIN, &s->config.window))
                return -EINVAL;

        r = scrubber_add_sources(s, event);
        if (r < 0)
                return r;
        log_info("Scrubbing with %s, windows of %" PRIu64 " MiB, at most %u threads, verifying %s.",
                 zero_technique(), s->config.window / MIB, s->config.max_threads,
                 scrub_verify_to_string(s->config.verify));
        *ret = TAKE_PTR(s);
        return 0;
}

static void job_list_free(JobList *l) {
        for (ScrubJob *j; (j = TAILQ_FIRST(l));) {
                TAILQ_REMOVE(l, j, link);
                (void) job_free(j);
        }
}

static void scrubber_drop_messages(Scrubber *s) {
        ScrubMessage *lists[] = {TAKE_PTR(s->messages), scrub_inbox_take(&s->inbox)};

        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                for (ScrubMessage *next, *m = lists[i]; m; m = next) {
                        next = m->next;
                        if (!m->ended) /* else part of its thread */
                                free(m);
                }
}

Scrubber *scrubber_free(Scrubber *s) {
        ScrubThread *t;
        ScrubJob *j;

        if (!s)
                return NULL;
        assert(!s->in_callback);

        TAILQ_FOREACH (j, &s->running, link) {
                (void) scrub_task_fail(&j->task, -ECANCELED);
                TAILQ_FOREACH (t, &j->threads, link) {
                        scrub_thread_raise(t);
                        scrub_thread_wake(t);
                }
        }
        TAILQ_FOREACH (j, &s->running, link) {
                TAILQ_CONCAT(&s->gone, &j->threads, link);
                j->n_threads = 0;
        }
        TAILQ_FOREACH (t, &s->gone, link)
                scrub_thread_join(t);
        scrubber_drop_messages(s);
        while ((t = TAILQ_FIRST(&s->gone))) {
                TAILQ_REMOVE(&s->gone, t, link);
                (void) scrub_thread_free(t);
        }

        job_list_free(&s->urgent);
        job_list_free(&s->background);
        job_list_free(&s->running);
        job_list_free(&s->ended);
        scrub_nodes_done(&s->nodes);
        s->inbox_source = sd_event_source_disable_unref(s->inbox_source);
        s->work = sd_event_source_disable_unref(s->work);
        s->timer = sd_event_source_disable_unref(s->timer);
        s->inbox.fd = safe_close(s->inbox.fd);
        return mfree(s);
}

static int job_check_range(const Provider *p, uint64_t offset, uint64_t size) {
        if (!is_pow2(p->granule) || size == 0 || (offset | size) % p->granule != 0)
                return -EINVAL;
        return offset > p->size || size > p->size - offset ? -ERANGE : 0;
}

int scrubber_submit(Scrubber *s, Provider *p, int node, uint64_t offset, uint64_t size, bool urgent,
                    const ScrubOps *ops, void *userdata, ScrubJob **ret) {
        uint64_t chunk, window;
        ScrubJob *j;
        int r;

        assert(s);
        assert(p);
        assert(ops && ops->finished);

        r = job_check_range(p, offset, size);
        if (r < 0)
                return r;
        j = calloc(1, sizeof(*j));
        if (!j)
                return -ENOMEM;
        chunk = MAX(SCRUB_CHUNK_MIN, p->granule);
        window = MAX(align_down(s->config.window, chunk), chunk);
        *j = (ScrubJob){
                        .scrubber = s,
                        .urgent = urgent,
                        .node = node,
                        .threads = TAILQ_HEAD_INITIALIZER(j->threads),
                        .ops = *ops,
                        .userdata = userdata,
        };
        j->task = (ScrubTask){
                        .inbox = &s->inbox,
                        .pace = &s->pace,
                        .provider = p,
                        .offset = offset,
                        .size = size,
                        .chunk = chunk,
                        /* Where offsets don't work mapping a part costs the whole: once, then. */
                        .window = p->offsets ? window : 0,
                        .verify = s->config.verify,
        };
        atomic_init(&j->task.urgent, urgent);
        atomic_init(&j->task.next, scrub_task_first_chunk(&j->task));
        (void) pthread_mutex_init(&j->task.lock, NULL);
        TAILQ_INSERT_TAIL(job_queue(j), j, link);
        /* Threads are started after the caller has answered whoever it is that called. */
        scrubber_want_work(s);
        if (ret)
                *ret = j;
        return 0;
}

void scrub_job_cancel(ScrubJob *j) {
        ScrubThread *t;

        assert(j);

        if (j->state == JOB_ENDED)
                return;
        (void) scrub_task_fail(&j->task, -ECANCELED);
        if (j->state == JOB_QUEUED) {
                TAILQ_REMOVE(job_queue(j), j, link);
                TAILQ_INSERT_TAIL(&j->scrubber->ended, j, link);
                j->state = JOB_ENDED;
                scrubber_want_work(j->scrubber);
                return;
        }
        TAILQ_FOREACH (t, &j->threads, link) {
                scrub_thread_raise(t);
                scrub_thread_wake(t);
        }
}

/* A thread may be off the CPU for long with a chunk half done, and may not be allowed out of
 * SCHED_IDLE: each is asked to come back, and relieved by a new one for what comes after. */
static void job_hurry(ScrubJob *j) {
        ScrubThread *t;

        TAILQ_FOREACH (t, &j->threads, link) {
                int r;

                r = scrub_job_add_thread(j);
                if (r < 0)
                        (void) log_warning_errno(r, "%s: no new thread for an urgent scrub: %m",
                                                 j->task.provider->name);
                else
                        scrub_thread_retire(t);
                scrub_thread_raise(t);
                scrub_thread_wake(t);
        }
}

void scrub_job_set_urgent(ScrubJob *j) {
        assert(j);

        if (j->urgent || j->state == JOB_ENDED)
                return;
        if (j->state == JOB_QUEUED)
                TAILQ_REMOVE(job_queue(j), j, link);
        j->urgent = true;
        atomic_store(&j->task.urgent, true);
        if (j->state == JOB_QUEUED) {
                TAILQ_INSERT_TAIL(job_queue(j), j, link);
                scrubber_want_work(j->scrubber);
                return;
        }
        scrub_job_joined(j);
        job_hurry(j);
}

uint64_t scrub_job_offset(const ScrubJob *j) {
        return j->task.offset;
}

uint64_t scrub_job_size(const ScrubJob *j) {
        return j->task.size;
}

uint64_t scrub_job_done(const ScrubJob *j) {
        return atomic_load(&j->task.done);
}
