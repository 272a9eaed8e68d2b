/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "confine.h"
#include "drain.h"
#include "drain-notice.h"
#include "drain-scan.h"
#include "log.h"
#include "manager.h"
#include "turn.h"

/* Nothing tells of an unmapped range, so who holds one up is looked at again; only them, and a full look follows once
 * they seem to be done. */
#define RECHECK_USEC (500 * USEC_PER_MSEC)

/* A process that held something up; the start time tells it from a later one with its pid. */
typedef struct Culprit {
        pid_t pid;
        uint64_t start_time;
        bool still; /* so did the last look at them */
} Culprit;

struct Drain {
        Manager *manager;
        DrainScan *scan; /* in flight, or being acted upon */
        sd_event_source *settle;
        uint64_t turn; /* of the scan that starts next */
        bool again;    /* a full one is wanted after it */
        bool look;     /* one at all of /proc is wanted though nothing may drain */
        bool quick;    /* so was the last full one */
        bool failing;  /* the last could not begin, and that has been said */
        sd_event_source *recheck;
        ProcStill *still;  /* what the last full scan leaves for the next; its own while it runs */
        Culprit *blockers; /* who held something up at the last full scan */
        size_t n_blockers;
};

int drain_new(Manager *m, Drain **ret) {
        Drain *d = malloc(sizeof(*d));

        if (!d)
                return -ENOMEM;
        *d = (Drain){.manager = m, .turn = 1};
        *ret = d;
        return 0;
}

Drain *drain_free(Drain *d) {
        if (!d)
                return NULL;
        if (d->settle)
                d->scan = drain_scan_free(d->scan);
        d->settle = sd_event_source_disable_unref(d->settle);
        if (d->scan) {
                d->scan->drain = NULL;
                worker_abandon(d->scan->worker);
        }
        d->recheck = sd_event_source_disable_unref(d->recheck);
        proc_still_free(d->still);
        free(d->blockers);
        return mfree(d);
}

static Culprit *find_blocker(const Drain *d, const Holder *h) {
        for (size_t i = 0; i < d->n_blockers; i++)
                if (d->blockers[i].pid == h->pid && d->blockers[i].start_time == h->start_time)
                        return d->blockers + i;
        return NULL;
}

static int remember_blocker(Drain *d, const Holder *h) {
        Culprit *t;

        if (find_blocker(d, h))
                return 0;
        t = realloc(d->blockers, (d->n_blockers + 1) * sizeof(*t));
        if (!t)
                return -ENOMEM;
        d->blockers = t;
        t[d->n_blockers++] = (Culprit){.pid = h->pid, .start_time = h->start_time};
        return 0;
}

/* True when somebody holds it up. */
static bool judge(Drain *d, const DrainScan *scan, Slice *s) {
        bool held = (drain_scan_is_shut(scan, s) && drain_scan_is_awaited(scan, s)) ||
                    drain_scan_is_mapped(scan, s, 0);

        for (size_t i = 0; i < scan->found.n; i++) {
                const Holder *h = scan->found.items + i;

                if (!drain_scan_holds_up(scan, i, s))
                        continue;
                held = true;
                if (lease_add_blocker(s->lease, h->pid, h->start_time, h->comm, h->unit) < 0 ||
                    remember_blocker(d, h) < 0)
                        (void) log_oom();
        }
        return held;
}

static int scan_start(Drain *d, bool only_blockers);

static void recheck_later(Drain *d);

static void start_or_later(Drain *d, bool only_blockers) {
        int r = scan_start(d, only_blockers);

        if (r < 0) {
                if (!d->failing)
                        (void) log_error_errno(r, "Failed to look for holders, trying again: %m");
                recheck_later(d);
        }
        d->failing = r < 0;
}

static int on_recheck(sd_event_source *source, uint64_t usec, void *userdata) {
        Drain *d = userdata;

        d->recheck = sd_event_source_disable_unref(d->recheck);
        start_or_later(d, !d->look);
        return 0;
}

static void recheck_later(Drain *d) {
        int r;

        if (d->recheck)
                return;
        r = sd_event_add_time_relative(d->manager->event, &d->recheck, CLOCK_MONOTONIC,
                                       RECHECK_USEC, RECHECK_USEC / 4, on_recheck, d);
        if (r < 0)
                (void) log_error_errno(r, "Failed to set a timer: %m");
}

