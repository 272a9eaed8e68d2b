/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "ranges.h"

static uint64_t range_end(const Range *r) {
        return r->offset + r->size;
}

void ranges_done(Ranges *l) {
        assert(l);
        free(l->items);
        *l = (Ranges){};
}

/* The first range that ends behind offset, or l->n. */
static size_t ranges_find(const Ranges *l, uint64_t offset) {
        size_t low = 0, high = l->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (range_end(l->items + middle) > offset)
                        high = middle;
                else
                        low = middle + 1;
        }
        return low;
}

static int ranges_reserve(Ranges *l, size_t n) {
        size_t allocated;
        Range *items;

        if (n <= l->allocated)
                return 0;
        allocated = MAX(n, 2 * l->allocated + 4);
        items = reallocarray(l->items, allocated, sizeof(*items));
        if (!items)
                return -ENOMEM;
        l->items = items;
        l->allocated = allocated;
        return 0;
}

int ranges_add(Ranges *l, uint64_t offset, uint64_t size) {
        size_t first, last;
        uint64_t end;
        int r;

        assert(l);

        if (__builtin_add_overflow(offset, size, &end))
                return -EOVERFLOW;
        if (size == 0)
                return 0;
        r = ranges_reserve(l, l->n + 1);
        if (r < 0)
                return r;

        /* [first, last) overlap or touch what is added: they become one. */
        first = ranges_find(l, offset);
        if (first > 0 && range_end(l->items + first - 1) == offset)
                first--;
        for (last = first; last < l->n && l->items[last].offset <= end; last++)
                ;
        if (first < last) {
                offset = MIN(offset, l->items[first].offset);
                end = MAX(end, range_end(l->items + last - 1));
        }
        memmove(l->items + first + 1, l->items + last, (l->n - last) * sizeof(*l->items));
        l->n = l->n + 1 - (last - first);
        l->items[first] = (Range){.offset = offset, .size = end - offset};
        return 0;
}

int ranges_remove(Ranges *l, uint64_t offset, uint64_t size) {
        size_t first, last;
        uint64_t end;
        Range *item;
        int r;

        assert(l);

        if (__builtin_add_overflow(offset, size, &end))
                end = UINT64_MAX;
        if (size == 0 || l->n == 0)
                return 0;
        first = ranges_find(l, offset);
        if (first < l->n && l->items[first].offset < offset && range_end(l->items + first) > end) {
                r = ranges_reserve(l, l->n + 1);
                if (r < 0)
                        return r;
                item = l->items + first;
                memmove(item + 1, item, (l->n - first) * sizeof(*item));
                l->n++;
                item[1] = (Range){.offset = end, .size = range_end(item) - end};
                item->size = offset - item->offset;
                return 0;
        }
        if (first < l->n && l->items[first].offset < offset) {
                l->items[first].size = offset - l->items[first].offset;
                first++;
        }
        for (last = first; last < l->n && range_end(l->items + last) <= end; last++)
                ;
        if (last < l->n && l->items[last].offset < end) {
                l->items[last].size = range_end(l->items + last) - end;
                l->items[last].offset = end;
        }
        memmove(l->items + first, l->items + last, (l->n - last) * sizeof(*l->items));
        l->n -= last - first;
        return 0;
}

void ranges_cut(Ranges *l, uint64_t offset, uint64_t size) {
        if (ranges_remove(l, offset, size) >= 0)
                return;
        /* One and no other is to be split. */
        l->items[ranges_find(l, offset)].size = offset - l->items[ranges_find(l, offset)].offset;
}

int ranges_copy(const Ranges *l, Ranges *ret) {
        _cleanup_ranges_ Ranges copy = {};
        int r;

        assert(l);
        assert(ret);

        r = ranges_reserve(&copy, l->n);
        if (r < 0)
                return r;
        if (l->n > 0)
                memcpy(copy.items, l->items, l->n * sizeof(*l->items));
        copy.n = l->n;
        *ret = TAKE_GENERIC(copy, Ranges, (Ranges){});
        return 0;
}

int ranges_clip(const Ranges *l, uint64_t offset, uint64_t size, Ranges *ret) {
        _cleanup_ranges_ Ranges part = {};
        uint64_t end;
        int r;

        assert(l);
        assert(ret);

        if (__builtin_add_overflow(offset, size, &end))
                end = UINT64_MAX;
        for (size_t i = ranges_find(l, offset); i < l->n && l->items[i].offset < end; i++) {
                uint64_t from = MAX(l->items[i].offset, offset);

                r = ranges_add(&part, from, MIN(range_end(l->items + i), end) - from);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_GENERIC(part, Ranges, (Ranges){});
        return 0;
}

bool ranges_overlap(const Ranges *l, uint64_t offset, uint64_t size) {
        size_t i;

        assert(l);

        if (size == 0)
                return false;
        i = ranges_find(l, offset);
        return i < l->n && (l->items[i].offset <= offset || l->items[i].offset - offset < size);
}

bool ranges_equal(const Ranges *a, const Ranges *b) {
        assert(a);
        assert(b);

        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (a->items[i].offset != b->items[i].offset ||
                    a->items[i].size != b->items[i].size)
                        return false;
        return true;
}

uint64_t ranges_bytes(const Ranges *l) {
        uint64_t sum = 0;

        assert(l);

        RANGES_FOREACH (i, l)
                sum += i->size;
        return sum;
}
