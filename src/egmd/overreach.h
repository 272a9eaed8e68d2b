/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "extent-map.h"
#include "lease.h"
#include "ranges.h"

/* What of the bytes that a process maps it was not lent, as far as that can be told from outside (isolation is cooperative: who
 * was lent what may map it from any process that he likes). Pure.
 *
 * A process shows leases: it has their lifetime descriptors open, or is bound to them. One that shows none may be anybody's helper, so
 * it may map whatever is lent to somebody. Bytes that drain are never meant: who maps those holds them up, that's all. */

typedef enum OverreachKind {
        OVERREACH_UNLENT, /* lent to nobody */
        OVERREACH_FOREIGN, /* another user's lease, which it does not show; but it shows one of the region */
        OVERREACH_UNPROVEN, /* the same where both are the same user's, or one is root's: it may have been told to */
        OVERREACH_PRIVATE, /* a private mapping, which does not tell where in the region it is */
        _OVERREACH_KIND_MAX,
        _OVERREACH_KIND_INVALID = -EINVAL,
} OverreachKind;

const char *overreach_kind_to_string(OverreachKind k);
OverreachKind overreach_kind_from_string(const char *s);

/* Is it sure that this was not lent to the process? */
bool overreach_is_proven(OverreachKind k);

typedef struct Overreach {
        Ranges bytes[_OVERREACH_KIND_MAX];
} Overreach;

void overreach_done(Overreach *o);
#define _cleanup_overreach_ _cleanup_(overreach_done)

/* A lease by its number; NULL: there is none. */
typedef const Lease *(*overreach_find_t)(uint64_t id, void *userdata);

/* shown: those that the process shows, sorted by number, all kept alive and with bytes in the region. */
int overreach_judge(const ExtentMap *map, const Ranges *mapped, const Lease *const *shown,
                    size_t n_shown, overreach_find_t find, void *userdata, Overreach *ret);

bool overreach_is_empty(const Overreach *o);
int overreach_add(Overreach *o, const Overreach *other);
/* Takes out what other has, of the same kind. */
int overreach_subtract(Overreach *o, const Overreach *other);
/* Leaves only that. Also on error nothing is left that is not in both. */
int overreach_intersect(Overreach *o, const Overreach *other);
/* Takes [offset, offset + size) out of every kind. Where memory runs out, all of it. */
void overreach_forget(Overreach *o, uint64_t offset, uint64_t size);
