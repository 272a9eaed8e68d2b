/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "manager.h"
#include "provider-sim.h"
#include "region-scrub.h"
#include "run-until.h"
#include "worker.h"

/* What could not be done for want of memory, or is not there any more: nothing waits for it for ever. */

typedef struct Bed {
        sd_event *event;
        Config *config;
        Manager *manager;
        Region *region, *other;
} Bed;

static unsigned no_worker, no_timer, no_retire; /* the next so many calls fail */

static bool fails(unsigned *left) {
        if (*left == 0)
                return false;
        --*left;
        return true;
}

int __real_worker_start(sd_event *event, const char *name, worker_work_t work, worker_done_t done,
                        void *userdata, Worker **ret);
int __wrap_worker_start(sd_event *event, const char *name, worker_work_t work, worker_done_t done,
                        void *userdata, Worker **ret);

int __wrap_worker_start(sd_event *event, const char *name, worker_work_t work, worker_done_t done,
                        void *userdata, Worker **ret) {
        if (fails(&no_worker))
                return -ENOMEM;
        return __real_worker_start(event, name, work, done, userdata, ret);
}

int __real_sd_event_add_time_relative(sd_event *event, sd_event_source **ret, clockid_t clock,
                                      uint64_t usec, uint64_t accuracy,
                                      sd_event_time_handler_t callback, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *event, sd_event_source **ret, clockid_t clock,
                                      uint64_t usec, uint64_t accuracy,
                                      sd_event_time_handler_t callback, void *userdata);

int __wrap_sd_event_add_time_relative(sd_event *event, sd_event_source **ret, clockid_t clock,
                                      uint64_t usec, uint64_t accuracy,
                                      sd_event_time_handler_t callback, void *userdata) {
        if (fails(&no_timer))
                return -ENOMEM;
        return __real_sd_event_add_time_relative(event, ret, clock, usec, accuracy, callback,
                                                 userdata);
}

int __real_extent_map_retire(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t *ret_new);
int __wrap_extent_map_retire(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t *ret_new);

int __wrap_extent_map_retire(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t *ret_new) {
        return fails(&no_retire) ? -ENOMEM : __real_extent_map_retire(m, offset, size, ret_new);
}

static void run_until(Bed *b, bool (*is_so)(const Bed *b)) {
        run_loop_until(b->event, is_so(b));
}

static bool is_clean(const Bed *b) {
        const Region *r = b->region;

        return r->state == REGION_READY && !r->scrubs &&
               extent_map_bytes(r->map, EXTENT_FREE) + extent_map_bytes(r->map, EXTENT_RETIRED) ==
                               extent_map_size(r->map);
}

static bool other_is_clean(const Bed *b) {
        const Region *r = b->other;

        return r->state == REGION_READY &&
               extent_map_bytes(r->map, EXTENT_FREE) == extent_map_size(r->map);
}

static bool has_no_lease(const Bed *b) {
        return RB_EMPTY(&b->manager->leases);
}

static int bed_setup(void **state) {
        Bed *b = calloc(1, sizeof(*b));

        assert_non_null(b);
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(config_new(&b->config), 0);
        assert_int_equal(manager_new(b->event, b->config, &b->manager), 0);
        b->manager->ignore_inaccessible = true;
        assert_int_equal(manager_start_simulation(b->manager, "gb200", 16384), 0);
        b->region = manager_find_region(b->manager, "egm4");
        assert_non_null(b->region);
        run_until(b, is_clean);
        *state = b;
        return 0;
}

static int bed_teardown(void **state) {
        Bed *b = *state;

        no_worker = no_timer = no_retire = 0;
        manager_free(b->manager);
        config_free(b->config);
        sd_event_unref(b->event);
        free(b);
        return 0;
}

typedef struct Outcome {
        int error;
        EgmErrorKind kind;
        Lease *lease;
} Outcome;

static void on_outcome(int r, const EgmError *e, Lease *l, int lifetime_fd, void *userdata) {
        *(Outcome *) userdata = (Outcome){.error = r, .kind = e->kind, .lease = l};
}

static Outcome acquire(Bed *b, uint64_t size, bool include_retired) {
        AcquireRequest q = {.n_slices = 1, .holder = -EBADF, .uid = geteuid()};
        Outcome o = {};
        Waiter *w;

        q.lifetime = LEASE_LIFETIME_PERSISTENT;
        q.slices = calloc(1, sizeof(*q.slices));
        assert_non_null(q.slices);
        *q.slices = (SliceRequest){.region = strdup("egm4"),
                                   .size = size,
                                   .align = 64 * KIB,
                                   .include_retired = include_retired,
                                   .node = EGM_NODE_ANY,
                                   .socket = EGM_SOCKET_ANY};
        assert_non_null(q.slices->region);
        manager_acquire(b->manager, &q, on_outcome, &o, &w);
        assert_null(w);
        return o;
}

static void poll_now(Bed *b) {
        assert_true(sd_event_source_set_time_relative(b->manager->poll_source, 0) >= 0);
}

/* Neither the look itself can be begun nor one for later be thought of. */
static void test_look(void **state) {
        Bed *b = *state;

        no_worker = no_timer = 1;
        assert_int_equal(manager_release(b->manager, acquire(b, 2 * MIB, false).lease, "test"), 0);
        assert_int_equal(no_worker + no_timer, 0);
        poll_now(b);
        run_until(b, has_no_lease);
        run_until(b, is_clean);
}

