/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>
#include <time.h>

/* What happened, and what chance has in store. */

#define HISTORY 400U
#define SHOWN_STEPS 30U
#define LOG_TAIL 12000U

static struct {
        char text[200];
        uint64_t step;
        uint64_t usec;
} history[HISTORY];
static size_t n_notes;

uint64_t walk_now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

/* splitmix64 */
uint64_t walk_random(Walk *w, uint64_t below) {
        uint64_t x = w->random += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (x ^ (x >> 31)) % below;
}

void walk_note(Walk *w, const char *format, ...) {
        size_t i = n_notes++ % HISTORY;
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(history[i].text, sizeof(history[i].text), format, ap);
        va_end(ap);
        history[i].step = w->step;
        history[i].usec = walk_now_usec();
        if (getenv("EGM_TEST_VERBOSE"))
                (void) fprintf(stderr, "%6" PRIu64 " %s\n", w->step, history[i].text);
}

static void show_history(const Walk *w) {
        size_t from = n_notes > HISTORY ? n_notes - HISTORY : 0;

        for (size_t k = from; k < n_notes; k++) {
                size_t i = k % HISTORY;

                if (history[i].step + SHOWN_STEPS > w->step)
                        (void) fprintf(stderr, "%6" PRIu64 " %10.3f %s\n", history[i].step,
                                       (double) history[i].usec / USEC_PER_SEC, history[i].text);
        }
}

static void show_leases(Walk *w) {
        for (size_t i = 0; i < WALK_LEASES; i++) {
                const WalkLease *l = w->leases + i;

                if (!l->used)
                        continue;
                (void) fprintf(stderr, "  lease %" PRIu64 " (%s)%s%s%s%s:", l->id, l->label,
                               l->persistent ? ", persistent" : "", l->released ? ", released" : "",
                               l->ended ? ", ended" : "", l->filled ? "" : ", not filled");
                for (size_t k = 0; k < l->n_slices; k++)
                        (void) fprintf(stderr, " %s.%u %#" PRIx64 "+%#" PRIx64 "%s%s",
                                       walk_regions[l->slices[k].region].name,
                                       l->slices[k].generation, l->slices[k].offset,
                                       l->slices[k].size, l->slices[k].lost ? " lost" : "",
                                       l->slices[k].was_unblocked ? " was unblocked" : "");
                for (size_t k = 0; k < l->n_bound; k++)
                        (void) fprintf(stderr, ", bound to %i", (int) l->bound[k]);
                (void) fputc('\n', stderr);
        }
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                if (w->children[i].pid > 0)
                        (void) fprintf(stderr, "  child %s\n", walk_child_text(w, w->children + i));
}

static void show_log(Walk *w) {
        char *text = keeper_log_text(w->keeper);
        size_t n = text ? strlen(text) : 0;

        (void) fprintf(stderr, "The daemon's last words:\n%s\n",
                       !text          ? ""
                       : n > LOG_TAIL ? text + n - LOG_TAIL
                                      : text);
        free(text);
}

void walk_fail(Walk *w, const char *format, ...) {
        va_list ap;

        (void) fprintf(stderr, "\nThe last steps:\n");
        show_history(w);
        (void) fprintf(stderr, "What the holders know (memory's generations: %u %u %u):\n",
                       w->regions[0].generation, w->regions[1].generation,
                       w->regions[2].generation);
        show_leases(w);
        show_log(w);
        (void) fprintf(stderr, "FAILED at step %" PRIu64 " after %" PRIu64 " restarts: ", w->step,
                       w->n_restarts);
        va_start(ap, format);
        (void) vfprintf(stderr, format, ap);
        va_end(ap);
        (void) fprintf(stderr, "\nThe same again: EGM_TEST_SEED=%" PRIu64 "\n", w->seed);
        if (!getenv("EGM_TEST_KEEP"))
                keeper_free(w->keeper);
        _exit(1);
}
