/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>
#include <numa.h>
#include <sys/stat.h>

#include "test.h"

#include "topology.h"

/* libnuma's answers come from here (the linker's --wrap), so that every host has every shape. */
static struct {
        bool real; /* ask libnuma after all */
        bool available;
        int n_nodes;
        uint64_t nodes;    /* bit: exists */
        uint64_t cpus[64]; /* bit: on this node */
        int (*distance)(int a, int b);
} host;

int __wrap_numa_available(void);
int __real_numa_available(void);
int __wrap_numa_max_node(void);
int __real_numa_max_node(void);
int __wrap_numa_node_to_cpus(int node, struct bitmask *mask);
int __real_numa_node_to_cpus(int node, struct bitmask *mask);
int __wrap_numa_distance(int a, int b);
int __real_numa_distance(int a, int b);
int __wrap_numa_bitmask_isbitset(const struct bitmask *m, unsigned n);
int __real_numa_bitmask_isbitset(const struct bitmask *m, unsigned n);

int __wrap_numa_available(void) {
        if (host.real)
                return __real_numa_available();
        return host.available ? 0 : -1;
}

int __wrap_numa_max_node(void) {
        if (host.real)
                return __real_numa_max_node();
        assert_true(host.available);
        return host.n_nodes - 1;
}

int __wrap_numa_node_to_cpus(int node, struct bitmask *mask) {
        if (host.real)
                return __real_numa_node_to_cpus(node, mask);
        assert_true(host.available);
        assert_true(host.nodes & UINT64_C(1) << node); /* libnuma complains on stderr otherwise */
        (void) numa_bitmask_clearall(mask);
        for (unsigned cpu = 0; cpu < 64; cpu++)
                if (host.cpus[node] & UINT64_C(1) << cpu)
                        (void) numa_bitmask_setbit(mask, cpu);
        return 0;
}

int __wrap_numa_distance(int a, int b) {
        if (host.real)
                return __real_numa_distance(a, b);
        assert_true(host.available);
        return host.distance(a, b);
}

int __wrap_numa_bitmask_isbitset(const struct bitmask *m, unsigned n) {
        if (!host.real && m == numa_nodes_ptr)
                return n < 64 && (host.nodes & UINT64_C(1) << n) != 0;
        return __real_numa_bitmask_isbitset(m, n);
}

static char cpu_dir[] = "/tmp/test-topology-XXXXXX";

