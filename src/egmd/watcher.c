/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/prctl.h>

#include <linux/capability.h>

#include "fd-store.h"
#include "fd-util.h"
#include "holders.h"
#include "log.h"
#include "manager.h"
#include "pidfd.h"
#include "shown.h"
#include "size.h"
#include "turn.h"
#include "watcher.h"

/* Whoever makes processes by the thousand does not fill the log. */
#define FINDINGS_MAX 256U
#define RANGES_TOLD_MAX 16U

typedef TAILQ_HEAD(FindingList, Finding) FindingList;

typedef struct Look {
        Watcher *watcher; /* NULL: nobody waits for the outcome */
        Worker *worker;
        HolderDevice *devices;
        Region **regions; /* in the same order */
        size_t n;
        pid_t *pids; /* the suspects; NULL: everybody */
        size_t n_pids;
        bool ignore_inaccessible;
        dev_t pipe_dev;
        ProcStill *still;
        HolderList found;
        size_t n_judged; /* of them */
} Look;

struct Watcher {
        Manager *manager;
        sd_event_source *timer;
        Look *look; /* in flight, or being judged */
        sd_event_source *settle;
        ProcStill *still;
        FindingList suspects;
        FindingList findings;
        size_t n_findings; /* and suspects */
        bool full;         /* and that has been said */
};

static Finding *finding_free(Finding *f) {
        if (!f)
                return NULL;
        overreach_done(&f->bytes);
        f->pidfd = safe_close(f->pidfd);
        free(f->comm);
        free(f->unit);
        return mfree(f);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Finding *, finding_free)

static void drop(Watcher *w, FindingList *l, Finding *f) {
        TAILQ_REMOVE(l, f, link);
        w->n_findings--;
        finding_free(f);
}

static void drop_all(Watcher *w, FindingList *l) {
        Finding *f;

        while ((f = TAILQ_FIRST(l)))
                drop(w, l, f);
}

static Look *look_free(Look *l) {
        if (!l)
                return NULL;
        holder_list_done(&l->found);
        proc_still_free(l->still);
        free(l->devices);
        free(l->regions);
        free(l->pids);
        return mfree(l);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Look *, look_free)

/* ---- looking ---- */

/* Something of it is lent, everything by us, and the kernel does not keep holders to it. */
static bool is_watched(const Region *r) {
        return r->state == REGION_READY && r->mode != REGION_MODE_OBSERVE && !r->enforced &&
               r->map && r->provider && r->provider->fd >= 0 && r->provider->offsets &&
               extent_map_bytes(r->map, EXTENT_LEASED) > 0;
}

static int list_devices(const Manager *m, Look *l) {
        l->devices = calloc(m->n_regions + 1, sizeof(*l->devices));
        l->regions = calloc(m->n_regions + 1, sizeof(*l->regions));
        if (!l->devices || !l->regions)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_regions; i++) {
                const Provider *p = m->regions[i]->provider;

                if (!is_watched(m->regions[i]))
                        continue;
                l->regions[l->n] = m->regions[i];
                /* Not by device number: see the header. */
                l->devices[l->n++] = (HolderDevice){
                                .dev = p->dev, .ino = p->ino, .size = p->size, .offsets = true};
        }
        return l->n > 0;
}

static int look_work(void *userdata) {
        Look *l = userdata;
        HolderScan scan = {
                        .devices = l->devices,
                        .n_devices = l->n,
                        .pids = l->pids,
                        .n_pids = l->n_pids,
                        .store = fd_store_manager(),
                        .want_pipes = true,
                        .pipe_dev = l->pipe_dev,
                        .still = l->still,
                        .ignore_inaccessible = l->ignore_inaccessible,
        };

        return holders_scan(&scan, &l->found);
}

