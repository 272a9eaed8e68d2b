/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>

#include "../unit/test.h"

#include "fd-util.h"
#include "format.h"
#include "guest-input.h"

/* test-format DIRECTORY: every consumer's words for the VMs of GH200 and GB200 hosts, against the files LAYOUT.CONSUMER there;
 * refusals and notes are part of them. With $EGM_UPDATE_EXPECTED set the files are written instead; look at the difference. */

static const char *directory;

#define GH200_SIZE (464 * GIB)
#define GB200_SIZE (457728 * MIB)

typedef struct Layout {
        const char *name;
        const char *host;
        GuestSlice slices[2];
        GuestGpu gpus[4];
        size_t n_regions_of_host, n_gpus_of_regions;
        uint64_t cpus;
        bool offset_allowed;
} Layout;

static const Layout layouts[] = {
                {"gh200-tray",
                 "host-gh200",
                 {SLICE("egm4", 0, GH200_SIZE, GH200_SIZE, 0)},
                 {{"0009:01:00.0", NULL, 0}},
                 1,
                 1,
                 64,
                 false},
                /* Two VMs on one socket: one has the GPU. */
                {"gh200-half1",
                 "host-gh200",
                 {SLICE("egm4", 0, GH200_SIZE / 2, GH200_SIZE, 0)},
                 {{"0009:01:00.0", NULL, 0}},
                 1,
                 1,
                 32,
                 false},
                {"gh200-half2",
                 "host-gh200",
                 {SLICE("egm4", GH200_SIZE / 2, GH200_SIZE / 2, GH200_SIZE, 0)},
                 {},
                 1,
                 1,
                 32,
                 false},
                {"gb200-tray",
                 "host-gb200",
                 {SLICE("egm4", 0, GB200_SIZE, GB200_SIZE, 0),
                  SLICE("egm5", 0, GB200_SIZE, GB200_SIZE, 1)},
                 {{"0008:01:00.0", NULL, 0},
                  {"0009:01:00.0", NULL, 0},
                  {"0018:01:00.0", NULL, 1},
                  {"0019:01:00.0", NULL, 1}},
                 2,
                 4,
                 120,
                 false},
                {"gb200-socket",
                 "host-gb200",
                 {SLICE("egm5", 0, GB200_SIZE, GB200_SIZE, 1)},
                 {{"0018:01:00.0", NULL, 0}, {"0019:01:00.0", NULL, 0}},
                 2,
                 2,
                 60,
                 false},
                {"gb200-half1",
                 "host-gb200",
                 {SLICE("egm4", 0, GB200_SIZE / 2, GB200_SIZE, 0)},
                 {{"0008:01:00.0", NULL, 0}},
                 2,
                 2,
                 0,
                 false},
                {"gb200-half2",
                 "host-gb200",
                 {SLICE("egm4", GB200_SIZE / 2, GB200_SIZE / 2, GB200_SIZE, 0)},
                 {{"0009:01:00.0", NULL, 0}},
                 2,
                 2,
                 0,
                 false},
                {"gb200-half2-allowed",
                 "host-gb200",
                 {SLICE("egm4", GB200_SIZE / 2, GB200_SIZE / 2, GB200_SIZE, 0)},
                 {{"0009:01:00.0", NULL, 0}},
                 2,
                 2,
                 0,
                 true},
};

static void read_host(const char *name, NodeDistances *ret) {
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        assert_int_equal(node_distances_read(path, ret, NULL), 0);
}

static GuestInput layout_input(const Layout *l, const NodeDistances *distances) {
        GuestInput in = {
                        .lease = "7",
                        .slices = l->slices,
                        .gpus = l->gpus,
                        .n_regions_of_host = l->n_regions_of_host,
                        .n_gpus_of_regions = l->n_gpus_of_regions,
                        .cpus = l->cpus,
                        .offset_allowed = l->offset_allowed,
                        .distances = distances,
        };

        while (in.n_slices < ELEMENTSOF(l->slices) && l->slices[in.n_slices].region)
                in.n_slices++;
        while (in.n_gpus < ELEMENTSOF(l->gpus) && l->gpus[in.n_gpus].address)
                in.n_gpus++;
        return in;
}

