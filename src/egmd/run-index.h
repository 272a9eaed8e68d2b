/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <bsd/sys/tree.h>

#include "macro.h"

/* Runs of free memory, ordered by (size, offset), to find the smallest one that holds an aligned
 * piece. Pure.
 *
 * A run longer than what is wanted may still hold no aligned piece, and a map can be full of such
 * runs. So each subtree knows, for every alignment, the longest aligned piece in it: the search
 * only ever goes where there is one, and is O(log n) whatever the runs look like. */

#define RUN_ALIGN_MAX (1 * GIB) /* or the granule, where that is larger */

typedef struct Run {
        uint64_t offset;
        uint64_t size;
        RB_ENTRY(Run) entry;
        uint8_t shift; /* log2 of the granule */
        uint8_t n_aligns;
        uint64_t longest[]; /* in the subtree, aligned to granule << index */
} Run;

RB_HEAD(RunTree, Run);

/* One tree for each power of two that lengths begin with: a few long runs are found, and change, without a look at the many that
 * are short. */
#define RUN_BUCKETS 64U

typedef struct RunIndex {
        struct RunTree trees[RUN_BUCKETS];
        uint64_t used; /* a bit for each tree that has runs */
        uint8_t shift;
        uint8_t n_aligns;
} RunIndex;

void run_index_init(RunIndex *index, uint64_t granule);
/* What one run of this index needs in memory; it ends in an array. */
size_t run_index_run_size(const RunIndex *index);
/* Offset and size must not change while the run is in the index. */
void run_index_insert(RunIndex *index, Run *run);
void run_index_remove(RunIndex *index, Run *run);
/* Of one that is in the index: where it is, as long as that leaves it between the same two others. */
void run_index_resize(RunIndex *index, Run *run, uint64_t offset, uint64_t size);
const Run *run_index_longest(const RunIndex *index);
/* The smallest run (of equal ones the lowest) with a piece of size bytes at a multiple of align,
 * NULL when none has. align: a power of two from the granule to RUN_ALIGN_MAX or the granule. */
const Run *run_index_fit(const RunIndex *index, uint64_t size, uint64_t align);
bool run_index_align_supported(const RunIndex *index, uint64_t align);
void run_index_check(const RunIndex *index);
