/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/stat.h>

#include "accounts.h"
#include "confine.h"
#include "fd-util.h"
#include "holders.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"
#include "pidfd.h"
#include "records.h"
#include "region-delegate.h"
#include "region-open.h"
#include "restore.h"
#include "size.h"

static const RegionRecord *find_record(const Region *r) {
        const StateContent *c = &r->manager->restore->content;

        for (size_t i = 0; i < c->n_regions; i++)
                if (streq(c->regions[i].name, r->name))
                        return c->regions + i;
        return NULL;
}

static bool is_ours(const Slice *s, const Region *r) {
        return !s->region && streq(s->region_name, r->name) && s->phase != SLICE_DONE &&
               s->phase != SLICE_LOST;
}

static bool owns_bytes(const Slice *s) {
        return s->phase == SLICE_LEASED || s->phase == SLICE_DRAINING;
}

/* Do leases wait for this region? *ret_shared: sub-ranges of it were lent, so its offsets had been proven. */
static bool has_leases(const Region *r, bool *ret_shared) {
        bool found = false;
        Lease *l;

        *ret_shared = false;
        RB_FOREACH (l, LeaseTree, &r->manager->leases)
                for (size_t i = 0; i < l->n_slices; i++) {
                        const Slice *s = l->slices + i;

                        if (!is_ours(s, r) || !owns_bytes(s))
                                continue;
                        found = true;
                        *ret_shared = *ret_shared || s->offset > 0;
                }
        return found;
}

/* Is it a device that was there before, and this one? */
static bool same_device(const Region *r, const Provider *p, const RegionRecord *record) {
        return record->rdev == (r->simulated ? 0 : r->info->devnum) &&
               record->inode == r->info->inode && record->size == p->size;
}

static bool same_file(int fd, const RegionRecord *record) {
        struct stat st;

        return fstat(fd, &st) >= 0 && st.st_dev == record->file_dev &&
               st.st_ino == record->file_ino;
}

static bool take_stored(Region *r, Provider *p, const RegionRecord *record, bool offsets) {
        char name[128];
        int fd;

        (void) snprintf(name, sizeof(name), "region-%s", r->name);
        while (fd_store_take(r->manager->restore->store, name, &fd) >= 0) {
                int k;

                if (record && !same_file(fd, record)) {
                        log_warning("%s: a stored descriptor is of another file", r->name);
                        fd_store_reject(r->manager->restore->store, fd);
                        safe_close(fd);
                        continue;
                }
                k = provider_adopt(p, fd, offsets);
                if (k >= 0)
                        return true;
                fd_store_reject(r->manager->restore->store, fd);
                (void) log_warning_errno(k, "%s: a stored descriptor is of no use: %m", r->name);
        }
        return false;
}

/* Is all that it maps lent by a recorded lease? Where offsets are ignored nobody can tell, but there is only one lease. */
static bool maps_leases_only(const Region *r, const Holder *h, bool offsets) {
        _cleanup_ranges_ Ranges rest = {};
        Lease *l;

        if (!h->maps || !offsets)
                return h->maps;
        if (ranges_copy(&h->mapped, &rest) < 0)
                return false;
        RB_FOREACH (l, LeaseTree, &r->manager->leases)
                for (size_t i = 0; i < l->n_slices; i++) {
                        const Slice *s = l->slices + i;

                        if (is_ours(s, r) && owns_bytes(s) &&
                            ranges_remove(&rest, s->offset, s->size) < 0)
                                return false;
                }
        return rest.n == 0;
}

/* Is the process one that a lease of this region is known by? Others may have opened the device while nobody did. */
static bool is_party(const Region *r, const Holder *h, bool offsets) {
        Lease *l;

        if (maps_leases_only(r, h, offsets))
                return true;
        RB_FOREACH (l, LeaseTree, &r->manager->leases) {
                bool here = false;

                for (size_t i = 0; i < l->n_slices; i++)
                        here = here || (is_ours(l->slices + i, r) && owns_bytes(l->slices + i));
                if (!here || !l->lifeline)
                        continue;
                for (unsigned i = 0; i < lifeline_bound(l->lifeline); i++)
                        if (lifeline_pid(l->lifeline, i) == h->pid)
                                return true;
                for (size_t i = 0; i < h->n_pipes; i++)
                        if (h->pipes[i] == lifeline_inode(l->lifeline))
                                return true;
        }
        return false;
}

