/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enforce-kernel.h"
#include "enforce.h"
#include "fd-util.h"
#include "pidfd.h"
#include "test.h"

/* The kernel's table, as far as the rules need one. */
#define TABLE_MAX 64

typedef struct Fake {
        EnforceLease leases[TABLE_MAX];
        size_t n;
        unsigned n_set;
        EnforceBearer bearer; /* of the one process there is */
        bool has_bearer;
        EnforceBearer sharer; /* of the one that shares its memory */
        bool shared;
        unsigned executes; /* so often it has other memory at the next pass */
        __u64 memory;
        unsigned passes, passes_of_all;
        EnforceAdmission admission;
        __u64 highest;
        __u64 highest_at_set;       /* when a lease came last */
        int fail;                   /* the next change */
        int fail_behind;            /* the next right that is given, once it is */
        EnforceWatch watches[2][4]; /* before and after mappings are listed; until a number is 0 */
        unsigned watched;
        unsigned looks; /* after so many of them the second is what both say */
        int listing;    /* what listing mappings returns */
} Fake;

static int failing(Fake *f) {
        return TAKE_GENERIC(f->fail, int, 0);
}

static EnforceLease *find(Fake *f, __u64 number) {
        for (size_t i = 0; i < f->n; i++)
                if (f->leases[i].number == number)
                        return f->leases + i;
        return NULL;
}

static int fake_set_device(void *u, __u32 rdev, bool gated) {
        return failing(u);
}

static int fake_set_lease(void *u, const EnforceLease *l) {
        Fake *f = u;
        EnforceLease *t = find(f, l->number);
        int r = failing(f);

        if (r < 0)
                return r;
        if (!t)
                t = f->leases + f->n++;
        *t = *l;
        f->n_set++;
        f->highest_at_set = f->highest;
        return 0;
}

static int fake_get_lease(void *u, __u64 number, EnforceLease *ret) {
        EnforceLease *t = find(u, number);

        if (!t)
                return -ENOENT;
        *ret = *t;
        return 0;
}

static int fake_drop_lease(void *u, __u64 number) {
        Fake *f = u;
        EnforceLease *t = find(f, number);
        int r = failing(f);

        if (r < 0)
                return r;
        if (!t)
                return -ENOENT;
        *t = f->leases[--f->n];
        return 0;
}

/* As the kernel's: a key that is not there any more begins anew. */
static int fake_next_lease(void *u, const __u64 *after, __u64 *ret) {
        Fake *f = u;
        EnforceLease *t = after ? find(f, *after) : NULL;
        size_t i = t ? (size_t) (t - f->leases) + 1 : 0;

        if (i >= f->n)
                return -ENOENT;
        *ret = f->leases[i].number;
        return 0;
}

static int fake_get_bearer(void *u, int pidfd, EnforceBearer *ret) {
        Fake *f = u;

        if (!f->has_bearer)
                return -ENOENT;
        *ret = f->bearer;
        return 0;
}

static int fake_set_bearer(void *u, int pidfd, const EnforceBearer *b) {
        Fake *f = u;
        int r = failing(f);

        if (r < 0)
                return r;
        f->bearer = *b;
        f->has_bearer = true;
        return 0;
}

/* As the programs do it. */
static bool give(EnforceBearer *b, __u64 number) {
        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX; i++) {
                __u64 *at = b->numbers + i;

                if (*at == 0 || *at == (number | ENFORCE_NUMBER_BARE))
                        *at = number;
                if (*at == number || (*at | ENFORCE_NUMBER_BARE) == number)
                        return true;
        }
        return false;
}

static int fake_admit(void *u, EnforceAdmission *a, bool everybody) {
        Fake *f = u;
        int r = failing(f);

        f->admission = *a;
        if (r < 0 || a->pid == 0)
                return r;
        f->passes++;
        f->passes_of_all += everybody;
        if (f->executes > 0) {
                f->executes--;
                f->memory++;
                f->shared = false;
        }
        a->memory = f->memory;
        a->users = f->shared ? 2 : 1;
        if (give(&f->bearer, a->number))
                a->marked++;
        else
                a->full++;
        f->has_bearer = true;
        if (!(a->number & ENFORCE_NUMBER_BARE))
                r = TAKE_GENERIC(f->fail_behind, int, 0);
        if (everybody && f->shared && !give(&f->sharer, a->number | ENFORCE_NUMBER_BARE))
                a->full++;
        return r;
}

