/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test.h"
#include <systemd/sd-event.h>
#include <time.h>

/* How long something that must come may take: by the clock, and not in turns of the loop, of which there may be any number. */

#define PATIENCE_SEC 60

static inline time_t patience_end(void) {
        struct timespec ts;

        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
        return ts.tv_sec + PATIENCE_SEC;
}

static inline bool patience_is_over(time_t end) {
        return patience_end() - PATIENCE_SEC > end;
}

/* Runs the loop until it is so. */
#define run_loop_until(event, condition) \
        do { \
                time_t _end = patience_end(); \
\
                while (!(condition)) { \
                        assert_false(patience_is_over(_end)); \
                        assert_true(sd_event_run((event), USEC_PER_SEC) >= 0); \
                } \
        } while (false)
