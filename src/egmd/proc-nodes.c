/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bsd/sys/tree.h>

#include "proc-nodes.h"

/* A process may map as many files as it likes, with names as long as it likes. */
#define BYTES_MAX (8 * MIB)
#define IDENTITY_MAX 4096U

typedef struct Node {
        RB_ENTRY(Node) entry;
        int device;
        size_t size;
        char identity[];
} Node;

typedef RB_HEAD(NodeTree, Node) NodeTree;

struct ProcNodes {
        NodeTree tree;
        const Node *last; /* a file's mappings follow each other */
        size_t bytes;
};

static int compare(const char *a, size_t a_size, const char *b, size_t b_size) {
        if (a_size != b_size)
                return a_size < b_size ? -1 : 1;
        return memcmp(a, b, a_size);
}

static int node_compare(const Node *a, const Node *b) {
        return compare(a->identity, a->size, b->identity, b->size);
}

RB_GENERATE_INTERNAL(NodeTree, Node, entry, node_compare, _unused_ static)

int proc_nodes_new(ProcNodes **ret) {
        ProcNodes *n;

        assert(ret);

        n = calloc(1, sizeof(*n));
        if (!n)
                return -ENOMEM;
        *ret = n;
        return 0;
}

ProcNodes *proc_nodes_free(ProcNodes *n) {
        Node *i;

        if (!n)
                return NULL;
        while ((i = RB_ROOT(&n->tree))) {
                RB_REMOVE(NodeTree, &n->tree, i);
                free(i);
        }
        return mfree(n);
}

bool proc_nodes_find(ProcNodes *n, const char *identity, size_t size, int *ret_device) {
        const Node *i;
        int c;

        assert(n);
        assert(ret_device);

        if (n->last && compare(identity, size, n->last->identity, n->last->size) == 0) {
                *ret_device = n->last->device;
                return true;
        }
        for (i = RB_ROOT(&n->tree); i; i = c < 0 ? RB_LEFT(i, entry) : RB_RIGHT(i, entry)) {
                c = compare(identity, size, i->identity, i->size);
                if (c == 0) {
                        n->last = i;
                        *ret_device = i->device;
                        return true;
                }
        }
        return false;
}

int proc_nodes_add(ProcNodes *n, const char *identity, size_t size, int device) {
        Node *i;

        assert(n);

        if (size > IDENTITY_MAX || n->bytes + sizeof(*i) + size > BYTES_MAX)
                return 0;
        i = malloc(sizeof(*i) + size);
        if (!i)
                return -ENOMEM;
        *i = (Node){.device = device, .size = size};
        memcpy(i->identity, identity, size);
        if (RB_INSERT(NodeTree, &n->tree, i)) {
                free(i);
                return 0;
        }
        n->bytes += sizeof(*i) + size;
        n->last = i;
        return 0;
}
