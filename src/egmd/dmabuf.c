/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/stat.h>

#include "dmabuf.h"
#include "fd-util.h"
#include "records.h"

static int check_allowed(const Manager *m, EgmError *reterr) {
        if (!m->config->dmabuf_allowed)
                return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED,
                                     "Dmabuf: this host hands out no dma-bufs, since nothing could "
                                     "take them back (DmabufAllowed=no in egmd.conf)");
        if (m->config->require_enforcement)
                return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED,
                                     "Dmabuf: what is handed out as a dma-buf cannot be enforced, "
                                     "which RequireEnforcement= asks for");
        return 0;
}

int dmabuf_check_request(const Manager *m, const AcquireRequest *q, EgmError *reterr) {
        assert(m);
        assert(q);

        return q->dmabuf ? check_allowed(m, reterr) : 0;
}

static int check_lease(const Manager *m, const Lease *l, EgmError *reterr) {
        int r;

        if (!l->dmabuf)
                return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED,
                                     "Lease %" PRIu64 " was acquired without the option Dmabuf",
                                     l->id);
        r = check_allowed(m, reterr);
        if (r < 0)
                return r;
        if (!lease_is_kept(l) || lease_state(l) != LEASE_ACTIVE)
                return egm_error_set(reterr, EGM_ERROR_DRAINING,
                                     "Lease %" PRIu64 " has ended and is %s", l->id,
                                     lease_state_to_string(lease_state(l)));
        if (l->n_slices > LEASE_DMABUFS_MAX - l->n_dmabufs)
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "Lease %" PRIu64
                                     ": %zu dma-bufs were exported; the limit is %u, and %zu "
                                     "more are asked for",
                                     l->id, l->n_dmabufs, LEASE_DMABUFS_MAX, l->n_slices);
        if (fds_are_scarce())
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "egmd has too few descriptors left for dma-bufs");
        return 0;
}

static int export_slice(const Slice *s, int *ret_fd, EgmError *reterr) {
        _cleanup_ranges_ Ranges good = {};
        Region *region = s->region;
        int r;

        r = ranges_add(&good, s->offset, s->size);
        if (r < 0)
                return r;
        RANGES_FOREACH (i, &region->retired) {
                r = ranges_remove(&good, i->offset, i->size);
                if (r < 0)
                        return r;
        }
        if (good.n == 0)
                return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED,
                                     "%s: the slice holds nothing but retired pages", region->name);
        r = provider_export(region->provider, &good, ret_fd);
        if (r == -EOPNOTSUPP)
                return egm_error_set(reterr, EGM_ERROR_NOT_SUPPORTED,
                                     "%s: its driver (%s) exports no dma-bufs", region->name,
                                     region_driver(region));
        return r;
}

static int export_slices(Lease *l, int *fds, EgmError *reterr) {
        for (size_t i = 0; i < l->n_slices; i++) {
                struct stat st;
                int r;

                r = export_slice(l->slices + i, fds + i, reterr);
                if (r < 0)
                        return r;
                if (fstat(fds[i], &st) < 0)
                        return -errno;
                l->dmabufs[l->n_dmabufs++] = (LeaseDmabuf){.dev = st.st_dev, .ino = st.st_ino};
        }
        return 0;
}

int dmabuf_export(Manager *m, Lease *l, int *ret_fds, EgmError *reterr) {
        size_t before = l->n_dmabufs;
        LeaseDmabuf *t;
        int r;

        assert(m);
        assert(l);
        assert(ret_fds);

        r = check_lease(m, l, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_slices; i++)
                region_poll_retired(l->slices[i].region);
        t = reallocarray(l->dmabufs, before + l->n_slices, sizeof(*t));
        if (!t)
                return -ENOMEM;
        l->dmabufs = t;
        for (size_t i = 0; i < l->n_slices; i++)
                ret_fds[i] = -EBADF;
        r = export_slices(l, ret_fds, reterr);
        /* The record first: who has one when we die must be found by who comes after us. */
        if (r >= 0)
                r = record_lease(m, l);
        if (r < 0) {
                for (size_t i = 0; i < l->n_slices; i++)
                        ret_fds[i] = safe_close(ret_fds[i]);
                l->n_dmabufs = before;
        } else if (before == 0 && l->n_dmabufs > 0)
                TAILQ_INSERT_TAIL(&m->with_dmabufs, l, dmabuf_link);
        return r;
}

int dmabuf_list_lost(const Manager *m, const char *region, LeaseDmabuf **ret, size_t *ret_n) {
        _cleanup_free_ LeaseDmabuf *list = NULL;
        size_t n = 0;
        Lease *l;

        assert(m);
        assert(region);
        assert(ret);
        assert(ret_n);

        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases) {
                LeaseDmabuf *t;

                if (!lease_haunts(l, region))
                        continue;
                t = reallocarray(list, n + l->n_dmabufs, sizeof(*t));
                if (!t)
                        return -ENOMEM;
                list = t;
                memcpy(list + n, l->dmabufs, l->n_dmabufs * sizeof(*list));
                n += l->n_dmabufs;
        }
        *ret = TAKE_PTR(list);
        *ret_n = n;
        return 0;
}

void dmabuf_forget_lost(Manager *m, const char *region) {
        Lease *l, *next;

        assert(m);
        assert(region);

        for (l = RB_MIN(LeaseTree, &m->leases); l; l = next) {
                next = RB_NEXT(LeaseTree, &m->leases, l);
                if (!lease_haunts(l, region))
                        continue;
                l->dmabufs = mfree(l->dmabufs);
                l->n_dmabufs = 0;
                (void) record_lease(m, l); /* with them in it, they are looked for once more */
                manager_check_lease(m, l);
        }
}
