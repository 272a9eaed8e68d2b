/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "retired-list.h"

static int entry_compare(const void *a, const void *b) {
        const RetiredListEntry *x = a, *y = b;

        return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Judges the header alone. */
static int header_parse(const RetiredListHeader *h, size_t room, RetiredReply *ret) {
        size_t used;

        if (h->argsz > room) {
                if (h->argsz > RETIRED_LIST_SIZE_MAX)
                        return -E2BIG;
                if ((h->argsz - sizeof(*h)) % sizeof(RetiredListEntry) != 0)
                        return -EBADMSG;
                *ret = (RetiredReply){.verdict = RETIRED_GROWN, .need = h->argsz};
                return 0;
        }

        used = retired_list_size(h->count);
        if (used > h->argsz)
                return -EBADMSG;
        *ret = (RetiredReply){.need = used, .count = h->count};
        if (h->argsz < room) {
                /* Then it counts what was written, and must agree with the other count. */
                if (used != h->argsz)
                        return -EBADMSG;
                ret->verdict = RETIRED_SHRUNK;
        } else
                ret->verdict = h->count > 0 && used == room ? RETIRED_FULL : RETIRED_COMPLETE;
        return 0;
}

static int entry_add(const RetiredListEntry *e, uint64_t size, uint64_t granule, Ranges *list,
                     RetiredReply *reply) {
        uint64_t start, end;

        /* Firmware's list is not cut to the region in all drivers, and what lies before it looks
         * like a huge offset. */
        if (e->offset >= size) {
                reply->foreign++;
                return 0;
        }
        start = align_down(e->offset, granule);
        if (__builtin_add_overflow(e->offset, MAX(e->size, UINT64_C(1)), &end) ||
            !align_up_checked(end, granule, &end))
                end = UINT64_MAX;
        if (e->size == 0 || (end > size && end - size >= granule))
                reply->odd++;
        return ranges_add(list, start, MIN(end, size) - start);
}

int retired_list_parse(void *buffer, size_t room, uint64_t size, uint64_t granule, Ranges *list,
                       RetiredReply *ret) {
        RetiredListHeader header;
        RetiredListEntry *entries;
        RetiredReply reply;
        int r;

        assert(buffer);
        assert((uintptr_t) buffer % _Alignof(RetiredListEntry) == 0);
        assert(room >= sizeof(header));
        assert((room - sizeof(header)) % sizeof(*entries) == 0);
        assert(is_pow2(granule));
        assert(list);
        assert(ret);

        memcpy(&header, buffer, sizeof(header));
        r = header_parse(&header, room, &reply);
        if (r < 0)
                return r;
        /* In order, so that adding is cheap: drivers give them in the order of their hash table. */
        entries = (void *) ((char *) buffer + sizeof(header));
        qsort(entries, reply.count, sizeof(*entries), entry_compare);
        for (size_t i = 0; i < reply.count; i++) {
                r = entry_add(entries + i, size, granule, list, &reply);
                if (r < 0)
                        return r;
        }
        *ret = reply;
        return 0;
}
