/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fuzz-input.h"
#include "retired-list.h"

/* A driver's answer: the region's size and the granule, then the buffer. What the driver named stays away from everybody,
 * in whole granules inside of the region, and so does what was known before. */

static void check_list(const Ranges *l, uint64_t size, uint64_t granule) {
        uint64_t end = 0;

        for (size_t i = 0; i < l->n; i++) {
                const Range *g = l->items + i;

                FUZZ_CHECK(g->size > 0 && g->offset < size && g->size <= size - g->offset);
                FUZZ_CHECK(i == 0 || g->offset > end);
                FUZZ_CHECK(g->offset % granule == 0);
                end = g->offset + g->size;
                FUZZ_CHECK(end % granule == 0 || end == size);
        }
}

/* Each byte from offset on, for bytes bytes or to the region's end, is in one of the list's ranges. */
static bool list_covers(const Ranges *l, uint64_t size, uint64_t offset, uint64_t bytes) {
        for (size_t i = 0; i < l->n; i++) {
                const Range *g = l->items + i;

                if (offset >= g->offset && offset - g->offset < g->size)
                        return g->size - (offset - g->offset) >= MIN(bytes, size - offset);
        }
        return false;
}

static void check_entries(const void *entries, const RetiredReply *reply, const Ranges *l,
                          uint64_t size) {
        size_t foreign = 0;

        for (size_t i = 0; i < reply->count; i++) {
                RetiredListEntry e;

                memcpy(&e, (const char *) entries + i * sizeof(e), sizeof(e));
                foreign += e.offset >= size;
                if (e.offset < size)
                        FUZZ_CHECK(list_covers(l, size, e.offset, MAX(e.size, UINT64_C(1))));
        }
        FUZZ_CHECK(foreign == reply->foreign);
        FUZZ_CHECK(reply->odd <= reply->count - reply->foreign);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const uint64_t granules[] = {4 * KIB, 64 * KIB, 2 * MIB, 512 * MIB};
        _cleanup_ranges_ Ranges l = {};
        _cleanup_free_ void *buffer = NULL, *original = NULL;
        FuzzInput in = {data, size};
        uint64_t granule = granules[fuzz_take_byte(&in) % ELEMENTSOF(granules)];
        uint64_t region = align_down(fuzz_take_number(&in) >> 12, granule) + granule;
        size_t room, entries;
        RetiredReply reply;
        int r;

        if (in.left < sizeof(RetiredListHeader))
                return 0;
        entries = (in.left - sizeof(RetiredListHeader)) / sizeof(RetiredListEntry);
        room = retired_list_size(entries);
        buffer = malloc(room);
        original = malloc(room);
        FUZZ_CHECK(buffer && original);
        memcpy(buffer, in.at, room);
        memcpy(original, in.at, room);
        FUZZ_CHECK(ranges_add(&l, 0, granule) == 0);

        r = retired_list_parse(buffer, room, region, granule, &l, &reply);
        FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -E2BIG);
        check_list(&l, region, granule);
        FUZZ_CHECK(list_covers(&l, region, 0, granule));
        if (r < 0 || reply.verdict == RETIRED_GROWN) {
                FUZZ_CHECK(l.n == 1 && l.items[0].size == granule);
                FUZZ_CHECK(r < 0 || (reply.count == 0 && reply.need > room &&
                                     reply.need <= RETIRED_LIST_SIZE_MAX));
                return 0;
        }
        FUZZ_CHECK(reply.need == retired_list_size(reply.count) && reply.need <= room);
        FUZZ_CHECK((reply.verdict == RETIRED_FULL) <= (reply.count == entries));
        check_entries((char *) original + sizeof(RetiredListHeader), &reply, &l, region);
        return 0;
}
