/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "extent-tree.h"
#include "string-table.h"

struct ExtentMap {
        uint64_t size;
        uint64_t granule;
        ExtentTree extents;
        uint64_t bytes[_EXTENT_STATE_MAX];
        uint64_t retired_owned;
        RunIndex runs;
        NodePool spares;
        size_t n_pieces; /* ranges that are leased, drain, or are being scrubbed */
        Node *last;      /* where something changed last: often it changes again */
};

/* One operation, as what becomes of an extent. Retired ones only ever change their owner. */
typedef struct Change {
        ExtentState from;
        ExtentState to;
        uint64_t from_owner;
        uint64_t to_owner;
        bool with_retired; /* those of from_owner are fine, and become to_owner's */
        bool lenient;      /* what does not start from here stays as it is, instead of -ESTALE */
        int pieces;        /* begins one, or ends it */
        bool pledged;      /* what it may need was set aside when its piece began */
} Change;

static const char *const extent_state_table[_EXTENT_STATE_MAX] = {
                [EXTENT_DIRTY] = "dirty",       [EXTENT_SCRUBBING] = "scrubbing",
                [EXTENT_FREE] = "free",         [EXTENT_LEASED] = "leased",
                [EXTENT_DRAINING] = "draining", [EXTENT_RETIRED] = "retired",
};

DEFINE_STRING_TABLE(extent_state, ExtentState)

/* So many bytes of one kind become another. */
static void extent_map_count_bytes(ExtentMap *m, const Extent *from, ExtentState state,
                                   uint64_t owner, uint64_t size) {
        m->bytes[from->state] -= size;
        if (from->state == EXTENT_RETIRED && from->owner != 0)
                m->retired_owned -= size;
        m->bytes[state] += size;
        if (state == EXTENT_RETIRED && owner != 0)
                m->retired_owned += size;
}

/* Into the index of free runs, if it is one. */
static void node_index(ExtentMap *m, Node *n) {
        if (n->extent.state != EXTENT_FREE)
                return;
        n->run.offset = n->extent.offset;
        n->run.size = n->extent.size;
        run_index_insert(&m->runs, &n->run);
}

static void node_unindex(ExtentMap *m, Node *n) {
        if (n->extent.state == EXTENT_FREE)
                run_index_remove(&m->runs, &n->run);
}

static void node_resize(ExtentMap *m, Node *n, uint64_t offset, uint64_t size) {
        n->extent.offset = offset;
        n->extent.size = size;
        if (n->extent.state == EXTENT_FREE)
                run_index_resize(&m->runs, &n->run, offset, size);
}

static void node_vanish(ExtentMap *m, Node *n) {
        if (m->last == n)
                m->last = NULL;
        node_unindex(m, n);
        extent_tree_remove(&m->extents, n);
        node_pool_push(&m->spares, n);
}

static bool node_is_like(const Node *n, ExtentState state, uint64_t owner) {
        return n && n->extent.state == state && n->extent.owner == owner;
}

/* Makes n part of the one below where they are alike. Returns the one that holds n's bytes. */
static Node *node_join_previous(ExtentMap *m, Node *n) {
        Node *p = extent_tree_previous(n);
        uint64_t size;

        if (!node_is_like(p, n->extent.state, n->extent.owner))
                return n;
        size = p->extent.size + n->extent.size;
        node_vanish(m, n);
        node_resize(m, p, p->extent.offset, size);
        return p;
}

static int extent_map_check_range(const ExtentMap *m, uint64_t offset, uint64_t size) {
        uint64_t end;

        if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > m->size ||
            ((offset | size) & (m->granule - 1)) != 0)
                return -EINVAL;
        return 0;
}

/* True: it becomes something else. */
static int change_apply(const Change *c, Extent *e) {
        bool retired = e->state == EXTENT_RETIRED;

        if (c->to == EXTENT_RETIRED) {
                e->state = EXTENT_RETIRED;
                return !retired;
        }
        if (e->owner != c->from_owner || (retired ? !c->with_retired : e->state != c->from))
                return c->lenient ? 0 : -ESTALE;
        if (!retired)
                e->state = c->to;
        e->owner = c->to_owner;
        return !retired || c->to_owner != c->from_owner;
}

