/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "drain-claims.h"
#include "lifeline.h"

typedef struct Claim {
        uintptr_t region;
        bool bound;       /* a process; otherwise a lifetime descriptor */
        uint64_t name;    /* its pid, or the pipe's inode */
        uint64_t started; /* the process */
} Claim;

struct Claims {
        Claim *items; /* sorted */
        size_t n;
};

#define COMPARE(a, b) \
        if ((a) != (b)) \
        return (a) < (b) ? -1 : 1

static int claim_compare(const void *pa, const void *pb) {
        const Claim *a = pa, *b = pb;

        COMPARE(a->region, b->region);
        COMPARE(a->bound, b->bound);
        COMPARE(a->name, b->name);
        COMPARE(a->started, b->started);
        return 0;
}

Claims *claims_free(Claims *c) {
        if (!c)
                return NULL;
        free(c->items);
        return mfree(c);
}

/* Worth a look: alive, and its region has something that drains. */
static bool counts(const Lease *l, const Slice *s) {
        const Region *r = s->region;

        return r && s->phase == SLICE_LEASED && lease_is_kept(l) && !TAILQ_EMPTY(&r->draining);
}

static void add_claims(Claims *c, const Lease *l, const Slice *s) {
        const Claim base = {.region = (uintptr_t) s->region};
        Claim *t;

        t = c->items + c->n++;
        *t = base;
        t->name = lifeline_inode(l->lifeline);
        for (unsigned i = 0; i < lifeline_bound(l->lifeline); i++) {
                t = c->items + c->n++;
                *t = base;
                t->bound = true;
                t->name = (uint64_t) lifeline_pid(l->lifeline, i);
                t->started = lifeline_start_time(l->lifeline, i);
        }
}

int claims_new(const Manager *m, Claims **ret) {
        _cleanup_(claims_freep) Claims *c = NULL;
        size_t room = 0;
        Lease *l;

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases)
                for (size_t i = 0; i < l->n_slices; i++)
                        if (counts(l, l->slices + i))
                                room += 1 + lifeline_bound(l->lifeline);
        c->items = calloc(room + 1, sizeof(*c->items));
        if (!c->items)
                return -ENOMEM;
        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases)
                for (size_t i = 0; i < l->n_slices; i++)
                        if (counts(l, l->slices + i))
                                add_claims(c, l, l->slices + i);
        qsort(c->items, c->n, sizeof(*c->items), claim_compare);
        *ret = TAKE_PTR(c);
        return 0;
}

static bool has_claim(const Claims *c, const Claim *key) {
        return bsearch(key, c->items, c->n, sizeof(*key), claim_compare);
}

/* It maps something of a lease, and nothing that is none's. */
static bool keeps_to_leases(const Region *r, const Holder *h) {
        bool any = false;

        RANGES_FOREACH (i, &h->mapped) {
                uint64_t end = i->offset + i->size, at = i->offset;
                Extent e;

                while (at < end) {
                        if (!extent_map_get(r->map, at, &e))
                                return false;
                        if (e.state == EXTENT_LEASED)
                                any = true;
                        else if (e.state != EXTENT_DRAINING &&
                                 !(e.state == EXTENT_RETIRED && e.owner != 0))
                                return false;
                        at = e.offset + e.size;
                }
        }
        return any;
}

bool claims_allow(const Claims *c, const Region *r, const Holder *h) {
        Claim key = {
                        .region = (uintptr_t) r,
                        .bound = true,
                        .name = (uint64_t) h->pid,
                        .started = h->start_time,
        };

        if (has_claim(c, &key))
                return true;
        key.bound = false;
        key.started = 0;
        for (size_t i = 0; i < h->n_pipes; i++) {
                key.name = h->pipes[i];
                if (has_claim(c, &key))
                        return true;
        }
        return keeps_to_leases(r, h);
}
