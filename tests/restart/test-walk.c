/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-walk EGMD [--cycles]: a random walk over everything that can happen to leases; see walk.h. As process 1 of a namespace of its own,
 * for the keeper stands for the service manager, whose stored descriptors hold nothing up, and nothing is left
 * behind by a walk that fails.
 *
 *     EGM_TEST_SEED=N       the same walk again, as far as other processes' pace allows
 *     EGM_TEST_SECONDS=N    how long (default 60)
 *     EGM_TEST_VERBOSE=1    tell each step
 *
 * --cycles: instead, the same request $EGM_TEST_CYCLES times (default 10000), and nothing may be left of it.
 */

#include "walk.h"

#include <inttypes.h>
#include <sys/random.h>

#include "size.h"

#define DEFAULT_SECONDS 60
#define DEFAULT_CYCLES 10000

typedef struct Op {
        const char *name;
        void (*run)(Walk *w);
        unsigned weight;
        bool restart;
} Op;

static const Op ops[] = {
                {"take", walk_op_take, 30},
                {"take too much", walk_op_take_too_much, 3},
                {"vanish", walk_op_vanish, 4},
                {"release", walk_op_release, 8},
                {"release again", walk_op_release_again, 4},
                {"somebody else", walk_op_foreign, 3},
                {"reopen", walk_op_reopen, 5},
                {"bind", walk_op_bind, 6},
                {"schedulable", walk_op_schedulable, 2},
                {"wait", walk_op_wait, 7},
                {"wait no longer", walk_op_wait_cancel, 2},
                {"pass", walk_op_pass, 9},
                {"close", walk_op_close, 12},
                {"map", walk_op_map, 6},
                {"unmap", walk_op_unmap, 10},
                {"fork", walk_op_fork, 3},
                {"exec", walk_op_exec, 3},
                {"end", walk_op_end, 7},
                {"device", walk_op_device, 4},
                {"restart", walk_op_restart, 8, true},
};

static const Op *pick_op(Walk *w) {
        uint64_t sum = 0, at;

        for (size_t i = 0; i < ELEMENTSOF(ops); i++)
                sum += !ops[i].restart || w->remembers ? ops[i].weight : 0;
        at = walk_random(w, sum);
        for (size_t i = 0;; i++) {
                uint64_t weight = !ops[i].restart || w->remembers ? ops[i].weight : 0;

                if (at < weight)
                        return ops + i;
                at -= weight;
        }
}

static uint64_t number_from(const char *name, uint64_t fallback) {
        const char *s = getenv(name);
        uint64_t v;

        return s && parse_uint64(s, &v) >= 0 ? v : fallback;
}

/* Where everything is held up nothing is lent, and little can go wrong. */
static void make_room(Walk *w) {
        uint64_t n = 0;

        for (size_t i = 0; i < WALK_LEASES; i++)
                n += w->leases[i].used && (w->leases[i].ended || w->leases[i].persistent);
        if (n <= 4 || !walk_chance(w, 3))
                return;
        walk_op_end(w);
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used && w->leases[i].persistent && !w->leases[i].ended) {
                        walk_release(w, w->leases + i);
                        break;
                }
}

static void step(Walk *w) {
        const Op *op = pick_op(w);

        make_room(w);

        /* Where nothing is lent for long, or all to those who wait, nothing happens. */
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                if (!w->regions[i].schedulable && walk_chance(w, 10))
                        walk_set_schedulable(w, i, true);
                if (walk_waiter_first(w, (unsigned) i) && walk_chance(w, 15))
                        walk_op_wait_cancel(w);
                if (w->regions[i].gone && walk_chance(w, 12))
                        walk_device_return(w, (unsigned) i, false);
        }
        op->run(w);
        w->counts[op - ops]++;
        walk_check_always(w);
        /* Mostly what follows happens to a daemon at rest, whose answers are known; sometimes to one that is busy. */
        if (!walk_chance(w, 4))
                walk_settle(w);
}