/* Looks whether the change is possible everywhere from n on, which holds offset, and how many extents must be split
 * for it. */
static int extent_map_plan(const ExtentMap *m, Node *n, const Change *change, uint64_t offset,
                           uint64_t end) {
        int splits = 0, r;

        for (; n && n->extent.offset < end; n = extent_tree_next(n)) {
                Extent e = n->extent;

                r = change_apply(change, &e);
                if (r < 0)
                        return r;
                if (r > 0)
                        splits += (n->extent.offset < offset) + (extent_end(&n->extent) > end);
        }
        return splits;
}

/* The piece [from, to) at one of n's ends, or all of it, goes to a neighbour. */
static void node_give(ExtentMap *m, Node *n, uint64_t from, uint64_t to, Node *neighbour) {
        uint64_t size = to - from;

        if (n->extent.size == size)
                node_vanish(m, n);
        else
                node_resize(m, n, n->extent.offset == from ? to : n->extent.offset,
                            n->extent.size - size);
        node_resize(m, neighbour, MIN(neighbour->extent.offset, from),
                    neighbour->extent.size + size);
}

/* A node of its own for that piece of n, which is not all of it. */
static Node *node_carve(ExtentMap *m, Node *n, const Extent *piece) {
        uint64_t end = extent_end(&n->extent), piece_end = extent_end(piece);
        Node *x = node_pool_pop(&m->spares), *tail;

        x->extent = *piece;
        if (n->extent.offset == piece->offset) {
                node_resize(m, n, piece_end, end - piece_end); /* no two begin at the same offset */
                extent_tree_insert_before(&m->extents, n, x);
        } else {
                node_resize(m, n, n->extent.offset, piece->offset - n->extent.offset);
                extent_tree_insert_after(&m->extents, n, x);
                if (piece_end < end) {
                        tail = node_pool_pop(&m->spares);
                        tail->extent = (Extent){.offset = piece_end,
                                                .size = end - piece_end,
                                                .state = n->extent.state,
                                                .owner = n->extent.owner};
                        extent_tree_insert_after(&m->extents, x, tail);
                        node_index(m, tail);
                }
        }
        node_index(m, x);
        return x;
}

/* Makes what lies of n in [offset, end) something else, where it is as far as that goes: a neighbour that is alike takes it over. The
 * one behind only where the change ends with n: it might have to change as well. Returns the one that holds the
 * piece. */
static Node *node_change(ExtentMap *m, Node *n, uint64_t offset, uint64_t end, ExtentState state,
                         uint64_t owner) {
        uint64_t from = MAX(n->extent.offset, offset), to = MIN(extent_end(&n->extent), end);
        Node *p = from == n->extent.offset ? extent_tree_previous(n) : NULL, *q = NULL;

        extent_map_count_bytes(m, &n->extent, state, owner, to - from);
        if (node_is_like(p, state, owner)) {
                node_give(m, n, from, to, p);
                return p;
        }
        if (to == end && to == extent_end(&n->extent))
                q = extent_tree_next(n);
        if (node_is_like(q, state, owner)) {
                node_give(m, n, from, to, q);
                return q;
        }
        if (to - from < n->extent.size)
                return node_carve(m, n,
                                  &(Extent){.offset = from,
                                            .size = to - from,
                                            .state = state,
                                            .owner = owner});
        node_unindex(m, n);
        n->extent.owner = owner;
        extent_tree_set_state(&m->extents, n, state);
        node_index(m, n);
        return n;
}

static Node *extent_map_find(const ExtentMap *m, uint64_t offset) {
        Node *n = m->last;

        if (n && offset >= n->extent.offset && offset < extent_end(&n->extent))
                return n;
        return extent_tree_find(&m->extents, offset);
}

/* Whatever takes a node leaves those that pieces may still need. Only where two that are alike lie side by side one extent has to be
 * cut between them, so there are fewer such cuts to come than pieces. */
static size_t nodes_wanted(const ExtentMap *m, const Change *change, size_t splits) {
        if (change->pledged || (splits == 0 && change->pieces == 0))
                return splits;
        return splits + m->n_pieces + (size_t) change->pieces;
}

