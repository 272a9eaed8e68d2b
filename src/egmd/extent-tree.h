/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <bsd/sys/tree.h>

#include "extent-map.h"
#include "run-index.h"

/* A region's extents by address, and how to find the next one in a state. Pure.
 *
 * Nearly all extents are free or leased, side by side: each subtree knows whether it has such ones, which is soon true all the way up
 * and then costs nothing to keep. Extents in the other states are few, come and go, and are in a tree of
 * their own for each state. */

typedef struct Node {
        Extent extent;
        RB_ENTRY(Node) entry;
        RB_ENTRY(Node) by_state; /* neither free nor leased */
        struct Node *next_spare;
        uint8_t below; /* free, leased: what its subtree has, itself included */
        Run run;       /* in the index while free; ends in an array */
} Node;

RB_HEAD(NodeTree, Node);

RB_HEAD(StateTree, Node);

typedef struct ExtentTree {
        struct NodeTree tree;
        struct StateTree states[_EXTENT_STATE_MAX];
        size_t n;
} ExtentTree;

static inline uint64_t extent_end(const Extent *e) {
        return e->offset + e->size;
}

/* Memory: whatever an operation needs is at hand before it changes anything. Nodes that merging sets free are kept, up to what the
 * largest reservation wants. */
typedef struct NodePool {
        Node *spares;
        size_t n;
        size_t node_size;
        size_t pledged; /* of these, kept for operations that must not fail */
} NodePool;

int node_pool_fill(NodePool *p, size_t n);
/* That many are pledged from now on; what is too many is freed. */
void node_pool_pledge(NodePool *p, size_t n);
Node *node_pool_pop(NodePool *p);
void node_pool_push(NodePool *p, Node *n);
void node_pool_done(NodePool *p);

void extent_tree_init(ExtentTree *t);
/* Beside one that is there: no search, and whoever calls sees to the order. NULL: the tree is empty. */
void extent_tree_insert_before(ExtentTree *t, Node *next, Node *n);
void extent_tree_insert_after(ExtentTree *t, Node *previous, Node *n);
void extent_tree_remove(ExtentTree *t, Node *n);
void extent_tree_set_state(ExtentTree *t, Node *n, ExtentState s);

Node *extent_tree_root(const ExtentTree *t);
Node *extent_tree_previous(Node *n);
Node *extent_tree_next(Node *n);
/* The one that holds offset, which is inside of all extents. */
Node *extent_tree_find(const ExtentTree *t, uint64_t offset);
/* The first in that state that ends behind offset. */
Node *extent_tree_find_state(const ExtentTree *t, uint64_t offset, ExtentState s);

void extent_tree_check(const ExtentTree *t);
