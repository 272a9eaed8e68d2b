/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "accounts.h"
#include "acquire-internal.h"
#include "confine.h"
#include "dmabuf.h"
#include "drain.h"
#include "fd-util.h"
#include "lease-users.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"
#include "pidfd.h"
#include "records.h"
#include "region-delegate.h"
#include "region-scrub.h"

void acquire_request_done(AcquireRequest *q) {
        assert(q);

        for (size_t i = 0; i < q->n_slices; i++) {
                free((char *) q->slices[i].region);
                free((char *) q->slices[i].gpu);
        }
        q->slices = mfree(q->slices);
        q->n_slices = 0;
        q->label = mfree(q->label);
        q->unit = mfree(q->unit);
        q->unit_slice = mfree(q->unit_slice);
        q->party = quota_party_unref(q->party);
        q->holder = safe_close(q->holder);
}

uint64_t acquire_request_bytes(const AcquireRequest *q) {
        uint64_t sum = q->whole_bytes;

        for (size_t i = 0; i < q->n_slices; i++)
                if (__builtin_add_overflow(sum, q->slices[i].size, &sum))
                        return UINT64_MAX;
        return sum;
}

size_t acquire_describe_regions(Manager *m, PlacementRegion *ret) {
        for (size_t i = 0; i < m->n_regions; i++)
                region_placement(m->regions[i], ret + i);
        return m->n_regions;
}

static void cancel_slices(Manager *m, uint64_t id, const Placed *placed, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) extent_map_cancel(m->regions[placed[i].region]->map, placed[i].offset,
                                         placed[i].size, id);
}

static int clean_retired(Manager *m, const AcquireRequest *q, const Placed *placed,
                         EgmError *reterr) {
        for (size_t i = 0; i < q->n_slices; i++) {
                Region *region = m->regions[placed[i].region];
                int r;

                if (!q->slices[i].include_retired)
                        continue;
                if (region_scrub_touches(region, placed[i].offset, placed[i].size))
                        return egm_error_set(
                                        reterr, EGM_ERROR_REGION_NOT_READY,
                                        "%s: a retired page that was chosen is still part of a "
                                        "scrub",
                                        region->name);
                r = region_scrub_retired(region, placed[i].offset, placed[i].size);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int make_lease(Manager *m, const AcquireRequest *q, uint64_t id, const Placed *placed,
                      Lease **ret, int *ret_fd, bool *ret_recorded, EgmError *reterr) {
        _cleanup_(lease_freep) Lease *l = NULL;
        int r;

        r = lease_new(id, q->n_slices, &l);
        if (r < 0)
                return r;
        for (size_t i = 0; i < q->n_slices; i++) {
                Region *region = m->regions[placed[i].region];

                r = lease_set_slice(l, i, region->name, region, placed[i].offset, placed[i].size);
                if (r < 0)
                        return r;
        }
        l->label = strdup(q->label ?: "");
        l->holder_unit = strdup(q->unit ?: "");
        if (!l->label || !l->holder_unit)
                return -ENOMEM;
        l->lifetime = q->lifetime;
        l->owner_uid = q->uid;
        l->owner_pid = q->pid;
        l->created_usec = manager_now_usec(m);
        l->delegated = q->delegate;
        l->delegate_uid = q->delegate_uid;
        l->dmabuf = q->dmabuf;
        l->party = quota_party_ref(q->party);
        r = manager_lifeline_new(m, l, ret_fd);
        if (r < 0)
                return r;
        r = confine_lease(m, l);
        if (r >= 0 && q->holder >= 0) {
                r = lifeline_bind(l->lifeline, q->holder, NULL);
                l->n_bound = lifeline_bound(l->lifeline);
        }
        /* From here on it outlives us; if nobody ever hears of it, its lifetime has ended by then. */
        if (r >= 0)
                r = record_lease(m, l);
        *ret_recorded = r >= 0;
        /* Last: what follows could not take it back from whom the holder has forked since. */
        if (r >= 0 && q->holder >= 0)
                r = confine_admit(m, l, q->holder, reterr);
        if (r < 0) {
                /* Somebody may bear its number all the same, so no other lease may have it. */
                if (l->gated)
                        m->next_lease_id++;
                confine_revoke(m, l);
                *ret_fd = safe_close(*ret_fd);
                l->lifeline = lifeline_free(l->lifeline);
                return r;
        }
        *ret = TAKE_PTR(l);
        return 0;
}

/* A record that cannot be removed is believed after a restart, and a holder that runs keeps the lease it tells of. So
 * nobody else may have its bytes until then. */
static void take_back(Manager *m, const AcquireRequest *q, uint64_t id, const Placed *placed,
                      bool recorded) {
        if (forget_lease(m, id) >= 0 || !recorded) {
                cancel_slices(m, id, placed, q->n_slices);
                return;
        }
        m->next_lease_id = MAX(m->next_lease_id, id + 1);
        log_error("Lease %" PRIu64 ", which was not granted, keeps its memory until egmd is "
                  "restarted",
                  id);
}

static int hand_over(const AcquireRequest *q, const Lease *l, EgmError *reterr) {
        int r;

        if (!q->delegate)
                return 0;
        if (((const Region *) l->slices[0].region)->manager->config->require_enforcement)
                return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED,
                                     "What is handed over by path cannot be enforced, which "
                                     "RequireEnforcement= asks for");
        r = region_delegate(l->slices[0].region, q->delegate_uid);
        if (r == -EOPNOTSUPP)
                return egm_error_set(reterr, EGM_ERROR_NOT_PARTITIONABLE,
                                     "%s is simulated: it has no node that could be handed over",
                                     l->slices[0].region_name);
        return r;
}

/* Handed over, the region has no gate: whoever has it open from before could map what its user writes. */
static int check_path(Manager *m, const AcquireRequest *q, const Placed *placed, EgmError *reterr) {
        const Region *r = m->regions[placed[0].region];

        if (!q->delegate)
                return 0;
        /* All of it may have turned out bad, and be free of scrubs by the books, before the last one knows. */
        if (r->scrubs)
                return egm_error_set(reterr, EGM_ERROR_REGION_NOT_READY,
                                     "%s: the last of its scrubs is about to end", r->name);
        if (!r->lingered)
                return 0;
        drain_look(m->drain);
        return egm_error_set(
                        reterr, EGM_ERROR_REGION_NOT_READY,
                        "%s: somebody who has no lease of it any more may still have it open; it "
                        "is handed over when nobody has",
                        r->name);
}

int acquire_refuse_holder(int r, EgmError *reterr) {
        if (r == -EDEADLK)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Holder: egmd itself would keep it for good");
        if (r == -ESRCH)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "Holder: the process is gone");
        if (r == -EBADF || r == -EREMOTE)
                return egm_error_set(
                                reterr, EGM_ERROR_INVALID_ARGS,
                                "Holder: not the pidfd of a program that can be seen from here");
        return r;
}

