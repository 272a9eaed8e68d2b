/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "extent-map-text.h"
#include "no-memory.h"
#include "placement.h"
#include "refusal.h"

#define G (2 * MIB) /* then the default alignment is a granule */
#define ANYWHERE .node = EGM_NODE_ANY, .socket = EGM_SOCKET_ANY
#define REGIONS_MAX 3
#define SLICES_MAX 4

static const char *const gpus[REGIONS_MAX][3] = {
                {"0008:01:00.0", "0009:01:00.0", NULL},
                {"0000:0a:00.0", "0018:0b:00.0", NULL},
                {NULL},
};

/* The regions are egm4, 5, 6 on nodes 0, 1, 2 and sockets 0, 1, 1. */
typedef struct Case {
        const char *maps[REGIONS_MAX]; /* "?": size not known */
        bool whole_only[REGIONS_MAX];
        const char *not_ready[REGIONS_MAX];
        unsigned reserved[REGIONS_MAX];
        const char *users;
        SliceRequest slices[SLICES_MAX];
        EgmErrorKind kind;
        const char *words[5];           /* of the message */
        const char *after[REGIONS_MAX]; /* NULL: as before */
} Case;

static size_t case_slices(const Case *c) {
        size_t n = 0;

        while (n < SLICES_MAX && (c->slices[n].size > 0 || c->slices[n].whole))
                n++;
        return n;
}

static size_t case_regions(const Case *c, PlacementRegion regions[static REGIONS_MAX]) {
        static const char *const names[] = {"egm4", "egm5", "egm6"};
        static const int sockets[] = {0, 1, 1};
        size_t n = 0;

        for (; n < REGIONS_MAX && c->maps[n]; n++)
                regions[n] = (PlacementRegion){
                                .name = names[n],
                                .gpus = gpus[n],
                                .node = (int) n,
                                .socket = sockets[n],
                                .map = streq(c->maps[n], "?") ? NULL : map_from(G, c->maps[n]),
                                .ready = !c->not_ready[n],
                                .why = c->not_ready[n],
                                .whole_only = c->whole_only[n],
                                .reserved = c->reserved[n],
                                .users = c->users,
                };
        return n;
}

static void case_done(const Case *c, PlacementRegion *regions, size_t n, bool granted) {
        for (size_t i = 0; i < n; i++)
                if (regions[i].map) {
                        map_expect(regions[i].map, G,
                                   granted && c->after[i] ? c->after[i] : c->maps[i]);
                        extent_map_free(regions[i].map);
                }
}

