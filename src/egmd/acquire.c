/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "accounts.h"
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
#include "size.h"
#include "turn.h"

/* A century: what the event loop can still add to its clock. */
#define WAIT_MAX_USEC (UINT64_C(100) * 366 * 24 * 3600 * USEC_PER_SEC)

struct Waiter {
        Manager *manager;
        AcquireRequest request;
        acquire_done_t done;
        void *userdata;
        uint64_t since_usec; /* CLOCK_REALTIME */
        sd_event_source *timer;
        sd_event_source *holder; /* whether that process is still there */
        EgmError last;           /* why it could not be served the last time */
        TAILQ_ENTRY(Waiter) link;
};

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

static Waiter *waiter_free(Waiter *w) {
        if (!w)
                return NULL;
        w->timer = sd_event_source_disable_unref(w->timer);
        w->holder = sd_event_source_disable_unref(w->holder);
        acquire_request_done(&w->request);
        egm_error_done(&w->last);
        return mfree(w);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Waiter *, waiter_free)

static size_t describe_regions(Manager *m, PlacementRegion *ret) {
        for (size_t i = 0; i < m->n_regions; i++)
                region_placement(m->regions[i], ret + i);
        return m->n_regions;
}

/* The regions that a waiting request could use are not for those behind it. */
static void reserve_for(const AcquireRequest *q, PlacementRegion *regions, size_t n) {
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < q->n_slices; k++)
                        if (placement_is_candidate(q->slices + k, regions + i)) {
                                regions[i].reserved++;
                                break;
                        }
}

/* What those who wait may use is not for those behind them: of the regions, and of what their user may have. Who waits for
 * room on his own account holds nobody else up. Up to there; NULL: all of them. */
static void reserve_for_waiters(Manager *m, const Waiter *until, PlacementRegion *regions,
                                size_t n) {
        Waiter *w;

        accounts_begin_turn(m);
        TAILQ_FOREACH (w, &m->waiters, link) {
                const QuotaAmounts want = accounts_request(&w->request);

                if (w == until)
                        break;
                if (accounts_check(&w->request, NULL) >= 0)
                        reserve_for(&w->request, regions, n);
                quota_reserve(w->request.party, &want);
        }
}

static void cancel_slices(Manager *m, uint64_t id, const Placed *placed, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) extent_map_cancel(m->regions[placed[i].region]->map, placed[i].offset,
                                         placed[i].size, id);
}