static int take_from(Region *r, Provider *p, const Holder *h, const RegionRecord *record,
                     bool offsets) {
        _cleanup_close_ int pidfd = -EBADF, fd = -EBADF;
        uint64_t start_time;
        int k;

        k = pidfd_new(h->pid, &pidfd);
        if (k >= 0)
                k = pidfd_get_start_time(pidfd, &start_time);
        if (k >= 0 && start_time != h->start_time)
                k = -ESRCH;
        if (k >= 0)
                k = pidfd_take_fd(pidfd, h->fd, &fd);
        /* One of the device that had this number before, say. */
        if (k >= 0 && record && !same_file(fd, record))
                k = -ESTALE;
        if (k >= 0)
                k = provider_adopt(p, TAKE_FD(fd), offsets);
        if (k < 0)
                return log_warning_errno(
                                k, "%s: pid %i (%s) has its descriptor, but it cannot be had: %m",
                                r->name, (int) h->pid, h->comm);
        log_notice("%s: its descriptor was lost, and is back from pid %i (%s)", r->name,
                   (int) h->pid, h->comm);
        return 0;
}

/* All holders of a region share the file that we opened, so any of them can give it back. */
static bool take_from_holders(Region *r, Provider *p, const RegionRecord *record, bool offsets) {
        _cleanup_holder_list_ HolderList list = {};
        HolderDevice device = {.size = p->size, .offsets = offsets};
        HolderScan scan = {
                        .devices = &device,
                        .n_devices = 1,
                        .want_pipes = true,
                        .pipe_dev = state_dev(r->manager->state),
                        .ignore_inaccessible = r->manager->ignore_inaccessible,
        };
        struct stat st;
        int k;

        if (record) {
                device.rdev = record->rdev;
                device.dev = record->file_dev;
                device.ino = record->file_ino;
        } else if (stat(p->path, &st) >= 0 && S_ISCHR(st.st_mode)) {
                device.rdev = st.st_rdev;
                device.dev = st.st_dev;
                device.ino = st.st_ino;
        } else
                return false;
        k = holders_scan(&scan, &list);
        if (k < 0) {
                /* Not the moment to give leases up. */
                r->manager->restore->error = k;
                (void) log_error_errno(k, "%s: failed to find out who has it: %m", r->name);
                return false;
        }
        for (size_t i = 0; i < list.n; i++) {
                if (!list.items[i].has_fd || !is_party(r, list.items + i, offsets))
                        continue;
                k = take_from(r, p, list.items + i, record, offsets);
                if (k >= 0)
                        return true;
                if (k == -EMFILE || k == -ENFILE || k == -ENOMEM) {
                        r->manager->restore->error =
                                        k; /* nor is it when this fails for want of something */
                        return false;
                }
        }
        return false;
}

/* Gives a slice its bytes back. */
static int attach_slice(Region *r, Slice *s) {
        uint64_t end;
        int k;

        if (__builtin_add_overflow(s->offset, s->size, &end) || end > extent_map_size(r->map))
                return -ERANGE;
        if (region_ignores_offsets(r) && s->offset != 0)
                return -ERANGE;
        k = extent_map_adopt(r->map, s->offset, s->size, s->lease->id);
        if (k < 0)
                return k;
        if (s->phase == SLICE_DRAINING) {
                k = extent_map_drain(r->map, s->offset, s->size, s->lease->id);
                if (k < 0)
                        return k;
        }
        s->region = r;
        if (s->phase == SLICE_DRAINING)
                drain_add(r->manager->drain, s);
        return 0;
}

static int attach_leases(Region *r) {
        Lease *l;

        /* In the order they were granted: where two records claim a byte, the later is the one that cannot be. */
        RB_FOREACH (l, LeaseTree, &r->manager->leases)
                for (size_t i = 0; i < l->n_slices; i++) {
                        Slice *s = l->slices + i;
                        int k;

                        if (!is_ours(s, r) || !owns_bytes(s))
                                continue;
                        k = attach_slice(r, s);
                        if (k == -ENOMEM)
                                return k;
                        if (k < 0)
                                (void) log_error_errno(k,
                                                       "Lease %" PRIu64
                                                       ": its record claims %#" PRIx64 "+%#" PRIx64
                                                       " of %s, which cannot be: %m",
                                                       l->id, s->offset, s->size, r->name);
                }
        return 0;
}