static const Case cases[] = {
                /* Best fit, in the region and across them. */
                {{"....d..d."}, .slices = {{2 * G, ANYWHERE}}, .after = {"....dAAd."}},
                {{"....", "..d"}, .slices = {{2 * G, ANYWHERE}}, .after = {NULL, "AAd"}},
                {{"..d", "..d"}, .slices = {{2 * G, ANYWHERE}}, .after = {"AAd"}},
                {{"....", "..d", "...d.d"},
                 .slices = {{G, ANYWHERE}},
                 .after = {NULL, NULL, "...dAd"}},
                /* Selectors. */
                {{"....", "...."},
                 .slices = {{2 * G, .node = 1, .socket = EGM_SOCKET_ANY}},
                 .after = {NULL, "AA.."}},
                {{"....", "...."},
                 .slices = {{2 * G, .node = EGM_NODE_ANY, .socket = 1}},
                 .after = {NULL, "AA.."}},
                {{"....", "....", ".."},
                 .slices = {{2 * G, .node = 1, .socket = 1}},
                 .after = {NULL, "AA.."}},
                {{"....", "...."},
                 .slices = {{2 * G, .region = "egm5", ANYWHERE}},
                 .after = {NULL, "AA.."}},
                {{"....", "..dd"},
                 .slices = {{2 * G, .gpu = "0009:01:00.0", ANYWHERE}},
                 .after = {"AA.."}},
                {{"....", "...."},
                 .slices = {{2 * G, .gpu = "0018:0B:00.0", ANYWHERE}},
                 .after = {NULL, "AA.."}},
                {{"....", "...."},
                 .slices = {{2 * G, .gpu = "0A:00.0", ANYWHERE}},
                 .after = {NULL, "AA.."}},
                {{"....", "...."},
                 .slices = {{2 * G, .region = "egm5", .gpu = "0a:00.0", .node = 1, .socket = 1}},
                 .after = {NULL, "AA.."}},
                /* Alignment. */
                {{".d......"}, .slices = {{G, ANYWHERE, .align = 4 * G}}, .after = {"Ad......"}},
                {{"dd......"}, .slices = {{G, ANYWHERE, .align = 4 * G}}, .after = {"dd..A..."}},
                {{"d......d", "d..."},
                 .slices = {{3 * G, ANYWHERE, .align = 4 * G}},
                 .after = {"d...AAAd"}},
                /* Several slices, in any order. */
                {{"....", "...."},
                 .slices = {{4 * G, ANYWHERE}, {4 * G, .region = "egm4", ANYWHERE}},
                 .after = {"AAAA", "AAAA"}},
                {{"....", "...."},
                 .slices = {{4 * G, .region = "egm4", ANYWHERE}, {4 * G, ANYWHERE}},
                 .after = {"AAAA", "AAAA"}},
                {{"....", "...."},
                 .slices = {{2 * G, .node = 0, .socket = EGM_SOCKET_ANY},
                            {2 * G, .node = 0, .socket = EGM_SOCKET_ANY}},
                 .after = {"AAAA"}},
                {{"d.....", "..."},
                 .slices = {{2 * G, .gpu = "0008:01:00.0", ANYWHERE},
                            {3 * G, .gpu = "0008:01:00.0", ANYWHERE}},
                 .after = {"dAAAAA"}},
                {{".......",
                  "......"}, /* the first place for the largest leaves the rest no room */
                 .slices = {{3 * G, ANYWHERE},
                            {3 * G, ANYWHERE},
                            {4 * G, ANYWHERE},
                            {3 * G, ANYWHERE}},
                 .after = {"AAAAAAA", "AAAAAA"}},
                {{"...", "....", "..."},
                 .slices = {{3 * G, .node = EGM_NODE_ANY, .socket = 1},
                            {.whole = true, .node = EGM_NODE_ANY, .socket = 1},
                            {3 * G, ANYWHERE}},
                 .after = {"AAA", "AAA.", "AAA"}},
                /* Whole regions. */
                {{"....", "..."}, .slices = {{.whole = true, ANYWHERE}}, .after = {NULL, "AAA"}},
                {{"....", "..d"}, .slices = {{.whole = true, ANYWHERE}}, .after = {"AAAA"}},
                {{"...", "...."},
                 .whole_only = {false, true},
                 .slices = {{.whole = true, ANYWHERE}},
                 .after = {NULL, "AAAA"}},
                {{"....", "..."},
                 .slices = {{.whole = true, ANYWHERE}, {.whole = true, ANYWHERE}},
                 .after = {"AAAA", "AAA"}},
                {{"....", "..."},
                 .slices = {{.whole = true, .region = "egm4", ANYWHERE, .align = GIB}},
                 .after = {"AAAA"}},
                /* Retired pages. */
                {{"..r.."}, .slices = {{2 * G, ANYWHERE}}, .after = {"AAr.."}},
                {{"..r..", "......"},
                 .slices = {{3 * G, ANYWHERE, .include_retired = true}},
                 .after = {NULL, "AAA..."}},
                {{"..r.."},
                 .slices = {{4 * G, ANYWHERE, .include_retired = true}},
                 .after = {"AA!A."}},
                {{"..r..", "....d"},
                 .slices = {{.whole = true, ANYWHERE, .include_retired = true}},
                 .after = {"AA!AA"}},
                {{"..r..", "....."},
                 .slices = {{.whole = true, ANYWHERE, .include_retired = true}},
                 .after = {NULL, "AAAAA"}},
                /* Regions that serve one lease at a time. */
                {{"....d..d"},
                 .whole_only = {true},
                 .slices = {{2 * G, ANYWHERE}},
                 .after = {"AA..d..d"}},
                {{"....", "...."},
                 .whole_only = {true, false},
                 .slices = {{4 * G, ANYWHERE}},
                 .after = {NULL, "AAAA"}},
                {{"..", "......"},
                 .whole_only = {true, false},
                 .slices = {{2 * G, ANYWHERE}},
                 .after = {NULL, "AA...."}},
                {{"....", "..."},
                 .whole_only = {true, true},
                 .slices = {{2 * G, ANYWHERE}, {2 * G, ANYWHERE}},
                 .after = {"AA..", "AA."}},
                {{"..r."},
                 .whole_only = {true},
                 .slices = {{3 * G, ANYWHERE, .include_retired = true}},
                 .after = {"AA!."}},
                /* Not ready, or not for us: the other one. */
                {{"..", "...."},
                 .not_ready = {"opening"},
                 .slices = {{2 * G, ANYWHERE}},
                 .after = {NULL, "AA.."}},
                {{"?", "...."}, .slices = {{2 * G, ANYWHERE}}, .after = {NULL, "AA.."}},
                {{"..", "...."},
                 .reserved = {1},
                 .slices = {{2 * G, ANYWHERE}},
                 .after = {NULL, "AA.."}},

                /* Refusals. */
                {{"....", "..."},
                 .not_ready = {"held elsewhere by pid 7 (qemu)"},
                 .slices = {{G, .node = 0, .socket = EGM_SOCKET_ANY}},
                 .kind = EGM_ERROR_REGION_NOT_READY,
                 .words = {"no region on node 0 is ready", "egm4 (node 0)",
                           "held elsewhere by pid 7 (qemu)"}},
                {{"?", "?"},
                 .not_ready = {NULL, "opening"},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_REGION_NOT_READY,
                 .words = {"egm4 (node 0) is not ready: its size is not known",
                           "egm5 (node 1) is not ready: opening"}},
                {{"....", "BBBB"}, /* the first kind counts, wherever the slice */
                 .not_ready = {"opening"},
                 .slices = {{G, .region = "egm5", ANYWHERE}, {G, .region = "egm4", ANYWHERE}},
                 .kind = EGM_ERROR_REGION_NOT_READY,
                 .words = {"Slice 1:"}},
                {{"B..."},
                 .whole_only = {true},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NOT_PARTITIONABLE,
                 .words = {"one lease at a time", "egm4 (node 0) 6M of 8M free", "2M leased"}},
                {{"2..."},
                 .whole_only = {true},
                 .slices = {{.whole = true, ANYWHERE}},
                 .kind = EGM_ERROR_NOT_PARTITIONABLE,
                 .words = {"2M released but still mapped"}},
                {{"!..."},
                 .whole_only = {true},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NOT_PARTITIONABLE},
                {{"B...", "..."},
                 .whole_only = {true},
                 .not_ready = {NULL, "opening"},
                 .reserved = {1},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NOT_PARTITIONABLE,
                 .words = {"egm5 (node 1) is not ready: opening"}},
                {{"....", "dddd"},
                 .whole_only = {true, false},
                 .slices = {{G, .region = "egm4", ANYWHERE}, {G, .region = "egm4", ANYWHERE}},
                 .kind = EGM_ERROR_NOT_PARTITIONABLE,
                 .words = {"The 2 slices need more regions", "egm4"}},
                {{"....", "..."},
                 .whole_only = {true, true},
                 .slices = {{G, ANYWHERE}, {G, ANYWHERE}, {G, ANYWHERE}},
                 .kind = EGM_ERROR_NOT_PARTITIONABLE,
                 .words = {"The 3 slices", "egm4", "egm5"}},
                {{"dddd"},
                 .whole_only = {true},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"has 2M free", "0B of 8M free", "8M waiting to be scrubbed"}},
                {{"ssss"},
                 .whole_only = {true},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"8M being scrubbed"}},
                {{"d..."},
                 .whole_only = {true},
                 .slices = {{2 * G, ANYWHERE}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"6M of 8M free", "from its start"}},
                {{".r.."},
                 .whole_only = {true},
                 .slices = {{2 * G, ANYWHERE}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"first run 2M"}},
                {{"r..."},
                 .whole_only = {true},
                 .slices = {{G, ANYWHERE, .include_retired = true}},
                 .kind = EGM_ERROR_FRAGMENTED},
                {{"..BB33sdr", "B"},
                 .users = "vm-b (uid 1000)",
                 .slices = {{3 * G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"no region has 6M free: egm4 (node 0) 4M of 18M free, largest run 4M, "
                           "4M leased, "
                           "4M released but still mapped, held by vm-b (uid 1000), 2M being "
                           "scrubbed, "
                           "2M waiting to be scrubbed, 2M retired; egm5 (node 1) 0B of 2M free, 2M "
                           "leased"}},
                {{"...."},
                 .slices = {{5 * G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"10M is more than any region has", "egm4 (node 0) 8M of 8M free"}},
                {{"....", "..."},
                 .slices = {{UINT64_MAX - G + 1, .region = "egm5", ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"16E is more than any region named egm5 has"}},
                {{"....", "..."},
                 .reserved = {2, 1},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"other requests wait ahead", "2 requests wait ahead",
                           "1 request waits ahead"}},
                {{"....", "dddd"},
                 .reserved = {3},
                 .slices = {{G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"3 requests wait ahead"}},
                {{"..d.", "d..."},
                 .slices = {{.whole = true, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"no region is free as a whole"}},
                {{"..r.", "BBBB"},
                 .slices = {{.whole = true, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"2M retired (lent only if the request includes them)"}},
                {{"rrrr"},
                 .slices = {{.whole = true, ANYWHERE, .include_retired = true}},
                 .kind = EGM_ERROR_NO_CAPACITY},
                {{"..!."},
                 .slices = {{.whole = true, ANYWHERE, .include_retired = true}},
                 .kind = EGM_ERROR_NO_CAPACITY},
                {{"....", "..."},
                 .slices = {{.whole = true, .region = "egm4", ANYWHERE},
                            {.whole = true, .region = "egm4", ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"The 2 slices together are more than is free: egm4"}},
                {{"..d..", "d.d.d"},
                 .slices = {{3 * G, ANYWHERE}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"no region has 6M free in one run",
                           "egm4 (node 0) 8M of 10M free, largest run 4M"}},
                {{"d......."},
                 .slices = {{4 * G, .node = 0, .socket = 0, .align = 8 * G}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"no region on node 0 on socket 0 has 8M free in one run aligned to "
                           "16M"}},
                {{"..r.d"},
                 .slices = {{3 * G, ANYWHERE}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"2M retired"}},
                {{"...."},
                 .slices = {{3 * G, ANYWHERE}, {3 * G, ANYWHERE}},
                 .kind = EGM_ERROR_NO_CAPACITY,
                 .words = {"The 2 slices together are more than is free: egm4 (node 0) 8M of 8M "
                           "free"}},
                {{"...d..d."},
                 .slices = {{3 * G, ANYWHERE}, {3 * G, ANYWHERE}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"The 2 slices do not fit together", "largest run 6M"}},
                {{"....", "d.d."}, /* the second cannot be had at all: all or nothing */
                 .slices = {{2 * G, .node = 0, .socket = 0}, {2 * G, .node = 1, .socket = 1}},
                 .kind = EGM_ERROR_FRAGMENTED,
                 .words = {"Slice 1: no region on node 1 on socket 1 has 4M"}},
};

static void test_cases(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                const Case *c = cases + i;
                PlacementRegion regions[REGIONS_MAX];
                Placed placed[SLICES_MAX] = {};
                size_t n = case_slices(c), n_regions = case_regions(c, regions);
                int r;

                r = placement_take(c->slices, n, regions, n_regions, 1, placed, &e);
                if (e.kind != c->kind)
                        fail_msg("case %zu: kind %d instead of %d: %s", i, (int) e.kind,
                                 (int) c->kind, e.message ?: "granted");
                if (c->kind == EGM_ERROR_NONE) {
                        assert_int_equal(r, 0);
                        for (size_t k = 0; k < n; k++) {
                                const PlacementRegion *region = regions + placed[k].region;

                                assert_int_equal(placed[k].size,
                                                 c->slices[k].whole ? extent_map_size(region->map)
                                                                    : c->slices[k].size);
                                assert_true(placement_is_candidate(c->slices + k, region));
                        }
                } else {
                        assert_int_equal(r, -egm_error_kind_to_errno(c->kind));
                        assert_message(&e, c->words);
                        for (size_t k = 0; k < n; k++)
                                assert_int_equal(placed[k].size, 0);
                }
                case_done(c, regions, n_regions, r >= 0);
        }
}

/* The slices that are reported are those that were taken, one for one, and can be given back. */
static void test_placed(void **state) {
        const Case c = {{"......", ".....d"}};
        const SliceRequest slices[] = {
                        {2 * G, .node = 1, .socket = 1},
                        {3 * G, .node = 0, .socket = 0},
                        {G, ANYWHERE},
                        {2 * G, .node = 1, .socket = 1},
        };
        PlacementRegion regions[REGIONS_MAX];
        size_t n_regions = case_regions(&c, regions);
        Placed placed[ELEMENTSOF(slices)];

        assert_int_equal(placement_take(slices, ELEMENTSOF(slices), regions, n_regions, 1, placed,
                                        NULL),
                         0);
        map_expect(regions[0].map, G, "AAA...");
        map_expect(regions[1].map, G, "AAAAAd");
        assert_int_equal(placed[0].region, 1);
        assert_int_equal(placed[1].region, 0);
        assert_int_equal(placed[2].region, 1);
        assert_int_equal(placed[2].offset, 4 * G);
        assert_int_equal(placed[3].region, 1);
        assert_int_not_equal(placed[0].offset, placed[3].offset);
        calloc_left = 0;
        for (size_t i = 0; i < ELEMENTSOF(slices); i++)
                assert_int_equal(extent_map_cancel(regions[placed[i].region].map, placed[i].offset,
                                                   placed[i].size, 1),
                                 0);
        calloc_left = -1;
        case_done(&c, regions, n_regions, false);
}

static void test_no_memory(void **state) {
        unsigned refused = 0;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (int left = 0, r = -ENOMEM; r == -ENOMEM; left++) {
                        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                        const Case *c = cases + i;
                        PlacementRegion regions[REGIONS_MAX];
                        Placed placed[SLICES_MAX];
                        size_t n_regions = case_regions(c, regions);

                        calloc_left = left;
                        r = placement_take(c->slices, case_slices(c), regions, n_regions, 1, placed,
                                           &e);
                        calloc_left = -1;
                        if (r == -ENOMEM) {
                                assert_int_equal(e.kind, EGM_ERROR_NONE);
                                refused++;
                        } else
                                assert_int_equal(e.kind, c->kind);
                        case_done(c, regions, n_regions, r >= 0);
                }
        assert_true(refused > 2 * ELEMENTSOF(cases));
}

/* Those that fit in one place only are not pushed out by ten that fit anywhere. */
static void test_search_order(void **state) {
        PlacementRegion regions[] = {
                        {"egm4", NULL, 0, 0, map_from(G, "....."), .ready = true},
                        {"egm5", NULL, 1, 1, map_from(G, "............"), .ready = true},
        };
        SliceRequest slices[EGM_SLICES_MAX];
        Placed placed[EGM_SLICES_MAX];

        for (size_t i = 0; i < ELEMENTSOF(slices); i++)
                slices[i] = i < 10 ? (SliceRequest){G, ANYWHERE}
                                   : (SliceRequest){G, .region = "egm4", ANYWHERE};
        assert_int_equal(placement_take(slices, ELEMENTSOF(slices), regions, 2, 1, placed, NULL),
                         0);
        for (size_t i = 0; i < ELEMENTSOF(slices); i++)
                assert_int_equal(placed[i].region, i < 10 ? 1 : 0);
        for (size_t i = 0; i < ELEMENTSOF(regions); i++)
                extent_map_free(regions[i].map);
}

/* What cannot be arranged is given up, not searched forever. */
static void test_search_ends(void **state) {
        static const char fragments[] = ".d.d.d.d.d.d.d.d.d.d.d.d.d.d.d.d.d.d.d.d";
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        PlacementRegion regions[8];
        SliceRequest slices[EGM_SLICES_MAX];
        Placed placed[EGM_SLICES_MAX];

        for (size_t i = 0; i < ELEMENTSOF(slices); i++)
                slices[i] = (SliceRequest){i < 8 ? 2 * G : G, ANYWHERE};
        for (size_t i = 0; i < ELEMENTSOF(regions); i++)
                regions[i] = (PlacementRegion){"egm",
                                               NULL,
                                               -1,
                                               -1,
                                               map_from(G, i < 7 ? fragments : "....d...d......"),
                                               .ready = true};
        assert_int_equal(placement_take(slices, EGM_SLICES_MAX, regions, 8, 1, placed, &e),
                         -EXFULL);
        assert_int_equal(e.kind, EGM_ERROR_FRAGMENTED);
        for (size_t i = 0; i < ELEMENTSOF(regions); i++) {
                map_expect(regions[i].map, G, i < 7 ? fragments : "....d...d......");
                extent_map_free(regions[i].map);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_cases),       cmocka_unit_test(test_placed),
                        cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_search_order),
                        cmocka_unit_test(test_search_ends),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
