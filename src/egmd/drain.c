/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "confine.h"
#include "drain.h"
#include "drain-claims.h"
#include "fd-store.h"
#include "holders.h"
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

/* One look at /proc: the worker's own while it runs. */
typedef struct DrainScan {
        Drain *drain; /* NULL: nobody waits for the outcome */
        Worker *worker;
        uint64_t turn;
        HolderDevice *devices;
        Region **regions; /* same order; only compared, never followed, once the scan is over; NULL for a dma-buf */
        uint64_t *dmabuf_of; /* same order: the lease whose dma-buf it is, or 0 */
        size_t n;
        pid_t *pids; /* NULL: everybody */
        size_t n_pids;
        bool ignore_inaccessible;
        dev_t pipe_dev;
        ProcStill *still;
        Enforce *enforce;             /* the manager's, or NULL */
        EnforceLook look;             /* its flights: also those before a look at /proc */
        EnforceFlight *flights_after; /* and after it */
        size_t n_flights_after;
        bool flights_known; /* then nobody maps what is enforced and revoked; who has can be seen */
        bool quick;         /* the kernel listed the mappings: /proc was only asked who they are */
        uint64_t started;
        HolderList found;
        bool *entitled; /* each of them to a descriptor of his region */
        bool held;      /* somebody holds something up */
} DrainScan;

struct Drain {
        Manager *manager;
        DrainScan *scan; /* in flight, or being acted upon */
        sd_event_source *settle;
        uint64_t turn; /* of the scan that starts next */
        bool again;    /* a full one is wanted after it */
        bool look;     /* one at all of /proc is wanted though nothing may drain */
        bool quick;    /* so was the last full one */
        sd_event_source *recheck;
        ProcStill *still;  /* what the last full scan leaves for the next; its own while it runs */
        Culprit *blockers; /* who held something up at the last full scan */
        size_t n_blockers;
};

