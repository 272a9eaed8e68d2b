/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scrub-fake.h"
#include <sched.h>
#include <time.h>

#include "scrubber-internal.h"

/* What the configuration limits. */

#define CHUNK (2 * MIB)

static uint64_t now_msec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}

/* However fast the machine, so much can not be written sooner. All threads of all jobs share the limit; only the last
 * chunk's time need not have passed. */
static void test_bandwidth(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new(
                        (ScrubConfig){.threads = 2, .max_threads = 4, .bandwidth = 16 * MIB});
        uint64_t t = now_msec();
        Record r[2] = {};

        record_submit(&r[0], b.scrubber, f, 0, 0, 8 * MIB, true);
        record_submit(&r[1], b.scrubber, f, 1, 8 * MIB, 8 * MIB, false);
        run_all(b.event, r, 2);
        t = now_msec() - t;
        assert_true(t >= 1000 - 1000 * CHUNK / (16 * MIB) - 1);
        for (size_t i = 0; i < 2; i++) {
                record_expect_clean(&r[i]);
                record_done(&r[i]);
        }
}

/* A thread that waits for its turn is called off at once: each chunk would take an hour here. */
static void test_cancel_at_a_byte_a_second(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(8 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b =
                        bench_new((ScrubConfig){.threads = 3, .max_threads = 3, .bandwidth = 1});
        Record r = {};

        record_submit(&r, b.scrubber, f, -1, 0, 8 * MIB, true);
        pump(b.event);
        scrub_job_cancel(r.job);
        run_all(b.event, &r, 1);
        assert_int_equal(r.r, -ECANCELED);
        record_done(&r);
}

typedef struct Seen {
        cpu_set_t want;
        atomic_uint right, wrong;
} Seen;

static void look_at_cpus(Fake *f, uint64_t offset, size_t size, bool writable) {
        Seen *seen = f->userdata;
        cpu_set_t now;

        if (sched_getaffinity(0, sizeof(now), &now) == 0 && CPU_EQUAL(&now, &seen->want))
                (void) atomic_fetch_add(&seen->right, 1);
        else
                (void) atomic_fetch_add(&seen->wrong, 1);
}

/* node_cpus NULL: the node is not known. */
static void scrub_on(const cpu_set_t *cpus, const cpu_set_t *node_cpus, const cpu_set_t *want) {
        _cleanup_(fake_freep) Fake *f = fake_new(4 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){
                        .threads = 2, .max_threads = 2, .cpus = cpus, .cpus_size = sizeof(*cpus)});
        Seen seen = {.want = *want};
        Record r = {};

        if (node_cpus)
                calls.cpus = *node_cpus;
        f->on_map = look_at_cpus;
        f->userdata = &seen;
        record_submit(&r, b.scrubber, f, node_cpus ? 0 : -1, 0, 4 * MIB, true);
        run_all(b.event, &r, 1);
        record_expect_clean(&r);
        record_done(&r);
        assert_true(atomic_load(&seen.right) > 0);
        assert_int_equal(atomic_load(&seen.wrong), 0);
}

static void test_cpus(void **state) {
        cpu_set_t all, first, last, none;
        size_t a = 0, z = CPU_SETSIZE - 1;

        assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
        if (CPU_COUNT(&all) < 2)
                skip();
        while (!CPU_ISSET(a, &all))
                a++;
        while (!CPU_ISSET(z, &all))
                z--;
        CPU_ZERO(&first);
        CPU_SET(a, &first);
        CPU_ZERO(&last);
        CPU_SET(z, &last);
        CPU_ZERO(&none);
        CPU_SET(CPU_SETSIZE - 1, &none);

        /* Without a node. */
        scrub_on(&first, NULL, &first);
        scrub_on(&last, NULL, &last);
        /* Those of the node among them. */
        scrub_on(&all, &last, &last);
        /* None is of the node: what was asked for counts. */
        scrub_on(&first, &last, &first);
        /* None is ours: as if none had been named. */
        if (!CPU_ISSET(CPU_SETSIZE - 1, &all))
                scrub_on(&none, &last, &last);
}

/* What is measured here: so much by so many threads. */
static struct Machine {
        uint64_t per_thread;
        uint64_t most;
        atomic_bool settled;
        unsigned reports; /* the event loop's */
        unsigned most_threads;
} machine;

bool __real_scrub_width_report(ScrubWidth *w, uint64_t bytes, uint64_t usec);
bool __wrap_scrub_width_report(ScrubWidth *w, uint64_t bytes, uint64_t usec);

bool __wrap_scrub_width_report(ScrubWidth *w, uint64_t bytes, uint64_t usec) {
        bool changed;

        assert_true(usec > 0 && usec < 3600 * USEC_PER_SEC);
        machine.reports++;
        machine.most_threads = MAX(machine.most_threads, w->threads);
        changed = __real_scrub_width_report(w, MIN(machine.per_thread * w->threads, machine.most),
                                            USEC_PER_SEC);
        if (w->phase == SCRUB_WIDTH_SETTLED)
                atomic_store(&machine.settled, true);
        return changed;
}

/* How many windows may be written to before the event loop has had another turn: however the threads of this test get their turns,
 * there is something left to write until it is settled. */
static struct Allowance {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned windows;
} allowance = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

#define WINDOWS_PER_TURN 4U

static void allow(void) {
        (void) pthread_mutex_lock(&allowance.lock);
        allowance.windows = WINDOWS_PER_TURN;
        (void) pthread_cond_broadcast(&allowance.changed);
        (void) pthread_mutex_unlock(&allowance.lock);
}

