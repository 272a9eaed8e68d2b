/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Called by the tree's rotations and removals for nodes whose children changed, from below to
 * above. */
#define RB_AUGMENT(run) ((void) run_update(run))

#include "run-index.h"

static int run_compare(const Run *a, const Run *b) {
        if (a->size != b->size)
                return a->size < b->size ? -1 : 1;
        return (a->offset > b->offset) - (a->offset < b->offset);
}

/* The longest piece of the run that starts at a multiple of align. */
static uint64_t run_aligned(const Run *run, uint64_t align) {
        uint64_t skip = -run->offset & (align - 1);

        return skip < run->size ? run->size - skip : 0;
}

static uint64_t run_aligned_class(const Run *run, unsigned i) {
        return run_aligned(run, UINT64_C(1) << (run->shift + i));
}

/* For how many alignments, from the least on, the run has a piece at all: its ancestors have nothing of it for the
 * others. */
static unsigned run_count_classes(const Run *run) {
        unsigned n = run->n_aligns;

        while (n > 0 && run_aligned_class(run, n - 1) == 0)
                n--;
        return n;
}

/* For the first n alignments. True when something changed. */
static bool run_update_classes(Run *run, unsigned n) {
        const Run *left = RB_LEFT(run, entry), *right = RB_RIGHT(run, entry);
        bool changed = false;

        for (unsigned i = 0; i < n; i++) {
                uint64_t longest = run_aligned_class(run, i);

                if (left)
                        longest = MAX(longest, left->longest[i]);
                if (right)
                        longest = MAX(longest, right->longest[i]);
                changed |= run->longest[i] != longest;
                run->longest[i] = longest;
        }
        return changed;
}

static bool run_update(Run *run) {
        return run_update_classes(run, run->n_aligns);
}

RB_GENERATE_INTERNAL(RunTree, Run, entry, run_compare, _unused_ static)

void run_index_init(RunIndex *index, uint64_t granule) {
        assert(index);
        assert(is_pow2(granule));

        *index = (RunIndex){
                        .shift = (uint8_t) __builtin_ctzll(granule),
                        .n_aligns = 1,
        };
        while (granule << (index->n_aligns - 1) < RUN_ALIGN_MAX && granule < RUN_ALIGN_MAX)
                index->n_aligns++;
}

size_t run_index_run_size(const RunIndex *index) {
        assert(index);

        return sizeof(Run) + index->n_aligns * sizeof(uint64_t);
}

bool run_index_align_supported(const RunIndex *index, uint64_t align) {
        assert(index);

        return is_pow2(align) && __builtin_ctzll(align) >= index->shift &&
               __builtin_ctzll(align) < index->shift + index->n_aligns;
}

static unsigned run_bucket(uint64_t size) {
        return 63U - (unsigned) __builtin_clzll(size);
}

void run_index_insert(RunIndex *index, Run *run) {
        unsigned n, bucket;
        Run *other;

        assert(index);
        assert(run);
        assert(run->size > 0);

        bucket = run_bucket(run->size);
        index->used |= UINT64_C(1) << bucket;
        run->shift = index->shift;
        run->n_aligns = index->n_aligns;
        run->entry = (__typeof__(run->entry)){};
        (void) run_update(run);
        other = RB_INSERT(RunTree, &index->trees[bucket], run);
        assert(!other);
        (void) other;
        /* The tree updates the parent and what it turns around, with what the nodes below knew by
         * then. Only those above the run can be wrong now, and only by not knowing of it. */
        n = run_count_classes(run);
        for (Run *p = RB_PARENT(run, entry); p; p = RB_PARENT(p, entry))
                for (unsigned i = 0; i < n; i++)
                        p->longest[i] = MAX(p->longest[i], run_aligned_class(run, i));
}

void run_index_remove(RunIndex *index, Run *run) {
        uint64_t size;
        unsigned n, bucket;

        assert(index);
        assert(run);

        /* First everything above forgets the run, then it leaves: the tree only updates what it
         * moves. */
        size = run->size;
        n = run_count_classes(run);
        run->size = 0;
        for (Run *p = run; p && run_update_classes(p, n); p = RB_PARENT(p, entry))
                ;
        run->size = size;
        bucket = run_bucket(size);
        (void) RB_REMOVE(RunTree, &index->trees[bucket], run);
        if (RB_EMPTY(&index->trees[bucket]))
                index->used &= ~(UINT64_C(1) << bucket);
}