static DrainScan *drain_scan_free(DrainScan *s) {
        if (!s)
                return NULL;
        holder_list_done(&s->found);
        proc_still_free(s->still);
        free(s->entitled);
        free(s->flights_after);
        enforce_look_done(&s->look);
        free(s->devices);
        free(s->regions);
        free(s->dmabuf_of);
        free(s->pids);
        return mfree(s);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(DrainScan *, drain_scan_free)

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

static int scan_work(void *userdata) {
        DrainScan *s = userdata;
        _cleanup_free_ pid_t *mappers = NULL;
        HolderScan scan = {
                        .devices = s->devices,
                        .n_devices = s->n,
                        .pids = s->pids,
                        .n_pids = s->n_pids,
                        .store = fd_store_manager(),
                        .want_pipes = true,
                        .pipe_dev = s->pipe_dev,
                        .still = s->still,
                        .ignore_inaccessible = s->ignore_inaccessible,
        };
        bool looked;
        int r;

        if (s->quick && enforce_look(s->enforce, &s->look) >= 0 &&
            enforce_look_pids(&s->look, &mappers, &scan.n_pids) >= 0) {
                s->flights_known = true;
                scan.pids = mappers;
                /* Who holds it up is known; only their names may be missing. */
                (void) holders_scan(&scan, &s->found);
                return 0;
        }
        s->quick = false;
        enforce_look_done(&s->look);
        /* A mapping that is moved about may be overlooked in /proc, which is read in pieces. */
        looked = s->enforce && !s->pids && enforce_look(s->enforce, &s->look) >= 0;
        /* Before the mappings: who is not under way any more has his by now. */
        s->flights_known = looked || (s->enforce && enforce_flights(s->enforce, &s->look.flights,
                                                                    &s->look.n_flights) >= 0);
        r = holders_scan(&scan, &s->found);
        if (s->flights_known && !looked && r >= 0)
                s->flights_known = enforce_flights(s->enforce, &s->flights_after,
                                                   &s->n_flights_after) >= 0;
        return r;
}

/* The scan's region, if it is there still. */
static const Region *find_region(const Drain *d, const Region *r) {
        for (size_t i = 0; i < d->manager->n_regions; i++)
                if (d->manager->regions[i] == r)
                        return r;
        return NULL;
}

/* Who may have the descriptor, for each that was found. Without memory to find out, nobody. */
static void find_entitled(Drain *d, DrainScan *scan) {
        bool *entitled = calloc(scan->found.n + 1, sizeof(*entitled));

        if (!entitled) {
                (void) log_oom();
                return;
        }
        for (size_t i = 0; i < scan->found.n; i++) {
                const Holder *h = scan->found.items + i;
                const Region *r = find_region(d, scan->regions[h->device]);

                /* Its device may have gone meanwhile, and its map with it: nothing of it drains then. */
                entitled[i] = r && r->map && claims_allow(d->manager, r, h);
        }
        scan->entitled = entitled;
}

/* Its descriptors are of no use to anybody: what is mapped is mapped, and nothing is added. */
static bool is_shut(const DrainScan *scan, const Slice *s) {
        const Region *r = s->region;

        return scan->flights_known && r->enforced && s->lease->revoked;
}

/* Only bearers can have mapped it, so the kernel's list of mappings tells all. */
static bool is_listed_by_kernel(const Slice *s) {
        const Region *r = s->region;
        const Lease *l = s->lease;

        /* Dma-bufs are not among these: who has one open only /proc tells. */
        return r->enforced && l->revoked && confine_holds(l) && !l->unclaimed && l->n_dmabufs == 0;
}

/* Does anybody (pid: this process) map some of it, as the kernel lists it? */
static bool is_mapped(const DrainScan *scan, const Slice *s, pid_t pid) {
        const Region *r = s->region;
        uint64_t rdev = enforce_rdev(r->info->devnum);

        for (size_t i = 0; i < scan->look.n_mappings; i++) {
                const EnforceMapping *m = scan->look.mappings + i;

                /* Where all mappings lead to everything, offsets say nothing. */
                if (m->rdev == rdev && (pid == 0 || (pid_t) m->pid == pid) &&
                    (!r->provider || !r->provider->offsets ||
                     (m->start < s->offset + s->size && s->offset < m->end)))
                        return true;
        }
        return false;
}

/* Of what nobody is known to have had, anybody whose lease is not known either may have some. */
static bool may_have(const EnforceFlight *f, const Slice *s) {
        return f->number == s->lease->id ||
               (s->lease->unclaimed && !manager_find_lease(s->lease->manager, f->number));
}

static bool was_there(const DrainScan *scan, const EnforceFlight *f) {
        for (size_t i = 0; i < scan->look.n_flights; i++)
                if (scan->look.flights[i].pid == f->pid &&
                    scan->look.flights[i].started == f->started)
                        return true;
        return false;
}

/* Did somebody pass the gate before it was shut who has no mapping yet? Or was somebody forked during the look, perhaps with a mapping
 * of one that was gone before it was looked at? */
static bool is_awaited(const DrainScan *scan, const Slice *s) {
        for (size_t i = 0; i < scan->look.n_flights; i++)
                if (scan->look.flights[i].under_way && may_have(scan->look.flights + i, s))
                        return true;
        for (size_t i = 0; i < scan->n_flights_after; i++)
                if (may_have(scan->flights_after + i, s) &&
                    !was_there(scan, scan->flights_after + i))
                        return true;
        return false;
}

/* Does the i-th that was found hold that slice up? */
static bool holds_up(const DrainScan *scan, size_t i, const Slice *s) {
        const Holder *h = scan->found.items + i;

        /* Whoever has a dma-buf open may have a device use what it is of. No gate is on its way, and nobody is entitled to it once the
         * lease is over. */
        if (scan->dmabuf_of[h->device] != 0)
                return scan->dmabuf_of[h->device] == s->lease->id && (h->has_fd || h->maps);
        if (scan->regions[h->device] != s->region)
                return false;
        return ranges_overlap(&h->mapped, s->offset, s->size) || is_mapped(scan, s, h->pid) ||
               (h->has_fd && !is_shut(scan, s) && !(scan->entitled && scan->entitled[i]));
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
        bool held = (is_shut(scan, s) && is_awaited(scan, s)) || is_mapped(scan, s, 0);

        for (size_t i = 0; i < scan->found.n; i++) {
                const Holder *h = scan->found.items + i;

                if (!holds_up(scan, i, s))
                        continue;
                held = true;
                if (lease_add_blocker(s->lease, h->pid, h->start_time, h->comm, h->unit) < 0 ||
                    remember_blocker(d, h) < 0)
                        (void) log_oom();
        }
        return held;
}

static int drain_scan_start(Drain *d, bool only_blockers);

static void recheck_later(Drain *d);

static int on_recheck(sd_event_source *source, uint64_t usec, void *userdata) {
        Drain *d = userdata;
        int r;

        d->recheck = sd_event_source_disable_unref(d->recheck);
        r = drain_scan_start(d, !d->look);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to look for holders: %m");
                recheck_later(d);
        }
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

static bool looked_at(const DrainScan *scan, const Region *r) {
        for (size_t i = 0; i < scan->n; i++)
                if (scan->regions[i] == r)
                        return true;
        return false;
}

/* A descriptor that holds nothing up, as its lease is over and enforced, is worth a whole region once the gate is opened. */
static void find_lingerers(const Drain *d, const DrainScan *scan) {
        for (size_t i = 0; i < d->manager->n_regions; i++)
                if (looked_at(scan, d->manager->regions[i]))
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

        if (!looked_at(scan, s->region) || (scan->quick && !is_listed_by_kernel(s))) {
                scan->held = true; /* finding nobody would prove nothing */
                return;
        }
        /* A lease may drain in several regions: forget all before naming any. */
        if (l->judged_turn != scan->turn)
                lease_clear_blockers(l);
        l->judged_turn = scan->turn;
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

static bool holds_up_lease(const DrainScan *scan, size_t k, const Lease *l) {
        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].phase == SLICE_DRAINING && holds_up(scan, k, l->slices + i))
                        return true;
        return false;
}

