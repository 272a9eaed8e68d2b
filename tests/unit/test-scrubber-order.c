/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scrub-fake.h"
#include "scrubber-internal.h"
#include <sched.h>

/* Who goes first, with how many threads, at which priority and where. */

#define CHUNK (2 * MIB)

static void test_limits(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(32 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 2, .max_threads = 3});
        Gate gate = GATE_CLOSED;
        Record r[4] = {};

        f->on_map = at_gate;
        f->userdata = &gate;
        for (size_t i = 0; i < 4; i++)
                record_submit(&r[i], b.scrubber, f, (int) i, i * 8 * MIB, 8 * MIB, true);
        pump(b.event);
        assert_int_equal(atomic_load(&calls.threads), 3);
        gate_open(&gate);
        run_all(b.event, r, 4);
        for (size_t i = 0; i < 4; i++) {
                record_expect_clean(&r[i]);
                record_done(&r[i]);
        }
}

/* In the background: one per node, or region where the node is not known. */
static void test_one_background_job_per_node(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB), *g = fake_new(MIB, 64 * KIB),
                                   *h = fake_new(MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .max_threads = 100});
        Gate gate = GATE_CLOSED;
        Record r[8] = {};

        f->on_map = g->on_map = h->on_map = at_gate;
        f->userdata = g->userdata = h->userdata = &gate;
        record_submit(&r[0], b.scrubber, f, 0, 0, MIB, false);
        record_submit(&r[1], b.scrubber, f, 0, MIB, MIB, false);
        record_submit(&r[2], b.scrubber, f, 1, 2 * MIB, MIB, false);
        record_submit(&r[3], b.scrubber, f, 1, 3 * MIB, MIB, false);
        record_submit(&r[4], b.scrubber, g, -1, 0, 64 * KIB, false);
        record_submit(&r[5], b.scrubber, g, -1, 64 * KIB, 64 * KIB, false);
        record_submit(&r[6], b.scrubber, g, 0, 128 * KIB, 64 * KIB, false);
        record_submit(&r[7], b.scrubber, h, -1, 0, 64 * KIB, false);
        pump(b.event);
        assert_int_equal(atomic_load(&calls.threads), 4);
        gate_await(&gate, 4);
        gate_open(&gate);
        run_all(b.event, r, 8);
        assert_true(r[0].order < r[1].order && r[1].order < r[6].order);
        assert_true(r[2].order < r[3].order);
        assert_true(r[4].order < r[5].order);
        for (size_t i = 0; i < 8; i++) {
                record_expect_clean(&r[i]);
                record_done(&r[i]);
        }
}

/* A running background job is overtaken: it stands still until the urgent ones are through, which
 * go in order. */