/* All that comes out, as a file. */
static char *describe(const Guest *g, Consumer c) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_format_ Format f = {};
        char *text = NULL;
        size_t size;
        FILE *m = open_memstream(&text, &size);

        assert_non_null(m);
        if (format_guest(g, c, &f, &e) < 0) {
                assert_non_null(e.message);
                fprintf(m, "refused: %s\n", e.message);
        }
        assert_int_equal((f.n_args > 0) + !!f.text + !!f.json, e.message ? 0 : 1);
        for (size_t i = 0; i < f.n_args; i++)
                fprintf(m, "%s\n", f.args[i]);
        if (f.text)
                fputs(f.text, m);
        if (f.json)
                fprintf(m, "%s\n",
                        json_object_to_json_string_ext(
                                        f.json,
                                        JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
        if (f.note)
                fprintf(m, "note: %s\n", f.note);
        assert_int_equal(fclose(m), 0);
        return text;
}

static void compare(const char *path, const char *text) {
        _cleanup_free_ char *expected = NULL;

        if (getenv("EGM_UPDATE_EXPECTED")) {
                _cleanup_fclose_ FILE *f = fopen(path, "we");

                assert_non_null(f);
                assert_true(fputs(text, f) >= 0);
                return;
        }
        if (read_full_file_at(AT_FDCWD, path, 1 * MIB, &expected, NULL) < 0)
                fail_msg("%s cannot be read", path);
        for (size_t i = 0; expected[i] || text[i]; i++)
                if (expected[i] != text[i]) {
                        while (i > 0 && text[i - 1] != '\n')
                                i--;
                        fail_msg("%s differs from here on: %.200s", path, text + i);
                }
}

static void test_expected(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(layouts); i++) {
                _cleanup_node_distances_ NodeDistances distances = {};
                _cleanup_(guest_freep) Guest *g = NULL;
                GuestInput in;

                read_host(layouts[i].host, &distances);
                in = layout_input(layouts + i, &distances);
                assert_int_equal(guest_new(&in, &g, NULL), 0);
                assert_false(g->distances_assumed);
                for (Consumer c = 0; c < _CONSUMER_MAX; c++) {
                        _cleanup_free_ char *path = NULL, *text = describe(g, c);

                        assert_true(asprintf(&path, "%s/%s.%s", directory, layouts[i].name,
                                             consumer_to_string(c)) > 0);
                        compare(path, text);
                }
        }
}

/* Of an argument "…,size=54M,…" that begins so: the value in bytes, exactly. */
static uint64_t value_of(const char *arg, const char *key) {
        const char *p = strstr(arg, key);
        unsigned long long v;
        char unit;

        assert_non_null(p);
        assert_int_equal(sscanf(p + strlen(key), "%llu%c", &v, &unit), 2);
        return unit == 'M' ? v * MIB : unit == 'K' ? v * KIB : v;
}

/* What QEMU insists on, for every layout: backends add up to -m, nodes come in order, each with memory has its backend once,
 * every pair has a distance. */
static void test_qemu_rules(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(layouts); i++) {
                _cleanup_node_distances_ NodeDistances distances = {};
                _cleanup_(guest_freep) Guest *g = NULL;
                _cleanup_format_ Format f = {};
                size_t nodes = 0, memdevs = 0, pairs = 0, initiators = 0, egm = 0;
                uint64_t sum = 0;
                GuestInput in;

                read_host(layouts[i].host, &distances);
                in = layout_input(layouts + i, &distances);
                assert_int_equal(guest_new(&in, &g, NULL), 0);
                assert_int_equal(format_guest(g, CONSUMER_QEMU_NVIDIA, &f, NULL), 0);
                for (size_t k = 0; k < f.n_args; k++) {
                        const char *a = f.args[k];

                        if (strstr(a, "memory-backend-file,")) {
                                sum += value_of(a, ",size=");
                                assert_non_null(strstr(a, ",share=on,"));
                        }
                        if (strncmp(a, "node,", 5) == 0) {
                                char expected[32];

                                (void) snprintf(expected, sizeof(expected), "node,nodeid=%zu",
                                                nodes++);
                                assert_int_equal(strncmp(a, expected, strlen(expected)), 0);
                                memdevs += !!strstr(a, ",memdev=m");
                        }
                        pairs += strncmp(a, "dist,", 5) == 0;
                        initiators += strncmp(a, "acpi-generic-initiator,", 23) == 0;
                        egm += strncmp(a, "acpi-egm-memory,", 16) == 0;
                }
                assert_string_equal(f.args[0], "-m");
                assert_true(sum == value_of(f.args[1], ""));
                assert_int_equal(nodes, in.n_slices + 8 * in.n_gpus);
                assert_int_equal(memdevs, in.n_slices);
                assert_int_equal(initiators, 8 * in.n_gpus);
                assert_int_equal(pairs, nodes * (nodes - 1) / 2);
                assert_int_equal(egm, layouts[i].slices[0].offset > 0 && !in.offset_allowed
                                                      ? 0
                                                      : in.n_gpus);
        }
}

/* ---- Parts ---- */