static int list_suspects(const Watcher *w, Look *l) {
        const Finding *f;
        size_t n = 0;

        TAILQ_FOREACH (f, &w->suspects, link)
                n++;
        l->pids = calloc(n + 1, sizeof(*l->pids));
        if (!l->pids)
                return -ENOMEM;
        TAILQ_FOREACH (f, &w->suspects, link)
                l->pids[l->n_pids++] = f->pid;
        return 0;
}

static void look_done(int error, void *userdata);

/* 0: there is nothing to look at. */
static int look_start(Watcher *w, bool only_suspects) {
        _cleanup_(look_freep) Look *l = NULL;
        Manager *m = w->manager;
        int r;

        assert(!w->look);

        l = malloc(sizeof(*l));
        if (!l)
                return -ENOMEM;
        *l = (Look){
                        .watcher = w,
                        .ignore_inaccessible = m->ignore_inaccessible,
                        .pipe_dev = m->state ? state_dev(m->state) : 0,
        };
        r = list_devices(m, l);
        if (r <= 0)
                return r;
        if (only_suspects) {
                r = list_suspects(w, l);
                if (r < 0)
                        return r;
        } else {
                if (!w->still) {
                        r = proc_still_new(&w->still);
                        if (r < 0)
                                return r;
                }
                l->still = TAKE_PTR(w->still);
        }
        r = worker_start(m->event, "overreach", look_work, look_done, l, &l->worker);
        if (r < 0)
                return r;
        w->look = TAKE_PTR(l);
        return 1;
}

/* ---- judging ---- */

static const Lease *find_lease(uint64_t id, void *userdata) {
        return manager_find_lease(userdata, id);
}

/* The books that hold for this device; NULL: it is not watched any more, or is another one. */
static Region *region_of(const Watcher *w, const Look *l, size_t device) {
        const Manager *m = w->manager;

        for (size_t i = 0; i < m->n_regions; i++)
                if (m->regions[i] == l->regions[device])
                        return is_watched(m->regions[i]) && m->regions[i]->provider->ino ==
                                                                               l->devices[device]
                                                                                               .ino
                                               ? m->regions[i]
                                               : NULL;
        return NULL;
}

static int judge(Watcher *w, const Region *region, const Holder *h, Overreach *ret) {
        _cleanup_free_ const Lease **leases = NULL;
        size_t n = 0;
        int r;

        if (h->vague)
                return ranges_add(ret->bytes + OVERREACH_PRIVATE, 0, extent_map_size(region->map));
        r = shown_by(w->manager, region, h, &leases, &n);
        if (r < 0)
                return r;
        return overreach_judge(region->map, &h->mapped, leases, n, find_lease, w->manager, ret);
}

static Finding *find(const FindingList *l, const Region *region, const Holder *h) {
        Finding *f;

        TAILQ_FOREACH (f, l, link)
                if (f->region == region && f->ino == region->provider->ino && f->pid == h->pid &&
                    f->start_time == h->start_time)
                        return f;
        return NULL;
}

static int suspect(Watcher *w, Region *region, const Holder *h, Overreach *what) {
        _cleanup_(finding_freep) Finding *f = NULL;
        uint64_t start_time;
        int r;

        f = malloc(sizeof(*f));
        if (!f)
                return -ENOMEM;
        *f = (Finding){.region = region,
                       .ino = region->provider->ino,
                       .pid = h->pid,
                       .start_time = h->start_time,
                       .uid = h->uid,
                       .active = true,
                       .pidfd = -EBADF};
        /* From here on it is this process and no other that gets its number. */
        r = pidfd_new(h->pid, &f->pidfd);
        if (r >= 0)
                r = pidfd_get_start_time(f->pidfd, &start_time);
        if (r < 0 || start_time != h->start_time)
                return r == -ENOMEM ? r : 0;
        f->comm = strdup(h->comm);
        f->unit = h->unit ? strdup(h->unit) : NULL;
        if (!f->comm || (h->unit && !f->unit))
                return -ENOMEM;
        f->bytes = TAKE_GENERIC(*what, Overreach, (Overreach){});
        TAILQ_INSERT_TAIL(&w->suspects, f, link);
        w->n_findings++;
        (void) TAKE_PTR(f);
        return 1;
}

