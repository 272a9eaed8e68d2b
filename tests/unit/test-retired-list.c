/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <sys/mman.h>

#include "retired-list.h"

#define SIZE GIB
#define GRANULE (64 * KIB)
#define ENTRIES_MAX 8U

typedef struct Case {
        const char *what;
        size_t room;    /* places for entries in the call */
        uint32_t argsz; /* of the answer */
        uint32_t count;
        RetiredListEntry entries[ENTRIES_MAX];
        int r;
        RetiredReply reply;
        Range ranges[ENTRIES_MAX + 1]; /* ends with size 0 */
} Case;

#define BYTES(n) (8 + 16 * (n))

static const Case cases[] = {
                {"no pages, first call", 0, 8, 0, {}, 0, {RETIRED_COMPLETE, 8, 0, 0, 0}, {}},
                {"no pages, room left", 4, BYTES(4), 0, {}, 0, {RETIRED_COMPLETE, 8, 0, 0, 0}, {}},
                {"more than room", 0, BYTES(3), 0, {}, 0, {RETIRED_GROWN, BYTES(3), 0, 0, 0}, {}},
                {"more than room says more than one way",
                 1,
                 BYTES(3),
                 3,
                 {{0, 4096}},
                 0,
                 {RETIRED_GROWN, BYTES(3), 0, 0, 0},
                 {}},
                {"most that can be asked for",
                 0,
                 BYTES(1048575),
                 0,
                 {},
                 0,
                 {RETIRED_GROWN, BYTES(1048575), 0, 0, 0},
                 {}},
                {"asks for more than that", 0, BYTES(1048576), 0, {}, -E2BIG, {}, {}},
                {"asks for everything", 0, UINT32_MAX, 0, {}, -E2BIG, {}, {}},
                {"asks for part of an entry", 0, 20, 0, {}, -EBADMSG, {}, {}},
                {"less than a header", 0, 7, 0, {}, -EBADMSG, {}, {}},
                {"argsz 0", 2, 0, 0, {}, -EBADMSG, {}, {}},
                {"count without room", 0, 8, 1, {}, -EBADMSG, {}, {}},
                {"count one too large", 2, BYTES(2), 3, {}, -EBADMSG, {}, {}},
                {"count huge", 2, BYTES(2), UINT32_MAX, {}, -EBADMSG, {}, {}},
                {"count whose size wraps 32 bits", 2, BYTES(2), 0x10000001, {}, -EBADMSG, {}, {}},
                {"cut: argsz says what is there",
                 4,
                 BYTES(2),
                 2,
                 {{0, 4096}, {0x100000, 4096}},
                 0,
                 {RETIRED_SHRUNK, BYTES(2), 2, 0, 0},
                 {{0, GRANULE}, {0x100000, GRANULE}}},
                {"cut: argsz says more than count", 4, BYTES(3), 2, {}, -EBADMSG, {}, {}},
                {"cut: argsz says less than count", 4, BYTES(1), 2, {}, -EBADMSG, {}, {}},
                {"cut: argsz is no number of entries", 4, BYTES(2) + 5, 2, {}, -EBADMSG, {}, {}},
                {"cut to nothing", 4, 8, 0, {}, 0, {RETIRED_SHRUNK, 8, 0, 0, 0}, {}},
                {"every place used",
                 1,
                 BYTES(1),
                 1,
                 {{0x10000, 4096}},
                 0,
                 {RETIRED_FULL, BYTES(1), 1, 0, 0},
                 {{0x10000, GRANULE}}},
                {"one 4K page stands for 64 KiB",
                 2,
                 BYTES(2),
                 1,
                 {{0x1f000, 4096}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 0},
                 {{0x10000, GRANULE}}},
                {"disorder, duplicates, neighbours",
                 8,
                 BYTES(8),
                 7,
                 {{0x50000, 4096},
                  {0x10000, 4096},
                  {0x50000, 4096},
                  {0x13000, 4096},
                  {0x20000, 4096},
                  {0x51000, 4096},
                  {0x10000, 4096}},
                 0,
                 {RETIRED_COMPLETE, BYTES(7), 7, 0, 0},
                 {{0x10000, 2 * GRANULE}, {0x50000, GRANULE}}},
                {"pages of 64K",
                 3,
                 BYTES(3),
                 2,
                 {{0x30000, 65536}, {0x20000, 65536}},
                 0,
                 {RETIRED_COMPLETE, BYTES(2), 2, 0, 0},
                 {{0x20000, 2 * GRANULE}}},
                {"across a granule's edge",
                 2,
                 BYTES(2),
                 1,
                 {{0x1f000, 0x2000}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 0},
                 {{0x10000, 2 * GRANULE}}},
                {"not even on a page",
                 2,
                 BYTES(2),
                 1,
                 {{0x1ffff, 2}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 0},
                 {{0x10000, 2 * GRANULE}}},
                {"last byte",
                 2,
                 BYTES(2),
                 1,
                 {{SIZE - 1, 1}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 0},
                 {{SIZE - GRANULE, GRANULE}}},
                {"outside",
                 5,
                 BYTES(5),
                 4,
                 {{SIZE, 4096},
                  {UINT64_C(0xffffffffffff0000), 4096},
                  {UINT64_MAX, UINT64_MAX},
                  {0x40000, 4096}},
                 0,
                 {RETIRED_COMPLETE, BYTES(4), 4, 3, 0},
                 {{0x40000, GRANULE}}},
                {"past the end",
                 2,
                 BYTES(2),
                 1,
                 {{SIZE - GRANULE, 2 * GRANULE}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 1},
                 {{SIZE - GRANULE, GRANULE}}},
                {"end wraps",
                 2,
                 BYTES(2),
                 1,
                 {{SIZE - 2 * GRANULE, UINT64_MAX}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 1},
                 {{SIZE - 2 * GRANULE, 2 * GRANULE}}},
                {"end rounds up to a wrap",
                 2,
                 BYTES(2),
                 1,
                 {{0, UINT64_MAX}},
                 0,
                 {RETIRED_COMPLETE, BYTES(1), 1, 0, 1},
                 {{0, SIZE}}},
                {"size 0 is still bad memory",
                 4,
                 BYTES(4),
                 3,
                 {{0x23000, 0}, {0x40000, 0}, {SIZE, 0}},
                 0,
                 {RETIRED_COMPLETE, BYTES(3), 3, 1, 2},
                 {{0x20000, GRANULE}, {0x40000, GRANULE}}},
};

