/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "extent-map-text.h"
#include "placement.h"
#include "refusal.h"

#define G (2 * MIB) /* then the default alignment is a granule */
#define ANYWHERE .node = EGM_NODE_ANY, .socket = EGM_SOCKET_ANY

static const char *const gpus_four[] = {"0008:01:00.0", "0009:01:00.0", NULL};
static const char all_free[] = "................................................................";

static void test_check(void **state) {
        static const struct {
                SliceRequest slice;
                EgmErrorKind kind;
                const char *words[4];
        } table[] = {
                        {{64 * KIB, ANYWHERE}, EGM_ERROR_NONE, {}},
                        {{64 * KIB, ANYWHERE, .align = 64 * KIB}, EGM_ERROR_NONE, {}},
                        {{64 * KIB, ANYWHERE, .align = GIB}, EGM_ERROR_NONE, {}},
                        {{UINT64_MAX - 64 * KIB + 1, ANYWHERE}, EGM_ERROR_NONE, {}},
                        {{.whole = true, ANYWHERE, .align = 2 * MIB}, EGM_ERROR_NONE, {}},
                        {{0, ANYWHERE}, EGM_ERROR_INVALID_ARGS, {"size 0"}},
                        {{64 * KIB, .whole = true, ANYWHERE},
                         EGM_ERROR_INVALID_ARGS,
                         {"65536", "exclude"}},
                        {{64 * KIB, .node = -2, .socket = -1},
                         EGM_ERROR_INVALID_ARGS,
                         {"node -2", "0 or more"}},
                        {{64 * KIB, .node = -1, .socket = -7},
                         EGM_ERROR_INVALID_ARGS,
                         {"socket -7"}},
                        {{0, ANYWHERE, .region = "egm9", .align = 3}, EGM_ERROR_INVALID_ARGS, {}},
                        {{1, ANYWHERE},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"size 1 ", "granule, 65536 (64K)"}},
                        {{64 * KIB - 1, ANYWHERE}, EGM_ERROR_BAD_ALIGNMENT, {"size 65535 "}},
                        {{64 * KIB + 1, ANYWHERE}, EGM_ERROR_BAD_ALIGNMENT, {"size 65537 "}},
                        {{UINT64_MAX, ANYWHERE},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"size 18446744073709551615 "}},
                        {{64 * KIB, ANYWHERE, .align = 1},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 1;", "65536 (64K)", "1073741824 (1G)"}},
                        {{64 * KIB, ANYWHERE, .align = 3},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 3;", "power of two"}},
                        {{64 * KIB, ANYWHERE, .align = 64 * KIB - 1},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 65535;"}},
                        {{64 * KIB, ANYWHERE, .align = 32 * KIB},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 32768;"}},
                        {{64 * KIB, ANYWHERE, .align = 3 * MIB},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 3145728;"}},
                        {{64 * KIB, ANYWHERE, .align = 2 * GIB},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 2147483648;"}},
                        {{64 * KIB, ANYWHERE, .align = UINT64_MAX}, EGM_ERROR_BAD_ALIGNMENT, {}},
                        {{.whole = true, ANYWHERE, .align = 3},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 3;"}},
                        {{64 * KIB, .region = "egm5", ANYWHERE},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"131072 (128K)"}},
                        {{128 * KIB, .region = "egm5", ANYWHERE, .align = 64 * KIB},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"alignment 65536;", "131072 (128K)"}},
                        {{64 * KIB, .region = "egm6", ANYWHERE},
                         EGM_ERROR_NONE,
                         {}}, /* size not known */
                        {{4096, .region = "egm6", ANYWHERE},
                         EGM_ERROR_BAD_ALIGNMENT,
                         {"65536 (64K)"}},
                        {{64 * KIB, .region = "egm9", ANYWHERE},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"no EGM region named egm9;",
                          "egm4 (node 0, socket 0, GPU 0008:01:00.0, GPU 0009:01:00.0)", "egm6"}},
                        {{64 * KIB, .region = "", ANYWHERE}, EGM_ERROR_NO_SUCH_REGION, {}},
                        {{64 * KIB, .gpu = "", ANYWHERE}, EGM_ERROR_NO_SUCH_REGION, {}},
                        {{64 * KIB, .gpu = ":", ANYWHERE}, EGM_ERROR_NO_SUCH_REGION, {}},
                        {{64 * KIB, .gpu = "0009:02:00.0", ANYWHERE},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"GPU 0009:02:00.0"}},
                        {{64 * KIB, .gpu = "01:00.0", ANYWHERE},
                         EGM_ERROR_NO_SUCH_REGION,
                         {}}, /* is domain 0 */
                        {{64 * KIB, .gpu = "9:1:0.0", ANYWHERE}, EGM_ERROR_NO_SUCH_REGION, {}},
                        {{64 * KIB, .node = 7, .socket = -1},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"on node 7"}},
                        {{64 * KIB, .node = -1, .socket = 7},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"on socket 7"}},
                        {{64 * KIB, .node = 0, .socket = 1},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"on node 0 on socket 1"}},
                        {{64 * KIB, .region = "egm5", .gpu = "0008:01:00.0", ANYWHERE},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"named egm5 near GPU 0008:01:00.0"}},
                        {{1, .region = "egm9", ANYWHERE}, EGM_ERROR_NO_SUCH_REGION, {}},
                        {{64 * KIB, .region = "a\nb\x1b[31m\xc3\xa4", ANYWHERE},
                         EGM_ERROR_NO_SUCH_REGION,
                         {"a?b?[31m??;"}},
        };
        _cleanup_map_ ExtentMap *four = map_from(64 * KIB, "...."),
                                *five = map_from(128 * KIB, "....");
        const PlacementRegion regions[] = {
                        {"egm4", gpus_four, 0, 0, four, .ready = true},
                        {"egm5", NULL, 1, 1, five, .ready = true},
                        {"egm6", NULL, 2, 1, NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                /* Where it can go to both, the larger granule counts: the first rows are for egm4. */
                size_t n_regions = table[i].slice.region || table[i].slice.gpu ||
                                                                   table[i].slice.node > 0 ||
                                                                   table[i].slice.socket > 0
                                                   ? ELEMENTSOF(regions)
                                                   : 1;
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL, again = EGM_ERROR_NULL;
                Placed placed;
                int r;

                r = placement_check(&table[i].slice, 1, regions, n_regions, &e);
                if (e.kind != table[i].kind)
                        fail_msg("row %zu: kind %d: %s", i, (int) e.kind, e.message ?: "");
                if (e.kind == EGM_ERROR_NONE) {
                        assert_int_equal(r, 0);
                        continue;
                }
                assert_int_equal(r, -egm_error_kind_to_errno(e.kind));
                assert_message(&e, table[i].words);
                assert_int_equal(placement_take(&table[i].slice, 1, regions, n_regions, 1, &placed,
                                                &again),
                                 r);
                assert_string_equal(again.message, e.message);
                map_expect(four, 64 * KIB, "....");
        }
}