static void test_urgent_first(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(64 * MIB, 64 * KIB),
                                   *g = fake_new(16 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b =
                        bench_new((ScrubConfig){.threads = 1, .max_threads = 1, .window = CHUNK});
        Stop stop = {.gate = GATE_CLOSED, .n = 2};
        Gate gate = GATE_CLOSED, paused = GATE_CLOSED;
        Record r[6] = {};

        f->on_map = at_stop;
        f->userdata = &stop;
        g->on_map = at_gate;
        g->userdata = &gate;
        record_submit(&r[0], b.scrubber, f, 0, 0, 32 * MIB, false);
        record_submit(&r[1], b.scrubber, f, 0, 32 * MIB, 16 * MIB, false);
        record_submit(&r[2], b.scrubber, f, 0, 48 * MIB, 16 * MIB, false);
        pump(b.event);
        gate_await(&stop.gate, 1);

        for (size_t i = 3; i < 6; i++)
                record_submit(&r[i], b.scrubber, g, 0, (i - 3) * 4 * MIB, 4 * MIB, true);
        scrub_job_set_urgent(r[2].job);
        pump(b.event);
        gate_await(&gate, 1);
        gate_open(&paused);
        calls.paused = &paused;
        gate_open(&stop.gate);
        gate_await(&paused, 1);
        /* It finished its chunk and no more. */
        assert_int_equal(scrub_job_done(r[0].job), 2 * CHUNK);
        assert_true(fake_holds(f, 0, 2 * CHUNK, 0, false));
        assert_true(fake_holds(f, 2 * CHUNK, 30 * MIB - CHUNK, FAKE_PATTERN, false));
        assert_int_equal(atomic_load(&calls.threads), 2);

        gate_open(&gate);
        run_all(b.event, r, 6);
        assert_true(r[3].order < r[4].order && r[4].order < r[5].order);
        assert_true(r[5].order < r[2].order && r[2].order < r[0].order);
        assert_true(r[0].order < r[1].order);
        for (size_t i = 0; i < 6; i++) {
                record_expect_clean(&r[i]);
                record_done(&r[i]);
        }
}

/* Urgent work on one node leaves the background of another alone. */
static void test_urgent_elsewhere(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB), *g = fake_new(MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .max_threads = 1});
        Gate gate = GATE_CLOSED, other = GATE_CLOSED;
        Record background = {}, urgent = {};

        f->on_map = g->on_map = at_gate;
        f->userdata = &gate;
        g->userdata = &other;
        record_submit(&background, b.scrubber, f, 0, 0, 16 * MIB, false);
        pump(b.event);
        gate_await(&gate, 1);
        record_submit(&urgent, b.scrubber, g, 1, 0, MIB, true);
        pump(b.event);
        gate_await(&other, 1);
        gate_open(&gate);
        run_all(b.event, &background, 1);
        assert_int_equal(urgent.finished, 0);
        gate_open(&other);
        run_all(b.event, &urgent, 1);
        record_expect_clean(&background);
        record_expect_clean(&urgent);
        record_done(&background);
        record_done(&urgent);
}

static void burn(Fake *f, uint64_t offset, size_t size, bool writable) {
        if (writable)
                calls_burn(3000);
}

static void test_duty(void **state) {
        for (int urgent = 0; urgent < 2; urgent++) {
                _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .window = CHUNK});
                _cleanup_(record_done) Record r = {};

                atomic_store(&calls.really_idle, true);
                f->on_map = burn;
                record_submit(&r, b.scrubber, f, -1, 0, 16 * MIB, urgent);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
                if (urgent) {
                        assert_int_equal(atomic_load(&calls.rests), 0);
                        assert_int_equal(atomic_load(&calls.idle), 0);
                } else {
                        /* More of them where the chunk itself took so long. */
                        assert_true(atomic_load(&calls.rests) >= 8);
                        assert_int_equal(atomic_load(&calls.rests_short), 0);
                        assert_int_equal(atomic_load(&calls.rests_early), 0);
                        assert_int_equal(atomic_load(&calls.rests_long), 0);
                        assert_int_equal(atomic_load(&calls.rests_loud), 0);
                }
        }
}

/* The rest of a background job that becomes urgent is done by a thread that never was in the
 * background: leaving SCHED_IDLE may not be allowed. */
static void test_becomes_urgent(void **state) {
        for (int no_return = 0; no_return < 2; no_return++) {
                _cleanup_(fake_freep) Fake *f = fake_new(32 * MIB, 64 * KIB);
                _cleanup_bench_ Bench b = bench_new(
                                (ScrubConfig){.threads = 2, .max_threads = 2, .window = CHUNK});
                Stop stop = {.gate = GATE_CLOSED, .n = 3};
                _cleanup_(record_done) Record r = {};
                pthread_t background;
                unsigned rests, loud;

                atomic_store(&calls.no_return, no_return);
                f->on_map = at_stop;
                f->userdata = &stop;
                record_submit(&r, b.scrubber, f, 0, 0, 32 * MIB, false);
                pump(b.event);
                gate_await(&stop.gate, 1);
                background = stop.last;
                assert_int_equal(atomic_load(&calls.threads), 2);
                scrub_job_set_urgent(r.job);
                assert_int_equal(atomic_load(&calls.threads), 4);
                assert_int_equal(atomic_load(&calls.raised), 2);
                rests = atomic_load(&calls.rests);
                loud = atomic_load(&stop.loud);
                /* To map, even the background takes normal priority where it may. */
                assert_int_equal(loud, no_return ? 0 : 3);
                gate_open(&stop.gate);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
                assert_false(pthread_equal(stop.last, background));
                assert_true(atomic_load(&stop.loud) > loud);
                assert_true(atomic_load(&calls.rests) <= rests + 2);
        }
}

