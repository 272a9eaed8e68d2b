/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <time.h>

#include "accounts.h"
#include "confine.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"
#include "records.h"
#include "region-delegate.h"
#include "region-scrub.h"
#include "turn.h"

uint64_t manager_now_usec(const Manager *m) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

static int on_poll(sd_event_source *s, uint64_t usec, void *userdata) {
        Manager *m = userdata;
        uint64_t next = m->config->poll_retired_usec;

        for (size_t i = 0; i < m->n_regions; i++) {
                Region *r = m->regions[i];

                region_poll_retired(r);
                if (r->retired_unknown)
                        next = MIN(next, REGION_POLL_AGAIN_USEC);
                if (r->unstored && r->state == REGION_READY)
                        (void) record_region(r);
                /* For want of memory nothing else may come back to it. */
                region_scrub_kick(r);
        }
        drain_resume(m->drain);
        confine_check(m);
        (void) sd_event_source_set_time_relative(s, next);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int set_scrub_cpus(Manager *m) {
        const Config *c = m->config;

        if (c->n_scrub_cpus == 0)
                return 0;
        m->scrub_cpus = CPU_ALLOC(CONFIG_CPU_MAX + 1);
        if (!m->scrub_cpus)
                return -ENOMEM;
        CPU_ZERO_S(CPU_ALLOC_SIZE(CONFIG_CPU_MAX + 1), m->scrub_cpus);
        for (size_t i = 0; i < c->n_scrub_cpus; i++)
                CPU_SET_S(c->scrub_cpus[i], CPU_ALLOC_SIZE(CONFIG_CPU_MAX + 1), m->scrub_cpus);
        return 0;
}

static int start_scrubber(Manager *m) {
        const Config *c = m->config;
        ScrubConfig scrub = {
                        .threads = (unsigned) c->scrub_threads,
                        .bandwidth = c->scrub_bandwidth == UINT64_MAX ? 0 : c->scrub_bandwidth,
                        .verify = c->verify == CONFIG_VERIFY_WHOLE ? SCRUB_VERIFY_ALL
                                                                   : SCRUB_VERIFY_SAMPLES,
                        .topology = m->topology,
                        .cpus_size = CPU_ALLOC_SIZE(CONFIG_CPU_MAX + 1),
        };
        int r;

        r = set_scrub_cpus(m);
        if (r < 0)
                return r;
        scrub.cpus = m->scrub_cpus;
        return scrubber_new(m->event, &scrub, &m->scrubber);
}

int manager_new(sd_event *event, const Config *config, Manager **ret) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r;

        assert(event);
        assert(config);
        assert(ret);

        m = malloc(sizeof(*m));
        if (!m)
                return -ENOMEM;
        *m = (Manager){.event = sd_event_ref(event), .config = config, .next_lease_id = 1};
        RB_INIT(&m->leases);
        RB_INIT(&m->lifelines);
        TAILQ_INIT(&m->with_dmabufs);
        TAILQ_INIT(&m->waiters);
        TAILQ_INIT(&m->over);
        r = accounts_new(m);
        if (r < 0)
                return r;
        r = topology_new(&m->topology);
        if (r < 0)
                return r;
        r = start_scrubber(m);
        if (r < 0)
                return r;
        r = drain_new(m, &m->drain);
        if (r < 0)
                return r;
        r = watcher_new(m, &m->watcher);
        if (r < 0)
                return r;
        /* No kernel tells of new retired pages. */
        r = sd_event_add_time_relative(event, &m->poll_source, CLOCK_MONOTONIC,
                                       config->poll_retired_usec, config->poll_retired_usec / 4,
                                       on_poll, m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static void unlink_over(Manager *m, Slice *s) {
        TAILQ_REMOVE(&m->over, s, phase_link);
        s->is_over = false;
}

static void unlink_slice(Manager *m, Slice *s) {
        Region *region = s->region;

        if (s->is_over)
                unlink_over(m, s);
        if (!region)
                return; /* from a record, and not taken up again */
        if (s->phase == SLICE_DRAINING)
                drain_remove(m->drain, s);
        else if (s->phase == SLICE_SCRUBBING)
                TAILQ_REMOVE(&region->scrubbing, s, phase_link);
}

static void free_lease(Manager *m, Lease *l) {
        for (size_t i = 0; i < l->n_slices; i++)
                unlink_slice(m, l->slices + i);
        RB_REMOVE(LeaseTree, &m->leases, l);
        if (l->n_dmabufs > 0)
                TAILQ_REMOVE(&m->with_dmabufs, l, dmabuf_link);
        if (!l->hidden)
                m->n_leases--;
        accounts_lease_over(l);
        l->lifeline = lifeline_free(l->lifeline);
        lease_free(l);
}

Manager *manager_free(Manager *m) {
        Lease *l;

        if (!m)
                return NULL;
        m->stopping = true;
        m->observer = NULL;
        m->discovery = discovery_free(m->discovery);
        manager_drop_waiters(m);
        while ((l = RB_MIN(LeaseTree, &m->leases)))
                free_lease(m, l);
        accounts_free(m);
        m->drain = drain_free(m->drain);
        m->watcher = watcher_free(m->watcher);
        /* Joins the threads: from here on nobody uses a provider. */
        for (size_t i = 0; i < m->n_regions; i++)
                region_scrub_stop(m->regions[i]);
        m->scrubber = scrubber_free(m->scrubber);
        for (size_t i = 0; i < m->n_regions; i++) {
                region_scrub_forget(m->regions[i]);
                region_free(m->regions[i]);
        }
        free(m->regions);
        for (size_t i = 0; i < m->n_unsupported; i++)
                free(m->unsupported[i].address);
        free(m->unsupported);
        m->simulation = simulation_free(m->simulation);
        topology_free(m->topology);
        if (m->scrub_cpus)
                CPU_FREE(m->scrub_cpus);
        m->poll_source = sd_event_source_disable_unref(m->poll_source);
        m->over_source = sd_event_source_disable_unref(m->over_source);
        state_free(m->state);
        /* Not m->enforce: a worker that was left alone in the kernel may come back to it. */
        free(m->lax);
        sd_event_unref(m->event);
        return mfree(m);
}

void manager_set_state(Manager *m, State *state) {
        assert(m);
        assert(!m->state);

        m->state = state;
}

void manager_set_observer(Manager *m, const ManagerObserver *observer, void *userdata) {
        assert(m);

        m->observer = observer;
        m->observer_userdata = userdata;
}

Lease *manager_find_lease(const Manager *m, uint64_t id) {
        Lease key = {.id = id};

        assert(m);
        return RB_FIND(LeaseTree, (LeaseTree *) &m->leases, &key);
}

/* ---- a lease comes and ends ---- */

void manager_insert_lease(Manager *m, Lease *l) {
        l->manager = m;
        RB_INSERT(LeaseTree, &m->leases, l);
        if (l->lifeline)
                lifeline_list(l->lifeline, &m->lifelines);
        if (l->n_dmabufs > 0)
                TAILQ_INSERT_TAIL(&m->with_dmabufs, l, dmabuf_link);
        if (!l->hidden)
                m->n_leases++;
}

void manager_add_lease(Manager *m, Lease *l) {
        assert(l->lifeline);

        manager_insert_lease(m, l);
        m->counters.granted++;
        for (size_t i = 0; i < l->n_slices; i++)
                manager_region_changed(m, l->slices[i].region);
        if (m->observer)
                m->observer->lease_added(l, m->observer_userdata);
}

/* Nothing keeps it: every slice it still has drains. */
static void end_lease(Manager *m, Lease *l) {
        /* First: what drains must not be mapped anew. */
        confine_revoke(m, l);
        for (size_t i = 0; i < l->n_slices; i++) {
                Slice *s = l->slices + i;
                Region *region = s->region;
                int r;

                if (s->phase != SLICE_LEASED)
                        continue;
                r = extent_map_drain(region->map, s->offset, s->size, l->id);
                if (r < 0) {
                        /* It stays leased in the books, so nobody else gets it. */
                        (void) log_error_errno(r, "Lease %" PRIu64 ": failed to drain %s: %m",
                                               l->id, s->region_name);
                        continue;
                }
                s->phase = SLICE_DRAINING;
                region_take_back(region); /* nobody else comes in, from here on */
                drain_add(m->drain, s);
                manager_region_changed(m, region);
        }
        manager_lease_changed(m, l);
}

static void collect_lease(Manager *m, Lease *l) {
        if (!lease_is_over(l))
                return;
        log_debug("Lease %" PRIu64 " is over", l->id);
        if (!l->unclaimed)
                (void) forget_lease(m, l->id);
        if (!l->hidden) {
                m->counters.ended++;
                if (m->observer)
                        m->observer->lease_removed(l, m->observer_userdata);
        }
        free_lease(m, l);
}

static void let_go(Manager *m, Lease *l, const char *why) {
        log_debug("Lease %" PRIu64 ": released: %s", l->id, why);
        l->released = true;
        /* Nothing brings it back, so the descriptors are not kept for as long as it drains. */
        l->lifeline = lifeline_free(l->lifeline);
        l->lifetime_open = false;
        l->n_bound = 0;
        end_lease(m, l);
        collect_lease(m, l);
}

int manager_release(Manager *m, Lease *l, const char *why) {
        int r;

        assert(m);
        assert(l);

        if (l->released)
                return 0;
        l->released = true;
        r = record_lease(m, l);
        if (r < 0) {
                l->released = false;
                return r;
        }
        let_go(m, l, why);
        return 0;
}

void manager_check_lease(Manager *m, Lease *l) {
        if (lease_is_kept(l))
                return;
        if (!l->released)
                /* Not written down: whoever comes after us will find nothing that keeps it, as we did. */
                let_go(m, l, "nothing keeps it any more");
        else
                collect_lease(m, l);
}

/* ---- a slice's way back ---- */

int manager_slice_drained(Manager *m, Slice *s) {
        Region *region = s->region;
        Lease *l = s->lease;
        int r;

        assert(s->phase == SLICE_DRAINING);

        /* Once its bytes can be somebody else's, no record may say that they are this lease's. The other way round
         * does no harm: bytes that no record claims are looked after by whoever comes after us. */
        s->phase = SLICE_SCRUBBING;
        r = record_lease(m, l);
        if (r >= 0)
                r = ranges_add(&s->unclean, s->offset, s->size);
        /* The scrubber passes over retired pages. */
        RANGES_FOREACH (i, &region->retired)
                if (r >= 0)
                        r = ranges_remove(&s->unclean, i->offset, i->size);
        /* Such a driver checks no lengths either: the holder may have written anywhere. Done twice it does no harm, so before
         * what cannot be done twice. */
        if (r >= 0 && region_ignores_offsets(region))
                r = extent_map_soil(region->map, 0, extent_map_size(region->map));
        if (r >= 0)
                r = extent_map_reclaim(region->map, s->offset, s->size, l->id);
        if (r < 0) {
                if (!s->is_stuck)
                        (void) log_error_errno(r,
                                               "Lease %" PRIu64
                                               ": failed to reclaim %s, trying again: %m",
                                               l->id, s->region_name);
                s->is_stuck = true;
                ranges_done(&s->unclean);
                s->phase = SLICE_DRAINING;
                return r;
        }
        drain_remove(m->drain, s);
        watcher_slice_drained(m->watcher, s);
        TAILQ_INSERT_TAIL(&region->scrubbing, s, phase_link);
        /* Not by its state: one that has lost memory drains the rest of it, too. */
        if (!lease_drains(l))
                lease_clear_blockers(l);
        manager_region_changed(m, region);
        manager_lease_changed(m, l);
        if (region->state == REGION_DELEGATED)
                region_take_over(region);
        region_scrub_kick(region);
        if (s->unclean.n == 0)
                manager_range_clean(m, region, s->offset, s->size);
        return 0;
}

/* Tells of those that are over, and forgets them, as many as fit into a turn. True: all of them. */
static bool collect_over(Manager *m) {
        Turn turn = turn_begin();
        Slice *s;

        while ((s = TAILQ_FIRST(&m->over))) {
                Lease *l = s->lease;

                unlink_over(m, s);
                if (lease_is_over(l))
                        collect_lease(m, l);
                else
                        manager_lease_changed(m, l);
                if (turn_is_over(&turn))
                        break;
        }
        return TAILQ_EMPTY(&m->over);
}

static int on_over(sd_event_source *source, uint64_t usec, void *userdata);

static void collect_over_in_turns(Manager *m) {
        int r;

        if (collect_over(m)) {
                m->over_source = sd_event_source_disable_unref(m->over_source);
                return;
        }
        r = turn_again(m->event, &m->over_source, on_over, m);
        if (r >= 0)
                return;
        (void) log_error_errno(r, "Failed to go on in another turn: %m");
        while (!collect_over(m))
                ;
}

static int on_over(sd_event_source *source, uint64_t usec, void *userdata) {
        collect_over_in_turns(userdata);
        return 0;
}

void manager_range_clean(Manager *m, Region *region, uint64_t offset, uint64_t size) {
        Slice *s, *next;

        for (s = TAILQ_FIRST(&region->scrubbing); s; s = next) {
                next = TAILQ_NEXT(s, phase_link);
                /* For want of memory it may seem clean too early, and is gone from the list of leases then; nothing is lent by that, and to
                 * wait for what is clean already would be for ever. */
                ranges_cut(&s->unclean, offset, size);
                if (s->unclean.n > 0)
                        continue;
                TAILQ_REMOVE(&region->scrubbing, s, phase_link);
                s->phase = SLICE_DONE;
                accounts_slice_over(s);
                /* The lease's other slices may be in this list too, but it goes only when none is. */
                TAILQ_INSERT_TAIL(&m->over, s, phase_link);
                s->is_over = true;
        }
        if (!m->over_source)
                collect_over_in_turns(m);
}

void manager_region_lost(Manager *m, Region *region) {
        Lease *l, *next;

        for (l = RB_MIN(LeaseTree, &m->leases); l; l = next) {
                bool hit = false;

                next = RB_NEXT(LeaseTree, &m->leases, l);
                for (size_t i = 0; i < l->n_slices; i++) {
                        Slice *s = l->slices + i;

                        if (s->region != region)
                                continue;
                        if (s->phase != SLICE_DONE) {
                                unlink_slice(m, s);
                                s->phase = SLICE_LOST;
                                accounts_slice_over(s);
                                hit = true;
                        }
                        s->region = NULL;
                }
                if (!hit)
                        continue;
                confine_shrink(m, l);
                if (!l->hidden)
                        log_warning("Lease %" PRIu64 " (%s): %s is gone, and its memory with it",
                                    l->id, l->label, region->name);
                (void) record_lease(m, l); /* without it, the device tells the same again */
                manager_lease_changed(m, l);
                collect_lease(m, l);
        }
}

/* ---- news for the observer ---- */

void manager_region_changed(Manager *m, Region *r) {
        if (m->observer)
                m->observer->region_changed(r, m->observer_userdata);
}

/* Somebody uses what no record accounts for: the operator shall see who. */
static void reveal_lease(Manager *m, Lease *l) {
        log_warning("Memory is in use that belongs to no lease that is known; it is kept as lease "
                    "%" PRIu64 " until it no longer is",
                    l->id);
        l->hidden = false;
        m->n_leases++;
        if (record_lease_number(m, l->id) < 0)
                (void) log_oom();
        if (m->observer)
                m->observer->lease_added(l, m->observer_userdata);
}

void manager_lease_changed(Manager *m, Lease *l) {
        if (l->hidden && l->n_blockers > 0)
                reveal_lease(m, l);
        else if (!l->hidden && m->observer)
                m->observer->lease_changed(l, m->observer_userdata);
}

void manager_lease_retired(Manager *m, Lease *l, const char *region, const Ranges *pages) {
        if (m->observer && !l->hidden)
                m->observer->lease_retired(l, region, pages, m->observer_userdata);
}
