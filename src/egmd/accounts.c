/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "accounts.h"
#include "log.h"
#include "manager.h"
#include "size.h"

/* Who waits for room on an account is served once whatever made the room is done with. */
static int on_room(sd_event_source *s, void *userdata) {
        manager_serve_waiters(userdata);
        return 0;
}

int accounts_new(Manager *m) {
        int r;

        r = quota_new(&m->config->quota, geteuid(), &m->quota);
        if (r < 0)
                return r;
        r = sd_event_add_defer(m->event, &m->room_source, on_room, m);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(m->room_source, SD_EVENT_OFF);
}

void accounts_free(Manager *m) {
        m->room_source = sd_event_source_disable_unref(m->room_source);
        m->quota = quota_free(m->quota);
}

/* Regions that are not open yet count, those that are never opened do not. */
static uint64_t host_bytes(const Manager *m) {
        uint64_t sum = 0;

        for (size_t i = 0; i < m->n_regions; i++) {
                const Region *r = m->regions[i];

                if (r->map)
                        sum += extent_map_size(r->map);
                else if (r->mode != REGION_MODE_OBSERVE && r->state != REGION_GONE)
                        sum += align_down(r->info->size, region_granule(r));
        }
        return sum;
}

Quota *accounts_quota(Manager *m) {
        const QuotaAmounts totals = {.of = {
                                                     [QUOTA_BYTES] = host_bytes(m),
                                                     [QUOTA_LEASES] = m->config->leases_max,
                                                     [QUOTA_WAITING] = m->config->waiting_max,
                                     }};

        quota_set_totals(m->quota, &totals);
        return m->quota;
}

/* ---- Requests ---- */

int accounts_open(Manager *m, AcquireRequest *q) {
        assert(!q->party);
        return quota_party_new(accounts_quota(m), q->uid, q->unit, q->unit_slice, &q->party);
}

QuotaAmounts accounts_request(const AcquireRequest *q) {
        return (QuotaAmounts){.of = {
                                              [QUOTA_BYTES] = acquire_request_bytes(q),
                                              [QUOTA_LEASES] = 1,
                                              [QUOTA_SLICES] = q->n_slices,
                              }};
}

void accounts_begin_turn(Manager *m) {
        quota_begin_turn(accounts_quota(m));
}

int accounts_check(const AcquireRequest *q, EgmError *reterr) {
        const QuotaAmounts want = accounts_request(q);

        return quota_check(q->party, &want, reterr);
}

int accounts_check_placed(const AcquireRequest *q, const Placed *placed, EgmError *reterr) {
        QuotaAmounts want = accounts_request(q);

        want.of[QUOTA_BYTES] = 0;
        for (size_t i = 0; i < q->n_slices; i++)
                want.of[QUOTA_BYTES] += placed[i].size;
        return quota_check(q->party, &want, reterr);
}

bool accounts_may_ever(const AcquireRequest *q) {
        const QuotaAmounts want = accounts_request(q);

        return quota_may_ever(q->party, &want);
}

static const QuotaAmounts one_waiting = {.of = {[QUOTA_WAITING] = 1}};
static const QuotaAmounts one_call = {.of = {[QUOTA_CALLS] = 1}};
static const QuotaAmounts one_lease = {.of = {[QUOTA_LEASES] = 1}};

int accounts_begin_wait(const AcquireRequest *q, EgmError *reterr) {
        int r;

        r = quota_check(q->party, &one_waiting, reterr);
        if (r >= 0)
                quota_charge(q->party, &one_waiting);
        return r;
}

void accounts_end_wait(const AcquireRequest *q) {
        quota_return(q->party, &one_waiting);
}

int accounts_begin_call(Manager *m, QuotaParty *p, EgmError *reterr) {
        int r;

        (void) accounts_quota(m);
        r = quota_check(p, &one_call, reterr);
        if (r >= 0)
                quota_charge(p, &one_call);
        return r;
}

void accounts_end_call(QuotaParty *p) {
        quota_return(p, &one_call);
}

/* ---- Leases ---- */

static QuotaAmounts amounts_of(const Slice *s) {
        return (QuotaAmounts){.of = {[QUOTA_BYTES] = s->size, [QUOTA_SLICES] = 1}};
}

void accounts_add_lease(Lease *l) {
        assert(!l->counted);

        l->counted = true;
        quota_charge(l->party, &one_lease);
        for (size_t i = 0; i < l->n_slices; i++) {
                Slice *s = l->slices + i;
                const QuotaAmounts a = amounts_of(s);

                if (s->phase == SLICE_DONE || s->phase == SLICE_LOST)
                        continue;
                quota_charge(l->party, &a);
                s->counted = true;
        }
}

static void made_room(Manager *m) {
        int r;

        if (m->stopping || !manager_has_waiters(m))
                return;
        r = sd_event_source_set_enabled(m->room_source, SD_EVENT_ONESHOT);
        if (r < 0)
                (void) log_error_errno(r, "Failed to serve who waits for room in a quota: %m");
}

void accounts_slice_over(Slice *s) {
        const QuotaAmounts a = amounts_of(s);

        if (!s->counted)
                return;
        quota_return(s->lease->party, &a);
        s->counted = false;
        made_room(s->lease->manager);
}

void accounts_lease_over(Lease *l) {
        if (!l->counted)
                return;
        for (size_t i = 0; i < l->n_slices; i++)
                accounts_slice_over(l->slices + i);
        quota_return(l->party, &one_lease);
        l->counted = false;
        made_room(l->manager);
}
