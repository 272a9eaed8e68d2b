/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "format.h"
#include "guest-input.h"

/* What a guest is made of: nodes, distances, CPUs. */

/* Two slices of one socket: the second is memory alone, behind the GPUs' nodes. */
static void test_nodes(void **state) {
        static const GuestSlice slices[] = {SLICE("egm4", 4 * GIB, GIB, 64 * GIB, 0),
                                            SLICE("egm4", 0, 3 * MIB, 64 * GIB, 0),
                                            SLICE("egm5", 0, 2 * GIB, 64 * GIB, 1)};
        static const GuestGpu gpus[] = {GPU("0008:01:00.0", 0), GPU("0018:01:00.0", 2)};
        GuestInput in = {.cpus = 5};
        _cleanup_(guest_freep) Guest *g = make(&in, slices, 3, gpus, 2);

        assert_int_equal(g->n_nodes, 3 + 16);
        assert_int_equal(g->n_memory, 3);
        assert_int_equal(g->nodes[0].kind, GUEST_NODE_CPU);
        assert_int_equal(g->nodes[1].kind, GUEST_NODE_CPU);
        assert_int_equal(g->nodes[1].slice, 2);
        for (size_t i = 2; i < 18; i++) {
                assert_int_equal(g->nodes[i].kind, GUEST_NODE_INITIATOR);
                assert_int_equal(g->nodes[i].gpu, i < 10 ? 0 : 1);
        }
        assert_int_equal(g->nodes[18].kind, GUEST_NODE_MEMORY);
        assert_int_equal(g->nodes[18].slice, 1);
        assert_int_equal(g->slice_nodes[1], 18);
        assert_int_equal(g->slice_nodes[2], 1);
        assert_int_equal(guest_gpu_initiator(g, 1), 10);
        assert_int_equal(guest_gpu_memory(g, 1), 1);
        assert_true(g->size == 3 * GIB + 3 * MIB);
        /* CPUs: 3 and 2. */
        assert_int_equal(g->nodes[0].n_cpus, 3);
        assert_int_equal(g->nodes[1].cpu_first, 3);
        assert_int_equal(g->nodes[1].n_cpus, 2);
        assert_int_equal(g->nodes[18].n_cpus, 0);
        /* The GPU whose memory does not start with its region. */
        assert_false(guest_gpu_has_egm(g, 0));
        assert_true(guest_gpu_has_egm(g, 1));
        assert_int_equal(guest_find_offset(g), 0);
        /* Places: 40 from socket to socket is assumed. */
        assert_true(g->distances_assumed);
        assert_int_equal(guest_distance(g, 0, 0), 10);
        assert_int_equal(guest_distance(g, 0, 18), 11);
        assert_int_equal(guest_distance(g, 0, 1), 40);
        assert_int_equal(guest_distance(g, 18, 1), 40);
        assert_int_equal(guest_distance(g, 2, 9), 11);
        assert_int_equal(guest_distance(g, 2, 10), 40);
        assert_int_equal(guest_distance(g, 18, 2), 80);
        assert_int_equal(guest_distance(g, 2, 1), 120);
}

/* Regions whose node nobody knows are two places all the same. */
static void test_unknown_nodes(void **state) {
        static const GuestSlice slices[] = {SLICE("egm4", 0, GIB, GIB, -1),
                                            SLICE("egm5", 0, GIB, GIB, -1),
                                            SLICE("egm5", GIB, GIB, GIB, -1)};
        GuestInput in = {};
        _cleanup_(guest_freep) Guest *g = make(&in, slices, 3, NULL, 0);

        assert_int_equal(g->nodes[1].kind, GUEST_NODE_CPU);
        assert_int_equal(g->nodes[2].kind, GUEST_NODE_MEMORY);
        assert_int_equal(guest_distance(g, 0, 1), 40);
        assert_int_equal(guest_distance(g, 1, 2), 11);
        assert_int_equal(guest_find_offset(g), SIZE_MAX); /* no GPU is concerned */
}

