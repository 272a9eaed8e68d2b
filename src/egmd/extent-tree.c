/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Called by the tree's rotations and removals for nodes whose children changed, from below to above. */
#define RB_AUGMENT(node) ((void) node_update(node))

#include "extent-tree.h"

/* Of the states that are everywhere. */
static uint8_t state_bit(ExtentState s) {
        return s == EXTENT_FREE ? 1 : s == EXTENT_LEASED ? 2 : 0;
}

/* True when something changed. */
static bool node_update(Node *n) {
        const Node *left = RB_LEFT(n, entry), *right = RB_RIGHT(n, entry);
        uint8_t below = state_bit(n->extent.state);
        bool changed;

        if (left)
                below |= left->below;
        if (right)
                below |= right->below;
        changed = n->below != below;
        n->below = below;
        return changed;
}

static int node_compare(const Node *a, const Node *b) {
        return (a->extent.offset > b->extent.offset) - (a->extent.offset < b->extent.offset);
}

RB_GENERATE_INTERNAL(NodeTree, Node, entry, node_compare, _unused_ static)

/* The other trees know nothing of their subtrees. */
#undef RB_AUGMENT
#define RB_AUGMENT(node) \
        do { \
        } while (0)

RB_GENERATE_INTERNAL(StateTree, Node, by_state, node_compare, _unused_ static)

static void state_link(ExtentTree *t, Node *n) {
        if (state_bit(n->extent.state) == 0)
                (void) RB_INSERT(StateTree, &t->states[n->extent.state], n);
}

static void state_unlink(ExtentTree *t, Node *n) {
        if (state_bit(n->extent.state) == 0)
                (void) RB_REMOVE(StateTree, &t->states[n->extent.state], n);
}

#define SPARES_MAX (2 * (EXTENT_MAP_RESERVE_MAX + 1))

int node_pool_fill(NodePool *p, size_t n) {
        while (p->n < n) {
                Node *node = calloc(1, p->node_size);

                if (!node)
                        return -ENOMEM;
                node->next_spare = p->spares;
                p->spares = node;
                p->n++;
        }
        return 0;
}

void node_pool_pledge(NodePool *p, size_t n) {
        p->pledged = n;
        while (p->n > SPARES_MAX + n)
                free(node_pool_pop(p));
}

Node *node_pool_pop(NodePool *p) {
        Node *node = p->spares;

        assert(node);
        p->spares = node->next_spare;
        p->n--;
        return node;
}

void node_pool_push(NodePool *p, Node *n) {
        if (p->n >= SPARES_MAX + p->pledged) {
                free(n);
                return;
        }
        n->next_spare = p->spares;
        p->spares = n;
        p->n++;
}

void node_pool_done(NodePool *p) {
        while (p->spares)
                free(node_pool_pop(p));
}

void extent_tree_init(ExtentTree *t) {
        *t = (ExtentTree){};
}

/* As a child of that one, on a side that is empty. */
static void tree_add(ExtentTree *t, Node *parent, bool left, Node *n) {
        RB_SET(n, parent, entry);
        n->below = state_bit(n->extent.state);
        if (!parent)
                RB_ROOT(&t->tree) = n;
        else if (left)
                RB_LEFT(parent, entry) = n;
        else
                RB_RIGHT(parent, entry) = n;
        /* Before anything is turned around: from then on the tree looks after it. */
        for (Node *p = parent; p && (p->below & n->below) != n->below; p = RB_PARENT(p, entry))
                p->below |= n->below;
        NodeTree_RB_INSERT_COLOR(&t->tree, n);
        state_link(t, n);
        t->n++;
}

void extent_tree_insert_before(ExtentTree *t, Node *next, Node *n) {
        Node *p = next ? RB_LEFT(next, entry) : NULL;

        if (!p) {
                tree_add(t, next, true, n);
                return;
        }
        while (RB_RIGHT(p, entry))
                p = RB_RIGHT(p, entry);
        tree_add(t, p, false, n);
}

void extent_tree_insert_after(ExtentTree *t, Node *previous, Node *n) {
        Node *p = previous ? RB_RIGHT(previous, entry) : NULL;

        if (!p) {
                tree_add(t, previous, false, n);
                return;
        }
        while (RB_LEFT(p, entry))
                p = RB_LEFT(p, entry);
        tree_add(t, p, true, n);
}