/* A request that cannot be granted whatever memory there is must not wait for memory. */
static int check_holder(const AcquireRequest *q, EgmError *reterr) {
        pid_t pid;
        int r;

        if (q->holder < 0)
                return 0;
        r = pidfd_get_holder(q->holder, &pid);
        return r < 0 ? acquire_refuse_holder(r, reterr) : 0;
}

int acquire_try_grant(Manager *m, const AcquireRequest *q, PlacementRegion *regions, size_t n,
                      Lease **ret, int *ret_fd, EgmError *reterr) {
        _cleanup_free_ Placed *placed = NULL;
        uint64_t id = m->next_lease_id;
        bool recorded = false;
        Lease *l = NULL;
        int r;

        r = accounts_check(q, reterr);
        if (r < 0)
                return r;
        if (m->n_leases >= m->config->leases_max)
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "%u leases are out; the limit is %" PRIu64, m->n_leases,
                                     m->config->leases_max);
        if (fds_are_scarce())
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "%u leases are out, and egmd has too few descriptors left for "
                                     "another",
                                     m->n_leases);
        placed = calloc(q->n_slices, sizeof(*placed));
        if (!placed)
                return -ENOMEM;
        r = record_lease_number(m, id);
        if (r < 0)
                return r;
        r = placement_take(q->slices, q->n_slices, regions, n, id, placed, reterr);
        if (r < 0)
                return r;
        r = accounts_check_placed(q, placed, reterr);
        if (r >= 0)
                r = check_path(m, q, placed, reterr);
        if (r >= 0)
                r = clean_retired(m, q, placed, reterr);
        if (r >= 0)
                r = make_lease(m, q, id, placed, &l, ret_fd, &recorded, reterr);
        if (r >= 0) {
                r = hand_over(q, l, reterr);
                if (r < 0) {
                        *ret_fd = safe_close(*ret_fd);
                        l->lifeline = lifeline_free(l->lifeline);
                        l = lease_free(l);
                }
        } else
                r = acquire_refuse_holder(r, reterr);
        if (r < 0) {
                take_back(m, q, id, placed, recorded);
                return r;
        }
        m->next_lease_id++;
        accounts_add_lease(l);
        manager_add_lease(m, l);
        *ret = l;
        return 0;
}