static size_t count(const EnforceBearer *b) {
        size_t n = 0;

        while (n < ENFORCE_NUMBERS_MAX && b->numbers[n] != 0)
                n++;
        return n;
}

static int fake_get_highest(void *u, __u64 *ret) {
        *ret = ((Fake *) u)->highest;
        return 0;
}

static int fake_set_highest(void *u, __u64 number) {
        ((Fake *) u)->highest = number;
        return 0;
}

static int copy(const void *from, size_t size, void **ret) {
        void *t = malloc(size + 1);

        if (!t)
                return -ENOMEM;
        memcpy(t, from, size);
        *ret = t;
        return 0;
}

static int fake_watches(void *u, EnforceWatch **ret, size_t *ret_n) {
        Fake *f = u;
        const EnforceWatch *w = f->watches[f->watched >= 2 * f->looks || f->watched % 2 == 1];
        size_t n = 0;

        f->watched++;
        while (n < 4 && w[n].number != 0)
                n++;
        *ret_n = n;
        return copy(w, n * sizeof(*w), (void **) ret);
}

static int fake_flights(void *u, EnforceFlight **ret, size_t *ret_n) {
        *ret_n = 0;
        return copy("", 0, (void **) ret);
}

static int fake_mappings(void *u, EnforceMapping **ret, size_t *ret_n) {
        const EnforceMapping m[] = {
                        {.rdev = 1, .start = 2, .end = 3, .pid = (__u64) getpid()},
                        {.rdev = 1, .start = 2, .end = 3, .pid = 7},
                        {.rdev = 1, .start = 4, .end = 5, .pid = 7},
                        {.rdev = 1, .start = 4, .end = 5, .pid = 9},
        };
        Fake *f = u;

        if (f->listing < 0)
                return f->listing;
        *ret_n = ELEMENTSOF(m);
        return copy(m, sizeof(m), (void **) ret);
}

static void fake_free(void *u) {
}

static const EnforceOps ops = {
                .set_device = fake_set_device,
                .set_lease = fake_set_lease,
                .get_lease = fake_get_lease,
                .drop_lease = fake_drop_lease,
                .next_lease = fake_next_lease,
                .get_bearer = fake_get_bearer,
                .set_bearer = fake_set_bearer,
                .admit = fake_admit,
                .get_highest = fake_get_highest,
                .set_highest = fake_set_highest,
                .flights = fake_flights,
                .watches = fake_watches,
                .mappings = fake_mappings,
                .free = fake_free,
};

static Enforce *enforce_on(Fake *f) {
        Enforce *e;

        assert_int_equal(enforce_new(&ops, f, false, &e), 0);
        return e;
}

static void set(Enforce *e, __u64 number) {
        const EnforceLease l = {.number = number, .n = 1, .slices = {{.rdev = 1, .end = 4096}}};

        assert_int_equal(enforce_set_lease(e, &l), 0);
}

static void test_rdev(void **state) {
        assert_int_equal(enforce_rdev(makedev(240, 3)), 240 << 20 | 3);
        assert_int_equal(enforce_rdev(makedev(511, 0xfffff)), 511U << 20 | 0xfffff);
}

/* A number is never below what the table has seen, and the table never sees one before that is written. */
static void test_numbers(void **state) {
        Fake f = {};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        assert_int_equal(enforce_next_number(e), 1);
        set(e, 7);
        assert_int_equal(f.highest_at_set, 7);
        assert_int_equal(enforce_next_number(e), 8);
        set(e, 5);
        assert_int_equal(enforce_next_number(e), 8);
        assert_int_equal(enforce_revoke(e, 7), 0);
        assert_int_equal(enforce_next_number(e), 8);
        /* The proof's counts for nothing. */
        set(e, ENFORCE_NUMBER_PROOF);
        assert_int_equal(enforce_next_number(e), 8);
}

