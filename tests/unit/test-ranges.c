/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "ranges.h"

static void assert_ranges(const Ranges *l, const Range *expected, size_t n) {
        Ranges e = {.items = (Range *) expected, .n = n};

        assert_int_equal(l->n, n);
        assert_true(ranges_equal(l, &e));
}

#define ASSERT_RANGES(l, ...) \
        assert_ranges(l, (const Range[]){__VA_ARGS__}, ELEMENTSOF(((const Range[]){__VA_ARGS__})))

static void test_add(void **state) {
        _cleanup_ranges_ Ranges l = {};

        assert_int_equal(ranges_add(&l, 100, 10), 0);
        assert_int_equal(ranges_add(&l, 300, 10), 0);
        assert_int_equal(ranges_add(&l, 200, 10), 0);
        ASSERT_RANGES(&l, {100, 10}, {200, 10}, {300, 10});
        assert_int_equal(ranges_add(&l, 150, 0), 0);
        assert_int_equal(ranges_add(&l, 202, 4), 0); /* inside */
        assert_int_equal(ranges_add(&l, 200, 10), 0);
        ASSERT_RANGES(&l, {100, 10}, {200, 10}, {300, 10});
        assert_int_equal(ranges_add(&l, 210, 5), 0); /* touches the end */
        assert_int_equal(ranges_add(&l, 95, 5), 0);  /* touches the start */
        ASSERT_RANGES(&l, {95, 15}, {200, 15}, {300, 10});
        assert_int_equal(ranges_add(&l, 216, 83), 0); /* one byte short of both */
        ASSERT_RANGES(&l, {95, 15}, {200, 15}, {216, 83}, {300, 10});
        assert_int_equal(ranges_add(&l, 215, 1), 0);
        assert_int_equal(ranges_add(&l, 299, 1), 0);
        ASSERT_RANGES(&l, {95, 15}, {200, 110});
        assert_int_equal(ranges_add(&l, 105, 100), 0); /* overlaps both */
        ASSERT_RANGES(&l, {95, 215});
        assert_int_equal(ranges_add(&l, 0, 1000), 0); /* swallows */
        ASSERT_RANGES(&l, {0, 1000});
        assert_int_equal(ranges_bytes(&l), 1000);
}

static void test_limits(void **state) {
        _cleanup_ranges_ Ranges l = {};

        assert_int_equal(ranges_add(&l, UINT64_MAX - 10, 10), 0);
        assert_int_equal(ranges_add(&l, UINT64_MAX - 10, 11), -EOVERFLOW);
        assert_int_equal(ranges_add(&l, UINT64_MAX, 1), -EOVERFLOW);
        assert_int_equal(ranges_add(&l, UINT64_MAX, 0), 0);
        assert_int_equal(ranges_add(&l, 1, UINT64_MAX), -EOVERFLOW);
        ASSERT_RANGES(&l, {UINT64_MAX - 10, 10});
        assert_true(ranges_overlap(&l, UINT64_MAX - 1, UINT64_MAX));
        assert_int_equal(ranges_add(&l, 0, UINT64_MAX), 0);
        ASSERT_RANGES(&l, {0, UINT64_MAX});
}