/* A host that says other things than usual, and not the same both ways. */
static void test_host_distances(void **state) {
        static const GuestSlice slices[] = {SLICE("egm4", 0, GIB, GIB, 0),
                                            SLICE("egm5", 0, GIB, GIB, 4)};
        static const GuestGpu gpus[] = {GPU("0008:01:00.0", 0)};
        unsigned nodes[] = {0, 4};
        uint8_t values[] = {10, 21, 200, 10};
        NodeDistances distances = {nodes, 2, values};
        GuestInput in = {.distances = &distances};
        _cleanup_(guest_freep) Guest *g = make(&in, slices, 2, gpus, 1);
        _cleanup_format_ Format f = {};
        size_t pairs = 0;

        assert_false(g->distances_assumed);
        assert_int_equal(guest_distance(g, 0, 1), 21);
        assert_int_equal(guest_distance(g, 1, 0), 200);
        assert_int_equal(guest_distance(g, 2, 1), 101);
        assert_int_equal(guest_distance(g, 1, 2), 254); /* far, but to be reached */
        values[2] = 255;
        g = guest_free(g);
        g = make(&in, slices, 2, gpus, 1);
        assert_int_equal(guest_distance(g, 1, 2), 255);
        /* Then all have to be said. */
        assert_int_equal(format_guest(g, CONSUMER_QEMU, &f, NULL), 0);
        for (size_t i = 0; i < f.n_args; i++)
                pairs += strncmp(f.args[i], "dist,", 5) == 0;
        assert_int_equal(pairs, 10 * 9);
}

static void test_distance_rows(void **state) {
        static const struct {
                const char *text;
                size_t n;
                int r;
        } table[] = {
                        {"10 40\n", 2, 0},      {"10\n", 1, 0},           {"10 255", 2, 0},
                        {"10 40 \n", 2, 0},     {"10 40\n", 1, -EINVAL},  {"10 40\n", 3, -EINVAL},
                        {"", 1, -EINVAL},       {"10 9\n", 2, -EINVAL},   {"10 256\n", 2, -EINVAL},
                        {"10 x\n", 2, -EINVAL}, {"10  40\n", 2, -EINVAL}, {"-10", 1, -EINVAL},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint8_t row[4] = {};

                if (node_distances_parse_row(table[i].text, row, table[i].n) != table[i].r)
                        fail_msg("'%s'", table[i].text);
        }
}

static void test_align(void **state) {
        static const struct {
                uint64_t offset, size, align;
        } table[] = {
                        {0, 64 * GIB, GIB},
                        {GIB, GIB, GIB},
                        {512 * MIB, 64 * GIB, 512 * MIB},
                        {GIB, 512 * MIB, 512 * MIB},
                        {GIB + 2 * MIB, 64 * GIB, 2 * MIB},
                        {0, 4 * MIB, 2 * MIB},
                        {64 * KIB, 64 * GIB, 64 * KIB},
                        {0, MIB, 64 * KIB},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                GuestSlice s = {.offset = table[i].offset, .size = table[i].size};

                assert_true(guest_slice_align(&s) == table[i].align);
        }
}

static void test_guests_that_cannot_be(void **state) {
        static const NodeDistances nothing;
        static const GuestSlice huge[] = {SLICE("egm4", 0, UINT64_MAX - 5, UINT64_MAX, 0),
                                          SLICE("egm5", 0, 6, 6, 1)};
        GuestGpu gpus[16];
        GuestInput in = {.lease = "7", .slices = huge, .n_slices = 2, .distances = &nothing};
        _cleanup_egm_error_ EgmError sum = EGM_ERROR_NULL, nodes = EGM_ERROR_NULL,
                                     cpus = EGM_ERROR_NULL;
        Guest *g = NULL;

        assert_int_equal(guest_new(&in, &g, &sum), -EINVAL);
        assert_non_null(strstr(sum.message, "2^64"));
        for (size_t i = 0; i < ELEMENTSOF(gpus); i++)
                gpus[i] = (GuestGpu) GPU("0008:01:00.0", 0);
        in.n_slices = 1;
        in.gpus = gpus;
        in.n_gpus = ELEMENTSOF(gpus);
        assert_int_equal(guest_new(&in, &g, &nodes), -EINVAL);
        assert_non_null(strstr(nodes.message, "129 nodes; a guest has at most 128"));
        in.n_slices = 2;
        in.slices = (const GuestSlice[]){SLICE("egm4", 0, 1, 1, 0), SLICE("egm5", 0, 1, 1, 1)};
        in.n_gpus = 0;
        in.cpus = 1;
        assert_int_equal(guest_new(&in, &g, &cpus), -EINVAL);
        assert_non_null(strstr(cpus.message, "1 CPUs for 2 nodes"));
        assert_null(g);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_nodes),
                        cmocka_unit_test(test_unknown_nodes),
                        cmocka_unit_test(test_host_distances),
                        cmocka_unit_test(test_distance_rows),
                        cmocka_unit_test(test_align),
                        cmocka_unit_test(test_guests_that_cannot_be),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
