/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "confine.h"
#include "fd-util.h"
#include "lifeline.h"
#include "manager.h"
#include "pidfd.h"
#include "restore.h"
#include "run-until.h"
#include "state-dir.h"

/* What the kernel's table is made after a restart, by leases of which some are over although no record says so. */

#define TABLE_MAX 8

static EnforceLease table[TABLE_MAX];
static size_t n_table;

static EnforceLease *find(__u64 number) {
        for (size_t i = 0; i < n_table; i++)
                if (table[i].number == number)
                        return table + i;
        return NULL;
}

static int fake_set_lease(void *u, const EnforceLease *l) {
        EnforceLease *t = find(l->number);

        if (!t)
                t = table + n_table++;
        *t = *l;
        return 0;
}

static int fake_get_lease(void *u, __u64 number, EnforceLease *ret) {
        EnforceLease *t = find(number);

        if (!t)
                return -ENOENT;
        *ret = *t;
        return 0;
}

static int fake_drop_lease(void *u, __u64 number) {
        EnforceLease *t = find(number);

        if (!t)
                return -ENOENT;
        *t = table[--n_table];
        return 0;
}

static int fake_next_lease(void *u, const __u64 *after, __u64 *ret) {
        EnforceLease *t = after ? find(*after) : NULL;
        size_t i = t ? (size_t) (t - table) + 1 : 0;

        if (i >= n_table)
                return -ENOENT;
        *ret = table[i].number;
        return 0;
}

/* Whoever he is. */
static int fake_get_bearer(void *u, int pidfd, EnforceBearer *ret) {
        *ret = (EnforceBearer){.flags = ENFORCE_BEARER_ALL};
        return 0;
}

static int fake_get_highest(void *u, __u64 *ret) {
        *ret = TABLE_MAX;
        return 0;
}

static int fake_set_highest(void *u, __u64 number) {
        return 0;
}

static void fake_free(void *u) {
}

static const EnforceOps ops = {
                .set_lease = fake_set_lease,
                .get_lease = fake_get_lease,
                .drop_lease = fake_drop_lease,
                .next_lease = fake_next_lease,
                .get_bearer = fake_get_bearer,
                .get_highest = fake_get_highest,
                .set_highest = fake_set_highest,
                .free = fake_free,
};

typedef struct Bed {
        sd_event *event;
        Config *config;
        Manager *manager;
        Restore restore;
} Bed;

static void start(Bed *b) {
        b->restore = (Restore){};
        assert_int_equal(manager_new(b->event, b->config, &b->manager), 0);
        assert_int_equal(enforce_new(&ops, NULL, true, &b->manager->enforce), 0);
        assert_int_equal(restore_begin(b->manager, state_dir, &b->restore), 0);
}

/* As a crash does: without a word to anybody, nor a turn of the loop. */
static void stop(Bed *b) {
        restore_done(&b->restore);
        enforce_free(b->manager->enforce);
        b->manager->enforce = NULL;
        b->manager = manager_free(b->manager);
}

static int setup(void **state) {
        Bed *b = calloc(1, sizeof(*b));

        assert_non_null(b);
        assert_int_equal(state_dir_setup(state), 0);
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(config_new(&b->config), 0);
        n_table = 0;
        start(b);
        *state = b;
        return 0;
}

static int teardown(void **state) {
        Bed *b = *state;

        stop(b);
        config_free(b->config);
        sd_event_unref(b->event);
        free(b);
        return state_dir_teardown(state);
}

static void keep_fd(int r, const EgmError *e, Lease *l, int lifetime_fd, void *userdata) {
        assert_int_equal(r, 0);
        *(int *) userdata = fd_copy(lifetime_fd);
}

