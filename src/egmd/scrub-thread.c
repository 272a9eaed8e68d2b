/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>

#include "log.h"
#include "scrub-thread.h"
#include "sigbus.h"
#include "thread-util.h"
#include "zero.h"

/* Background threads work this long, then rest as long: memset's rate at an eighth of its harm to
 * those who share the cache, and rests long enough for the timer's slack not to matter. */
#define SLICE_NSEC (2 * USEC_PER_MSEC * NSEC_PER_USEC)
/* Every how many chunks one page is read back: with chunks of 2 MiB that is one in 64 MiB. What fails does so by the
 * mapping, and any page tells; more of them would tell no more. */
#define SAMPLE_CHUNKS 32U

#define NSEC_PER_SEC (USEC_PER_SEC * NSEC_PER_USEC)
#define CHUNK_NSEC_MAX (3600 * NSEC_PER_SEC) /* however little bandwidth it is to use */

/* A mapped piece of the task, shared by the threads with a chunk in it. */
struct ScrubWindow {
        ScrubWindow *next;
        uint64_t offset; /* in the region */
        uint64_t size;
        unsigned users;
        atomic_bool followed; /* the next one is mapped, or has been */
        Window map;
};

uint64_t scrub_task_first_chunk(const ScrubTask *task) {
        return task->offset / task->chunk;
}

uint64_t scrub_task_end_chunk(const ScrubTask *task) {
        return (task->offset + task->size - 1) / task->chunk + 1;
}

bool scrub_task_fail(ScrubTask *task, int r) {
        int expected = 0;

        assert(r < 0);
        return atomic_compare_exchange_strong(&task->result, &expected, r);
}

static void inbox_push(ScrubInbox *inbox, ScrubMessage *m) {
        m->next = atomic_load_explicit(&inbox->head, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&inbox->head, &m->next, m,
                                                      memory_order_release, memory_order_relaxed))
                ;
        if (eventfd_write(inbox->fd, 1) < 0)
                log_error_errno(-errno, "Failed to wake the event loop from a scrub: %m");
}

ScrubMessage *scrub_inbox_take(ScrubInbox *inbox) {
        ScrubMessage *m = atomic_exchange_explicit(&inbox->head, NULL, memory_order_acquire);
        ScrubMessage *oldest = NULL;

        while (m) {
                ScrubMessage *next = m->next;

                m->next = oldest;
                oldest = m;
                m = next;
        }
        return oldest;
}

static uint64_t nsec_now(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}

static uint64_t thread_random(ScrubThread *t) {
        uint64_t x = t->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
}

static int thread_set_policy(int policy) {
        return sched_setscheduler(0, policy, &(struct sched_param){}) < 0 ? -errno : 0;
}

/* Mapping and unmapping hold the address space's lock for a millisecond, and the event loop may
 * need it to grow its heap: not a thing to do under SCHED_IDLE, where that millisecond can take a
 * second. */
static void thread_hurry(ScrubThread *t) {
        if (t->background)
                (void) thread_set_policy(SCHED_OTHER);
}

static void thread_relax(ScrubThread *t) {
        if (t->background && !atomic_load(&t->task->urgent))
                (void) thread_set_policy(SCHED_IDLE);
}

static int thread_map(ScrubThread *t, uint64_t offset, uint64_t size, bool writable, Window *ret) {
        int r;

        thread_hurry(t);
        r = provider_map(t->task->provider, offset, size, writable, ret);
        thread_relax(t);
        return r;
}

static void thread_unmap(ScrubThread *t, Window *w) {
        thread_hurry(t);
        provider_unmap(t->task->provider, w);
        thread_relax(t);
}

static void thread_drop_window(ScrubThread *t, ScrubWindow *w) {
        ScrubTask *task = t->task;
        unsigned users;

        if (!w)
                return;
        (void) pthread_mutex_lock(&task->lock);
        users = --w->users;
        if (users == 0)
                for (ScrubWindow **i = &task->windows; *i; i = &(*i)->next)
                        if (*i == w) {
                                *i = w->next;
                                break;
                        }
        (void) pthread_mutex_unlock(&task->lock);
        if (users > 0)
                return;
        thread_unmap(t, &w->map);
        free(w);
}