static void set_package(unsigned cpu, const char *id) {
        char path[PATH_MAX];
        FILE *f;

        (void) snprintf(path, sizeof(path), "%s/cpu%u", cpu_dir, cpu);
        (void) mkdir(path, 0700);
        (void) snprintf(path, sizeof(path), "%s/cpu%u/topology", cpu_dir, cpu);
        (void) mkdir(path, 0700);
        (void) snprintf(path, sizeof(path), "%s/cpu%u/topology/physical_package_id", cpu_dir, cpu);
        if (!id) {
                (void) unlink(path);
                return;
        }
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fputs(id, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static int setup(void **state) {
        memset(&host, 0, sizeof(host));
        for (unsigned cpu = 0; cpu < 8; cpu++)
                set_package(cpu, NULL);
        return 0;
}

static void assert_cpus(const Topology *t, int node, uint64_t want) {
        size_t size = 0;
        const cpu_set_t *cpus = topology_cpus(t, node, &size);

        if (want == 0) {
                assert_null(cpus);
                return;
        }
        assert_non_null(cpus);
        for (size_t cpu = 0; cpu < size * CHAR_BIT; cpu++)
                assert_int_equal(CPU_ISSET_S(cpu, size, cpus) != 0,
                                 cpu < 64 && (want & UINT64_C(1) << cpu) != 0);
}

static int tray_distance(int a, int b) {
        if (a == b)
                return 10;
        /* Even nodes belong to socket 0; CPU nodes are 0 and 1. */
        return (a % 2 == b % 2 ? 20 : 40) + (a > 1 && b > 1 ? 40 : 0);
}

/* A GB200 tray: CPUs on nodes 0 and 1, 34 nodes with nothing, a gap in the numbers. */
static void make_tray(void) {
        host.available = true;
        host.n_nodes = 37;
        host.nodes = (UINT64_C(1) << 37) - 1;
        host.nodes &= ~(UINT64_C(1) << 20);
        host.cpus[0] = 0x0f;
        host.cpus[1] = 0xf0;
        host.distance = tray_distance;
        for (unsigned cpu = 0; cpu < 8; cpu++)
                set_package(cpu, cpu < 4 ? "0\n" : "1\n");
}

static void test_tray(void **state) {
        _cleanup_(topology_freep) Topology *t = NULL;

        make_tray();
        assert_int_equal(topology_new_at(cpu_dir, &t), 0);
        for (int node = 0; node < 37; node++)
                assert_int_equal(topology_has_node(t, node), node != 20);
        assert_false(topology_has_node(t, 37));
        assert_false(topology_has_node(t, -1));
        assert_false(topology_has_node(t, INT_MAX));
        assert_false(topology_has_node(t, INT_MIN));

        assert_cpus(t, 0, 0x0f);
        assert_cpus(t, 1, 0xf0);
        assert_cpus(t, 2, 0);
        assert_cpus(t, 20, 0);
        assert_cpus(t, 37, 0);
        assert_cpus(t, -1, 0);

        assert_int_equal(topology_distance(t, 0, 0), 10);
        assert_int_equal(topology_distance(t, 0, 1), 40);
        assert_int_equal(topology_distance(t, 35, 1), 20);
        assert_int_equal(topology_distance(t, 20, 1), -1);
        assert_int_equal(topology_distance(t, 1, 20), -1);
        assert_int_equal(topology_distance(t, 0, 37), -1);
        assert_int_equal(topology_distance(t, -1, 0), -1);

        assert_int_equal(topology_cpu_node(t, 0), 0);
        assert_int_equal(topology_cpu_node(t, 1), 1);
        assert_int_equal(topology_cpu_node(t, 34), 0);
        assert_int_equal(topology_cpu_node(t, 35), 1);
        assert_int_equal(topology_cpu_node(t, 20), -1);
        assert_int_equal(topology_cpu_node(t, -1), -1);

        assert_int_equal(topology_node_of_socket(t, 0), 0);
        assert_int_equal(topology_node_of_socket(t, 1), 1);
        assert_int_equal(topology_node_of_socket(t, 2), -1);
        assert_int_equal(topology_node_of_socket(t, -1), -1);
}

/* arm64 takes package numbers from a table's offsets; CPUs that are offline or unreadable tell
 * nothing. */
static void test_odd_packages(void **state) {
        _cleanup_(topology_freep) Topology *t = NULL;

        make_tray();
        for (unsigned cpu = 0; cpu < 8; cpu++)
                set_package(cpu, cpu < 4 ? "3180\n" : "36\n");
        set_package(0, NULL);
        set_package(1, "junk\n");
        set_package(2, "-1\n");
        set_package(5, "");
        assert_int_equal(topology_new_at(cpu_dir, &t), 0);
        assert_int_equal(topology_node_of_socket(t, 0), 1);
        assert_int_equal(topology_node_of_socket(t, 1), 0);
        assert_int_equal(topology_node_of_socket(t, 2), -1);
        t = topology_free(t);

        /* A socket of several nodes is its lowest. */
        for (unsigned cpu = 0; cpu < 8; cpu++)
                set_package(cpu, "0\n");
        assert_int_equal(topology_new_at(cpu_dir, &t), 0);
        assert_int_equal(topology_node_of_socket(t, 0), 0);
        assert_int_equal(topology_node_of_socket(t, 1), -1);
}

static int no_distance(int a, int b) {
        return 0; /* libnuma's "cannot tell" */
}

static int equal_distance(int a, int b) {
        return 20;
}

/* The lowest of equals. */
static void test_equal_distances(void **state) {
        _cleanup_(topology_freep) Topology *t = NULL;

        make_tray();
        host.distance = equal_distance;
        assert_int_equal(topology_new_at(cpu_dir, &t), 0);
        assert_int_equal(topology_cpu_node(t, 1), 1);
        assert_int_equal(topology_cpu_node(t, 35), 0);
}

static void test_no_distances(void **state) {
        _cleanup_(topology_freep) Topology *t = NULL;

        make_tray();
        host.distance = no_distance;
        assert_int_equal(topology_new_at(cpu_dir, &t), 0);
        assert_int_equal(topology_distance(t, 0, 1), -1);
        assert_int_equal(topology_cpu_node(t, 1), 1);
        assert_int_equal(topology_cpu_node(t, 2), -1);
}

static void test_without_numa(void **state) {
        _cleanup_(topology_freep) Topology *t = NULL;
        const cpu_set_t *cpus;
        size_t size;

        set_package(0, "0\n");
        assert_int_equal(topology_new_at(cpu_dir, &t), 0);
        assert_true(topology_has_node(t, 0));
        assert_false(topology_has_node(t, 1));
        cpus = topology_cpus(t, 0, &size);
        assert_non_null(cpus);
        assert_int_equal(CPU_COUNT_S(size, cpus), sysconf(_SC_NPROCESSORS_CONF));
        assert_int_equal(topology_distance(t, 0, 0), 10);
        assert_int_equal(topology_cpu_node(t, 0), 0);
        assert_int_equal(topology_node_of_socket(t, 0), 0);
        assert_int_equal(topology_node_of_socket(t, 1), -1);
}

/* Whatever this machine is: this thread's CPUs are on nodes, no CPU is on two. */
static void test_this_machine(void **state) {
        _cleanup_(topology_freep) Topology *t = NULL;
        cpu_set_t allowed;
        int n_found = 0;

        host.real = true;
        assert_int_equal(topology_new(&t), 0);
        assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
        for (int node = 0; node <= 1023; node++) {
                size_t size;
                const cpu_set_t *cpus = topology_cpus(t, node, &size);

                if (!cpus)
                        continue;
                assert_true(topology_has_node(t, node));
                assert_int_equal(topology_cpu_node(t, node), node);
                for (size_t cpu = 0; cpu < MIN(size, sizeof(allowed)) * CHAR_BIT; cpu++)
                        n_found += CPU_ISSET_S(cpu, size, cpus) && CPU_ISSET(cpu, &allowed);
        }
        assert_int_equal(n_found, CPU_COUNT(&allowed));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup(test_tray, setup),
                        cmocka_unit_test_setup(test_odd_packages, setup),
                        cmocka_unit_test_setup(test_no_distances, setup),
                        cmocka_unit_test_setup(test_equal_distances, setup),
                        cmocka_unit_test_setup(test_without_numa, setup),
                        cmocka_unit_test_setup(test_this_machine, setup),
        };
        char command[sizeof(cpu_dir) + 16];
        int r;

        if (!mkdtemp(cpu_dir))
                return 1;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        (void) snprintf(command, sizeof(command), "rm -rf %s", cpu_dir);
        return system(command) == 0 ? r : 1;
}
