/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* One region's bytes. Every byte is in exactly one state (I1, I5); neighbours of the same state
 * and owner are one extent. No I/O, no clock, no bus. All operations are O(log n) in the extents
 * (plus those inside the range they change) and all or nothing: on error nothing has changed.
 *
 *     dirty -> scrubbing -> free -> leased -> draining -> dirty …        retired, never lent
 *
 * An owner is a lease number, never 0 for leased and draining bytes, 0 for dirty, scrubbing and
 * free ones. A retired byte may have an owner: it lies in that lease's slice (because the request
 * allowed it, or because the page went bad afterwards) and goes back to owner 0 when the slice is
 * reclaimed.
 *
 * Offsets and sizes are multiples of the granule, inside the map, size > 0; else -EINVAL. A byte
 * that is not in the state that the operation starts from makes it fail with -ESTALE. -ENOMEM is
 * possible where extents must be split, but not on the way back: what was leased, adopted or
 * begun to be scrubbed as a whole can be cancelled, drained and reclaimed, or ended, as a whole, for
 * the memory that this may take is set aside when it begins. */

typedef enum ExtentState {
        EXTENT_DIRTY,
        EXTENT_SCRUBBING,
        EXTENT_FREE,
        EXTENT_LEASED,
        EXTENT_DRAINING,
        EXTENT_RETIRED,
        _EXTENT_STATE_MAX,
        _EXTENT_STATE_INVALID = -EINVAL,
} ExtentState;

const char *extent_state_to_string(ExtentState s);
ExtentState extent_state_from_string(const char *s);

typedef struct ExtentMap ExtentMap;

typedef struct Extent {
        uint64_t offset;
        uint64_t size;
        ExtentState state;
        uint64_t owner;
} Extent;

/* A new map is dirty all over. granule: a power of two; size: a multiple of it, > 0. */
int extent_map_new(uint64_t size, uint64_t granule, ExtentMap **ret);
ExtentMap *extent_map_free(ExtentMap *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(ExtentMap *, extent_map_free)

uint64_t extent_map_size(const ExtentMap *m);
uint64_t extent_map_granule(const ExtentMap *m);
size_t extent_map_count(const ExtentMap *m);                  /* extents */
uint64_t extent_map_bytes(const ExtentMap *m, ExtentState s); /* O(1) */
uint64_t extent_map_largest_free(const ExtentMap *m); /* longest run of free bytes, O(log n) */
/* Leased and draining bytes, and the retired ones that have an owner: what leases hold. O(1). */
uint64_t extent_map_owned(const ExtentMap *m);

/* Copies the first extent that ends behind offset (so: the one that holds it). False past the end.
 * Walk: `for (uint64_t at = 0; extent_map_get(m, at, &e); at = e.offset + e.size)`. */
bool extent_map_get(const ExtentMap *m, uint64_t offset, Extent *ret);
/* The same for the first extent in state s. O(log n) for dirty as well: scrubbing asks for it
 * often. */
bool extent_map_next(const ExtentMap *m, uint64_t offset, ExtentState s, Extent *ret);

/* Best fit: the lowest offset, a multiple of align (a power of two from the granule to 1 GiB, or
 * the granule where that is larger; else -EINVAL), of size bytes of free memory in the smallest
 * run of it that has such a place. With include_retired the run may also hold unowned retired
 * pages, but one without any is preferred, and what is offered has at least one free byte.
 * -ENOSPC: fewer free bytes than that, or none (with include_retired: free and unowned retired);
 * -EXFULL: enough, but not in one run. O(log n), with include_retired plus the retired extents. */
int extent_map_fit(const ExtentMap *m, uint64_t size, uint64_t align, bool include_retired,
                   uint64_t *ret_offset);

/* Memory for so many leases in advance: until something else changes the map, they can be made and
 * cancelled again, in any order and in parts, without -ENOMEM. */
#define EXTENT_MAP_RESERVE_MAX 128U
int extent_map_reserve(ExtentMap *m, size_t n_leases);

/* dirty -> scrubbing; unowned retired bytes in between are passed over. */
int extent_map_begin_scrub(ExtentMap *m, uint64_t offset, uint64_t size);
/* scrubbing -> free (clean) or back to dirty; pages retired meanwhile stay retired. */
int extent_map_end_scrub(ExtentMap *m, uint64_t offset, uint64_t size, bool clean);
/* free -> dirty, all of it that is free in the range; other states are left alone. */
int extent_map_soil(ExtentMap *m, uint64_t offset, uint64_t size);
/* free (and with include_retired unowned retired) -> leased to owner. A range with no free byte is
 * -ESTALE. */
int extent_map_lease(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner,
                     bool include_retired);
/* leased -> free: only for a lease that nobody got to see. */
int extent_map_cancel(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner);
/* dirty (and unowned retired) -> leased to owner: a lease from before a restart. */
int extent_map_adopt(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner);
/* leased -> draining; the owner's retired pages stay his. */
int extent_map_drain(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner);
/* draining -> dirty; the owner's retired pages become unowned. */
int extent_map_reclaim(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t owner);
/* any state -> retired; leased and draining bytes keep their owner. Returns the number of bytes
 * that were not retired before as ret_new (may be NULL). */
int extent_map_retire(ExtentMap *m, uint64_t offset, uint64_t size, uint64_t *ret_new);

/* Walks the whole structure and asserts what must always hold; for tests. */
void extent_map_check(const ExtentMap *m);