static void count_pieces(ExtentMap *m, const Change *change) {
        if (change->pieces > 0)
                m->n_pieces++;
        else if (change->pieces < 0 && m->n_pieces > 0)
                m->n_pieces--;
        else
                return;
        node_pool_pledge(&m->spares, m->n_pieces);
}

static int extent_map_change(ExtentMap *m, uint64_t offset, uint64_t size, const Change *change) {
        uint64_t end = offset + size;
        Node *n;
        int r;

        r = extent_map_check_range(m, offset, size);
        if (r < 0)
                return r;
        n = extent_map_find(m, offset);
        r = extent_map_plan(m, n, change, offset, end);
        if (r < 0)
                return r;
        r = node_pool_fill(&m->spares, nodes_wanted(m, change, (size_t) r));
        if (r < 0)
                return r;

        /* From here on nothing can fail. */
        for (; n && n->extent.offset < end; n = extent_tree_next(n)) {
                Extent e = n->extent;

                if (change_apply(change, &e) > 0)
                        n = m->last = node_change(m, n, offset, end, e.state, e.owner);
                else
                        n = node_join_previous(m, n);
        }
        if (n)
                (void) node_join_previous(m, n);
        count_pieces(m, change);
        return 0;
}

int extent_map_new(uint64_t size, uint64_t granule, ExtentMap **ret) {
        _cleanup_(extent_map_freep) ExtentMap *m = NULL;
        Node *n;
        int r;

        assert(ret);

        if (!is_pow2(granule) || size == 0 || (size & (granule - 1)) != 0)
                return -EINVAL;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->size = size;
        m->granule = granule;
        extent_tree_init(&m->extents);
        run_index_init(&m->runs, granule);
        m->spares.node_size = offsetof(Node, run) + run_index_run_size(&m->runs);
        r = node_pool_fill(&m->spares, 1);
        if (r < 0)
                return r;
        n = node_pool_pop(&m->spares);
        n->extent = (Extent){.size = size, .state = EXTENT_DIRTY};
        extent_tree_insert_after(&m->extents, NULL, n);
        m->bytes[EXTENT_DIRTY] = size;
        *ret = TAKE_PTR(m);
        return 0;
}

ExtentMap *extent_map_free(ExtentMap *m) {
        Node *n;

        if (!m)
                return NULL;
        while ((n = extent_tree_root(&m->extents))) {
                extent_tree_remove(&m->extents, n);
                free(n);
        }
        node_pool_done(&m->spares);
        return mfree(m);
}

int extent_map_reserve(ExtentMap *m, size_t n_leases) {
        assert(m);
        assert(n_leases <= EXTENT_MAP_RESERVE_MAX);

        /* A lease ends up as at most two extents more, and needs two nodes while it is carved. */
        return node_pool_fill(&m->spares, 2 * (n_leases + 1) + m->n_pieces + n_leases);
}

uint64_t extent_map_size(const ExtentMap *m) {
        assert(m);
        return m->size;
}

uint64_t extent_map_granule(const ExtentMap *m) {
        assert(m);
        return m->granule;
}

size_t extent_map_count(const ExtentMap *m) {
        assert(m);
        return m->extents.n;
}

uint64_t extent_map_bytes(const ExtentMap *m, ExtentState s) {
        assert(m);
        assert(s >= 0 && s < _EXTENT_STATE_MAX);
        return m->bytes[s];
}

uint64_t extent_map_owned(const ExtentMap *m) {
        assert(m);
        return m->bytes[EXTENT_LEASED] + m->bytes[EXTENT_DRAINING] + m->retired_owned;
}

uint64_t extent_map_largest_free(const ExtentMap *m) {
        const Run *run;

        assert(m);
        run = run_index_longest(&m->runs);
        return run ? run->size : 0;
}

bool extent_map_get(const ExtentMap *m, uint64_t offset, Extent *ret) {
        assert(m);
        assert(ret);

        if (offset >= m->size)
                return false;
        *ret = extent_tree_find(&m->extents, offset)->extent;
        return true;
}