/* Of the slices that had been given back: what nobody else has by now is dirty, and what they wait for. */
static int attach_returned(Region *r) {
        Lease *l;

        RB_FOREACH (l, LeaseTree, &r->manager->leases)
                for (size_t i = 0; i < l->n_slices; i++) {
                        Slice *s = l->slices + i;
                        uint64_t end;
                        Extent e;

                        if (!is_ours(s, r) || s->phase != SLICE_SCRUBBING ||
                            __builtin_add_overflow(s->offset, s->size, &end))
                                continue;
                        for (uint64_t at = s->offset;
                             at < end && extent_map_next(r->map, at, EXTENT_DIRTY, &e) &&
                             e.offset < end;
                             at = e.offset + e.size) {
                                uint64_t from = MAX(e.offset, s->offset);
                                int k = ranges_add(&s->unclean, from,
                                                   MIN(e.offset + e.size, end) - from);

                                if (k < 0)
                                        return k;
                        }
                        s->region = r;
                        TAILQ_INSERT_TAIL(&r->scrubbing, s, phase_link);
                        if (s->unclean.n == 0) {
                                TAILQ_REMOVE(&r->scrubbing, s, phase_link);
                                s->phase = SLICE_DONE;
                                accounts_slice_over(s);
                        }
                }
        return 0;
}

/* The first run of bytes behind at that are nobody's: dirty ones, and retired pages, for those can be lent, too, and may have gone
 * bad under somebody. */
static bool next_unclaimed(const Region *r, uint64_t at, uint64_t *ret_offset, uint64_t *ret_size) {
        uint64_t offset = 0, size = 0;
        Extent e;

        for (; extent_map_get(r->map, at, &e); at = e.offset + e.size) {
                bool part = e.state == EXTENT_DIRTY || (e.state == EXTENT_RETIRED && e.owner == 0);

                if (part && size == 0)
                        offset = e.offset;
                if (part)
                        size += e.size;
                else if (size > 0)
                        break;
        }
        if (size == 0)
                return false;
        *ret_offset = offset;
        *ret_size = size;
        return true;
}

/* A record may have been lost, and somebody may use what it spoke of: all that no lease claims is held back until one
 * look at every process has proven that nobody touches it. */
static int quarantine(Region *r) {
        _cleanup_(lease_freep) Lease *l = NULL;
        Manager *m = r->manager;
        uint64_t offset, size;
        size_t n = 0;
        int k;

        for (uint64_t at = 0; next_unclaimed(r, at, &offset, &size); at = offset + size)
                n++;
        if (n == 0)
                return 0;
        k = lease_new(m->next_lease_id, n, &l);
        if (k < 0)
                return k;
        m->next_lease_id++;
        l->label = strdup("(unknown)");
        l->holder_unit = strdup("");
        if (!l->label || !l->holder_unit)
                return -ENOMEM;
        l->created_usec = manager_now_usec(m);
        l->manager = m;
        l->unclaimed = l->hidden = l->released = l->revoked = true;
        offset = size = 0;
        for (size_t i = 0; i < n; i++) {
                (void) next_unclaimed(r, offset + size, &offset, &size);
                k = lease_set_slice(l, i, r->name, r, offset, size);
                if (k >= 0)
                        k = extent_map_adopt(r->map, offset, size, l->id);
                if (k >= 0)
                        k = extent_map_drain(r->map, offset, size, l->id);
                if (k < 0)
                        return k;
                l->slices[i].phase = SLICE_DRAINING;
        }
        for (size_t i = 0; i < n; i++)
                drain_add(m->drain, l->slices + i);
        manager_insert_lease(m, TAKE_PTR(l));
        return 0;
}

/* Does a lease wait for this region that takes it by path? */
static bool was_delegated(const Region *r) {
        Lease *l;

        RB_FOREACH (l, LeaseTree, &r->manager->leases)
                for (size_t i = 0; i < l->n_slices && l->delegated; i++)
                        if (is_ours(l->slices + i, r) && owns_bytes(l->slices + i))
                                return true;
        return false;
}

