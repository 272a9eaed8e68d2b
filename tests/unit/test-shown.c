/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "lifeline.h"
#include "pidfd.h"
#include "shown.h"
#include "test.h"

/* Which leases a process shows, where others bind theirs to it. */

#define OWNER 1000
#define OTHER 1001

typedef struct Bed {
        Manager manager;
        Region region;
        Holder holder;
        int pidfd;
        int lifetimes[4]; /* of lease 1 and so on */
} Bed;

static void on_nothing(Lifeline *l, void *userdata) {
}

static void on_unbound(Lifeline *l, pid_t pid, void *userdata) {
}

static const LifelineOps ops = {.closed = on_nothing, .unbound = on_unbound};

static void add_lease(Bed *b, uint64_t id, uid_t owner, bool bound) {
        Lease *l;

        assert_int_equal(lease_new(id, 1, &l), 0);
        assert_int_equal(lease_set_slice(l, 0, "egm4", &b->region, 0, MIB), 0);
        l->owner_uid = owner;
        l->lifetime_open = true;
        assert_int_equal(lifeline_new(b->manager.event, &ops, l, &l->lifeline,
                                      b->lifetimes + id - 1),
                         0);
        if (bound)
                assert_int_equal(lifeline_bind(l->lifeline, b->pidfd, NULL), 1);
        manager_insert_lease(&b->manager, l);
}

static void bed_begin(Bed *b) {
        *b = (Bed){.lifetimes = {-EBADF, -EBADF, -EBADF, -EBADF}};
        RB_INIT(&b->manager.leases);
        assert_int_equal(sd_event_new(&b->manager.event), 0);
        b->holder = (Holder){.pid = fork(), .uid = OWNER};
        if (b->holder.pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) pause();
                _exit(0);
        }
        assert_true(b->holder.pid > 0);
        assert_int_equal(pidfd_new(b->holder.pid, &b->pidfd), 0);
        assert_int_equal(pidfd_get_start_time(b->pidfd, &b->holder.start_time), 0);
}

static void bed_end(Bed *b) {
        Lease *l;

        while ((l = RB_ROOT(&b->manager.leases))) {
                RB_REMOVE(LeaseTree, &b->manager.leases, l);
                l->lifeline = lifeline_free(l->lifeline);
                lease_free(l);
        }
        for (size_t i = 0; i < ELEMENTSOF(b->lifetimes); i++)
                (void) safe_close(b->lifetimes[i]);
        sd_event_unref(b->manager.event);
        (void) kill(b->holder.pid, SIGKILL);
        (void) waitpid(b->holder.pid, NULL, 0);
        (void) safe_close(b->pidfd);
}

/* As a bit for each. */
static unsigned shown(Bed *b) {
        _cleanup_free_ const Lease **leases = NULL;
        unsigned bits = 0;
        size_t n;

        assert_int_equal(shown_by(&b->manager, &b->region, &b->holder, &leases, &n), 0);
        for (size_t i = 0; i < n; i++)
                bits |= 1U << leases[i]->id;
        return bits;
}

static void test_bound(void **state) {
        Bed b;

        bed_begin(&b);
        add_lease(&b, 1, OTHER, true);
        /* A helper of the owner's, say, which has nothing to show by itself. */
        assert_int_equal(shown(&b), 0);
        add_lease(&b, 2, OTHER, true);
        assert_int_equal(shown(&b), 0);
        add_lease(&b, 3, OWNER, true);
        assert_int_equal(shown(&b), 1U << 1 | 1U << 2 | 1U << 3);
        bed_end(&b);
}

static void test_root(void **state) {
        Bed b;

        bed_begin(&b);
        add_lease(&b, 1, 0, true);
        assert_int_equal(shown(&b), 1U << 1);
        bed_end(&b);
}

static void test_lifetime(void **state) {
        ino_t pipe;
        Bed b;

        bed_begin(&b);
        add_lease(&b, 1, OTHER, false);
        assert_int_equal(shown(&b), 0);
        pipe = lifeline_inode(RB_ROOT(&b.manager.leases)->lifeline);
        b.holder.pipes = &pipe;
        b.holder.n_pipes = 1;
        assert_int_equal(shown(&b), 1U << 1);
        bed_end(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_bound),
                        cmocka_unit_test(test_root),
                        cmocka_unit_test(test_lifetime),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