/* A descriptor that holds nothing up, as its lease is over and enforced, is worth a whole region once the gate is opened. */
static void find_lingerers(const Drain *d, const DrainScan *scan) {
        for (size_t i = 0; i < d->manager->n_regions; i++)
                if (drain_scan_looked_at(scan, d->manager->regions[i]))
                        d->manager->regions[i]->lingered = false;
        for (size_t i = 0; i < scan->found.n; i++)
                for (size_t k = 0; k < d->manager->n_regions; k++)
                        if (d->manager->regions[k] == scan->regions[scan->found.items[i].device] &&
                            !(scan->entitled && scan->entitled[i]))
                                d->manager->regions[k]->lingered = true;
}

/* After a full scan: is this slice drained, or held up? */
static void settle_slice(Drain *d, DrainScan *scan, Slice *s) {
        Lease *l = s->lease;

        if (!drain_scan_looked_at(scan, s->region) ||
            (scan->quick && !drain_scan_is_listed_by_kernel(s))) {
                scan->held = true; /* finding nobody would prove nothing */
                return;
        }
        /* A lease may drain in several regions: forget all before naming any. */
        if (l->judged_turn != scan->turn)
                lease_clear_blockers(l);
        l->judged_turn = scan->turn;
        if (!confine_is_over(d->manager, l)) {
                scan->held = true;
                return;
        }
        if (judge(d, scan, s)) {
                scan->held = true;
                manager_lease_changed(d->manager, l);
                return;
        }
        /* Nobody looked who has it open. */
        if (scan->quick)
                d->look = ((Region *) s->region)->lingered = true;
        if (manager_slice_drained(d->manager, s) < 0)
                scan->held = true;
}

/* Sorts the slices of its turn, as many as fit into a turn of the event loop. True: all are. What the scan found holds for all of them
 * alike, whatever happens in between: it proves that nobody could touch them at one moment behind their release, and nobody has
 * come to since. */
static bool settle_full(Drain *d, DrainScan *scan) {
        Manager *m = d->manager;
        Turn turn = turn_begin();

        for (size_t i = 0; i < m->n_regions; i++) {
                Slice *s, *next;

                for (s = TAILQ_FIRST(&m->regions[i]->draining); s; s = next) {
                        next = TAILQ_NEXT(s, phase_link);
                        /* Released after it began: the next one is its. Judged already: held up. */
                        if (s->drain_turn > scan->turn || s->judged_turn == scan->turn)
                                continue;
                        s->judged_turn = scan->turn;
                        settle_slice(d, scan, s);
                        if (turn_is_over(&turn))
                                return false;
                }
        }
        return true;
}

/* After a look at the blockers alone: they still hold up all that drains, or a full scan is due. It is as well when only one
 * of them let go: who is named must be there. Who merely has the pid of one is for the full scan to find. */
static bool settle_partial(Drain *d, const DrainScan *scan) {
        for (size_t i = 0; i < d->n_blockers; i++)
                d->blockers[i].still = false;
        for (size_t i = 0; i < d->manager->n_regions; i++) {
                Slice *s;

                TAILQ_FOREACH (s, &d->manager->regions[i]->draining, phase_link) {
                        bool held = false;

                        for (size_t k = 0; k < scan->found.n; k++) {
                                const Holder *h = scan->found.items + k;
                                Culprit *b = find_blocker(d, h);

                                if (!b || !drain_scan_holds_up(scan, k, s))
                                        continue;
                                held = b->still = true;
                        }
                        if (!held || !drain_scan_names_are_right(scan, s->lease))
                                d->again = true;
                }
        }
        for (size_t i = 0; i < d->n_blockers; i++)
                d->again = d->again || !d->blockers[i].still;
        return !d->again;
}

/* The scan has been acted upon. */
static void scan_settled(Drain *d) {
        _cleanup_(drain_scan_freep) DrainScan *scan = TAKE_PTR(d->scan);
        bool held = scan->held;

        d->settle = sd_event_source_disable_unref(d->settle);
        /* What is all retired is not scrubbed, so nothing else would tell those who wait for it; nor those who wait for a
         * lingerer to go. */
        if (!scan->pids)
                manager_serve_waiters(d->manager);
        if (d->again || (scan->quick && d->look)) {
                int r = scan_start(d, false);

                if (r >= 0)
                        return;
                (void) log_error_errno(r, "Failed to look for holders: %m");
                held = true;
        }
        if (held)
                drain_notices(d->manager);
        if (held || d->look)
                recheck_later(d);
}

