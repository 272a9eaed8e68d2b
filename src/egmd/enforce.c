/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "enforce.h"
#include "pidfd.h"

struct Enforce {
        const EnforceOps *ops;
        void *userdata;
        bool continued;
};

int enforce_new(const EnforceOps *ops, void *userdata, bool continued, Enforce **ret) {
        Enforce *e = malloc(sizeof(*e));

        assert(ops);
        assert(ret);

        if (!e)
                return -ENOMEM;
        *e = (Enforce){.ops = ops, .userdata = userdata, .continued = continued};
        *ret = e;
        return 0;
}

Enforce *enforce_free(Enforce *e) {
        if (!e)
                return NULL;
        e->ops->free(e->userdata);
        return mfree(e);
}

bool enforce_is_continued(const Enforce *e) {
        assert(e);
        return e->continued;
}

__u64 enforce_rdev(dev_t devnum) {
        return (__u64) major(devnum) << 20 | minor(devnum);
}

int enforce_close_gate(Enforce *e, dev_t devnum) {
        assert(e);
        return e->ops->set_device(e->userdata, (__u32) enforce_rdev(devnum), true);
}

int enforce_open_gate(Enforce *e, dev_t devnum) {
        assert(e);
        return e->ops->set_device(e->userdata, (__u32) enforce_rdev(devnum), false);
}

int enforce_set_lease(Enforce *e, const EnforceLease *l) {
        __u64 highest;
        int r;

        assert(e);
        assert(l);
        assert(l->n <= ENFORCE_SLICES_MAX);

        if (l->number != ENFORCE_NUMBER_PROOF) {
                /* First: what is not in the table may be below it, never the other way round. */
                r = e->ops->get_highest(e->userdata, &highest);
                if (r >= 0 && highest < l->number)
                        r = e->ops->set_highest(e->userdata, l->number);
                if (r < 0)
                        return r;
        }
        return e->ops->set_lease(e->userdata, l);
}

int enforce_revoke(Enforce *e, __u64 number) {
        int r;

        assert(e);

        r = e->ops->drop_lease(e->userdata, number);
        return r == -ENOENT ? 0 : r;
}

int enforce_get_lease(Enforce *e, __u64 number, EnforceLease *ret) {
        assert(e);
        assert(ret);
        return e->ops->get_lease(e->userdata, number, ret);
}

int enforce_keep_only(Enforce *e, enforce_keep_t keep, void *userdata) {
        _cleanup_free_ __u64 *gone = NULL;
        const __u64 *after = NULL;
        size_t n = 0, room = 0;
        __u64 number, last;
        int r;

        assert(e);
        assert(keep);

        while ((r = e->ops->next_lease(e->userdata, after, &number)) >= 0) {
                last = number;
                after = &last;
                if (keep(number, userdata))
                        continue;
                if (n == room) {
                        __u64 *t = reallocarray(gone, room = 2 * room + 16, sizeof(*t));

                        if (!t)
                                return -ENOMEM;
                        gone = t;
                }
                gone[n++] = number;
        }
        if (r != -ENOENT)
                return r;
        /* Not while walking: the kernel finds its place by the number before. */
        for (size_t i = 0; i < n; i++) {
                r = enforce_revoke(e, gone[i]);
                if (r < 0)
                        return r;
        }
        return (int) n;
}

__u64 enforce_next_number(Enforce *e) {
        __u64 highest = 0;

        assert(e);

        return e->ops->get_highest(e->userdata, &highest) < 0 ? 0 : highest + 1;
}

static bool bears(const EnforceBearer *b, __u64 number) {
        for (__u32 i = 0; i < b->n; i++)
                if (b->numbers[i] == number)
                        return true;
        return false;
}

static void make_room(EnforceBearer *b, enforce_keep_t keep, void *userdata) {
        __u32 n = 0;

        for (__u32 i = 0; i < b->n; i++)
                if (!keep || keep(b->numbers[i], userdata))
                        b->numbers[n++] = b->numbers[i];
        b->n = n;
}

int enforce_admit(Enforce *e, int pidfd, __u64 number, enforce_keep_t keep, void *userdata) {
        EnforceBearer b = {};
        pid_t pid;
        int r;

        assert(e);
        assert(pidfd >= 0);

        r = pidfd_get_pid(pidfd, &pid);
        if (r < 0)
                return r;
        r = e->ops->get_bearer(e->userdata, pidfd, &b);
        if (r < 0 && r != -ENOENT)
                return r;
        /* We may map anything, and what we bear our children would. */
        if ((b.flags & ENFORCE_BEARER_ALL) || bears(&b, number))
                return 0;
        if (b.n >= ENFORCE_NUMBERS_MAX)
                make_room(&b, keep, userdata);
        if (b.n >= ENFORCE_NUMBERS_MAX)
                return -EUSERS;
        b.numbers[b.n++] = number;
        r = e->ops->set_bearer(e->userdata, pidfd, &b);
        if (r == -ENOENT)
                return -ESRCH;
        return r < 0 ? r : 1;
}

int enforce_flights(Enforce *e, EnforceFlight **ret, size_t *ret_n) {
        assert(e);

        /* Who looked into the table before it was changed has left the programs, and his registers are to be seen.
         * Not every kernel offers it (nohz_full); the changes and the look are microseconds apart. */
        (void) syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
        return e->ops->flights(e->userdata, ret, ret_n);
}

int enforce_watches(Enforce *e, EnforceWatch **ret, size_t *ret_n) {
        assert(e);
        return e->ops->watches(e->userdata, ret, ret_n);
}

int enforce_mappings(Enforce *e, EnforceMapping **ret, size_t *ret_n) {
        assert(e);
        return e->ops->mappings(e->userdata, ret, ret_n);
}

int enforce_check(Enforce *e) {
        assert(e);
        return e->ops->check(e->userdata);
}
