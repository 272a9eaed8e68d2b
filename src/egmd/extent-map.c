/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bsd/sys/tree.h>

#include "extent-map.h"
#include "run-index.h"
#include "string-table.h"

typedef struct Node {
        Extent extent;
        RB_ENTRY(Node) by_address; /* all of them */
        RB_ENTRY(Node) by_state;   /* those in the same state */
        struct Node *next_spare;
        Run run; /* in the index while free; ends in an array */
} Node;

RB_HEAD(AddressTree, Node);
RB_HEAD(StateTree, Node);

struct ExtentMap {
        uint64_t size;
        uint64_t granule;
        size_t n_extents;
        struct AddressTree all;
        struct StateTree states[_EXTENT_STATE_MAX];
        uint64_t bytes[_EXTENT_STATE_MAX];
        uint64_t retired_owned;
        RunIndex runs;
        Node *spares;
        size_t n_spares;
};

/* One operation, as what becomes of an extent. Retired ones only ever change their owner. */
typedef struct Change {
        ExtentState from;
        ExtentState to;
        uint64_t from_owner;
        uint64_t to_owner;
        bool with_retired; /* those of from_owner are fine, and become to_owner's */
        bool lenient;      /* what does not start from here stays as it is, instead of -ESTALE */
} Change;

static const char *const extent_state_table[_EXTENT_STATE_MAX] = {
                [EXTENT_DIRTY] = "dirty",       [EXTENT_SCRUBBING] = "scrubbing",
                [EXTENT_FREE] = "free",         [EXTENT_LEASED] = "leased",
                [EXTENT_DRAINING] = "draining", [EXTENT_RETIRED] = "retired",
};

DEFINE_STRING_TABLE(extent_state, ExtentState)

static uint64_t extent_end(const Extent *e) {
        return e->offset + e->size;
}

static int node_compare(const Node *a, const Node *b) {
        return (a->extent.offset > b->extent.offset) - (a->extent.offset < b->extent.offset);
}

RB_GENERATE_INTERNAL(AddressTree, Node, by_address, node_compare, _unused_ static)
RB_GENERATE_INTERNAL(StateTree, Node, by_state, node_compare, _unused_ static)

/* Memory: whatever an operation needs is at hand before it changes anything. Nodes that merging
 * sets free are kept, up to what the largest reservation wants. */

#define SPARES_MAX (2 * (EXTENT_MAP_RESERVE_MAX + 1))

static int extent_map_fill_spares(ExtentMap *m, size_t n) {
        while (m->n_spares < n) {
                Node *node = calloc(1, offsetof(Node, run) + run_index_run_size(&m->runs));

                if (!node)
                        return -ENOMEM;
                node->next_spare = m->spares;
                m->spares = node;
                m->n_spares++;
        }
        return 0;
}

static Node *extent_map_pop_spare(ExtentMap *m) {
        Node *node = m->spares;

        assert(node);
        m->spares = node->next_spare;
        m->n_spares--;
        return node;
}

static void extent_map_push_spare(ExtentMap *m, Node *node) {
        if (m->n_spares >= SPARES_MAX) {
                free(node);
                return;
        }
        node->next_spare = m->spares;
        m->spares = node;
        m->n_spares++;
}

/* What is known of an extent's bytes besides where they are. */

static void node_link(ExtentMap *m, Node *n) {
        ExtentState s = n->extent.state;

        (void) RB_INSERT(StateTree, &m->states[s], n);
        m->bytes[s] += n->extent.size;
        if (s == EXTENT_RETIRED && n->extent.owner != 0)
                m->retired_owned += n->extent.size;
        if (s == EXTENT_FREE) {
                n->run.offset = n->extent.offset;
                n->run.size = n->extent.size;
                run_index_insert(&m->runs, &n->run);
        }
}

static void node_unlink(ExtentMap *m, Node *n) {
        ExtentState s = n->extent.state;

        (void) RB_REMOVE(StateTree, &m->states[s], n);
        m->bytes[s] -= n->extent.size;
        if (s == EXTENT_RETIRED && n->extent.owner != 0)
                m->retired_owned -= n->extent.size;
        if (s == EXTENT_FREE)
                run_index_remove(&m->runs, &n->run);
}

