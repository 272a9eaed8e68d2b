/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scrub-fake.h"
#include <sched.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <time.h>

#include "fd-util.h"
#include "run-until.h"

struct Calls calls = {.threads_left = -1};

const Topology *const fake_topology = (const Topology *) &calls;

#define SLICE_NSEC (2 * USEC_PER_MSEC * NSEC_PER_USEC)

static _Thread_local uint64_t burnt_until, burnt; /* monotonic, nsec */
static _Thread_local uint64_t rested;             /* CPU time at the last rest's end, nsec */
static _Thread_local bool told_idle;

static uint64_t nsec_now(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

int __real_pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *p);
int __wrap_pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *p);
int __real_pthread_setschedparam(pthread_t id, int policy, const struct sched_param *param);
int __wrap_pthread_setschedparam(pthread_t id, int policy, const struct sched_param *param);
int __real_sched_setscheduler(pid_t pid, int policy, const struct sched_param *param);
int __wrap_sched_setscheduler(pid_t pid, int policy, const struct sched_param *param);
int __real_sem_wait(sem_t *sem);
int __wrap_sem_wait(sem_t *sem);
int __real_sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *until);
int __wrap_sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *until);
int __wrap_topology_cpu_node(const Topology *t, int node);
const cpu_set_t *__wrap_topology_cpus(const Topology *t, int node, size_t *ret_size);

int __wrap_pthread_create(pthread_t *id, const pthread_attr_t *attr, void *(*fn)(void *), void *p) {
        if (atomic_load(&calls.threads_left) == 0)
                return EAGAIN;
        if (atomic_load(&calls.threads_left) > 0)
                atomic_fetch_sub(&calls.threads_left, 1);
        atomic_fetch_add(&calls.threads, 1);
        return __real_pthread_create(id, attr, fn, p);
}

int __wrap_pthread_setschedparam(pthread_t id, int policy, const struct sched_param *param) {
        atomic_fetch_add(&calls.raised, 1);
        if (atomic_load(&calls.no_return) && policy != SCHED_IDLE)
                return EPERM;
        return __real_pthread_setschedparam(id, policy, param);
}

int __wrap_sched_setscheduler(pid_t pid, int policy, const struct sched_param *param) {
        if (policy == SCHED_IDLE)
                atomic_fetch_add(&calls.idle, 1);
        else if (atomic_load(&calls.no_return)) {
                errno = EPERM;
                return -1;
        }
        told_idle = policy == SCHED_IDLE;
        return atomic_load(&calls.really_idle) ? __real_sched_setscheduler(pid, policy, param) : 0;
}

bool calls_is_idle(void) {
        return atomic_load(&calls.really_idle) ? sched_getscheduler(0) == SCHED_IDLE : told_idle;
}

int __wrap_sem_wait(sem_t *sem) {
        if (calls.paused)
                gate_pass(calls.paused);
        return __real_sem_wait(sem);
}

int __wrap_sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *until) {
        uint64_t end = (uint64_t) until->tv_sec * 1000000000 + (uint64_t) until->tv_nsec;
        uint64_t worked = nsec_now(CLOCK_THREAD_CPUTIME_ID) - rested;
        int r;

        atomic_fetch_add(&calls.rests, 1);
        if (end < burnt_until + burnt)
                atomic_fetch_add(&calls.rests_short, 1);
        if (worked < SLICE_NSEC)
                atomic_fetch_add(&calls.rests_early, 1);
        if (end > nsec_now(CLOCK_MONOTONIC) + worked)
                atomic_fetch_add(&calls.rests_long, 1);
        if (!calls_is_idle())
                atomic_fetch_add(&calls.rests_loud, 1);
        burnt = 0;
        r = __real_sem_clockwait(sem, clock, until);
        rested = nsec_now(CLOCK_THREAD_CPUTIME_ID);
        return r;
}

int __wrap_topology_cpu_node(const Topology *t, int node) {
        assert_ptr_equal(t, fake_topology);
        return node < 0 ? -1 : node + 10;
}

const cpu_set_t *__wrap_topology_cpus(const Topology *t, int node, size_t *ret_size) {
        assert_ptr_equal(t, fake_topology);
        if (node < 10 || CPU_COUNT(&calls.cpus) == 0)
                return NULL;
        *ret_size = sizeof(calls.cpus);
        return &calls.cpus;
}

void calls_reset(void) {
        atomic_store(&calls.threads_left, -1);
        atomic_store(&calls.threads, 0);
        atomic_store(&calls.no_return, false);
        atomic_store(&calls.really_idle, false);
        atomic_store(&calls.idle, 0);
        atomic_store(&calls.raised, 0);
        atomic_store(&calls.rests, 0);
        atomic_store(&calls.rests_short, 0);
        atomic_store(&calls.rests_early, 0);
        atomic_store(&calls.rests_long, 0);
        atomic_store(&calls.rests_loud, 0);
        calls.paused = NULL;
        CPU_ZERO(&calls.cpus);
}

