/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bed.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "manager.h"
#include "restore.h"

/* A start that finds a lease's record, but not the device: it is lost with the device, and not before. */

static char directory[] = "/tmp/egmd-found.XXXXXX";

static void remember(Bed *b) {
        char *path = bed_path(b, "/sys" EGM4);
        BoundRecord bound;
        SliceRecord slice = {
                        .region = (char *) "egm4",
                        .size = provider_granule(),
                        .phase = SLICE_LEASED,
        };
        struct stat st;
        State *s;

        assert_int_equal(stat(path, &st), 0);
        free(path);
        assert_int_equal(state_open(directory, NULL, &s), 0);
        assert_int_equal(state_save_region(s,
                                           &(RegionRecord){
                                                           .name = (char *) "egm4",
                                                           .rdev = makedev(240, 4),
                                                           .inode = st.st_ino,
                                                           .size = 479962595328,
                                                           .offsets = true,
                                                           .schedulable = true,
                                           }),
                         0);
        assert_int_equal(state_save_lease(s,
                                          &(LeaseRecord){
                                                          .id = 1,
                                                          .label = (char *) "",
                                                          .unit = (char *) "",
                                                          .lifetime = LEASE_LIFETIME_PERSISTENT,
                                                          .bound = &bound,
                                                          .slices = &slice,
                                                          .n_slices = 1,
                                          }),
                         0);
        state_free(s);
}

/* What restore_end() says, and what the record says after it. */
static int start(Bed *b, SlicePhase *ret) {
        StateContent c = {};
        Restore restore;
        Config *config;
        Manager *m;
        State *s;
        int r;

        assert_int_equal(config_new(&config), 0);
        assert_int_equal(manager_new(b->event, config, &m), 0);
        assert_int_equal(restore_begin(m, directory, &restore), 0);
        assert_int_equal(manager_start_discovery(m), 0);
        r = restore_end(m);
        manager_free(m);
        restore_done(&restore);
        config_free(config);

        assert_int_equal(state_open(directory, NULL, &s), 0);
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_leases, 1);
        *ret = c.leases[0].slices[0].phase;
        state_content_done(&c);
        state_free(s);
        return r;
}

static void test_not_processed(void **state) {
        SlicePhase phase;
        Bed *b = *state;

        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\n");
        remember(b);
        bed_initialized = false;
        assert_int_equal(start(b, &phase), -EAGAIN);
        assert_int_equal(phase, SLICE_LEASED);
        bed_vanish(b, EGM4);
        assert_int_equal(start(b, &phase), 0);
        assert_int_equal(phase, SLICE_LOST);
}

static void test_no_size(void **state) {
        SlicePhase phase;
        Bed *b = *state;

        bed_region(b, EGM4, 4, NULL);
        remember(b);
        assert_int_equal(start(b, &phase), -EAGAIN);
        assert_int_equal(phase, SLICE_LEASED);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_not_processed, bed_setup,
                                                        bed_teardown),
                        cmocka_unit_test_setup_teardown(test_no_size, bed_setup, bed_teardown),
        };
        char command[64];
        int r;

        if (!mkdtemp(directory))
                return 1;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        (void) snprintf(command, sizeof(command), "rm -rf '%s'", directory);
        return system(command) == 0 ? r : 1;
}