/* A slice that may go to several regions must suit the coarsest of them, whichever comes first. */
static void test_check_granules(void **state) {
        _cleanup_map_ ExtentMap *fine = map_from(64 * KIB, "...."),
                                *coarse = map_from(128 * KIB, "....");
        PlacementRegion regions[] = {
                        {"egm4", NULL, 0, 0, fine, .ready = true},
                        {"egm5", NULL, 1, 1, coarse, .ready = true},
        };
        const SliceRequest slice = {64 * KIB, ANYWHERE};

        for (unsigned i = 0; i < 2; i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                PlacementRegion first = regions[0];

                assert_true(placement_check(&slice, 1, regions, ELEMENTSOF(regions), &e) < 0);
                assert_int_equal(e.kind, EGM_ERROR_BAD_ALIGNMENT);
                assert_message(&e, (const char *const[]){"granule, 131072 (128K)", NULL});
                regions[0] = regions[1];
                regions[1] = first;
        }
}

static void test_check_numbers(void **state) {
        static const struct {
                size_t n;
                EgmErrorKind kind;
                const char *words[3];
        } table[] = {
                        {0, EGM_ERROR_INVALID_ARGS, {"at least one slice"}},
                        {1, EGM_ERROR_NONE, {}},
                        {EGM_SLICES_MAX, EGM_ERROR_NONE, {}},
                        {16, EGM_ERROR_INVALID_ARGS, {"16 slices", "limit is 15"}},
                        {10000, EGM_ERROR_INVALID_ARGS, {"10000 slices"}},
        };
        _cleanup_free_ SliceRequest *slices = calloc(10000, sizeof(*slices));
        Placed placed[EGM_SLICES_MAX];

        for (size_t i = 0; i < 10000; i++)
                slices[i] = (SliceRequest){G, ANYWHERE};
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL, none = EGM_ERROR_NULL;
                _cleanup_map_ ExtentMap *m = map_from(G, all_free);
                PlacementRegion region = {"egm4", NULL, 0, 0, m, .ready = true};
                int r;

                r = placement_take(slices, table[i].n, &region, 1, 1, placed, &e);
                assert_int_equal(e.kind, table[i].kind);
                assert_int_equal(r >= 0, e.kind == EGM_ERROR_NONE);
                if (e.kind != EGM_ERROR_NONE) {
                        assert_message(&e, table[i].words);
                        map_expect(m, G, all_free);
                } else
                        assert_int_equal(extent_map_bytes(m, EXTENT_LEASED), table[i].n * G);

                if (table[i].n == 1) {
                        assert_true(placement_take(slices, 1, NULL, 0, 1, placed, &none) < 0);
                        assert_int_equal(none.kind, EGM_ERROR_NO_SUCH_REGION);
                        assert_message(&none, (const char *const[]){"this host has none", NULL});
                }
        }
}

