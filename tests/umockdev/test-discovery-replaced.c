/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bed.h"

/* Devices that go, and others of the same name: told or not, early or late. */

/* The same name comes back as another device; "remove" was not seen. */
static void test_other_devnum(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        umockdev_testbed_set_property(b->testbed, "/sys" EGM4, "MINOR", "7");
        bed_set_number(b, "240:7");
        bed_event(b, EGM4, "add");
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:7 " K2_FACTS);
        expect_nothing(b);
}

/* K2 gives the number by the name: only the directory is another one. */
static void test_same_devnum(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_put_aside(b, EGM4);
        bed_region(b, EGM4, 4, K2_DESCRIPTION);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* Another directory of the same name and contents, without a word. */
static void replace(Bed *b, const char *devpath) {
        _cleanup_free_ char *command = NULL;

        assert_true(asprintf(&command,
                             "cd %s/sys && mv .%s devices/aside && cp -a devices/aside .%s",
                             b->root, devpath, devpath) > 0);
        assert_int_equal(system(command), 0);
}

/* Read after it was replaced, but before its events: only when those do not come is it believed. */
static void test_replaced_silently(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        replace(b, EGM4);
        bed_event(b, GPU18, "change");
        for (unsigned i = 0; i < N_DELAYS; i++)
                bed_step(b);
        assert_int_equal(b->n_lines, b->n_expected);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:4 " K2_FACTS);
        assert_true(discovery_is_settled(b->discovery));
        expect_nothing(b);
}

static Bed *replacing;

static void replace_meanwhile(void) {
        replace(replacing, EGM4);
}

/* Half of the one and half of the other is not passed on. */
static void test_replaced_while_read(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_start(b);
        expect_nothing(b);
        bed_region(b, EGM4, 4, K2_DESCRIPTION);
        replacing = b;
        bed_meanwhile = replace_meanwhile;
        bed_step(b);
        assert_null(bed_meanwhile);
        assert_int_equal(b->n_lines, b->n_expected);
        expect(b, "added egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* R2: the next GPU to be bound becomes the parent. */
static void test_other_parent(void **state) {
        _cleanup_free_ char *link = NULL;
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, GPU8 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4", 4,
                   "A: egm_size=" SIZE_TEXT "\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0008:01:00.0@0=" NVGRACE);
        bed_event(b, GPU8 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4", "remove");
        bed_vanish(b, GPU8 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4");
        link = bed_path(b, "/sys/dev/char/240:4"); /* umockdev keeps it */
        assert_int_equal(unlink(link), 0);
        bed_region(b, GPU9 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4", 4,
                   "A: egm_size=" SIZE_TEXT "\n");
        expect(b,
               "removed egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0008:01:00.0@0=" NVGRACE);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0009:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

/* "remove" of the one below the first GPU, when the one below the second is known already. */
static void test_stale_remove_elsewhere(void **state) {
        static const char old[] = GPU8 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4";
        static const char new[] = GPU9 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4";
        static const char *const links[] = {"/sys/class/egm/egm4", "/sys/dev/char/240:4",
                                            "/dev/.node/egm4"};
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, old, 4, "A: egm_size=" SIZE_TEXT "\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0008:01:00.0@0=" NVGRACE);
        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                _cleanup_free_ char *path = bed_path(b, links[i]);

                assert_int_equal(unlink(path), 0);
        }
        bed_region(b, new, 4, "A: egm_size=" SIZE_TEXT "\n");
        expect(b,
               "removed egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0008:01:00.0@0=" NVGRACE);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0009:01:00.0@0=" NVGRACE);
        bed_event(b, old, "remove");
        expect_nothing(b);
}

/* `echo remove > /sys/class/egm/egm4/uevent` */
static void test_untrue_remove(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "remove");
        expect_nothing(b);
        bed_event(b, EGM4, "change");
        expect_nothing(b);
        /* Later it counts for nothing: a new device is left to its events again. */
        replace(b, EGM4);
        bed_event(b, GPU18, "change");
        bed_step(b);
        bed_step(b);
        assert_int_equal(b->n_lines, b->n_expected);
        bed_event(b, EGM4, "remove");
        bed_step(b);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:4 " K2_FACTS);
        bed_event(b, EGM4, "add");
        expect_nothing(b);
}

/* Away, back, away and back before the first event is read: the second device comes once. */
static void test_quick_changes(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "remove");
        bed_event(b, EGM4, "add");
        bed_event(b, EGM4, "remove");
        replace(b, EGM4);
        bed_event(b, EGM4, "add");
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:4 " K2_FACTS);
        expect_nothing(b);
        bed_remove(b, EGM4);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* The kernel sends its event before it takes the directory away: a read or two later it is gone. */
static void test_slow_remove(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "remove");
        bed_step(b);
        bed_step(b);
        assert_int_equal(b->n_lines, b->n_expected);
        bed_vanish(b, EGM4);
        bed_step(b);
        assert_int_equal(b->n_lines, b->n_expected + 1);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* Its node goes even before its directory: nothing to complain of. */
static void test_slow_remove_without_node(void **state) {
        _cleanup_free_ char *node = NULL;
        Bed *b = *state;

        bed_log(b);
        bed_start_k2(b);
        node = bed_path(b, "/dev/egm4");
        assert_int_equal(unlink(node), 0);
        bed_event(b, EGM4, "remove");
        bed_step(b);
        bed_step(b);
        bed_vanish(b, EGM4);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "device node"), 0);
}

/* …or another one is in its place. */
static void test_slow_replacement(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "remove");
        bed_step(b);
        replace(b, EGM4);
        bed_step(b);
        assert_int_equal(b->n_lines, b->n_expected + 2);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:4 " K2_FACTS);
        bed_event(b, EGM4, "add");
        expect_nothing(b);
}

/* A GPU's event finds it first. */
static void test_slow_remove_seen_by_gpu(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "remove");
        bed_step(b);
        bed_vanish(b, EGM4);
        bed_driver(b, GPU8, NULL, "unbind");
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* Its "remove" never came, or came before it was known. */
static void test_silent_remove(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, GPU18, "change");
        bed_vanish(b, EGM4);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        assert_true(discovery_is_settled(b->discovery));
        expect_nothing(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                        TEST(test_other_devnum),      TEST(test_same_devnum),
                        TEST(test_replaced_silently), TEST(test_replaced_while_read),
                        TEST(test_other_parent),      TEST(test_stale_remove_elsewhere),
                        TEST(test_untrue_remove),     TEST(test_quick_changes),
                        TEST(test_slow_remove),       TEST(test_slow_remove_without_node),
                        TEST(test_slow_replacement),  TEST(test_slow_remove_seen_by_gpu),
                        TEST(test_silent_remove),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
