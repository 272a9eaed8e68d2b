/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/stat.h>

#include "bed.h"

/* Every shape that the driver's versions gave sysfs, and what else may be found there. */

#define TO_GPU8 "../../../pci0008:00/0008:00:00.0/0008:01:00.0"
#define TO_GPU9 "../../../pci0009:00/0009:00:00.0/0009:01:00.0"

/* Below the GPU that made it. */
#define AUX GPU8 "/nvgrace_gpu_vfio_pci.egm.4"
#define AUX_EGM4 AUX "/egm/egm4"

static void test_k0(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, EGM4, 4, NULL);
        bed_start(b);
        expect(b, "added egm4 240:4 " NO_SIZE " node=-1 socket=0 no GPU list");
        expect_nothing(b);
}

static void test_k1(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, EGM4, 4, "L: 0008:01:00.0=" TO_GPU8 "\n");
        bed_link(b, GPU8, "egm4", "../../../virtual/egm/egm4");
        bed_start(b);
        expect(b, "added egm4 240:4 " NO_SIZE " node=0 socket=0 links: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

static void test_k2(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, EGM4, 4,
                   "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0009:01:00.0\\n0008:01:00.0\\n\n");
        bed_region(b, EGM5, 5,
                   "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0018:01:00.0\\n0019:01:00.0\\n\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 gpu_devices file: "
                  "0008:01:00.0@0=" NVGRACE " 0009:01:00.0@0=" NVGRACE);
        expect(b, "added egm5 240:5 " SIZE " node=1 socket=1 gpu_devices file: "
                  "0018:01:00.0@1=" NVGRACE " 0019:01:00.0@1=" NVGRACE);
        expect_nothing(b);
}

