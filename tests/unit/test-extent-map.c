/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "extent-map-text.h"
#include "no-memory.h"

#define G (64 * KIB)

static void test_strings(void **state) {
        assert_string_equal(extent_state_to_string(EXTENT_SCRUBBING), "scrubbing");
        assert_null(extent_state_to_string(_EXTENT_STATE_MAX));
        for (ExtentState s = 0; s < _EXTENT_STATE_MAX; s++)
                assert_int_equal(extent_state_from_string(extent_state_to_string(s)), s);
        assert_int_equal(extent_state_from_string("clean"), _EXTENT_STATE_INVALID);
        assert_int_equal(extent_state_from_string(NULL), _EXTENT_STATE_INVALID);
}

static void test_new(void **state) {
        static const struct {
                uint64_t size, granule;
                int r;
        } table[] = {
                        {0, G, -EINVAL},
                        {G, 0, -EINVAL},
                        {G, 3, -EINVAL},
                        {G + 1, G, -EINVAL},
                        {G / 2, G, -EINVAL},
                        {UINT64_MAX, G, -EINVAL},
                        {UINT64_MAX - G + 1, G, 0},
                        {G, G, 0},
                        {4096, 4096, 0},
                        {4 * GIB, 2 * GIB, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_map_ ExtentMap *m = NULL;
                Extent e;

                assert_int_equal(extent_map_new(table[i].size, table[i].granule, &m), table[i].r);
                assert_int_equal(m != NULL, table[i].r == 0);
                if (!m)
                        continue;
                assert_int_equal(extent_map_size(m), table[i].size);
                assert_int_equal(extent_map_granule(m), table[i].granule);
                assert_int_equal(extent_map_count(m), 1);
                assert_int_equal(extent_map_bytes(m, EXTENT_DIRTY), table[i].size);
                assert_int_equal(extent_map_largest_free(m), 0);
                assert_true(extent_map_get(m, table[i].size - 1, &e));
                assert_int_equal(e.offset, 0);
                assert_int_equal(e.size, table[i].size);
                assert_false(extent_map_get(m, table[i].size, &e));
                extent_map_check(m);
        }
}

typedef enum Op {
        BEGIN,
        CLEAN,
        FAIL_SCRUB,
        SOIL,
        LEASE,
        LEASE_ALL,
        CANCEL,
        ADOPT,
        DRAIN,
        RECLAIM,
        RETIRE
} Op;

static int apply(ExtentMap *m, Op op, uint64_t offset, uint64_t size, uint64_t owner) {
        switch (op) {
        case BEGIN:
                return extent_map_begin_scrub(m, offset, size);
        case CLEAN:
                return extent_map_end_scrub(m, offset, size, true);
        case FAIL_SCRUB:
                return extent_map_end_scrub(m, offset, size, false);
        case SOIL:
                return extent_map_soil(m, offset, size);
        case LEASE:
                return extent_map_lease(m, offset, size, owner, false);
        case LEASE_ALL:
                return extent_map_lease(m, offset, size, owner, true);
        case CANCEL:
                return extent_map_cancel(m, offset, size, owner);
        case ADOPT:
                return extent_map_adopt(m, offset, size, owner);
        case DRAIN:
                return extent_map_drain(m, offset, size, owner);
        case RECLAIM:
                return extent_map_reclaim(m, offset, size, owner);
        case RETIRE:
                return extent_map_retire(m, offset, size, NULL);
        }
        return -EINVAL;
}

static const struct {
        const char *before;
        Op op;
        unsigned offset, size, owner; /* granules */
        const char *after;            /* NULL: -ESTALE */
} operations[] = {
                {"dddddd", BEGIN, 1, 3, 0, "dsssdd"},
                {"ddrddd", BEGIN, 1, 3, 0, "dsrsdd"},
                {"drrrdd", BEGIN, 1, 3, 0, "drrrdd"},
                {"dd!ddd", BEGIN, 1, 3, 0, NULL},
                {"dd.ddd", BEGIN, 1, 3, 0, NULL},
                {"ddsddd", BEGIN, 1, 3, 0, NULL},
                {"ddAddd", BEGIN, 1, 3, 0, NULL},
                {"dd1ddd", BEGIN, 1, 3, 0, NULL},
                {"ssssss", CLEAN, 2, 2, 0, "ss..ss"},
                {".ssss.", CLEAN, 1, 4, 0, "......"},
                {"ssrsss", CLEAN, 0, 6, 0, "..r..."},
                {"ssssss", FAIL_SCRUB, 2, 2, 0, "ssddss"},
                {"dsrssd", FAIL_SCRUB, 1, 4, 0, "ddrddd"},
                {"sssd", CLEAN, 1, 3, 0, NULL},
                {"sss.", CLEAN, 1, 3, 0, NULL},
                {"ss!s", CLEAN, 0, 4, 0, NULL},
                {"sAss", FAIL_SCRUB, 0, 4, 0, NULL},
                {"......", SOIL, 2, 2, 0, "..dd.."},
                {".A1rs!.d.", SOIL, 0, 9, 0, "dA1rs!ddd"},
                {"AAAA", SOIL, 1, 2, 0, "AAAA"},
                {"......", LEASE, 1, 2, 3, ".CC..."},
                {"CC..BB", LEASE, 2, 2, 3, "CCCCBB"},
                {".CC..D", LEASE, 3, 2, 4, ".CCDDD"},
                {"..r...", LEASE, 1, 3, 1, NULL},
                {"..d...", LEASE, 1, 3, 1, NULL},
                {"..s...", LEASE, 1, 3, 1, NULL},
                {"..B...", LEASE, 1, 3, 1, NULL},
                {"..A...", LEASE, 1, 3, 1, NULL},
                {"..2...", LEASE, 1, 3, 1, NULL},
                {"..!...", LEASE, 1, 3, 1, NULL},
                {"..r...", LEASE_ALL, 1, 3, 1, ".A!A.."},
                {"..!...", LEASE_ALL, 1, 3, 1, NULL},
                {".rrr..", LEASE_ALL, 1, 3, 1, NULL},
                {".rrr..", LEASE_ALL, 2, 3, 1, ".r!!A."},
                {".AAAA.", CANCEL, 2, 2, 1, ".A..A."},
                {".A!AA.", CANCEL, 1, 3, 1, "..r.A."},
                {".AABB.", CANCEL, 1, 4, 1, NULL},
                {".AA11.", CANCEL, 1, 4, 1, NULL},
                {".AAr..", CANCEL, 1, 3, 1, NULL},
                {".AA...", CANCEL, 1, 3, 1, NULL},
                {"dddd", ADOPT, 1, 2, 2, "dBBd"},
                {"drrd", ADOPT, 0, 3, 1, "A!!d"},
                {"d!dd", ADOPT, 0, 3, 1, NULL},
                {"d.dd", ADOPT, 0, 3, 1, NULL},
                {"dBdd", ADOPT, 0, 3, 1, NULL},
                {"dAdd", ADOPT, 0, 3, 1, NULL},
                {"dsdd", ADOPT, 0, 3, 1, NULL},
                {"AAAA", DRAIN, 1, 2, 1, "A11A"},
                {"A!AA", DRAIN, 0, 4, 1, "1!11"},
                {"ABAA", DRAIN, 0, 4, 1, NULL},
                {"ArAA", DRAIN, 0, 4, 1, NULL},
                {"A1AA", DRAIN, 0, 4, 1, NULL},
                {"A.AA", DRAIN, 0, 4, 1, NULL},
                {"BBBB", DRAIN, 0, 4, 1, NULL},
                {"1111", RECLAIM, 1, 2, 1, "1dd1"},
                {"d1!1d", RECLAIM, 1, 3, 1, "ddrdd"},
                {"r!!r", RECLAIM, 1, 2, 1, "rrrr"},
                {"12d", RECLAIM, 0, 2, 1, NULL},
                {"1Ad", RECLAIM, 0, 2, 1, NULL},
                {"AAd", RECLAIM, 0, 2, 1, NULL},
                {"1rd", RECLAIM, 0, 2, 1, NULL},
                {"1!d", RECLAIM, 0, 2, 2, NULL},
                {"....", RETIRE, 1, 2, 0, ".rr."},
                {"ds.A1r!", RETIRE, 0, 7, 0, "rrr!!r!"},
                {"rrrr", RETIRE, 1, 2, 0, "rrrr"},
};

static void test_operations(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(operations); i++) {
                _cleanup_map_ ExtentMap *m = map_from(G, operations[i].before);
                const char *after = operations[i].after;

                assert_int_equal(apply(m, operations[i].op, operations[i].offset * G,
                                       operations[i].size * G, operations[i].owner),
                                 after ? 0 : -ESTALE);
                map_expect(m, G, after ?: operations[i].before);
        }
}

