/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fd-store.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"
#include "records.h"
#include "state.h"

/* So many numbers are reserved at once. */
#define NUMBERS_BATCH 1024U

static void stored_name(const Region *r, char *ret, size_t size) {
        (void) snprintf(ret, size, "region-%s", r->name);
}

int record_lease(Manager *m, const Lease *l) {
        BoundRecord bound[LIFELINE_BOUND_MAX];
        SliceRecord slices[STATE_SLICES_MAX];
        LeaseRecord record;

        assert(m);
        assert(l);

        if (!m->state || l->unclaimed)
                return 0;
        assert(l->n_slices <= ELEMENTSOF(slices));
        /* All borrowed for the call. */
        record = (LeaseRecord){
                        .id = l->id,
                        .label = l->label,
                        .lifetime = l->lifetime,
                        .owner_uid = l->owner_uid,
                        .owner_pid = l->owner_pid,
                        .unit = l->holder_unit,
                        .created_usec = l->created_usec,
                        .released = l->released,
                        .delegated = l->delegated,
                        .delegate_uid = l->delegate_uid,
                        .bound = bound,
                        .n_bound = lifeline_bound(l->lifeline),
                        .slices = slices,
                        .n_slices = l->n_slices,
                        .dmabuf = l->dmabuf,
                        .dmabufs = l->dmabufs,
                        .n_dmabufs = l->n_dmabufs,
                        .account_unit = (char *) quota_party_unit(l->party),
                        .account_slice = (char *) quota_party_slice(l->party),
        };
        for (unsigned i = 0; i < record.n_bound; i++)
                bound[i] = (BoundRecord){.pid = lifeline_pid(l->lifeline, i),
                                         .start_time = lifeline_start_time(l->lifeline, i)};
        for (size_t i = 0; i < l->n_slices; i++)
                slices[i] = (SliceRecord){.region = l->slices[i].region_name,
                                          .offset = l->slices[i].offset,
                                          .size = l->slices[i].size,
                                          .phase = l->slices[i].phase};
        return state_save_lease(m->state, &record);
}

int forget_lease(Manager *m, uint64_t id) {
        int r;

        if (!m->state)
                return 0;
        r = state_forget_lease(m->state, id);
        if (r < 0)
                /* Found again, one that was released ends again: nothing keeps it, and its bytes are somebody else's or dirty. */
                (void) log_warning_errno(r, "Failed to remove the record of lease %" PRIu64 ": %m",
                                         id);
        return r;
}

int record_region(Region *r) {
        Manager *m = r->manager;
        int written = 0, stored;
        char name[128];

        assert(r->provider && r->provider->fd >= 0);

        if (m->state) {
                const RegionRecord record = {
                                .name = r->name,
                                .rdev = r->provider->rdev,
                                .inode = r->info->inode,
                                .size = r->provider->size,
                                .offsets = r->provider->offsets,
                                .file_dev = r->provider->dev,
                                .file_ino = r->provider->ino,
                                .schedulable = true,
                };

                written = state_save_region(m->state, &record);
                if (written < 0)
                        (void) log_error_errno(written, "%s: failed to write its record: %m",
                                               r->name);
        }
        stored_name(r, name, sizeof(name));
        stored = fd_store_put(name, r->provider->fd);
        if (stored < 0)
                (void) log_error_errno(stored,
                                       "%s: failed to store its descriptor, trying again later: %m",
                                       r->name);
        r->unstored = stored < 0;
        return written;
}

int record_schedulable(Region *r, bool schedulable) {
        Manager *m = r->manager;

        return m->state ? state_close_region(m->state, r->name, !schedulable) : 0;
}

void unstore_region(Region *r) {
        char name[128];
        int k;

        stored_name(r, name, sizeof(name));
        k = fd_store_remove(name);
        if (k < 0)
                (void) log_warning_errno(k, "%s: failed to have its descriptor forgotten: %m",
                                         r->name);
}

void forget_region(Region *r) {
        int k = 0;

        unstore_region(r);
        if (r->manager->state)
                k = state_forget_region(r->manager->state, r->name);
        if (k < 0)
                (void) log_warning_errno(k, "%s: failed to have it forgotten: %m", r->name);
}

int record_lease_number(Manager *m, uint64_t id) {
        uint64_t next;
        int r;

        if (!m->state || id < m->recorded_lease_id)
                return 0;
        if (__builtin_add_overflow(id, NUMBERS_BATCH, &next))
                return -EOVERFLOW;
        r = state_save_daemon(m->state, &(DaemonRecord){.next_lease = next});
        if (r < 0)
                return r;
        m->recorded_lease_id = next;
        return 0;
}