static void test_revoke(void **state) {
        Fake f = {};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);
        EnforceLease l;

        set(e, 3);
        f.fail = -EIO;
        assert_int_equal(enforce_revoke(e, 3), -EIO);
        assert_int_equal(enforce_get_lease(e, 3, &l), 0);
        assert_int_equal(enforce_revoke(e, 3), 0);
        assert_int_equal(enforce_get_lease(e, 3, &l), -ENOENT);
        /* What has no right has none. */
        assert_int_equal(enforce_revoke(e, 3), 0);
}

/* What is as it was stays where it is: who looks it up meanwhile is not to find that it is another. */
static void test_set_again(void **state) {
        EnforceLease l = {.number = 3, .n = 1, .slices = {{.rdev = 1, .end = 4096}}};
        Fake f = {};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        assert_int_equal(enforce_set_lease(e, &l), 0);
        assert_int_equal(enforce_set_lease(e, &l), 0);
        assert_int_equal(f.n_set, 1);
        l.slices[0].end = 8192;
        assert_int_equal(enforce_set_lease(e, &l), 0);
        l.slices[0].start = 4096;
        assert_int_equal(enforce_set_lease(e, &l), 0);
        l.slices[0].rdev = 2;
        assert_int_equal(enforce_set_lease(e, &l), 0);
        l.flags = ENFORCE_LEASE_EXPOSED;
        assert_int_equal(enforce_set_lease(e, &l), 0);
        l.n = 2;
        assert_int_equal(enforce_set_lease(e, &l), 0);
        assert_int_equal(f.n_set, 6);
        assert_int_equal(enforce_get_lease(e, 3, &l), 0);
        assert_int_equal(l.n, 2);
}

static bool is_even(__u64 number, void *userdata) {
        return number % 2 == 0;
}

static void test_keep_only(void **state) {
        Fake f = {};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);
        EnforceLease l;

        assert_int_equal(enforce_keep_only(e, is_even, NULL), 0);
        for (__u64 i = 1; i <= 50; i++)
                set(e, i);
        assert_int_equal(enforce_keep_only(e, is_even, NULL), 25);
        for (__u64 i = 1; i <= 50; i++)
                assert_int_equal(enforce_get_lease(e, i, &l), i % 2 == 0 ? 0 : -ENOENT);
        set(e, 51);
        f.fail = -EPERM;
        assert_int_equal(enforce_keep_only(e, is_even, NULL), -EPERM);
}

static pid_t child;

static int child_pidfd(void) {
        int fd;

        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                (void) pause();
                _exit(0);
        }
        assert_int_equal(pidfd_new(child, &fd), 0);
        return fd;
}

static int child_end(void **state) {
        if (child > 0) {
                (void) kill(child, SIGKILL);
                (void) waitpid(child, NULL, 0);
        }
        child = 0;
        return 0;
}

