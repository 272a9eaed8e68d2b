/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "../unit/test.h"

#include "options.h"
#include "slice-option.h"

static void test_slice(void **state) {
        _cleanup_(slice_option_done) SliceOption s = {};

        assert_int_equal(slice_option_parse(&s,
                                            "size=64G,region=egm4,gpu=0009:01:00.0,node=1,socket=0,"
                                            "align=1G,retired=include",
                                            NULL),
                         0);
        assert_true(s.has_size && s.has_node && s.has_socket && s.has_align && s.include_retired);
        assert_false(s.whole);
        assert_int_equal(s.size, 64 * GIB);
        assert_string_equal(s.region, "egm4");
        assert_string_equal(s.gpu, "0009:01:00.0");
        assert_int_equal(s.node, 1);
        assert_int_equal(s.socket, 0);
        assert_int_equal(s.align, GIB);
}

static void test_slice_forms(void **state) {
        static const struct {
                const char *text, *message; /* NULL: fine */
        } table[] = {
                        {"size=1", NULL},
                        {"size=0", NULL}, /* the daemon's to refuse: it knows the granule */
                        {"whole", NULL},
                        {"whole=yes,node=0", NULL},
                        {"size=1G,whole=no", NULL},
                        {"gpu=x,size=1G", NULL},
                        {"size=1,retired=avoid", NULL},

                        {"", "'' is none of"},
                        {"size", "'size' has no value"},
                        {"size=", "'' is not a size"},
                        {"size=1Q", "'1Q' is not a size"},
                        {"size=-1", "'-1' is not a size"},
                        {"size=1.5G", "'1.5G' is not a size"},
                        {"size=16E", "'16E' is not below 2^64 bytes"},
                        {"size=18446744073709551616", "not below 2^64 bytes"},
                        {"size=1,align=", "'' is not a size"},
                        {"size=1,", "'' is none of"},
                        {"size=1,size=1", "'size' is given twice"},
                        {"whole,whole", "'whole' is given twice"},
                        {"node=1,size=1,node=1", "'node' is given twice"},
                        {"size=1,retired=avoid,retired=include", "'retired' is given twice"},
                        {"size=1,gpu=a,gpu=a", "'gpu' is given twice"},
                        {"size=1,gpu=", "'' is not a name"},
                        {"size=1,region=", "'' is not a name"},
                        {"size=1,node=x", "'x' is not a number"},
                        {"size=1,node=-1", "'-1' is not a number"},
                        {"size=1,socket=2147483648", "'2147483648' is not a number"},
                        {"size=1,retired=maybe", "'maybe' is not avoid or include"},
                        {"whole=maybe", "'maybe' is not yes or no"},
                        {"size=1,Node=1", "'Node' is none of"},
                        {"size=1,whole", "a size or is whole"},
                        {"node=1", "needs a size"},
                        {"whole=no", "needs a size"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(slice_option_done) SliceOption s = {};
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                int r = slice_option_parse(&s, table[i].text, &e);

                if (!table[i].message)
                        assert_int_equal(r, 0);
                else if (r != -EINVAL || !e.message || !strstr(e.message, table[i].message))
                        fail_msg("'%s': %d, %s", table[i].text, r, e.message);
        }
}

#define ARGS_MAX 16

/* Splits at blanks; returns the number of arguments. */
static int split(char *line, char **argv) {
        char *word;
        int n = 0;

        while ((word = strsep(&line, " ")))
                argv[n++] = word;
        assert_true(n < ARGS_MAX);
        argv[n] = NULL;
        return n;
}

static void test_verb_options(void **state) {
        char line[] = "lease --size=1G x --gpu=g y --wait 3 -- -z", *argv[ARGS_MAX];
        _cleanup_options_ Options o = {};
        int n, argc = split(line, argv);

        assert_int_equal(options_parse_verb(&o, argc, argv, OPTIONS_ACQUIRE, false, &n, NULL), 0);
        assert_int_equal(o.n_slices, 1);
        assert_int_equal(o.slices[0].size, GIB);
        assert_string_equal(o.slices[0].gpu, "g");
        assert_int_equal(o.wait_usec, 3 * USEC_PER_SEC);
        /* Options may stand anywhere; what is left is in order. */
        assert_int_equal(argc - n - 1, 3);
        assert_string_equal(argv[n + 1], "x");
        assert_string_equal(argv[n + 2], "y");
        assert_string_equal(argv[n + 3], "-z");
}

/* What stands behind the command is the command's. */
static void test_command_options(void **state) {
        static const char *const lines[] = {
                        "run --slice=size=1G --slice=whole cmd --size=2G -x",
                        "run --slice=size=1G --slice=whole -- cmd --size=2G -x"};

        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                _cleanup_free_ char *line = strdup(lines[i]);
                _cleanup_options_ Options o = {};
                char *argv[ARGS_MAX];
                int n, argc = split(line, argv);

                assert_int_equal(
                                options_parse_verb(&o, argc, argv, OPTIONS_ACQUIRE, true, &n, NULL),
                                0);
                assert_int_equal(o.n_slices, 2);
                assert_true(o.slices[1].whole);
                assert_int_equal(argc - n - 1, 3);
                assert_string_equal(argv[n + 1], "cmd");
                assert_string_equal(argv[n + 3], "-x");
        }
}