static void wait_until_allowed(Fake *f, uint64_t offset, size_t size, bool writable) {
        if (!writable)
                return;
        (void) pthread_mutex_lock(&allowance.lock);
        while (allowance.windows == 0 && !atomic_load(&machine.settled))
                (void) pthread_cond_wait(&allowance.changed, &allowance.lock);
        allowance.windows -= allowance.windows > 0;
        (void) pthread_mutex_unlock(&allowance.lock);
}

static void run_in_turns(const Bench *b, const Record *r) {
        while (r->finished == 0) {
                allow();
                assert_true(sd_event_run(b->event, 60 * USEC_PER_SEC) > 0);
        }
}

/* A node of two CPUs, whatever there is. */
static void have_two_cpus(const Bench *b) {
        assert_non_null(scrub_nodes_get(&b->scrubber->nodes, -1, 2));
}

/* Memory that is slow for as long as there is something to be measured. */
static void take_time(Fake *f, uint64_t offset, size_t size, bool writable) {
        if (writable && !atomic_load(&machine.settled))
                (void) nanosleep(&(struct timespec){.tv_nsec = 20 * USEC_PER_MSEC * 1000}, NULL);
}

/* Jobs, side by side, that last until it is known how many threads are right for each; what comes after has them at once. */
static void find_threads(uint64_t per_thread, uint64_t most, unsigned n_jobs, unsigned expected) {
        _cleanup_(fake_freep) Fake *f = fake_new(256 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.window = 2 * MIB, .max_threads = 4});
        uint64_t size = 256 * MIB / n_jobs;
        Record r[2] = {};

        machine = (struct Machine){.per_thread = per_thread, .most = most};
        have_two_cpus(&b);
        f->on_map = wait_until_allowed;
        for (unsigned i = 0; i < n_jobs; i++)
                record_submit(r + i, b.scrubber, f, -1, i * size, size, true);
        for (unsigned i = 0; i < n_jobs; i++)
                run_in_turns(&b, r + i);
        for (unsigned i = 0; i < n_jobs; i++) {
                record_expect_clean(r + i);
                record_done(r + i);
        }
        assert_true(machine.reports >= 6);
        assert_int_equal(machine.most_threads, 2);
        assert_int_equal(atomic_load(&calls.threads), 2 * n_jobs);

        record_submit(r, b.scrubber, f, -1, 0, 16 * MIB, true);
        run_all(b.event, r, 1);
        record_done(r);
        assert_int_equal(atomic_load(&calls.threads), 2 * n_jobs + expected);
        /* In the background as few as before. */
        record_submit(r, b.scrubber, f, -1, 0, 16 * MIB, false);
        run_all(b.event, r, 1);
        record_done(r);
        assert_int_equal(atomic_load(&calls.threads), 2 * n_jobs + expected + 1);
        machine = (struct Machine){};
}

static void test_finds_threads(void **state) {
        find_threads(GIB, 2 * GIB, 1, 2);
        find_threads(GIB, GIB, 1, 1);
        find_threads(GIB, 2 * GIB, 2, 2);
        find_threads(GIB, GIB, 2, 1);
}

/* One after the other, none long enough to be measured: together they are, as long as there is no pause. */
static void test_measures_pieces(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(256 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.window = 2 * MIB, .max_threads = 4});
        Record r[32] = {};

        have_two_cpus(&b);
        machine = (struct Machine){.per_thread = GIB, .most = GIB};
        f->on_map = take_time;
        for (size_t i = 0; i < ELEMENTSOF(r); i++)
                record_submit(r + i, b.scrubber, f, -1, i * 8 * MIB, 8 * MIB, true);
        run_all(b.event, r, ELEMENTSOF(r));
        for (size_t i = 0; i < ELEMENTSOF(r); i++) {
                record_expect_clean(r + i);
                record_done(r + i);
        }
        assert_true(machine.reports > 0);
        machine = (struct Machine){};
}

/* What is not at full duty, or not alone, or told to be so fast, says nothing; and who says how many gets so many. */
static void test_does_not_measure(void **state) {
        const ScrubConfig configs[] = {{.threads = 1}, {.bandwidth = 64 * MIB}, {}};

        for (size_t i = 0; i < ELEMENTSOF(configs); i++) {
                _cleanup_(fake_freep) Fake *f = fake_new(32 * MIB, 64 * KIB);
                _cleanup_bench_ Bench b = bench_new(configs[i]);
                bool urgent = configs[i].threads > 0 || configs[i].bandwidth > 0;
                Stop stop = {.gate = GATE_CLOSED, .n = 1};
                Record r = {};

                if (configs[i].threads == 0)
                        have_two_cpus(&b);
                machine = (struct Machine){.per_thread = GIB, .most = GIB};
                f->on_map = at_stop;
                f->userdata = &stop;
                record_submit(&r, b.scrubber, f, -1, 0, 32 * MIB, urgent);
                pump(b.event);
                gate_await(&stop.gate, 1);
                /* The timer's, twice: to begin, and to measure. */
                for (unsigned k = 0; k < 2; k++)
                        assert_true(sd_event_run(b.event, 10 * USEC_PER_SEC) > 0);
                gate_open(&stop.gate);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
                record_done(&r);
                assert_int_equal(machine.reports, 0);
                assert_int_equal(atomic_load(&calls.threads), 1);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_bandwidth),
                        cmocka_unit_test(test_cancel_at_a_byte_a_second),
                        cmocka_unit_test(test_cpus),
                        cmocka_unit_test(test_finds_threads),
                        cmocka_unit_test(test_measures_pieces),
                        cmocka_unit_test(test_does_not_measure),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
