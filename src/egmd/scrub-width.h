/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many threads fill a node's memory: found out while they work, by as many and half as many. Private to the scrubber; a
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
/* `threads` of them, for so long undisturbed by others of ours, wrote so much. True: there is a new number to be used, or the one
 * that is used was found to be right. */
bool scrub_width_report(ScrubWidth *w, uint64_t bytes, uint64_t usec);

/* One for each node that was asked for; -1 where it is not known. */
typedef struct ScrubWidths {
        struct ScrubNode *nodes;
        size_t n;
} ScrubWidths;

/* For so many CPUs, of which the first who asks tells; NULL: no memory. Until the next call. */
ScrubWidth *scrub_widths_get(ScrubWidths *w, int node, unsigned cpus);
void scrub_widths_done(ScrubWidths *w);
