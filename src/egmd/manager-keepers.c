/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "confine.h"
#include "fd-util.h"
#include "holders.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"
#include "pidfd.h"
#include "records.h"
#include "size.h"

/* Who keeps a lease, and who may map it. */

static void on_closed(Lifeline *line, void *userdata) {
        Lease *l = userdata;

        l->lifetime_open = false;
        manager_check_lease(l->manager, l);
}

static void on_unbound(Lifeline *line, pid_t pid, void *userdata) {
        Lease *l = userdata;
        Manager *m = l->manager;

        l->n_bound = lifeline_bound(line);
        manager_lease_changed(m, l);
        manager_check_lease(m, l);
}

static const LifelineOps lifeline_ops = {.closed = on_closed, .unbound = on_unbound};

int manager_lifeline_new(Manager *m, Lease *l, int *ret_fd) {
        int r;

        assert(!l->lifeline);

        l->manager = m;
        if (m->state) {
                _cleanup_close_ int holder_fd = -EBADF;
                int fd;

                r = state_make_lifetime(m->state, l->id, &fd, &holder_fd);
                if (r < 0)
                        return r;
                r = manager_lifeline_adopt(m, l, fd);
                if (r < 0)
                        return r;
                *ret_fd = TAKE_FD(holder_fd);
                return 0;
        }
        r = lifeline_new(m->event, &lifeline_ops, l, &l->lifeline, ret_fd);
        if (r < 0)
                return r;
        l->lifetime_open = true;
        return 0;
}

int manager_lifeline_adopt(Manager *m, Lease *l, int fd) {
        int r;

        assert(!l->lifeline);

        l->manager = m;
        r = lifeline_adopt(m->event, &lifeline_ops, l, fd, &l->lifeline);
        if (r < 0)
                return r;
        /* Where nobody has it open, the event loop tells so. */
        l->lifetime_open = true;
        return 0;
}

static int refuse_process(int r, EgmError *reterr) {
        if (r == -EDEADLK)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "That is egmd itself");
        if (r == -ESRCH)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "The process is gone");
        if (r == -EBADF || r == -EREMOTE)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Not the pidfd of a program that can be seen from here");
        return r;
}

static int check_kept(const Lease *l, EgmError *reterr) {
        if (lease_is_kept(l))
                return 0;
        return egm_error_set(reterr, EGM_ERROR_DRAINING, "Lease %" PRIu64 " has ended and is %s",
                             l->id, lease_state_to_string(lease_state(l)));
}

int manager_admit(Manager *m, Lease *l, int pidfd, EgmError *reterr) {
        pid_t pid;
        int r;

        assert(m);
        assert(l);

        r = check_kept(l, reterr);
        if (r < 0)
                return r;
        r = pidfd_get_holder(pidfd, &pid);
        if (r < 0)
                return refuse_process(r, reterr);
        return confine_admit(m, l, pidfd, reterr);
}

/* With the unit of the process that shows as its holder, as it is to be found after a restart, too. *ret_before: what it was
 * before, the caller's to free. */
static int record_bound(Manager *m, Lease *l, char **ret_before) {
        char *before = TAKE_PTR(l->holder_unit);
        int r;

        if (pid_get_unit(lifeline_pid(l->lifeline, 0), &l->holder_unit, NULL) < 0)
                l->holder_unit = NULL;
        r = record_lease(m, l);
        if (r < 0) {
                free(l->holder_unit);
                l->holder_unit = before;
                return r;
        }
        *ret_before = before;
        return 0;
}

/* It was refused behind its record. Consumes unit. */
static void unbind(Manager *m, Lease *l, pid_t pid, char *unit) {
        int r;

        lifeline_unbind(l->lifeline, pid);
        free(l->holder_unit);
        l->holder_unit = unit;
        r = record_lease(m, l);
        if (r < 0)
                (void) log_error_errno(r,
                                       "Lease %" PRIu64
                                       ": failed to write down that it is not bound to pid %i, to "
                                       "which a restart would bind it: %m",
                                       l->id, (int) pid);
}

int manager_bind(Manager *m, Lease *l, int pidfd, EgmError *reterr) {
        char *before = NULL;
        bool fresh;
        pid_t pid;
        int r;

        assert(m);
        assert(l);

        r = check_kept(l, reterr);
        if (r < 0)
                return r;
        if (fds_are_scarce())
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "egmd has too few descriptors left to watch another process");
        r = pidfd_get_holder(pidfd, &pid);
        if (r >= 0)
                r = lifeline_bind(l->lifeline, pidfd, NULL);
        if (r == -EDEADLK || r == -ESRCH || r == -EBADF || r == -EREMOTE)
                return refuse_process(r, reterr);
        if (r == -E2BIG)
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "Lease %" PRIu64 " is bound to %u processes; the limit is %u",
                                     l->id, l->n_bound, LIFELINE_BOUND_MAX);
        if (r < 0)
                return r;
        fresh = r > 0;
        /* Written down before it is let in: a record can be taken back, a right that it may have handed on to its children cannot. */
        if (fresh) {
                r = record_bound(m, l, &before);
                if (r < 0) {
                        lifeline_unbind(l->lifeline, pid);
                        return r;
                }
        }
        r = confine_admit(m, l, pidfd, reterr);
        if (r < 0 && fresh)
                unbind(m, l, pid, TAKE_PTR(before));
        free(before);
        if (r < 0 || !fresh)
                return r;
        l->n_bound = lifeline_bound(l->lifeline);
        manager_lease_changed(m, l);
        return 0;
}

/* All or nothing, as it was acquired: who gets descriptors counts on the order of the slices, and what runs on a part that is gone is
 * not helped by the others. */
static int check_whole(const Lease *l, EgmError *reterr) {
        const Slice *lost = NULL;
        size_t n = 0;

        for (size_t i = l->n_slices; i-- > 0;)
                if (l->slices[i].phase == SLICE_LOST) {
                        lost = l->slices + i;
                        n++;
                }
        if (n == 0)
                return 0;
        return egm_error_set(reterr, EGM_ERROR_DRAINING,
                             "Lease %" PRIu64 ": its slice %zu, %s of %s, is lost with that device "
                             "(in all %zu of %zu slices are); a lease is opened again as a whole "
                             "or not at all",
                             l->id, (size_t) (lost - l->slices), FORMAT_SIZE(lost->size),
                             lost->region_name, n, l->n_slices);
}

int manager_reopen(Manager *m, Lease *l, int *ret_lifetime_fd, EgmError *reterr) {
        int r;

        assert(m);
        assert(l);

        r = check_kept(l, reterr);
        if (r >= 0)
                r = check_whole(l, reterr);
        if (r < 0)
                return r;
        r = lifeline_reopen(l->lifeline, ret_lifetime_fd);
        if (r < 0)
                return r;
        l->lifetime_open = true;
        return 0;
}
