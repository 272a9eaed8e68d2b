/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/random.h>
#include "test.h"

#include "model.h"
#include "size.h"

/* A long random life of three regions, each step of it held against the model: what the extent map
 * does and refuses, where placement finds room, and that it finds some whenever there is some.
 * EGM_TEST_SEED repeats a run, EGM_TEST_OPS sets its length. */

#define G MODEL_GRANULE
#define REGIONS 3U
#define SLICES 5U
#define OPS_DEFAULT 1000000U
#define WORLD_LIFE 4000U /* operations until a new world */

typedef struct Region {
        Model *model;
        ExtentMap *map;
        uint64_t compare_after; /* operations until all of it is looked at again */
} Region;

static struct {
        uint64_t seed, random, ops, op;
        uint32_t owner;
        Region regions[REGIONS];
        PlacementRegion placement[REGIONS];
        uint64_t granted, refused[_EGM_ERROR_KIND_MAX], changed, stale, worlds, pairs;
} world;

#define CHECK(condition) \
        do { \
                if (!(condition)) \
                        fail_msg("seed %" PRIu64 ", operation %" PRIu64 ": %s", world.seed, \
                                 world.op, #condition); \
        } while (0)

static uint64_t below(uint64_t n) {
        uint64_t x = world.random += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (x ^ (x >> 31)) % n;
}

static bool one_in(uint64_t n) {
        return below(n) == 0;
}

/* I5 and what else is O(1), after every operation. */
static void compare_sums(const Region *r) {
        uint64_t sum = 0;

        for (ExtentState s = 0; s < _EXTENT_STATE_MAX; s++) {
                CHECK(extent_map_bytes(r->map, s) == r->model->count[s] * G);
                sum += extent_map_bytes(r->map, s);
        }
        CHECK(sum == extent_map_size(r->map) && sum == r->model->n * G);
}

static void compare_at(const Region *r, size_t at) {
        const Cell *c = r->model->cells + at;
        Extent e;

        CHECK(extent_map_get(r->map, at * G, &e));
        CHECK(e.offset <= at * G && at * G - e.offset < e.size);
        CHECK(e.state == c->state && e.owner == c->owner);
}

static void compare_all(Region *r) {
        size_t at = 0, n = 0, largest = 0;
        Extent e;

        for (; extent_map_get(r->map, at * G, &e); at = (e.offset + e.size) / G, n++) {
                size_t start;

                CHECK(e.offset == at * G);
                CHECK(model_run(r->model, at, &start) == e.size / G && start == at);
                CHECK(e.state == r->model->cells[at].state && e.owner == r->model->cells[at].owner);
                if (e.state == EXTENT_FREE)
                        largest = MAX(largest, e.size / G);
        }
        CHECK(at == r->model->n);
        CHECK(extent_map_count(r->map) == n);
        CHECK(extent_map_largest_free(r->map) == largest * G);
        CHECK(extent_map_owned(r->map) == model_owned(r->model) * G);
        extent_map_check(r->map);
}

static void compare(Region *r, size_t offset, size_t size) {
        compare_sums(r);
        compare_at(r, offset);
        compare_at(r, offset + size - 1);
        compare_at(r, offset + below(size));
        if (offset > 0)
                compare_at(r, offset - 1);
        if (offset + size < r->model->n)
                compare_at(r, offset + size);
        compare_at(r, below(r->model->n));
        if (r->compare_after-- == 0) {
                compare_all(r);
                r->compare_after = r->model->n / 2;
        }
}

static int map_apply(ExtentMap *m, ModelOp op, uint64_t offset, uint64_t size, uint64_t owner) {
        switch (op) {
        case MODEL_BEGIN_SCRUB:
                return extent_map_begin_scrub(m, offset, size);
        case MODEL_END_SCRUB:
                return extent_map_end_scrub(m, offset, size, true);
        case MODEL_FAIL_SCRUB:
                return extent_map_end_scrub(m, offset, size, false);
        case MODEL_SOIL:
                return extent_map_soil(m, offset, size);
        case MODEL_LEASE:
                return extent_map_lease(m, offset, size, owner, false);
        case MODEL_LEASE_RETIRED:
                return extent_map_lease(m, offset, size, owner, true);
        case MODEL_CANCEL:
                return extent_map_cancel(m, offset, size, owner);
        case MODEL_ADOPT:
                return extent_map_adopt(m, offset, size, owner);
        case MODEL_DRAIN:
                return extent_map_drain(m, offset, size, owner);
        case MODEL_RECLAIM:
                return extent_map_reclaim(m, offset, size, owner);
        case MODEL_RETIRE:
                return extent_map_retire(m, offset, size, NULL);
        default:
                return -EINVAL;
        }
}

static void apply(Region *r, ModelOp op, size_t offset, size_t size, uint32_t owner) {
        int expected = model_apply(r->model, op, offset, size, owner);

        CHECK(map_apply(r->map, op, offset * G, size * G, owner) == expected);
        if (expected < 0)
                world.stale++;
        else
                world.changed++;
        if (expected == 0 && (op == MODEL_LEASE || op == MODEL_LEASE_RETIRED || op == MODEL_ADOPT))
                model_write(r->model, offset, size, owner);
        else if (expected == 0 && op == MODEL_CANCEL)
                model_write(r->model, offset, size, 0); /* only for those that nobody got to see */
        compare(r, offset, size);
}

static void step_any(Region *r) {
        size_t offset = below(r->model->n);
        size_t size = 1 + below(MIN(r->model->n - offset, one_in(4) ? SIZE_MAX : (size_t) 8));
        uint32_t owner = one_in(2) ? r->model->cells[offset].owner : 0;

        apply(r, below(_MODEL_OP_MAX - 1), offset, size, owner ?: ++world.owner);
}

/* Takes a run of granules, or a part of it, one step on its way. */
static void step_onwards(Region *r) {
        size_t offset, at = below(r->model->n), size = model_run(r->model, at, &offset);
        const Cell c = r->model->cells[at];
        ModelOp op;

        if (size > 1 && one_in(3)) {
                size_t skip = below(size);

                offset += skip;
                size = 1 + below(size - skip);
        }
        switch (c.state) {
        case EXTENT_DIRTY:
                op = one_in(10) ? MODEL_ADOPT : MODEL_BEGIN_SCRUB;
                break;
        case EXTENT_SCRUBBING:
                op = one_in(10) ? MODEL_FAIL_SCRUB : MODEL_END_SCRUB;
                break;
        case EXTENT_FREE:
                op = one_in(10) ? MODEL_SOIL : MODEL_LEASE;
                size = MIN(size, 1 + below(6));
                break;
        case EXTENT_LEASED:
                op = MODEL_DRAIN;
                break;
        case EXTENT_DRAINING:
                op = MODEL_RECLAIM;
                break;
        default:
                op = c.owner == 0 ? MODEL_LEASE_RETIRED : MODEL_RECLAIM;
        }
        apply(r, op, offset, size, c.owner ?: ++world.owner);
}

static void step_retire(Region *r) {
        size_t offset = below(r->model->n), size = 1 + below(MIN(r->model->n - offset, (size_t) 2));
        size_t before = r->model->count[EXTENT_RETIRED];
        uint64_t fresh = 4711;

        CHECK(model_apply(r->model, MODEL_RETIRE, offset, size, 0) == 0);
        CHECK(extent_map_retire(r->map, offset * G, size * G, &fresh) == 0);
        CHECK(fresh == (r->model->count[EXTENT_RETIRED] - before) * G);
        compare(r, offset, size);
}

static void step_ask(Region *r) {
        size_t at = below(r->model->n + 2), k = at;
        ExtentState s = (ExtentState) below(_EXTENT_STATE_MAX);
        Extent e;

        while (k < r->model->n && r->model->cells[k].state != s)
                k++;
        if (k < r->model->n) {
                size_t start;

                CHECK(extent_map_next(r->map, at * G, s, &e));
                CHECK(model_run(r->model, k, &start) * G == e.size && start * G == e.offset);
                CHECK(e.state == s && e.owner == r->model->cells[k].owner);
        } else
                CHECK(!extent_map_next(r->map, at * G, s, &e));
}

static void step_bad(Region *r) {
        uint64_t end = extent_map_size(r->map), offset = below(end), size = below(end);

        switch (below(5)) {
        case 0:
                offset = align_down(offset, G);
                size = 0;
                break;
        case 1:
                offset |= 1;
                break;
        case 2:
                size |= G / 2;
                break;
        case 3:
                offset = align_down(offset, G);
                size = end - offset + G;
                break;
        default:
                offset = align_down(offset, G);
                size = -offset - G * below(2);
                if (offset == 0)
                        size -= G;
        }
        CHECK(map_apply(r->map, below(_MODEL_OP_MAX), offset, size, 1) == -EINVAL);
        compare(r, 0, r->model->n);
}

static bool matches(const SliceRequest *s, size_t i) {
        return model_matches(s, world.placement + i);
}

static ModelVerdict judge(const SliceRequest *s, size_t i) {
        return model_judge(world.regions[i].model, s, world.placement + i);
}

static EgmErrorKind expected_kind(const SliceRequest *s) {
        bool ready = false, shared = false, enough = false;

        for (size_t i = 0; i < REGIONS; i++) {
                ModelVerdict v;

                if (!matches(s, i))
                        continue;
                v = judge(s, i);
                if (v.r == 0)
                        return EGM_ERROR_NONE;
                ready |= v.r != -ENOLINK;
                shared |= v.r != -ENOLINK && v.r != -ENOTUNIQ;
                enough |= v.r == -EXFULL;
        }
        if (!ready)
                return EGM_ERROR_REGION_NOT_READY;
        if (!shared)
                return EGM_ERROR_NOT_PARTITIONABLE;
        return enough ? EGM_ERROR_FRAGMENTED : EGM_ERROR_NO_CAPACITY;
}

/* Is there any better place for this single slice than where it went? before: as it was then. */
static void check_best(const SliceRequest *s, const ModelVerdict before[static REGIONS],
                       size_t went) {
        const ModelVerdict *a = before + went;

        CHECK(a->r == 0);
        for (size_t i = 0; i < REGIONS; i++) {
                const ModelVerdict *b = before + i;
                bool a_whole = world.placement[went].whole_only,
                     b_whole = world.placement[i].whole_only;

                if (i == went || !matches(s, i) || b->r < 0)
                        continue;
                CHECK(!a->retired || b->retired);
                if (a->retired != b->retired)
                        continue;
                CHECK(a_whole == b_whole || a_whole == s->whole);
                if (a_whole == b_whole && !a->retired)
                        CHECK(s->whole ? a->size <= b->size : a->rest <= b->rest);
        }
}

/* I1, I2, I3: everything that was granted was free, clean and good. */
static void check_granted(const SliceRequest *slices, size_t n, const Placed *placed,
                          uint32_t owner) {
        for (size_t k = 0; k < n; k++) {
                const SliceRequest *s = slices + k;
                const Placed *p = placed + k;
                size_t offset = p->offset / G, size = p->size / G;
                Region *r;

                CHECK(p->region < REGIONS && matches(s, p->region));
                CHECK(world.placement[p->region].ready && world.placement[p->region].reserved == 0);
                r = world.regions + p->region;
                CHECK(p->size == (s->whole ? extent_map_size(r->map) : s->size));
                CHECK(p->offset % (s->align ?: s->whole ? G : EGM_ALIGN_DEFAULT) == 0);
                if (world.placement[p->region].whole_only) {
                        CHECK(p->offset == 0);
                        CHECK(model_owned(r->model) == 0);
                }
                for (size_t i = offset; i < offset + size; i++)
                        CHECK(r->model->cells[i].state == EXTENT_RETIRED ||
                              r->model->cells[i].content == 0);
                CHECK(s->include_retired || !model_has_retired(r->model, offset, size));
                CHECK(model_apply(r->model, s->include_retired ? MODEL_LEASE_RETIRED : MODEL_LEASE,
                                  offset, size, owner) == 0);
        }
        for (size_t k = 0; k < n; k++)
                compare(world.regions + placed[k].region, placed[k].offset / G, placed[k].size / G);
}

/* Two slices, any alignment, no retired pages: is there room for both? */
static bool pair_fits(const SliceRequest *s) {
        for (size_t i = 0; i < REGIONS; i++)
                for (size_t j = 0; j < REGIONS; j++) {
                        Model *m = world.regions[i].model;
                        ModelVerdict a, b;
                        size_t first, last;

                        if (!matches(s, i) || !matches(s + 1, j))
                                continue;
                        a = judge(s, i);
                        b = judge(s + 1, j);
                        if (a.r < 0 || b.r < 0)
                                continue;
                        if (i != j)
                                return true;
                        if (world.placement[i].whole_only || s[0].whole || s[1].whole)
                                continue;
                        if (!model_first_fit(m, b.size, 1, &first) ||
                            !model_last_fit(m, b.size, 1, &last))
                                continue;
                        for (size_t at = 0; at < m->n; at++)
                                if (model_fits_at(m, at, a.size) &&
                                    (first + b.size <= at || last >= at + a.size))
                                        return true;
                }
        return false;
}

static bool is_simple(const SliceRequest *s) {
        return !s->include_retired && (s->whole || s->align == G);
}

static SliceRequest random_slice(bool simple) {
        static const uint64_t aligns[] = {0, G, G, G, 2 * G, 4 * G, 8 * G, 2 * MIB, GIB};
        static const char *const names[] = {"egm4", "egm5", "egm6"};
        SliceRequest s = {
                        .whole = one_in(12),
                        .node = one_in(4) ? (int) below(2) : EGM_NODE_ANY,
                        .socket = one_in(4) ? (int) below(2) : EGM_SOCKET_ANY,
                        .align = simple ? G : aligns[below(ELEMENTSOF(aligns))],
                        .include_retired = !simple && one_in(3),
        };

        if (!s.whole)
                s.size = (1 + below(one_in(8) ? 100 : one_in(2) ? 4 : 16)) * G;
        if (s.node == EGM_NODE_ANY && one_in(4))
                s.region = names[below(REGIONS)];
        return s;
}

static void random_moods(void) {
        for (size_t i = 0; i < REGIONS; i++) {
                world.placement[i].ready = !one_in(16);
                world.placement[i].reserved = one_in(16) ? 1 + (unsigned) below(3) : 0;
        }
}

static void cancel_all(const Placed *placed, size_t n, uint32_t owner) {
        for (size_t k = 0; k < n; k++) {
                Region *r = world.regions + placed[k].region;
                size_t offset = placed[k].offset / G, size = placed[k].size / G;

                CHECK(model_apply(r->model, MODEL_CANCEL, offset, size, owner) == 0);
                CHECK(extent_map_cancel(r->map, placed[k].offset, placed[k].size, owner) == 0);
                compare(r, offset, size);
        }
}

static void check_refused(const SliceRequest *slices, size_t n, const EgmError *e) {
        EgmErrorKind kinds[SLICES];
        bool all_alone = true;

        CHECK(e->message);
        for (size_t k = 0; k < n; k++) {
                kinds[k] = expected_kind(slices + k);
                all_alone &= kinds[k] == EGM_ERROR_NONE;
        }
        /* Alone, or with one that cannot be had at all, the reason is exact. */
        if (!all_alone) {
                bool found = false;

                for (size_t k = 0; k < n; k++)
                        found |= kinds[k] == e->kind;
                CHECK(found);
        }
        CHECK(n > 1 || !all_alone);
        if (n == 2 && is_simple(slices) && is_simple(slices + 1)) {
                CHECK(!pair_fits(slices));
                world.pairs++;
        }
        for (size_t i = 0; i < REGIONS; i++)
                compare(world.regions + i, 0, world.regions[i].model->n);
}

static void step_take(void) {
        size_t n = one_in(3) ? 2 : one_in(8) ? 1 + below(SLICES) : 1;
        SliceRequest slices[SLICES];
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        ModelVerdict before[REGIONS] = {};
        Placed placed[SLICES];
        uint32_t owner = ++world.owner;
        bool simple = one_in(2);
        int r;

        random_moods();
        for (size_t k = 0; k < n; k++)
                slices[k] = random_slice(simple);
        for (size_t i = 0; i < REGIONS && n == 1; i++)
                before[i] = judge(slices, i);
        r = placement_take(slices, n, world.placement, REGIONS, owner, placed, &e);
        CHECK((r < 0) == (e.kind != EGM_ERROR_NONE));
        world.refused[e.kind]++;
        if (e.kind == EGM_ERROR_NO_SUCH_REGION) {
                bool all = true;

                for (size_t k = 0; k < n; k++)
                        all &= matches(slices + k, 0) || matches(slices + k, 1) ||
                               matches(slices + k, 2);
                CHECK(!all);
                return;
        }
        if (r < 0) {
                check_refused(slices, n, &e);
                return;
        }
        for (size_t k = 0; k < n; k++)
                CHECK(placement_is_candidate(slices + k, world.placement + placed[k].region));
        if (n == 1)
                check_best(slices, before, placed[0].region);
        check_granted(slices, n, placed, owner);
        world.granted++;
        if (one_in(8)) {
                cancel_all(placed, n, owner);
                return;
        }
        for (size_t k = 0; k < n; k++)
                model_write(world.regions[placed[k].region].model, placed[k].offset / G,
                            placed[k].size / G, owner);
}

static void world_clear(void) {
        for (size_t i = 0; i < REGIONS; i++) {
                if (world.regions[i].map)
                        compare_all(world.regions + i);
                world.regions[i].map = extent_map_free(world.regions[i].map);
                world.regions[i].model = model_free(world.regions[i].model);
        }
}

/* Mostly small worlds, where everything touches everything; now and then large ones. */
static void world_new(void) {
        static const char *const names[] = {"egm4", "egm5", "egm6"};
        size_t limit = world.worlds % 10 == 9 ? 3000 : 120;

        world_clear();
        world.worlds++;
        for (size_t i = 0; i < REGIONS; i++) {
                Region *r = world.regions + i;
                size_t n = 8 + below(limit);

                CHECK(model_new(n, &r->model) == 0);
                CHECK(extent_map_new(n * G, G, &r->map) == 0);
                r->compare_after = 0;
                world.placement[i] = (PlacementRegion){
                                .name = names[i],
                                .node = (int) i,
                                .socket = i == 0 ? 0 : 1,
                                .map = r->map,
                                .why = "told so",
                                .whole_only = i == 2 && !one_in(4),
                };
                if (one_in(2)) {
                        apply(r, MODEL_BEGIN_SCRUB, 0, n, 0);
                        apply(r, MODEL_END_SCRUB, 0, n, 0);
                }
        }
}

static void step(void) {
        Region *r = world.regions + below(REGIONS);

        switch (below(100)) {
        case 0 ... 24:
                step_take();
                break;
        case 25 ... 84:
                step_onwards(r);
                break;
        case 85 ... 93:
                step_any(r);
                break;
        case 94 ... 97:
                step_ask(r);
                break;
        case 98:
                step_bad(r);
                break;
        default:
                if (r->model->count[EXTENT_RETIRED] < r->model->n / 4)
                        step_retire(r);
        }
}

static void test_life(void **state) {
        for (world.op = 0; world.op < world.ops; world.op++) {
                if (world.op % WORLD_LIFE == 0)
                        world_new();
                step();
        }
        world_clear();

        print_message("%" PRIu64 " worlds, %" PRIu64 " changes, %" PRIu64 " stale; granted %" PRIu64
                      ", refused",
                      world.worlds, world.changed, world.stale, world.granted);
        for (EgmErrorKind k = EGM_ERROR_NONE + 1; k < _EGM_ERROR_KIND_MAX; k++)
                if (world.refused[k] > 0)
                        print_message(" %s %" PRIu64, strrchr(egm_error_kind_to_name(k), '.') + 1,
                                      world.refused[k]);
        print_message(", pairs that do not fit %" PRIu64 "\n", world.pairs);
        /* A test of nothing would pass as well. */
        if (world.ops >= 100000) {
                CHECK(world.granted > world.ops / 50);
                CHECK(world.changed > world.ops / 4);
                CHECK(world.refused[EGM_ERROR_FRAGMENTED] > world.ops / 1000);
                CHECK(world.refused[EGM_ERROR_NO_CAPACITY] > world.ops / 1000);
                CHECK(world.refused[EGM_ERROR_NOT_PARTITIONABLE] > world.ops / 1000);
                CHECK(world.refused[EGM_ERROR_REGION_NOT_READY] > world.ops / 1000);
                CHECK(world.pairs > world.ops / 1000);
        }
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise) {
        const char *s = getenv(name);
        uint64_t v;

        if (!s)
                return otherwise;
        if (parse_uint64(s, &v) < 0) {
                (void) fprintf(stderr, "%s=%s is not a number\n", name, s);
                exit(EXIT_FAILURE);
        }
        return v;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_life),
        };
        uint32_t seed;

        if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
                return EXIT_FAILURE;
        world.ops = number_from_environment("EGM_TEST_OPS", OPS_DEFAULT);
        world.random = world.seed = number_from_environment("EGM_TEST_SEED", seed);
        print_message("EGM_TEST_SEED=%" PRIu64 " EGM_TEST_OPS=%" PRIu64 "\n", world.seed,
                      world.ops);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