/* The same, at the start of a map that keeps no memory for later. */
static ExtentMap *map_without_spares(const char *text) {
        char longer[200] = {};
        ExtentMap *m;
        size_t n = strlen(text);

        memset(longer, 'd', sizeof(longer) - 1);
        memcpy(longer, text, n);
        m = map_from(G, longer);
        for (unsigned calls = calloc_calls; calls == calloc_calls; n += 2)
                assert_int_equal(extent_map_adopt(m, (n + 1) * G, G, 26), 0);
        return m;
}

/* The same operations, with memory running out at every place where some is asked for. */
static void test_no_memory(void **state) {
        unsigned refused = 0;

        for (size_t i = 0; i < ELEMENTSOF(operations); i++)
                for (int left = 0, r = -ENOMEM; r == -ENOMEM; left++) {
                        _cleanup_map_ ExtentMap *m = map_without_spares(operations[i].before);

                        calloc_left = left;
                        r = apply(m, operations[i].op, operations[i].offset * G,
                                  operations[i].size * G, operations[i].owner);
                        calloc_left = -1;
                        if (r == -ENOMEM)
                                refused++;
                        else
                                assert_int_equal(r, operations[i].after ? 0 : -ESTALE);
                        map_expect(m, G, r < 0 ? operations[i].before : operations[i].after);
                }
        assert_true(refused > 20);
}

