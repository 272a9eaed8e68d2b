/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "lifeline.h"
#include "manager.h"
#include "pidfd.h"
#include "provider-sim.h"
#include "records.h"
#include "run-until.h"

/* Requests and bindings: what is left of one that fails half way, and what one that waits makes others do. */

typedef struct Bed {
        sd_event *event;
        Config *config;
        Manager *manager;
        Region *region, *other;
        pid_t child; /* somebody to be a holder */
        int pidfd;
} Bed;

static int record_error; /* of the next record */

int __real_record_lease(Manager *m, const Lease *l);
int __wrap_record_lease(Manager *m, const Lease *l);

static char recorded_unit[32];
static unsigned recorded_bound;

int __wrap_record_lease(Manager *m, const Lease *l) {
        (void) snprintf(recorded_unit, sizeof(recorded_unit), "%s", l->holder_unit ?: "");
        recorded_bound = lifeline_bound(l->lifeline);
        return record_error < 0 ? TAKE_GENERIC(record_error, int, 0) : __real_record_lease(m, l);
}

static int forget_error; /* of the next record that is to go */

int __real_forget_lease(Manager *m, uint64_t id);
int __wrap_forget_lease(Manager *m, uint64_t id);

int __wrap_forget_lease(Manager *m, uint64_t id) {
        return forget_error < 0 ? TAKE_GENERIC(forget_error, int, 0) : __real_forget_lease(m, id);
}

int __wrap_pid_get_unit(pid_t pid, char **ret, char **ret_slice);

int __wrap_pid_get_unit(pid_t pid, char **ret, char **ret_slice) {
        *ret = strdup("vm.service");
        return *ret ? 0 : -ENOMEM;
}

static unsigned n_submitted, n_urgent; /* scrubs */

int __real_scrubber_submit(Scrubber *s, Provider *p, int node, uint64_t offset, uint64_t size,
                           bool urgent, const ScrubOps *ops, void *userdata, ScrubJob **ret);
int __wrap_scrubber_submit(Scrubber *s, Provider *p, int node, uint64_t offset, uint64_t size,
                           bool urgent, const ScrubOps *ops, void *userdata, ScrubJob **ret);

int __wrap_scrubber_submit(Scrubber *s, Provider *p, int node, uint64_t offset, uint64_t size,
                           bool urgent, const ScrubOps *ops, void *userdata, ScrubJob **ret) {
        n_submitted++;
        n_urgent += urgent;
        return __real_scrubber_submit(s, p, node, offset, size, urgent, ops, userdata, ret);
}

/* ---- the kernel's table ---- */

static EnforceLease in_table;
static EnforceBearer bearer;
static __u64 highest;

static int fake_set_lease(void *u, const EnforceLease *l) {
        in_table = *l;
        return 0;
}

static int fake_get_lease(void *u, __u64 number, EnforceLease *ret) {
        *ret = in_table;
        return in_table.n > 0 && in_table.number == number ? 0 : -ENOENT;
}

static unsigned n_refusals; /* to come */

static int fake_drop_lease(void *u, __u64 number) {
        if (n_refusals > 0) {
                n_refusals--;
                return -EIO;
        }
        if (in_table.n == 0 || in_table.number != number)
                return -ENOENT;
        in_table = (EnforceLease){};
        return 0;
}

static int fake_get_bearer(void *u, int pidfd, EnforceBearer *ret) {
        *ret = bearer;
        return bearer.numbers[0] != 0 ? 0 : -ENOENT;
}

static int admit_error; /* of the next right that is given */

/* It has its memory for itself, and room for one. */
static int fake_admit(void *u, EnforceAdmission *a, bool everybody) {
        if (a->pid == 0)
                return 0;
        if (!(a->number & ENFORCE_NUMBER_BARE) && admit_error < 0)
                return TAKE_GENERIC(admit_error, int, 0);
        a->memory = a->users = a->marked = 1;
        bearer.numbers[0] = a->number;
        return 0;
}

static int fake_get_highest(void *u, __u64 *ret) {
        *ret = highest;
        return 0;
}

static int fake_set_highest(void *u, __u64 number) {
        highest = number;
        return 0;
}

static int fake_flights(void *u, EnforceFlight **ret, size_t *ret_n) {
        *ret = NULL;
        *ret_n = 0;
        return 0;
}

static int fake_watches(void *u, EnforceWatch **ret, size_t *ret_n) {
        return -EOPNOTSUPP;
}

static void fake_free(void *u) {
}