static void test_admit(void **state) {
        _cleanup_close_ int pidfd = child_pidfd();
        Fake f = {.memory = 1};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        assert_int_equal(enforce_admit(e, STDIN_FILENO, 1, NULL, NULL), -EBADF);
        assert_false(f.has_bearer);
        assert_int_equal(enforce_admit(e, pidfd, 1, NULL, NULL), 1);
        assert_int_equal(enforce_admit(e, pidfd, 1, NULL, NULL), 0);
        assert_int_equal(enforce_admit(e, pidfd, 2, NULL, NULL), 1);
        assert_int_equal(count(&f.bearer), 2);
        assert_int_equal(f.bearer.numbers[0], 1);
        assert_int_equal(f.bearer.numbers[1], 2);
        assert_int_equal(f.bearer.flags, 0);
        assert_int_equal(f.admission.pid, 0);
        /* Nobody shares its memory, so nobody else is asked. */
        assert_int_equal(f.passes_of_all, 0);
        f.fail = -ENOENT;
        assert_int_equal(enforce_admit(e, pidfd, 3, NULL, NULL), -ENOENT);
        assert_int_equal(count(&f.bearer), 2);
        /* Who was told that it failed has no right by it. */
        f.fail_behind = -EINTR;
        assert_int_equal(enforce_admit(e, pidfd, 3, NULL, NULL), -EINTR);
        assert_int_equal(f.bearer.numbers[2], 3 | ENFORCE_NUMBER_BARE);
        assert_int_equal(count(&f.bearer), 3);
        assert_int_equal(enforce_admit(e, pidfd, 3, NULL, NULL), 1);
        assert_int_equal(f.bearer.numbers[2], 3);
        /* What may map all is left as it is: its children would inherit numbers. */
        f.bearer = (EnforceBearer){.flags = ENFORCE_BEARER_ALL};
        assert_int_equal(enforce_admit(e, pidfd, 3, NULL, NULL), 0);
        assert_int_equal(count(&f.bearer), 0);
}

/* Who shares its memory is known before it has a right, and has none himself. */
static void test_sharer(void **state) {
        _cleanup_close_ int pidfd = child_pidfd();
        Fake f = {.memory = 1, .shared = true};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        assert_int_equal(enforce_admit(e, pidfd, 1, NULL, NULL), 1);
        assert_int_equal(f.passes_of_all, 1);
        assert_int_equal(f.bearer.numbers[0], 1);
        assert_int_equal(f.sharer.numbers[0], 1 | ENFORCE_NUMBER_BARE);
        assert_int_equal(count(&f.sharer), 1);
        /* Bare first, and what was bare becomes a right. */
        f.bearer.numbers[1] = 2 | ENFORCE_NUMBER_BARE;
        assert_int_equal(enforce_admit(e, pidfd, 2, NULL, NULL), 1);
        assert_int_equal(f.bearer.numbers[1], 2);
        assert_int_equal(count(&f.bearer), 2);
        /* No room for him is none for it. */
        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX; i++)
                f.sharer.numbers[i] = 100 + i;
        assert_int_equal(enforce_admit(e, pidfd, 3, NULL, NULL), -EUSERS);
        assert_int_equal(f.bearer.numbers[2], 3 | ENFORCE_NUMBER_BARE);
        assert_int_equal(f.admission.pid, 0);
}

/* Who executes something meanwhile has other memory, and others may share that. */
static void test_executes(void **state) {
        _cleanup_close_ int pidfd = child_pidfd();
        Fake f = {.memory = 1, .executes = 2};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        assert_int_equal(enforce_admit(e, pidfd, 1, NULL, NULL), 1);
        assert_int_equal(f.passes, 5);
        assert_int_equal(f.bearer.numbers[0], 1);
        f.executes = 1000;
        assert_int_equal(enforce_admit(e, pidfd, 2, NULL, NULL), -EBUSY);
        assert_int_equal(f.bearer.numbers[1], 2 | ENFORCE_NUMBER_BARE);
        assert_int_equal(f.admission.pid, 0);
}

static EnforceMatter even_matter(__u64 number, void *userdata) {
        return number % 2 == 0 ? ENFORCE_MATTERS : ENFORCE_MATTERS_NOT;
}

static EnforceMatter any_odd_matters(__u64 number, void *userdata) {
        return number % 2 == 0 ? ENFORCE_MATTERS : ENFORCE_ANY_MATTERS;
}