static int thread_map_window(ScrubThread *t, uint64_t offset, ScrubWindow **ret) {
        ScrubTask *task = t->task;
        uint64_t end = task->offset + task->size, start = task->offset;
        _cleanup_free_ ScrubWindow *w = NULL;
        int r;

        /* Only what is ours to write: a stray store next to it would be another tenant's. */
        if (task->window > 0) {
                uint64_t at = offset - offset % task->window;

                start = MAX(start, at);
                end = end - at > task->window ? at + task->window : end;
        }
        w = malloc(sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (ScrubWindow){.offset = start, .size = end - start, .next = task->windows};
        r = thread_map(t, start, end - start, true, &w->map);
        if (r < 0)
                return r;
        for (ScrubWindow *i = task->windows; i; i = i->next)
                if (i->offset + i->size == start)
                        atomic_store(&i->followed, true);
        task->windows = w;
        *ret = TAKE_PTR(w);
        return 0;
}

static bool window_covers(const ScrubWindow *w, uint64_t offset) {
        return w && offset >= w->offset && offset - w->offset < w->size;
}

/* The window with offset, for one that holds the lock. */
static int thread_get_window_locked(ScrubThread *t, uint64_t offset, ScrubWindow **ret) {
        ScrubWindow *w;
        int r = 0;

        for (w = t->task->windows; w; w = w->next)
                if (window_covers(w, offset))
                        break;
        if (!w)
                r = thread_map_window(t, offset, &w);
        if (r < 0)
                return r;
        w->users++;
        *ret = w;
        return 0;
}

/* The lock is held while mapping: whoever wants the same one has to wait for it anyway. */
static int thread_get_window(ScrubThread *t, uint64_t offset, ScrubWindow **ret) {
        int r;

        (void) pthread_mutex_lock(&t->task->lock);
        r = thread_get_window_locked(t, offset, ret);
        (void) pthread_mutex_unlock(&t->task->lock);
        return r;
}

static int thread_take_window(ScrubThread *t, uint64_t offset) {
        int r = 0;

        if (window_covers(t->window, offset))
                return 0;
        thread_drop_window(t, TAKE_PTR(t->window));
        if (window_covers(t->ahead, offset))
                t->window = TAKE_PTR(t->ahead);
        else
                r = thread_get_window(t, offset, &t->window);
        /* Looked at with each window: a library that installs a handler of its own would cost us the daemon. */
        return r < 0 ? r : sigbus_init();
}

/* All threads come to a window's end together, and would all wait for one of them to map the next. So one maps it while
 * the others are at work in the last half of this. */
static int thread_look_ahead(ScrubThread *t, uint64_t offset) {
        ScrubWindow *w = t->window;
        uint64_t end = w->offset + w->size;
        int r = 0;

        if (!atomic_load(&t->task->ahead) || t->ahead || end >= t->task->offset + t->task->size ||
            offset - w->offset < w->size / 2 || atomic_load(&w->followed))
                return 0;
        /* Under the lock: who decides to map it and is then not given a processor would map it when the others are through
         * with it. But whoever would have to wait for the lock has better things to do: most likely it is being mapped. */
        if (pthread_mutex_trylock(&t->task->lock) != 0)
                return 0;
        if (!atomic_load(&w->followed))
                r = thread_get_window_locked(t, end, &t->ahead);
        (void) pthread_mutex_unlock(&t->task->lock);
        return r;
}

typedef struct Span {
        void *address;
        size_t size;
        bool zero;
} Span;

static void span_write(void *userdata) {
        Span *s = userdata;

        zero_span(s->address, s->size);
}

static void span_check(void *userdata) {
        Span *s = userdata;

        s->zero = zero_check(s->address, s->size);
}

static int span_guarded(Span *s, void (*fn)(void *)) {
        return sigbus_guard_run_ready(fn, s, s->address, s->size, NULL);
}

static void thread_mark_bad(ScrubThread *t, uint64_t in_chunk) {
        t->bad[in_chunk / t->task->provider->granule] = true;
        t->any_bad = true;
}

static size_t page_size(void) {
        return (size_t) sysconf(_SC_PAGESIZE);
}

/* A chunk at once; where that fails page by page, as nobody knows in which order memset() had got
 * how far. */
static int thread_write(ScrubThread *t, uint8_t *p, size_t size) {
        int r;

        r = span_guarded(&(Span){.address = p, .size = size}, span_write);
        for (size_t i = 0, page = page_size(); r > 0 && i < size; i += page) {
                int k = span_guarded(&(Span){.address = p + i, .size = page}, span_write);

                if (k < 0)
                        return k;
                if (k > 0)
                        thread_mark_bad(t, i);
        }
        zero_fence();
        return r < 0 ? r : 0;
}

/* Reads [at, at + size) of a chunk back, mapped at p. */
static int thread_read(ScrubThread *t, const uint8_t *p, uint64_t at, size_t size) {
        Span s = {.address = (void *) p, .size = size};
        size_t page = page_size();
        int r;

        if (!t->any_bad) {
                r = span_guarded(&s, span_check);
                if (r <= 0)
                        return r < 0 ? r : s.zero ? 0 : -EBADMSG;
        }
        for (size_t i = 0; i < size; i += page) {
                if (t->bad[(at + i) / t->task->provider->granule])
                        continue;
                s = (Span){.address = (void *) (p + i), .size = page};
                r = span_guarded(&s, span_check);
                if (r < 0)
                        return r;
                if (r > 0)
                        thread_mark_bad(t, at + i);
                else if (!s.zero)
                        return -EBADMSG;
        }
        return 0;
}

/* Looks through a mapping of its own: what got lost on the way to the memory reads back well enough
 * through the one that wrote. Where offsets don't work a second mapping would be of the whole
 * region: too dear. */
static int thread_verify(ScrubThread *t, uint64_t chunk, uint64_t offset, uint8_t *p, size_t size) {
        ScrubTask *task = t->task;
        Window w = {};
        uint64_t at = 0;
        int r;

        if (task->verify == SCRUB_VERIFY_SAMPLES) {
                size_t page = page_size();

                if (chunk % SAMPLE_CHUNKS != 0 && chunk != scrub_task_first_chunk(task) &&
                    chunk != scrub_task_end_chunk(task) - 1)
                        return 0;
                at = thread_random(t) % (size / page) * page;
                size = page;
        }
        if (task->provider->offsets) {
                r = thread_map(t, offset + at, size, false, &w);
                if (r < 0)
                        return r;
                p = w.address;
        } else
                p += at;
        r = thread_read(t, p, at, size);
        if (task->provider->offsets)
                thread_unmap(t, &w);
        if (r == -EBADMSG)
                log_error("%s: not all of the %zu KiB at 0x%" PRIx64
                          " read back as the zeros just written: "
                          "the memory or its driver fails, or somebody still writes to it.",
                          task->provider->name, size / (size_t) KIB, offset + at);
        return r;
}

/* Runs of bad granules of a chunk. */
static int thread_report(ScrubThread *t, uint64_t offset, size_t size) {
        uint64_t granule = t->task->provider->granule;
        size_t n = size / granule, end;

        for (size_t i = 0; t->any_bad && i < n; i = end) {
                ScrubMessage *m;

                for (end = i; end < n && t->bad[end]; end++)
                        ;
                if (end == i) {
                        end++;
                        continue;
                }
                m = malloc(sizeof(*m));
                if (!m)
                        return -ENOMEM;
                *m = (ScrubMessage){.task = t->task,
                                    .offset = offset + i * granule,
                                    .size = (end - i) * granule};
                inbox_push(t->task->inbox, m);
        }
        return 0;
}

static int thread_scrub_chunk(ScrubThread *t, uint64_t chunk) {
        ScrubTask *task = t->task;
        uint64_t offset = MAX(task->offset, chunk * task->chunk), end = task->offset + task->size;
        size_t size = MIN(end - offset, task->chunk - offset % task->chunk);
        uint8_t *p;
        int r;

        r = thread_take_window(t, offset);
        if (r >= 0)
                r = thread_look_ahead(t, offset);
        if (r < 0)
                return log_error_errno(r, "%s: failed to map 0x%" PRIx64 " for scrubbing: %m",
                                       task->provider->name, offset);
        if (t->any_bad) {
                memset(t->bad, 0, task->chunk / task->provider->granule);
                t->any_bad = false;
        }
        p = (uint8_t *) t->window->map.address + (offset - t->window->offset);
        r = thread_write(t, p, size);
        if (r < 0)
                return r;
        r = thread_verify(t, chunk, offset, p, size);
        if (r < 0)
                return r;
        r = thread_report(t, offset, size);
        if (r < 0)
                return r;
        (void) atomic_fetch_add(&task->done, size);
        return 0;
}

/* True after a rest, when things may be different. */
static bool thread_rest(ScrubThread *t) {
        uint64_t cpu = nsec_now(CLOCK_THREAD_CPUTIME_ID), until;

        if (cpu - t->rested < SLICE_NSEC)
                return false;
        until = nsec_now(CLOCK_MONOTONIC) + (cpu - t->rested);
        (void) sem_clockwait(&t->wake, CLOCK_MONOTONIC,
                             &(struct timespec){
                                             .tv_sec = (time_t) (until / NSEC_PER_SEC),
                                             .tv_nsec = (long) (until % NSEC_PER_SEC),
                             });
        t->rested = nsec_now(CLOCK_THREAD_CPUTIME_ID);
        return true;
}

static bool thread_goes_on(ScrubThread *t) {
        for (;;) {
                if (atomic_load(&t->task->result) != 0 || atomic_load(&t->retired))
                        return false;
                if (!t->background || atomic_load(&t->task->urgent))
                        return true;
                if (atomic_load(&t->task->paused))
                        (void) sem_wait(&t->wake);
                else if (!thread_rest(t))
                        return true;
        }
}

/* When a chunk may begin: each takes its time from those that come after it. */
static uint64_t pace_take(ScrubPace *p, uint64_t size) {
        uint64_t cost = (uint64_t) MIN((double) size / (double) p->bandwidth *
                                                       (double) NSEC_PER_SEC,
                                       (double) CHUNK_NSEC_MAX);
        uint64_t now = nsec_now(CLOCK_MONOTONIC), next = atomic_load(&p->next), start;

        do
                start = MAX(next, now);
        while (!atomic_compare_exchange_weak(&p->next, &next, start + cost));
        return start;
}

/* False when there is no more to do meanwhile. */
static bool thread_keep_pace(ScrubThread *t) {
        ScrubTask *task = t->task;
        uint64_t due;

        if (task->pace->bandwidth == 0)
                return true;
        due = pace_take(task->pace, MIN(task->chunk, task->size));
        while (nsec_now(CLOCK_MONOTONIC) < due) {
                if (atomic_load(&task->result) != 0 || atomic_load(&t->retired))
                        return false;
                (void) sem_clockwait(&t->wake, CLOCK_MONOTONIC,
                                     &(struct timespec){
                                                     .tv_sec = (time_t) (due / NSEC_PER_SEC),
                                                     .tv_nsec = (long) (due % NSEC_PER_SEC),
                                     });
        }
        return true;
}

static void *thread_main(void *p) {
        ScrubThread *t = p;
        ScrubTask *task = t->task;
        ScrubInbox *inbox = task->inbox;
        int r = 0;

        if (task->cpus && sched_setaffinity(0, task->cpus_size, task->cpus) < 0)
                log_debug_errno(-errno, "%s: failed to bind a thread to the memory's node: %m",
                                task->provider->name);
        if (t->background)
                r = thread_set_policy(SCHED_IDLE);
        if (r < 0)
                log_debug_errno(r, "%s: failed to go to SCHED_IDLE: %m", task->provider->name);

        r = 0;
        while (r >= 0 && thread_goes_on(t) && thread_keep_pace(t)) {
                uint64_t chunk = atomic_fetch_add(&task->next, 1);

                if (chunk >= scrub_task_end_chunk(task))
                        break;
                r = thread_scrub_chunk(t, chunk);
                if (r < 0)
                        (void) scrub_task_fail(task, r);
        }
        thread_drop_window(t, TAKE_PTR(t->window));
        thread_drop_window(t, TAKE_PTR(t->ahead));

        t->ended = (ScrubMessage){.task = task, .ended = t};
        inbox_push(inbox, &t->ended);
        return NULL;
}

int scrub_thread_start(ScrubTask *task, bool background, ScrubThread **ret) {
        size_t n = task->chunk / task->provider->granule;
        ScrubThread *t;
        int r;

        t = calloc(1, sizeof(*t) + n * sizeof(bool));
        if (!t)
                return -ENOMEM;
        t->task = task;
        t->background = background;
        (void) sem_init(&t->wake, 0, 0);
        if (getrandom(&t->random, sizeof(t->random), GRND_NONBLOCK) < 0)
                t->random = nsec_now(CLOCK_MONOTONIC);
        r = thread_start(thread_main, t, &t->id);
        if (r < 0) {
                (void) scrub_thread_free(t);
                return r;
        }
        (void) pthread_setname_np(t->id, "scrub");
        *ret = t;
        return 0;
}

void scrub_thread_wake(ScrubThread *t) {
        (void) sem_post(&t->wake);
}

void scrub_thread_raise(ScrubThread *t) {
        /* Coming back from SCHED_IDLE takes CAP_SYS_NICE or RLIMIT_NICE. */
        int r = -pthread_setschedparam(t->id, SCHED_OTHER, &(struct sched_param){});

        if (r < 0)
                log_debug_errno(r, "Failed to raise a scrubbing thread's priority: %m");
}

void scrub_thread_retire(ScrubThread *t) {
        atomic_store(&t->retired, true);
}

bool scrub_thread_reap(ScrubThread *t) {
        if (pthread_tryjoin_np(t->id, NULL) != 0)
                return false;
        (void) scrub_thread_free(t);
        return true;
}

void scrub_thread_join(ScrubThread *t) {
        (void) pthread_join(t->id, NULL);
}

ScrubThread *scrub_thread_free(ScrubThread *t) {
        if (!t)
                return NULL;
        (void) sem_destroy(&t->wake);
        return mfree(t);
}