static void test_wrong_options(void **state) {
        static const struct {
                const char *line;
                unsigned groups;
                const char *message;
        } table[] = {
                        {"v --frob", 0, "Unknown option '--frob'"},
                        {"v -x", 0, "Unknown option '-x'"},
                        {"v --bus", 0, "Option '--bus' needs a value"},
                        {"v -p", OPTIONS_PROPERTY, "Option '-p' needs a value"},
                        {"v --help=1", 0, "Option '--help=1' takes no value"},
                        {"v --no-legend=1", 0, "Option '--no-legend=1' takes no value"},
                        {"v --size=1", 0, "no option '--size'"},
                        {"v -p Id", 0, "no option '--property'"},
                        {"v --value", OPTIONS_ACQUIRE, "no option '--value'"},
                        {"v --persistent --size=1", OPTIONS_ACQUIRE, "no option '--persistent'"},
                        {"v", OPTIONS_ACQUIRE, "Say how much"},
                        {"v --node=1", OPTIONS_ACQUIRE, "needs a size"},
                        {"v --size=1 --whole", OPTIONS_ACQUIRE, "not both"},
                        {"v --size=1 --size=1", OPTIONS_ACQUIRE, "twice"},
                        {"v --size=1 --slice=size=1", OPTIONS_ACQUIRE, "exclude each other"},
                        {"v --slice=foo", OPTIONS_ACQUIRE, "'foo' is none of"},
                        {"v --wait=-1 --size=1", OPTIONS_ACQUIRE, "--wait= takes"},
                        {"v --wait=18446744073710 --size=1", OPTIONS_ACQUIRE, "--wait= takes"},
                        {"v --json=help", 0, "--json= is off, short or pretty"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *line = strdup(table[i].line);
                _cleanup_options_ Options o = {};
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                char *argv[ARGS_MAX];
                int n, r, argc = split(line, argv);

                r = options_parse_verb(&o, argc, argv, table[i].groups, false, &n, &e);
                if (r != -EINVAL || !e.message || !strstr(e.message, table[i].message))
                        fail_msg("'%s': %d, %s", table[i].line, r, e.message);
        }
}

static void test_global_options(void **state) {
        char line[] = "egmctl --bus=a --json=short --no-legend --no-pager lease --bus=b",
             *argv[ARGS_MAX];
        _cleanup_options_ Options o = {};
        int n, argc = split(line, argv);

        assert_int_equal(options_parse_global(&o, argc, argv, &n, NULL), 0);
        assert_int_equal(n, 4);
        assert_string_equal(o.bus, "a");
        assert_int_equal(o.json, JSON_SHORT);
        assert_true(o.no_legend);
        assert_int_equal(options_parse_verb(&o, argc - 5, argv + 5, 0, false, &n, NULL), 0);
        assert_string_equal(o.bus, "b");
        /* They hold for what stands behind, too. */
        assert_true(o.no_legend);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_slice),
                        cmocka_unit_test(test_slice_forms),
                        cmocka_unit_test(test_verb_options),
                        cmocka_unit_test(test_command_options),
                        cmocka_unit_test(test_wrong_options),
                        cmocka_unit_test(test_global_options),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