void calls_burn(uint64_t usec) {
        uint64_t start = nsec_now(CLOCK_THREAD_CPUTIME_ID);

        while (nsec_now(CLOCK_THREAD_CPUTIME_ID) - start < usec * 1000)
                ;
        burnt += usec * 1000;
        burnt_until = nsec_now(CLOCK_MONOTONIC);
}

void gate_pass(Gate *g) {
        (void) pthread_mutex_lock(&g->lock);
        g->arrived++;
        (void) pthread_cond_broadcast(&g->changed);
        while (!g->open)
                (void) pthread_cond_wait(&g->changed, &g->lock);
        (void) pthread_mutex_unlock(&g->lock);
}

void gate_await(Gate *g, unsigned n) {
        struct timespec until;
        int r = 0;

        (void) clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += PATIENCE_SEC;
        (void) pthread_mutex_lock(&g->lock);
        while (g->arrived < n && r == 0)
                r = pthread_cond_clockwait(&g->changed, &g->lock, CLOCK_MONOTONIC, &until);
        (void) pthread_mutex_unlock(&g->lock);
        assert_int_equal(r, 0);
}

void gate_open(Gate *g) {
        (void) pthread_mutex_lock(&g->lock);
        g->open = true;
        (void) pthread_cond_broadcast(&g->changed);
        (void) pthread_mutex_unlock(&g->lock);
}

/* Puts another mapping over one page of a window. */
static bool overlay(uint8_t *page, int fd, off_t offset, int prot, int flags) {
        size_t size = (size_t) sysconf(_SC_PAGESIZE);

        return mmap(page, size, prot, flags | MAP_FIXED, fd, offset) != MAP_FAILED;
}

static void *fake_mmap(Provider *p, uint64_t offset, size_t size, int prot) {
        Fake *f = CONTAINER_OF(p, Fake, provider);
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        bool writable = prot & PROT_WRITE;
        uint8_t *base;

        if (atomic_fetch_add(&f->n_maps, 1) + 1 == f->fail_at) {
                errno = ENOMEM;
                return MAP_FAILED;
        }
        if (f->on_map)
                f->on_map(f, offset, size, writable);
        base = mmap(NULL, size, prot, MAP_SHARED, p->fd, (off_t) offset);
        if (base == MAP_FAILED)
                return base;
        atomic_fetch_add(&f->n_mapped, 1);
        for (size_t i = 0; i < size / page; i++) {
                size_t n = offset / page + i;

                if (f->lossy[n] && writable &&
                    !overlay(base + i * page, p->fd, (off_t) (n * page), prot, MAP_PRIVATE))
                        abort();
                if (f->bad[n] && (f->bad_prot & (writable ? PROT_WRITE : PROT_READ)) &&
                    !overlay(base + i * page, f->hole, 0, prot, MAP_SHARED))
                        abort();
        }
        return base;
}

static const ProviderVTable fake_vtable = {.name = "fake", .mmap = fake_mmap};

/* How many mappings of its memory there are. */
static unsigned fake_count_mappings(const Fake *f) {
        _cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "re");
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;
        unsigned n = 0;

        assert_non_null(maps);
        while (getline(&line, &allocated, maps) > 0)
                n += strstr(line, f->memory) != NULL;
        return n;
}

Fake *fake_new(uint64_t size, uint64_t granule) {
        static unsigned number = 0;
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        Fake *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void) snprintf(f->memory, sizeof(f->memory), "fake-%u-", number++);
        f->provider = (Provider){
                        .vtable = &fake_vtable,
                        .name = strdup("egm4"),
                        .size = size,
                        .granule = granule,
                        .fd = memfd_create(f->memory, MFD_CLOEXEC),
                        .offsets = true,
        };
        f->bad_prot = PROT_READ | PROT_WRITE;
        f->bad = calloc(size / page, sizeof(bool));
        f->lossy = calloc(size / page, sizeof(bool));
        f->hole = memfd_create("hole", MFD_CLOEXEC);
        assert_non_null(f->provider.name);
        assert_non_null(f->bad);
        assert_non_null(f->lossy);
        assert_true(f->provider.fd >= 0 && f->hole >= 0);
        assert_int_equal(ftruncate(f->provider.fd, (off_t) size), 0);
        f->view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f->provider.fd, 0);
        assert_ptr_not_equal(f->view, MAP_FAILED);
        memset(f->view, FAKE_PATTERN, size);
        return f;
}

Fake *fake_free(Fake *f) {
        if (!f)
                return NULL;
        (void) munmap(f->view, f->provider.size);
        assert_int_equal(fake_count_mappings(f), 0);
        (void) safe_close(f->provider.fd);
        (void) safe_close(f->hole);
        free(f->provider.name);
        free(f->bad);
        free(f->lossy);
        return mfree(f);
}

