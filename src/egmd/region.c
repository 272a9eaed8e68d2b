/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "log.h"
#include "manager.h"
#include "region-open.h"
#include "region-scrub.h"
#include "restore.h"
#include "records.h"
#include "size.h"
#include "string-table.h"

static const char *const region_state_table[_REGION_STATE_MAX] = {
                [REGION_OPENING] = "opening",
                [REGION_READY] = "ready",
                [REGION_HELD_ELSEWHERE] = "held-elsewhere",
                [REGION_FAILED] = "failed",
                [REGION_GONE] = "gone",
                [REGION_DELEGATED] = "delegated",
};
DEFINE_STRING_TABLE(region_state, RegionState)

Region *region_free(Region *r) {
        if (!r)
                return NULL;
        region_open_abandon(r);
        region_scrub_stop(r);
        assert(TAILQ_EMPTY(&r->draining));
        assert(TAILQ_EMPTY(&r->scrubbing));
        assert(!r->scrubs); /* jobs hold the provider: the scrubber goes before its regions */
        r->scrub_retry = sd_event_source_disable_unref(r->scrub_retry);
        provider_free(r->provider);
        extent_map_free(r->map);
        ranges_done(&r->retired);
        region_info_free(r->info);
        free(r->gpus);
        free(r->reason);
        free(r->held_by);
        free(r->lax);
        free(r->name);
        return mfree(r);
}

