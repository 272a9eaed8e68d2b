/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include "zero.h"

#define ROOM 512U
#define GUARD 0xa5

static const size_t sizes[] = {0,  1,  2,  7,   8,   15,  16,  17,  31,   32,   33,   63,  64,
                               65, 66, 95, 127, 128, 129, 191, 192, 1000, 4095, 4096, 4097};

static bool all(const uint8_t *p, size_t size, uint8_t value) {
        for (size_t i = 0; i < size; i++)
                if (p[i] != value)
                        return false;
        return true;
}

/* Every size at every place in a line (and more): zero inside, untouched on either side. With all that this machine can do. */
static void test_span_is_exact(void **state) {
        _cleanup_free_ uint8_t *room = aligned_alloc(64, 2 * ROOM + 8192);
        const ZeroTechnique *t;
        size_t n;

        assert_non_null(room);
        for (n = 0; (t = zero_technique_get(n)); n++)
                for (size_t k = 0; k < ELEMENTSOF(sizes); k++)
                        for (size_t at = 0; at < 130; at++) {
                                size_t total = 2 * ROOM + sizes[k] + at;

                                memset(room, GUARD, total);
                                zero_span_by(t, room + ROOM + at, sizes[k]);
                                zero_fence();
                                assert_true(all(room, ROOM + at, GUARD));
                                assert_true(all(room + ROOM + at, sizes[k], 0));
                                assert_true(all(room + ROOM + at + sizes[k], ROOM, GUARD));
                        }
        assert_true(n > 0);
}

static void test_large_span(void **state) {
        size_t size = 4 * MIB + 123;
        _cleanup_free_ uint8_t *room = malloc(size + 2);

        assert_non_null(room);
        memset(room, GUARD, size + 2);
        zero_span(room + 1, size);
        zero_fence();
        assert_true(room[0] == GUARD && room[size + 1] == GUARD);
        assert_true(all(room + 1, size, 0));
        assert_true(zero_check(room + 1, size));
        assert_false(zero_check(room, size));
        assert_false(zero_check(room + 1, size + 1));
}

/* One byte, one bit of it, wherever it is. */
static void test_check_sees_every_byte(void **state) {
        _cleanup_free_ uint8_t *room = calloc(1, 8192);

        assert_non_null(room);
        for (size_t k = 0; k < ELEMENTSOF(sizes); k++)
                for (size_t at = 0; at < 3; at++) {
                        uint8_t *p = room + 64 + at;

                        p[-1] = p[sizes[k]] = GUARD;
                        assert_true(zero_check(p, sizes[k]));
                        for (size_t i = 0; i < sizes[k]; i++) {
                                p[i] = (uint8_t) (1U << (i % 8));
                                assert_false(zero_check(p, sizes[k]));
                                p[i] = 0;
                        }
                        p[-1] = p[sizes[k]] = 0;
                }
}

static void test_names_itself(void **state) {
#ifdef __x86_64__
        size_t n = 0;

        /* What is part of x86-64 is there for who has nothing better. */
        assert_non_null(strstr(zero_technique(), "streaming stores"));
        while (zero_technique_get(n + 1))
                n++;
        assert_string_equal(zero_technique_get(n)->name, "streaming stores (SSE2)");
        assert_true((n == 0) == !__builtin_cpu_supports("avx2"));
#else
        assert_non_null(strstr(zero_technique(), "memset"));
#endif
        assert_string_equal(zero_technique(), zero_technique_get(0)->name);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_span_is_exact),
                        cmocka_unit_test(test_large_span),
                        cmocka_unit_test(test_check_sees_every_byte),
                        cmocka_unit_test(test_names_itself),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
