/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "ranges.h"

/* What the retired-page ioctl answers, in every driver's dialect. Pure: a buffer in, ranges out. */

/* The kernel's layout: a header, then `count` entries. argsz is the room in bytes going in. */
typedef struct RetiredListHeader {
        uint32_t argsz;
        uint32_t count;
} RetiredListHeader;

typedef struct RetiredListEntry {
        uint64_t offset; /* from the region's start */
        uint64_t size;   /* the host's page, whatever the firmware retired */
} RetiredListEntry;

/* Firmware can name 65,536 pages of 4K, 1 MiB of entries; what is retired at run time comes on
 * top. */
#define RETIRED_LIST_SIZE_MAX (16 * MIB)

static inline size_t retired_list_size(size_t count) {
        return sizeof(RetiredListHeader) + count * sizeof(RetiredListEntry);
}

typedef enum RetiredVerdict {
        RETIRED_COMPLETE,
        RETIRED_GROWN,  /* nothing but need: the room that the whole list takes */
        RETIRED_FULL,   /* every entry's place was used: there may be more than were given */
        RETIRED_SHRUNK, /* argsz came back smaller: the list was cut, perhaps */
} RetiredVerdict;

typedef struct RetiredReply {
        RetiredVerdict verdict;
        size_t need;    /* bytes */
        size_t count;   /* entries given */
        size_t foreign; /* of those, outside the region and passed over */
        size_t odd;     /* of those, reaching past its end, or of size 0 (taken as one granule) */
} RetiredReply;

/* Reads the answer to a call with room bytes (the header and whole entries); never looks behind
 * them. Adds to list; entries are rounded out to granule and clipped to [0, size). The entries in
 * the buffer get sorted. -EBADMSG: it contradicts itself; -E2BIG: it needs more than
 * RETIRED_LIST_SIZE_MAX; -ENOMEM. */
int retired_list_parse(void *buffer, size_t room, uint64_t size, uint64_t granule, Ranges *list,
                       RetiredReply *ret);