static int region_set_info(Region *r, const RegionInfo *info) {
        _cleanup_(region_info_freep) RegionInfo *copy = NULL;
        _cleanup_free_ const char **gpus = NULL;
        int k;

        k = region_info_copy(info, &copy);
        if (k < 0)
                return k;
        gpus = calloc(info->n_gpus + 1, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        for (size_t i = 0; i < copy->n_gpus; i++)
                gpus[i] = copy->gpus[i].address;
        region_info_free(r->info);
        r->info = TAKE_PTR(copy);
        free(r->gpus);
        r->gpus = TAKE_PTR(gpus);
        return 0;
}

int region_begin(Region *r) {
        _cleanup_(provider_freep) Provider *p = NULL;
        int k;

        assert(r);

        r->simulated = r->manager->simulation;
        if (r->manager->state) {
                k = state_region_is_closed(r->manager->state, r->name);
                if (k < 0) {
                        if (r->manager->restore)
                                r->manager->restore->error = k;
                        return k;
                }
                r->schedulable = k == 0;
        }
        /* Lower names exist only where firmware runs without a hypervisor carveout: the region may be host memory. */
        r->no_open = !r->simulated && !config_region_allowed(r->manager->config, r->info->pxm);
        if (r->manager->restore && !r->no_open && r->info->size >= provider_granule()) {
                k = region_make_provider(r, &p);
                if (k < 0)
                        return k;
                if (restore_region(r, p) > 0) {
                        (void) TAKE_PTR(p);
                        return 0;
                }
                if (r->manager->restore->error < 0)
                        return r->manager->restore->error;
                if (r->mode == REGION_MODE_OBSERVE)
                        forget_region(r);
        }
        return region_open_start(r, TAKE_PTR(p));
}

int region_new(Manager *m, const RegionInfo *info, Region **ret) {
        _cleanup_(region_freep) Region *r = NULL;
        int k;

        assert(m);
        assert(info);
        assert(ret);

        r = malloc(sizeof(*r));
        if (!r)
                return -ENOMEM;
        *r = (Region){.manager = m, .state = REGION_OPENING, .schedulable = true};
        TAILQ_INIT(&r->draining);
        TAILQ_INIT(&r->scrubbing);
        r->name = strdup(info->name);
        if (!r->name)
                return -ENOMEM;
        k = region_set_info(r, info);
        if (k < 0)
                return k;
        r->mode = config_region_mode(m->config, info->name);
        if (r->mode == REGION_MODE_OBSERVE)
                r->forbidden = "observed only";
        *ret = TAKE_PTR(r);
        return 0;
}

int region_update(Region *r, const RegionInfo *info) {
        uint64_t old_size;
        int k;

        assert(r);

        old_size = r->info->size;
        k = region_set_info(r, info);
        if (k < 0)
                return k;
        if (info->size != old_size) {
                if (r->map)
                        /* What is mapped and lent was measured by the old size: it stays. */
                        log_warning("%s: size changed from %s to %s while in use, ignored until it "
                                    "is opened again",
                                    r->name, FORMAT_SIZE(old_size), FORMAT_SIZE(info->size));
                else if (r->state == REGION_FAILED && !r->opening)
                        (void) region_open_start(r, NULL);
        }
        return 0;
}

void region_vanish(Region *r) {
        assert(r);

        region_open_cancel(r);
        region_scrub_stop(r);
        region_set_state(r, REGION_GONE, "the device has gone");
        forget_region(r);
        manager_region_lost(r->manager, r);
        /* Its gate stays closed: who has a descriptor of it still must not find its successor behind that. */
        r->enforced = false;
        r->map = extent_map_free(r->map);
        ranges_done(&r->retired);
        region_settle(r);
}

int region_return(Region *r, const RegionInfo *info) {
        int k;

        assert(r);
        assert(r->state == REGION_GONE);

        k = region_set_info(r, info);
        if (k < 0)
                return k;
        r->returning = true;
        region_settle(r);
        return 0;
}

void region_settle(Region *r) {
        int k;

        assert(r);

        if (r->state != REGION_GONE || r->scrubs || r->orphan)
                return;
        r->provider = provider_free(r->provider);
        if (!r->returning)
                return;
        r->returning = false;
        r->n_tries = 0;
        r->n_scrub_failures = 0;
        k = region_open_start(r, NULL);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to open it again: %m", r->name);
}

static void set_state(Region *r, RegionState state, const char *reason, const char *held_by) {
        assert(r);

        if (r->state == state && streq_ptr(r->reason, reason) && streq_ptr(r->held_by, held_by))
                return;
        r->state = state;
        if (free_and_strdup(&r->reason, reason) < 0 || free_and_strdup(&r->held_by, held_by) < 0)
                (void) log_oom();
        manager_region_changed(r->manager, r);
}

void region_set_state(Region *r, RegionState state, const char *reason) {
        set_state(r, state, reason, NULL);
}

void region_set_held(Region *r, const char *reason, const char *held_by) {
        set_state(r, REGION_HELD_ELSEWHERE, reason, held_by);
}

bool region_ignores_offsets(const Region *r) {
        assert(r);
        /* Without a provider, while it is being opened once more, nothing is proven. */
        return r->map && !(r->provider && r->provider->offsets);
}

bool region_whole_only(const Region *r) {
        assert(r);
        return region_ignores_offsets(r) || (r->map && r->mode == REGION_MODE_WHOLE);
}

bool region_may_lend(const Region *r) {
        assert(r);
        return !r->no_open && !r->forbidden && r->state != REGION_GONE;
}

uint64_t region_granule(const Region *r) {
        assert(r);
        return r->map ? extent_map_granule(r->map) : provider_granule();
}

/* A lease in a whole-only region keeps all the rest from being lent. */
static bool region_blocked_whole(const Region *r) {
        return region_whole_only(r) && extent_map_owned(r->map) > 0;
}

uint64_t region_largest_free(const Region *r) {
        Extent e;

        assert(r);

        if (!r->map || region_blocked_whole(r))
                return 0;
        if (!region_whole_only(r))
                return extent_map_largest_free(r->map);
        return extent_map_get(r->map, 0, &e) && e.state == EXTENT_FREE ? e.size : 0;
}

void region_placement(const Region *r, PlacementRegion *ret) {
        bool scrubbed_whole;

        assert(r);
        assert(ret);

        /* Such a driver checks no lengths: a holder could write behind a scrub that is under way. */
        scrubbed_whole = region_ignores_offsets(r) && r->scrubs;
        *ret = (PlacementRegion){
                        .name = r->name,
                        .gpus = (const char *const *) r->gpus,
                        .node = r->info->node,
                        .socket = r->info->socket,
                        .map = r->map,
                        .ready = r->state == REGION_READY && r->schedulable && !r->forbidden &&
                                 !r->retired_unknown && !scrubbed_whole,
                        .why = r->state != REGION_READY ? r->reason
                               : r->forbidden           ? r->forbidden
                               : scrubbed_whole         ? "being scrubbed as a whole"
                               : r->retired_unknown     ? "its list of retired pages cannot be read"
                                                        : "switched off for maintenance",
                        .whole_only = region_whole_only(r),
                        .no_dmabuf = r->state == REGION_READY && r->provider &&
                                                                     !r->provider->exports
                                                     ? region_driver(r)
                                                     : NULL,
        };
}

int region_retire(Region *r, uint64_t offset, uint64_t size, uint64_t *ret_new) {
        uint64_t fresh = 0;
        int k;

        assert(r);
        assert(r->map);

        k = ranges_add(&r->retired, offset, size);
        if (k >= 0)
                k = extent_map_retire(r->map, offset, size, &fresh);
        if (k < 0)
                return log_error_errno(k, "%s: failed to retire %#" PRIx64 "+%#" PRIx64 ": %m",
                                       r->name, offset, size);
        if (fresh > 0) {
                /* No scrub will come past it any more: nobody need wait for that. */
                manager_range_clean(r->manager, r, offset, size);
                manager_region_changed(r->manager, r);
        }
        if (ret_new)
                *ret_new = fresh;
        return 0;
}

/* Tells every lease that has bytes in the freshly retired range. */
static void tell_leases(Region *r, uint64_t offset, uint64_t size) {
        Extent e;

        for (uint64_t at = offset; at < offset + size && extent_map_get(r->map, at, &e);
             at = e.offset + e.size) {
                _cleanup_ranges_ Ranges pages = {};
                uint64_t start = MAX(e.offset, offset), end = MIN(e.offset + e.size, offset + size);
                Lease *l;

                if (start >= end)
                        break;
                if (e.owner == 0)
                        continue;
                l = manager_find_lease(r->manager, e.owner);
                if (!l || ranges_add(&pages, start, end - start) < 0)
                        continue;
                manager_lease_retired(r->manager, l, r->name, &pages);
        }
}

/* What is new in its list must not get into a lease. */
static void set_retired_unknown(Region *r, int error) {
        if (!r->retired_unknown) {
                (void) log_warning_errno(error,
                                         "%s: failed to read the list of retired pages; "
                                         "nothing more of it is lent until it can be: %m",
                                         r->name);
                (void) sd_event_source_set_time_relative(r->manager->poll_source,
                                                         REGION_POLL_AGAIN_USEC);
        }
        r->retired_unknown = true;
}

void region_poll_retired(Region *r) {
        _cleanup_ranges_ Ranges list = {};
        int k, error;

        assert(r);

        if (r->state != REGION_READY || !r->provider)
                return;
        error = provider_retired(r->provider, &list);
        RANGES_FOREACH (i, &list) {
                uint64_t end = MIN(i->offset + i->size, extent_map_size(r->map)), fresh;

                if (error < 0 || i->offset >= end)
                        continue;
                k = region_retire(r, i->offset, end - i->offset, &fresh);
                if (k < 0) {
                        error = k;
                        continue;
                }
                if (fresh == 0)
                        continue;
                log_warning("%s: %s of retired pages at %#" PRIx64 "+%#" PRIx64 " are new", r->name,
                            FORMAT_SIZE(fresh), i->offset, end - i->offset);
                tell_leases(r, i->offset, end - i->offset);
        }
        if (error < 0) {
                set_retired_unknown(r, error);
                return;
        }
        if (r->retired_unknown) {
                r->retired_unknown = false;
                manager_serve_waiters(r->manager);
        }
}

int region_set_schedulable(Region *r, bool schedulable) {
        int k;

        assert(r);

        if (r->schedulable == schedulable)
                return 0;
        k = record_schedulable(r, schedulable);
        if (k < 0)
                return k;
        r->schedulable = schedulable;
        log_notice("%s: lending switched %s", r->name, schedulable ? "on" : "off");
        manager_region_changed(r->manager, r);
        if (schedulable)
                manager_serve_waiters(r->manager);
        return 0;
}

const char *region_driver(const Region *r) {
        assert(r);
        return r->simulated ? "sim" : "nvgrace-egm";
}
