/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>
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

/* The next turn, behind what others have to do by then: a deferred source that goes on and on would always be the oldest, and come
 * before all of them. handler is called once for each call of this. */
static inline int turn_again(sd_event *event, sd_event_source **source,
                             sd_event_time_handler_t handler, void *userdata) {
        int r;

        if (!*source)
                return sd_event_add_time_relative(event, source, CLOCK_MONOTONIC, 0, 1, handler,
                                                  userdata);
        r = sd_event_source_set_time_relative(*source, 0);
        return r < 0 ? r : sd_event_source_set_enabled(*source, SD_EVENT_ONESHOT);
}
