/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "lifeline.h"
#include "shown.h"

typedef struct Proof {
        bool bound;       /* a process; otherwise a lifetime descriptor */
        uint64_t name;    /* its pid, or the pipe's inode */
        uint64_t started; /* the process; 0: not known */
        const Lease *lease;
} Proof;

struct Shown {
        Proof *items; /* sorted by the first two */
        size_t n;
};

static int proof_compare(const void *pa, const void *pb) {
        const Proof *a = pa, *b = pb;

        if (a->bound != b->bound)
                return a->bound < b->bound ? -1 : 1;
        if (a->name != b->name)
                return a->name < b->name ? -1 : 1;
        return 0;
}

Shown *shown_free(Shown *s) {
        if (!s)
                return NULL;
        free(s->items);
        return mfree(s);
}

int shown_new(const Manager *m, Shown **ret) {
        _cleanup_(shown_freep) Shown *s = NULL;
        size_t room = 0;
        Lease *l;

        assert(m);
        assert(ret);

        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases)
                room += 1 + lifeline_bound(l->lifeline);
        s->items = calloc(room + 1, sizeof(*s->items));
        if (!s->items)
                return -ENOMEM;
        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases) {
                if (!l->lifeline || !lease_is_kept(l))
                        continue;
                s->items[s->n++] = (Proof){.name = lifeline_inode(l->lifeline), .lease = l};
                for (unsigned i = 0; i < lifeline_bound(l->lifeline); i++)
                        s->items[s->n++] = (Proof){
                                        .bound = true,
                                        .name = (uint64_t) lifeline_pid(l->lifeline, i),
                                        .started = lifeline_start_time(l->lifeline, i),
                                        .lease = l,
                        };
        }
        qsort(s->items, s->n, sizeof(*s->items), proof_compare);
        *ret = TAKE_PTR(s);
        return 0;
}

static int compare_ids(const void *pa, const void *pb) {
        const Lease *a = *(const Lease *const *) pa, *b = *(const Lease *const *) pb;

        return a->id < b->id ? -1 : a->id > b->id;
}

/* The first with that name; NULL: there is none. */
static const Proof *find(const Shown *s, const Proof *key) {
        size_t low = 0, high = s->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (proof_compare(s->items + middle, key) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < s->n && proof_compare(s->items + low, key) == 0 ? s->items + low : NULL;
}

/* Anybody can bind what he has to anybody's process. */
static bool is_own(const Proof *p, const Holder *h) {
        return !p->bound || p->lease->owner_uid == h->uid || p->lease->owner_uid == 0;
}

static int add(const Shown *s, const Region *r, const Holder *h, const Proof *key,
               const Lease ***leases, size_t *n, bool *own) {
        const Proof *p = find(s, key);

        for (; p && p < s->items + s->n && proof_compare(p, key) == 0; p++) {
                const Lease **t;

                if (p->started != 0 && key->started != 0 && p->started != key->started)
                        continue;
                if (!lease_owns_in(p->lease, r))
                        continue;
                t = reallocarray(*leases, *n + 1, sizeof(*t));
                if (!t)
                        return -ENOMEM;
                *leases = t;
                t[(*n)++] = p->lease;
                *own = *own || is_own(p, h);
        }
        return 0;
}

int shown_by(const Shown *s, const Region *r, const Holder *h, const Lease ***ret, size_t *ret_n) {
        _cleanup_free_ const Lease **leases = NULL;
        Proof key = {.bound = true, .name = (uint64_t) h->pid, .started = h->start_time};
        bool own = false;
        size_t n = 0;
        int k;

        assert(s);
        assert(r);
        assert(h);
        assert(ret);
        assert(ret_n);

        k = add(s, r, h, &key, &leases, &n, &own);
        key = (Proof){};
        for (size_t i = 0; k >= 0 && i < h->n_pipes; i++) {
                key.name = h->pipes[i];
                k = add(s, r, h, &key, &leases, &n, &own);
        }
        if (k < 0)
                return k;
        if (!own)
                n = 0;
        if (n > 1)
                qsort(leases, n, sizeof(*leases), compare_ids);
        *ret = TAKE_PTR(leases);
        *ret_n = n;
        return 0;
}