/* What cannot be said is refused with the reason; nothing comes out. */
static void test_refusals(void **state) {
        static const GuestSlice odd[] = {SLICE("egm4", 0, GIB + 64 * KIB, GIB + 64 * KIB, 0)};
        static const GuestSlice twice[] = {SLICE("egm4", 0, GIB, 64 * GIB, 0),
                                           SLICE("egm4", GIB, GIB, 64 * GIB, 0)};
        static const GuestSlice comma[] = {{.region = "egm4", .path = "/a,b", .size = GIB}};
        static const GuestSlice spm[] = {
                        {.region = "egm4", .path = "/x", .size = GIB, .memmap_type = MEMMAP_SPM}};
        static const GuestSlice two[] = {SLICE("egm4", 0, GIB, GIB, 0),
                                         SLICE("egm5", 0, GIB, GIB, 1)};
        static const GuestSlice three_mib[] = {SLICE("egm4", 0, 3 * MIB, 3 * MIB, 0)};
        static const GuestGpu one[] = {GPU("0008:01:00.0", 0)};
        static const GuestGpu both[] = {GPU("0008:01:00.0", 0), GPU("0009:01:00.0", 0)};
        static const GuestGpu bad[] = {GPU("0008:01:0.0", 0)};
        static const GuestGpu named[] = {{.address = "0008:01:00.0", .id = "hostdev0"}};
        static const struct {
                Consumer c;
                const GuestSlice *slices;
                size_t n_slices;
                const GuestGpu *gpus;
                size_t n_gpus, n_all_gpus;
                const char *words; /* NULL: fine */
        } table[] = {
                        {CONSUMER_QEMU, odd, 1, NULL, 0, 0, NULL},
                        {CONSUMER_QEMU, comma, 1, NULL, 0, 0, NULL},
                        {CONSUMER_QEMU_NVIDIA, odd, 1, NULL, 0, 0, NULL},
                        {CONSUMER_QEMU, twice, 2, one, 1, 1, NULL},
                        {CONSUMER_CROSVM, odd, 1, one, 1, 1, "counts memory in MiB"},
                        {CONSUMER_CROSVM, comma, 1, one, 1, 1, "no path with a comma"},
                        {CONSUMER_CROSVM, spm, 1, one, 1, 1, "type 'spm'"},
                        {CONSUMER_CROSVM, twice, 2, NULL, 0, 1, NULL},
                        {CONSUMER_CLOUD_HYPERVISOR, comma, 1, one, 1, 1, "no path with a comma"},
                        {CONSUMER_CLOUD_HYPERVISOR, twice, 2, one, 1, 1, "from its start"},
                        {CONSUMER_CLOUD_HYPERVISOR, spm, 1, one, 1, 1, "type 'spm'"},
                        {CONSUMER_CLOUD_HYPERVISOR, odd, 1, one, 1, 1, NULL},
                        {CONSUMER_LIBVIRT, odd, 1, one, 1, 1, NULL},
                        {CONSUMER_LIBVIRT, odd, 1, NULL, 0, 1, "no GPU of egm4"},
                        {CONSUMER_LIBVIRT, two, 2, one, 1, 2, "no GPU of egm5"},
                        {CONSUMER_LIBVIRT, twice, 2, one, 1, 1, "one piece of a region"},
                        {CONSUMER_LIBVIRT, spm, 1, one, 1, 1, "type 'spm'"},
                        {CONSUMER_LIBVIRT, odd, 1, bad, 1, 1, "not a PCI address"},
                        {CONSUMER_LIBVIRT, odd, 1, named, 1, 1, "begin with 'ua-'"},
                        {CONSUMER_KUBEVIRT, odd, 1, one, 1, 1, "counts memory in MiB"},
                        {CONSUMER_KUBEVIRT, odd, 1, NULL, 0, 1, "no GPU of egm4"},
                        {CONSUMER_KUBEVIRT, twice, 2, one, 1, 1, "takes whole regions"},
                        {CONSUMER_KUBEVIRT, three_mib, 1, one, 1, 2, "has 1 of 2"},
                        {CONSUMER_KUBEVIRT, three_mib, 1, both, 2, 2, "does not divide"},
                        {CONSUMER_KUBEVIRT, three_mib, 1, one, 1, 1, NULL},
                        {CONSUMER_KATA, three_mib, 1, both, 2, 2, NULL},
                        {CONSUMER_KATA, three_mib, 1, NULL, 0, 2, "no GPU of egm4"},
                        {CONSUMER_KATA, twice, 2, one, 1, 1, "takes whole regions"},
                        {CONSUMER_JSON, spm, 1, NULL, 0, 0, NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                GuestInput in = {.n_gpus_of_regions = table[i].n_all_gpus, .n_regions_of_host = 1};
                _cleanup_(guest_freep) Guest *g = make(&in, table[i].slices, table[i].n_slices,
                                                       table[i].gpus, table[i].n_gpus);
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                _cleanup_format_ Format f = {};
                int r = format_guest(g, table[i].c, &f, &e);

                if (table[i].words ? r != -EINVAL || !strstr(e.message, table[i].words) : r != 0)
                        fail_msg("%zu: %d, %s", i, r, e.message);
                assert_true(r >= 0 || (!f.args && !f.text && !f.json && !f.note));
        }
}

/* AMD's type of a node's memory; names that are given; a comma in a path. */
static void test_qemu_words(void **state) {
        static const GuestSlice slices[] = {
                        {.region = "egm4", .path = "/dev/a,b", .size = GIB, .node = 0},
                        {.region = "egm5",
                         .path = "/dev/egm5",
                         .size = GIB,
                         .node = 1,
                         .memmap_type = MEMMAP_SPM}};
        static const GuestGpu gpus[] = {{.address = "0008:01:00.0", .id = "gpu.x"}};
        GuestInput in = {.cpus = 2};
        _cleanup_(guest_freep) Guest *g = make(&in, slices, 2, gpus, 1);
        _cleanup_format_ Format f = {};

        assert_int_equal(format_guest(g, CONSUMER_QEMU_NVIDIA, &f, NULL), 0);
        assert_string_equal(f.args[3], "memory-backend-file,id=m0,size=1024M,mem-path=/dev/a,,b,"
                                       "align=1024M,share=on,prealloc=off");
        assert_string_equal(f.args[7], "node,nodeid=0,cpus=0,memdev=m0");
        assert_string_equal(f.args[9], "node,nodeid=1,cpus=1,memdev=m1,memmap-type=spm");
        assert_string_equal(f.args[27], "acpi-generic-initiator,id=gi0,pci-dev=gpu.x,node=2");
}

/* However many GPUs share a slice, nothing of it is lost. */
static void test_libvirt_shares(void **state) {
        static const GuestSlice slices[] = {SLICE("egm4", 0, GIB + 64 * KIB, 2 * GIB, 0),
                                            SLICE("egm5", 0, 64 * KIB, GIB, 1)};
        static const GuestGpu gpus[] = {GPU("0008:01:00.0", 0), GPU("0009:01:00.0", 0),
                                        GPU("000a:01:00.0", 0), GPU("0018:01:00.0", 1)};
        GuestInput in = {};
        _cleanup_(guest_freep) Guest *g = make(&in, slices, 2, gpus, 4);
        _cleanup_format_ Format f = {};
        uint64_t sums[2] = {};
        const char *p;

        assert_int_equal(format_guest(g, CONSUMER_LIBVIRT, &f, NULL), 0);
        p = f.text;
        for (size_t i = 0; i < 4; i++) {
                unsigned long long kib;
                unsigned node;

                p = strstr(p, "<size unit='KiB'>");
                assert_non_null(p);
                assert_int_equal(sscanf(p, "<size unit='KiB'>%llu</size> <node>%u</node>", &kib,
                                        &node),
                                 2);
                assert_int_equal(node, i < 3 ? 0 : 1);
                sums[node] += kib;
                p++;
        }
        assert_int_equal(sums[0], MIB + 64);
        assert_int_equal(sums[1], 64);
}

static void test_quote(void **state) {
        static const struct {
                const char *arg, *quoted;
        } table[] = {
                        {"-m", "-m"},
                        {"size=98304M,mem-path=/dev/egm4", "size=98304M,mem-path=/dev/egm4"},
                        {"", "''"},
                        {"a b", "'a b'"},
                        {"[0-59]", "'[0-59]'"},
                        {"it's", "'it'\\''s'"},
                        {"$x`y`", "'$x`y`'"},
                        {"~", "'~'"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_format_ Format f = {};
                _cleanup_free_ char *line = NULL, *expected = NULL;

                assert_int_equal(format_arg(&f, "first"), 0);
                assert_int_equal(format_arg(&f, "%s", table[i].arg), 0);
                assert_int_equal(format_quote_args(&f, &line), 0);
                assert_true(asprintf(&expected, "first %s", table[i].quoted) > 0);
                assert_string_equal(line, expected);
        }
}

int main(int argc, char **argv) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_expected),       cmocka_unit_test(test_qemu_rules),
                        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_qemu_words),
                        cmocka_unit_test(test_libvirt_shares), cmocka_unit_test(test_quote),
        };

        assert(argc == 2);
        directory = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
