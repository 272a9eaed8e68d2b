/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "overreach.h"

#define G ((uint64_t) 64 * KIB)
#define GRANULES 64U
#define LEASES 6U

typedef struct World {
        ExtentMap *map;
        Lease *leases[LEASES + 1]; /* by number */
} World;

static const Lease *find_lease(uint64_t id, void *userdata) {
        const World *w = userdata;

        return id <= LEASES ? w->leases[id] : NULL;
}

static Lease *add_lease(World *w, uint64_t id, uid_t owner) {
        Lease *l;

        assert_int_equal(lease_new(id, 1, &l), 0);
        l->owner_uid = owner;
        l->lifetime_open = true;
        w->leases[id] = l;
        return l;
}

static void lend(World *w, uint64_t id, uint64_t from, uint64_t n) {
        assert_int_equal(extent_map_lease(w->map, from * G, n * G, id, false), 0);
}

static void world_begin(World *w) {
        *w = (World){};
        assert_int_equal(extent_map_new(GRANULES * G, G, &w->map), 0);
}

static void world_clean(World *w, uint64_t from, uint64_t n) {
        assert_int_equal(extent_map_begin_scrub(w->map, from * G, n * G), 0);
        assert_int_equal(extent_map_end_scrub(w->map, from * G, n * G, true), 0);
}

static void world_done(World *w) {
        for (size_t i = 0; i <= LEASES; i++)
                lease_free(w->leases[i]);
        extent_map_free(w->map);
}

/* What the table says of one granule. */
static OverreachKind kind_of(const Overreach *o, uint64_t granule) {
        OverreachKind found = _OVERREACH_KIND_INVALID;

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++) {
                if (!ranges_overlap(o->bytes + k, granule * G, G))
                        continue;
                assert_true(found < 0); /* of one kind */
                found = k;
        }
        return found;
}

#define FINE _OVERREACH_KIND_INVALID

