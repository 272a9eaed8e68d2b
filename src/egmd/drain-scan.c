/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "confine.h"
#include "drain-claims.h"
#include "drain-scan.h"
#include "fd-store.h"
#include "log.h"

DrainScan *drain_scan_free(DrainScan *s) {
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

static size_t count_dmabufs(const Manager *m) {
        size_t n = 0;
        Lease *l;

        TAILQ_FOREACH (l, &m->with_dmabufs, dmabuf_link)
                n += lease_drains(l) ? l->n_dmabufs : 0;
        return n;
}

/* Of what drains: nobody has reason to look for others. */
static void list_dmabufs(DrainScan *s, const Manager *m) {
        Lease *l;

        TAILQ_FOREACH (l, &m->with_dmabufs, dmabuf_link)
                for (size_t i = 0; lease_drains(l) && i < l->n_dmabufs; i++) {
                        s->dmabuf_of[s->n] = l->id;
                        s->devices[s->n++] = (HolderDevice){.dev = l->dmabufs[i].dev,
                                                            .ino = l->dmabufs[i].ino};
                }
}

int drain_scan_list_devices(DrainScan *s, const Manager *m) {
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
        list_dmabufs(s, m);
        return wanted;
}

bool drain_scan_can_be_quick(const Manager *m) {
        bool any = false;
        const Slice *s;

        if (!m->enforce)
                return false;
        for (size_t i = 0; i < m->n_regions; i++)
                TAILQ_FOREACH (s, &m->regions[i]->draining, phase_link) {
                        if (!drain_scan_is_listed_by_kernel(s))
                                return false;
                        any = true;
                }
        return any;
}

int drain_scan_work(void *userdata) {
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
static const Region *find_region(const Manager *m, const Region *r) {
        for (size_t i = 0; i < m->n_regions; i++)
                if (m->regions[i] == r)
                        return r;
        return NULL;
}

void drain_scan_find_entitled(DrainScan *scan, const Manager *m) {
        bool *entitled = calloc(scan->found.n + 1, sizeof(*entitled));

        if (!entitled) {
                (void) log_oom();
                return;
        }
        for (size_t i = 0; i < scan->found.n; i++) {
                const Holder *h = scan->found.items + i;
                const Region *r = find_region(m, scan->regions[h->device]);

                /* Its device may have gone meanwhile, and its map with it: nothing of it drains then. */
                entitled[i] = r && r->map && claims_allow(m, r, h);
        }
        scan->entitled = entitled;
}

bool drain_scan_is_shut(const DrainScan *scan, const Slice *s) {
        const Region *r = s->region;

        return scan->flights_known && r->enforced && s->lease->revoked;
}

bool drain_scan_is_listed_by_kernel(const Slice *s) {
        const Region *r = s->region;
        const Lease *l = s->lease;

        /* Dma-bufs are not among these: who has one open only /proc tells. */
        return r->enforced && l->revoked && confine_holds(l) && !l->unclaimed && l->n_dmabufs == 0;
}

bool drain_scan_is_mapped(const DrainScan *scan, const Slice *s, pid_t pid) {
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

bool drain_scan_is_awaited(const DrainScan *scan, const Slice *s) {
        for (size_t i = 0; i < scan->look.n_flights; i++)
                if (scan->look.flights[i].under_way && may_have(scan->look.flights + i, s))
                        return true;
        for (size_t i = 0; i < scan->n_flights_after; i++)
                if (may_have(scan->flights_after + i, s) &&
                    !was_there(scan, scan->flights_after + i))
                        return true;
        return false;
}

bool drain_scan_holds_up(const DrainScan *scan, size_t i, const Slice *s) {
        const Holder *h = scan->found.items + i;

        /* Whoever has a dma-buf open may have a device use what it is of. No gate is on its way, and nobody is entitled to it once the
         * lease is over. */
        if (scan->dmabuf_of[h->device] != 0)
                return scan->dmabuf_of[h->device] == s->lease->id && (h->has_fd || h->maps);
        if (scan->regions[h->device] != s->region)
                return false;
        return ranges_overlap(&h->mapped, s->offset, s->size) ||
               drain_scan_is_mapped(scan, s, h->pid) ||
               (h->has_fd && !drain_scan_is_shut(scan, s) &&
                !(scan->entitled && scan->entitled[i]));
}

bool drain_scan_looked_at(const DrainScan *scan, const Region *r) {
        for (size_t i = 0; i < scan->n; i++)
                if (scan->regions[i] == r)
                        return true;
        return false;
}

static bool holds_up_lease(const DrainScan *scan, size_t k, const Lease *l) {
        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].phase == SLICE_DRAINING &&
                    drain_scan_holds_up(scan, k, l->slices + i))
                        return true;
        return false;
}

static bool is_named(const Lease *l, const Holder *h) {
        for (size_t i = 0; i < l->n_blockers; i++)
                if (l->blockers[i].pid == h->pid && l->blockers[i].start_time == h->start_time)
                        return true;
        return false;
}

bool drain_scan_names_are_right(const DrainScan *scan, const Lease *l) {
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