static void test_urgent_without_new_threads(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(32 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .window = CHUNK});
        Stop stop = {.gate = GATE_CLOSED, .n = 3};
        _cleanup_(record_done) Record r = {};

        f->on_map = at_stop;
        f->userdata = &stop;
        record_submit(&r, b.scrubber, f, 0, 0, 32 * MIB, false);
        pump(b.event);
        gate_await(&stop.gate, 1);
        atomic_store(&calls.threads_left, 0);
        scrub_job_set_urgent(r.job);
        atomic_store(&calls.threads_left, -1);
        gate_open(&stop.gate);
        run_all(b.event, &r, 1);
        record_expect_clean(&r);
        assert_int_equal(atomic_load(&stop.loud), 16);
}

/* A paused job does not wait for its turn to be cancelled. */
static void test_cancel_paused(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB), *g = fake_new(MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .window = CHUNK});
        Stop stop = {.gate = GATE_CLOSED, .n = 1};
        Gate gate = GATE_CLOSED, paused = GATE_CLOSED;
        Record r[2] = {};

        f->on_map = at_stop;
        f->userdata = &stop;
        g->on_map = at_gate;
        g->userdata = &gate;
        record_submit(&r[0], b.scrubber, f, 0, 0, 16 * MIB, false);
        pump(b.event);
        gate_await(&stop.gate, 1);
        record_submit(&r[1], b.scrubber, g, 0, 0, MIB, true);
        pump(b.event);
        gate_open(&paused);
        calls.paused = &paused;
        gate_open(&stop.gate);
        gate_await(&paused, 1);
        scrub_job_cancel(r[0].job);
        run_all(b.event, &r[0], 1);
        assert_int_equal(r[0].r, -ECANCELED);
        assert_int_equal(r[1].finished, 0);
        gate_open(&gate);
        run_all(b.event, &r[1], 1);
        record_expect_clean(&r[1]);
        record_done(&r[0]);
        record_done(&r[1]);
}

static void check_affinity(Fake *f, uint64_t offset, size_t size, bool writable) {
        cpu_set_t now;

        if (sched_getaffinity(0, sizeof(now), &now) < 0 || !CPU_EQUAL(&now, &calls.cpus))
                abort();
}

static void test_threads_are_bound(void **state) {
        cpu_set_t allowed;

        assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                _cleanup_(fake_freep) Fake *f = NULL;
                _cleanup_(record_done) Record r = {};
                _cleanup_bench_ Bench b = {};

                if (!CPU_ISSET(cpu, &allowed))
                        continue;
                f = fake_new(4 * MIB, 64 * KIB);
                b = bench_new((ScrubConfig){.threads = 2, .max_threads = 2});
                CPU_SET(cpu, &calls.cpus);
                f->on_map = check_affinity;
                record_submit(&r, b.scrubber, f, 0, 0, 4 * MIB, true);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
        }
}

/* CPUs that we were not given are not taken. */
static void check_not_bound(Fake *f, uint64_t offset, size_t size, bool writable) {
        cpu_set_t now;

        if (sched_getaffinity(0, sizeof(now), &now) < 0 ||
            !CPU_EQUAL(&now, (cpu_set_t *) f->userdata))
                abort();
}