/* What need not be cut needs no memory: leases come to an end when there is none. */
static void test_whole_extents_need_no_memory(void **state) {
        _cleanup_map_ ExtentMap *m = map_without_spares("..BB!BB..AAAd");

        calloc_left = 0;
        assert_int_equal(extent_map_drain(m, 9 * G, 3 * G, 1), 0);
        assert_int_equal(extent_map_reclaim(m, 9 * G, 3 * G, 1), 0);
        assert_int_equal(extent_map_retire(m, 2 * G, 2 * G, NULL), 0);
        assert_int_equal(extent_map_drain(m, 5 * G, 2 * G, 2), 0);
        assert_int_equal(extent_map_soil(m, 0, 9 * G), 0);
        calloc_left = -1;
        map_expect(m, G, "dd!!!22ddddd");
}

/* After a reservation leases come and go, in whatever order, without asking for memory. */
static void test_reserve(void **state) {
        static const char before[] = "........................dr.rd.r.";
        static const struct {
                unsigned offset, size;
        } leases[] = {{4, 2},  {2, 2},  {0, 2},  {6, 2},  {8, 2},  {12, 2}, {10, 2}, {18, 2},
                      {14, 2}, {16, 2}, {20, 1}, {22, 1}, {25, 3}, {29, 1}, {30, 2}};
        unsigned seed = 1;

        for (unsigned round = 0; round < 200; round++) {
                _cleanup_map_ ExtentMap *m = map_without_spares(before);
                unsigned order[ELEMENTSOF(leases)];

                calloc_left = 0;
                assert_int_equal(extent_map_reserve(m, ELEMENTSOF(leases)), -ENOMEM);
                calloc_left = -1;
                assert_int_equal(extent_map_reserve(m, ELEMENTSOF(leases)), 0);
                calloc_left = 0;
                for (unsigned i = 0; i < ELEMENTSOF(leases); i++) {
                        assert_int_equal(extent_map_lease(m, leases[i].offset * G,
                                                          leases[i].size * G, 1, true),
                                         0);
                        order[i] = i;
                }
                map_expect(m, G, "AAAAAAAAAAAAAAAAAAAAA.A.d!A!dA!A");
                for (unsigned i = ELEMENTSOF(leases); i-- > 0;) {
                        unsigned k = (unsigned) rand_r(&seed) % (i + 1), j = order[k];

                        order[k] = order[i];
                        assert_int_equal(extent_map_cancel(m, leases[j].offset * G,
                                                           leases[j].size * G, 1),
                                         0);
                }
                calloc_left = -1;
                map_expect(m, G, before);
        }
}

typedef struct Piece {
        uint64_t offset, size, owner; /* owner 0: a scrub */
        bool draining;
} Piece;

static bool piece_overlaps(const Piece *p, const Piece *others, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                if (p->offset < others[i].offset + others[i].size &&
                    others[i].offset < p->offset + p->size)
                        return true;
        return false;
}