bool extent_map_next(const ExtentMap *m, uint64_t offset, ExtentState s, Extent *ret) {
        const Node *n;

        assert(m);
        assert(s >= 0 && s < _EXTENT_STATE_MAX);
        assert(ret);

        n = extent_tree_find_state(&m->extents, offset, s);
        if (!n)
                return false;
        *ret = n->extent;
        return true;
}

static bool extent_is_lendable(const Extent *e) {
        return e->state == EXTENT_FREE || (e->state == EXTENT_RETIRED && e->owner == 0);
}

/* The lowest aligned piece of [start, end) that holds at least one free byte. n: the first extent
 * behind start. */
static bool fit_between(const ExtentMap *m, Node *n, uint64_t start, uint64_t end, uint64_t size,
                        uint64_t align, uint64_t *ret_offset) {
        for (; n && n->extent.offset < end; n = extent_tree_next(n)) {
                uint64_t at = start, free_at = n->extent.offset;

                if (n->extent.state != EXTENT_FREE)
                        continue;
                if (free_at >= size)
                        at = MAX(start, free_at - size + m->granule);
                if (!align_up_checked(at, align, &at) || at >= end || end - at < size)
                        return false;
                if (at < extent_end(&n->extent)) {
                        *ret_offset = at;
                        return true;
                }
        }
        return false;
}

/* Best fit among the runs of free and unowned retired extents that hold one of the latter. Linear
 * in the retired extents, which only broken hardware makes, not in what users can cut a region
 * into. */
static int fit_with_retired(const ExtentMap *m, uint64_t size, uint64_t align,
                            uint64_t *ret_offset) {
        uint64_t best = UINT64_MAX, start, end = 0;
        Node *retired;

        while ((retired = extent_tree_find_state(&m->extents, end, EXTENT_RETIRED))) {
                Node *first = retired, *n;

                end = extent_end(&retired->extent);
                if (retired->extent.owner != 0)
                        continue;
                n = extent_tree_previous(first);
                if (n && n->extent.state == EXTENT_FREE)
                        first = n;
                start = first->extent.offset;
                for (n = first; n && extent_is_lendable(&n->extent); n = extent_tree_next(n))
                        end = extent_end(&n->extent);
                if (end - start >= size && end - start < best &&
                    fit_between(m, first, start, end, size, align, ret_offset))
                        best = end - start;
        }
        return best < UINT64_MAX ? 0 : -EXFULL;
}

int extent_map_fit(const ExtentMap *m, uint64_t size, uint64_t align, bool include_retired,
                   uint64_t *ret_offset) {
        uint64_t free_bytes, retired_bytes;
        const Run *run;

        assert(m);
        assert(ret_offset);

        if (size == 0 || (size & (m->granule - 1)) != 0 ||
            !run_index_align_supported(&m->runs, align))
                return -EINVAL;
        free_bytes = m->bytes[EXTENT_FREE];
        retired_bytes = include_retired ? m->bytes[EXTENT_RETIRED] - m->retired_owned : 0;
        if (free_bytes == 0 || free_bytes + retired_bytes < size)
                return -ENOSPC;
        run = run_index_fit(&m->runs, size, align);
        if (run) {
                *ret_offset = (run->offset + align - 1) & ~(align - 1);
                return 0;
        }
        return retired_bytes > 0 ? fit_with_retired(m, size, align, ret_offset) : -EXFULL;
}

int extent_map_begin_scrub(ExtentMap *m, uint64_t offset, uint64_t size) {
        const Change c = {.from = EXTENT_DIRTY,
                          .to = EXTENT_SCRUBBING,
                          .with_retired = true,
                          .pieces = 1};

        assert(m);
        return extent_map_change(m, offset, size, &c);
}

int extent_map_end_scrub(ExtentMap *m, uint64_t offset, uint64_t size, bool clean) {
        const Change c = {.from = EXTENT_SCRUBBING,
                          .to = clean ? EXTENT_FREE : EXTENT_DIRTY,
                          .with_retired = true,
                          .pieces = -1,
                          .pledged = true};

        assert(m);
        return extent_map_change(m, offset, size, &c);
}

int extent_map_soil(ExtentMap *m, uint64_t offset, uint64_t size) {
        const Change c = {.from = EXTENT_FREE, .to = EXTENT_DIRTY, .lenient = true};

        assert(m);
        return extent_map_change(m, offset, size, &c);
}

