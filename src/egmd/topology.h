/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sched.h>

#include "macro.h"

/* The host's NUMA nodes, CPUs and sockets as they are when it is made; afterwards it is
 * read-only, so that threads may use it. A host without NUMA is one node, 0, with all CPUs. */

typedef struct Topology Topology;

int topology_new(Topology **ret);
/* cpu_dir: instead of /sys/devices/system/cpu, for tests. */
int topology_new_at(const char *cpu_dir, Topology **ret);
Topology *topology_free(Topology *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(Topology *, topology_free)

/* Any int may be asked for; false, NULL and -1 are the answers for what does not exist. */

bool topology_has_node(const Topology *t, int node);
/* As sched_setaffinity() and pthread_setaffinity_np() take it; NULL for a node without CPUs.
 * Borrowed. */
const cpu_set_t *topology_cpus(const Topology *t, int node, size_t *ret_size);
/* 10 is the node itself; -1: not known. */
int topology_distance(const Topology *t, int a, int b);
/* The node itself if it has CPUs, otherwise the nearest that has (GPU and EGM memory get nodes
 * without CPUs); the lowest of equals. */
int topology_cpu_node(const Topology *t, int node);
/* The (lowest) node of a socket's CPUs. Sockets are counted from 0 in the order of the kernel's
 * package numbers, which on arm64 may be any numbers. */
int topology_node_of_socket(const Topology *t, int socket);