/* Behind the n that there are. */
static int piece_begin(ExtentMap *m, Piece *pieces, unsigned n, unsigned *seed) {
        Piece *p = pieces + n;
        uint64_t end = extent_map_size(m) / G;
        int r;

        p->owner = (uint64_t) rand_r(seed) % 3;
        p->draining = false;
        p->offset = (uint64_t) rand_r(seed) % end * G;
        p->size = ((uint64_t) rand_r(seed) % MIN(end - p->offset / G, UINT64_C(6)) + 1) * G;
        /* By a page that is retired: nobody lends one that a scrub may still write to. */
        if (piece_overlaps(p, pieces, n))
                return -ESTALE;
        if (p->owner == 0)
                return extent_map_begin_scrub(m, p->offset, p->size);
        r = extent_map_lease(m, p->offset, p->size, p->owner, rand_r(seed) % 2 == 0);
        return r < 0 ? extent_map_adopt(m, p->offset, p->size, p->owner) : r;
}

/* True: it is over. */
static bool piece_go_on(ExtentMap *m, Piece *p, unsigned *seed) {
        int r;

        if (p->owner == 0)
                r = extent_map_end_scrub(m, p->offset, p->size, rand_r(seed) % 4 != 0);
        else if (p->draining)
                r = extent_map_reclaim(m, p->offset, p->size, p->owner);
        else if (rand_r(seed) % 4 == 0)
                r = extent_map_cancel(m, p->offset, p->size, p->owner);
        else {
                assert_int_equal(extent_map_drain(m, p->offset, p->size, p->owner), 0);
                p->draining = true;
                return false;
        }
        assert_int_equal(r, 0);
        return true;
}

/* Whatever has begun comes to its end without memory, also side by side with others of its owner and with pages that go
 * bad in between. */
static void test_way_back_needs_no_memory(void **state) {
        for (unsigned round = 0; round < 200; round++) {
                _cleanup_map_ ExtentMap *m = map_from(G, "dddddddddddd............dddd....dd..");
                Piece pieces[16];
                unsigned seed = round, n = 0;

                for (unsigned step = 0; step < 60; step++) {
                        unsigned i = n > 0 ? (unsigned) rand_r(&seed) % n : 0;

                        if (n < ELEMENTSOF(pieces) && piece_begin(m, pieces, n, &seed) >= 0)
                                n++;
                        if (rand_r(&seed) % 8 == 0)
                                assert_int_equal(extent_map_retire(m,
                                                                   (uint64_t) (rand_r(&seed) % 36) *
                                                                                   G,
                                                                   G, NULL),
                                                 0);
                        calloc_left = 0;
                        if (n > 0 && rand_r(&seed) % 2 == 0 && piece_go_on(m, pieces + i, &seed))
                                pieces[i] = pieces[--n];
                        calloc_left = -1;
                }
                extent_map_check(m);
                calloc_left = 0;
                while (n > 0)
                        if (piece_go_on(m, pieces + n - 1, &seed))
                                n--;
                calloc_left = -1;
                extent_map_check(m);
        }
}

static void test_bad_ranges(void **state) {
        static const struct {
                uint64_t offset, size;
        } table[] = {
                        {0, 0},
                        {0, 1},
                        {1, G},
                        {G / 2, G},
                        {0, G + 1},
                        {8 * G, G},
                        {7 * G, 2 * G},
                        {0, 9 * G},
                        {G, UINT64_MAX},
                        {G, UINT64_MAX - G + 1},
                        {UINT64_MAX - G + 1, G},
                        {UINT64_MAX - G + 1, 2 * G},
        };
        _cleanup_map_ ExtentMap *m = map_from(G, "d.sA1r!.");

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (Op op = BEGIN; op <= RETIRE; op++)
                        assert_int_equal(apply(m, op, table[i].offset, table[i].size, 1), -EINVAL);
        for (Op op = LEASE; op <= RECLAIM; op++)
                assert_int_equal(apply(m, op, 0, G, 0), -EINVAL);
        map_expect(m, G, "d.sA1r!.");
}