static const EnforceOps enforce_ops = {
                .set_lease = fake_set_lease,
                .get_lease = fake_get_lease,
                .drop_lease = fake_drop_lease,
                .get_bearer = fake_get_bearer,
                .admit = fake_admit,
                .get_highest = fake_get_highest,
                .set_highest = fake_set_highest,
                .flights = fake_flights,
                .watches = fake_watches,
                .free = fake_free,
};

/* ---- the bed ---- */

static bool is_clean(const Region *r) {
        return r->state == REGION_READY && !r->scrubs &&
               extent_map_bytes(r->map, EXTENT_FREE) == extent_map_size(r->map);
}

static int bed_setup(void **state) {
        Bed *b = calloc(1, sizeof(*b));

        assert_non_null(b);
        bearer = (EnforceBearer){};
        in_table = (EnforceLease){};
        highest = 0;
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(config_new(&b->config), 0);
        assert_int_equal(manager_new(b->event, b->config, &b->manager), 0);
        b->manager->ignore_inaccessible = true;
        assert_int_equal(manager_start_simulation(b->manager, "gb200", 16384), 0);
        b->region = manager_find_region(b->manager, "egm4");
        b->other = manager_find_region(b->manager, "egm5");
        assert_non_null(b->region);
        assert_non_null(b->other);
        run_loop_until(b->event, is_clean(b->region) && is_clean(b->other));
        n_submitted = n_urgent = 0;
        b->child = fork();
        if (b->child == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) pause();
                _exit(0);
        }
        assert_true(b->child > 0);
        assert_int_equal(pidfd_new(b->child, &b->pidfd), 0);
        *state = b;
        return 0;
}

static int bed_teardown(void **state) {
        Bed *b = *state;

        (void) kill(b->child, SIGKILL);
        (void) waitpid(b->child, NULL, 0);
        (void) safe_close(b->pidfd);
        enforce_free(b->manager->enforce);
        b->manager->enforce = NULL;
        manager_free(b->manager);
        config_free(b->config);
        sd_event_unref(b->event);
        free(b);
        return 0;
}

typedef struct Outcome {
        int error;
        EgmErrorKind kind;
        uint64_t lease;
} Outcome;

static void on_outcome(int r, const EgmError *e, Lease *l, int lifetime_fd, void *userdata) {
        Outcome *o = userdata;

        *o = (Outcome){.error = r, .kind = e->kind, .lease = l ? l->id : 0};
}

static AcquireRequest request(const char *region, uint64_t size) {
        AcquireRequest q = {.n_slices = 1, .holder = -EBADF, .uid = geteuid()};

        q.slices = calloc(1, sizeof(*q.slices));
        assert_non_null(q.slices);
        *q.slices = (SliceRequest){.region = strdup(region),
                                   .size = size,
                                   .whole = size == 0,
                                   .node = EGM_NODE_ANY,
                                   .socket = EGM_SOCKET_ANY};
        assert_non_null(q.slices->region);
        return q;
}

/* size 0: all of it, by path. */
static Outcome acquire(Bed *b, uint64_t size, int holder) {
        AcquireRequest q = request("egm4", size);
        Outcome o = {};
        Waiter *w;

        if (holder >= 0)
                q.holder = fd_copy(holder);
        q.slices->include_retired = q.delegate = size == 0;
        manager_acquire(b->manager, &q, on_outcome, &o, &w);
        assert_null(w);
        return o;
}

/* Who is let in may have handed it on to children by the time that something fails: that comes last. A number that somebody
 * may have heard of is not used again. */
static void test_number(void **state) {
        Bed *b = *state;
        Outcome o;

        assert_int_equal(enforce_new(&enforce_ops, NULL, false, &b->manager->enforce), 0);
        b->region->enforced = true;
        record_error = -ENOSPC;
        o = acquire(b, 2 * MIB, b->pidfd);
        assert_int_equal(o.error, -ENOSPC);
        assert_int_equal(bearer.numbers[0], 0);
        assert_int_equal(in_table.n, 0);
        assert_true(is_clean(b->region));

        admit_error = -EIO;
        o = acquire(b, 2 * MIB, b->pidfd);
        assert_int_equal(o.error, -EIO);
        assert_int_not_equal(bearer.numbers[0], 0);
        assert_int_equal(in_table.n, 0);
        assert_true(is_clean(b->region));

        o = acquire(b, 2 * MIB, -EBADF);
        assert_int_equal(o.error, 0);
        assert_int_equal(in_table.number, o.lease);
        assert_int_not_equal(bearer.numbers[0] & ~ENFORCE_NUMBER_BARE, o.lease);
        assert_true(highest >= o.lease);
}

