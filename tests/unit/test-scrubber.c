/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fd-util.h"
#include "run-until.h"
#include "scrub-fake.h"

/* One job after the other, and its end. */

#define CHUNK (2 * MIB)

static void test_exact_range(void **state) {
        static const uint64_t places[][2] = {
                        {0, 24 * MIB},
                        {0, 64 * KIB},
                        {64 * KIB, 64 * KIB},
                        {24 * MIB - 64 * KIB, 64 * KIB},
                        {CHUNK - 64 * KIB, 128 * KIB},
                        {CHUNK, CHUNK},
                        {3 * MIB + 64 * KIB, 17 * MIB - 128 * KIB},
                        {4 * MIB, 16 * MIB},
                        {8 * MIB - 64 * KIB, 8 * MIB + 128 * KIB},
        };
        static const ScrubConfig configs[] = {
                        {.threads = 1, .window = 1},
                        {.threads = 4, .max_threads = 4},
                        {.threads = 3, .max_threads = 8, .window = 1},
                        {.threads = 2, .max_threads = 2, .window = 8 * MIB},
                        {.threads = 2, .max_threads = 2, .verify = SCRUB_VERIFY_ALL},
        };

        for (size_t c = 0; c < ELEMENTSOF(configs); c++)
                for (size_t i = 0; i < 2 * ELEMENTSOF(places); i++) {
                        _cleanup_(fake_freep) Fake *f = fake_new(24 * MIB, 64 * KIB);
                        _cleanup_(record_done) Record r = {};
                        _cleanup_bench_ Bench b = bench_new(configs[c]);
                        uint64_t offset = places[i / 2][0], size = places[i / 2][1];

                        f->provider.offsets = i % 2 == 0;
                        record_submit(&r, b.scrubber, f, -1, offset, size, true);
                        run_all(b.event, &r, 1);
                        record_expect_clean(&r);
                        assert_true(fake_holds(f, 0, offset, FAKE_PATTERN, false));
                        assert_true(fake_holds(f, offset + size, 24 * MIB - offset - size,
                                               FAKE_PATTERN, false));
                        /* One mapping and no more where it is dear. */
                        if (!f->provider.offsets && configs[c].threads == 1)
                                assert_int_equal(atomic_load(&f->n_maps), 1);
                }
}

/* Windows are no larger than they may be, and nothing outside the job is ever mapped. */
static void check_window(Fake *f, uint64_t offset, size_t size, bool writable) {
        const Record *r = f->userdata;

        if (size > 4 * MIB || offset < r->offset || offset + size > r->offset + r->size)
                abort();
}

static void test_windows(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(24 * MIB, 64 * KIB);
        _cleanup_(record_done) Record r = {};
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .window = 4 * MIB});

        f->on_map = check_window;
        f->userdata = &r;
        record_submit(&r, b.scrubber, f, -1, MIB, 22 * MIB, true);
        run_all(b.event, &r, 1);
        record_expect_clean(&r);
        /* Six windows; two samples, of the first chunk and the last. */
        assert_int_equal(atomic_load(&f->n_maps), 6 + 2);
}

/* What is done when the second window is mapped. */
static _Atomic uint64_t done_before;

static void note_done(Fake *f, uint64_t offset, size_t size, bool writable) {
        const Record *r = f->userdata;

        if (writable && offset == 8 * MIB)
                atomic_store(&done_before, scrub_job_done(r->job));
}

/* One of several threads maps the next window while the others have work in this one; a thread alone gains nothing by it.
 * The others are never started here, and could be anywhere if they were. */
static void test_windows_ahead(void **state) {
        for (unsigned threads = 1; threads <= 3; threads++) {
                _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
                _cleanup_(record_done) Record r = {};
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){
                                .threads = threads, .max_threads = threads, .window = 8 * MIB});

                f->on_map = note_done;
                f->userdata = &r;
                atomic_store(&calls.threads_left, 1);
                atomic_store(&done_before, UINT64_MAX);
                record_submit(&r, b.scrubber, f, -1, 0, 16 * MIB, true);
                run_all(b.event, &r, 1);
                record_expect_clean(&r);
                assert_int_equal(atomic_load(&done_before), threads == 1 ? 8 * MIB : 4 * MIB);
                /* Each once; and two samples. */
                assert_int_equal(atomic_load(&f->n_maps), 2 + 2);
        }
}