static void test_threads_stay_where_they_may(void **state) {
        cpu_set_t old, one;
        unsigned cpu = 0;

        assert_int_equal(sched_getaffinity(0, sizeof(old), &old), 0);
        while (!CPU_ISSET(cpu, &old))
                cpu++;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
        for (int node = -1; node < 3; node++) {
                _cleanup_(fake_freep) Fake *f = fake_new(4 * MIB, 64 * KIB);
                _cleanup_(record_done) Record r = {};
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){});

                /* Others; ours and others; none. */
                if (node < 2)
                        calls.cpus = old;
                if (node < 1)
                        CPU_CLR(cpu, &calls.cpus);
                f->on_map = check_not_bound;
                f->userdata = &one;
                record_submit(&r, b.scrubber, f, node, 0, 4 * MIB, true);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
        }
        assert_int_equal(sched_setaffinity(0, sizeof(old), &old), 0);
}

/* By default as many as the node's CPUs allow. */
static void test_default_threads(void **state) {
        cpu_set_t allowed;
        unsigned cpus, expected;

        assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
        cpus = (unsigned) CPU_COUNT(&allowed);
        expected = cpus <= 4 ? 1 : MIN(cpus / 2, 8U);
        for (int node = -1; node < 1; node++) {
                _cleanup_(fake_freep) Fake *f = fake_new(32 * MIB, 64 * KIB);
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){.max_threads = 100});
                _cleanup_(record_done) Record r = {};

                calls.cpus = allowed;
                record_submit(&r, b.scrubber, f, node, 0, 32 * MIB, true);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
                assert_int_equal(atomic_load(&calls.threads), expected);
        }
}

/* How many threads are right is tried within the limit, of which the background of other nodes takes nothing. */
static void test_trying_keeps_to_limit(void **state) {
        for (unsigned n = 3; n <= 4; n++) {
                _cleanup_(fake_freep) Fake *f = fake_new(64 * MIB, 64 * KIB);
                _cleanup_(record_done) Record background = {}, urgent = {};
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){.max_threads = 4});
                Gate gate = GATE_CLOSED;
                const ScrubThread *t;
                ScrubNode *measured;

                atomic_store(&calls.threads, 0);
                f->on_map = at_gate;
                f->userdata = &gate;
                for (int node = 0; node < 2; node++)
                        assert_int_equal(scrub_nodes_get(&b.scrubber->nodes, node, 72)
                                                         ->width.threads,
                                         8);
                record_submit(&background, b.scrubber, f, 0, 0, n * CHUNK, false);
                pump(b.event);
                assert_int_equal(atomic_load(&calls.threads), n);
                record_submit(&urgent, b.scrubber, f, 1, 32 * MIB, 32 * MIB, true);
                pump(b.event);
                assert_int_equal(atomic_load(&calls.threads), n + 4);
                /* Twice as many are to be tried. */
                measured = scrub_nodes_get(&b.scrubber->nodes, 1, 72);
                measured->width.samples = 100;
                measured->measured_from = 1;
                measured->ended = 1024 * GIB;
                scrubber_measure(b.scrubber);
                assert_int_equal(measured->width.threads, 16);
                assert_int_equal(atomic_load(&calls.threads), n + 4);
                TAILQ_FOREACH (t, &urgent.job->threads, link)
                        assert_false(atomic_load(&t->retired));
                gate_open(&gate);
                run_all(b.event, &background, 1);
                run_all(b.event, &urgent, 1);
                record_expect_clean(&background);
                record_expect_clean(&urgent);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_limits),
                        cmocka_unit_test(test_one_background_job_per_node),
                        cmocka_unit_test(test_urgent_first),
                        cmocka_unit_test(test_urgent_elsewhere),
                        cmocka_unit_test(test_trying_keeps_to_limit),
                        cmocka_unit_test(test_duty),
                        cmocka_unit_test(test_becomes_urgent),
                        cmocka_unit_test(test_urgent_without_new_threads),
                        cmocka_unit_test(test_cancel_paused),
                        cmocka_unit_test(test_threads_are_bound),
                        cmocka_unit_test(test_threads_stay_where_they_may),
                        cmocka_unit_test(test_default_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