/* After a restart the record would have the holder map what somebody else was lent since. */
static void test_record_that_stays(void **state) {
        Bed *b = *state;
        Outcome o;

        assert_int_equal(enforce_new(&enforce_ops, NULL, false, &b->manager->enforce), 0);
        b->region->enforced = true;
        record_error = forget_error = -EIO;
        o = acquire(b, 2 * MIB, b->pidfd);
        assert_int_equal(o.error, -EIO);
        assert_true(is_clean(b->region)); /* there is none */

        admit_error = forget_error = -EIO;
        o = acquire(b, 2 * MIB, b->pidfd);
        assert_int_equal(o.error, -EIO);
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_LEASED), 2 * MIB);

        o = acquire(b, 2 * MIB, -EBADF);
        assert_int_equal(o.error, 0);
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_LEASED), 4 * MIB);
}

/* A binding that fails leaves neither a right without a record nor a record without a right. */
static void test_bind(void **state) {
        Bed *b = *state;
        EgmError e = EGM_ERROR_NULL;
        Lease *l;

        assert_int_equal(enforce_new(&enforce_ops, NULL, false, &b->manager->enforce), 0);
        b->region->enforced = true;
        l = manager_find_lease(b->manager, acquire(b, 2 * MIB, -EBADF).lease);
        assert_non_null(l);
        record_error = -ENOSPC;
        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), -ENOSPC);
        assert_int_equal(bearer.numbers[0], 0);
        assert_int_equal(lifeline_bound(l->lifeline), 0);

        admit_error = -EIO;
        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), -EIO);
        assert_true(bearer.numbers[0] == 0 || (bearer.numbers[0] & ENFORCE_NUMBER_BARE));
        assert_int_equal(lifeline_bound(l->lifeline), 0);
        assert_int_equal(recorded_bound, 0);
        assert_string_equal(recorded_unit, "");
        assert_string_equal(l->holder_unit, "");

        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), 0);
        assert_int_equal(bearer.numbers[0], l->id);
        assert_int_equal(recorded_bound, 1);
        /* Once more it is neither written down nor undone. */
        admit_error = record_error = -EIO;
        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), 0);
        assert_int_equal(lifeline_bound(l->lifeline), 1);
        admit_error = record_error = 0;
}

/* A process that may map as many leases as there is room for: none more, and the refusal says so and leaves nothing behind. */
static void test_full(void **state) {
        Bed *b = *state;
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Lease *l, *other;
        Outcome o;

        assert_int_equal(enforce_new(&enforce_ops, NULL, false, &b->manager->enforce), 0);
        b->region->enforced = true;
        other = manager_find_lease(b->manager, acquire(b, 2 * MIB, -EBADF).lease);
        l = manager_find_lease(b->manager, acquire(b, 2 * MIB, -EBADF).lease);
        assert_true(other && l);
        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX; i++)
                bearer.numbers[i] = other->id;
        assert_int_equal(manager_admit(b->manager, l, b->pidfd, &e), -EDQUOT);
        assert_int_equal(e.kind, EGM_ERROR_QUOTA_EXCEEDED);
        assert_non_null(strstr(e.message, "may map 64 leases already"));
        assert_non_null(strstr(e.message, "the limit is 64"));
        egm_error_done(&e);
        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), -EDQUOT);
        assert_int_equal(e.kind, EGM_ERROR_QUOTA_EXCEEDED);
        assert_int_equal(lifeline_bound(l->lifeline), 0);
        assert_int_equal(recorded_bound, 0);
        egm_error_done(&e);
        o = acquire(b, 2 * MIB, b->pidfd);
        assert_int_equal(o.kind, EGM_ERROR_QUOTA_EXCEEDED);
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_LEASED), 4 * MIB);
        for (size_t i = 0; i < ENFORCE_NUMBERS_MAX; i++)
                assert_int_equal(bearer.numbers[i], other->id);

        bearer.numbers[ENFORCE_NUMBERS_MAX - 1] = 0;
        assert_int_equal(manager_admit(b->manager, l, b->pidfd, &e), 0);
}

