/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "shown.h"

static int compare_ids(const void *pa, const void *pb) {
        const Lease *a = *(const Lease *const *) pa, *b = *(const Lease *const *) pb;

        return a->id < b->id ? -1 : a->id > b->id;
}

typedef struct LeaseArray {
        const Lease **items;
        size_t n;
        bool own;
} LeaseArray;

/* Anybody can bind what he has to anybody's process. */
static bool is_own(const LifelineName *p, const Holder *h) {
        const Lease *l = p->userdata;

        return !p->bound || l->owner_uid == h->uid || l->owner_uid == 0;
}

/* Those of that name. */
static int add(const Manager *m, const Region *r, const Holder *h, const LifelineName *key,
               LeaseArray *a) {
        const LifelineName *p = lifeline_names_first(&m->lifelines, key->bound, key->name);

        for (; p; p = lifeline_names_next(p)) {
                const Lease **t, *l = p->userdata;

                if (p->started != 0 && key->started != 0 && p->started != key->started)
                        continue;
                if (!lease_is_kept(l) || !lease_owns_in(l, r))
                        continue;
                t = reallocarray(a->items, a->n + 1, sizeof(*t));
                if (!t)
                        return -ENOMEM;
                a->items = t;
                t[a->n++] = l;
                a->own = a->own || is_own(p, h);
        }
        return 0;
}

int shown_by(const Manager *m, const Region *r, const Holder *h, const Lease ***ret,
             size_t *ret_n) {
        LifelineName key = {.bound = true, .name = (uint64_t) h->pid, .started = h->start_time};
        LeaseArray a = {};
        int k;

        assert(m);
        assert(r);
        assert(h);
        assert(ret);
        assert(ret_n);

        k = add(m, r, h, &key, &a);
        key = (LifelineName){};
        for (size_t i = 0; k >= 0 && i < h->n_pipes; i++) {
                key.name = h->pipes[i];
                k = add(m, r, h, &key, &a);
        }
        if (k < 0) {
                free(a.items);
                return k;
        }
        if (!a.own)
                a.n = 0;
        if (a.n > 1)
                qsort(a.items, a.n, sizeof(*a.items), compare_ids);
        *ret = a.items;
        *ret_n = a.n;
        return 0;
}
