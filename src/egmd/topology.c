/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <limits.h>
#include <numa.h>

#include "fd-util.h"
#include "size.h"
#include "topology.h"

typedef struct Node {
        bool exists;
        cpu_set_t *cpus; /* NULL: none */
} Node;

typedef struct Package {
        int id;   /* the kernel's */
        int node; /* the lowest with a CPU of it */
} Package;

struct Topology {
        Node *nodes;
        size_t n_nodes;   /* the highest number + 1 */
        size_t cpus_size; /* of every set, in bytes */
        int *distances;   /* n_nodes * n_nodes */
        Package *packages;
        size_t n_packages; /* sorted by id */
};

Topology *topology_free(Topology *t) {
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_nodes; i++)
                if (t->nodes[i].cpus)
                        CPU_FREE(t->nodes[i].cpus);
        free(t->nodes);
        free(t->distances);
        free(t->packages);
        return mfree(t);
}

static void bitmask_freep(struct bitmask **m) {
        if (*m)
                numa_bitmask_free(*m);
}

static int node_add_cpu(Topology *t, size_t node, size_t cpu) {
        Node *n = &t->nodes[node];

        if (!n->cpus) {
                n->cpus = CPU_ALLOC(t->cpus_size * CHAR_BIT);
                if (!n->cpus)
                        return -ENOMEM;
                CPU_ZERO_S(t->cpus_size, n->cpus);
        }
        CPU_SET_S(cpu, t->cpus_size, n->cpus);
        return 0;
}

static int topology_alloc(Topology *t, size_t n_nodes, size_t n_cpus) {
        t->nodes = calloc(n_nodes, sizeof(*t->nodes));
        t->distances = calloc(n_nodes * n_nodes, sizeof(*t->distances));
        if (!t->nodes || !t->distances)
                return -ENOMEM;
        t->n_nodes = n_nodes;
        t->cpus_size = CPU_ALLOC_SIZE(n_cpus);
        return 0;
}

static int read_without_numa(Topology *t) {
        long n = sysconf(_SC_NPROCESSORS_CONF);
        int r;

        n = MAX(n, 1L);
        r = topology_alloc(t, 1, (size_t) n);
        if (r < 0)
                return r;
        t->nodes[0].exists = true;
        t->distances[0] = 10;
        for (size_t cpu = 0; cpu < (size_t) n; cpu++) {
                r = node_add_cpu(t, 0, cpu);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_numa(Topology *t) {
        _cleanup_(bitmask_freep) struct bitmask *mask = NULL;
        size_t n = (size_t) numa_max_node() + 1;
        int r;

        mask = numa_allocate_cpumask();
        if (!mask)
                return -ENOMEM;
        r = topology_alloc(t, n, mask->size);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                t->nodes[i].exists = numa_bitmask_isbitset(numa_nodes_ptr, (unsigned) i);
                if (!t->nodes[i].exists || numa_node_to_cpus((int) i, mask) < 0)
                        continue;
                for (size_t cpu = 0; cpu < mask->size; cpu++) {
                        r = numa_bitmask_isbitset(mask, (unsigned) cpu) ? node_add_cpu(t, i, cpu)
                                                                        : 0;
                        if (r < 0)
                                return r;
                }
        }
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < n; k++)
                        if (t->nodes[i].exists && t->nodes[k].exists)
                                t->distances[i * n + k] = numa_distance((int) i, (int) k);
        return 0;
}

static int read_package_id(const char *cpu_dir, size_t cpu, int *ret) {
        _cleanup_free_ char *text = NULL;
        char path[PATH_MAX];
        size_t size;
        int r;

        if ((size_t) snprintf(path, sizeof(path), "%s/cpu%zu/topology/physical_package_id", cpu_dir,
                              cpu) >= sizeof(path))
                return -ENAMETOOLONG;
        r = read_full_file_at(AT_FDCWD, path, 64, &text, &size);
        if (r < 0)
                return r;
        if (size > 0 && text[size - 1] == '\n')
                text[size - 1] = '\0';
        return parse_int(text, ret);
}

static int add_package(Topology *t, int id, int node) {
        Package *p;
        size_t at = 0;

        while (at < t->n_packages && t->packages[at].id < id)
                at++;
        if (at < t->n_packages && t->packages[at].id == id) {
                t->packages[at].node = MIN(t->packages[at].node, node);
                return 0;
        }
        p = reallocarray(t->packages, t->n_packages + 1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        t->packages = p;
        memmove(p + at + 1, p + at, (t->n_packages - at) * sizeof(*p));
        p[at] = (Package){.id = id, .node = node};
        t->n_packages++;
        return 0;
}

static int read_packages(Topology *t, const char *cpu_dir) {
        int r;

        for (size_t i = 0; i < t->n_nodes; i++)
                for (size_t cpu = 0; t->nodes[i].cpus && cpu < t->cpus_size * CHAR_BIT; cpu++) {
                        int id;

                        if (!CPU_ISSET_S(cpu, t->cpus_size, t->nodes[i].cpus))
                                continue;
                        /* A CPU that is offline, or a kernel that does not know (-1), tells
                         * nothing. */
                        r = read_package_id(cpu_dir, cpu, &id);
                        if (r == -ENOMEM)
                                return r;
                        if (r < 0 || id < 0)
                                continue;
                        r = add_package(t, id, (int) i);
                        if (r < 0)
                                return r;
                }
        return 0;
}

int topology_new_at(const char *cpu_dir, Topology **ret) {
        _cleanup_(topology_freep) Topology *t = NULL;
        int r;

        assert(cpu_dir);
        assert(ret);

        t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        r = numa_available() < 0 ? read_without_numa(t) : read_numa(t);
        if (r >= 0)
                r = read_packages(t, cpu_dir);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int topology_new(Topology **ret) {
        return topology_new_at("/sys/devices/system/cpu", ret);
}

bool topology_has_node(const Topology *t, int node) {
        assert(t);
        return node >= 0 && (size_t) node < t->n_nodes && t->nodes[node].exists;
}

const cpu_set_t *topology_cpus(const Topology *t, int node, size_t *ret_size) {
        assert(t);

        if (!topology_has_node(t, node) || !t->nodes[node].cpus)
                return NULL;
        if (ret_size)
                *ret_size = t->cpus_size;
        return t->nodes[node].cpus;
}

int topology_distance(const Topology *t, int a, int b) {
        int v;

        assert(t);

        if (!topology_has_node(t, a) || !topology_has_node(t, b))
                return -1;
        v = t->distances[(size_t) a * t->n_nodes + (size_t) b];
        return v > 0 ? v : -1;
}

int topology_cpu_node(const Topology *t, int node) {
        int best = -1, best_distance = INT_MAX;

        assert(t);

        if (!topology_has_node(t, node) || t->nodes[node].cpus)
                return topology_has_node(t, node) ? node : -1;
        for (size_t i = 0; i < t->n_nodes; i++) {
                int v = topology_distance(t, node, (int) i);

                if (t->nodes[i].cpus && v >= 0 && v < best_distance) {
                        best = (int) i;
                        best_distance = v;
                }
        }
        return best;
}

int topology_node_of_socket(const Topology *t, int socket) {
        assert(t);

        return socket >= 0 && (size_t) socket < t->n_packages ? t->packages[socket].node : -1;
}
