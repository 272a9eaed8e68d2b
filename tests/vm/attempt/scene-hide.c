/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "attempt.h"

/* A mapping from before its lease's end that its owner does not want to be found: as long as it is there, its bytes must not be
 * lent again. */

#define FILL 1000U /* mappings between the two places, which take many reads to list */

typedef struct Hidden {
        atomic_bool over;
        atomic_bool begun;
        atomic_int worst; /* a Seen that is not SEEN_OWN */
} Hidden;

static Hidden *hidden;

static void hidden_new(void) {
        hidden = mmap(NULL, sizeof(*hidden), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0);
        if (hidden == MAP_FAILED)
                _exit(EXIT_FAILURE);
        atomic_store(&hidden->worst, SEEN_OWN);
}

static void look_hidden(const void *p) {
        int r = look_at(p, PAGE);

        if (r != SEEN_OWN)
                atomic_store(&hidden->worst, r);
        atomic_store(&hidden->begun, true);
}

/* Held up for as long as that lasts, or not: then what was seen tells. */
static int let_it_be_lent(Actor *a) {
        int r;

        while (!atomic_load(&hidden->begun))
                (void) sched_yield();
        ask_or_die(a, REQUEST_RELEASE, NULL);
        r = ask(a, REQUEST_LEND_HELD, NULL);
        if (r >= 0)
                for (unsigned i = 0; i < 1000 && atomic_load(&hidden->worst) == SEEN_OWN; i++)
                        (void) sched_yield();
        atomic_store(&hidden->over, true);
        return r < 0 ? SEEN_HELD_UP : atomic_load(&hidden->worst);
}

/* ---- from one place to another ---- */

static uint8_t *places[2];

static void *move(void *userdata) {
        unsigned at = 0;

        while (!atomic_load(&hidden->over)) {
                look_hidden(places[at]);
                if (mremap(places[at], PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, places[!at]) ==
                    MAP_FAILED)
                        continue;
                at = !at;
        }
        return NULL;
}

/* Alternating, so that they do not become one. */
static void make_places(const Actor *a) {
        uint8_t *room = mmap(NULL, (FILL + 2) * PAGE, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (room == MAP_FAILED)
                _exit(EXIT_FAILURE);
        for (unsigned i = 1; i <= FILL; i += 2)
                (void) mprotect(room + i * PAGE, PAGE, PROT_READ);
        places[0] = room;
        places[1] = room + (FILL + 1) * PAGE;
        if (mmap(places[0], PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, a->own.fd,
                 (off_t) a->own.offset) == MAP_FAILED)
                _exit(EXIT_FAILURE);
}

static void play_hide_moving(Actor *a) {
        pthread_t thread;
        int r;

        hidden_new();
        make_places(a);
        if (pthread_create(&thread, NULL, move, NULL) != 0)
                _exit(EXIT_FAILURE);
        r = let_it_be_lent(a);
        (void) pthread_join(thread, NULL);
        report(a, "mapping-on-the-move", r);
}

const Scene scene_hide_moving = {.name = "hide-moving", .play = play_hide_moving};

/* ---- from one process to the next ---- */

/* Each lives no longer than it takes to make its heir. */
static _Noreturn void live_on(const void *p) {
        for (;;) {
                look_hidden(p);
                if (atomic_load(&hidden->over))
                        _exit(EXIT_SUCCESS);
                for (;;) {
                        pid_t pid = fork();

                        if (pid > 0)
                                _exit(EXIT_SUCCESS);
                        if (pid == 0)
                                break;
                        (void) sched_yield();
                }
        }
}

static void play_hide_forking(Actor *a) {
        void *p;

        hidden_new();
        p = map_own(a);
        if (fork() == 0)
                live_on(p);
        (void) munmap(p, a->own.size);
        report(a, "mapping-handed-on-by-fork", let_it_be_lent(a));
}

const Scene scene_hide_forking = {.name = "hide-forking", .play = play_hide_forking};