static bool is_named(const Lease *l, const Holder *h) {
        for (size_t i = 0; i < l->n_blockers; i++)
                if (l->blockers[i].pid == h->pid && l->blockers[i].start_time == h->start_time)
                        return true;
        return false;
}

/* Who holds one lease up may have let go of another: nobody shall be asked to leave, or be ended, for what he no longer has. */
static bool names_are_right(const DrainScan *scan, const Lease *l) {
        size_t n = 0;

        for (size_t k = 0; k < scan->found.n; k++) {
                const Holder *h = scan->found.items + k;
                bool again = false;

                if (!holds_up_lease(scan, k, l))
                        continue;
                if (!is_named(l, h))
                        return false;
                /* One process has an entry for each device. */
                for (size_t i = 0; i < k && !again; i++)
                        again = scan->found.items[i].pid == h->pid && holds_up_lease(scan, i, l);
                n += !again;
        }
        return n == l->n_blockers;
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

                                if (!b || !holds_up(scan, k, s))
                                        continue;
                                held = b->still = true;
                        }
                        if (!held || !names_are_right(scan, s->lease))
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
                int r = drain_scan_start(d, false);

                if (r >= 0)
                        return;
                (void) log_error_errno(r, "Failed to look for holders: %m");
                held = true;
        }
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
                find_entitled(d, scan);
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

static size_t count_dmabufs(const Manager *m) {
        size_t n = 0;
        Lease *l;

        TAILQ_FOREACH (l, &m->with_dmabufs, dmabuf_link)
                n += lease_drains(l) ? l->n_dmabufs : 0;
        return n;
}

/* Of what drains: nobody has reason to look for others. */
static void list_dmabufs(const Manager *m, DrainScan *s) {
        Lease *l;

        TAILQ_FOREACH (l, &m->with_dmabufs, dmabuf_link)
                for (size_t i = 0; lease_drains(l) && i < l->n_dmabufs; i++) {
                        s->dmabuf_of[s->n] = l->id;
                        s->devices[s->n++] = (HolderDevice){.dev = l->dmabufs[i].dev,
                                                            .ino = l->dmabufs[i].ino};
                }
}

/* 1: in some of them something drains. All are listed: what is looked for is the same from scan to scan then, and who had
 * none of it before need not be looked at again. */
static int list_devices(const Manager *m, DrainScan *s) {
        bool wanted = false;
        size_t room;

        room = m->n_regions + count_dmabufs(m) + 1;
        s->devices = calloc(room, sizeof(*s->devices));
        s->regions = calloc(room, sizeof(Region *));
        s->dmabuf_of = calloc(room, sizeof(*s->dmabuf_of));
        if (!s->devices || !s->regions || !s->dmabuf_of)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_regions; i++) {
                const Provider *p = m->regions[i]->provider;

                if (!p || p->fd < 0)
                        continue;
                wanted = wanted || !TAILQ_EMPTY(&m->regions[i]->draining);
                s->regions[s->n] = m->regions[i];
                s->devices[s->n++] = (HolderDevice){.rdev = p->rdev,
                                                    .dev = p->dev,
                                                    .ino = p->ino,
                                                    .size = p->size,
                                                    .offsets = p->offsets};
        }
        list_dmabufs(m, s);
        return wanted;
}

/* Everything that drains is such that the kernel's list tells all; and something does. */
static bool can_be_quick(const Manager *m) {
        bool any = false;
        const Slice *s;

        if (!m->enforce)
                return false;
        for (size_t i = 0; i < m->n_regions; i++)
                TAILQ_FOREACH (s, &m->regions[i]->draining, phase_link) {
                        if (!is_listed_by_kernel(s))
                                return false;
                        any = true;
                }
        return any;
}

static int drain_scan_start(Drain *d, bool only_blockers) {
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
        r = list_devices(m, s);
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
                s->quick = !(d->look && d->quick) && can_be_quick(m);
        }
        s->still = TAKE_PTR(d->still);
        r = worker_start(m->event, "holders", scan_work, scan_done, s, &s->worker);
        if (r < 0) {
                d->still = TAKE_PTR(s->still);
                return r;
        }
        d->scan = TAKE_PTR(s);
        return 0;
}

void drain_add(Drain *d, Slice *s) {
        Region *region = s->region;
        int r;

        assert(s->phase == SLICE_DRAINING);

        s->drain_turn = d->turn;
        TAILQ_INSERT_TAIL(&region->draining, s, phase_link);
        r = drain_scan_start(d, false);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to look for holders: %m");
                recheck_later(d);
        }
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