/* Everybody goes: nothing is left. */
static void finish(Walk *w) {
        walk_note(w, "the end");
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                if (w->regions[i].gone)
                        walk_device_return(w, i, false);
        for (size_t i = 0; i < WALK_REGIONS; i++)
                if (!w->regions[i].schedulable)
                        walk_set_schedulable(w, i, true);
        for (size_t i = 0; i < WALK_WAITERS; i++)
                if (w->waiters[i].bus)
                        walk_waiter_drop(w, w->waiters + i);
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                if (w->children[i].pid > 0)
                        walk_child_end(w, w->children + i, false);
        /* Who left before the answer may have left a lease behind. */
        walk_settle(w);
        for (WalkLease *l; (l = walk_lease_pick(w, false));) {
                walk_check(w, l->persistent);
                walk_op_release(w);
        }
        walk_settle(w);
        for (size_t i = 0; i < WALK_LEASES; i++)
                walk_check(w, !w->leases[i].used);
}

static void start(Walk *w, const char *egmd) {
        char simulate[128];
        char bus[256];
        const char *args[] = {simulate, bus, NULL};
        char lock[128];
        int r;

        (void) snprintf(w->config_path, sizeof(w->config_path), "%.60s/walk-regions.%i.json",
                        getenv("TMPDIR") ?: "/tmp", (int) getppid());
        (void) snprintf(simulate, sizeof(simulate), "--simulate=%s", w->config_path);
        (void) snprintf(bus, sizeof(bus), "--bus=%s", getenv("EGM_TEST_BUS"));
        r = keeper_new(egmd, args, &w->keeper);
        if (r < 0) {
                (void) fprintf(stderr, "No keeper: %s\n", strerror(-r));
                exit(r == -ENOSYS || r == -EPERM ? 77 : 1);
        }
        for (size_t i = 0; i < WALK_REGIONS; i++)
                w->regions[i] = (WalkRegion){
                                .schedulable = true, .instance = 1, .size = walk_regions[i].size};
        w->bus = walk_connect(w);
        walk_start_daemon(w);
        (void) snprintf(lock, sizeof(lock), "%s/lock", keeper_runtime_dir(w->keeper));
        w->remembers = access(lock, F_OK) == 0;
        walk_settle(w);
}

static void end(Walk *w) {
        walk_stop_daemon(w);
        keeper_free(w->keeper);
        sd_bus_flush_close_unref(w->bus);
        free(w->ids);
        (void) unlink(w->config_path);
}

int main(int argc, char *argv[]) {
        Walk w = {.next_serial = 1, .base_fds = -1, .self = argv[0]};
        uint64_t until;

        if (argc > 1 && streq(argv[1], "--holder"))
                return walk_holder_main(argc, argv);
        if (argc == 5 && streq(argv[1], "--foreign"))
                _exit(walk_foreign_main(argv[2], argv[3], argv[4]));
        if (argc != 2 && !(argc == 3 && streq(argv[2], "--cycles"))) {
                (void) fprintf(stderr, "Usage: test-walk EGMD [--cycles]\n");
                return 2;
        }
        if (getpid() != 1) {
                (void) fprintf(stderr, "skipped: not process 1 of a namespace\n");
                return 77;
        }
        (void) setvbuf(stderr, NULL, _IOLBF, 0);
        if (getrandom(&w.seed, sizeof(w.seed), 0) < 0)
                return 1;
        w.seed = number_from("EGM_TEST_SEED", w.seed >> 32);
        w.random = w.seed;
        (void) fprintf(stderr, "EGM_TEST_SEED=%" PRIu64 "\n", w.seed);
        start(&w, argv[1]);
        if (argc == 3) {
                walk_cycles(&w, number_from("EGM_TEST_CYCLES", DEFAULT_CYCLES));
                end(&w);
                return 0;
        }
        walk_cases(&w);
        until = walk_now_usec() + number_from("EGM_TEST_SECONDS", DEFAULT_SECONDS) * USEC_PER_SEC;
        while (walk_now_usec() < until) {
                w.step++;
                step(&w);
        }
        finish(&w);
        for (size_t i = 0; i < ELEMENTSOF(ops); i++)
                (void) fprintf(stderr, "%8" PRIu64 " %s\n", w.counts[i], ops[i].name);
        (void) fprintf(stderr, "%" PRIu64 " steps, %zu leases, %" PRIu64 " restarts\n", w.step,
                       w.n_ids, w.n_restarts);
        end(&w);
        return 0;
}
