/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "drain-claims.h"

/* Alive, with some of the region. */
static bool counts(const Lease *l, const Region *r) {
        if (!lease_is_kept(l))
                return false;
        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].region == r && l->slices[i].phase == SLICE_LEASED)
                        return true;
        return false;
}

/* By that name. */
static bool has_lease(const Manager *m, const Region *r, bool bound, uint64_t name,
                      uint64_t started) {
        const LifelineName *n = lifeline_names_first(&m->lifelines, bound, name);

        for (; n; n = lifeline_names_next(n))
                if (n->started == started && counts(n->userdata, r))
                        return true;
        return false;
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

bool claims_allow(const Manager *m, const Region *r, const Holder *h) {
        assert(m);
        assert(r);
        assert(h);

        if (has_lease(m, r, true, (uint64_t) h->pid, h->start_time))
                return true;
        for (size_t i = 0; i < h->n_pipes; i++)
                if (has_lease(m, r, false, h->pipes[i], 0))
                        return true;
        return keeps_to_leases(r, h);
}
