/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "fd-util.h"

/* The daemon comes and goes, and finds what was done meanwhile. What that leads to is told by docs/restart.md. */

static void write_config(Walk *w) {
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                if (walk_regions[i].late.size > 0 && !w->regions[i].late && w->n_restarts > 20 &&
                    walk_chance(w, 40)) {
                        walk_note(w, "    %s: late pages are retired", walk_regions[i].name);
                        w->regions[i].late = true;
                }
        }
        w->fail_mmap = w->n_restarts > 0 && walk_chance(w, 6) ? 1 + walk_random(w, 10) : 0;
        walk_check(w, walk_config_write(w->config_path, w->regions, w->fail_mmap) >= 0);
}

void walk_start_daemon(Walk *w) {
        int r;

        write_config(w);
        r = keeper_start(w->keeper, WALK_DEADLINE_USEC);
        if (r < 0)
                walk_fail(w, "the daemon did not start: %s", strerror(-r));
        if (r > 0)
                walk_fail(w, "the daemon ended before it was ready, with status %#x",
                          (unsigned) keeper_exit_status(w->keeper));
        w->may_find = true;
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                w->regions[i].unheard = w->regions[i].gone;
                /* What a region that is not taken up was of, nobody tells a new daemon. */
                w->regions[i].has_memory = w->regions[i].has_memory && !w->regions[i].gone &&
                                           w->regions[i].memory == w->regions[i].generation;
        }
}

void walk_stop_daemon(Walk *w) {
        int status, r;

        walk_check(w, keeper_signal(w->keeper, SIGTERM) >= 0);
        /* Two seconds, when it gets the processor; its threads get what others leave of it. */
        r = keeper_wait(w->keeper, WALK_DEADLINE_USEC, &status);
        if (r < 0)
                walk_fail(w, "the daemon has not left: %s", strerror(-r));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                walk_fail(w, "the daemon left with status %#x", (unsigned) status);
}

static void kill_daemon(Walk *w) {
        int status;

        walk_check(w, keeper_signal(w->keeper, SIGKILL) >= 0);
        walk_check(w, keeper_wait(w->keeper, WALK_DEADLINE_USEC, &status) >= 0);
        /* Had it died of itself, that would be another matter. */
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
                walk_fail(w, "the daemon had ended before it was killed, with status %#x",
                          (unsigned) status);
}

static void stop(Walk *w) {
        bool term = walk_chance(w, 3);

        walk_note(w, "    %s", term ? "SIGTERM" : "SIGKILL");
        if (term)
                walk_stop_daemon(w);
        else
                kill_daemon(w);
}

/* ---- killed in the middle of things ---- */

static void a_moment(Walk *w) {
        struct timespec t = {.tv_nsec = (long) walk_random(w, 4000000)};

        (void) ppoll(NULL, 0, &t, NULL);
}

/* Asks for several things, and kills before, while or after they are done. Who got no answer may or may not have been
 * heard: of what he did not get, nothing may be left. */
static void kill_in_the_middle(Walk *w) {
        WalkInFlight f[4] = {};
        size_t n = 1 + walk_random(w, ELEMENTSOF(f));
        uint64_t deadline;
        bool all = false;

        for (size_t i = 0; i < n; i++)
                walk_in_flight_send(w, f + i);
        a_moment(w);
        walk_note(w, "    SIGKILL");
        kill_daemon(w);
        for (deadline = walk_now_usec() + WALK_DEADLINE_USEC; !all;) {
                walk_check(w, walk_now_usec() < deadline);
                all = true;
                for (size_t i = 0; i < n; i++)
                        all = walk_in_flight_poll(w, f + i) && all;
        }
        /* A release may have been done before anybody had what the others were granted. */
        for (size_t i = 0; i < n; i++)
                if (f[i].released > 0)
                        walk_in_flight_end(w, f + i);
        for (size_t i = 0; i < n; i++)
                if (f[i].bus)
                        walk_in_flight_end(w, f + i);
}

static void kill_while_starting(Walk *w) {
        int r;

        write_config(w);
        r = keeper_start(w->keeper, walk_random(w, 12000));
        if (r != 0 && r != -ETIMEDOUT)
                walk_fail(w, "the daemon did not start: %s",
                          r < 0 ? strerror(-r) : "it ended before it was ready");
        walk_note(w, "    started, and killed %s",
                  r == 0 ? "when it was ready" : "before it was ready");
        kill_daemon(w);
}