/* Default alignment 2M where the granule is smaller. */
static void test_default_alignment(void **state) {
        _cleanup_map_ ExtentMap *m = NULL;
        PlacementRegion region = {"egm4", NULL, -1, -1, .ready = true};
        SliceRequest slice = {64 * KIB, ANYWHERE};
        Placed placed;

        assert_int_equal(extent_map_new(6 * MIB, 64 * KIB, &m), 0);
        assert_int_equal(extent_map_begin_scrub(m, 64 * KIB, 6 * MIB - 64 * KIB), 0);
        assert_int_equal(extent_map_end_scrub(m, 64 * KIB, 6 * MIB - 64 * KIB, true), 0);
        region.map = m;
        assert_int_equal(placement_take(&slice, 1, &region, 1, 1, &placed, NULL), 0);
        assert_int_equal(placed.offset, 2 * MIB);
        slice.align = 64 * KIB;
        assert_int_equal(placement_take(&slice, 1, &region, 1, 2, &placed, NULL), 0);
        assert_int_equal(placed.offset, 64 * KIB);
}

static void test_is_candidate(void **state) {
        static const struct {
                const char *map;
                SliceRequest slice;
                bool whole_only;
                bool candidate;
        } table[] = {
                        {"BBdd", {4 * G, ANYWHERE}, false, true},
                        {"BBdd", {5 * G, ANYWHERE}, false, false},
                        {"BBdd", {UINT64_MAX - G + 1, ANYWHERE}, false, false},
                        {"BBdd", {4 * G, .node = 1, .socket = -1}, false, false},
                        {"?", {5 * G, ANYWHERE}, false, true},
                        {"Bs33", {.whole = true, ANYWHERE}, false, true},
                        {"Bsr3", {.whole = true, ANYWHERE}, false, false},
                        {"Bs!3", {.whole = true, ANYWHERE}, false, false},
                        {"Bsr3", {.whole = true, ANYWHERE, .include_retired = true}, false, true},
                        {"rrrr", {.whole = true, ANYWHERE, .include_retired = true}, false, false},
                        {"rrrr", {G, ANYWHERE}, false, false},
                        {"BBrddd", {3 * G, ANYWHERE}, false, true},
                        {"BBrddd", {4 * G, ANYWHERE}, false, false},
                        {"BBrddd", {4 * G, ANYWHERE, .include_retired = true}, false, true},
                        {"BBrdddd", {4 * G, ANYWHERE, .align = 4 * G}, false, false},
                        {"BBrddddd", {4 * G, ANYWHERE, .align = 4 * G}, false, true},
                        {"BBrdrddr", {2 * G, ANYWHERE, .align = 2 * G}, false, true},
                        {"BrrdrddB", {2 * G, ANYWHERE, .align = 2 * G}, false, true},
                        {"Brrdrddr", {2 * G, ANYWHERE, .align = 2 * G}, false, false},
                        {"Bsrdddd", {4 * G, ANYWHERE}, true, false},
                        {"Bsrdddd", {2 * G, ANYWHERE}, true, true},
                        {"rsddddd", {2 * G, ANYWHERE}, true, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                bool known = !streq(table[i].map, "?");
                _cleanup_map_ ExtentMap *m = known ? map_from(G, table[i].map) : NULL;
                const PlacementRegion region = {"egm4",
                                                NULL,
                                                0,
                                                0,
                                                m,
                                                .ready = true,
                                                .whole_only = table[i].whole_only};

                if (placement_is_candidate(&table[i].slice, &region) != table[i].candidate)
                        fail_msg("row %zu", i);
                if (known)
                        map_expect(m, G, table[i].map);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_check),
                        cmocka_unit_test(test_check_granules),
                        cmocka_unit_test(test_check_numbers),
                        cmocka_unit_test(test_default_alignment),
                        cmocka_unit_test(test_is_candidate),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