/* Whose right to it the kernel does not end may map it at any time, so it is not looked for who does. */
static void test_rights_stay(void **state) {
        Bed *b = *state;
        time_t end;
        Lease *l;

        assert_int_equal(enforce_new(&enforce_ops, NULL, false, &b->manager->enforce), 0);
        b->region->enforced = true;
        l = manager_find_lease(b->manager, acquire(b, 2 * MIB, -EBADF).lease);
        assert_non_null(l);
        /* When it is released, and after the look that finds nobody. */
        n_refusals = 2;
        assert_int_equal(manager_release(b->manager, l, "by the test"), 0);
        run_loop_until(b->event, n_refusals == 0);
        assert_int_equal(in_table.n, 1);
        end = patience_end();
        while (in_table.n > 0) {
                assert_false(patience_is_over(end));
                assert_int_equal(extent_map_bytes(b->region->map, EXTENT_DRAINING), 2 * MIB);
                assert_true(sd_event_run(b->event, USEC_PER_SEC) >= 0);
        }
        /* What was seen until then proves nothing. */
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_DRAINING), 2 * MIB);
        run_loop_until(b->event, is_clean(b->region));
}

/* All that was being scrubbed has turned out bad, and nothing else says that somebody still has it mapped. */
static void test_path_under_scrub(void **state) {
        Bed *b = *state;
        Outcome o;

        b->region->scrubs = (struct RegionScrub *) b;
        o = acquire(b, 0, -EBADF);
        b->region->scrubs = NULL;
        assert_int_equal(o.kind, EGM_ERROR_REGION_NOT_READY);
        assert_true(is_clean(b->region));

        /* There is no node. */
        o = acquire(b, 0, -EBADF);
        assert_int_equal(o.kind, EGM_ERROR_NOT_PARTITIONABLE);
        assert_true(is_clean(b->region));
}

/* What is new in a list that cannot be read must not get into a lease. */
static void test_unknown_pages(void **state) {
        Bed *b = *state;
        SimFaults *faults = sim_provider_faults(b->region->provider);

        faults->list = SIM_LIST_FAULT;
        assert_int_equal(acquire(b, 2 * MIB, -EBADF).kind, EGM_ERROR_REGION_NOT_READY);
        assert_true(is_clean(b->region));
        faults->list = SIM_LIST_OK;
        assert_int_equal(acquire(b, 2 * MIB, -EBADF).error, 0);
}

/* Whose unit it is says the record, for who comes after us; or it stays what it was. */
static void test_unit(void **state) {
        Bed *b = *state;
        EgmError e = EGM_ERROR_NULL;
        Lease *l;

        l = manager_find_lease(b->manager, acquire(b, 2 * MIB, -EBADF).lease);
        assert_non_null(l);
        assert_string_equal(recorded_unit, "");
        record_error = -ENOSPC;
        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), -ENOSPC);
        assert_string_equal(l->holder_unit, "");
        assert_int_equal(l->n_bound, 0);
        assert_int_equal(manager_bind(b->manager, l, b->pidfd, &e), 0);
        assert_string_equal(recorded_unit, "vm.service");
        assert_string_equal(l->holder_unit, "vm.service");
        assert_int_equal(l->n_bound, 1);
}

static Outcome forgotten;

/* Both regions are dirty, and somebody waits. */
static void soil_and_wait(Bed *b, AcquireRequest *q) {
        Region *const regions[] = {b->region, b->other};
        Waiter *w;

        for (size_t i = 0; i < ELEMENTSOF(regions); i++)
                assert_int_equal(extent_map_soil(regions[i]->map, 0,
                                                 extent_map_size(regions[i]->map)),
                                 0);
        q->wait_usec = USEC_PER_SEC * 3600;
        manager_acquire(b->manager, q, on_outcome, &forgotten, &w);
        assert_non_null(w);
}

/* What is waited for is urgent, and nothing else is. */
static void test_urgent(void **state) {
        Bed *b = *state;
        AcquireRequest q = request("egm5", 2 * MIB);

        soil_and_wait(b, &q);
        assert_int_equal(n_submitted, 2);
        assert_int_equal(n_urgent, 1);
}

static void test_own_account(void **state) {
        Bed *b = *state;
        AcquireRequest q = request("egm5", 0), more = request("egm4", 2 * MIB);
        Outcome o = {};
        Waiter *w;

        /* All that he may have. */
        q.uid = more.uid = 12345;
        manager_acquire(b->manager, &q, on_outcome, &o, &w);
        assert_int_equal(o.error, 0);
        soil_and_wait(b, &more);
        assert_int_equal(n_submitted, 1);
        assert_int_equal(n_urgent, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_number, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_record_that_stays, bed_setup,
                                                        bed_teardown),
                        cmocka_unit_test_setup_teardown(test_bind, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_full, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_rights_stay, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_path_under_scrub, bed_setup,
                                                        bed_teardown),
                        cmocka_unit_test_setup_teardown(test_unknown_pages, bed_setup,
                                                        bed_teardown),
                        cmocka_unit_test_setup_teardown(test_unit, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_urgent, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_own_account, bed_setup, bed_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
