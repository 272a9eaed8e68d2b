/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "../unit/test.h"

#include "text-table.h"

static char *print(const TextTable *t, bool legend) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        text_table_print(t, f, legend);
        assert_int_equal(fclose(f), 0);
        return text;
}

static void test_table(void **state) {
        static const TextColumn columns[] = {{"NAME", false}, {"SIZE", true}, {"LABEL", false}};
        _cleanup_(text_table_freep) TextTable *t = NULL;
        _cleanup_free_ char *with = NULL, *without = NULL, *empty = NULL;

        assert_int_equal(text_table_new(columns, ELEMENTSOF(columns), &t), 0);
        empty = print(t, true);
        assert_string_equal(empty, "NAME  SIZE  LABEL\n");
        assert_int_equal(text_table_count_rows(t), 0);

        assert_int_equal(text_table_add(t, "%s", "egm4"), 0);
        assert_int_equal(text_table_add(t, "%d", 7), 0);
        assert_int_equal(text_table_add(t, "%s", ""), 0);
        assert_int_equal(text_table_add(t, "%s", "egm\xc3\xa9-55"), 0);
        assert_int_equal(text_table_add(t, "%s", "447G"), 0);
        assert_int_equal(text_table_add(t, "%s", "a \x1b[31mred\nline"), 0);
        assert_int_equal(text_table_count_rows(t), 2);
        with = print(t, true);
        assert_string_equal(with, "NAME     SIZE  LABEL\n"
                                  "egm4        7  -\n"
                                  "egm\xc3\xa9-55  447G  a ?[31mred?line\n");
        without = print(t, false);
        assert_string_equal(without, "egm4        7  -\n"
                                     "egm\xc3\xa9-55  447G  a ?[31mred?line\n");
}

static void test_width(void **state) {
        assert_int_equal(text_width("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x"), 4);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_table),
                        cmocka_unit_test(test_width),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
