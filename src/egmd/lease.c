/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "lease.h"
#include "string-table.h"

static const char *const lease_state_table[_LEASE_STATE_MAX] = {
                [LEASE_ACTIVE] = "active",
                [LEASE_DRAINING] = "draining",
                [LEASE_SCRUBBING] = "scrubbing",
                [LEASE_LOST] = "lost",
};
DEFINE_STRING_TABLE(lease_state, LeaseState)

static const char *const lease_lifetime_table[_LEASE_LIFETIME_MAX] = {
                [LEASE_LIFETIME_DESCRIPTOR] = "descriptor",
                [LEASE_LIFETIME_PERSISTENT] = "persistent",
};
DEFINE_STRING_TABLE(lease_lifetime, LeaseLifetime)

static int lease_compare(const Lease *a, const Lease *b) {
        return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(LeaseTree, Lease, by_id, lease_compare)

int lease_new(uint64_t id, size_t n_slices, Lease **ret) {
        _cleanup_(lease_freep) Lease *l = NULL;

        assert(id > 0);
        assert(n_slices > 0);
        assert(ret);

        l = malloc(sizeof(*l));
        if (!l)
                return -ENOMEM;
        *l = (Lease){.id = id};
        l->slices = calloc(n_slices, sizeof(*l->slices));
        if (!l->slices)
                return -ENOMEM;
        l->n_slices = n_slices;
        for (size_t i = 0; i < n_slices; i++)
                l->slices[i].lease = l;
        *ret = TAKE_PTR(l);
        return 0;
}

int lease_set_slice(Lease *l, size_t i, const char *region_name, void *region, uint64_t offset,
                    uint64_t size) {
        Slice *s;

        assert(l);
        assert(i < l->n_slices);

        s = l->slices + i;
        s->region_name = strdup(region_name);
        if (!s->region_name)
                return -ENOMEM;
        s->region = region;
        s->offset = offset;
        s->size = size;
        return 0;
}

Lease *lease_free(Lease *l) {
        if (!l)
                return NULL;
        assert(!l->lifeline);

        for (size_t i = 0; i < l->n_slices; i++) {
                free(l->slices[i].region_name);
                ranges_done(&l->slices[i].unclean);
        }
        free(l->slices);
        free(l->dmabufs);
        assert(!l->counted);
        quota_party_unref(l->party);
        lease_clear_blockers(l);
        free(l->label);
        free(l->holder_unit);
        return mfree(l);
}

bool lease_is_kept(const Lease *l) {
        assert(l);

        if (l->released)
                return false;
        return l->lifetime == LEASE_LIFETIME_PERSISTENT || l->lifetime_open || l->n_bound > 0;
}

LeaseState lease_state(const Lease *l) {
        bool draining = false, lost = false, leased = false;

        assert(l);

        for (size_t i = 0; i < l->n_slices; i++) {
                leased = leased || l->slices[i].phase == SLICE_LEASED;
                draining = draining || l->slices[i].phase == SLICE_DRAINING;
                lost = lost || l->slices[i].phase == SLICE_LOST;
        }
        /* A lost slice is what its holder must hear first, whatever the others do. */
        if (lost)
                return LEASE_LOST;
        if (leased)
                return LEASE_ACTIVE;
        return draining ? LEASE_DRAINING : LEASE_SCRUBBING;
}

bool lease_is_over(const Lease *l) {
        assert(l);

        if (lease_is_kept(l))
                return false;
        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].phase != SLICE_DONE &&
                    (l->slices[i].phase != SLICE_LOST || l->n_dmabufs > 0))
                        return false;
        return true;
}

bool lease_haunts(const Lease *l, const char *region_name) {
        assert(l);
        assert(region_name);

        if (l->n_dmabufs == 0)
                return false;
        for (size_t i = 0; i < l->n_slices; i++) {
                const Slice *s = l->slices + i;

                /* In between restarts it may be about to be lost. */
                if (!s->region && streq(s->region_name, region_name) && s->phase != SLICE_DONE &&
                    s->phase != SLICE_SCRUBBING)
                        return true;
        }
        return false;
}

bool lease_drains(const Lease *l) {
        assert(l);

        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].phase == SLICE_DRAINING)
                        return true;
        return false;
}

bool lease_owns_in(const Lease *l, const void *region) {
        assert(l);

        for (size_t i = 0; i < l->n_slices; i++) {
                const Slice *s = l->slices + i;

                if ((!region || s->region == region) &&
                    (s->phase == SLICE_LEASED || s->phase == SLICE_DRAINING))
                        return true;
        }
        return false;
}

void lease_clear_blockers(Lease *l) {
        assert(l);

        for (size_t i = 0; i < l->n_blockers; i++) {
                free(l->blockers[i].comm);
                free(l->blockers[i].unit);
        }
        l->blockers = mfree(l->blockers);
        l->n_blockers = 0;
}

int lease_add_blocker(Lease *l, pid_t pid, uint64_t start_time, const char *comm,
                      const char *unit) {
        _cleanup_free_ char *c = NULL, *u = NULL;
        Blocker *t;

        assert(l);

        for (size_t i = 0; i < l->n_blockers; i++)
                if (l->blockers[i].pid == pid && l->blockers[i].start_time == start_time)
                        return 0;
        c = strdup(comm ?: "");
        u = strdup(unit ?: "");
        t = realloc(l->blockers, (l->n_blockers + 1) * sizeof(*t));
        if (t)
                l->blockers = t;
        if (!c || !u || !t)
                return -ENOMEM;
        t[l->n_blockers++] = (Blocker){
                        .pid = pid,
                        .start_time = start_time,
                        .comm = TAKE_PTR(c),
                        .unit = TAKE_PTR(u),
        };
        return 1;
}