/* The first look at a process. */
static int look_first(Watcher *w, Region *region, const Holder *h) {
        _cleanup_overreach_ Overreach what = {};
        Finding *told = find(&w->findings, region, h);
        int r;

        r = judge(w, region, h, &what);
        if (r < 0)
                return r;
        if (told) {
                _cleanup_overreach_ Overreach still = {};

                told->seen = true;
                r = overreach_add(&still, &what);
                if (r >= 0)
                        r = overreach_intersect(&still, &told->bytes);
                if (r >= 0)
                        r = overreach_subtract(&what, &told->bytes);
                if (r < 0)
                        return r;
                if (told->active == overreach_is_empty(&still)) {
                        told->active = !told->active;
                        manager_region_changed(w->manager, region);
                }
        }
        if (overreach_is_empty(&what))
                return 0;
        if (!told && w->n_findings >= FINDINGS_MAX) {
                if (!w->full)
                        log_warning("More than %u processes map what they were not lent; no more "
                                    "of them are told of",
                                    FINDINGS_MAX);
                w->full = true;
                return 0;
        }
        return suspect(w, region, h, &what);
}

/* ---- telling ---- */

static const char *const words[_OVERREACH_KIND_MAX] = {
                [OVERREACH_UNLENT] = "which is lent to nobody",
                [OVERREACH_FOREIGN] = "which is lent to another user",
                [OVERREACH_UNPROVEN] = "which is a lease that it shows no claim to",
                [OVERREACH_PRIVATE] = "privately, so that where in the region cannot be told",
};

static void log_kind(const Finding *f, const char *outcome, OverreachKind k) {
        const Ranges *bytes = f->bytes.bytes + k;
        size_t n = 0;

        RANGES_FOREACH (i, bytes) {
                if (n++ == RANGES_TOLD_MAX)
                        break;
                log_warning("Overreach: region=%s kind=%s offset=%" PRIu64 " size=%" PRIu64
                            " pid=%i start=%" PRIu64 " uid=%u comm=\"%s\" unit=\"%s\" action=%s: "
                            "maps %s, %s",
                            f->region->name, overreach_kind_to_string(k), i->offset, i->size,
                            f->pid, f->start_time, (unsigned) f->uid, f->comm, f->unit ?: "",
                            outcome, FORMAT_SIZE(i->size), words[k]);
        }
        if (bytes->n > RANGES_TOLD_MAX)
                log_warning("Overreach: region=%s kind=%s pid=%i: and %zu more ranges, %s in all",
                            f->region->name, overreach_kind_to_string(k), f->pid,
                            bytes->n - RANGES_TOLD_MAX, FORMAT_SIZE(ranges_bytes(bytes)));
}

/* What became of it: a word for the log. */
static const char *act(Watcher *w, Finding *f) {
        bool proven = false;
        int r;

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++)
                proven = proven || (f->bytes.bytes[k].n > 0 && overreach_is_proven(k));
        if (w->manager->config->overreach != OVERREACH_KILL || !proven)
                return "log";
        /* The service manager, which stores descriptors for us, maps nothing; it is not ended in any case. */
        if (f->pid <= 1 || f->pid == getpid() || f->pid == fd_store_manager())
                return "spared";
        r = pidfd_signal(f->pidfd, SIGKILL);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to end pid %i: %m%s", f->pid,
                                       r == -EPERM ? " (it takes CAP_KILL: see egmd.conf(5))" : "");
                return "failed";
        }
        f->ended = true;
        return "kill";
}