/* ---- what the daemon will make of it ---- */

/* Leases whose record is there and that own bytes of the region. */
static bool is_lent(const Walk *w, unsigned region, bool *ret_beyond_start) {
        bool lent = false;

        *ret_beyond_start = false;
        for (size_t i = 0; i < WALK_LEASES; i++)
                for (size_t k = 0; k < w->leases[i].n_slices && w->leases[i].used; k++) {
                        const WalkSlice *s = w->leases[i].slices + k;

                        if (s->region != region || s->lost || !s->owned)
                                continue;
                        lent = true;
                        *ret_beyond_start = *ret_beyond_start || s->offset > 0;
                }
        return lent;
}

/* Of what the daemon itself made up nothing is written down. */
static void forget_unknown(Walk *w) {
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used && streq(w->leases[i].label, "(unknown)"))
                        walk_lease_forget(w, w->leases + i);
}

/* True when the region is not ready before everybody lets go of it. */
static bool foresee_region(Walk *w, const WalkWitnesses *t, unsigned i) {
        WalkRegion *r = w->regions + i;
        bool beyond_start, lent = is_lent(w, i, &beyond_start);

        /* Its memory is lost already, or it is new and nobody's. */
        if (r->gone || !r->has_memory || r->memory != r->generation)
                return false;
        if (t->recorded[i] && (t->stored[i] || (lent && walk_model_has_party(w, i))))
                return false;
        if (t->recorded[i] || !t->stored[i]) {
                walk_note(w, "    %s loses its memory", walk_regions[i].name);
                walk_model_new_memory(w, i);
                return false;
        }
        r->spoiled = lent && !beyond_start;
        return !lent && walk_region_is_used(w, i, r->generation);
}

/* What lacks its record is nobody's to lend while anybody has it. */
static void wait_held_elsewhere(Walk *w, unsigned region) {
        uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;
        bool held = false;

        while (!held) {
                View v;

                walk_pump(w, 0);
                walk_view_read(w, &v);
                held = streq(v.regions[region].state, "held-elsewhere");
                if (streq(v.regions[region].state, "ready") || walk_now_usec() >= deadline)
                        walk_fail(w, "%s has no record, others have it, and it is %s",
                                  walk_regions[region].name, v.regions[region].state);
                walk_view_done(&v);
                walk_pump(w, 20 * USEC_PER_MSEC);
        }
        walk_children_check(w);
        walk_note(w, "    %s is held elsewhere; they let go", walk_regions[region].name);
        walk_region_drop(w, region, w->regions[region].generation);
}

static void start_again(Walk *w, const WalkWitnesses *t) {
        bool held[WALK_REGIONS];

        forget_unknown(w);
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                held[i] = foresee_region(w, t, i);
        walk_model_update(w);
        walk_start_daemon(w);
        w->n_restarts++;
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                if (held[i])
                        wait_held_elsewhere(w, i);
        walk_settle(w);
}

void walk_restart_plainly(Walk *w) {
        const WalkWitnesses t = WALK_WITNESSES_COMPLETE;

        walk_note(w, "SIGKILL, and started again");
        kill_daemon(w);
        walk_children_check(w);
        start_again(w, &t);
}

void walk_op_restart(Walk *w) {
        WalkWitnesses t = WALK_WITNESSES_COMPLETE;
        bool careful = walk_chance(w, 2), calm = false;

        walk_note(w, "restart%s", careful ? ", from rest" : "");
        /* When the first of them goes, the next may be granted what it waited for, before it goes as well. */
        walk_waiters_lost(w);
        if (careful) {
                walk_settle(w);
                calm = walk_is_calm(w);
        }
        if (!careful && walk_chance(w, 2))
                kill_in_the_middle(w);
        else
                stop(w);
        for (uint64_t n = walk_random(w, 4); n > 0; n--)
                walk_op_of_holders(w);
        walk_children_check(w);
        if (walk_chance(w, 4))
                walk_device_change_unseen(w);
        else if (calm) {
                walk_witnesses_tamper(w, &t);
                walk_children_check(w);
        }
        if (!careful)
                for (uint64_t n = walk_random(w, 3); n > 0; n--)
                        kill_while_starting(w);
        start_again(w, &t);
}
