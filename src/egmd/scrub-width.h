/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many threads for each range fill a node's memory: found out while they work, by twice as many and half as many. Private to the scrubber; a
 * clock is the caller's. */

typedef enum ScrubWidthPhase {
        SCRUB_WIDTH_MEASURE, /* what there is */
        SCRUB_WIDTH_WIDER,
        SCRUB_WIDTH_NARROWER,
        SCRUB_WIDTH_SETTLED,
} ScrubWidthPhase;

typedef struct ScrubWidth {
        ScrubWidthPhase phase;
        unsigned threads; /* to be used now */
        unsigned first;   /* as long as nothing was known */
        unsigned limit;
        unsigned best;
        bool widened;       /* best was found to write more than half of it */
        uint64_t best_rate; /* bytes per second */
        uint64_t rate;      /* the best that was measured with `threads` */
        unsigned samples;   /* of that; settled: since then */
} ScrubWidth;

/* threads: as long as nothing is known. */
void scrub_width_init(ScrubWidth *w, unsigned threads, unsigned limit);
/* Each of several ranges was written by `threads` of them, and all together came to so much in so long. True: there is a new number to
 * be used, or the one that is used was found to be right. */
bool scrub_width_report(ScrubWidth *w, uint64_t bytes, uint64_t usec);
/* There is nothing more to write for now: what was only being tried is not used for what comes. */
void scrub_width_rest(ScrubWidth *w);

/* What is known of a node; -1: of all whose node is not. */
typedef struct ScrubNode {
        int node;
        ScrubWidth width;
        uint64_t ended; /* bytes of urgent jobs that have */
        /* Since when urgent jobs write without a pause, and what was written by then; 0: they do not. */
        uint64_t measured_from;
        uint64_t measured_bytes;
} ScrubNode;

typedef struct ScrubNodes {
        ScrubNode *items;
        size_t n;
} ScrubNodes;

/* With so many CPUs, of which the first who asks tells; NULL: no memory. Until the next call. */
ScrubNode *scrub_nodes_get(ScrubNodes *l, int node, unsigned cpus);
void scrub_nodes_done(ScrubNodes *l);