/* A buffer that ends with a page: who reads or writes behind it dies. */
static char *guarded_alloc(size_t size, char **ret_base) {
        size_t page = (size_t) getpagesize(), room = (size + page - 1) / page * page;
        char *base = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                          -1, 0);

        assert_true(base != MAP_FAILED);
        assert_int_equal(mprotect(base + room, page, PROT_NONE), 0);
        *ret_base = base;
        return base + room - size;
}

static void guarded_free(char *base, size_t size) {
        size_t page = (size_t) getpagesize();

        assert_int_equal(munmap(base, (size + page - 1) / page * page + page), 0);
}

static void assert_ranges(const Ranges *l, const Range *expected) {
        size_t i;

        for (i = 0; i < l->n; i++) {
                assert_int_equal(l->items[i].offset, expected[i].offset);
                assert_int_equal(l->items[i].size, expected[i].size);
        }
        assert_int_equal(expected[i].size, 0);
}

static void test_cases(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const Case *c = cases + i;
                const RetiredListHeader h = {c->argsz, c->count};
                size_t size = retired_list_size(c->room);
                _cleanup_ranges_ Ranges list = {};
                RetiredReply reply = {.need = 4711};
                char *base, *buffer = guarded_alloc(size, &base);
                int r;

                memcpy(buffer, &h, sizeof(h));
                memcpy(buffer + sizeof(h), c->entries, size - sizeof(h));
                r = retired_list_parse(buffer, size, SIZE, GRANULE, &list, &reply);
                if (r != c->r)
                        fail_msg("%s: %i", c->what, r);
                if (r < 0)
                        assert_int_equal(reply.need, 4711);
                else if (reply.verdict != c->reply.verdict || reply.need != c->reply.need ||
                         reply.count != c->reply.count || reply.foreign != c->reply.foreign ||
                         reply.odd != c->reply.odd)
                        fail_msg("%s: verdict %i, need %zu, count %zu, foreign %zu, odd %zu",
                                 c->what, (int) reply.verdict, reply.need, reply.count,
                                 reply.foreign, reply.odd);
                assert_ranges(&list, c->ranges);
                guarded_free(base, size);
        }
}

