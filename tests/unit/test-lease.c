/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "lease.h"

static Lease *make(size_t n) {
        Lease *l;

        assert_int_equal(lease_new(7, n, &l), 0);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(lease_set_slice(l, i, "egm4", (void *) (uintptr_t) (i + 1),
                                                 i * 2 * MIB, 2 * MIB),
                                 0);
        return l;
}

static void test_what_keeps(void **state) {
        static const struct {
                LeaseLifetime lifetime;
                bool released, open;
                unsigned bound;
                bool kept;
        } table[] = {
                        {LEASE_LIFETIME_DESCRIPTOR, false, false, 0, false},
                        {LEASE_LIFETIME_DESCRIPTOR, false, true, 0, true},
                        {LEASE_LIFETIME_DESCRIPTOR, false, false, 1, true},
                        {LEASE_LIFETIME_DESCRIPTOR, false, true, 2, true},
                        {LEASE_LIFETIME_DESCRIPTOR, true, true, 2, false},
                        {LEASE_LIFETIME_PERSISTENT, false, false, 0, true},
                        {LEASE_LIFETIME_PERSISTENT, false, true, 1, true},
                        {LEASE_LIFETIME_PERSISTENT, true, false, 0, false},
                        {LEASE_LIFETIME_PERSISTENT, true, true, 1, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                Lease *l = make(1);

                l->lifetime = table[i].lifetime;
                l->released = table[i].released;
                l->lifetime_open = table[i].open;
                l->n_bound = table[i].bound;
                assert_int_equal(lease_is_kept(l), table[i].kept);
                assert_false(lease_is_over(l));
                l->slices[0].phase = SLICE_DONE;
                assert_int_equal(lease_is_over(l), !table[i].kept);
                lease_free(l);
        }
}

static void test_state_of_slices(void **state) {
        static const struct {
                SlicePhase a, b;
                LeaseState state;
                bool over, owns;
        } table[] = {
                        {SLICE_LEASED, SLICE_LEASED, LEASE_ACTIVE, false, true},
                        {SLICE_DRAINING, SLICE_LEASED, LEASE_ACTIVE, false, true},
                        {SLICE_DRAINING, SLICE_DRAINING, LEASE_DRAINING, false, true},
                        {SLICE_DRAINING, SLICE_SCRUBBING, LEASE_DRAINING, false, true},
                        {SLICE_SCRUBBING, SLICE_DONE, LEASE_SCRUBBING, false, false},
                        {SLICE_SCRUBBING, SLICE_SCRUBBING, LEASE_SCRUBBING, false, false},
                        {SLICE_DONE, SLICE_DONE, LEASE_SCRUBBING, true, false},
                        {SLICE_LOST, SLICE_LEASED, LEASE_LOST, false, true},
                        {SLICE_LOST, SLICE_SCRUBBING, LEASE_LOST, false, false},
                        {SLICE_LOST, SLICE_DONE, LEASE_LOST, true, false},
                        {SLICE_LOST, SLICE_LOST, LEASE_LOST, true, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (int swap = 0; swap < 2; swap++) {
                        Lease *l = make(2);

                        l->slices[swap].phase = table[i].a;
                        l->slices[!swap].phase = table[i].b;
                        assert_int_equal(lease_state(l), table[i].state);
                        assert_int_equal(lease_is_over(l), table[i].over);
                        assert_int_equal(lease_owns_in(l, NULL), table[i].owns);
                        lease_free(l);
                }
}

static void test_owns_in_region(void **state) {
        Lease *l = make(2);

        assert_true(lease_owns_in(l, (void *) 1));
        assert_true(lease_owns_in(l, (void *) 2));
        assert_false(lease_owns_in(l, (void *) 3));
        l->slices[0].phase = SLICE_SCRUBBING;
        assert_false(lease_owns_in(l, (void *) 1));
        assert_true(lease_owns_in(l, (void *) 2));
        lease_free(l);
}

/* What somebody may have of a region that we have no hold of is not forgotten. */
static void test_dmabufs_of_what_is_lost(void **state) {
        Lease *l;

        assert_int_equal(lease_new(7, 2, &l), 0);
        assert_int_equal(lease_set_slice(l, 0, "egm4", (void *) 1, 0, 2 * MIB), 0);
        assert_int_equal(lease_set_slice(l, 1, "egm5", (void *) 2, 0, 2 * MIB), 0);
        l->dmabufs = calloc(1, sizeof(*l->dmabufs));
        assert_non_null(l->dmabufs);
        l->n_dmabufs = 1;
        l->released = true;
        assert_false(lease_haunts(l, "egm4"));
        l->slices[0].region = NULL;
        assert_true(lease_haunts(l, "egm4"));
        l->slices[0].phase = SLICE_LOST;
        l->slices[1].phase = SLICE_DONE;
        l->slices[1].region = NULL;
        assert_true(lease_haunts(l, "egm4"));
        assert_false(lease_haunts(l, "egm5"));
        assert_false(lease_is_over(l));
        l->n_dmabufs = 0;
        assert_false(lease_haunts(l, "egm4"));
        assert_true(lease_is_over(l));
        lease_free(l);
}

static void test_blockers_once_per_process(void **state) {
        Lease *l = make(1);

        assert_int_equal(lease_add_blocker(l, 12, 700, "qemu", "a.scope"), 1);
        assert_int_equal(lease_add_blocker(l, 12, 700, "qemu", "a.scope"), 0);
        assert_int_equal(lease_add_blocker(l, 13, 700, NULL, NULL), 1);
        /* A pid that came again is another process. */
        assert_int_equal(lease_add_blocker(l, 12, 701, "sh", NULL), 1);
        assert_int_equal(l->n_blockers, 3);
        assert_int_equal(l->blockers[2].pid, 12);
        assert_int_equal(l->blockers[2].start_time, 701);
        assert_string_equal(l->blockers[0].comm, "qemu");
        assert_string_equal(l->blockers[1].unit, "");
        lease_clear_blockers(l);
        assert_int_equal(l->n_blockers, 0);
        lease_free(l);
}

static void test_names_round_trip(void **state) {
        for (int i = 0; i < _LEASE_STATE_MAX; i++)
                assert_int_equal(lease_state_from_string(lease_state_to_string((LeaseState) i)), i);
        for (int i = 0; i < _LEASE_LIFETIME_MAX; i++)
                assert_int_equal(lease_lifetime_from_string(
                                                 lease_lifetime_to_string((LeaseLifetime) i)),
                                 i);
        assert_int_equal(lease_state_from_string("gone"), -EINVAL);
        assert_int_equal(lease_lifetime_from_string(NULL), -EINVAL);
        assert_null(lease_state_to_string(_LEASE_STATE_MAX));
        assert_null(lease_state_to_string(_LEASE_STATE_INVALID));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_what_keeps),
                        cmocka_unit_test(test_state_of_slices),
                        cmocka_unit_test(test_owns_in_region),
                        cmocka_unit_test(test_dmabufs_of_what_is_lost),
                        cmocka_unit_test(test_blockers_once_per_process),
                        cmocka_unit_test(test_names_round_trip),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
