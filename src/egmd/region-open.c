/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "confine.h"
#include "dmabuf.h"
#include "drain.h"
#include "fd-store.h"
#include "holders.h"
#include "backoff.h"
#include "log.h"
#include "manager.h"
#include "records.h"
#include "region-open.h"
#include "region-scrub.h"
#include "size.h"

#define RETRY_MIN_USEC (1 * USEC_PER_SEC)
#define RETRY_MAX_USEC (30 * USEC_PER_SEC)
/* Between two looks at who has a region that is only observed. */
#define OBSERVE_USEC (10 * USEC_PER_SEC)

#define CANNOT_BE_SHARED \
        "Mode=shared, and this version of the driver ignores offsets: it could only be lent as a " \
        "whole"

/* The worker's own: nothing in it is shared with the loop while the thread runs. */
typedef struct RegionOpening {
        Region *region;
        atomic_bool cancelled; /* nobody waits for the outcome any more */
        Provider *provider;
        Worker *worker;
        Enforce *enforce; /* the manager's, or NULL */
        dev_t devnum;
        bool enforced;
        char *lax;
        Ranges retired;
        LeaseDmabuf *dmabufs; /* nobody may have one of these */
        size_t n_dmabufs;
        char *held_by;
        bool kept; /* the file was open before: it is never closed because somebody else has it too */
        bool observe; /* nothing is opened: only who has it */
        bool ignore_inaccessible;
} RegionOpening;