int extent_map_lease(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner,
                     bool include_retired) {
        const Change c = {.from = EXTENT_FREE,
                          .to = EXTENT_LEASED,
                          .to_owner = owner,
                          .with_retired = include_retired,
                          .pieces = 1};
        const Node *n;
        int r;

        assert(m);

        r = extent_map_check_range(m, offset, size);
        if (r < 0)
                return r;
        if (owner == 0)
                return -EINVAL;
        if (include_retired) {
                n = extent_tree_find_state(&m->extents, offset, EXTENT_FREE);
                if (!n || n->extent.offset >= offset + size)
                        return -ESTALE; /* nothing but retired pages is no memory to lend */
        }
        return extent_map_change(m, offset, size, &c);
}

int extent_map_cancel(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_LEASED,
                          .to = EXTENT_FREE,
                          .from_owner = owner,
                          .with_retired = true,
                          .pieces = -1,
                          .pledged = true};

        assert(m);

        if (owner == 0)
                return -EINVAL;
        return extent_map_change(m, offset, size, &c);
}

int extent_map_adopt(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_DIRTY,
                          .to = EXTENT_LEASED,
                          .to_owner = owner,
                          .with_retired = true,
                          .pieces = 1};

        assert(m);

        if (owner == 0)
                return -EINVAL;
        return extent_map_change(m, offset, size, &c);
}

int extent_map_drain(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_LEASED,
                          .to = EXTENT_DRAINING,
                          .from_owner = owner,
                          .to_owner = owner,
                          .with_retired = true,
                          .pledged = true};

        assert(m);

        if (owner == 0)
                return -EINVAL;
        return extent_map_change(m, offset, size, &c);
}

int extent_map_reclaim(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_DRAINING,
                          .to = EXTENT_DIRTY,
                          .from_owner = owner,
                          .with_retired = true,
                          .pieces = -1,
                          .pledged = true};

        assert(m);

        if (owner == 0)
                return -EINVAL;
        return extent_map_change(m, offset, size, &c);
}

int extent_map_retire(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t *ret_new) {
        const Change c = {.to = EXTENT_RETIRED};
        uint64_t before;
        int r;

        assert(m);

        before = m->bytes[EXTENT_RETIRED];
        r = extent_map_change(m, offset, size, &c);
        if (r < 0)
                return r;
        if (ret_new)
                *ret_new = m->bytes[EXTENT_RETIRED] - before;
        return 0;
}

static void extent_check(const ExtentMap *m, const Extent *e) {
        assert(e->size > 0 && ((e->offset | e->size) & (m->granule - 1)) == 0);
        assert(e->state >= 0 && e->state < _EXTENT_STATE_MAX);
        if (e->state == EXTENT_LEASED || e->state == EXTENT_DRAINING)
                assert(e->owner != 0);
        else if (e->state != EXTENT_RETIRED)
                assert(e->owner == 0);
}

void extent_map_check(const ExtentMap *m) {
        uint64_t bytes[_EXTENT_STATE_MAX] = {}, retired_owned = 0, at = 0;
        size_t n_extents = 0;
        const Extent *previous = NULL;

        assert(m);

        for (Node *n = extent_tree_find(&m->extents, 0); n; n = extent_tree_next(n)) {
                extent_check(m, &n->extent);
                assert(n->extent.offset == at);
                assert(!previous || previous->state != n->extent.state ||
                       previous->owner != n->extent.owner);
                bytes[n->extent.state] += n->extent.size;
                if (n->extent.state == EXTENT_RETIRED && n->extent.owner != 0)
                        retired_owned += n->extent.size;
                if (n->extent.state == EXTENT_FREE)
                        assert(n->run.offset == at && n->run.size == n->extent.size);
                at = extent_end(&n->extent);
                previous = &n->extent;
                n_extents++;
        }
        assert(at == m->size);
        assert(n_extents == m->extents.n);
        assert(retired_owned == m->retired_owned);
        assert(memcmp(bytes, m->bytes, sizeof(bytes)) == 0);
        extent_tree_check(&m->extents);
        run_index_check(&m->runs);
}
