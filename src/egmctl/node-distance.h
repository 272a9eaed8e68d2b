/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"

/* How far the host's NUMA nodes are from each other, as its firmware says (10: the node itself). */

#define NODE_DISTANCE_LOCAL 10U
#define NODE_DISTANCE_MAX 255U
#define NODE_DIRECTORY "/sys/devices/system/node"

typedef struct NodeDistances {
        unsigned *nodes; /* sorted: the host's numbers */
        size_t n_nodes;
        uint8_t *values; /* n_nodes * n_nodes */
} NodeDistances;

void node_distances_done(NodeDistances *d);
#define _cleanup_node_distances_ _cleanup_(node_distances_done)

/* Reads "online" and "nodeN/distance" in a directory like /sys/devices/system/node. A host without (no NUMA) has no nodes
 * here. -EINVAL with words: the files contradict each other. */
int node_distances_read(const char *directory, NodeDistances *ret, EgmError *reterr);
/* 0: not known. */
unsigned node_distances_get(const NodeDistances *d, int from, int to);

/* For tests: one "distance" file, whose columns are the n nodes that are online. */
int node_distances_parse_row(const char *text, uint8_t *row, size_t n);
