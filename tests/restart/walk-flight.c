/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>

/* Calls whose answer the daemon may not live to give. */

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        WalkInFlight *f = userdata;

        f->reply = sd_bus_message_ref(m);
        return 0;
}

void walk_in_flight_send(Walk *w, WalkInFlight *f) {
        WalkLease *l = walk_chance(w, 3) ? walk_lease_pick(w, false) : NULL;
        sd_bus_message *m;

        f->bus = walk_connect(w);
        if (l && !l->release_unsure) {
                walk_note(w, "    in flight: release lease %" PRIu64, l->id);
                f->released = l->serial;
                walk_check(w, sd_bus_message_new_method_call(f->bus, &m, EGM_BUS_NAME, l->path,
                                                             EGM_LEASE_INTERFACE, "Release") >= 0);
                walk_check(w, sd_bus_message_append(m, "a{sv}", 0) >= 0);
                l->release_unsure = true;
        } else {
                f->persistent = walk_chance(w, 3);
                walk_note(w, "    in flight: take%s", f->persistent ? " persistent" : "");
                m = walk_some_request(w, f->bus, f->persistent ? "orphan" : "vanished",
                                      f->persistent);
        }
        walk_check(w, sd_bus_call_async(f->bus, NULL, m, on_answer, f, WALK_DEADLINE_USEC) >= 0);
        walk_check(w, sd_bus_flush(f->bus) >= 0);
        sd_bus_message_unref(m);
}

bool walk_in_flight_poll(Walk *w, WalkInFlight *f) {
        if (f->reply)
                return true;
        if (sd_bus_process(f->bus, NULL) == 0)
                walk_check(w, sd_bus_wait(f->bus, 100 * USEC_PER_MSEC) >= 0);
        return f->reply;
}

void walk_in_flight_end(Walk *w, WalkInFlight *f) {
        const sd_bus_error *e = sd_bus_message_get_error(f->reply);
        WalkLease *l;

        if (f->released > 0) {
                l = walk_lease_find(w, f->released);
                if (l && !e) {
                        l->release_unsure = false;
                        l->released = true;
                }
                walk_note(w, "    the release was %s", e ? "not answered" : "answered");
        } else if (!e) {
                l = walk_lease_new(w);
                l->persistent = f->persistent;
                (void) snprintf(l->label, sizeof(l->label), "%s",
                                f->persistent ? "orphan" : "vanished");
                walk_granted(w, f->reply, l);
        } else
                walk_note(w, "    the request was answered with %s", e->name);
        walk_model_update(w);
        sd_bus_message_unref(f->reply);
        sd_bus_close_unref(f->bus);
        *f = (WalkInFlight){};
}