bool fake_holds(const Fake *f, uint64_t offset, uint64_t size, uint8_t value, bool skip_bad) {
        size_t page = (size_t) sysconf(_SC_PAGESIZE);

        assert_true(offset % page == 0 && size % page == 0);
        for (uint64_t at = offset; at < offset + size; at += page) {
                const uint8_t *p = f->view + at;

                if (p[0] != (skip_bad && f->bad[at / page] ? FAKE_PATTERN : value) ||
                    memcmp(p, p + 1, page - 1) != 0)
                        return false;
        }
        return true;
}

static void record_progress(ScrubJob *j, uint64_t done, void *userdata) {
        Record *r = userdata;

        assert_ptr_equal(j, r->job);
        assert_int_equal(r->finished, 0);
        assert_true(done > r->progress);
        assert_true(done <= r->size);
        assert_true(done <= scrub_job_done(j));
        r->progress = done;
        r->n_progress++;
}

static void record_bad(ScrubJob *j, uint64_t offset, uint64_t size, void *userdata) {
        Record *r = userdata;
        uint64_t granule = r->fake->provider.granule;

        assert_ptr_equal(j, r->job);
        assert_int_equal(r->finished, 0);
        assert_true(size > 0 && offset % granule == 0 && size % granule == 0);
        assert_true(offset >= r->offset && size <= r->size);
        assert_true(offset - r->offset <= r->size - size);
        for (uint64_t i = offset / granule; i < (offset + size) / granule; i++) {
                assert_false(r->bad[i]);
                r->bad[i] = true;
                r->n_bad++;
        }
}

static void record_finished(ScrubJob *j, int ret, void *userdata) {
        static unsigned order = 0;
        Record *r = userdata;

        assert_ptr_equal(j, r->job);
        assert_int_equal(r->finished, 0);
        assert_true(ret <= 0);
        assert_int_equal(scrub_job_offset(j), r->offset);
        assert_int_equal(scrub_job_size(j), r->size);
        if (ret == 0)
                assert_int_equal(scrub_job_done(j), r->size);
        r->finished++;
        r->order = ++order;
        r->r = ret;
        r->job = NULL;
        /* A job that is over can still be named until this returns. */
        scrub_job_cancel(j);
        scrub_job_set_urgent(j);
}

const ScrubOps record_ops = {
                .progress = record_progress,
                .bad = record_bad,
                .finished = record_finished,
};

void record_done(Record *r) {
        free(r->bad);
        *r = (Record){};
}

void record_submit(Record *r, Scrubber *s, Fake *f, int node, uint64_t offset, uint64_t size,
                   bool urgent) {
        *r = (Record){.fake = f, .offset = offset, .size = size};
        r->bad = calloc(f->provider.size / f->provider.granule, sizeof(bool));
        assert_non_null(r->bad);
        assert_int_equal(scrubber_submit(s, &f->provider, node, offset, size, urgent, &record_ops,
                                         r, &r->job),
                         0);
        assert_int_equal(r->finished, 0);
}

void record_expect_clean(const Record *r) {
        const Fake *f = r->fake;
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        uint64_t granule = f->provider.granule;

        assert_int_equal(r->finished, 1);
        assert_int_equal(r->r, 0);
        assert_true(fake_holds(f, r->offset, r->size, 0, true));
        for (uint64_t at = r->offset; at < r->offset + r->size; at += granule) {
                bool bad = false;

                for (uint64_t i = at / page; i < (at + granule) / page; i++)
                        bad = bad || f->bad[i];
                assert_int_equal(r->bad[at / granule], bad);
        }
}

sd_event *test_event(void) {
        sd_event *e;

        assert_true(sd_event_new(&e) >= 0);
        return e;
}

void pump(sd_event *e) {
        int r;

        do {
                r = sd_event_run(e, 0);
                assert_true(r >= 0);
        } while (r > 0);
}

void run_all(sd_event *e, Record *records, size_t n) {
        for (size_t i = 0; i < n; i++)
                while (records[i].finished == 0)
                        assert_true(sd_event_run(e, PATIENCE_SEC * USEC_PER_SEC) > 0);
}

Bench bench_new(ScrubConfig config) {
        Bench b = {.event = test_event()};

        calls_reset();
        config.topology = fake_topology;
        assert_int_equal(scrubber_new(b.event, &config, &b.scrubber), 0);
        return b;
}

void bench_done(Bench *b) {
        b->scrubber = scrubber_free(b->scrubber);
        b->event = sd_event_unref(b->event);
        calls_reset();
}

void at_gate(Fake *f, uint64_t offset, size_t size, bool writable) {
        if (writable)
                gate_pass(f->userdata);
}

void at_stop(Fake *f, uint64_t offset, size_t size, bool writable) {
        Stop *s = f->userdata;

        if (!writable)
                return;
        s->last = pthread_self();
        if (!calls_is_idle())
                atomic_fetch_add(&s->loud, 1);
        if (atomic_fetch_add(&s->windows, 1) + 1 == s->n)
                gate_pass(&s->gate);
}
