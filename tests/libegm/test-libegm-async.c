/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "lease-bed.h"

/* Asking without waiting for the answer. */

typedef struct Outcome {
        int n;
        int r;
        egm_lease *lease;
} Outcome;

static void on_outcome(egm_connection *c, int r, egm_lease *lease, void *userdata) {
        Outcome *o = userdata;

        assert_true((r == 0) == (lease != NULL));
        if (r < 0)
                assert_string_equal(egm_connection_get_error_message(c), "full");
        o->n++;
        o->r = r;
        o->lease = lease;
}

/* Until *n, which a callback or the fake's thread changes, reaches goal. */
static void dispatch_until(egm_connection *c, volatile int *n, int goal) {
        while (*n < goal) {
                assert_true(egm_connection_wait(c, 10 * USEC_PER_SEC) >= 0);
                assert_true(egm_connection_dispatch(c) >= 0);
        }
}

static void test_async(void **state) {
        egm_connection *c = connect_fake();
        egm_request *r = new_request();
        egm_pending *p = NULL;
        Outcome o = {};

        assert_int_equal(egm_acquire_async(c, r, NULL, NULL, &p), -EINVAL);
        assert_int_equal(egm_acquire_async(c, r, on_outcome, &o, &p), 0);
        /* The request may change at once. */
        assert_int_equal(egm_request_set_slice_region(r, 0, "egm9"), 0);
        assert_int_equal(o.n, 0);
        dispatch_until(c, &o.n, 1);
        assert_int_equal(o.r, 0);
        assert_int_equal(egm_lease_count_retired_ranges(o.lease, 0), 2);
        assert_int_equal(egm_lease_release(o.lease), 0);
        egm_lease_unref(o.lease);
        egm_pending_unref(p);

        /* Without a handle; refused. */
        fake.error_name = "org.nvidia.Egm1.Error.NoCapacity";
        fake.error_message = "full";
        assert_int_equal(egm_acquire_async(c, r, on_outcome, &o, NULL), 0);
        dispatch_until(c, &o.n, 2);
        assert_int_equal(o.r, -ENOSPC);
        assert_int_equal(o.n, 2);
        egm_request_unref(r);
        egm_connection_unref(c);
}

/* Cancelled: no callback, and what was granted goes back. */
static void test_async_cancel(void **state) {
        egm_connection *c = connect_fake();
        egm_request *r = new_request();
        egm_pending *p = NULL;
        Outcome o = {};

        assert_int_equal(egm_acquire_async(c, r, on_outcome, &o, &p), 0);
        egm_pending_unref(egm_pending_ref(p));
        egm_pending_unref(p);
        while (fake.n_released < 1) {
                egm_manager *m = NULL;

                /* A round trip: the grant has come, and what dispatch sent has been seen. */
                assert_int_equal(egm_get_manager(c, &m), 0);
                egm_manager_unref(m);
                assert_true(egm_connection_dispatch(c) >= 0);
        }
        assert_true(lifetime_ended(10000));
        assert_int_equal(o.n, 0);
        egm_request_unref(r);
        egm_connection_unref(c);
}

/* The connection goes first, in each stage: no callback, no leak, no descriptor. */
static void test_async_no_connection(void **state) {
        for (int stage = 0; stage < 3; stage++) {
                egm_request *r = new_request();
                egm_pending *p = NULL;
                egm_connection *c;
                unsigned before;
                Outcome o = {};

                fake_reset(&fake);
                before = count_fds();
                c = connect_ready();
                fake.mute = stage == 0;
                assert_int_equal(egm_acquire_async(c, r, on_outcome, &o, &p), 0);
                if (stage > 0) {
                        /* The grant is there… */
                        assert_int_equal(egm_connection_wait(c, 10 * USEC_PER_SEC), 1);
                        fake.mute = true;
                }
                if (stage > 1)
                        /* …and read, but the retired pages are never told. */
                        assert_int_equal(egm_connection_dispatch(c), 1);
                egm_connection_unref(c);
                egm_pending_unref(p);
                egm_request_unref(r);
                assert_int_equal(o.n, 0);
                fake.mute = false;
                assert_int_equal(count_fds() - (fake.lifetime_fd >= 0), before);
                assert_true(stage == 0 || lifetime_ended(10000));
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_async),
                        cmocka_unit_test(test_async_cancel),
                        cmocka_unit_test(test_async_no_connection),
        };

        return lease_bed_main(tests, ELEMENTSOF(tests));
}