typedef struct Shared {
        Gate gate;
        atomic_uint n_twice;
} Shared;

static bool is_mapped(const Fake *f, uint64_t offset, size_t size) {
        _cleanup_fclose_ FILE *maps = fopen("/proc/self/maps", "re");
        _cleanup_free_ char *line = NULL;
        size_t allocated = 0;

        while (maps && getline(&line, &allocated, maps) > 0) {
                uint64_t start, end, at;

                if (strstr(line, f->memory) &&
                    sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &at) == 3 &&
                    at == offset && end - start == size)
                        return true;
        }
        return false;
}

/* Whoever reads the first chunk back stands still. */
static void stand_still(Fake *f, uint64_t offset, size_t size, bool writable) {
        Shared *s = f->userdata;

        if (!writable && offset < CHUNK)
                gate_pass(&s->gate);
        if (writable && is_mapped(f, offset, size))
                atomic_fetch_add(&s->n_twice, 1);
}

/* While somebody has a window it is shared. (One that is late may find it gone, and maps it once more.) */
static void test_windows_shared(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
        _cleanup_(record_done) Record r = {};
        _cleanup_bench_ Bench b =
                        bench_new((ScrubConfig){.threads = 2, .max_threads = 2, .window = 8 * MIB});
        Shared shared = {.gate = GATE_CLOSED};

        f->on_map = stand_still;
        f->userdata = &shared;
        record_submit(&r, b.scrubber, f, -1, 0, 16 * MIB, true);
        run_loop_until(b.event, r.progress == 16 * MIB - CHUNK);
        gate_open(&shared.gate);
        run_all(b.event, &r, 1);
        record_expect_clean(&r);
        assert_int_equal(atomic_load(&shared.n_twice), 0);
}

static void test_bad_submits(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(4 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){});
        static const struct {
                uint64_t offset, size;
                int r;
        } cases[] = {
                        {0, 0, -EINVAL},
                        {0, 4096, -EINVAL},
                        {4096, 64 * KIB, -EINVAL},
                        {0, UINT64_MAX, -EINVAL},
                        {0, 4 * MIB + 64 * KIB, -ERANGE},
                        {4 * MIB, 64 * KIB, -ERANGE},
                        {64 * KIB, 4 * MIB, -ERANGE},
                        {UINT64_MAX - 64 * KIB + 1, 64 * KIB, -ERANGE},
                        {64 * KIB, UINT64_MAX - 64 * KIB + 1, -ERANGE},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                ScrubJob *j = (ScrubJob *) 1;

                assert_int_equal(scrubber_submit(b.scrubber, &f->provider, -1, cases[i].offset,
                                                 cases[i].size, true, &record_ops, NULL, &j),
                                 cases[i].r);
                assert_ptr_equal(j, (ScrubJob *) 1);
        }
        pump(b.event);
        assert_int_equal(atomic_load(&calls.threads), 0);
        assert_true(fake_holds(f, 0, 4 * MIB, FAKE_PATTERN, false));
}

/* Several regions, many jobs each, gaps between them. */
static void test_many_jobs(void **state) {
        _cleanup_bench_ Bench b =
                        bench_new((ScrubConfig){.threads = 2, .max_threads = 6, .window = CHUNK});
        Fake *fakes[4];
        Record records[4][100] = {};

        for (size_t i = 0; i < ELEMENTSOF(fakes); i++) {
                fakes[i] = fake_new(16 * MIB, 64 * KIB);
                for (size_t k = 0; k < 100; k++)
                        record_submit(&records[i][k], b.scrubber, fakes[i], (int) i % 3 - 1,
                                      k * 128 * KIB, 64 * KIB, k % 3 == 0);
        }
        run_all(b.event, records[0], 400);
        pump(b.event);
        for (size_t i = 0; i < ELEMENTSOF(fakes); i++) {
                for (size_t k = 0; k < 100; k++) {
                        record_expect_clean(&records[i][k]);
                        assert_true(fake_holds(fakes[i], k * 128 * KIB + 64 * KIB, 64 * KIB,
                                               FAKE_PATTERN, false));
                        record_done(&records[i][k]);
                }
                (void) fake_free(fakes[i]);
        }
}