static void tell(Watcher *w, Finding *f) {
        const ManagerObserver *o = w->manager->observer;
        const char *outcome = act(w, f);
        Region *region = f->region;
        Finding *old;

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++) {
                if (f->bytes.bytes[k].n == 0)
                        continue;
                log_kind(f, outcome, k);
                w->manager->counters.overreaches++;
                if (o && o->overreach)
                        o->overreach(region, overreach_kind_to_string(k), f->bytes.bytes + k,
                                     f->ended, w->manager->observer_userdata);
        }
        f->seen = true;
        TAILQ_FOREACH (old, &w->findings, link)
                if (old->region == region && old->ino == f->ino && old->pid == f->pid &&
                    old->start_time == f->start_time)
                        break;
        if (!old) {
                f->pidfd = safe_close(f->pidfd);
                TAILQ_REMOVE(&w->suspects, f, link);
                TAILQ_INSERT_TAIL(&w->findings, f, link);
        } else {
                /* What memory is missing for is told again. */
                (void) overreach_add(&old->bytes, &f->bytes);
                old->active = true;
                old->ended = old->ended || f->ended;
                drop(w, &w->suspects, f);
        }
        manager_region_changed(w->manager, region);
}

/* The second look at a suspect: what both have seen is told of. */
static void look_again(Watcher *w, const Look *l, Finding *f) {
        for (size_t i = 0; i < l->found.n; i++) {
                const Holder *h = l->found.items + i;
                _cleanup_overreach_ Overreach what = {};
                Region *region;

                if (h->pid != f->pid || h->start_time != f->start_time ||
                    l->regions[h->device] != f->region || l->devices[h->device].ino != f->ino)
                        continue;
                region = region_of(w, l, h->device);
                if (!region || judge(w, region, h, &what) < 0 ||
                    overreach_intersect(&f->bytes, &what) < 0 || overreach_is_empty(&f->bytes))
                        break;
                tell(w, f);
                return;
        }
        drop(w, &w->suspects, f);
}

/* ---- settling ---- */

static void drop_unseen(Watcher *w) {
        Finding *f, *next;

        for (f = TAILQ_FIRST(&w->findings); f; f = next) {
                next = TAILQ_NEXT(f, link);
                if (!f->seen) {
                        manager_region_changed(w->manager, f->region);
                        drop(w, &w->findings, f);
                }
        }
        w->full = w->full && w->n_findings >= FINDINGS_MAX;
}

static void judge_next(Watcher *w, Look *l) {
        const Holder *h = l->found.items + l->n_judged++;
        Region *region = region_of(w, l, h->device);
        int r;

        if (!region)
                return;
        r = look_first(w, region, h);
        if (r < 0)
                (void) log_error_errno(r, "Failed to judge what pid %i maps: %m", h->pid);
}

/* As many as fit into a turn. True: all of them. What was lent and came back in between is of no harm: what has been drained is taken
 * off those who are suspected. */
static bool settle_some(Watcher *w, Look *l) {
        Turn turn = turn_begin();

        if (!l->pids) {
                while (l->n_judged < l->found.n) {
                        judge_next(w, l);
                        if (turn_is_over(&turn))
                                break;
                }
                return l->n_judged == l->found.n;
        }
        while (!TAILQ_EMPTY(&w->suspects)) {
                look_again(w, l, TAILQ_FIRST(&w->suspects));
                if (turn_is_over(&turn))
                        break;
        }
        return TAILQ_EMPTY(&w->suspects);
}

static void settled_first(Watcher *w) {
        int r;

        drop_unseen(w);
        if (TAILQ_EMPTY(&w->suspects))
                return;
        r = look_start(w, true);
        if (r > 0)
                return;
        if (r < 0)
                (void) log_error_errno(r, "Failed to look at who maps too much: %m");
        drop_all(w, &w->suspects);
}

static int on_settle(sd_event_source *s, uint64_t usec, void *userdata);