/* Somebody may have it open: so do not we. */
static int attach_delegated(Region *r, Provider *p) {
        Lease *l;
        int k;

        k = region_delegated_before(r, p);
        if (k >= 0)
                k = attach_leases(r);
        if (k < 0)
                return k;
        RB_FOREACH (l, LeaseTree, &r->manager->leases)
                for (size_t i = 0; i < l->n_slices; i++)
                        if (l->slices[i].region == r && l->released)
                                region_take_back(r);
        return 0;
}

static int attach(Region *r, Provider *p) {
        _cleanup_ranges_ Ranges retired = {};
        bool unknown, enforced;
        char *lax;
        int k;

        /* Before anybody looks for holders: whom he does not find by then comes in no more. */
        enforced = confine_region(r->simulated ? NULL : r->manager->enforce, p, r->info->devnum,
                                  &lax);
        confine_set_region(r, enforced, lax);
        k = provider_retired(p, &retired);
        /* Who has leases must not suffer from it; nobody gets any before it can be read. */
        unknown = k < 0;
        if (unknown)
                (void) log_error_errno(k, "%s: failed to read the list of retired pages: %m",
                                       r->name);
        k = region_set_open(r, p, &retired);
        if (k < 0)
                return k;
        r->retired_unknown |= unknown;
        k = attach_leases(r);
        if (k >= 0)
                k = attach_returned(r);
        if (k < 0)
                return k;
        /* Where offsets are ignored a lease of any part keeps the rest from being lent as it is. */
        if (!region_ignores_offsets(r) || extent_map_owned(r->map) == 0) {
                k = quarantine(r);
                if (k < 0)
                        return k;
        }
        return 0;
}

/* Once it was a member of the region's record. */
static int take_over_closed(Region *r, const RegionRecord *record) {
        RegionRecord ours = *record;
        int k;

        r->schedulable = false;
        k = record_schedulable(r, false);
        if (k < 0)
                return k;
        ours.schedulable = true;
        return state_save_region(r->manager->state, &ours);
}

int restore_region(Region *r, Provider *p) {
        const RegionRecord *record;
        bool leased, offsets;
        int k;

        assert(r);
        assert(r->manager->restore);
        assert(p);

        record = find_record(r);
        leased = has_leases(r, &offsets);
        /* We have no business with it, and let go of it. Leases that are out live to their end. */
        if (r->mode == REGION_MODE_OBSERVE && !leased)
                return 0;
        if (record && !record->schedulable) {
                k = take_over_closed(r, record);
                if (k < 0) {
                        r->manager->restore->error = k;
                        return 0;
                }
        }
        if (record && !same_device(r, p, record)) {
                log_notice("%s: not the device that it was", r->name);
                return 0;
        }
        if (record)
                offsets = record->offsets;
        if (was_delegated(r)) {
                k = attach_delegated(r, p);
                if (k >= 0)
                        return 1;
                (void) log_error_errno(k, "%s: failed to take it up again: %m", r->name);
                /* Another time it may not fail, and then leases are not lost with it. */
                if (r->provider == p || k == -ENOMEM || k == -EMFILE || k == -ENFILE)
                        r->manager->restore->error = k;
                return r->provider == p;
        }
        if (!take_stored(r, p, record, offsets) &&
            (!leased || !take_from_holders(r, p, record, offsets)))
                return 0;
        /* Its mode forbids to lend it, and nothing is lent. */
        if (!leased && r->mode == REGION_MODE_SHARED && !p->offsets)
                return 0;
        /* Nothing says what was proven of it, and who uses it: it is opened already, but that is all. */
        if (!record && !leased)
                return 0;
        k = attach(r, p);
        if (k < 0) {
                (void) log_error_errno(k, "%s: failed to take it up again: %m", r->name);
                r->manager->restore->error = k;
                return r->provider == p;
        }
        log_info("%s: as it was before: %s of %s are leased", r->name,
                 FORMAT_SIZE(extent_map_bytes(r->map, EXTENT_LEASED)),
                 FORMAT_SIZE(extent_map_size(r->map)));
        return 1;
}
