/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "accounts.h"
#include "acquire-internal.h"
#include "fd-util.h"
#include "log.h"
#include "manager.h"
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

/* The regions that a waiting request could use are not for those behind it. */
static void reserve_for(const AcquireRequest *q, PlacementRegion *regions, size_t n) {
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < q->n_slices; k++)
                        if (placement_is_candidate(q->slices + k, regions + i)) {
                                regions[i].reserved++;
                                break;
                        }
}

void waiters_reserve(Manager *m, const Waiter *until, PlacementRegion *regions, size_t n) {
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

/* Could it be granted if everybody gave everything back? Then what it comes to is known as well. */
static bool satisfiable_later(Manager *m, AcquireRequest *q) {
        PlacementRegion regions[MANAGER_REGIONS_MAX];
        Placed placed[EGM_SLICES_MAX];
        size_t n = acquire_describe_regions(m, regions), made = 0;
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

static bool worth_waiting(EgmErrorKind kind) {
        return acquire_lacks_memory(kind) || kind == EGM_ERROR_QUOTA_EXCEEDED;
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

        if (acquire_lacks_memory(w->last.kind))
                acquire_name_users(w->manager, &w->request, w, &w->last);
        r = egm_error_set(&e, EGM_ERROR_TIMED_OUT, "Waited %" PRIu64 ".%03" PRIu64 "s in vain: %s",
                          w->request.wait_usec / USEC_PER_SEC,
                          w->request.wait_usec % USEC_PER_SEC / USEC_PER_MSEC,
                          w->last.message ?: "no reason left");
        waiter_end(w, r, &e);
        return 0;
}

static int on_holder_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        int r = acquire_refuse_holder(-ESRCH, &e);

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

int waiter_refuse_or_wait(Manager *m, AcquireRequest *q, EgmError *e, acquire_done_t done,
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

        r = acquire_try_grant(m, &w->request, regions, n, &l, &fd, &e);
        if (r < 0 && worth_waiting(e.kind)) {
                bool changed = w->last.kind != e.kind;

                if (acquire_lacks_memory(e.kind))
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
        size_t n = acquire_describe_regions(m, regions);
        bool changed = false;
        Turn turn;
        Waiter *w;

        waiters_reserve(m, m->serve_next, regions, n);
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
                for (size_t k = 0; acquire_lacks_memory(w->last.kind) && k < w->request.n_slices;
                     k++)
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