static void test_bytes_and_next(void **state) {
        _cleanup_map_ ExtentMap *m = map_from(G, "dd..sAA22!rr.d..");
        uint64_t retired = 0;
        Extent e;

        assert_int_equal(extent_map_bytes(m, EXTENT_DIRTY), 3 * G);
        assert_int_equal(extent_map_bytes(m, EXTENT_FREE), 5 * G);
        assert_int_equal(extent_map_bytes(m, EXTENT_SCRUBBING), G);
        assert_int_equal(extent_map_bytes(m, EXTENT_LEASED), 2 * G);
        assert_int_equal(extent_map_bytes(m, EXTENT_DRAINING), 2 * G);
        assert_int_equal(extent_map_bytes(m, EXTENT_RETIRED), 3 * G);
        assert_int_equal(extent_map_owned(m), 5 * G);
        assert_int_equal(extent_map_largest_free(m), 2 * G);
        assert_int_equal(extent_map_count(m), 10);

        assert_true(extent_map_next(m, 0, EXTENT_DIRTY, &e));
        assert_int_equal(e.offset, 0);
        assert_true(extent_map_next(m, G, EXTENT_DIRTY, &e));
        assert_int_equal(e.offset, 0);
        assert_true(extent_map_next(m, 2 * G, EXTENT_DIRTY, &e));
        assert_int_equal(e.offset, 13 * G);
        assert_false(extent_map_next(m, 14 * G, EXTENT_DIRTY, &e));
        assert_true(extent_map_next(m, 3 * G, EXTENT_RETIRED, &e));
        assert_int_equal(e.offset, 9 * G);
        assert_int_equal(e.owner, 1);
        assert_true(extent_map_next(m, 10 * G, EXTENT_RETIRED, &e));
        assert_int_equal(e.owner, 0);
        assert_int_equal(e.size, 2 * G);

        assert_int_equal(extent_map_retire(m, 8 * G, 6 * G, &retired), 0);
        assert_int_equal(retired, 3 * G);
        assert_int_equal(extent_map_owned(m), 5 * G);
        map_expect(m, G, "dd..sAA2!!rrrr..");
}

static void test_fit(void **state) {
        static const struct {
                const char *map;
                unsigned size, align; /* granules */
                bool include_retired;
                int r;
                unsigned offset;
        } table[] = {
                        {"dddd", 1, 1, false, -ENOSPC, 0},
                        {"d.d.", 3, 1, false, -ENOSPC, 0},
                        {"d.d.", 2, 1, false, -EXFULL, 0},
                        {"d.d.", 1, 1, false, 0, 1},
                        {"....", 4, 4, false, 0, 0},
                        {"....", 5, 1, false, -ENOSPC, 0},
                        /* the smallest that fits, of equal ones the lowest */
                        {"....d...d..d..d", 2, 1, false, 0, 9},
                        {"....d...d..d..d", 3, 1, false, 0, 5},
                        /* aligned */
                        {"d..d....d", 2, 2, false, 0, 4},
                        {"d...d....", 2, 2, false, 0, 2},
                        {"d..d...d", 2, 2, false, 0, 4},
                        {"d..d...d", 2, 4, false, 0, 4},
                        {"d..d..dd", 2, 2, false, 0, 4},
                        {"d..dd..d", 2, 2, false, -EXFULL, 0},
                        {"ddd....d", 4, 4, false, -EXFULL, 0},
                        {"dddd....", 4, 4, false, 0, 4},
                        {".d......", 1, 8, false, 0, 0},
                        {"d.......", 1, 8, false, -EXFULL, 0},
                        /* retired pages */
                        {"..r.", 3, 1, false, -EXFULL, 0},
                        {"..r.", 3, 1, true, 0, 0},
                        {"..r.", 4, 1, true, 0, 0},
                        {"..r.", 4, 1, false, -ENOSPC, 0},
                        {"..r.d...", 3, 1, true, 0, 5}, /* rather one without */
                        {"..!.", 3, 1, true, -EXFULL, 0},
                        {"rrrr", 1, 1, true, -ENOSPC, 0},
                        {"rrrrd.", 2, 1, true, -EXFULL, 0}, /* never bad ones only */
                        {".rrrd.", 2, 1, true, 0, 0},
                        {"rrr.d.", 2, 1, true, 0, 2},
                        {"drrrr.d.", 2, 2, true, 0, 4},
                        {"drrrrr.d", 2, 4, true, -EXFULL,
                         0}, /* the free one is behind the aligned place */
                        {"drrrr..d", 2, 4, true, 0, 4},
                        {"drrrr..d", 3, 4, true, 0, 4},
                        {".r.r.dr.rd", 3, 1, true, 0, 6}, /* the smallest run */
                        {".r.!r.", 2, 1, true, 0, 4},
                        {"drr.rr.d", 3, 4, true, 0, 4},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_map_ ExtentMap *m = map_from(G, table[i].map);
                uint64_t offset = 4711;

                assert_int_equal(extent_map_fit(m, table[i].size * G, table[i].align * G,
                                                table[i].include_retired, &offset),
                                 table[i].r);
                assert_int_equal(offset, table[i].r < 0 ? 4711 : table[i].offset * G);
        }
}

