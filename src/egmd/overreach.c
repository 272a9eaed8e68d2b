/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "overreach.h"
#include "string-table.h"

static const char *const overreach_kind_table[_OVERREACH_KIND_MAX] = {
                [OVERREACH_UNLENT] = "unlent",
                [OVERREACH_FOREIGN] = "foreign",
                [OVERREACH_UNPROVEN] = "unproven",
                [OVERREACH_PRIVATE] = "private",
};
DEFINE_STRING_TABLE(overreach_kind, OverreachKind)

bool overreach_is_proven(OverreachKind k) {
        return k == OVERREACH_UNLENT || k == OVERREACH_FOREIGN;
}

void overreach_done(Overreach *o) {
        assert(o);

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++)
                ranges_done(o->bytes + k);
}

static int compare_ids(const void *pa, const void *pb) {
        const Lease *a = *(const Lease *const *) pa, *b = *(const Lease *const *) pb;

        return a->id < b->id ? -1 : a->id > b->id;
}

/* A lease that is mapped by who shows others. _INVALID: nothing is wrong with that. */
static OverreachKind judge_lease(const Lease *l, const Lease *const *shown, size_t n_shown) {
        bool owners_differ = true;

        /* Of these nobody need have anything to show. */
        if (!l || n_shown == 0 || !lease_is_kept(l) || l->unclaimed ||
            l->lifetime == LEASE_LIFETIME_PERSISTENT ||
            bsearch(&l, shown, n_shown, sizeof(*shown), compare_ids))
                return _OVERREACH_KIND_INVALID;
        /* Root lends to others, and serves them. */
        for (size_t i = 0; i < n_shown && owners_differ; i++)
                owners_differ = shown[i]->owner_uid != l->owner_uid && shown[i]->owner_uid != 0;
        return owners_differ && l->owner_uid != 0 ? OVERREACH_FOREIGN : OVERREACH_UNPROVEN;
}

static OverreachKind judge_extent(const Extent *e, const Lease *const *shown, size_t n_shown,
                                  overreach_find_t find, void *userdata) {
        switch (e->state) {
        case EXTENT_DIRTY:
        case EXTENT_SCRUBBING:
        case EXTENT_FREE:
                return OVERREACH_UNLENT;
        case EXTENT_RETIRED:
                if (e->owner == 0)
                        return OVERREACH_UNLENT;
                /* fall through */
        case EXTENT_LEASED:
                return n_shown == 0 ? _OVERREACH_KIND_INVALID
                                    : judge_lease(find(e->owner, userdata), shown, n_shown);
        default:
                return _OVERREACH_KIND_INVALID;
        }
}

int overreach_judge(const ExtentMap *map, const Ranges *mapped, const Lease *const *shown,
                    size_t n_shown, overreach_find_t find, void *userdata, Overreach *ret) {
        _cleanup_overreach_ Overreach o = {};
        Extent e;
        int r;

        assert(map);
        assert(mapped);
        assert(shown || n_shown == 0);
        assert(find);
        assert(ret);

        RANGES_FOREACH (i, mapped) {
                uint64_t end = i->offset + i->size, at = i->offset;

                while (at < end && extent_map_get(map, at, &e)) {
                        uint64_t stop = MIN(end, e.offset + e.size);
                        OverreachKind k = judge_extent(&e, shown, n_shown, find, userdata);

                        if (k >= 0) {
                                r = ranges_add(o.bytes + k, at, stop - at);
                                if (r < 0)
                                        return r;
                        }
                        at = stop;
                }
        }
        *ret = TAKE_GENERIC(o, Overreach, (Overreach){});
        return 0;
}

bool overreach_is_empty(const Overreach *o) {
        assert(o);

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++)
                if (o->bytes[k].n > 0)
                        return false;
        return true;
}

int overreach_add(Overreach *o, const Overreach *other) {
        int r;

        assert(o);
        assert(other);

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++)
                RANGES_FOREACH (i, other->bytes + k) {
                        r = ranges_add(o->bytes + k, i->offset, i->size);
                        if (r < 0)
                                return r;
                }
        return 0;
}

int overreach_subtract(Overreach *o, const Overreach *other) {
        int r;

        assert(o);
        assert(other);

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++)
                RANGES_FOREACH (i, other->bytes + k) {
                        r = ranges_remove(o->bytes + k, i->offset, i->size);
                        if (r < 0)
                                return r;
                }
        return 0;
}

static int intersect(const Ranges *a, const Ranges *b, Ranges *ret) {
        _cleanup_ranges_ Ranges both = {};
        int r;

        RANGES_FOREACH (i, b) {
                _cleanup_ranges_ Ranges part = {};

                r = ranges_clip(a, i->offset, i->size, &part);
                if (r < 0)
                        return r;
                RANGES_FOREACH (j, &part) {
                        r = ranges_add(&both, j->offset, j->size);
                        if (r < 0)
                                return r;
                }
        }
        *ret = TAKE_GENERIC(both, Ranges, (Ranges){});
        return 0;
}

int overreach_intersect(Overreach *o, const Overreach *other) {
        int r = 0;

        assert(o);
        assert(other);

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++) {
                Ranges both = {};

                if (r >= 0)
                        r = intersect(o->bytes + k, other->bytes + k, &both);
                ranges_done(o->bytes + k);
                o->bytes[k] = both;
        }
        return r;
}

void overreach_forget(Overreach *o, uint64_t offset, uint64_t size) {
        assert(o);

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++)
                if (ranges_remove(o->bytes + k, offset, size) < 0) {
                        overreach_done(o);
                        return;
                }
}