static void test_overlap(void **state) {
        _cleanup_ranges_ Ranges l = {};
        static const struct {
                uint64_t offset, size;
                bool overlap;
        } table[] = {
                        {0, 10, false},  {0, 11, true},   {10, 1, true},  {19, 1, true},
                        {20, 10, false}, {20, 11, true},  {12, 3, true},  {0, 1000, true},
                        {15, 0, false},  {40, 10, false}, {39, 10, true}, {0, 0, false},
        };

        assert_false(ranges_overlap(&l, 0, UINT64_MAX));
        assert_int_equal(ranges_add(&l, 10, 10), 0);
        assert_int_equal(ranges_add(&l, 30, 10), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                assert_int_equal(ranges_overlap(&l, table[i].offset, table[i].size),
                                 table[i].overlap);
}

static void test_clip_and_copy(void **state) {
        _cleanup_ranges_ Ranges l = {}, part = {}, copy = {}, none = {}, edge = {};

        assert_int_equal(ranges_add(&l, 10, 10), 0);
        assert_int_equal(ranges_add(&l, 30, 10), 0);
        assert_int_equal(ranges_add(&l, 50, 10), 0);
        assert_int_equal(ranges_clip(&l, 15, 40, &part), 0);
        ASSERT_RANGES(&part, {15, 5}, {30, 10}, {50, 5});
        assert_int_equal(ranges_clip(&l, 20, 10, &none), 0);
        assert_int_equal(none.n, 0);
        assert_int_equal(ranges_clip(&l, 35, UINT64_MAX, &edge), 0);
        ASSERT_RANGES(&edge, {35, 5}, {50, 10});

        assert_int_equal(ranges_copy(&l, &copy), 0);
        assert_true(ranges_equal(&l, &copy));
        assert_int_equal(ranges_add(&copy, 70, 1), 0);
        assert_false(ranges_equal(&l, &copy));
        assert_int_equal(l.n, 3);
        assert_false(ranges_equal(&l, &part));

        ranges_done(&copy);
        assert_int_equal(ranges_copy(&none, &copy), 0);
        assert_int_equal(copy.n, 0);
}

static bool no_memory;

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

void *__wrap_reallocarray(void *p, size_t n, size_t size) {
        return no_memory ? NULL : __real_reallocarray(p, n, size);
}

static void test_cut(void **state) {
        _cleanup_ranges_ Ranges l = {};
        const Range expected[] = {{10, 10}, {30, 5}, {50, 10}, {80, 10}};

        for (size_t i = 0; i < 4; i++)
                assert_int_equal(ranges_add(&l, 10 + 20 * i, 10), 0);
        assert_int_equal(l.n, l.allocated); /* no room */
        no_memory = true;
        assert_int_equal(ranges_remove(&l, 35, 2), -ENOMEM);
        ranges_cut(&l, 35, 2);
        /* What need not be split needs nothing. */
        ranges_cut(&l, 60, 15);
        assert_int_equal(ranges_remove(&l, 75, 5), 0);
        no_memory = false;
        assert_int_equal(l.n, 3);
        ranges_cut(&l, 53, 2);
        assert_int_equal(l.n, 4);
        assert_int_equal(ranges_add(&l, 53, 2), 0);
        assert_int_equal(ranges_add(&l, 80, 10), 0);
        for (size_t i = 0; i < l.n; i++) {
                assert_int_equal(l.items[i].offset, expected[i].offset);
                assert_int_equal(l.items[i].size, expected[i].size);
        }
}

/* Against a plain array of bytes. */
static void test_random(void **state) {
        enum { SPACE = 256 };
        unsigned seed = 1;

        for (unsigned round = 0; round < 300; round++) {
                _cleanup_ranges_ Ranges l = {};
                bool model[SPACE] = {};
                uint64_t bytes = 0, at = 0;

                for (unsigned i = 0; i < 40; i++) {
                        uint64_t offset = (uint64_t) rand_r(&seed) % (SPACE - 12);
                        uint64_t size = (uint64_t) rand_r(&seed) % 12;

                        bool take = rand_r(&seed) % 4 == 0;

                        if (take)
                                assert_int_equal(ranges_remove(&l, offset, size), 0);
                        else
                                assert_int_equal(ranges_add(&l, offset, size), 0);
                        memset(model + offset, !take, size);
                }
                RANGES_FOREACH (i, &l) {
                        assert_true(i == l.items || i->offset > at);
                        assert_true(i->size > 0);
                        for (; at < i->offset; at++)
                                assert_false(model[at]);
                        for (; at < i->offset + i->size; at++)
                                assert_true(model[at]);
                }
                for (; at < SPACE; at++)
                        assert_false(model[at]);
                for (size_t i = 0; i < SPACE; i++) {
                        bytes += model[i];
                        assert_int_equal(ranges_overlap(&l, i, 1), model[i]);
                }
                assert_int_equal(ranges_bytes(&l), bytes);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_add),     cmocka_unit_test(test_limits),
                        cmocka_unit_test(test_overlap), cmocka_unit_test(test_clip_and_copy),
                        cmocka_unit_test(test_cut),     cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
