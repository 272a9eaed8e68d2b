/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "index-list.h"
#include "test.h"

static void test_parse(void **state) {
        static const struct {
                const char *text;
                int r; /* how many, or an error */
                unsigned first, last;
        } table[] = {
                        {"", 0, 0, 0},
                        {"0", 1, 0, 0},
                        {"0-3", 4, 0, 3},
                        {"0-1,7", 3, 0, 7},
                        {"7,0-1", 3, 0, 7},
                        {"5,5,4-6", 3, 4, 6},
                        {"15", 1, 15, 15},
                        {"0-15", 16, 0, 15},
                        {"16", -ERANGE, 0, 0},
                        {"0-16", -ERANGE, 0, 0},
                        {"18446744073709551616", -ERANGE, 0, 0},
                        {"3-1", -EINVAL, 0, 0},
                        {",", -EINVAL, 0, 0},
                        {"1,", -EINVAL, 0, 0},
                        {",1", -EINVAL, 0, 0},
                        {"1-", -EINVAL, 0, 0},
                        {"-1", -EINVAL, 0, 0},
                        {"1-2-3", -EINVAL, 0, 0},
                        {"0x1", -EINVAL, 0, 0},
                        {" 1", -EINVAL, 0, 0},
                        {"1\n", -EINVAL, 0, 0},
                        {"all", -EINVAL, 0, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ unsigned *list = NULL;
                size_t n = 99;
                int r = parse_index_list(table[i].text, 15, &list, &n);

                if (table[i].r < 0) {
                        if (r != table[i].r || list || n != 99)
                                fail_msg("'%s': %d", table[i].text, r);
                        continue;
                }
                if (r != 0 || n != (size_t) table[i].r)
                        fail_msg("'%s': %d, %zu", table[i].text, r, n);
                assert_int_equal(!list, n == 0);
                if (n > 0) {
                        assert_int_equal(list[0], table[i].first);
                        assert_int_equal(list[n - 1], table[i].last);
                }
                for (size_t k = 1; k < n; k++)
                        assert_true(list[k - 1] < list[k]);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_parse),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