static void test_cancel_queued(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(8 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){});
        Record r[4] = {};

        for (size_t i = 0; i < 4; i++)
                record_submit(&r[i], b.scrubber, f, 0, i * CHUNK, CHUNK, i % 2 == 0);
        for (size_t i = 0; i < 3; i++) {
                scrub_job_cancel(r[i].job);
                /* Twice is once; and never from within. */
                scrub_job_cancel(r[i].job);
                scrub_job_set_urgent(r[i].job);
                assert_int_equal(r[i].finished, 0);
        }
        run_all(b.event, r, 4);
        pump(b.event);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(r[i].finished, 1);
                assert_int_equal(r[i].r, -ECANCELED);
                record_done(&r[i]);
        }
        assert_true(fake_holds(f, 0, 3 * CHUNK, FAKE_PATTERN, false));
        assert_int_equal(atomic_load(&calls.threads), 1);
        record_expect_clean(&r[3]);
        record_done(&r[3]);
}

static void test_cancel_stops_within_a_chunk(void **state) {
        for (unsigned n = 1; n <= 8; n++) {
                _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .window = CHUNK});
                Stop stop = {.gate = GATE_CLOSED, .n = n};
                _cleanup_(record_done) Record r = {};

                f->on_map = at_stop;
                f->userdata = &stop;
                record_submit(&r, b.scrubber, f, -1, 0, 16 * MIB, n % 2);
                pump(b.event);
                gate_await(&stop.gate, 1);
                scrub_job_cancel(r.job);
                assert_int_equal(r.finished, 0);
                gate_open(&stop.gate);
                run_all(b.event, &r, 1);
                assert_int_equal(r.r, -ECANCELED);
                assert_true(fake_holds(f, n * CHUNK, 16 * MIB - n * CHUNK, FAKE_PATTERN, false));
        }
}

static void test_free_while_running(void **state) {
        for (unsigned n = 0; n < 30; n++) {
                _cleanup_(fake_freep) Fake *f = fake_new(32 * MIB, 64 * KIB);
                Bench b = bench_new((ScrubConfig){.threads = 3, .max_threads = 7, .window = CHUNK});
                Record r[8] = {};

                for (uint64_t i = 0; i < f->provider.size / (uint64_t) sysconf(_SC_PAGESIZE);
                     i += 100)
                        f->bad[i] = n % 3 == 0;
                for (size_t i = 0; i < 8; i++)
                        record_submit(&r[i], b.scrubber, f, (int) i % 2, i * 4 * MIB, 3 * MIB,
                                      i % 3);
                for (unsigned k = 0; k < n; k++)
                        assert_true(sd_event_run(b.event, 0) >= 0);
                bench_done(&b);
                for (size_t i = 0; i < 8; i++) {
                        assert_true(fake_holds(f, i * 4 * MIB + 3 * MIB, MIB, FAKE_PATTERN, false));
                        assert_true(r[i].finished <= 1);
                        if (r[i].finished)
                                record_expect_clean(&r[i]);
                        record_done(&r[i]);
                }
        }
}

/* Held until the first report came, and again after it: done grows, and the last word is
 * `finished`. */