/* The region of a driver that doesn't mind an end between two granules. */
static void test_unaligned_end(void **state) {
        static const Range expected[] = {{SIZE, 0x8000}, {}};
        struct {
                RetiredListHeader header;
                RetiredListEntry entries[3];
        } answer = {{sizeof(answer), 2}, {{SIZE + 0x4000, 4096}, {SIZE + 0x8000, 4096}}};
        _cleanup_ranges_ Ranges list = {};
        RetiredReply reply;

        assert_int_equal(retired_list_parse(&answer, sizeof(answer), SIZE + 0x8000, GRANULE, &list,
                                            &reply),
                         0);
        assert_int_equal(reply.foreign, 1);
        assert_int_equal(reply.odd, 0);
        assert_ranges(&list, expected);
}

static void test_adds_to_what_was_known(void **state) {
        static const Range expected[] = {{0, GRANULE}, {0x100000, GRANULE}, {}};
        struct {
                RetiredListHeader header;
                RetiredListEntry entries[2];
        } answer = {{sizeof(answer), 1}, {{0x100000, 4096}}};
        _cleanup_ranges_ Ranges list = {};
        RetiredReply reply;

        assert_int_equal(ranges_add(&list, 0, GRANULE), 0);
        assert_int_equal(retired_list_parse(&answer, sizeof(answer), SIZE, GRANULE, &list, &reply),
                         0);
        assert_ranges(&list, expected);
}

/* The longest list there can be, in the worst order, holding no two neighbours: must be quick,
 * and whole. */
static void test_longest(void **state) {
        size_t n = (RETIRED_LIST_SIZE_MAX - sizeof(RetiredListHeader)) / sizeof(RetiredListEntry);
        size_t size = retired_list_size(n);
        _cleanup_free_ char *buffer = malloc(size);
        RetiredListHeader *h = (void *) buffer;
        RetiredListEntry *e = (void *) (h + 1);
        _cleanup_ranges_ Ranges list = {};
        RetiredReply reply;

        assert_non_null(buffer);
        *h = (RetiredListHeader){(uint32_t) size, (uint32_t) n};
        for (size_t i = 0; i < n; i++)
                e[i] = (RetiredListEntry){(n - 1 - i) * 2 * GRANULE, 4096};
        assert_int_equal(
                        retired_list_parse(buffer, size, UINT64_C(1) << 40, GRANULE, &list, &reply),
                        0);
        assert_int_equal(reply.verdict, RETIRED_FULL);
        assert_int_equal(list.n, n);
        assert_int_equal(ranges_bytes(&list), n * GRANULE);
}

/* Whatever comes back, nothing outside the buffer is looked at (a guard page and ASan watch),
 * and what is called retired lies in the region, on granules, in order. */
static void test_garbage(void **state) {
        uint64_t x = UINT64_C(0x9e3779b97f4a7c15);

        for (unsigned round = 0; round < 20000; round++) {
                size_t n = round % 7, size = retired_list_size(n);
                _cleanup_ranges_ Ranges list = {};
                RetiredReply reply;
                char *base, *buffer = guarded_alloc(size, &base);
                RetiredListHeader h;
                uint64_t at = 0;
                int r;

                for (size_t i = 0; i < size; i += sizeof(x)) {
                        uint64_t v;

                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        v = x >> (x % 64);
                        memcpy(buffer + i, &v, sizeof(v));
                }
                memcpy(&h, buffer, sizeof(h));
                if (round % 2) /* near the truth */
                        h = (RetiredListHeader){(uint32_t) size, (uint32_t) (x % (n + 2))};
                memcpy(buffer, &h, sizeof(h));
                r = retired_list_parse(buffer, size, SIZE, GRANULE, &list, &reply);
                assert_true(r == 0 || r == -EBADMSG || r == -E2BIG);
                if (r == 0 && reply.verdict != RETIRED_GROWN)
                        assert_true(reply.count <= n);
                RANGES_FOREACH (i, &list) {
                        assert_true(i->size > 0 && i->offset >= at && i->offset <= SIZE &&
                                    i->size <= SIZE - i->offset);
                        assert_int_equal((i->offset | i->size) % GRANULE, 0);
                        at = i->offset + i->size + 1;
                }
                guarded_free(base, size);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_cases),
                        cmocka_unit_test(test_unaligned_end),
                        cmocka_unit_test(test_adds_to_what_was_known),
                        cmocka_unit_test(test_longest),
                        cmocka_unit_test(test_garbage),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
