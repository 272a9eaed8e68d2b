/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "macro.h"
#include "scrub-width.h"

#define TICK 50000U

/* What so many threads write in a second. */
typedef uint64_t (*machine_t)(unsigned threads);

static uint64_t saturates(unsigned n) {
        return MIN(n * 30 * GIB, 350 * GIB);
}

static uint64_t one_fills_it(unsigned n) {
        return 40 * GIB;
}

static uint64_t never_enough(unsigned n) {
        return n * 10 * GIB;
}

static uint64_t gets_in_the_way(unsigned n) {
        return 64 * GIB / n;
}

/* Until it is settled; the number of reports. */
static unsigned settle(ScrubWidth *w, machine_t machine, unsigned disturbed) {
        unsigned n = 0;

        while (w->phase != SCRUB_WIDTH_SETTLED) {
                uint64_t rate = machine(w->threads);

                assert_true(n++ < 100);
                assert_true(w->threads >= 1 && w->threads <= w->limit);
                /* Of three measurements as many are disturbed. */
                if (n % 3 < disturbed)
                        rate /= 2;
                (void) scrub_width_report(w, rate * TICK / USEC_PER_SEC, TICK);
        }
        assert_int_equal(w->threads, w->best);
        return n;
}

static unsigned found(unsigned threads, unsigned limit, machine_t machine) {
        unsigned n[3];

        for (unsigned disturbed = 0; disturbed < ELEMENTSOF(n); disturbed++) {
                ScrubWidth w;

                scrub_width_init(&w, threads, limit);
                (void) settle(&w, machine, disturbed);
                n[disturbed] = w.best;
                assert_int_equal(n[disturbed], n[0]);
        }
        return n[0];
}

static void test_found(void **state) {
        /* 8 write 240, 16 are enough. */
        assert_int_equal(found(8, 36, saturates), 16);
        assert_int_equal(found(8, 8, saturates), 8);
        assert_int_equal(found(8, 10, saturates), 10);
        assert_int_equal(found(1, 36, saturates), 16);
        assert_int_equal(found(36, 36, saturates), 18);
        assert_int_equal(found(8, 36, one_fills_it), 1);
        assert_int_equal(found(1, 2, one_fills_it), 1);
        assert_int_equal(found(8, 36, never_enough), 36);
        assert_int_equal(found(1, 2, never_enough), 2);
        assert_int_equal(found(5, 5, gets_in_the_way), 1);
}

/* As long as it tries others, it says what to use; and once more when it has the answer. */
static void test_says_so(void **state) {
        ScrubWidth w;

        scrub_width_init(&w, 1, 2);
        assert_int_equal(w.threads, 1);
        assert_false(scrub_width_report(&w, 100, TICK));
        assert_false(scrub_width_report(&w, 100, TICK));
        assert_true(scrub_width_report(&w, 100, TICK));
        assert_int_equal(w.threads, 2);
        assert_int_equal(w.best, 1);
        assert_false(scrub_width_report(&w, 200, TICK));
        assert_false(scrub_width_report(&w, 200, TICK));
        assert_true(scrub_width_report(&w, 200, TICK));
        assert_int_equal(w.phase, SCRUB_WIDTH_SETTLED);
        assert_int_equal(w.best, 2);
        for (unsigned i = 0; i < 100; i++)
                assert_false(scrub_width_report(&w, 1, TICK));
        assert_int_equal(w.threads, 2);
}

/* Another time the machine may be another. */
static void test_again(void **state) {
        ScrubWidth w;
        unsigned n;

        scrub_width_init(&w, 8, 36);
        (void) settle(&w, saturates, 0);
        for (n = 0; w.phase == SCRUB_WIDTH_SETTLED; n++) {
                assert_true(n < 100000);
                assert_false(scrub_width_report(&w, 1, TICK));
        }
        assert_true(n > 1000);
        assert_int_equal(w.threads, 16);
        (void) settle(&w, one_fills_it, 0);
        assert_int_equal(w.threads, 1);
}

static void test_limits(void **state) {
        ScrubWidth w;

        scrub_width_init(&w, 8, 0);
        assert_int_equal(w.threads, 1);
        for (unsigned i = 0; i < 10; i++)
                assert_false(scrub_width_report(&w, GIB, TICK));
        assert_int_equal(w.threads, 1);
        scrub_width_init(&w, 1, 8);
        for (unsigned i = 0; i < 10; i++)
                assert_false(scrub_width_report(&w, GIB, 0));
        assert_int_equal(w.threads, 1);
}

/* What is only being tried is not for what comes after a pause; what was found is. */
static void test_rest(void **state) {
        ScrubWidth w;

        scrub_width_init(&w, 1, 4);
        for (unsigned i = 0; i < 4; i++)
                (void) scrub_width_report(&w, GIB, TICK);
        assert_int_equal(w.threads, 2);
        scrub_width_rest(&w);
        assert_int_equal(w.threads, 1);
        assert_int_equal(w.phase, SCRUB_WIDTH_MEASURE);
        assert_int_equal(w.samples, 0);
        (void) settle(&w, never_enough, 0);
        scrub_width_rest(&w);
        assert_int_equal(w.threads, 4);
        assert_int_equal(w.phase, SCRUB_WIDTH_SETTLED);
}

static void test_nodes(void **state) {
        ScrubNodes l = {};

        assert_int_equal(scrub_nodes_get(&l, 0, 72)->width.threads, 8);
        assert_int_equal(scrub_nodes_get(&l, 0, 72)->width.limit, 36);
        assert_int_equal(scrub_nodes_get(&l, 1, 4)->width.threads, 1);
        assert_int_equal(scrub_nodes_get(&l, 1, 4)->width.limit, 4);
        assert_int_equal(scrub_nodes_get(&l, -1, 10)->width.threads, 5);
        scrub_nodes_get(&l, 1, 4)->width.best = 3;
        assert_int_equal(scrub_nodes_get(&l, 1, 4)->width.best, 3);
        assert_int_equal(scrub_nodes_get(&l, 0, 72)->width.best, 8);
        assert_int_equal(scrub_nodes_get(&l, -1, 10)->width.best, 5);
        scrub_nodes_done(&l);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_found), cmocka_unit_test(test_says_so),
                        cmocka_unit_test(test_again), cmocka_unit_test(test_limits),
                        cmocka_unit_test(test_rest),  cmocka_unit_test(test_nodes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
