/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>

/* Requests that wait for their turn. */

#define LONG_WAIT_USEC (3600 * USEC_PER_SEC)

bool walk_is_calm(const Walk *w) {
        for (size_t i = 0; i < WALK_WAITERS; i++)
                if (w->waiters[i].bus && w->waiters[i].wait_usec < LONG_WAIT_USEC)
                        return false;
        return w->settled && !w->may_go_on;
}

WalkWaiter *walk_waiter_first(Walk *w, unsigned region) {
        WalkWaiter *first = NULL;

        for (size_t i = 0; i < WALK_WAITERS; i++) {
                WalkWaiter *q = w->waiters + i;

                if (q->bus && !q->answered && q->region == region &&
                    (!first || q->order < first->order))
                        first = q;
        }
        return first;
}

static bool still_waits(Walk *w, const WalkWaiter *q) {
        bool there = false;
        View v;

        walk_view_read(w, &v);
        for (size_t i = 0; i < v.n_waiting; i++)
                there = there || streq(v.waiting[i], q->label);
        walk_view_done(&v);
        return there;
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        WalkWaiter *q = userdata;

        q->reply = sd_bus_message_ref(m);
        q->answered = true;
        return 0;
}

unsigned walk_wait_for(Walk *w, const WalkAsked *asked, uint64_t wait_usec) {
        WalkWaiter *q = NULL;
        unsigned serial = w->next_serial++;
        sd_bus_message *m;

        for (size_t i = 0; i < WALK_WAITERS && !q; i++)
                if (!w->waiters[i].bus)
                        q = w->waiters + i;
        walk_check(w, q);
        *q = (WalkWaiter){
                        .bus = walk_connect(w),
                        .serial = serial,
                        .region = asked->region,
                        .size = asked->size,
                        .align = asked->align,
                        .whole = asked->whole,
                        .asked_usec = walk_now_usec(),
                        .wait_usec = wait_usec > 0 ? wait_usec : LONG_WAIT_USEC,
                        .order = w->next_order++,
        };
        (void) snprintf(q->label, sizeof(q->label), "q%u", q->serial);
        walk_describe(w, wait_usec > 0 ? "wait a while for" : "wait for", asked, 1, false, false);
        m = walk_new_request(w, q->bus, asked, 1, q->label, false, -EBADF, q->wait_usec);
        walk_check(w, sd_bus_call_async(q->bus, NULL, m, on_answer, q, 3600 * USEC_PER_SEC) >= 0);
        sd_bus_message_unref(m);
        /* Decided, or in the queue, before anything else happens: so its place is known. */
        for (uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;;) {
                walk_pump(w, 0);
                if (!walk_waiter_find(w, serial) || still_waits(w, q))
                        return serial;
                walk_check(w, walk_now_usec() < deadline);
                walk_pump(w, 10 * USEC_PER_MSEC);
        }
}

WalkWaiter *walk_waiter_find(Walk *w, unsigned serial) {
        for (size_t i = 0; i < WALK_WAITERS; i++)
                if (w->waiters[i].bus && w->waiters[i].serial == serial)
                        return w->waiters + i;
        return NULL;
}

void walk_wait_answers(Walk *w, unsigned region) {
        uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;

        for (size_t i = 0; i < WALK_WAITERS; i++) {
                const WalkWaiter *q = w->waiters + i;

                while (q->bus && q->region == region && !still_waits(w, q)) {
                        walk_check(w, walk_now_usec() < deadline);
                        walk_pump(w, 10 * USEC_PER_MSEC);
                }
        }
}

void walk_op_wait(Walk *w) {
        WalkAsked asked = {.region = walk_some_region(w), .align = WALK_GRANULE};
        size_t n = 0;

        for (size_t i = 0; i < WALK_WAITERS; i++)
                n += w->waiters[i].bus != NULL;
        /* Of what is gone it is refused at once: nobody knows that it comes back. */
        if (n == WALK_WAITERS || w->regions[asked.region].gone)
                return;
        asked.size = walk_some_size(w, w->regions[asked.region].size / 2);
        asked.whole = walk_regions[asked.region].whole_only && walk_chance(w, 3);
        if (asked.whole)
                asked.size = w->regions[asked.region].size;
        (void) walk_wait_for(w, &asked,
                             walk_chance(w, 3) ? USEC_PER_MSEC * (50 + walk_random(w, 1000)) : 0);
}

void walk_waiter_drop(Walk *w, WalkWaiter *q) {
        sd_bus_message_unref(q->reply);
        sd_bus_close_unref(q->bus);
        *q = (WalkWaiter){};
}

void walk_waiters_lost(Walk *w) {
        walk_pump(w, 0);
        for (size_t i = 0; i < WALK_WAITERS; i++)
                if (w->waiters[i].bus)
                        walk_waiter_drop(w, w->waiters + i);
}

void walk_op_wait_cancel(Walk *w) {
        size_t from = walk_random(w, WALK_WAITERS);

        for (size_t i = 0; i < WALK_WAITERS; i++) {
                WalkWaiter *q = w->waiters + (from + i) % WALK_WAITERS;

                if (!q->bus || q->answered)
                        continue;
                walk_note(w, "%s waits no longer", q->label);
                walk_waiter_drop(w, q);
                w->settled = false;
                return;
        }
}

static void waiter_answered(Walk *w, WalkWaiter *q) {
        const sd_bus_error *e = sd_bus_message_get_error(q->reply);
        WalkWaiter *first = walk_waiter_first(w, q->region);
        WalkLease *l;

        if (e) {
                walk_note(w, "%s is refused: %s", q->label, e->name);
                if (!streq(e->name, EGM_ERROR_PREFIX "TimedOut"))
                        walk_fail(w, "%s: %s: %s", q->label, e->name, e->message);
                if (walk_now_usec() < q->asked_usec + q->wait_usec)
                        walk_fail(w, "%s timed out too early", q->label);
        } else {
                walk_note(w, "%s is granted", q->label);
                /* Its answer may be on its way. */
                if (first && first->order < q->order && still_waits(w, first))
                        walk_fail(w, "%s was served before %s", q->label, first->label);
                l = walk_lease_new(w);
                (void) snprintf(l->label, sizeof(l->label), "%s", q->label);
                walk_granted(w, q->reply, l);
                /* Its device may be another by now, of another size. */
                walk_check(w, l->n_slices == 1 &&
                                              l->slices[0].size ==
                                                              (q->whole ? w->regions[q->region].size
                                                                        : q->size));
        }
        walk_waiter_drop(w, q);
        w->settled = false;
}

void walk_waiters_answered(Walk *w) {
        /* In the order in which they asked, so that several that were served at once are not taken for overtaken. */
        for (;;) {
                WalkWaiter *next = NULL;

                for (size_t i = 0; i < WALK_WAITERS; i++)
                        if (w->waiters[i].bus && w->waiters[i].answered &&
                            (!next || w->waiters[i].order < next->order))
                                next = w->waiters + i;
                if (!next)
                        break;
                waiter_answered(w, next);
        }
}
