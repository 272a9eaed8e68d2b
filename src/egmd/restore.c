/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/stat.h>

#include "accounts.h"
#include "confine.h"
#include "fd-util.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"
#include "pidfd.h"
#include "records.h"
#include "restore.h"
#include "text.h"

void restore_done(Restore *r) {
        assert(r);

        state_content_done(&r->content);
        r->store = fd_store_free(r->store);
}

/* The process that it was bound to, unless that is gone. */
static int restore_bound(Lease *l, const BoundRecord *b) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t start_time;
        int r;

        r = pidfd_new(b->pid, &fd);
        /* A number that somebody else has now. Where no start is known it counts as the same: that keeps a lease too
         * long, never too short. */
        if (r >= 0 && b->start_time != 0 && pidfd_get_start_time(fd, &start_time) >= 0 &&
            start_time != b->start_time)
                return 0;
        /* One that nobody has waited for still has its number. */
        if (r >= 0 && pidfd_is_dead(fd) > 0)
                return 0;
        if (r >= 0)
                r = lifeline_bind(l->lifeline, fd, NULL);
        return r == -ESRCH ? 0 : r;
}

static int restore_lifeline(Manager *m, Lease *l, const LeaseRecord *record) {
        int fd, r;

        r = state_open_lifetime(m->state, l->id, &fd);
        if (r == -ENOENT || r == -EBADMSG) {
                /* Nobody can be found to hold it; a new one says so at once. */
                _cleanup_close_ int holder_fd = -EBADF;

                (void) log_warning_errno(r, "Lease %" PRIu64 ": its lifetime is gone: %m", l->id);
                if (r == -EBADMSG) {
                        r = state_put_lifetime_aside(m->state, l->id);
                        if (r < 0)
                                return r;
                }
                r = state_make_lifetime(m->state, l->id, &fd, &holder_fd);
        }
        if (r < 0)
                return r;
        r = manager_lifeline_adopt(m, l, fd);
        if (r < 0)
                return r;
        /* Now, not when the event loop tells: rights that had been ended would come back until then. */
        l->lifetime_open = !lifeline_hung_up(l->lifeline);
        for (size_t i = 0; i < record->n_bound; i++) {
                r = restore_bound(l, record->bound + i);
                /* To go on without it would end the lease of a process that runs. */
                if (r < 0)
                        return log_error_errno(r,
                                               "Lease %" PRIu64 ": failed to bind pid %i again: %m",
                                               l->id, (int) record->bound[i].pid);
        }
        l->n_bound = lifeline_bound(l->lifeline);
        return 0;
}

static int restore_lease(Manager *m, const LeaseRecord *record) {
        _cleanup_(lease_freep) Lease *l = NULL;
        int r;

        r = lease_new(record->id, record->n_slices, &l);
        if (r < 0)
                return r;
        for (size_t i = 0; i < record->n_slices; i++) {
                const SliceRecord *s = record->slices + i;

                r = lease_set_slice(l, i, s->region, NULL, s->offset, s->size);
                if (r < 0)
                        return r;
                l->slices[i].phase = record->released && s->phase == SLICE_LEASED ? SLICE_DRAINING
                                                                                  : s->phase;
        }
        l->label = strdup(record->label ?: "");
        l->holder_unit = strdup(
                        record->unit ?: ""); /* not known of a process that hides or is gone */
        if (!l->label || !l->holder_unit)
                return -ENOMEM;
        text_make_printable(l->label); /* older versions took more */
        l->lifetime = record->lifetime;
        l->owner_uid = record->owner_uid;
        l->owner_pid = record->owner_pid;
        l->created_usec = record->created_usec;
        l->released = record->released;
        l->delegated = record->delegated;
        l->delegate_uid = record->delegate_uid;
        l->dmabuf = record->dmabuf;
        if (record->n_dmabufs > 0) {
                l->dmabufs = reallocarray(NULL, record->n_dmabufs, sizeof(*l->dmabufs));
                if (!l->dmabufs)
                        return -ENOMEM;
                memcpy(l->dmabufs, record->dmabufs, record->n_dmabufs * sizeof(*l->dmabufs));
                l->n_dmabufs = record->n_dmabufs;
        }
        r = quota_party_new(m->quota, l->owner_uid, record->account_unit, record->account_slice,
                            &l->party);
        if (r < 0)
                return r;
        l->manager = m;
        if (!l->released) {
                r = restore_lifeline(m, l, record);
                if (r < 0) {
                        l->lifeline = lifeline_free(l->lifeline);
                        return r;
                }
        }
        accounts_add_lease(l);
        manager_insert_lease(m, TAKE_PTR(l));
        return 0;
}

static int restore_leases(Manager *m, const StateContent *c) {
        _cleanup_free_ uint64_t *ids = NULL;

        ids = calloc(c->n_leases + 1, sizeof(*ids));
        if (!ids)
                return -ENOMEM;
        for (size_t i = 0; i < c->n_leases; i++) {
                int r = restore_lease(m, c->leases + i);

                /* Without it, its memory would look like nobody's. */
                if (r < 0)
                        return log_error_errno(r, "Failed to take up lease %" PRIu64 " again: %m",
                                               c->leases[i].id);
                ids[i] = c->leases[i].id;
                m->next_lease_id = MAX(m->next_lease_id, ids[i] + 1);
        }
        (void) state_tidy_lifetimes(m->state, ids, c->n_leases);
        return 0;
}