static uint64_t acquire(Bed *b, int holder, int *ret_fd) {
        AcquireRequest q = {.n_slices = 1, .holder = -EBADF, .uid = geteuid()};
        Waiter *w;

        q.slices = calloc(1, sizeof(*q.slices));
        assert_non_null(q.slices);
        *q.slices = (SliceRequest){.size = 2 * MIB, .node = EGM_NODE_ANY, .socket = 0};
        /* Which the bus would refuse by now. */
        q.label = strdup("vm\xe2\x80\xae");
        assert_non_null(q.label);
        if (holder >= 0)
                q.holder = fd_copy(holder);
        manager_acquire(b->manager, &q, keep_fd, ret_fd, &w);
        assert_null(w);
        return b->manager->next_lease_id - 1;
}

static void begin_regions(Bed *b) {
        Region *r;

        b->manager->ignore_inaccessible = true;
        assert_int_equal(manager_start_simulation(b->manager, "gb200", 16384), 0);
        r = manager_find_region(b->manager, "egm4");
        assert_non_null(r);
        run_loop_until(b->event, r->state == REGION_READY && !r->scrubs &&
                                                 extent_map_bytes(r->map, EXTENT_DIRTY) == 0);
        r->enforced = true;
}

/* As the table's rules see a region that is taken up again. */
static RegionInfo found_info;
static Region found = {.enforced = true, .info = &found_info};

static pid_t fork_holder(int *ret_pidfd) {
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) pause();
                _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(pidfd_new(pid, ret_pidfd), 0);
        return pid;
}

/* Its lifetime has ended, and by the record it is as active as ever. */
static void end_of_lifetime(Bed *b, bool revoked) {
        int kept_fd, closed_fd, zombie_fd;
        _cleanup_close_ int pidfd = -EBADF;
        uint64_t kept, closed, zombie;
        pid_t pid = fork_holder(&pidfd);
        Lease *l;

        begin_regions(b);
        kept = acquire(b, -EBADF, &kept_fd);
        closed = acquire(b, -EBADF, &closed_fd);
        zombie = acquire(b, pidfd, &zombie_fd);
        assert_int_equal(n_table, 3);
        (void) close(closed_fd);
        (void) close(zombie_fd);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t) pid, &(siginfo_t){}, WEXITED | WNOWAIT), 0);
        if (revoked) {
                assert_int_equal(fake_drop_lease(NULL, closed), 0);
                assert_int_equal(fake_drop_lease(NULL, zombie), 0);
        }
        stop(b);

        start(b);
        assert_int_equal(n_table, 1);
        assert_non_null(find(kept));
        RB_FOREACH (l, LeaseTree, &b->manager->leases) {
                assert_string_equal(l->label, "vm???");
                assert_false(l->exposed);
                assert_int_equal(l->revoked, l->id != kept);
                l->slices[0].region = &found;
        }
        confine_take_up(b->manager);
        assert_int_equal(n_table, 1);
        assert_non_null(find(kept));
        assert_true(confine_holds(manager_find_lease(b->manager, kept)));
        RB_FOREACH (l, LeaseTree, &b->manager->leases)
                l->slices[0].region = NULL;
        (void) close(kept_fd);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_ended(void **state) {
        end_of_lifetime(*state, false);
}

static void test_ended_and_revoked(void **state) {
        end_of_lifetime(*state, true);
}

/* What is kept and not in the table was open to all for a while. */
static void test_exposed(void **state) {
        Bed *b = *state;
        uint64_t id;
        Lease *l;
        int fd;

        begin_regions(b);
        id = acquire(b, -EBADF, &fd);
        stop(b);
        n_table = 0;
        start(b);
        l = manager_find_lease(b->manager, id);
        assert_non_null(l);
        assert_true(l->exposed);
        assert_false(l->revoked);
        l->slices[0].region = &found;
        confine_take_up(b->manager);
        l->slices[0].region = NULL;
        assert_non_null(find(id));
        assert_true(find(id)->flags & ENFORCE_LEASE_EXPOSED);
        assert_false(confine_holds(l));
        (void) close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_ended, setup, teardown),
                        cmocka_unit_test_setup_teardown(test_ended_and_revoked, setup, teardown),
                        cmocka_unit_test_setup_teardown(test_exposed, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
