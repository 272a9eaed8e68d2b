/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scrub-cpus.h"

unsigned scrub_cpus_allowed(void) {
        cpu_set_t cpus;

        /* Fails beyond 1024 CPUs: a machine that can spare a thread. */
        if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
                return CPU_SETSIZE;
        return (unsigned) CPU_COUNT(&cpus);
}

/* False, and set left alone, when that would leave no CPU at all. */
static bool narrow(cpu_set_t *set, size_t size, const cpu_set_t *to, size_t to_size) {
        _cleanup_free_ cpu_set_t *both = calloc(1, size);

        if (!both)
                return false;
        memcpy(both, to, MIN(size, to_size));
        CPU_AND_S(size, both, both, set);
        if (CPU_COUNT_S(size, both) == 0)
                return false;
        memcpy(set, both, size);
        return true;
}

void scrub_cpus_of_node(const ScrubConfig *config, int of, cpu_set_t **ret, size_t *ret_size) {
        const Topology *t = config->topology;
        const cpu_set_t *node;
        _cleanup_free_ cpu_set_t *cpus = NULL;
        size_t node_size = 0, size;
        bool bound;

        node = t ? topology_cpus(t, topology_cpu_node(t, of), &node_size) : NULL;
        if (!node && !config->cpus)
                return;
        size = MAX(node ? node_size : 0, config->cpus ? config->cpus_size : 0);
        cpus = malloc(size);
        if (!cpus || sched_getaffinity(0, size, cpus) < 0)
                return;
        bound = config->cpus && narrow(cpus, size, config->cpus, config->cpus_size);
        bound = (node && narrow(cpus, size, node, node_size)) || bound;
        if (!bound)
                return;
        *ret = TAKE_PTR(cpus);
        *ret_size = size;
}