/* Numbers that nothing can depend on any more make room, others do not. */
static void test_full(void **state) {
        _cleanup_close_ int pidfd = child_pidfd();
        Fake f = {.memory = 1};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        for (__u64 i = 1; i <= ENFORCE_NUMBERS_MAX; i++)
                assert_int_equal(enforce_admit(e, pidfd, 2 * i, even_matter, NULL), 1);
        assert_int_equal(enforce_admit(e, pidfd, 2, even_matter, NULL), 0);
        assert_int_equal(enforce_admit(e, pidfd, 1, even_matter, NULL), -EUSERS);
        assert_int_equal(count(&f.bearer), ENFORCE_NUMBERS_MAX);
        f.bearer.numbers[0] = 1001;
        f.bearer.numbers[9] = 1003 | ENFORCE_NUMBER_BARE;
        f.bearer.numbers[10] |= ENFORCE_NUMBER_BARE;
        assert_int_equal(enforce_admit(e, pidfd, 1000, even_matter, NULL), 1);
        assert_int_equal(count(&f.bearer), ENFORCE_NUMBERS_MAX - 1);
        assert_int_equal(f.bearer.numbers[0], 4);
        assert_int_equal(f.bearer.numbers[8], 22 | ENFORCE_NUMBER_BARE);
        assert_int_equal(f.bearer.numbers[ENFORCE_NUMBERS_MAX - 2], 1000);
        /* A move that was counted meanwhile would be lost. */
        assert_true(f.bearer.moves >= UINT64_C(1) << 32);
}

/* Of those that only show that it may be under way one remains, and that of what it may map. */
static void test_full_of_any(void **state) {
        _cleanup_close_ int pidfd = child_pidfd();
        Fake f = {.memory = 1};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);

        for (__u64 i = 0; i < ENFORCE_NUMBERS_MAX; i++)
                assert_int_equal(enforce_admit(e, pidfd, 2 * i + 1, any_odd_matters, NULL), 1);
        f.bearer.numbers[0] |= ENFORCE_NUMBER_BARE;
        f.bearer.numbers[5] = 6;
        assert_int_equal(enforce_admit(e, pidfd, 1001, any_odd_matters, NULL), 1);
        assert_int_equal(count(&f.bearer), 3);
        assert_int_equal(f.bearer.numbers[0] & ENFORCE_NUMBER_BARE, 0);
        assert_int_equal(f.bearer.numbers[0] % 2, 1);
        assert_int_equal(f.bearer.numbers[1], 6);
        assert_int_equal(f.bearer.numbers[2], 1001);
        for (__u64 i = count(&f.bearer); i < ENFORCE_NUMBERS_MAX; i++)
                f.bearer.numbers[i] = (2 * i + 1001) | ENFORCE_NUMBER_BARE;
        f.bearer.numbers[0] |= ENFORCE_NUMBER_BARE;
        f.bearer.numbers[2] |= ENFORCE_NUMBER_BARE;
        assert_int_equal(enforce_admit(e, pidfd, 8, any_odd_matters, NULL), 1);
        assert_int_equal(count(&f.bearer), 3);
        assert_true(f.bearer.numbers[0] & ENFORCE_NUMBER_BARE);
        assert_int_equal(f.bearer.numbers[2], 8);
}