/* One state after the other, a granule each; 1: mine (uid 1000), shown. */
static void test_states(void **state) {
        static const struct {
                const char *what;
                OverreachKind shown, nothing; /* for who shows lease 1, and for who shows none */
        } table[] = {
                        {"dirty", OVERREACH_UNLENT, OVERREACH_UNLENT},
                        {"scrubbing", OVERREACH_UNLENT, OVERREACH_UNLENT},
                        {"free", OVERREACH_UNLENT, OVERREACH_UNLENT},
                        {"retired", OVERREACH_UNLENT, OVERREACH_UNLENT},
                        {"mine", FINE, FINE},
                        {"mine, retired", FINE, FINE},
                        {"mine, draining", FINE, FINE},
                        {"another user's", OVERREACH_FOREIGN, FINE},
                        {"another user's, retired", OVERREACH_FOREIGN, FINE},
                        {"another of mine", OVERREACH_UNPROVEN, FINE},
                        {"root's", OVERREACH_UNPROVEN, FINE},
                        {"another user's, persistent", FINE, FINE},
                        {"another user's, and over", FINE, FINE},
                        {"of a lease that is not known", FINE, FINE},
        };
        _cleanup_ranges_ Ranges mapped = {};
        _cleanup_overreach_ Overreach o = {}, none = {};
        const Lease *shown[1];
        World w;

        world_begin(&w);
        shown[0] = add_lease(&w, 1, 1000);
        (void) add_lease(&w, 2, 1001);
        (void) add_lease(&w, 3, 1000);
        (void) add_lease(&w, 4, 0);
        add_lease(&w, 5, 1001)->lifetime = LEASE_LIFETIME_PERSISTENT;
        add_lease(&w, 6, 1001)->released = true;

        world_clean(&w, 2, 12);
        assert_int_equal(extent_map_begin_scrub(w.map, 1 * G, G), 0);
        assert_int_equal(extent_map_retire(w.map, 3 * G, G, NULL), 0);
        lend(&w, 1, 4, 3);
        assert_int_equal(extent_map_retire(w.map, 5 * G, G, NULL), 0);
        assert_int_equal(extent_map_drain(w.map, 6 * G, G, 1), 0);
        lend(&w, 2, 7, 2);
        assert_int_equal(extent_map_retire(w.map, 8 * G, G, NULL), 0);
        lend(&w, 3, 9, 1);
        lend(&w, 4, 10, 1);
        lend(&w, 5, 11, 1);
        lend(&w, 6, 12, 1);
        lend(&w, 7, 13, 1);

        assert_int_equal(ranges_add(&mapped, 0, ELEMENTSOF(table) * G), 0);
        assert_int_equal(overreach_judge(w.map, &mapped, shown, 1, find_lease, &w, &o), 0);
        assert_int_equal(overreach_judge(w.map, &mapped, NULL, 0, find_lease, &w, &none), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (kind_of(&o, i) != table[i].shown || kind_of(&none, i) != table[i].nothing)
                        fail_msg("%s: %d, %d", table[i].what, kind_of(&o, i), kind_of(&none, i));
        for (size_t i = ELEMENTSOF(table); i < GRANULES; i++)
                assert_true(kind_of(&o, i) < 0);

        /* Who serves as root serves everybody; what is nobody's by record is not judged. */
        overreach_done(&o);
        w.leases[1]->owner_uid = 0;
        w.leases[3]->unclaimed = true;
        assert_int_equal(overreach_judge(w.map, &mapped, shown, 1, find_lease, &w, &o), 0);
        assert_int_equal(kind_of(&o, 7), OVERREACH_UNPROVEN);
        assert_int_equal(kind_of(&o, 9), FINE);
        world_done(&w);
}

static void test_pieces(void **state) {
        _cleanup_ranges_ Ranges mapped = {};
        _cleanup_overreach_ Overreach o = {};
        World w;

        world_begin(&w);
        world_clean(&w, 0, GRANULES);
        lend(&w, 1, 4, 4);
        /* A page beyond each end, by pages that are smaller than granules; and past the region's end. */
        assert_int_equal(ranges_add(&mapped, 4 * G - 4096, 4 * G + 8192), 0);
        assert_int_equal(ranges_add(&mapped, GRANULES * G - 4096, 8192), 0);
        assert_int_equal(overreach_judge(w.map, &mapped, NULL, 0, find_lease, &w, &o), 0);
        assert_int_equal(o.bytes[OVERREACH_UNLENT].n, 3);
        assert_int_equal(ranges_bytes(o.bytes + OVERREACH_UNLENT), 3 * 4096);
        assert_true(ranges_overlap(o.bytes + OVERREACH_UNLENT, 4 * G - 4096, 1));
        assert_true(ranges_overlap(o.bytes + OVERREACH_UNLENT, 8 * G + 4095, 1));
        assert_false(ranges_overlap(o.bytes + OVERREACH_UNLENT, 4 * G, 4 * G));
        world_done(&w);
}

static void test_sets(void **state) {
        _cleanup_overreach_ Overreach a = {}, b = {};

        assert_true(overreach_is_empty(&a));
        assert_int_equal(ranges_add(a.bytes + OVERREACH_UNLENT, 0, 100), 0);
        assert_int_equal(ranges_add(a.bytes + OVERREACH_FOREIGN, 200, 100), 0);
        assert_false(overreach_is_empty(&a));
        /* Kinds are kept apart: what was lent meanwhile is not what was seen before. */
        assert_int_equal(ranges_add(b.bytes + OVERREACH_UNLENT, 50, 200), 0);
        assert_int_equal(overreach_intersect(&a, &b), 0);
        assert_int_equal(ranges_bytes(a.bytes + OVERREACH_UNLENT), 50);
        assert_int_equal(a.bytes[OVERREACH_FOREIGN].n, 0);
        overreach_forget(&a, 60, 10);
        assert_int_equal(ranges_bytes(a.bytes + OVERREACH_UNLENT), 40);
        assert_int_equal(overreach_subtract(&b, &a), 0);
        assert_int_equal(ranges_bytes(b.bytes + OVERREACH_UNLENT), 160);
        assert_int_equal(overreach_add(&b, &a), 0);
        assert_int_equal(ranges_bytes(b.bytes + OVERREACH_UNLENT), 200);
        overreach_forget(&b, 0, 1000);
        assert_true(overreach_is_empty(&b));
}

/* ---- Against what each byte of a map says by itself ---- */

typedef struct Byte {
        ExtentState state;
        uint64_t owner;
} Byte;

static uint64_t random_below(uint64_t *seed, uint64_t n) {
        *seed = *seed * 6364136223846793005 + 1442695040888963407;
        return (*seed >> 33) % n;
}

static OverreachKind oracle(const World *w, Byte b, const Lease *const *shown, size_t n) {
        bool same = false;
        const Lease *l;

        if (b.state == EXTENT_DRAINING)
                return FINE;
        if (b.owner == 0)
                return OVERREACH_UNLENT;
        l = w->leases[b.owner];
        if (n == 0 || l->unclaimed || l->released || l->lifetime == LEASE_LIFETIME_PERSISTENT)
                return FINE;
        for (size_t i = 0; i < n; i++) {
                if (shown[i]->id == l->id)
                        return FINE;
                same = same || shown[i]->owner_uid == 0 || shown[i]->owner_uid == l->owner_uid;
        }
        return same || l->owner_uid == 0 ? OVERREACH_UNPROVEN : OVERREACH_FOREIGN;
}

static void make_bytes(World *w, uint64_t *seed, Byte bytes[static GRANULES]) {
        for (uint64_t i = 0; i < GRANULES; i++) {
                uint64_t id = 1 + random_below(seed, LEASES), what = random_below(seed, 7);

                bytes[i] = (Byte){.state = EXTENT_DIRTY};
                if (what == 0)
                        continue;
                if (what == 1) {
                        assert_int_equal(extent_map_begin_scrub(w->map, i * G, G), 0);
                        bytes[i].state = EXTENT_SCRUBBING;
                        continue;
                }
                world_clean(w, i, 1);
                bytes[i].state = EXTENT_FREE;
                if (what >= 3) {
                        lend(w, id, i, 1);
                        bytes[i] = (Byte){EXTENT_LEASED, id};
                }
                if (what == 4) {
                        assert_int_equal(extent_map_drain(w->map, i * G, G, id), 0);
                        bytes[i].state = EXTENT_DRAINING;
                }
                if (what == 5 || (what == 2 && random_below(seed, 2) == 0)) {
                        assert_int_equal(extent_map_retire(w->map, i * G, G, NULL), 0);
                        bytes[i].state = EXTENT_RETIRED;
                }
        }
}

static void one_random(uint64_t seed) {
        _cleanup_ranges_ Ranges mapped = {};
        _cleanup_overreach_ Overreach o = {};
        const Lease *shown[LEASES];
        bool is_mapped[GRANULES] = {};
        Byte bytes[GRANULES];
        size_t n = 0;
        World w;

        world_begin(&w);
        for (uint64_t id = 1; id <= LEASES; id++) {
                Lease *l = add_lease(&w, id, (uid_t) random_below(&seed, 4));

                l->released = random_below(&seed, 8) == 0;
                l->unclaimed = random_below(&seed, 8) == 0;
                if (random_below(&seed, 8) == 0)
                        l->lifetime = LEASE_LIFETIME_PERSISTENT;
                if (!l->released && random_below(&seed, 4) == 0)
                        shown[n++] = l;
        }
        make_bytes(&w, &seed, bytes);
        for (unsigned k = 0; k < 4; k++) {
                uint64_t from = random_below(&seed, GRANULES);
                uint64_t size = 1 + random_below(&seed, GRANULES - from);

                assert_int_equal(ranges_add(&mapped, from * G, size * G), 0);
                for (uint64_t i = from; i < from + size; i++)
                        is_mapped[i] = true;
        }
        assert_int_equal(overreach_judge(w.map, &mapped, shown, n, find_lease, &w, &o), 0);
        for (uint64_t i = 0; i < GRANULES; i++)
                assert_int_equal(kind_of(&o, i),
                                 is_mapped[i] ? oracle(&w, bytes[i], shown, n) : FINE);
        world_done(&w);
}

static void test_random(void **state) {
        for (uint64_t seed = 1; seed <= 500; seed++)
                one_random(seed);
}

static void test_proven(void **state) {
        static const bool proven[_OVERREACH_KIND_MAX] = {
                        [OVERREACH_UNLENT] = true,
                        [OVERREACH_FOREIGN] = true,
        };

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++) {
                assert_int_equal(overreach_is_proven(k), proven[k]);
                assert_int_equal(overreach_kind_from_string(overreach_kind_to_string(k)), k);
        }
        assert_true(overreach_kind_from_string("x") < 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_states), cmocka_unit_test(test_pieces),
                        cmocka_unit_test(test_sets),   cmocka_unit_test(test_random),
                        cmocka_unit_test(test_proven),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
