/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scrub-width.h"

#include <stdlib.h>

#include "macro.h"

/* As long as nothing is known: they should fill a socket's memory. */
#define THREADS_FIRST 8U
/* A number of threads is judged by its best, since what disturbs a measurement makes it slower. */
#define SAMPLES 3U
/* Twice as many have to write so much more, in percent; half as many may write so much less. */
#define GAIN 10U
#define LOSS 3U
/* The host's own load is another after a while. */
#define SAMPLES_UNTIL_AGAIN 4096U

void scrub_width_init(ScrubWidth *w, unsigned threads, unsigned limit) {
        assert(w);
        assert(threads > 0);

        *w = (ScrubWidth){.limit = MAX(limit, 1U)};
        w->threads = w->best = w->first = MIN(threads, w->limit);
}

static void use(ScrubWidth *w, ScrubWidthPhase phase, unsigned threads) {
        w->phase = phase;
        w->threads = threads;
        w->rate = 0;
        w->samples = 0;
}

/* Where there are no more, or no fewer, the best is known. */
static void use_more(ScrubWidth *w) {
        if (w->best < w->limit)
                use(w, SCRUB_WIDTH_WIDER, w->best > w->limit / 2 ? w->limit : 2 * w->best);
        else
                use(w, SCRUB_WIDTH_SETTLED, w->best);
}

static void use_fewer(ScrubWidth *w) {
        if (w->best > 1)
                use(w, SCRUB_WIDTH_NARROWER, w->best / 2);
        else
                use(w, SCRUB_WIDTH_SETTLED, w->best);
}

static bool rate_is(uint64_t rate, unsigned percent, uint64_t of) {
        return (double) rate * 100 >= (double) of * percent;
}

static void judge_more(ScrubWidth *w) {
        if (rate_is(w->rate, 100 + GAIN, w->best_rate)) {
                w->best = w->threads;
                w->best_rate = w->rate;
                w->widened = true;
                use_more(w);
        } else if (w->widened)
                use(w, SCRUB_WIDTH_SETTLED, w->best);
        else
                use_fewer(w);
}

static void judge_fewer(ScrubWidth *w) {
        /* As much as with the most, or step by step it would come down to nothing. */
        if (!rate_is(w->rate, 100 - LOSS, w->best_rate)) {
                use(w, SCRUB_WIDTH_SETTLED, w->best);
                return;
        }
        w->best = w->threads;
        use_fewer(w);
}

static void judge(ScrubWidth *w) {
        switch (w->phase) {
        case SCRUB_WIDTH_MEASURE:
                w->best_rate = w->rate;
                w->widened = false;
                if (w->best < w->limit)
                        use_more(w);
                else
                        use_fewer(w);
                break;
        case SCRUB_WIDTH_WIDER:
                judge_more(w);
                break;
        case SCRUB_WIDTH_NARROWER:
                judge_fewer(w);
                break;
        case SCRUB_WIDTH_SETTLED:
                use(w, SCRUB_WIDTH_MEASURE, w->best);
                break;
        }
}

bool scrub_width_report(ScrubWidth *w, uint64_t bytes, uint64_t usec) {
        bool settled;

        assert(w);

        if (usec == 0 || w->limit == 1)
                return false;
        settled = w->phase == SCRUB_WIDTH_SETTLED;
        w->rate = MAX(w->rate, (uint64_t) ((double) bytes * USEC_PER_SEC / (double) usec));
        if (++w->samples < (settled ? SAMPLES_UNTIL_AGAIN : SAMPLES))
                return false;
        judge(w);
        return !settled;
}

void scrub_width_rest(ScrubWidth *w) {
        assert(w);

        if (w->phase != SCRUB_WIDTH_SETTLED)
                use(w, SCRUB_WIDTH_MEASURE, w->best);
}

ScrubNode *scrub_nodes_get(ScrubNodes *l, int node, unsigned cpus) {
        bool few = cpus <= 4;
        ScrubNode *t;

        assert(l);

        for (size_t i = 0; i < l->n; i++)
                if (l->items[i].node == node)
                        return l->items + i;
        t = reallocarray(l->items, l->n + 1, sizeof(*t));
        if (!t)
                return NULL;
        l->items = t;
        t += l->n++;
        *t = (ScrubNode){.node = node};
        /* Half are the guests', where there are enough. */
        scrub_width_init(&t->width, few ? 1 : MIN(cpus / 2, THREADS_FIRST), few ? cpus : cpus / 2);
        return t;
}

void scrub_nodes_done(ScrubNodes *l) {
        assert(l);

        free(l->items);
        *l = (ScrubNodes){};
}
