/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What is right for calls on leased memory. Pure. */

/* An absolute path without empty, "." and ".." parts: one that can be compared. */
bool inject_path_is_good(const char *path);
/* Is what a program said, made absolute, that path? Empty and "." parts do not matter, ".." never matches. */
bool inject_path_matches(const char *good, const char *said);

/* Do the program's offsets count from the start of the range? */
typedef enum InjectShift {
        INJECT_SHIFT_NO,
        INJECT_SHIFT_YES,
        INJECT_SHIFT_AUTO, /* not known before its first mapping */
} InjectShift;

typedef struct InjectRange {
        uint64_t offset;
        uint64_t size;
        InjectShift shift;
} InjectRange;

typedef enum InjectMapVerdict {
        INJECT_MAP_HERE,    /* as it is, and in the range */
        INJECT_MAP_MOVE,    /* to the offset that comes with it */
        INJECT_MAP_KERNEL,  /* no mapping, or none of the descriptor: as it is */
        INJECT_MAP_PRIVATE, /* its writes would not reach the memory */
        INJECT_MAP_OUTSIDE,
        INJECT_MAP_UNCLEAR, /* could count from either */
} InjectMapVerdict;

/* page: the host's page size. */
InjectMapVerdict inject_judge_map(const InjectRange *r, uint64_t length, uint64_t flags,
                                  uint64_t offset, uint64_t page, uint64_t *ret_offset);

/* How the driver lists retired pages: one entry a page, offsets from the start of the memory. */
typedef struct InjectPage {
        uint64_t offset;
        uint64_t size;
} InjectPage;

/* ranges: pairs of (offset in the slice, size), n of them. Rounded out to pages, clipped to size. */
int inject_list_pages(const uint64_t *ranges, size_t n, uint64_t size, uint64_t page,
                      InjectPage **ret, size_t *ret_n);