/* A list of mappings is as good as those who bear numbers have been quiet. */
static void test_look(void **state) {
        const EnforceWatch quiet = {.number = 3, .pid = 7, .memory = 1, .changes = 5, .counted = 1};
        const EnforceWatch other = {.number = 4, .pid = 8, .memory = 2, .changes = 5, .counted = 1};
        EnforceWatch changed = quiet;
        Fake f = {.looks = 100, .watches = {{quiet, other}, {other, quiet}}};
        _cleanup_(enforce_freep) Enforce *e = enforce_on(&f);
        EnforceLook l = {};
        pid_t *pids;
        size_t n;

        assert_int_equal(enforce_look(e, &l), 0);
        assert_int_equal(l.n_flights, 0);
        assert_int_equal(l.n_mappings, 3);
        assert_int_equal(f.watched, 2);
        assert_int_equal(enforce_look_pids(&l, &pids, &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(pids[0], 7);
        assert_int_equal(pids[1], 9);
        free(pids);
        enforce_look_done(&l);

        /* His mappings have changed meanwhile; the other one's have not. */
        changed.changes++;
        f.watches[1][1] = changed;
        f.watched = 0;
        assert_int_equal(enforce_look(e, &l), 0);
        assert_int_equal(l.n_flights, 2);
        assert_int_equal(l.flights[0].number, 3);
        assert_int_equal(l.flights[1].number, 3);
        enforce_look_done(&l);
        assert_true(f.watched > 2);

        /* Once he is quiet it counts. */
        f.looks = 1;
        f.watched = 0;
        assert_int_equal(enforce_look(e, &l), 0);
        assert_int_equal(l.n_flights, 0);
        assert_int_equal(l.n_mappings, 3);
        enforce_look_done(&l);

        /* A child that was not there before, and one that is not any more. */
        f.looks = 100;
        f.watches[1][1] = quiet;
        f.watches[1][2] = (EnforceWatch){.number = 3, .pid = 9, .memory = 3, .counted = 1};
        assert_int_equal(enforce_look(e, &l), 0);
        assert_int_equal(l.n_flights, 1);
        assert_int_equal(l.flights[0].pid, 9);
        enforce_look_done(&l);
        f.watches[1][1] = (EnforceWatch){};
        assert_int_equal(enforce_look(e, &l), 0);
        assert_int_equal(l.n_flights, 1);
        assert_int_equal(l.flights[0].pid, 7);
        enforce_look_done(&l);

        /* Where nothing counts changes, or mappings cannot be listed, nothing is known. */
        f.watches[0][0].counted = f.watches[1][1].counted = 0;
        assert_int_equal(enforce_look(e, &l), -EOPNOTSUPP);
        f.listing = -EIO;
        assert_int_equal(enforce_look(e, &l), -EIO);
}

static void test_lsm(void **state) {
        assert_true(enforce_lsm_lists_bpf("lockdown,capability,bpf\n"));
        assert_true(enforce_lsm_lists_bpf("bpf,ipe,ima"));
        assert_true(enforce_lsm_lists_bpf("bpf"));
        assert_false(enforce_lsm_lists_bpf(""));
        assert_false(enforce_lsm_lists_bpf("\n"));
        assert_false(enforce_lsm_lists_bpf("capability,bpfx,xbpf,bp"));
}

static void test_steady(void **state) {
        static const char debian[] = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2";

        assert_true(enforce_kernel_is_steady("6.12.117+deb12-cloud-amd64", debian, NULL));
        assert_true(enforce_kernel_is_steady("6.2.0", "#1 SMP PREEMPT", "(full)"));
        assert_true(enforce_kernel_is_steady("7.0", "#1 SMP PREEMPT_RT", NULL));
        assert_true(enforce_kernel_is_steady("6.1.0-40-cloud-amd64", debian,
                                             "none (voluntary) full\n"));
        assert_true(enforce_kernel_is_steady("5.14.0-70", "#1 SMP Thu", NULL));
        assert_false(enforce_kernel_is_steady("6.1.0", debian, "none voluntary (full)\n"));
        assert_false(enforce_kernel_is_steady("6.1.0", debian, NULL));
        assert_false(enforce_kernel_is_steady("6.1.0", debian, ""));
        assert_false(enforce_kernel_is_steady("6.1.0", "#1 SMP PREEMPT", "none (voluntary) full"));
        assert_false(enforce_kernel_is_steady("5.15.0", "#1 SMP PREEMPT_RT", "(none)"));
        assert_false(enforce_kernel_is_steady("nonsense", debian, "(none)"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_rdev),
                        cmocka_unit_test(test_numbers),
                        cmocka_unit_test(test_revoke),
                        cmocka_unit_test(test_set_again),
                        cmocka_unit_test(test_keep_only),
                        cmocka_unit_test_teardown(test_admit, child_end),
                        cmocka_unit_test_teardown(test_sharer, child_end),
                        cmocka_unit_test_teardown(test_executes, child_end),
                        cmocka_unit_test_teardown(test_full, child_end),
                        cmocka_unit_test_teardown(test_full_of_any, child_end),
                        cmocka_unit_test(test_look),
                        cmocka_unit_test(test_lsm),
                        cmocka_unit_test(test_steady),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