static void node_insert(ExtentMap *m, Node *n) {
        (void) RB_INSERT(AddressTree, &m->all, n);
        m->n_extents++;
}

/* The one that holds offset, which is inside the map. */
static Node *extent_map_find(const ExtentMap *m, uint64_t offset) {
        Node *n = RB_ROOT(&m->all);

        while (n) {
                if (offset < n->extent.offset)
                        n = RB_LEFT(n, by_address);
                else if (offset - n->extent.offset >= n->extent.size)
                        n = RB_RIGHT(n, by_address);
                else
                        return n;
        }
        assert(false);
        return NULL;
}

/* Cuts n in two at offset; neither part is linked. Returns the upper one. */
static Node *node_split(ExtentMap *m, Node *n, uint64_t offset) {
        Node *upper = extent_map_pop_spare(m);

        assert(offset > n->extent.offset && offset < extent_end(&n->extent));
        upper->extent = n->extent;
        upper->extent.offset = offset;
        upper->extent.size = extent_end(&n->extent) - offset;
        n->extent.size = offset - n->extent.offset;
        node_insert(m, upper);
        return upper;
}

/* Makes n part of the one below where they are alike. Returns the one that holds n's bytes. */
static Node *node_join_previous(ExtentMap *m, Node *n) {
        Node *p = RB_PREV(AddressTree, &m->all, n);

        if (!p || p->extent.state != n->extent.state || p->extent.owner != n->extent.owner)
                return n;
        node_unlink(m, p);
        node_unlink(m, n);
        (void) RB_REMOVE(AddressTree, &m->all, n);
        m->n_extents--;
        p->extent.size += n->extent.size;
        extent_map_push_spare(m, n);
        node_link(m, p);
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

        for (; n && n->extent.offset < end; n = RB_NEXT(AddressTree, &m->all, n)) {
                Extent e = n->extent;

                r = change_apply(change, &e);
                if (r < 0)
                        return r;
                if (r > 0)
                        splits += (n->extent.offset < offset) + (extent_end(&n->extent) > end);
        }
        return splits;
}

/* Makes what lies of n in [offset, end) something else, and returns it. */
static Node *node_change(ExtentMap *m, Node *n, uint64_t offset, uint64_t end, ExtentState state,
                         uint64_t owner) {
        node_unlink(m, n);
        if (extent_end(&n->extent) > end)
                node_link(m, node_split(m, n, end));
        if (n->extent.offset < offset) {
                Node *upper = node_split(m, n, offset);

                node_link(m, n);
                n = upper;
        }
        n->extent.state = state;
        n->extent.owner = owner;
        node_link(m, n);
        return n;
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
        r = extent_map_fill_spares(m, (size_t) r);
        if (r < 0)
                return r;

        /* From here on nothing can fail. */
        for (; n && n->extent.offset < end; n = RB_NEXT(AddressTree, &m->all, n)) {
                Extent e = n->extent;

                if (change_apply(change, &e) > 0)
                        n = node_change(m, n, offset, end, e.state, e.owner);
                n = node_join_previous(m, n);
        }
        if (n)
                (void) node_join_previous(m, n);
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
        run_index_init(&m->runs, granule);
        r = extent_map_fill_spares(m, 1);
        if (r < 0)
                return r;
        n = extent_map_pop_spare(m);
        n->extent = (Extent){.size = size, .state = EXTENT_DIRTY};
        node_insert(m, n);
        node_link(m, n);
        *ret = TAKE_PTR(m);
        return 0;
}

ExtentMap *extent_map_free(ExtentMap *m) {
        Node *n;

        if (!m)
                return NULL;
        while ((n = RB_ROOT(&m->all))) {
                (void) RB_REMOVE(AddressTree, &m->all, n);
                free(n);
        }
        while (m->spares)
                free(extent_map_pop_spare(m));
        return mfree(m);
}

int extent_map_reserve(ExtentMap *m, size_t n_leases) {
        assert(m);
        assert(n_leases <= EXTENT_MAP_RESERVE_MAX);

        /* A lease ends up as at most two extents more, and needs two nodes while it is carved. */
        return extent_map_fill_spares(m, 2 * (n_leases + 1));
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
        return m->n_extents;
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
        *ret = extent_map_find(m, offset)->extent;
        return true;
}

