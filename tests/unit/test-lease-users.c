/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "lease-users.h"

static int egm4, egm5;

static void add(LeaseTree *t, uint64_t id, uid_t owner, const char *label, const char *unit,
                uint64_t size, SlicePhase phase) {
        Lease *l;

        assert_int_equal(lease_new(id, 2, &l), 0);
        assert_int_equal(lease_set_slice(l, 0, "egm4", &egm4, 0, size), 0);
        assert_int_equal(lease_set_slice(l, 1, "egm5", &egm5, 0, 512 * GIB), 0);
        l->slices[0].phase = phase;
        l->slices[1].phase = SLICE_DONE;
        l->owner_uid = owner;
        l->label = strdup(label);
        l->holder_unit = strdup(unit);
        assert_null(RB_INSERT(LeaseTree, t, l));
}

static void expect(const LeaseTree *t, const void *region, uid_t asker, const char *expected) {
        char *s;

        assert_int_equal(lease_users(t, region, asker, &s), 0);
        assert_string_equal(s, expected);
        free(s);
}

static void clear(LeaseTree *t) {
        Lease *l;

        while ((l = RB_MIN(LeaseTree, t))) {
                RB_REMOVE(LeaseTree, t, l);
                lease_free(l);
        }
}

static void test_who_may_know(void **state) {
        LeaseTree t = RB_INITIALIZER(&t);

        expect(&t, &egm4, 0, "");
        add(&t, 7, 1000, "vm1", "vm1.scope", 64 * GIB, SLICE_LEASED);
        add(&t, 9, 1001, "", "", 2 * GIB, SLICE_DRAINING);
        add(&t, 10, 1001, "over", "x", GIB, SLICE_SCRUBBING);
        add(&t, 11, 1001, "lost", "x", GIB, SLICE_LOST);
        expect(&t, &egm4, 0,
               "lease 7 \"vm1\" (uid 1000, vm1.scope, 64G) and lease 9 (uid 1001, 2G)");
        expect(&t, &egm4, 1000,
               "lease 7 \"vm1\" (uid 1000, vm1.scope, 64G) and lease 9 (uid 1001, 2G)");
        expect(&t, &egm4, 1001, "lease 7 (uid 1000, 64G) and lease 9 (uid 1001, 2G)");
        expect(&t, &egm4, 1002, "lease 7 (uid 1000, 64G) and lease 9 (uid 1001, 2G)");
        expect(&t, &egm5, 0, "");
        clear(&t);
}

/* The largest, however they come; of equals the oldest. */
static void test_few(void **state) {
        static const uint64_t sizes[][5] = {
                        {1, 2, 3, 4, 4},
                        {4, 4, 1, 2, 3},
                        {3, 4, 2, 1, 4},
        };
        static const char *const expected[] = {
                        "lease 4 (uid 1000, 4G), lease 5 (uid 1000, 4G), lease 3 (uid 1000, 3G) "
                        "and 2 more",
                        "lease 1 (uid 1000, 4G), lease 2 (uid 1000, 4G), lease 5 (uid 1000, 3G) "
                        "and 2 more",
                        "lease 2 (uid 1000, 4G), lease 5 (uid 1000, 4G), lease 1 (uid 1000, 3G) "
                        "and 2 more",
        };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                LeaseTree t = RB_INITIALIZER(&t);

                for (size_t k = 0; k < 5; k++)
                        add(&t, k + 1, 1000, "vm", "", sizes[i][k] * GIB, SLICE_LEASED);
                expect(&t, &egm4, 1, expected[i]);
                clear(&t);
        }
}

/* Cut to 32 bytes, between two characters. */
static void test_long_label(void **state) {
        LeaseTree t = RB_INITIALIZER(&t);

        add(&t, 1, 0, "1234567890123456789012345678901\xc3\xa4-and-more", "", GIB, SLICE_LEASED);
        expect(&t, &egm4, 0, "lease 1 \"1234567890123456789012345678901\" (uid 0, 1G)");
        clear(&t);
        add(&t, 1, 0, "123456789012345678901234567890\xc3\xa4-and-more", "", GIB, SLICE_LEASED);
        expect(&t, &egm4, 0, "lease 1 \"123456789012345678901234567890\xc3\xa4\" (uid 0, 1G)");
        clear(&t);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_who_may_know),
                        cmocka_unit_test(test_few),
                        cmocka_unit_test(test_long_label),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