void run_index_resize(RunIndex *index, Run *run, uint64_t offset, uint64_t size) {
        const Run key = {.offset = offset, .size = size};
        const Run *smaller, *larger;
        unsigned n;

        assert(index);
        assert(run);
        assert(size > 0);

        smaller = RB_PREV(RunTree, NULL, run);
        larger = RB_NEXT(RunTree, NULL, run);
        if (run_bucket(size) != run_bucket(run->size) ||
            (smaller && run_compare(smaller, &key) >= 0) ||
            (larger && run_compare(&key, larger) >= 0)) {
                run_index_remove(index, run);
                run->offset = offset;
                run->size = size;
                run_index_insert(index, run);
                return;
        }
        n = run_count_classes(run);
        run->offset = offset;
        run->size = size;
        n = MAX(n, run_count_classes(run));
        for (Run *p = run; p && run_update_classes(p, n); p = RB_PARENT(p, entry))
                ;
}

const Run *run_index_longest(const RunIndex *index) {
        const Run *run;

        assert(index);

        if (index->used == 0)
                return NULL;
        run = RB_ROOT(&index->trees[run_bucket(index->used)]);
        while (RB_RIGHT(run, entry))
                run = RB_RIGHT(run, entry);
        return run;
}

/* Of a tree that has one. */
static const Run *run_fit(const Run *run, uint64_t size, uint64_t align, unsigned i) {
        for (;;) {
                const Run *left = RB_LEFT(run, entry);

                if (left && left->longest[i] >= size)
                        run = left;
                else if (run_aligned(run, align) >= size)
                        return run;
                else
                        run = RB_RIGHT(run, entry);
                assert(run);
        }
}

const Run *run_index_fit(const RunIndex *index, uint64_t size, uint64_t align) {
        uint64_t used;
        unsigned i;

        assert(index);
        assert(size > 0);
        assert(run_index_align_supported(index, align));

        i = (unsigned) __builtin_ctzll(align) - index->shift;
        /* From those that may be long enough on; the first that has one has the smallest. */
        used = index->used & (UINT64_MAX << run_bucket(size));
        for (; used != 0; used &= used - 1) {
                const Run *root = RB_ROOT(&index->trees[(unsigned) __builtin_ctzll(used)]);

                if (root->longest[i] >= size)
                        return run_fit(root, size, align, i);
        }
        return NULL;
}

/* Returns the number of black nodes on every way down. */
static unsigned run_check(const RunIndex *index, const Run *run, unsigned bucket) {
        const Run *left, *right;
        unsigned black;

        if (!run)
                return 1;
        left = RB_LEFT(run, entry);
        right = RB_RIGHT(run, entry);
        assert(run->size > 0 && run_bucket(run->size) == bucket);
        assert(run->shift == index->shift && run->n_aligns == index->n_aligns);
        assert(!left || (RB_PARENT(left, entry) == run && run_compare(left, run) < 0));
        assert(!right || (RB_PARENT(right, entry) == run && run_compare(run, right) < 0));
        for (unsigned i = 0; i < run->n_aligns; i++) {
                uint64_t longest = run_aligned_class(run, i);

                longest = MAX(longest, left ? left->longest[i] : 0);
                longest = MAX(longest, right ? right->longest[i] : 0);
                assert(run->longest[i] == longest);
        }
        black = run_check(index, left, bucket);
        assert(run_check(index, right, bucket) == black);
        return black + (RB_COLOR(run, entry) == RB_BLACK);
}

void run_index_check(const RunIndex *index) {
        assert(index);

        for (unsigned i = 0; i < RUN_BUCKETS; i++) {
                const Run *root = RB_ROOT(&index->trees[i]);

                assert(!root == !(index->used & UINT64_C(1) << i));
                (void) run_check(index, root, i);
        }
}
