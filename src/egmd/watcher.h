/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "overreach.h"

/* Looks at /proc every now and then, for processes that map what they were not lent (overreach.h), as long as the kernel does not
 * see to it. A look finds suspects; only what a second look, begun after the first was judged, finds the same
 * is told of, once for each process and range, or acted upon.
 *
 * Only mappings of the very inode that the daemon has open are judged: of a device that went and came back, others
 * remain whose bytes are not those that the books are about. */

typedef struct Manager Manager;
typedef struct Region Region;
typedef struct Watcher Watcher;

/* What a process was found to map, until it has nothing of the region any more. */
typedef struct Finding {
        Region *region;
        ino_t ino; /* of its device when it was found */
        pid_t pid;
        uint64_t start_time;
        uid_t uid;
        char *comm;
        char *unit; /* or NULL */
        Overreach bytes;
        bool active; /* still so at the last look */
        bool ended;  /* by us */
        bool seen;   /* by the look that is being judged */
        int pidfd;   /* while it is only suspected */
        TAILQ_ENTRY(Finding) link;
} Finding;

int watcher_new(Manager *m, Watcher **ret);
Watcher *watcher_free(Watcher *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(Watcher *, watcher_free)

/* Nobody mapped the slice a moment ago: whoever was seen to is no suspect. */
void watcher_slice_drained(Watcher *w, const Slice *s);

/* The active findings of a region; f NULL: the first. */
const Finding *watcher_next(const Watcher *w, const Region *r, const Finding *f);
