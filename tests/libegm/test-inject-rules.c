/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/mman.h>

#include "../unit/test.h"

#include "inject-rules.h"

static void test_good_paths(void **state) {
        static const char *const good[] = {
                        "/a", "/run/egm/lease-7/slice-0", "/dev/egm4", "/...", "/.a", "/a../b"};
        static const char *const bad[] = {"",      "a",  "/",   "//",   "/a/",  "//a",
                                          "/a//b", "/.", "/..", "/a/.", "/./a", "/a/../b"};
        _cleanup_free_ char *longest = NULL;

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_true(inject_path_is_good(good[i]));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (inject_path_is_good(bad[i]))
                        fail_msg("'%s' is good", bad[i]);
        assert_false(inject_path_is_good(NULL));
        assert_int_not_equal(asprintf(&longest, "/%04094d", 0), -1);
        assert_true(inject_path_is_good(longest));
        longest = mfree(longest);
        assert_int_not_equal(asprintf(&longest, "/%04095d", 0), -1);
        assert_false(inject_path_is_good(longest));
}

static void test_matches(void **state) {
        static const struct {
                const char *good, *said;
                bool matches;
        } table[] = {
                        {"/dev/egm4", "/dev/egm4", true},
                        {"/dev/egm4", "//dev///egm4", true},
                        {"/dev/egm4", "/./dev/././egm4", true},
                        {"/...", "/...", true},
                        {"/dev/egm4", "/dev/egm4/", false},
                        {"/dev/egm4", "/dev/egm4/.", false},
                        {"/dev/egm4", "/dev/egm44", false},
                        {"/dev/egm4", "/dev/egm", false},
                        {"/dev/egm4", "/dev", false},
                        {"/dev/egm4", "/dev/egm4/x", false},
                        {"/dev/egm4", "/dev/egm4x/", false},
                        {"/dev/egm4", "/", false},
                        {"/dev/egm4", "", false},
                        {"/dev/egm4", "dev/egm4", false},
                        {"/dev/egm4", "/dev/x/../egm4", false},
                        {"/dev/egm4", "/x/dev/egm4", false},
                        {"/dev/.egm4", "/dev/.egm4", true},
                        {"/dev/.egm4", "/dev/./.egm4", true},
                        {"/d/e", "/de", false},
                        {"/de", "/d/e", false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (inject_path_matches(table[i].good, table[i].said) != table[i].matches)
                        fail_msg("%s, %s", table[i].good, table[i].said);
}

#define PAGE UINT64_C(4096)

static void test_maps(void **state) {
        static const InjectRange here = {16 * PAGE, 4 * PAGE, INJECT_SHIFT_NO};
        static const InjectRange moved = {16 * PAGE, 4 * PAGE, INJECT_SHIFT_YES};
        static const InjectRange start = {0, 4 * PAGE, INJECT_SHIFT_YES};
        static const InjectRange big = {4 * PAGE, 16 * PAGE, INJECT_SHIFT_YES};
        static const InjectRange either = {2 * PAGE, 4 * PAGE, INJECT_SHIFT_AUTO};
        static const InjectRange first = {0, 4 * PAGE, INJECT_SHIFT_AUTO};
        static const InjectRange end = {INT64_MAX / 4096 * 4096 - 4 * PAGE, 4 * PAGE,
                                        INJECT_SHIFT_YES};
        static const struct {
                const InjectRange *range;
                uint64_t length, flags, offset;
                InjectMapVerdict verdict;
                uint64_t to;
        } table[] = {
                        /* The program says where. */
                        {&here, 4 * PAGE, MAP_SHARED, 16 * PAGE, INJECT_MAP_HERE, 0},
                        {&here, PAGE, MAP_SHARED | MAP_FIXED, 19 * PAGE, INJECT_MAP_HERE, 0},
                        {&here, PAGE - 1, MAP_SHARED, 19 * PAGE, INJECT_MAP_HERE, 0},
                        {&here, PAGE + 1, MAP_SHARED, 19 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&here, 5 * PAGE, MAP_SHARED, 16 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&here, PAGE, MAP_SHARED, 15 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&here, 4 * PAGE, MAP_SHARED, 0, INJECT_MAP_OUTSIDE, 0},
                        {&here, PAGE, MAP_SHARED, 20 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&here, UINT64_MAX, MAP_SHARED, 16 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&here, UINT64_MAX - PAGE, MAP_SHARED, 16 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&here, PAGE, MAP_SHARED, UINT64_MAX - PAGE + 1, INJECT_MAP_OUTSIDE, 0},
                        {&here, 4 * PAGE, MAP_PRIVATE, 16 * PAGE, INJECT_MAP_PRIVATE, 0},
                        {&here, 4 * PAGE, MAP_SHARED_VALIDATE | MAP_SYNC, 16 * PAGE,
                         INJECT_MAP_HERE, 0},
                        /* The kernel's to refuse, or nothing of ours. */
                        {&here, 4 * PAGE, MAP_SHARED | MAP_ANONYMOUS, 0, INJECT_MAP_KERNEL, 0},
                        {&here, 0, MAP_SHARED, 0, INJECT_MAP_KERNEL, 0},
                        {&here, PAGE, MAP_SHARED, 1, INJECT_MAP_KERNEL, 0},
                        {&here, PAGE, 0, 16 * PAGE, INJECT_MAP_PRIVATE, 0},
                        /* It does not know of an offset. */
                        {&moved, 4 * PAGE, MAP_SHARED, 0, INJECT_MAP_MOVE, 16 * PAGE},
                        {&moved, PAGE, MAP_SHARED, 3 * PAGE, INJECT_MAP_MOVE, 19 * PAGE},
                        {&moved, 1, MAP_SHARED, 3 * PAGE, INJECT_MAP_MOVE, 19 * PAGE},
                        {&moved, 5 * PAGE, MAP_SHARED, 0, INJECT_MAP_OUTSIDE, 0},
                        {&moved, PAGE, MAP_SHARED, 4 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&moved, 4 * PAGE, MAP_SHARED, 16 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&moved, UINT64_MAX, MAP_SHARED, 0, INJECT_MAP_OUTSIDE, 0},
                        {&moved, 4 * PAGE, MAP_PRIVATE, 0, INJECT_MAP_PRIVATE, 0},
                        {&moved, PAGE, MAP_SHARED, PAGE / 2, INJECT_MAP_KERNEL, 0},
                        /* Not where the slice is, although that is within its size. */
                        {&big, 4 * PAGE, MAP_SHARED, 4 * PAGE, INJECT_MAP_MOVE, 8 * PAGE},
                        {&end, 4 * PAGE, MAP_SHARED, 0, INJECT_MAP_MOVE,
                         INT64_MAX / 4096 * 4096 - 4 * PAGE},
                        {&start, 4 * PAGE, MAP_SHARED, 0, INJECT_MAP_HERE, 0},
                        {&start, 5 * PAGE, MAP_SHARED, 0, INJECT_MAP_OUTSIDE, 0},
                        /* It may or may not: all of it is clear, parts of it are not always. */
                        {&either, 4 * PAGE, MAP_SHARED, 0, INJECT_MAP_MOVE, 2 * PAGE},
                        {&either, 4 * PAGE, MAP_SHARED, 2 * PAGE, INJECT_MAP_HERE, 0},
                        {&either, PAGE, MAP_SHARED, PAGE, INJECT_MAP_MOVE, 3 * PAGE},
                        {&either, PAGE, MAP_SHARED, 2 * PAGE, INJECT_MAP_UNCLEAR, 0},
                        {&either, PAGE, MAP_SHARED, 3 * PAGE, INJECT_MAP_UNCLEAR, 0},
                        {&either, PAGE, MAP_SHARED, 4 * PAGE, INJECT_MAP_HERE, 0},
                        {&either, 4 * PAGE, MAP_SHARED, PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&either, PAGE, MAP_SHARED, 6 * PAGE, INJECT_MAP_OUTSIDE, 0},
                        {&first, 4 * PAGE, MAP_SHARED, 0, INJECT_MAP_HERE, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint64_t to = 0;
                InjectMapVerdict v = inject_judge_map(table[i].range, table[i].length,
                                                      table[i].flags, table[i].offset, PAGE, &to);

                if (v != table[i].verdict || to != table[i].to)
                        fail_msg("line %zu: verdict %d, offset %" PRIu64, i, v, to);
        }
}

static void test_pages(void **state) {
        static const uint64_t ranges[] = {0, PAGE,     2 * PAGE, 3 * PAGE, 6 * PAGE + 1,
                                          1, 9 * PAGE, 8 * PAGE};
        static const uint64_t expected[] = {0, 2, 3, 4, 6, 9};
        static const uint64_t endless[] = {PAGE, UINT64_MAX};
        _cleanup_free_ InjectPage *pages = NULL, *none = NULL;
        size_t n;

        assert_int_equal(inject_list_pages(ranges, 4, 10 * PAGE, PAGE, &pages, &n), 0);
        assert_int_equal(n, ELEMENTSOF(expected));
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(pages[i].offset, expected[i] * PAGE);
                assert_int_equal(pages[i].size, PAGE);
        }
        assert_int_equal(inject_list_pages(NULL, 0, PAGE, PAGE, &none, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(inject_list_pages(endless, 1, PAGE, PAGE, &pages, &n), -EBADMSG);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_good_paths),
                        cmocka_unit_test(test_matches),
                        cmocka_unit_test(test_maps),
                        cmocka_unit_test(test_pages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
