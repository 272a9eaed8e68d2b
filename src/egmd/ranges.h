/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A sorted list of disjoint, non-touching byte ranges: retired pages, mapped pieces. Pure. */

typedef struct Range {
        uint64_t offset;
        uint64_t size; /* > 0 */
} Range;

typedef struct Ranges {
        Range *items;
        size_t n;
        size_t allocated;
} Ranges;

void ranges_done(Ranges *l);
#define _cleanup_ranges_ _cleanup_(ranges_done)

/* Adds and merges with what overlaps or touches. size 0 is a no-op; offset + size beyond 2^64-1 is
 * -EOVERFLOW; -ENOMEM. Nothing changes on error. */
int ranges_add(Ranges *l, uint64_t offset, uint64_t size);
/* Takes [offset, offset + size) out. -ENOMEM (nothing changes) where a range must be split. */
int ranges_remove(Ranges *l, uint64_t offset, uint64_t size);
/* The same without need of memory: where there is none, what is behind it in a range that must be split goes as well. */
void ranges_cut(Ranges *l, uint64_t offset, uint64_t size);
int ranges_copy(const Ranges *l, Ranges *ret);
/* The part of l inside [offset, offset + size), offsets kept. */
int ranges_clip(const Ranges *l, uint64_t offset, uint64_t size, Ranges *ret);
bool ranges_overlap(const Ranges *l, uint64_t offset, uint64_t size);
bool ranges_equal(const Ranges *a, const Ranges *b);
uint64_t ranges_bytes(const Ranges *l);

#define RANGES_FOREACH(i, l) for (const Range *i = (l)->items; i < (l)->items + (l)->n; i++)
