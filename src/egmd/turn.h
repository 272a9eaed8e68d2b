/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <time.h>

#include "macro.h"

/* What has to be done for each of thousands of leases is done in turns of the event loop, so that others get theirs. */

#define TURN_NSEC (2000 * NSEC_PER_USEC)

typedef struct Turn {
        uint64_t end;
} Turn;

static inline uint64_t turn_now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC * NSEC_PER_USEC + (uint64_t) ts.tv_nsec;
}

static inline Turn turn_begin(void) {
        return (Turn){.end = turn_now() + TURN_NSEC};
}

/* Asked behind each piece of work: at least one is done in each turn. */
static inline bool turn_is_over(const Turn *t) {
        return turn_now() >= t->end;
}