static RegionOpening *region_opening_free(RegionOpening *o) {
        if (!o)
                return NULL;
        provider_free(o->provider);
        ranges_done(&o->retired);
        free(o->dmabufs);
        free(o->held_by);
        free(o->lax);
        return mfree(o);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(RegionOpening *, region_opening_free)

/* 1: somebody else maps the device (NULL: there is none) or a dma-buf of it, or has it open (named in held_by if memory allows), 0:
 * nobody. */
static int find_others(RegionOpening *o, const HolderDevice *device) {
        _cleanup_free_ HolderDevice *devices = NULL;
        _cleanup_holder_list_ HolderList list = {};
        HolderScan scan = {
                        .store = o->kept ? fd_store_manager() : 0, /* it came from there */
                        .ignore_inaccessible = o->ignore_inaccessible,
        };
        int r;

        scan.devices = devices = calloc(o->n_dmabufs + 1, sizeof(*devices));
        if (!devices)
                return -ENOMEM;
        if (device)
                devices[scan.n_devices++] = *device;
        for (size_t i = 0; i < o->n_dmabufs; i++)
                devices[scan.n_devices++] =
                                (HolderDevice){.dev = o->dmabufs[i].dev, .ino = o->dmabufs[i].ino};
        r = holders_scan(&scan, &list);
        if (r < 0)
                return r;
        if (list.n == 0)
                return 0;
        free(o->held_by);
        if (holder_describe(list.items, &o->held_by) < 0)
                o->held_by = NULL;
        return 1;
}

/* 1: somebody has the device, by whichever node, or has had it since before it went and came back. */
static int find_holder(RegionOpening *o) {
        HolderDevice device = {.size = o->provider->size};
        struct stat st;
        int r;

        r = provider_identify(o->provider, &st);
        if (r == -ENOENT && o->n_dmabufs > 0)
                return find_others(o, NULL);
        if (r < 0)
                return r;
        device.rdev = S_ISCHR(st.st_mode) ? st.st_rdev : 0;
        device.dev = st.st_dev;
        device.ino = st.st_ino;
        return find_others(o, &device);
}

static int find_and_open(RegionOpening *o) {
        Provider *p = o->provider;
        HolderDevice device;
        int r;

        if (o->observe) {
                r = find_holder(o);
                return r == -ENOENT ? 0
                                    : r; /* simulated ones have no node that somebody could open */
        }
        if (!o->kept) {
                /* A driver that has let go of a device knows nothing of those who map it still; the open of its
                 * successor, the same memory, would wipe what they have there. */
                r = find_holder(o);
                if (r > 0)
                        return -EBUSY;
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        /* Nobody shall map it behind our back, not even between this and the proof. */
        r = o->enforce ? enforce_close_gate(o->enforce, o->devnum) : 0;
        if (r < 0)
                return r;
        if (!o->kept) {
                r = provider_open(p);
                if (r == -EBUSY)
                        (void) find_holder(o);
                if (r < 0)
                        return r;
        }
        /* Some drivers share the region with whoever had it before, so an open that worked proves nothing: probing and
         * scrubbing must not touch memory that somebody uses. */
        device = (HolderDevice){.rdev = p->rdev,
                                .dev = p->dev,
                                .ino = p->ino,
                                .size = p->size,
                                .offsets = true};
        r = find_others(o, &device);
        if (r != 0) {
                if (!o->kept)
                        provider_close(p);
                return r < 0 ? r : -EBUSY;
        }
        if (atomic_load(&o->cancelled)) {
                provider_close(p);
                return -ECANCELED;
        }
        r = provider_probe(p);
        if (r >= 0)
                o->enforced = confine_region(o->enforce, p, o->devnum, &o->lax);
        if (r >= 0)
                r = provider_retired(p, &o->retired);
        /* One from before a restart may be the only one that there will ever be. */
        if (r < 0 && !o->kept)
                provider_close(p);
        return r;
}

static int open_work(void *userdata) {
        RegionOpening *o = userdata;
        int r = find_and_open(o);

        /* What we do not have others use by its path. */
        if (o->enforce && (r < 0 || o->observe) && o->provider->fd < 0)
                (void) enforce_open_gate(o->enforce, o->devnum);
        return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Region *r = userdata;
        int k;

        k = region_open_start(r, NULL);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to try again: %m", r->name);
        return 0;
}

static void start_later(Region *r, uint64_t delay) {
        int k;

        r->retry = sd_event_source_disable_unref(r->retry);
        k = sd_event_add_time_relative(r->manager->event, &r->retry, CLOCK_MONOTONIC, delay,
                                       delay / 4, on_retry, r);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to set a timer: %m", r->name);
}

static void retry_later(Region *r) {
        start_later(r, backoff_usec(RETRY_MIN_USEC, RETRY_MAX_USEC, r->n_tries++));
}

static void held_elsewhere(Region *r, RegionOpening *o) {
        _cleanup_free_ char *who = NULL;

        if (o->held_by && asprintf(&who, "held by %s", o->held_by) < 0)
                who = NULL;
        /* Quietly while it stays the same. */
        if (r->state != REGION_HELD_ELSEWHERE || !streq_ptr(r->held_by, who))
                log_warning("%s: cannot be lent: %s; trying again", r->name,
                            who ?: "held by a process that could not be found");
        r->provider = TAKE_PTR(o->provider);
        region_set_held(r,
                        who ? "held by another process"
                            : "held by a process that could not be found",
                        who);
        retry_later(r);
}

static void opened_badly(Region *r, RegionOpening *o, int error) {
        _cleanup_free_ char *why = NULL;

        if (error == -EBUSY) {
                held_elsewhere(r, o);
                return;
        }
        if (asprintf(&why, "opening failed: %s", strerror(-error)) < 0)
                why = NULL;
        /* Quietly while it stays the same. */
        if (r->state != REGION_FAILED || !streq_ptr(r->reason, why))
                log_warning("%s: cannot be lent: %s; trying again", r->name,
                            why ?: "out of memory");
        r->provider = TAKE_PTR(o->provider);
        region_set_state(r, REGION_FAILED, why);
        retry_later(r);
}

/* Nothing of it is ours to clean any more, and nobody need wait for that: it was handed over by path, and the mode has changed
 * since. */
static void let_go(Region *r) {
        if (!r->map)
                return;
        manager_range_clean(r->manager, r, 0, extent_map_size(r->map));
        r->map = extent_map_free(r->map);
        ranges_done(&r->retired);
}

static void observed(Region *r, RegionOpening *o, int found) {
        _cleanup_free_ char *why = NULL, *who = NULL;
        int k = 0;

        if (found < 0)
                k = asprintf(&why, "observed only; who has it cannot be found out: %s",
                             strerror(-found));
        else
                why = strdup(found > 0 ? "observed only; held by another process"
                                       : "observed only; nobody has it");
        if (k < 0)
                why = NULL;
        if (found > 0 && o->held_by && asprintf(&who, "observed only; held by %s", o->held_by) < 0)
                who = NULL;
        if (!streq_ptr(r->reason, why) || !streq_ptr(r->held_by, who))
                log_info("%s: %s", r->name, who ?: why ?: "observed only");
        r->provider = TAKE_PTR(o->provider);
        let_go(r);
        region_set_held(r, why, who);
        start_later(r, OBSERVE_USEC);
}

/* For good: drivers do not change while they have the device. It is somebody else's to open. */
static void cannot_be_shared(Region *r, RegionOpening *o) {
        log_error("%s: cannot be lent: %s", r->name, CANNOT_BE_SHARED);
        provider_close(o->provider);
        confine_let_region_go(r);
        forget_region(r);
        let_go(r);
        r->forbidden = CANNOT_BE_SHARED;
        region_set_state(r, REGION_FAILED, CANNOT_BE_SHARED);
}

int region_set_map(Region *r, Provider *p, const Ranges *retired) {
        _cleanup_(extent_map_freep) ExtentMap *map = NULL;
        uint64_t size = align_down(p->size, p->granule);
        int k;

        assert(r);
        assert(!r->provider);

        k = extent_map_new(size, p->granule, &map);
        if (k < 0)
                return k;
        if (size != p->size)
                log_notice("%s: size %#" PRIx64 " is not a multiple of %s; the last %" PRIu64
                           " bytes stay unused",
                           r->name, p->size, FORMAT_SIZE(p->granule), p->size - size);
        r->provider = p;
        extent_map_free(r->map);
        r->map = TAKE_PTR(map);
        ranges_done(&r->retired);
        r->retired_unknown = false;
        r->n_tries = 0;
        RANGES_FOREACH (i, retired)
                if (i->offset < size)
                        r->retired_unknown |=
                                        region_retire(r, i->offset, MIN(i->size, size - i->offset),
                                                      NULL) < 0;
        /* Of a larger one that it was before, what lay behind its end is gone, and nothing is to wait for it. */
        manager_range_clean(r->manager, r, size, UINT64_MAX - size);
        return 0;
}

int region_set_open(Region *r, Provider *p, const Ranges *retired) {
        int k;

        k = region_set_map(r, p, retired);
        if (k < 0)
                return k;
        if (r->mode == REGION_MODE_SHARED && !p->offsets)
                r->forbidden = CANNOT_BE_SHARED;
        log_info("%s: ready: %s, node %i, socket %i, %zu GPUs, %s retired, %s", r->name,
                 FORMAT_SIZE(extent_map_size(r->map)), r->info->node, r->info->socket,
                 r->info->n_gpus, FORMAT_SIZE(ranges_bytes(&r->retired)),
                 p->offsets ? "sub-ranges can be lent" : "can only be lent as a whole");
        region_set_state(r, REGION_READY, NULL);
        return 0;
}

static int opened_well(Region *r, RegionOpening *o) {
        int k;

        confine_set_region(r, o->enforced, TAKE_PTR(o->lax));
        k = region_set_open(r, o->provider, &o->retired);
        if (k < 0)
                return k;
        (void) TAKE_PTR(o->provider);
        (void) record_region(r);
        dmabuf_forget_lost(r->manager, r->name);
        r->lingered = o->kept && !r->simulated;
        if (r->lingered)
                drain_look(r->manager->drain);
        return 0;
}

static void open_done(int error, void *userdata) {
        _cleanup_(region_opening_freep) RegionOpening *o = userdata;
        Region *r = o->region;

        if (atomic_load(&o->cancelled)) {
                r->orphan = NULL;
                provider_close(o->provider);
                region_settle(r);
                return;
        }
        r->opening = NULL;
        if (o->observe) {
                observed(r, o, error);
                return;
        }
        if (error >= 0 && r->mode == REGION_MODE_SHARED && !o->provider->offsets) {
                cannot_be_shared(r, o);
                return;
        }
        if (error >= 0)
                error = opened_well(r, o);
        if (error < 0) {
                if (o->provider && !o->kept)
                        provider_close(o->provider);
                opened_badly(r, o, error);
                return;
        }
        region_scrub_kick(r);
        manager_serve_waiters(r->manager);
}

int region_make_provider(Region *r, Provider **ret) {
        if (r->provider) {
                *ret = TAKE_PTR(r->provider);
                (*ret)->size = r->info->size ?: (*ret)->size;
                return 0;
        }
        if (r->manager->simulation)
                return simulation_make_provider(r->manager->simulation, r->name, ret);
        return provider_nvgrace_new(r->name, r->info->devnode, r->info->devnum, r->info->size, ret);
}

int region_open_start(Region *r, Provider *provider) {
        _cleanup_(provider_freep) Provider *p = provider;
        _cleanup_(region_opening_freep) RegionOpening *o = NULL;
        int k;

        assert(r);
        assert(!r->opening);

        r->retry = sd_event_source_disable_unref(r->retry);
        if (r->mode == REGION_MODE_SHARED)
                r->forbidden = NULL; /* till the driver is known */
        if (r->no_open && r->mode != REGION_MODE_OBSERVE) {
                log_notice("%s: left alone: a region of this name may overlap the host's own "
                           "memory, and opening "
                           "it would wipe that",
                           r->name);
                region_set_state(r, REGION_FAILED,
                                 "left alone: opening a region of this name may wipe host memory");
                return 0;
        }
        if (!p && r->info->size < provider_granule()) {
                region_set_state(r, REGION_FAILED,
                                 r->info->size_problem ?: "the driver gives no usable size");
                log_warning("%s: cannot be used: %s", r->name, r->reason ?: "no size");
                return 0;
        }
        if (!p) {
                k = region_make_provider(r, &p);
                if (k < 0)
                        return k;
        }
        o = malloc(sizeof(*o));
        if (!o)
                return -ENOMEM;
        *o = (RegionOpening){
                        .region = r,
                        .provider = TAKE_PTR(p),
                        .observe = r->mode == REGION_MODE_OBSERVE,
                        .ignore_inaccessible = r->manager->ignore_inaccessible,
                        .enforce = r->simulated ? NULL : r->manager->enforce,
                        .devnum = r->info->devnum,
        };
        o->kept = o->provider->fd >= 0;
        k = dmabuf_list_lost(r->manager, r->name, &o->dmabufs, &o->n_dmabufs);
        if (k >= 0)
                k = worker_start(r->manager->event, r->name, open_work, open_done, o, &o->worker);
        if (k < 0) {
                r->provider = TAKE_PTR(o->provider);
                retry_later(r);
                return k;
        }
        if (o->observe && r->state != REGION_HELD_ELSEWHERE)
                region_set_state(r, REGION_HELD_ELSEWHERE, "observed only");
        else if (!o->observe && r->n_tries == 0)
                region_set_state(r, REGION_OPENING, "being opened: the kernel clears it");
        r->opening = TAKE_PTR(o);
        return 0;
}

void region_open_cancel(Region *r) {
        assert(r);

        r->retry = sd_event_source_disable_unref(r->retry);
        if (!r->opening)
                return;
        assert(!r->orphan);
        atomic_store(&r->opening->cancelled, true);
        r->orphan = TAKE_PTR(r->opening);
}

void region_open_abandon(Region *r) {
        assert(r);

        region_open_cancel(r);
        if (r->orphan)
                worker_abandon(r->orphan->worker);
        r->orphan = NULL;
}