/* What it grants is fresh in the lists of retired pages, as far as the kernel tells. */
static void poll_candidates(Manager *m, const AcquireRequest *q, const PlacementRegion *regions) {
        for (size_t i = 0; i < m->n_regions; i++)
                for (size_t k = 0; k < q->n_slices; k++)
                        if (placement_is_candidate(q->slices + k, regions + i)) {
                                region_poll_retired(m->regions[i]);
                                break;
                        }
}

bool acquire_lacks_memory(EgmErrorKind kind) {
        return kind == EGM_ERROR_NO_CAPACITY || kind == EGM_ERROR_FRAGMENTED ||
               kind == EGM_ERROR_NOT_PARTITIONABLE || kind == EGM_ERROR_REGION_NOT_READY;
}

void acquire_name_users(Manager *m, const AcquireRequest *q, const Waiter *until, EgmError *e) {
        _cleanup_egm_error_ EgmError named = EGM_ERROR_NULL;
        PlacementRegion regions[MANAGER_REGIONS_MAX];
        char *users[MANAGER_REGIONS_MAX] = {};
        Placed placed[EGM_SLICES_MAX];
        size_t n = acquire_describe_regions(m, regions);
        int r = 0;

        waiters_reserve(m, until, regions, n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                r = lease_users(&m->leases, m->regions[i], q->uid, users + i);
                if (r >= 0 && *users[i])
                        regions[i].users = users[i];
                if (q->uid == 0 && m->regions[i]->held_by)
                        regions[i].why = m->regions[i]->held_by;
        }
        if (r >= 0) {
                r = placement_take(q->slices, q->n_slices, regions, n, m->next_lease_id, placed,
                                   &named);
                if (r >= 0)
                        cancel_slices(m, m->next_lease_id, placed, q->n_slices);
        }
        if (r < 0 && named.kind == e->kind && named.message) {
                egm_error_done(e);
                *e = named;
                named = EGM_ERROR_NULL;
        }
        for (size_t i = 0; i < n; i++)
                free(users[i]);
}

void manager_acquire(Manager *m, AcquireRequest *q, acquire_done_t done, void *userdata,
                     Waiter **ret_waiter) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        PlacementRegion regions[MANAGER_REGIONS_MAX];
        _cleanup_close_ int fd = -EBADF;
        Lease *l = NULL;
        size_t n;
        int r;

        assert(m);
        assert(q);
        assert(done);
        assert(ret_waiter);

        *ret_waiter = NULL;
        for (size_t i = 0; i < q->n_slices; i++)
                if (q->slices[i].align == 0)
                        q->slices[i].align = m->config->default_align;
        n = acquire_describe_regions(m, regions);
        r = accounts_open(m, q);
        if (r >= 0)
                r = dmabuf_check_request(m, q, &e);
        if (r >= 0)
                r = placement_check(q->slices, q->n_slices, regions, n, &e);
        if (r >= 0)
                r = check_holder(q, &e);
        if (r >= 0) {
                poll_candidates(m, q, regions);
                n = acquire_describe_regions(m, regions);
                waiters_reserve(m, NULL, regions, n);
                r = acquire_try_grant(m, q, regions, n, &l, &fd, &e);
        }
        if (r < 0 && acquire_lacks_memory(e.kind))
                acquire_name_users(m, q, NULL, &e);
        if (r < 0 && e.kind != EGM_ERROR_NONE) {
                int k = waiter_refuse_or_wait(m, q, &e, done, userdata, ret_waiter);

                if (k >= 0)
                        return;
                if (k != -ENOENT) {
                        egm_error_done(&e);
                        r = k;
                }
        }
        if (r < 0)
                m->counters.refused++;
        done(r, &e, l, fd, userdata);
        acquire_request_done(q);
}