static int on_settle(sd_event_source *source, uint64_t usec, void *userdata) {
        Drain *d = userdata;
        int r;

        if (!settle_full(d, d->scan)) {
                r = turn_again(d->manager->event, &d->settle, on_settle, d);
                if (r >= 0)
                        return 0;
                (void) log_error_errno(r, "Failed to go on: %m");
                d->scan->held = true; /* the rest is for the next look */
        }
        scan_settled(d);
        return 0;
}

static void scan_done(int error, void *userdata) {
        DrainScan *scan = userdata;
        Drain *d = scan->drain;

        if (!d) {
                drain_scan_free(scan);
                return;
        }
        scan->worker = NULL;
        d->still = TAKE_PTR(scan->still);
        log_debug("Looked for holders %s: %" PRIu64 " us",
                  scan->quick  ? "in the kernel"
                  : scan->pids ? "among those known"
                               : "in /proc",
                  (turn_now() - scan->started) / NSEC_PER_USEC);
        if (error < 0) {
                /* Not knowing is not free. */
                (void) log_warning_errno(
                                error,
                                "Failed to find out who holds released memory, trying again: %m");
                scan->held = true;
        } else {
                drain_scan_find_entitled(scan, d->manager);
                if (scan->pids)
                        scan->held = settle_partial(d, scan);
                else {
                        d->quick = scan->quick;
                        if (!scan->quick) {
                                d->look = false;
                                find_lingerers(d, scan);
                        }
                        d->blockers = mfree(d->blockers);
                        d->n_blockers = 0;
                        if (!settle_full(d, scan)) {
                                error = turn_again(d->manager->event, &d->settle, on_settle, d);
                                if (error >= 0)
                                        return;
                                (void) log_error_errno(error, "Failed to go on: %m");
                                scan->held = true; /* the rest is for the next look */
                        }
                }
        }
        scan_settled(d);
}

static int scan_start(Drain *d, bool only_blockers) {
        _cleanup_(drain_scan_freep) DrainScan *s = NULL;
        Manager *m = d->manager;
        int r;

        if (d->scan) {
                d->again = d->again || !only_blockers;
                return 0;
        }
        d->again = false;
        s = malloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (DrainScan){
                        .drain = d,
                        .started = turn_now(),
                        .enforce = m->enforce,
                        .ignore_inaccessible = m->ignore_inaccessible,
                        .pipe_dev = m->state ? state_dev(m->state) : 0,
        };
        r = drain_scan_list_devices(s, m);
        if (r < 0 || (r == 0 && !d->look))
                return r;
        if (!d->still) {
                r = proc_still_new(&d->still);
                if (r < 0)
                        return r;
        }
        if (only_blockers && d->n_blockers > 0) {
                s->pids = calloc(d->n_blockers, sizeof(*s->pids));
                if (!s->pids)
                        return -ENOMEM;
                for (size_t i = 0; i < d->n_blockers; i++)
                        s->pids[s->n_pids++] = d->blockers[i].pid;
        } else {
                s->turn = d->turn++;
                /* Who waits for a look at /proc gets his turn. */
                s->quick = !(d->look && d->quick) && drain_scan_can_be_quick(m);
        }
        s->still = TAKE_PTR(d->still);
        r = worker_start(m->event, "holders", drain_scan_work, scan_done, s, &s->worker);
        if (r < 0) {
                d->still = TAKE_PTR(s->still);
                return r;
        }
        d->scan = TAKE_PTR(s);
        return 0;
}

void drain_add(Drain *d, Slice *s) {
        Region *region = s->region;

        assert(s->phase == SLICE_DRAINING);

        s->drain_turn = d->turn;
        if (s->lease->drains_since == 0)
                s->lease->drains_since = turn_now() / NSEC_PER_USEC;
        TAILQ_INSERT_TAIL(&region->draining, s, phase_link);
        start_or_later(d, false);
}

void drain_resume(Drain *d) {
        assert(d);

        if (!d->scan && !d->recheck)
                start_or_later(d, false);
}

void drain_look(Drain *d) {
        assert(d);

        d->look = true;
        recheck_later(d);
}

void drain_remove(Drain *d, Slice *s) {
        Region *region = s->region;

        TAILQ_REMOVE(&region->draining, s, phase_link);
}
