/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>
#include "test.h"

#include "size.h"

static void test_parse_size(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t value;
        } table[] = {
                        {"0", 0, 0},
                        {"1", 0, 1},
                        {"65536", 0, 64 * KIB},
                        {"64K", 0, 64 * KIB},
                        {"64k", 0, 64 * KIB},
                        {"64KiB", 0, 64 * KIB},
                        {"64kb", 0, 64 * KIB},
                        {"7B", 0, 7},
                        {"447G", 0, 447 * GIB},
                        {"2T", 0, 2048 * GIB},
                        {"15E", 0, UINT64_C(15) << 60},
                        {"16E", -ERANGE, 0},
                        {"18446744073709551615", 0, UINT64_MAX},
                        {"18446744073709551616", -ERANGE, 0},
                        {"99999999999999999999999", -ERANGE, 0},
                        {"18014398509481984K", -ERANGE, 0},
                        {"", -EINVAL, 0},
                        {"K", -EINVAL, 0},
                        {"-1", -EINVAL, 0},
                        {"+1", -EINVAL, 0},
                        {" 1", -EINVAL, 0},
                        {"1 ", -EINVAL, 0},
                        {"1.5G", -EINVAL, 0},
                        {"1X", -EINVAL, 0},
                        {"1KK", -EINVAL, 0},
                        {"1Ki", -EINVAL, 0},
                        {"0x10", -EINVAL, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint64_t v = 4711;

                assert_int_equal(parse_size(table[i].text, &v), table[i].r);
                assert_int_equal(v, table[i].r < 0 ? 4711 : table[i].value);
        }
}

static void test_parse_int(void **state) {
        int v = 4711;

        assert_int_equal(parse_int("-1", &v), 0);
        assert_int_equal(v, -1);
        assert_int_equal(parse_int("2147483647", &v), 0);
        assert_int_equal(v, INT_MAX);
        assert_int_equal(parse_int("2147483648", &v), -ERANGE);
        assert_int_equal(parse_int("--1", &v), -EINVAL);
        assert_int_equal(parse_int("-", &v), -EINVAL);
        assert_int_equal(v, INT_MAX);
}

static void test_format_size(void **state) {
        static const struct {
                uint64_t value;
                const char *text;
        } table[] = {
                        {0, "0B"},           {1023, "1023B"},      {1024, "1K"},
                        {64 * KIB, "64K"},   {1536 * KIB, "1.5M"}, {447 * GIB, "447G"},
                        {894 * GIB, "894G"}, {GIB - 1, "1G"},      {1024 * GIB, "1T"},
                        {UINT64_MAX, "16E"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                assert_string_equal(FORMAT_SIZE(table[i].value), table[i].text);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_parse_size),
                        cmocka_unit_test(test_parse_int),
                        cmocka_unit_test(test_format_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