static void test_fit_arguments(void **state) {
        _cleanup_map_ ExtentMap *m = NULL, *big = NULL;
        uint64_t offset = 4711;
        static const uint64_t bad[][2] = {
                        {0, G},     {1, G},       {G - 1, G},      {G + 1, G},
                        {G, 0},     {G, 3},       {G, G - 1},      {G, G / 2},
                        {G, 3 * G}, {G, 2 * GIB}, {G, UINT64_MAX}, {UINT64_MAX, G},
        };

        m = map_from(G, "....");
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(extent_map_fit(m, bad[i][0], bad[i][1], false, &offset), -EINVAL);
        assert_int_equal(extent_map_fit(m, UINT64_MAX - G + 1, GIB, true, &offset), -ENOSPC);
        assert_int_equal(offset, 4711);
        assert_int_equal(extent_map_fit(m, 4 * G, GIB, false, &offset), 0);
        assert_int_equal(offset, 0);

        /* Right up to the last granule below 2^64. */
        assert_int_equal(extent_map_new(UINT64_MAX - G + 1, G, &big), 0);
        assert_int_equal(extent_map_begin_scrub(big, 2 * G, UINT64_MAX - 3 * G + 1), 0);
        assert_int_equal(extent_map_end_scrub(big, 2 * G, UINT64_MAX - 3 * G + 1, true), 0);
        assert_int_equal(extent_map_fit(big, UINT64_MAX - 3 * G + 1, G, false, &offset), 0);
        assert_int_equal(offset, 2 * G);
        assert_int_equal(extent_map_fit(big, UINT64_MAX - GIB - G + 1, GIB, false, &offset), 0);
        assert_int_equal(offset, GIB);
        assert_int_equal(extent_map_fit(big, UINT64_MAX - GIB + 1, GIB, false, &offset), -EXFULL);
        assert_int_equal(extent_map_retire(big, UINT64_MAX - 3 * G + 1, G, NULL), 0);
        assert_int_equal(extent_map_fit(big, UINT64_MAX - GIB - G + 1, GIB, true, &offset), 0);
        assert_int_equal(offset, GIB);
        extent_map_check(big);
}

/* 200,000 extents, and every free run but two just too crooked for what is asked. A search that
 * looked at them one by one would not be done in hours. */
static void test_many_extents(void **state) {
        const uint64_t n = 100000, stride = 4 * MIB;
        _cleanup_map_ ExtentMap *m = NULL;
        uint64_t offset;

        assert_int_equal(extent_map_new((n + 2) * stride, G, &m), 0);
        assert_int_equal(extent_map_begin_scrub(m, 0, (n + 2) * stride), 0);
        assert_int_equal(extent_map_end_scrub(m, 0, (n + 2) * stride, true), 0);
        /* Free runs of just the right size, 64K behind a 2M boundary. */
        for (uint64_t i = 0; i < n; i++)
                assert_int_equal(extent_map_lease(m, i * stride + 3 * MIB, MIB + G, i + 1, false),
                                 0);
        assert_int_equal(extent_map_count(m), 2 * n + 1);
        extent_map_check(m);
        for (uint64_t i = 0; i < n; i++) {
                assert_int_equal(extent_map_fit(m, 3 * MIB - G, 2 * MIB, false, &offset), 0);
                assert_int_equal(offset, i == 0 ? 0 : n * stride + 2 * MIB);
                assert_int_equal(extent_map_fit(m, 7 * MIB, 2 * MIB, false, &offset), -EXFULL);
                if (i == 0)
                        assert_int_equal(extent_map_lease(m, 0, 3 * MIB, n + 1, false), 0);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_strings),
                        cmocka_unit_test(test_new),
                        cmocka_unit_test(test_operations),
                        cmocka_unit_test(test_no_memory),
                        cmocka_unit_test(test_whole_extents_need_no_memory),
                        cmocka_unit_test(test_reserve),
                        cmocka_unit_test(test_way_back_needs_no_memory),
                        cmocka_unit_test(test_bad_ranges),
                        cmocka_unit_test(test_bytes_and_next),
                        cmocka_unit_test(test_fit),
                        cmocka_unit_test(test_fit_arguments),
                        cmocka_unit_test(test_many_extents),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