static void test_r1t(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_add(b, "P: " AUX "\nE: SUBSYSTEM=auxiliary\nL: 0008:01:00.0=../../0008:01:00.0\n"
                   "L: 0009:01:00.0=../../../../pci0009:00/0009:00:00.0/0009:01:00.0\n\n");
        bed_region(b, AUX_EGM4, 4,
                   "A: egm_size=" SIZE_TEXT "\nL: device=../../../"
                   "nvgrace_gpu_vfio_pci.egm.4\n");
        bed_link(b, GPU9, "nvgrace_gpu_vfio_pci.egm.4",
                 "../../../pci0008:00/0008:00:00.0/0008:01:00.0/nvgrace_gpu_vfio_pci.egm.4");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux links: "
                  "0008:01:00.0@0=" NVGRACE " 0009:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

/* No link yet, or never: the place alone names one GPU. */
static void test_aux_parent(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_add(b, "P: " AUX "\nE: SUBSYSTEM=auxiliary\n\n");
        bed_region(b, AUX_EGM4, 4, "A: egm_size=" SIZE_TEXT "\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 aux parent: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

static void test_r2(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_add(b, "P: " AUX "\nE: SUBSYSTEM=auxiliary\n\n");
        bed_region(b, AUX_EGM4, 4,
                   "A: egm_size=" SIZE_TEXT "\nL: device=../../../nvgrace_gpu_vfio_pci.egm.4\n"
                   "L: 0008:01:00.0=../../../../0008:01:00.0\n"
                   "L: 0009:01:00.0=../../../../../../pci0009:00/0009:00:00.0/0009:01:00.0\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 links: "
                  "0008:01:00.0@0=" NVGRACE " 0009:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

/* Sits below a bridge: its children look like links to GPUs, but are devices. */
static void test_bridge_parent(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, "/devices/pci0008:00/0008:00:00.0/egm/egm4", 4,
                   "A: egm_size=" SIZE_TEXT "\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
        expect_nothing(b);
}

static void test_s1(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_start(b);
        expect_nothing(b);
        bed_region(b, EGM5, 5, NULL);
        expect(b, "added egm5 240:5 " NO_SIZE " node=-1 socket=1 no GPU list");
        expect_nothing(b);
}

static void test_s2(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_region(b, EGM5, 5, "A: egm_size=" SIZE_TEXT "\n");
        bed_start(b);
        expect(b, "added egm5 240:5 " SIZE " node=-1 socket=1 no GPU list");
        expect_nothing(b);
}

/* S3 and S4: whatever driver the GPUs have. */
static void test_s4(void **state) {
        Bed *b = *state;

        bed_gpu(b, GPU8, "0", NVGRACE);
        bed_gpu(b, GPU9, "0", "nvidia");
        bed_gpu(b, GPU18, "1", NULL);
        bed_region(b, EGM4, 4,
                   "A: egm_size=" SIZE_TEXT "\nL: 0008:01:00.0=" TO_GPU8
                   "\nL: 0009:01:00.0=" TO_GPU9 "\n");
        bed_region(b, EGM5, 5,
                   "A: egm_size=" SIZE_TEXT
                   "\nL: 0018:01:00.0=../../../pci0018:00/0018:00:00.0/0018:01:00.0\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 links: 0008:01:00.0@0=" NVGRACE
                  " 0009:01:00.0@0=nvidia");
        expect(b, "added egm5 240:5 " SIZE " node=1 socket=1 links: 0018:01:00.0@1=none");
        expect_nothing(b);
}

/* The standalone driver keeps the link of a GPU that was taken out. */
static void test_dangling_link(void **state) {
        Bed *b = *state;

        bed_log(b);
        bed_gpu(b, GPU8, "0", NVGRACE);
        bed_region(b, EGM4, 4,
                   "A: egm_size=" SIZE_TEXT "\nL: 0008:01:00.0=" TO_GPU8
                   "\nL: 0009:01:00.0=" TO_GPU9 "\n");
        bed_start(b);
        expect(b, "added egm4 240:4 " SIZE " node=0 socket=0 links: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: link 0009:01:00.0 leads nowhere"), 1);
}

/* The proposal of a region inside the VFIO device. */
static void test_vfio_region(void **state) {
        Bed *b = *state;

        bed_gpus(b);
        bed_set(b, GPU8, "egm_size", "0x6fc0000000\n");
        bed_start(b);
        expect(b, "pci-egm 0008:01:00.0 " SIZE
                  " node=0 socket=0 PCI attribute: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
        bed_event(b, GPU8, "change");
        expect_nothing(b);

        /* Comes with the driver, and goes with it. */
        bed_set(b, GPU18, "egm_size", "0x10000\n");
        bed_event(b, GPU18, "bind");
        expect(b, "pci-egm 0018:01:00.0 65536 node=1 socket=1 "
                  "PCI attribute: 0018:01:00.0@1=" NVGRACE);
        bed_set(b, GPU18, "egm_size", "much\n");
        bed_event(b, GPU18, "change");
        expect(b, "pci-egm 0018:01:00.0 0 (egm_size says \"much\", which is not a number) "
                  "node=1 socket=1 PCI attribute: 0018:01:00.0@1=" NVGRACE);
        bed_set(b, GPU18, "egm_size", NULL);
        bed_driver(b, GPU18, NULL, "unbind");
        expect(b, "pci-egm-removed 0018:01:00.0 0 (egm_size says \"much\", which is not a number) "
                  "node=1 socket=1 PCI attribute: 0018:01:00.0@1=" NVGRACE);
        bed_remove(b, GPU8);
        expect(b, "pci-egm-removed 0008:01:00.0 " SIZE
                  " node=0 socket=0 PCI attribute: 0008:01:00.0@0=" NVGRACE);
        expect_nothing(b);
}

static void test_numa_nodes(void **state) {
        static const struct {
                const char *nodes[2]; /* of the two GPUs' files; NULL: none */
                const char *facts;
                bool complains;
        } table[] = {
                        {{NULL, NULL},
                         "node=-1 socket=0 links: 0008:01:00.0@-1=none 0009:01:00.0@-1=none",
                         false},
                        {{"-1", "-1"},
                         "node=-1 socket=0 links: 0008:01:00.0@-1=none 0009:01:00.0@-1=none",
                         false},
                        {{NULL, "1"},
                         "node=1 socket=0 links: 0008:01:00.0@1=none 0009:01:00.0@1=none",
                         false},
                        {{"1", "-1"},
                         "node=1 socket=0 links: 0008:01:00.0@1=none 0009:01:00.0@1=none",
                         false},
                        {{"2", "10"},
                         "node=2 socket=0 links: 0008:01:00.0@2=none 0009:01:00.0@10=none",
                         true},
                        {{"10", "2"},
                         "node=2 socket=0 links: 0008:01:00.0@10=none 0009:01:00.0@2=none",
                         true},
                        {{"0", "1"},
                         "node=0 socket=0 links: 0008:01:00.0@0=none 0009:01:00.0@1=none",
                         true},
                        {{"x", "1"},
                         "node=1 socket=0 links: 0008:01:00.0@1=none 0009:01:00.0@1=none",
                         false},
                        {{"99999", "0"},
                         "node=0 socket=0 links: 0008:01:00.0@0=none 0009:01:00.0@0=none",
                         false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                char line[256];
                void *bed;
                Bed *b;

                assert_int_equal(bed_setup(&bed), 0);
                b = bed;
                bed_log(b);
                bed_gpu(b, GPU8, table[i].nodes[0], NULL);
                bed_gpu(b, GPU9, table[i].nodes[1], NULL);
                bed_region(b, EGM4, 4,
                           "A: egm_size=" SIZE_TEXT "\nL: 0008:01:00.0=" TO_GPU8
                           "\nL: 0009:01:00.0=" TO_GPU9 "\n");
                bed_start(b);
                (void) snprintf(line, sizeof(line), "added egm4 240:4 " SIZE " %s", table[i].facts);
                expect(b, line);
                expect_nothing(b);
                assert_int_equal(bed_log_count(b, "on different NUMA nodes"), table[i].complains);
                assert_int_equal(bed_teardown(&bed), 0);
        }
}

static void test_sockets_differ(void **state) {
        Bed *b = *state;

        bed_log(b);
        bed_gpus(b);
        bed_region(b, EGM5, 5,
                   "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0018:01:00.0\\n0009:01:00.0\\n\n");
        bed_start(b);
        expect(b, "added egm5 240:5 " SIZE " node=0 socket=0 gpu_devices file: "
                  "0009:01:00.0@0=" NVGRACE " 0018:01:00.0@1=" NVGRACE);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "on different sockets, taking the lowest, 0"), 1);
}

/* The file may name what PCI does not know. */
static void test_listed_gpu_missing(void **state) {
        Bed *b = *state;

        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\nA: gpu_devices=0008:01:00.0\\n\n");
        bed_start(b);
        expect(b,
               "added egm4 240:4 " SIZE " node=-1 socket=0 gpu_devices file: 0008:01:00.0@-1=none");
        expect_nothing(b);
}

static void test_sizes(void **state) {
        static const struct {
                const char *text, *shown;
        } table[] = {
                        {"0x0\\n", "0 (egm_size is zero)"},
                        {"\\n", "0 (egm_size is empty)"},
                        {"-5\\n", "0 (egm_size says \"-5\", which is not a number)"},
                        {"0xffffffffffffffff\\n",
                         "0 (egm_size says \"0xffffffffffffffff\", more than the largest possible "
                         "4503599627370496)"},
                        {"479962595328\\n", SIZE},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                char more[128], line[256];
                void *bed;
                Bed *b;

                assert_int_equal(bed_setup(&bed), 0);
                b = bed;
                (void) snprintf(more, sizeof(more), "A: egm_size=%s\n", table[i].text);
                bed_region(b, EGM4, 4, more);
                bed_start(b);
                (void) snprintf(line, sizeof(line),
                                "added egm4 240:4 %s node=-1 socket=0 no GPU list", table[i].shown);
                expect(b, line);
                expect_nothing(b);
                assert_int_equal(bed_teardown(&bed), 0);
        }
}

/* Files that no driver would write. */
static void test_garbage(void **state) {
        Bed *b = *state;
        char page[4097], more[70000];

        bed_log(b);
        bed_gpus(b);
        memset(page, '#', sizeof(page));
        page[sizeof(page) - 1] = '\0';
        memcpy(page + 2000, "\n0008:01:00.0\n", 14);
        memset(more, '9', sizeof(more));
        more[sizeof(more) - 1] = '\0';
        bed_region(b, EGM4, 4, "L: 0009:01:00.0x=" TO_GPU9 "\nL: 9:1:0.0=" TO_GPU9 "\n");
        bed_set(b, EGM4, "egm_size", page);
        bed_set(b, EGM4, "gpu_devices", page);
        bed_region(b, EGM5, 5, NULL);
        bed_set(b, EGM5, "egm_size", more);
        bed_set(b, EGM5, "gpu_devices", more);
        bed_start(b);
        expect(b, "added egm4 240:4 0 (egm_size says "
                  "\"########################################...\", which is not a number) "
                  "node=0 socket=0 gpu_devices file: 0008:01:00.0@0=" NVGRACE);
        expect(b, "added egm5 240:5 0 (egm_size cannot be read: Argument list too long) "
                  "node=-1 socket=1 gpu_devices file");
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: gpu_devices: 2 lines are no PCI addresses"), 1);
        assert_int_equal(bed_log_count(b, "egm5: gpu_devices cannot be read"), 1);
}

/* Attributes that cannot be read at all. */
static void test_unreadable(void **state) {
        Bed *b = *state;
        _cleanup_free_ char *path = NULL;

        bed_gpus(b);
        bed_region(b, EGM4, 4, NULL);
        path = bed_path(b, "/sys" EGM4 "/egm_size");
        assert_int_equal(mkdir(path, 0700), 0);
        bed_start(b);
        expect(b, "added egm4 240:4 0 (egm_size cannot be read: Is a directory) "
                  "node=-1 socket=0 no GPU list");
        expect_nothing(b);
}

static void test_names(void **state) {
        Bed *b = *state;

        bed_log(b);
        bed_region(b, "/devices/virtual/egm/egm", 1, NULL);
        bed_region(b, "/devices/virtual/egm/egm_ctl", 2, "A: egm_size=0x10000\\n\n");
        bed_region(b, "/devices/virtual/egm/egm04", 3, "A: egm_size=0x10000\\n\n");
        bed_region(b, "/devices/virtual/egm/egm0", 0, "A: egm_size=0x10000\\n\n");
        bed_region(b, "/devices/virtual/egm/egm300", 300, "A: egm_size=0x10000\\n\n");
        bed_start(b);
        /* Without a hypervisor carveout the number is the socket's own, but nothing says so. */
        expect(b, "added egm0 240:0 65536 node=-1 socket=-1 no GPU list");
        expect(b, "added egm300 240:300 65536 node=-1 socket=296 no GPU list");
        bed_event(b, "/devices/virtual/egm/egm_ctl", "change");
        bed_event(b, "/devices/virtual/egm/egm_ctl", "add");
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm: not named"), 1);
        assert_int_equal(bed_log_count(b, "egm_ctl: not named"), 1);
        assert_int_equal(bed_log_count(b, "egm04: not named"), 1);
        bed_remove(b, "/devices/virtual/egm/egm_ctl");
        expect_nothing(b);
        bed_region(b, "/devices/virtual/egm/egm_ctl", 2, NULL);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm_ctl: not named"), 2);
}

/* Neighbours in sysfs that are no business of ours. */
static void test_strangers(void **state) {
        Bed *b = *state;

        bed_add(b, "P: /devices/virtual/misc/egm4\nE: SUBSYSTEM=misc\nA: egm_size=1\n\n");
        bed_start(b);
        bed_event(b, "/devices/virtual/misc/egm4", "change");
        expect_nothing(b);
}

static void test_devnode(void **state) {
        _cleanup_free_ char *node = NULL, *moved = NULL;
        Bed *b = *state;

        bed_log(b);
        node = bed_path(b, "/dev/egm4");
        moved = bed_path(b, "/dev/elsewhere");
        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\n");
        bed_add(b, "P: " EGM5 "\nE: SUBSYSTEM=egm\nA: egm_size=" SIZE_TEXT "\n\n");
        assert_int_equal(rename(node, moved), 0);
        bed_start(b);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: its device node is not there"), 1);
        assert_int_equal(bed_log_count(b, "egm5: it has no device node"), 1);

        /* A link would lead to whatever somebody likes. */
        assert_int_equal(symlink(moved, node), 0);
        bed_event(b, EGM4, "change");
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: its device node is no character device"), 1);
        assert_int_equal(unlink(node), 0);
        assert_int_equal(mkdir(node, 0700), 0);
        bed_event(b, EGM4, "change");
        expect_nothing(b);
        assert_int_equal(rmdir(node), 0);

        assert_int_equal(rename(moved, node), 0);
        bed_event(b, EGM4, "change");
        expect(b, "added egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
        expect_nothing(b);

        /* Once it is known, that is worth a word, no more. */
        assert_int_equal(rename(node, moved), 0);
        assert_int_equal(mkdir(node, 0700), 0);
        bed_event(b, EGM4, "change");
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: its device node is no character device"), 2);
}

/* The node of that name belongs to another device. */
static void test_devnode_number(void **state) {
        _cleanup_free_ char *number = NULL;
        Bed *b = *state;

        bed_log(b);
        bed_region(b, EGM4, 4, "A: egm_size=" SIZE_TEXT "\n");
        number = bed_path(b, "/dev/.node/egm4");
        assert_int_equal(unlink(number), 0);
        assert_int_equal(symlink("1:1", number), 0);
        bed_start(b);
        expect_nothing(b);
        assert_int_equal(bed_log_count(b, "egm4: its device node is another device's"), 1);
        assert_int_equal(unlink(number), 0);
        assert_int_equal(symlink("240:4", number), 0);
        bed_event(b, EGM4, "change");
        expect(b, "added egm4 240:4 " SIZE " node=-1 socket=0 no GPU list");
        expect_nothing(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                        TEST(test_k0),
                        TEST(test_k1),
                        TEST(test_k2),
                        TEST(test_r1t),
                        TEST(test_aux_parent),
                        TEST(test_r2),
                        TEST(test_bridge_parent),
                        TEST(test_s1),
                        TEST(test_s2),
                        TEST(test_s4),
                        TEST(test_dangling_link),
                        TEST(test_vfio_region),
                        cmocka_unit_test(test_numa_nodes),
                        TEST(test_sockets_differ),
                        TEST(test_listed_gpu_missing),
                        cmocka_unit_test(test_sizes),
                        TEST(test_garbage),
                        TEST(test_unreadable),
                        TEST(test_names),
                        TEST(test_strangers),
                        TEST(test_devnode),
                        TEST(test_devnode_number),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
