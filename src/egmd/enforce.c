/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "enforce.h"
#include "pidfd.h"

/* Nobody executes one program after the other all the time. */
#define TRIES 8U

struct Enforce {
        const EnforceOps *ops;
        void *userdata;
        bool continued;
        pthread_mutex_t admission;
};

int enforce_new(const EnforceOps *ops, void *userdata, bool continued, Enforce **ret) {
        Enforce *e = malloc(sizeof(*e));

        assert(ops);
        assert(ret);

        if (!e)
                return -ENOMEM;
        *e = (Enforce){.ops = ops, .userdata = userdata, .continued = continued};
        (void) pthread_mutex_init(&e->admission, NULL);
        *ret = e;
        return 0;
}

Enforce *enforce_free(Enforce *e) {
        if (!e)
                return NULL;
        e->ops->free(e->userdata);
        (void) pthread_mutex_destroy(&e->admission);
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

static bool lease_is_same(const EnforceLease *a, const EnforceLease *b) {
        bool same = a->flags == b->flags && a->n == b->n;

        for (size_t i = 0; same && i < a->n; i++)
                same = a->slices[i].rdev == b->slices[i].rdev &&
                       a->slices[i].start == b->slices[i].start &&
                       a->slices[i].end == b->slices[i].end;
        return same;
}

int enforce_set_lease(Enforce *e, const EnforceLease *l) {
        __u64 highest = UINT64_MAX;
        EnforceLease before;
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
        /* An entry is replaced by another one, and the gate refuses whom it catches in between. */
        if (highest >= l->number && e->ops->get_lease(e->userdata, l->number, &before) >= 0 &&
            lease_is_same(&before, l))
                return 0;
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
        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX && b->numbers[i] != 0; i++)
                if (b->numbers[i] == number)
                        return true;
        return false;
}

static bool is_full(const EnforceBearer *b) {
        return b->numbers[ENFORCE_NUMBERS_MAX - 1] != 0;
}

/* Its moves are counted meanwhile, and one may be overwritten: to whoever compares counts there were some. */
#define MOVES_UNKNOWN (UINT64_C(1) << 32)

static void make_room(EnforceBearer *b, enforce_matters_t matters, void *userdata) {
        size_t n = 0, witness = ENFORCE_NUMBERS_MAX;

        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX; i++) {
                __u64 number = b->numbers[i];
                EnforceMatter k = matters ? matters(number & ~ENFORCE_NUMBER_BARE, userdata)
                                          : ENFORCE_MATTERS;

                if (k == ENFORCE_MATTERS_NOT)
                        continue;
                if (k == ENFORCE_ANY_MATTERS && witness < n) {
                        /* By one that is not bare it may be mapping something. */
                        if (!(number & ENFORCE_NUMBER_BARE))
                                b->numbers[witness] = number;
                        continue;
                }
                if (k == ENFORCE_ANY_MATTERS)
                        witness = n;
                b->numbers[n++] = number;
        }
        memset(b->numbers + n, 0, (ENFORCE_NUMBERS_MAX - n) * sizeof(*b->numbers));
        b->moves += MOVES_UNKNOWN;
}

/* 1: it has it already; 0: it has room for it. */
static int prepare(Enforce *e, int pidfd, __u64 number, enforce_matters_t matters, void *userdata) {
        EnforceBearer b = {};
        int r;

        r = e->ops->get_bearer(e->userdata, pidfd, &b);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        /* We may map anything, and what we bear our children would. */
        if ((b.flags & ENFORCE_BEARER_ALL) || bears(&b, number))
                return 1;
        if (!is_full(&b) || bears(&b, number | ENFORCE_NUMBER_BARE))
                return 0;
        make_room(&b, matters, userdata);
        if (is_full(&b))
                return -EUSERS;
        r = e->ops->set_bearer(e->userdata, pidfd, &b);
        return r == -ENOENT ? -ESRCH : r;
}

static int mark(Enforce *e, EnforceAdmission *a, bool everybody) {
        int r;

        a->marked = 0;
        r = e->ops->admit(e->userdata, a, everybody);
        if (r < 0)
                return r;
        if (a->full > 0)
                return -EUSERS;
        if (a->failed > 0)
                return -ENOMEM;
        return a->marked == 0 ? -ESRCH : 0;
}

/* Who shares its memory may leave others behind that have its mappings, so he has to be known, too, before there are any. A look at all
 * processes does not see one that each time is another one already; but from the moment on that the memory is known, what
 * is forked of it is known as well (egm_forked). So all are once they were looked at, if the process did not execute something
 * meanwhile: it has other memory then. One that has its memory for itself is enough. */
static int mark_all(Enforce *e, EnforceAdmission *a) {
        for (unsigned i = 0; i < TRIES; i++) {
                __u64 memory;
                int r;

                r = mark(e, a, false);
                if (r < 0)
                        return r;
                memory = a->memory;
                if (a->users != 1) {
                        r = mark(e, a, true);
                        if (r < 0)
                                return r;
                }
                r = mark(e, a, false);
                if (r < 0 || a->memory == memory)
                        return r;
        }
        return -EBUSY;
}

/* Whether it was given its number is not known: it is to be no right. Whom it has forked since has it; but that is between two calls
 * of ours, and the caller does not hear that it has a right. */
static void take_back(Enforce *e, int pidfd, __u64 number) {
        EnforceBearer b = {};
        bool has = false;

        if (e->ops->get_bearer(e->userdata, pidfd, &b) < 0)
                return;
        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX && b.numbers[i] != 0; i++)
                if (b.numbers[i] == number) {
                        b.numbers[i] = number | ENFORCE_NUMBER_BARE;
                        has = true;
                }
        b.moves += MOVES_UNKNOWN;
        if (has)
                (void) e->ops->set_bearer(e->userdata, pidfd, &b);
}

int enforce_admit(Enforce *e, int pidfd, __u64 number, enforce_matters_t matters, void *userdata) {
        EnforceAdmission nobody = {}, a = {.number = number | ENFORCE_NUMBER_BARE};
        pid_t pid;
        int r;

        assert(e);
        assert(pidfd >= 0);

        r = pidfd_get_pid(pidfd, &pid);
        if (r < 0)
                return r;
        a.pid = (__u64) pid;
        (void) pthread_mutex_lock(&e->admission);
        r = prepare(e, pidfd, number, matters, userdata);
        if (r == 0) {
                r = mark_all(e, &a);
                if (r >= 0) {
                        a.number = number;
                        r = mark(e, &a, false);
                        if (r < 0)
                                take_back(e, pidfd, number);
                }
                /* Until then children are given it that are none of its. */
                (void) e->ops->admit(e->userdata, &nobody, false);
                r = r < 0 ? r : 1;
        } else if (r > 0)
                r = 0;
        (void) pthread_mutex_unlock(&e->admission);
        return r;
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