static void test_progress(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
        _cleanup_bench_ Bench b = bench_new((ScrubConfig){.threads = 1, .window = CHUNK});
        Gate gate = GATE_CLOSED;
        Stop stop = {.gate = GATE_CLOSED, .n = 4};
        _cleanup_(record_done) Record r = {};
        time_t end;

        f->on_map = at_stop;
        f->userdata = &stop;
        record_submit(&r, b.scrubber, f, -1, 0, 16 * MIB, true);
        while (r.n_progress == 0)
                assert_true(sd_event_run(b.event, 10 * USEC_PER_SEC) > 0);
        gate_await(&stop.gate, 1);
        while (r.progress < 3 * CHUNK)
                assert_true(sd_event_run(b.event, 10 * USEC_PER_SEC) > 0);
        assert_int_equal(r.progress, 3 * CHUNK);
        assert_int_equal(scrub_job_done(r.job), 3 * CHUNK);
        f->userdata = &gate;
        f->on_map = at_gate;
        gate_open(&stop.gate);
        gate_await(&gate, 1);
        while (r.progress < 4 * CHUNK)
                assert_true(sd_event_run(b.event, 10 * USEC_PER_SEC) > 0);
        gate_open(&gate);
        run_all(b.event, &r, 1);
        record_expect_clean(&r);

        /* Then silence, once the thread is gone: a timer that went on would always have something within this second. */
        end = patience_end();
        while (sd_event_run(b.event, USEC_PER_SEC) > 0)
                assert_false(patience_is_over(end));
}

static void test_map_fails(void **state) {
        for (unsigned k = 1; k <= 12; k++) {
                _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
                _cleanup_bench_ Bench b = bench_new((ScrubConfig){
                                .threads = k % 3 + 1, .max_threads = 4, .window = CHUNK});
                _cleanup_(record_done) Record r = {};

                f->fail_at = k;
                record_submit(&r, b.scrubber, f, -1, CHUNK, 12 * MIB, k % 2);
                run_all(b.event, &r, 1);
                pump(b.event);
                assert_int_equal(r.finished, 1);
                /* Six windows, two samples. */
                assert_int_equal(r.r, k <= 8 ? -ENOMEM : 0);
                assert_true(fake_holds(f, 0, CHUNK, FAKE_PATTERN, false));
                assert_true(fake_holds(f, 14 * MIB, CHUNK, FAKE_PATTERN, false));
        }
}

static void test_thread_creation_fails(void **state) {
        for (int left = 0; left < 3; left++)
                for (int urgent = 0; urgent < 2; urgent++) {
                        _cleanup_(fake_freep) Fake *f = fake_new(16 * MIB, 64 * KIB);
                        _cleanup_bench_ Bench b =
                                        bench_new((ScrubConfig){.threads = 3, .max_threads = 3});
                        _cleanup_(record_done) Record r = {};

                        atomic_store(&calls.threads_left, left);
                        record_submit(&r, b.scrubber, f, -1, 0, 16 * MIB, urgent);
                        run_all(b.event, &r, 1);
                        pump(b.event);
                        if (left > 0)
                                record_expect_clean(&r);
                        else {
                                assert_int_equal(r.r, -EAGAIN);
                                assert_true(fake_holds(f, 0, 16 * MIB, FAKE_PATTERN, false));
                        }
                }
}

static void test_verify_names(void **state) {
        for (ScrubVerify v = 0; v < _SCRUB_VERIFY_MAX; v++)
                assert_int_equal(scrub_verify_from_string(scrub_verify_to_string(v)), v);
        assert_int_equal(scrub_verify_from_string("some"), -EINVAL);
        assert_null(scrub_verify_to_string(_SCRUB_VERIFY_MAX));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_exact_range),
                        cmocka_unit_test(test_windows),
                        cmocka_unit_test(test_windows_ahead),
                        cmocka_unit_test(test_windows_shared),
                        cmocka_unit_test(test_bad_submits),
                        cmocka_unit_test(test_many_jobs),
                        cmocka_unit_test(test_cancel_queued),
                        cmocka_unit_test(test_cancel_stops_within_a_chunk),
                        cmocka_unit_test(test_free_while_running),
                        cmocka_unit_test(test_progress),
                        cmocka_unit_test(test_map_fails),
                        cmocka_unit_test(test_thread_creation_fails),
                        cmocka_unit_test(test_verify_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