static int clean_retired(Manager *m, const AcquireRequest *q, const Placed *placed) {
        for (size_t i = 0; i < q->n_slices; i++) {
                int r;

                if (!q->slices[i].include_retired)
                        continue;
                r = region_scrub_retired(m->regions[placed[i].region], placed[i].offset,
                                         placed[i].size);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int make_lease(Manager *m, const AcquireRequest *q, uint64_t id, const Placed *placed,
                      Lease **ret, int *ret_fd, EgmError *reterr) {
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
        if (r >= 0 && q->holder >= 0)
                r = confine_admit(m, l, q->holder, reterr);
        /* From here on it outlives us; if nobody ever hears of it, its lifetime has ended by then. */
        if (r >= 0)
                r = record_lease(m, l);
        if (r < 0) {
                /* Whoever was let in bears its number for good, so no other lease may have it. */
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

static int refuse_holder(int r, EgmError *reterr) {
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
        return r < 0 ? refuse_holder(r, reterr) : 0;
}

/* Grants the request or says why not. reserved is what those ahead of it may use. */
static int try_grant(Manager *m, const AcquireRequest *q, PlacementRegion *regions, size_t n,
                     Lease **ret, int *ret_fd, EgmError *reterr) {
        _cleanup_free_ Placed *placed = NULL;
        uint64_t id = m->next_lease_id;
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
                r = clean_retired(m, q, placed);
        if (r >= 0)
                r = make_lease(m, q, id, placed, &l, ret_fd, reterr);
        if (r >= 0) {
                r = hand_over(q, l, reterr);
                if (r < 0) {
                        *ret_fd = safe_close(*ret_fd);
                        l->lifeline = lifeline_free(l->lifeline);
                        l = lease_free(l);
                }
        } else
                r = refuse_holder(r, reterr);
        if (r < 0) {
                forget_lease(m, id);
                cancel_slices(m, id, placed, q->n_slices);
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

/* Could it be granted if everybody gave everything back? Then what it comes to is known as well. */
static bool satisfiable_later(Manager *m, AcquireRequest *q) {
        PlacementRegion regions[MANAGER_REGIONS_MAX];
        Placed placed[EGM_SLICES_MAX];
        size_t n = describe_regions(m, regions), made = 0;
        int r = 0;

        for (; made < n && r >= 0; made++) {
                Region *region = m->regions[made];
                uint64_t size = region->map ? extent_map_size(region->map)
                                            : align_down(region->info->size,
                                                         region_granule(region));

                regions[made].map = NULL;
                if (size == 0 || !region_may_lend(region))
                        continue;
                r = extent_map_new(size, region_granule(region), &regions[made].map);
                if (r < 0)
                        break;
                RANGES_FOREACH (i, &region->retired)
                        if (r >= 0)
                                r = extent_map_retire(regions[made].map, i->offset, i->size, NULL);
                if (r >= 0)
                        r = extent_map_begin_scrub(regions[made].map, 0, size);
                if (r >= 0)
                        r = extent_map_end_scrub(regions[made].map, 0, size, true);
                regions[made].ready = true;
        }
        if (r >= 0)
                r = placement_take(q->slices, q->n_slices, regions, n, 1, placed, NULL);
        for (size_t i = 0; i < made; i++)
                extent_map_free(regions[i].map);
        if (r < 0)
                return false;
        q->whole_bytes = 0;
        for (size_t i = 0; i < q->n_slices; i++)
                if (q->slices[i].whole)
                        q->whole_bytes += placed[i].size;
        return true;
}

static bool lacks_memory(EgmErrorKind kind) {
        return kind == EGM_ERROR_NO_CAPACITY || kind == EGM_ERROR_FRAGMENTED ||
               kind == EGM_ERROR_NOT_PARTITIONABLE || kind == EGM_ERROR_REGION_NOT_READY;
}

static bool worth_waiting(EgmErrorKind kind) {
        return lacks_memory(kind) || kind == EGM_ERROR_QUOTA_EXCEEDED;
}

/* The refusal once more, now with who has the memory: that is looked up for those only who get to read it. until: the waiter
 * whose refusal it is, NULL: one behind all of them. */
static void name_users(Manager *m, const AcquireRequest *q, const Waiter *until, EgmError *e) {
        _cleanup_egm_error_ EgmError named = EGM_ERROR_NULL;
        PlacementRegion regions[MANAGER_REGIONS_MAX];
        char *users[MANAGER_REGIONS_MAX] = {};
        Placed placed[EGM_SLICES_MAX];
        size_t n = describe_regions(m, regions);
        int r = 0;

        reserve_for_waiters(m, until, regions, n);
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

static void dequeue(Waiter *w) {
        Manager *m = w->manager;

        if (m->serve_next == w)
                m->serve_next = TAILQ_NEXT(w, link);
        TAILQ_REMOVE(&m->waiters, w, link);
        m->n_waiters--;
        accounts_end_wait(&w->request);
}

/* Takes it out of the queue, with that answer. */
static void waiter_end(Waiter *w, int r, const EgmError *e) {
        Manager *m = w->manager;

        dequeue(w);
        m->counters.refused++;
        w->done(r, e, NULL, -EBADF, w->userdata);
        waiter_free(w);
        /* Those behind it may fit where it did not. */
        manager_serve_waiters(m);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Waiter *w = userdata;
        int r;

        if (lacks_memory(w->last.kind))
                name_users(w->manager, &w->request, w, &w->last);
        r = egm_error_set(&e, EGM_ERROR_TIMED_OUT, "Waited %" PRIu64 ".%03" PRIu64 "s in vain: %s",
                          w->request.wait_usec / USEC_PER_SEC,
                          w->request.wait_usec % USEC_PER_SEC / USEC_PER_MSEC,
                          w->last.message ?: "no reason left");
        waiter_end(w, r, &e);
        return 0;
}

static int on_holder_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        int r = refuse_holder(-ESRCH, &e);

        waiter_end(userdata, r, &e);
        return 0;
}

static int enqueue(Manager *m, AcquireRequest *q, EgmError *why, acquire_done_t done,
                   void *userdata, Waiter **ret) {
        _cleanup_(waiter_freep) Waiter *w = NULL;
        int r;

        w = malloc(sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (Waiter){
                        .manager = m,
                        .request.holder = -EBADF,
                        .done = done,
                        .userdata = userdata,
                        .since_usec = manager_now_usec(m),
        };
        r = sd_event_add_time_relative(m->event, &w->timer, CLOCK_MONOTONIC,
                                       MIN(q->wait_usec, WAIT_MAX_USEC), USEC_PER_MSEC, on_timeout,
                                       w);
        if (r >= 0 && q->holder >= 0)
                r = sd_event_add_io(m->event, &w->holder, q->holder, EPOLLIN, on_holder_gone, w);
        if (r < 0)
                return r;
        w->request = *q;
        *q = (AcquireRequest){.holder = -EBADF};
        w->last = *why;
        *why = EGM_ERROR_NULL;
        TAILQ_INSERT_TAIL(&m->waiters, w, link);
        m->n_waiters++;
        *ret = TAKE_PTR(w);
        return 0;
}

static void replace_error(EgmError *e, EgmError *by) {
        egm_error_done(e);
        *e = *by;
        *by = EGM_ERROR_NULL;
}

/* What somebody waits for becomes urgent. */
static void kick_scrubs(Manager *m) {
        for (size_t i = 0; i < m->n_regions; i++)
                region_scrub_kick(m->regions[i]);
}

static int refuse_or_wait(Manager *m, AcquireRequest *q, EgmError *e, acquire_done_t done,
                          void *userdata, Waiter **ret) {
        _cleanup_egm_error_ EgmError quota = EGM_ERROR_NULL;
        int r;

        if (q->wait_usec == 0 || !worth_waiting(e->kind) || m->stopping || !satisfiable_later(m, q))
                return -ENOENT;
        if (m->n_waiters >= m->config->waiting_max) {
                egm_error_done(e);
                (void) egm_error_set(e, EGM_ERROR_LIMITS_EXCEEDED,
                                     "%u requests wait already; the limit is %" PRIu64,
                                     m->n_waiters, m->config->waiting_max);
                return -ENOENT;
        }
        r = accounts_may_ever(q) ? accounts_begin_wait(q, &quota) : accounts_check(q, &quota);
        if (r < 0) {
                replace_error(e, &quota);
                return -ENOENT;
        }
        r = enqueue(m, q, e, done, userdata, ret);
        if (r < 0) {
                accounts_end_wait(q);
                return r;
        }
        kick_scrubs(m);
        return 0;
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
        n = describe_regions(m, regions);
        r = accounts_open(m, q);
        if (r >= 0)
                r = dmabuf_check_request(m, q, &e);
        if (r >= 0)
                r = placement_check(q->slices, q->n_slices, regions, n, &e);
        if (r >= 0)
                r = check_holder(q, &e);
        if (r >= 0) {
                poll_candidates(m, q, regions);
                n = describe_regions(m, regions);
                reserve_for_waiters(m, NULL, regions, n);
                r = try_grant(m, q, regions, n, &l, &fd, &e);
        }
        if (r < 0 && lacks_memory(e.kind))
                name_users(m, q, NULL, &e);
        if (r < 0 && e.kind != EGM_ERROR_NONE) {
                int k = refuse_or_wait(m, q, &e, done, userdata, ret_waiter);

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

void waiter_cancel(Waiter *w) {
        if (!w)
                return;
        dequeue(w);
        waiter_free(w);
}

/* True: it goes on waiting, and for something else than before. */
static bool serve_waiter(Manager *m, Waiter *w, PlacementRegion *regions, size_t n) {
        const QuotaAmounts want = accounts_request(&w->request);
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        Lease *l = NULL;
        int r;

        r = try_grant(m, &w->request, regions, n, &l, &fd, &e);
        if (r < 0 && worth_waiting(e.kind)) {
                bool changed = w->last.kind != e.kind;

                if (lacks_memory(e.kind))
                        reserve_for(&w->request, regions, n);
                quota_reserve(w->request.party, &want);
                egm_error_done(&w->last);
                w->last = e;
                e = EGM_ERROR_NULL;
                return changed;
        }
        dequeue(w);
        if (r < 0)
                m->counters.refused++;
        w->done(r, &e, l, fd, w->userdata);
        waiter_free(w);
        return false;
}

/* From where the last turn ended. What those ahead of there may use by now is still not for those behind them. */
static void serve_turn(Manager *m) {
        PlacementRegion regions[MANAGER_REGIONS_MAX];
        size_t n = describe_regions(m, regions);
        bool changed = false;
        Turn turn;
        Waiter *w;

        reserve_for_waiters(m, m->serve_next, regions, n);
        m->serving = true;
        turn = turn_begin();
        while ((w = m->serve_next)) {
                m->serve_next = TAILQ_NEXT(w, link);
                changed = serve_waiter(m, w, regions, n) || changed;
                if (turn_is_over(&turn))
                        break;
        }
        m->serving = false;
        if (changed)
                kick_scrubs(m);
}

static int on_serve(sd_event_source *s, uint64_t usec, void *userdata);

static void serve_in_turns(Manager *m) {
        int r = 0;

        do {
                if (!m->serve_next) {
                        m->serve_again = false;
                        m->serve_next = TAILQ_FIRST(&m->waiters);
                        for (size_t i = 0; i < m->n_regions && m->serve_next; i++)
                                region_poll_retired(m->regions[i]);
                }
                if (m->serve_next)
                        serve_turn(m);
                if (!m->serve_next && !m->serve_again) {
                        m->serve_source = sd_event_source_disable_unref(m->serve_source);
                        return;
                }
                if (r >= 0)
                        r = turn_again(m->event, &m->serve_source, on_serve, m);
                if (r < 0)
                        (void) log_error_errno(r, "Failed to go on in another turn: %m");
        } while (r < 0);
}

static int on_serve(sd_event_source *s, uint64_t usec, void *userdata) {
        serve_in_turns(userdata);
        return 0;
}

void manager_serve_waiters(Manager *m) {
        assert(m);

        if (TAILQ_EMPTY(&m->waiters))
                return;
        /* done() may come back here (through a waiter that is cancelled, say), and so may others between two turns: each of them is
         * looked at once more, when all of them have been. */
        if (m->serving || m->serve_source)
                m->serve_again = true;
        else
                serve_in_turns(m);
}

void manager_drop_waiters(Manager *m) {
        Waiter *w;

        m->serve_source = sd_event_source_disable_unref(m->serve_source);
        while ((w = TAILQ_FIRST(&m->waiters))) {
                dequeue(w);
                waiter_free(w);
        }
}

bool manager_wants(const Manager *m, const Region *r) {
        PlacementRegion region;
        const Waiter *w;

        assert(m);
        assert(r);

        region_placement(r, &region);
        TAILQ_FOREACH (w, &m->waiters, link)
                for (size_t k = 0; lacks_memory(w->last.kind) && k < w->request.n_slices; k++)
                        if (placement_is_candidate(w->request.slices + k, &region))
                                return true;
        return false;
}

bool manager_has_waiters(const Manager *m) {
        return !TAILQ_EMPTY(&m->waiters);
}

const AcquireRequest *waiter_request(const Waiter *w) {
        return &w->request;
}

uint64_t waiter_since_usec(const Waiter *w) {
        return w->since_usec;
}

uint64_t waiter_deadline_usec(const Waiter *w) {
        uint64_t t;

        return __builtin_add_overflow(w->since_usec, w->request.wait_usec, &t) ? UINT64_MAX : t;
}

Waiter *waiter_next(const Manager *m, const Waiter *w) {
        return w ? TAILQ_NEXT(w, link) : TAILQ_FIRST(&m->waiters);
}
