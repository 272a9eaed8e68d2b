/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "../unit/test.h"

#include "map-picture.h"
#include "suggest.h"

#define EXTENTS(...) \
        ((const MapExtent[]){__VA_ARGS__}), ELEMENTSOF(((const MapExtent[]){__VA_ARGS__}))

static void check(const MapExtent *extents, size_t n, uint64_t size, size_t width,
                  const char *expected) {
        char picture[128];

        memset(picture, 'z', sizeof(picture));
        map_picture(extents, n, size, width, picture);
        assert_string_equal(picture, expected);
        assert_int_equal(picture[width + 1], 'z');
}

static void test_picture(void **state) {
        check(EXTENTS({0, 100, MAP_FREE}), 100, 10, "..........");
        check(EXTENTS({0, 50, 'A'}, {50, 50, MAP_FREE}), 100, 10, "AAAAA.....");
        check(EXTENTS({0, 30, 'A'}, {30, 20, MAP_DRAINING}, {50, 20, MAP_SCRUBBING},
                      {70, 30, MAP_DIRTY}),
              100, 10, "AAA--~~%%%");
        /* One byte that is not free is not drawn free, wherever it is. */
        check(EXTENTS({0, 49, MAP_FREE}, {49, 1, 'A'}, {50, 50, MAP_FREE}), 100, 10, "....A.....");
        check(EXTENTS({0, 50, MAP_FREE}, {50, 1, 'A'}, {51, 49, MAP_FREE}), 100, 10, ".....A....");
        check(EXTENTS({0, 1, 'A'}, {1, 99, MAP_FREE}), 100, 10, "A.........");
        check(EXTENTS({0, 99, MAP_FREE}, {99, 1, 'A'}), 100, 10, ".........A");
        /* Nor is a bad one hidden by a lease. */
        check(EXTENTS({0, 55, 'A'}, {55, 1, MAP_RETIRED}, {56, 44, 'A'}), 100, 10, "AAAAA!AAAA");
        /* The larger part of a character, also when it is in pieces. */
        check(EXTENTS({0, 4, 'A'}, {4, 6, 'B'}), 10, 1, "B");
        check(EXTENTS({0, 3, 'A'}, {3, 4, 'B'}, {7, 3, 'A'}), 10, 1, "A");
        /* Nothing is known of some bytes. */
        check(EXTENTS({0, 50, 'A'}, {60, 40, MAP_FREE}), 100, 10, "AAAAA?....");
        check(EXTENTS({0, 95, 'A'}), 100, 10, "AAAAAAAAA?");
        check(NULL, 0, 100, 3, "???");
        /* Widths that do not divide the size; fewer bytes than characters. */
        check(EXTENTS({0, 1, 'A'}, {1, 2, MAP_FREE}), 3, 2, "A.");
        check(EXTENTS({0, 1, 'A'}, {1, 1, MAP_FREE}), 2, 4, "AA..");
        /* Near 2^64. */
        check(EXTENTS({0, UINT64_C(1) << 63, 'A'},
                      {UINT64_C(1) << 63, (UINT64_C(1) << 63) - 1, MAP_FREE}),
              UINT64_MAX, 4, "AAA.");
}

static void test_lease_marks(void **state) {
        assert_int_equal(map_lease_mark(0), 'A');
        assert_int_equal(map_lease_mark(25), 'Z');
        assert_int_equal(map_lease_mark(26), 'a');
        assert_int_equal(map_lease_mark(51), 'z');
        assert_int_equal(map_lease_mark(52), 'A');
        for (size_t i = 0; i < 52; i++)
                assert_null(strchr(".%~-!?", map_lease_mark(i)));
}

static void test_suggest(void **state) {
        static const char *const verbs[] = {"status",      "list-regions", "list-leases",
                                            "show-region", "show-lease",   "lease",
                                            "run",         "release",      "map"};
        static const struct {
                const char *text, *meant;
        } table[] = {
                        {"stat", "status"},
                        {"stauts", "status"},
                        {"statsu", "status"},
                        {"rel", "release"},
                        {"relase", "release"},
                        {"lease", "lease"},
                        {"leases", "lease"},
                        {"show-leas", "show-lease"},
                        {"list-region", "list-regions"},
                        {"rum", "run"},
                        {"lst-leases", "list-leases"},
                        {"list", NULL},
                        {"frobnicate", NULL},
                        {"", NULL},
                        {"xyz", NULL},
                        {"an-argument-that-is-far-longer-than-any-verb-could-be", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                const char *meant = suggest(table[i].text, verbs, ELEMENTSOF(verbs));

                if (table[i].meant)
                        assert_string_equal(meant ?: "nothing", table[i].meant);
                else if (meant)
                        fail_msg("'%s' is not '%s'", table[i].text, meant);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_picture),
                        cmocka_unit_test(test_lease_marks),
                        cmocka_unit_test(test_suggest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