int restore_begin(Manager *m, const char *directory, Restore *ret) {
        _cleanup_restore_ Restore restore = {};
        _cleanup_(state_freep) State *state = NULL;
        StateContent *c = &restore.content;
        int r;

        assert(m);
        assert(ret);

        r = fd_store_collect(&restore.store);
        if (r < 0)
                return log_error_errno(r, "Failed to take the stored descriptors: %m");
        if (directory) {
                r = state_open(directory, NULL, &state);
                if (r == -EBUSY)
                        return log_error_errno(r, "%s is in use: is another egmd running?",
                                               directory);
                if (r < 0)
                        return log_error_errno(r, "Failed to open %s: %m", directory);
                r = state_load(state, c);
                if (r < 0)
                        return log_error_errno(r, "Failed to read %s: %m", directory);
                manager_set_state(m, TAKE_PTR(state));
                if (c->daemon.boot)
                        m->next_lease_id = MAX(c->daemon.next_lease, UINT64_C(1));
                else if (c->n_leases > 0 || c->n_regions > 0 || c->n_damaged > 0 ||
                         !fd_store_is_empty(restore.store))
                        /* Which numbers were used is not known; the clock is ahead of them all. */
                        m->next_lease_id = manager_now_usec(m);
                r = restore_leases(m, c);
                if (r < 0)
                        return r;
        }
        r = confine_restored(m);
        if (r < 0)
                return r;
        *ret = restore;
        restore = (Restore){};
        m->restore = ret;
        return 0;
}

static bool has_unattached(const Manager *m, const char *region) {
        Lease *l;

        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases)
                for (size_t i = 0; i < l->n_slices; i++) {
                        const Slice *s = l->slices + i;

                        if (!s->region && streq(s->region_name, region) &&
                            (s->phase == SLICE_LEASED || s->phase == SLICE_DRAINING))
                                return true;
                }
        return false;
}

/* Is the device the one it was, and only could not be read, or udev has not got to it? */
static bool is_still_there(const Manager *m, const RegionRecord *record) {
        const Region *r = manager_find_region(m, record->name);
        char path[128];
        struct stat st;

        if (r)
                return r->info->inode == record->inode && r->info->size < provider_granule();
        if (m->simulation)
                return simulation_has(m->simulation, record->name, record->inode);
        (void) snprintf(path, sizeof(path), "/sys/class/egm/%s", record->name);
        return stat(path, &st) >= 0 && st.st_ino == record->inode;
}

/* Leases are lost, and the descriptor closed, when a device is gone: not when it is not to be seen yet. */
static int restore_check_gone(const Manager *m) {
        const StateContent *c = &m->restore->content;

        for (size_t i = 0; i < c->n_regions; i++)
                if (is_still_there(m, c->regions + i) && has_unattached(m, c->regions[i].name))
                        return log_error_errno(
                                        -EAGAIN,
                                        "%s: leased, and there, but not ready to be taken up: "
                                        "rather not starting than losing its leases",
                                        c->regions[i].name);
        return 0;
}

static bool lose_slices(Lease *l) {
        bool hit = false;

        for (size_t i = 0; i < l->n_slices; i++) {
                Slice *s = l->slices + i;

                if (s->region || s->phase == SLICE_DONE || s->phase == SLICE_LOST)
                        continue;
                /* Being scrubbed means: no longer this lease's. */
                hit = hit || s->phase != SLICE_SCRUBBING;
                s->phase = s->phase == SLICE_SCRUBBING ? SLICE_DONE : SLICE_LOST;
                accounts_slice_over(s);
        }
        return hit;
}

int restore_end(Manager *m) {
        unsigned n = 0, n_lost = 0;
        Lease *l, *next;
        int r;

        assert(m);
        assert(m->restore);

        if (m->restore->error < 0)
                return m->restore->error;
        r = restore_check_gone(m);
        if (r < 0)
                return r;
        for (l = RB_MIN(LeaseTree, &m->leases); l; l = next) {
                next = RB_NEXT(LeaseTree, &m->leases, l);
                if (l->unclaimed)
                        continue;
                n++;
                if (lose_slices(l)) {
                        n_lost++;
                        log_warning("Lease %" PRIu64 " (%s): its memory is gone", l->id, l->label);
                        (void) record_lease(m, l);
                }
                manager_check_lease(m, l);
        }
        fd_store_finish(m->restore->store);
        confine_take_up(m);
        /* What will have those names are other devices. */
        for (size_t i = 0; i < m->restore->content.n_regions; i++)
                if (!manager_find_region(m, m->restore->content.regions[i].name))
                        (void) state_forget_region(m->state, m->restore->content.regions[i].name);
        for (size_t i = 0; i < m->n_regions; i++) {
                Region *region = m->regions[i];

                if (region->state == REGION_READY)
                        (void) record_region(region);
        }
        m->restore = NULL;
        if (n > 0)
                log_notice("Found %u %s again; lost: %u", n, n == 1 ? "lease" : "leases", n_lost);
        return 0;
}
