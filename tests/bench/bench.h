/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "macro.h"

/* What the benchmark programs share: a clock, order statistics, one way to die. They print one JSON object a line;
 * bench.py makes the figures of it. */

#define NSEC_PER_SEC (USEC_PER_SEC * NSEC_PER_USEC)

static inline uint64_t bench_clock(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}

static inline uint64_t bench_now(void) {
        return bench_clock(CLOCK_MONOTONIC);
}

static inline void bench_check(int r, const char *what) {
        if (r >= 0)
                return;
        errno = -r;
        err(EXIT_FAILURE, "%s", what);
}

static inline unsigned long bench_number(const char *s) {
        char *end;
        unsigned long n;

        errno = 0;
        n = strtoul(s, &end, 10);
        if (errno != 0 || end == s || *end != '\0')
                errx(EXIT_FAILURE, "not a number: %s", s);
        return n;
}

static inline int bench_compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

/* Prints {"who": …, "what": …, "n": …, "p50": …, "p99": …, "max": …}, in µs; sorts t, which is in ns. */
static inline void bench_print_times(const char *who, const char *what, uint64_t *t, size_t n) {
        assert(n > 0);

        qsort(t, n, sizeof(*t), bench_compare);
        printf("{\"who\": \"%s\", \"what\": \"%s\", \"n\": %zu, \"p50\": %.2f, \"p99\": %.2f, "
               "\"max\": %.2f}\n",
               who, what, n, (double) t[n / 2] / 1e3, (double) t[(n * 99) / 100] / 1e3,
               (double) t[n - 1] / 1e3);
        (void) fflush(stdout);
}
