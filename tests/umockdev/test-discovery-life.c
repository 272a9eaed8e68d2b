/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bed.h"

/* What happens to regions and GPUs while egmd runs. */

/* K2 makes its files after the event: nothing tells when. */
static void test_late_attributes(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_start(b);
        expect_nothing(b);
        bed_region(b, EGM4, 4, NULL);
        expect(b, "added egm4 240:4 " NO_SIZE " node=-1 socket=0 no GPU list");
        bed_set(b, EGM4, "egm_size", "0x6fc0000000\n");
        expect(b, "changed egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
        bed_set(b, EGM4, "gpu_devices", "");
        expect(b, "changed egm4 240:4 " SIZE " node=-1 socket=0 gpu_devices file");
        bed_set(b, EGM4, "gpu_devices", "0009:01:00.0\n");
        expect(b, "changed egm4 240:4 " SIZE
                  " node=0 socket=0 gpu_devices file: 0009:01:00.0@0=" NVGRACE);
        bed_set(b, EGM4, "gpu_devices", "0009:01:00.0\n0008:01:00.0\n");
        expect(b, "changed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* The last of the reads still finds what is there by then; later nobody looks. */
static void test_schedule(void **state) {
        for (unsigned n = 0; n <= N_DELAYS; n++) {
                void *bed;
                Bed *b;

                assert_int_equal(bed_setup(&bed), 0);
                b = bed;
                bed_start(b);
                expect_nothing(b);
                bed_region(b, EGM4, 4, NULL);
                expect(b, "added egm4 240:4 " NO_SIZE " node=-1 socket=0 no GPU list");
                for (unsigned k = 0; k < n; k++)
                        bed_step(b);
                assert_int_equal(discovery_is_settled(b->discovery), n == N_DELAYS);
                bed_set(b, EGM4, "egm_size", "0x6fc0000000\n");
                if (n < N_DELAYS)
                        expect(b, "changed egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
                expect_nothing(b);
                /* Any event starts it over. */
                bed_event(b, EGM4, "change");
                if (n == N_DELAYS)
                        expect(b, "changed egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
                expect_nothing(b);
                assert_int_equal(bed_teardown(&bed), 0);
        }
}

/* Links come one by one (S4). */
static void test_late_links(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_start(b);
        expect_nothing(b);
        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\n");
        expect(b, "added egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
        bed_link(b, EGM4, "0009:01:00.0", "../../../pci0009:00/0009:00:00.0/0009:01:00.0");
        expect(b, "changed egm4 240:4 " SIZE " node=0 socket=0 links: 0009:01:00.0@0=" NVGRACE);
        bed_link(b, EGM4, "0008:01:00.0", "../../../pci0008:00/0008:00:00.0/0008:01:00.0");
        expect(b, "changed egm4 240:4 " SIZE " node=0 socket=0 links: " K2_GPUS);
        expect_nothing(b);
}

/* A second GPU of the socket is bound: no event of the region's, and the file changes after the
 * GPU's. */
static void test_late_gpu(void **state) {
        Bed *b = *state;

        bed_gpu(b, GPU8, "0", NVGRACE);
        bed_gpu(b, GPU9, "0", NULL);
        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0008:01:00.0\\n\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE
                  " node=0 socket=0 gpu_devices file: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
        bed_driver(b, GPU9, NVGRACE, "bind");
        bed_step(b);
        bed_set(b, EGM4, "gpu_devices", BOTH);
        expect(b, "changed egm4 240:4 " K2_FACTS);
        expect_nothing(b);

        /* One is unbound: the list shrinks. */
        bed_set(b, EGM4, "gpu_devices", "0009:01:00.0\n");
        bed_driver(b, GPU8, NULL, "unbind");
        expect(b, "changed egm4 240:4 " SIZE
                  " node=0 socket=0 gpu_devices file: 0009:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

static void test_auxiliary_event(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_add(b, "P: " GPU8 "/nvgrace_gpu_vfio_pci.egm.4\nE: SUBSYSTEM=auxiliary\n\n");
        bed_region(b, GPU8 "/nvgrace_gpu_vfio_pci.egm.4/egm/egm4", 4,
                   "A: egm_size=" SIZE_TEXT "\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
        bed_link(b, GPU8 "/nvgrace_gpu_vfio_pci.egm.4", "0009:01:00.0",
                 "../../../../pci0009:00/0009:00:00.0/0009:01:00.0");
        bed_event(b, GPU8 "/nvgrace_gpu_vfio_pci.egm.4", "bind");
        expect(b, "changed egm4 240:4 " SIZE " node=0 socket=0 aux links: " K2_GPUS);
        expect_nothing(b);
}

static void test_driver_change(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_driver(b, GPU9, NULL, "unbind");
        /* At once, by the event itself. */
        bed_step(b);
        assert_int_equal(b->n_lines, b->n_expected + 1);
        expect(b, "changed egm4 240:4 " SIZE " node=0 socket=0 gpu_devices file: "
                  "0008:01:00.0@0=" NVGRACE " 0009:01:00.0@0=none");
        expect_nothing(b);
        bed_driver(b, GPU9, "vfio-pci", "bind");
        expect(b, "changed egm4 240:4 " SIZE " node=0 socket=0 gpu_devices file: "
                  "0008:01:00.0@0=" NVGRACE " 0009:01:00.0@0=vfio-pci");
        expect_nothing(b);
        /* Another socket's. */
        bed_driver(b, GPU18, NULL, "unbind");
        expect_nothing(b);
        bed_event(b, GPU9, "change");
        expect_nothing(b);
}

/* A GPU is pulled: the standalone driver's link dangles. The memory stays where it was. */
static void test_gpu_removed(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, EGM5, 5,
                   "A: egm_size=" SIZE_TEXT "\n"
                   "L: 0018:01:00.0=../../../pci0018:00/0018:00:00.0/0018:01:00.0\n"
                   "L: 0019:01:00.0=../../../pci0019:00/0019:00:00.0/0019:01:00.0\n");
        bed_start(b);
        expect(b, "added egm5 240:5 " SIZE " node=1 socket=1 links: 0018:01:00.0@1=" NVGRACE
                  " 0019:01:00.0@1=" NVGRACE);
        expect_nothing(b);
        bed_remove(b, GPU18);
        expect(b, "changed egm5 240:5 " SIZE " node=1 socket=1 links: 0019:01:00.0@1=" NVGRACE);
        expect_nothing(b);
        bed_remove(b, GPU19);
        /* First only its driver is gone; that no GPU is left must be seen to last. */
        expect(b, "changed egm5 240:5 " SIZE " node=1 socket=1 links: 0019:01:00.0@1=none");
        expect(b, "changed egm5 240:5 " SIZE " node=1 socket=1 no GPU list");
        expect_nothing(b);
        bed_gpu(b, GPU19, "1", NVGRACE);
        expect(b, "changed egm5 240:5 " SIZE " node=1 socket=1 links: 0019:01:00.0@1=" NVGRACE);
        expect_nothing(b);
}

static void test_add_remove(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_start(b);
        expect_nothing(b);
        for (unsigned i = 0; i < 3; i++) {
                bed_region(b, EGM4, 4, K2_DESCRIPTION);
                expect(b, "added egm4 240:4 " K2_FACTS);
                if (i > 0)
                        expect_nothing(b);
                bed_remove(b, EGM4);
                if (i > 0) {
                        bed_step(b);
                        assert_int_equal(b->n_lines, b->n_expected + 1);
                }
                expect(b, "removed egm4 240:4 " K2_FACTS);
                if (i > 1)
                        expect_nothing(b);
        }
        /* Both at once, and one more event that comes too late. */
        bed_region(b, EGM4, 4, K2_DESCRIPTION);
        bed_event(b, EGM4, "change");
        bed_remove(b, EGM4);
        expect_nothing(b);
}

/* The monitor is there before the enumeration: what is in both is one device. */
static void test_seen_twice(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "add");
        bed_event(b, EGM4, "add");
        bed_event(b, EGM4, "change");
        expect_nothing(b);
}

/* The list is empty while the device goes: who removes it wants to know whose it was. */
static void test_empty_before_remove(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_set(b, EGM4, "gpu_devices", "");
        bed_event(b, EGM4, "change");
        bed_step(b);
        bed_step(b);
        bed_set(b, EGM4, "egm_size", NULL);
        bed_step(b);
        bed_remove(b, EGM4);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

static void test_empty_for_a_while(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_set(b, EGM4, "gpu_devices", "");
        bed_set(b, EGM4, "egm_size", NULL);
        bed_event(b, EGM4, "change");
        for (unsigned i = 0; i < N_DELAYS; i++)
                bed_step(b);
        bed_set(b, EGM4, "gpu_devices", BOTH);
        bed_set(b, EGM4, "egm_size", "0x6fc0000000\n");
        expect_nothing(b);
}

/* Empty for the first time at the last read: that is one read only. */
static void test_empty_at_last(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_event(b, EGM4, "change");
        for (unsigned i = 0; i < N_DELAYS; i++)
                bed_step(b);
        bed_set(b, EGM4, "gpu_devices", "");
        bed_step(b);
        assert_false(discovery_is_settled(b->discovery));
        bed_set(b, EGM4, "gpu_devices", BOTH);
        expect_nothing(b);
}

static void test_empty_for_good(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_set(b, EGM4, "gpu_devices", "");
        bed_event(b, EGM4, "change");
        expect(b, "changed egm4 240:4 " SIZE " node=0 socket=0 gpu_devices file");
        assert_true(discovery_is_settled(b->discovery));
        expect_nothing(b);
}

/* Its number alone would say socket 0. */
static void test_empty_keeps_place(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0018:01:00.0\\n\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE
                  " node=1 socket=1 gpu_devices file: 0018:01:00.0@1=" NVGRACE);
        expect_nothing(b);
        bed_set(b, EGM4, "gpu_devices", "");
        bed_event(b, EGM4, "change");
        expect(b, "changed egm4 240:4 " SIZE " node=1 socket=1 gpu_devices file");
        bed_event(b, EGM4, "change");
        expect_nothing(b);
}

/* A size never shrinks to nothing, nor does it change: something is badly wrong then. */
static void test_size_changes(void **state) {
        Bed *b = *state;

        bed_start_k2(b);
        bed_set(b, EGM4, "egm_size", "0x0\n");
        bed_event(b, EGM4, "change");
        expect_nothing(b);
        bed_set(b, EGM4, "egm_size", "0x10000\n");
        bed_event(b, EGM4, "change");
        expect(b, "changed egm4 240:4 " SIZE " (egm_size changed from " SIZE
                  " to 65536 on the same device) node=0 socket=0 gpu_devices file: " K2_GPUS);
        expect_nothing(b);
        bed_set(b, EGM4, "egm_size", "0x6fc0000000\n");
        bed_event(b, EGM4, "change");
        expect(b, "changed egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

static void test_waits_for_udev(void **state) {
        Bed *b = *state;

        bed_log(b);
        bed_gpus(b);
        bed_region(b, EGM4, 4, K2_DESCRIPTION);
        bed_initialized = false;
        bed_start(b);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: waiting for udev"), 1);
        bed_event(b, EGM4, "add");
        expect(b, "added egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

/* The socket's buffer ran over: one region went, one was replaced, one came, and a PCI device's
 * too. */
static void test_lost_events(void **state) {
        Bed *b = *state;

        bed_log(b);
        bed_start_k2(b);
        bed_set(b, GPU18, "egm_size", "0x10000\n");
        bed_event(b, GPU18, "change");
        expect(b, "pci-egm 0018:01:00.0 65536 node=1 socket=1 "
                  "PCI attribute: 0018:01:00.0@1=" NVGRACE);
        bed_region(b, EGM5, 5, "A: egm_size=" SIZE_TEXT "\n");
        expect(b, "added egm5 240:5 " SIZE " node=-1 socket=1 no GPU list");
        expect_nothing(b);

        bed_lost = 1;
        bed_vanish(b, EGM5);
        bed_vanish(b, GPU18);
        bed_put_aside(b, EGM4);
        bed_region(b, EGM4, 4, K2_DESCRIPTION);
        bed_region(b, "/devices/virtual/egm/egm6", 6, "A: egm_size=" SIZE_TEXT "\n");
        expect(b, "removed egm5 240:5 " SIZE " node=-1 socket=1 no GPU list");
        expect(b, "pci-egm-removed 0018:01:00.0 65536 node=1 socket=1 "
                  "PCI attribute: 0018:01:00.0@1=" NVGRACE);
        expect(b, "removed egm4 240:4 " K2_FACTS);
        expect(b, "added egm4 240:4 " K2_FACTS);
        expect(b, "added egm6 240:6 " SIZE " node=-1 socket=2 no GPU list");
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "Events of udev were lost"), 1);
}

/* Events that never stop coming do not put off what is to be read again. */
static void test_stream_of_events(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_start(b);
        bed_region(b, EGM4, 4, NULL);
        expect(b, "added egm4 240:4 " NO_SIZE " node=-1 socket=0 no GPU list");
        bed_set(b, EGM4, "egm_size", "0x6fc0000000\n");
        for (unsigned i = 0; i < 20000 && b->n_expected == b->n_lines; i++) {
                bed_event(b, GPU18, "change");
                bed_step(b);
        }
        assert_true(b->n_lines > b->n_expected);
        expect(b, "changed egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
        expect_nothing(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                        TEST(test_late_attributes),   cmocka_unit_test(test_schedule),
                        TEST(test_late_links),        TEST(test_late_gpu),
                        TEST(test_auxiliary_event),   TEST(test_driver_change),
                        TEST(test_gpu_removed),       TEST(test_add_remove),
                        TEST(test_seen_twice),        TEST(test_empty_before_remove),
                        TEST(test_empty_for_a_while), TEST(test_empty_at_last),
                        TEST(test_empty_for_good),    TEST(test_empty_keeps_place),
                        TEST(test_size_changes),      TEST(test_waits_for_udev),
                        TEST(test_lost_events),       TEST(test_stream_of_events),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