static void settle(Watcher *w) {
        _cleanup_(look_freep) Look *l = NULL;

        if (!settle_some(w, w->look)) {
                int r = turn_again(w->manager->event, &w->settle, on_settle, w);

                if (r >= 0)
                        return;
                (void) log_error_errno(r, "Failed to go on in another turn: %m");
                while (!settle_some(w, w->look))
                        ;
        }
        w->settle = sd_event_source_disable_unref(w->settle);
        l = TAKE_PTR(w->look);
        if (!l->pids)
                settled_first(w);
}

static int on_settle(sd_event_source *s, uint64_t usec, void *userdata) {
        settle(userdata);
        return 0;
}

static void look_done(int error, void *userdata) {
        Look *l = userdata;
        Watcher *w = l->watcher;
        Finding *f;

        if (!w) {
                look_free(l);
                return;
        }
        l->worker = NULL;
        if (!l->pids)
                w->still = TAKE_PTR(l->still);
        if (error < 0) {
                (void) log_warning_errno(error, "Failed to find out who maps too much: %m");
                drop_all(w, &w->suspects);
                w->look = look_free(w->look);
                return;
        }
        if (!l->pids)
                TAILQ_FOREACH (f, &w->findings, link)
                        f->seen = false;
        settle(w);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Watcher *w = userdata;
        int r;

        (void) sd_event_source_set_time_relative(s, w->manager->config->overreach_poll_usec);
        (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        if (w->look)
                return 0;
        r = look_start(w, false);
        if (r < 0)
                (void) log_error_errno(r, "Failed to look for who maps too much: %m");
        if (r == 0) {
                Finding *f;

                /* Nothing is watched: nobody overreaches. */
                TAILQ_FOREACH (f, &w->findings, link)
                        f->seen = false;
                drop_unseen(w);
                w->still = proc_still_free(w->still);
        }
        return 0;
}

int watcher_new(Manager *m, Watcher **ret) {
        _cleanup_(watcher_freep) Watcher *w = NULL;
        const uint64_t every = m->config->overreach_poll_usec;
        int r;

        assert(ret);

        w = malloc(sizeof(*w));
        if (!w)
                return -ENOMEM;
        *w = (Watcher){.manager = m};
        TAILQ_INIT(&w->suspects);
        TAILQ_INIT(&w->findings);
        r = sd_event_add_time_relative(m->event, &w->timer, CLOCK_MONOTONIC, every, every / 4,
                                       on_timer, w);
        if (r < 0)
                return r;
        if (m->config->overreach == OVERREACH_KILL &&
            prctl(PR_CAPBSET_READ, CAP_KILL, 0, 0, 0) == 0)
                log_warning("OverreachAction=kill ends no other user's processes without CAP_KILL: "
                            "see egmd.conf(5)");
        *ret = TAKE_PTR(w);
        return 0;
}

Watcher *watcher_free(Watcher *w) {
        if (!w)
                return NULL;
        w->timer = sd_event_source_disable_unref(w->timer);
        if (w->settle)
                w->look = look_free(w->look);
        w->settle = sd_event_source_disable_unref(w->settle);
        if (w->look) {
                w->look->watcher = NULL;
                worker_abandon(w->look->worker);
        }
        drop_all(w, &w->suspects);
        drop_all(w, &w->findings);
        proc_still_free(w->still);
        return mfree(w);
}

void watcher_slice_drained(Watcher *w, const Slice *s) {
        Finding *f;

        assert(w);
        assert(s);

        TAILQ_FOREACH (f, &w->suspects, link)
                if (f->region == s->region)
                        overreach_forget(&f->bytes, s->offset, s->size);
}

const Finding *watcher_next(const Watcher *w, const Region *r, const Finding *f) {
        assert(w);
        assert(r);

        for (f = f ? TAILQ_NEXT(f, link) : TAILQ_FIRST(&w->findings); f; f = TAILQ_NEXT(f, link))
                if (f->region == r && f->active)
                        return f;
        return NULL;
}
