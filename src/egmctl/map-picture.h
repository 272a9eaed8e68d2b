/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A region's bytes as one line of characters. Pure. */

#define MAP_FREE '.'
#define MAP_DIRTY '%'
#define MAP_SCRUBBING '~'
#define MAP_DRAINING '-'
#define MAP_RETIRED '!'
#define MAP_UNKNOWN '?'

typedef struct MapExtent {
        uint64_t offset;
        uint64_t size;
        char mark; /* one of the above, or a letter for a lease */
} MapExtent;

/* Letters for leases, in their order: A to Z, a to z, and again. */
char map_lease_mark(size_t i);

/* Writes width characters and a NUL. Each stands for size / width bytes. A character says "free" only if all of its bytes
 * are; "retired" if any of them is; "unknown" if extents say nothing of some; otherwise what most of its bytes
 * that are not free are. Extents are sorted by offset. */
void map_picture(const MapExtent *extents, size_t n_extents, uint64_t size, size_t width,
                 char *ret);