void extent_tree_remove(ExtentTree *t, Node *n) {
        const Node *left = RB_LEFT(n, entry), *right = RB_RIGHT(n, entry);

        state_unlink(t, n);
        /* First everything above forgets it, then it leaves: the tree only updates what it moves. */
        n->below = (uint8_t) ((left ? left->below : 0) | (right ? right->below : 0));
        for (Node *p = RB_PARENT(n, entry); p && node_update(p); p = RB_PARENT(p, entry))
                ;
        (void) RB_REMOVE(NodeTree, &t->tree, n);
        t->n--;
}

void extent_tree_set_state(ExtentTree *t, Node *n, ExtentState s) {
        state_unlink(t, n);
        n->extent.state = s;
        state_link(t, n);
        for (Node *p = n; p && node_update(p); p = RB_PARENT(p, entry))
                ;
}

Node *extent_tree_root(const ExtentTree *t) {
        return RB_ROOT(&t->tree);
}

Node *extent_tree_previous(Node *n) {
        return RB_PREV(NodeTree, NULL, n);
}

Node *extent_tree_next(Node *n) {
        return RB_NEXT(NodeTree, NULL, n);
}

Node *extent_tree_find(const ExtentTree *t, uint64_t offset) {
        Node *n = RB_ROOT(&t->tree);

        while (n) {
                if (offset < n->extent.offset)
                        n = RB_LEFT(n, entry);
                else if (offset - n->extent.offset >= n->extent.size)
                        n = RB_RIGHT(n, entry);
                else
                        return n;
        }
        assert(false);
        return NULL;
}

/* Goes wrong only along the way to offset: a subtree behind it that knows of the state has it. */
static Node *find_state(Node *n, uint64_t offset, ExtentState s) {
        while (n && (n->below & state_bit(s))) {
                if (extent_end(&n->extent) > offset) {
                        Node *found = find_state(RB_LEFT(n, entry), offset, s);

                        if (found)
                                return found;
                        if (n->extent.state == s)
                                return n;
                }
                n = RB_RIGHT(n, entry);
        }
        return NULL;
}

Node *extent_tree_find_state(const ExtentTree *t, uint64_t offset, ExtentState s) {
        Node *found = NULL;

        if (state_bit(s) != 0)
                return find_state(RB_ROOT(&t->tree), offset, s);
        for (Node *n = RB_ROOT(&t->states[s]); n;) {
                if (extent_end(&n->extent) > offset) {
                        found = n;
                        n = RB_LEFT(n, by_state);
                } else
                        n = RB_RIGHT(n, by_state);
        }
        return found;
}

/* Returns the number of black nodes on every way down. *n_by_state: those that are in a tree of their state as well. */
static unsigned node_check(const ExtentTree *t, Node *n, size_t *n_by_state) {
        ExtentState s;
        Node *left, *right;
        unsigned black;

        if (!n)
                return 1;
        left = RB_LEFT(n, entry);
        right = RB_RIGHT(n, entry);
        s = n->extent.state;
        assert(n->below == (state_bit(s) | (left ? left->below : 0) | (right ? right->below : 0)));
        assert(!left || (RB_PARENT(left, entry) == n && node_compare(left, n) < 0));
        assert(!right || (RB_PARENT(right, entry) == n && node_compare(n, right) < 0));
        if (state_bit(s) == 0) {
                assert(RB_FIND(StateTree, (struct StateTree *) &t->states[s], n) == n);
                ++*n_by_state;
        }
        black = node_check(t, left, n_by_state);
        assert(node_check(t, right, n_by_state) == black);
        return black + (RB_COLOR(n, entry) == RB_BLACK);
}

void extent_tree_check(const ExtentTree *t) {
        size_t n = 0, n_by_state = 0;
        Node *node;

        (void) node_check(t, RB_ROOT(&t->tree), &n_by_state);
        for (size_t s = 0; s < ELEMENTSOF(t->states); s++)
                RB_FOREACH (node, StateTree, (struct StateTree *) &t->states[s]) {
                        assert((size_t) node->extent.state == s);
                        n++;
                }
        assert(n == n_by_state);
}