static bool has_been_asked(const Bed *b) {
        return no_retire == 0;
}

/* A page that goes bad in a scrub is no good one for want of a word about it. */
static void test_bad_page(void **state) {
        Bed *b = *state;
        uint64_t size = extent_map_size(b->region->map);

        assert_int_equal(sim_provider_break(b->region->provider, 2 * MIB, 64 * KIB), 0);
        no_retire = 1;
        assert_int_equal(manager_release(b->manager, acquire(b, size, false).lease, "test"), 0);
        run_until(b, has_been_asked);
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_RETIRED), 0);
        while (extent_map_bytes(b->region->map, EXTENT_RETIRED) == 0) {
                Extent e;

                assert_true(!extent_map_next(b->region->map, 2 * MIB, EXTENT_FREE, &e) ||
                            e.offset > 2 * MIB);
                assert_true(sd_event_run(b->event, USEC_PER_SEC) >= 0);
        }
        run_until(b, is_clean);
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_RETIRED), 64 * KIB);
        run_until(b, has_no_lease);
}

/* Nor is one of the list. */
static void test_listed_page(void **state) {
        Bed *b = *state;

        assert_int_equal(sim_provider_retire(b->region->provider, 0, 64 * KIB), 0);
        no_retire = 1;
        assert_int_equal(acquire(b, 2 * MIB, false).kind, EGM_ERROR_REGION_NOT_READY);
        assert_true(b->region->retired_unknown);
        assert_int_equal(acquire(b, 2 * MIB, false).error, 0);
        assert_int_equal(extent_map_bytes(b->region->map, EXTENT_RETIRED), 64 * KIB);
}

static bool is_reopened(const Bed *b) {
        return b->region->state == REGION_READY && extent_map_size(b->region->map) == 12 * MIB;
}

/* Handed over by path it comes back with less memory, and what it had behind that is scrubbed by nobody. */
static void test_smaller(void **state) {
        Bed *b = *state;
        uint64_t size = extent_map_size(b->region->map);
        Lease *l = acquire(b, size, false).lease;

        assert_non_null(l);
        b->region->state = REGION_DELEGATED;
        b->region->info->size = 12 * MIB;
        assert_int_equal(manager_release(b->manager, l, "test"), 0);
        run_until(b, is_reopened);
        run_until(b, is_clean);
        run_until(b, has_no_lease);
        assert_int_equal(acquire(b, 12 * MIB + 64 * KIB, false).error, -ENOSPC);
        assert_int_equal(acquire(b, 12 * MIB, false).error, 0);
}

/* The scrub may write to it as long as it goes on. */
static void test_page_in_scrub(void **state) {
        Bed *b = *state;
        uint64_t size = extent_map_size(b->region->map);

        assert_int_equal(extent_map_soil(b->region->map, 0, 4 * MIB), 0);
        region_scrub_kick(b->region);
        assert_non_null(b->region->scrubs);
        assert_int_equal(sim_provider_retire(b->region->provider, 4 * MIB - 64 * KIB, 64 * KIB), 0);
        assert_int_equal(acquire(b, size - 4 * MIB + 64 * KIB, true).kind,
                         EGM_ERROR_REGION_NOT_READY);
        run_until(b, is_clean);
        assert_int_equal(acquire(b, size - 4 * MIB + 64 * KIB, true).error, 0);
}

/* One slice of two is lost: the other alone is not the lease, and it is said which. */
static void test_half_a_lease(void **state) {
        Bed *b = *state;
        AcquireRequest q = {.n_slices = 2, .holder = -EBADF, .uid = geteuid()};
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Outcome o = {};
        Waiter *w;
        int fd = -EBADF;

        q.lifetime = LEASE_LIFETIME_PERSISTENT;
        q.slices = calloc(2, sizeof(*q.slices));
        assert_non_null(q.slices);
        for (int i = 0; i < 2; i++)
                q.slices[i] = (SliceRequest){.size = 2 * MIB, .node = EGM_NODE_ANY, .socket = i};
        b->other = manager_find_region(b->manager, "egm5");
        run_until(b, other_is_clean);
        manager_acquire(b->manager, &q, on_outcome, &o, &w);
        assert_null(w);
        assert_int_equal(o.error, 0);
        assert_int_equal(manager_reopen(b->manager, o.lease, &fd, &e), 0);
        (void) close(fd);
        region_vanish(b->other);
        assert_int_equal(manager_reopen(b->manager, o.lease, &fd, &e), -EBUSY);
        assert_int_equal(e.kind, EGM_ERROR_DRAINING);
        assert_non_null(strstr(e.message, "its slice 1, 2M of egm5, is lost"));
        egm_error_done(&e);
        /* What is left of it comes back all the same. */
        assert_int_equal(manager_release(b->manager, o.lease, "test"), 0);
        assert_int_equal(manager_reopen(b->manager, o.lease, &fd, &e), -EBUSY);
        assert_non_null(strstr(e.message, "has ended"));
        run_until(b, has_no_lease);
        run_until(b, is_clean);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_look, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_bad_page, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_listed_page, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_smaller, bed_setup, bed_teardown),
                        cmocka_unit_test_setup_teardown(test_page_in_scrub, bed_setup,
                                                        bed_teardown),
                        cmocka_unit_test_setup_teardown(test_half_a_lease, bed_setup, bed_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
