/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "attempt.h"

/* The lease ends, and its range is lent again, while others of its bearer's threads map it all the time: one that was let in just
 * before the end must not be there unseen. Every mapping shows what the bearer wrote, until there is none any more. */

#define ROUNDS 8
#define THREADS 3

static const Actor *actor;
static atomic_bool over;
static atomic_int worst; /* a Seen that is not SEEN_OWN, or an unexpected -errno */
static atomic_uint n_looks;

static int look_twice(void) {
        void *p = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, actor->own.fd,
                       (off_t) actor->own.offset);
        int r;

        if (p == MAP_FAILED)
                return -errno;
        r = look_at(p, 4 * PAGE);
        (void) sched_yield();
        if (r == SEEN_OWN)
                r = look_at(p, 4 * PAGE);
        (void) munmap(p, 4 * PAGE);
        return r;
}

/* Until it is over for it; who goes on trying afterwards would hold the range up: he may be about to map. */
static void *race(void *userdata) {
        const bool *forever = userdata;

        while (!atomic_load(&over)) {
                int r = look_twice();

                atomic_fetch_add(&n_looks, 1);
                if (r == -EACCES && !*forever)
                        break;
                if (r != SEEN_OWN && r != -EACCES)
                        atomic_store(&worst, r);
        }
        return NULL;
}

/* SEEN_HELD_UP: it was not lent again. */
static int play_round(Actor *a, bool forever) {
        unsigned from = atomic_load(&n_looks);
        pthread_t threads[THREADS];
        int r;

        atomic_store(&over, false);
        for (size_t i = 0; i < THREADS; i++)
                if (pthread_create(&threads[i], NULL, race, &forever) != 0)
                        _exit(EXIT_FAILURE);
        while (atomic_load(&n_looks) - from < THREADS)
                (void) sched_yield();
        ask_or_die(a, REQUEST_RELEASE, NULL);
        r = ask(a, forever ? REQUEST_LEND_HELD : REQUEST_LEND, NULL);
        atomic_store(&over, true);
        for (size_t i = 0; i < THREADS; i++)
                (void) pthread_join(threads[i], NULL);
        if (atomic_load(&worst) != SEEN_OWN)
                return atomic_load(&worst);
        return r < 0 ? SEEN_HELD_UP : look_own(a);
}

static void play_race(Actor *a) {
        int r;

        actor = a;
        atomic_store(&worst, SEEN_OWN);
        for (unsigned i = 0;; i++) {
                r = play_round(a, false);
                if (r != -EACCES || i == ROUNDS)
                        break;
                safe_close(a->own.fd);
                a->own.fd = -EBADF;
                ask_or_die(a, REQUEST_AGAIN, &a->own);
                if (mark(a->own.fd, a->own.offset, a->own.size, WRITER_ACTOR) < 0)
                        _exit(EXIT_FAILURE);
        }
        report(a, "race-with-release", r);
}

const Scene scene_race = {.name = "race", .play = play_race};

static void play_insist(Actor *a) {
        actor = a;
        atomic_store(&worst, SEEN_OWN);
        report(a, "goes-on-trying", play_round(a, true));
}

const Scene scene_insist = {.name = "insist", .play = play_insist};