static const Node *extent_map_next_node(const ExtentMap *m, uint64_t offset, ExtentState s) {
        const Node *found = NULL;

        for (const Node *n = RB_ROOT(&m->states[s]); n;) {
                if (extent_end(&n->extent) > offset) {
                        found = n;
                        n = RB_LEFT(n, by_state);
                } else
                        n = RB_RIGHT(n, by_state);
        }
        return found;
}

bool extent_map_next(const ExtentMap *m, uint64_t offset, ExtentState s, Extent *ret) {
        const Node *n;

        assert(m);
        assert(s >= 0 && s < _EXTENT_STATE_MAX);
        assert(ret);

        n = extent_map_next_node(m, offset, s);
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
        for (; n && n->extent.offset < end; n = RB_NEXT(AddressTree, &m->all, n)) {
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
        const Node *retired;

        while ((retired = extent_map_next_node(m, end, EXTENT_RETIRED))) {
                Node *first = extent_map_find(m, retired->extent.offset), *n;

                end = extent_end(&retired->extent);
                if (retired->extent.owner != 0)
                        continue;
                n = RB_PREV(AddressTree, &m->all, first);
                if (n && n->extent.state == EXTENT_FREE)
                        first = n;
                start = first->extent.offset;
                for (n = first; n && extent_is_lendable(&n->extent);
                     n = RB_NEXT(AddressTree, &m->all, n))
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
        const Change c = {.from = EXTENT_DIRTY, .to = EXTENT_SCRUBBING, .with_retired = true};

        assert(m);
        return extent_map_change(m, offset, size, &c);
}

int extent_map_end_scrub(ExtentMap *m, uint64_t offset, uint64_t size, bool clean) {
        const Change c = {.from = EXTENT_SCRUBBING,
                          .to = clean ? EXTENT_FREE : EXTENT_DIRTY,
                          .with_retired = true};

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
                          .with_retired = include_retired};
        const Node *n;
        int r;

        assert(m);

        r = extent_map_check_range(m, offset, size);
        if (r < 0)
                return r;
        if (owner == 0)
                return -EINVAL;
        n = extent_map_next_node(m, offset, EXTENT_FREE);
        if (!n || n->extent.offset >= offset + size)
                return -ESTALE; /* nothing but retired pages is no memory to lend */
        return extent_map_change(m, offset, size, &c);
}

int extent_map_cancel(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_LEASED,
                          .to = EXTENT_FREE,
                          .from_owner = owner,
                          .with_retired = true};

        assert(m);

        if (owner == 0)
                return -EINVAL;
        return extent_map_change(m, offset, size, &c);
}

int extent_map_adopt(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_DIRTY,
                          .to = EXTENT_LEASED,
                          .to_owner = owner,
                          .with_retired = true};

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
                          .with_retired = true};

        assert(m);

        if (owner == 0)
                return -EINVAL;
        return extent_map_change(m, offset, size, &c);
}

int extent_map_reclaim(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner) {
        const Change c = {.from = EXTENT_DRAINING,
                          .to = EXTENT_DIRTY,
                          .from_owner = owner,
                          .with_retired = true};

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
        size_t n_extents = 0, n_in_states = 0;
        const Extent *previous = NULL;
        Node *n;

        assert(m);

        RB_FOREACH (n, AddressTree, (struct AddressTree *) &m->all) {
                extent_check(m, &n->extent);
                assert(n->extent.offset == at);
                assert(!previous || previous->state != n->extent.state ||
                       previous->owner != n->extent.owner);
                assert(RB_FIND(StateTree, (struct StateTree *) &m->states[n->extent.state], n) ==
                       n);
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
        assert(n_extents == m->n_extents);
        assert(retired_owned == m->retired_owned);
        assert(memcmp(bytes, m->bytes, sizeof(bytes)) == 0);
        for (size_t s = 0; s < ELEMENTSOF(m->states); s++)
                RB_FOREACH (n, StateTree, (struct StateTree *) &m->states[s]) {
                        assert((size_t) n->extent.state == s);
                        n_in_states++;
                }
        assert(n_in_states == n_extents);
        run_index_check(&m->runs);
}
