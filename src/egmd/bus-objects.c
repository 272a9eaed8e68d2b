/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "log.h"
#include "turn.h"

/* What there is, and what comes and goes: GetManagedObjects and the signals around it.
 *
 * sd-bus answers GetManagedObjects in one go, and the loop stands still for 70 ms with 10,000 leases. So we do it, in turns. What
 * a client makes of the answer and of the signals around it must come out right: signals that come up while an
 * answer is being put together are held back and sent right behind it. A lease that goes when it is in the answer
 * already is announced as gone behind it; one that came too late for it, or just in time, is announced
 * behind it as well. The answers to other calls go out meanwhile. One answer at a time, and what was held back is sent
 * between two of them, so that nobody holds signals back for longer than one takes. */

/* Of one client, at a time. */
#define OBJECTS_CALLS_MAX 16U

struct ObjectsCall {
        sd_bus_message *call;
        sd_bus_message *reply; /* NULL: not begun */
        uint64_t next_lease;
        uint64_t size; /* roughly */
        TAILQ_ENTRY(ObjectsCall) link;
};

static ObjectsCall *objects_call_free(Bus *b, ObjectsCall *c) {
        TAILQ_REMOVE(&b->objects, c, link);
        bus_reader_end(b, sd_bus_message_get_sender(c->call), c->size);
        sd_bus_message_unref(c->call);
        sd_bus_message_unref(c->reply);
        return mfree(c);
}

/* ---- signals ---- */

static bool is_held(const Bus *b) {
        return !TAILQ_EMPTY(&b->objects);
}

static void send_held(Bus *b) {
        for (size_t i = 0; i < b->n_held; i++) {
                int r = sd_bus_send(b->bus, b->held[i], NULL);

                if (r < 0)
                        (void) log_debug_errno(r, "Failed to send a signal: %m");
                sd_bus_message_unref(b->held[i]);
        }
        b->held = mfree(b->held);
        b->n_held = b->room_held = 0;
}

int bus_signal_send(Bus *b, sd_bus_message *m) {
        if (!is_held(b))
                return sd_bus_send(b->bus, m, NULL);
        if (b->n_held == b->room_held) {
                size_t room = MAX((size_t) 64, 2 * b->room_held);
                sd_bus_message **t = reallocarray(b->held, room, sizeof(*t));

                if (!t)
                        return -ENOMEM;
                b->held = t;
                b->room_held = room;
        }
        b->held[b->n_held++] = sd_bus_message_ref(m);
        return 0;
}

bool bus_signals_are_held(const Bus *b) {
        return is_held(b);
}

/* ---- what an object is, in messages ---- */

static int append_property(Bus *b, sd_bus_message *m, const BusObject *o, const sd_bus_vtable *v) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', v->x.property.member);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', v->x.property.signature);
        if (r >= 0)
                r = v->x.property.get(b->bus, o->path, o->interface, v->x.property.member, m,
                                      o->userdata, &error);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}

static const sd_bus_vtable *next_property(const sd_bus_vtable *v) {
        while (v->type != _SD_BUS_VTABLE_END && v->type != _SD_BUS_VTABLE_PROPERTY)
                v++;
        return v->type == _SD_BUS_VTABLE_END ? NULL : v;
}

#define FOREACH_PROPERTY(v, vtable) \
        for (const sd_bus_vtable *v = next_property(vtable); v; v = next_property(v + 1))

/* a{sa{sv}}, as sd-bus would: explicit properties never, what is announced without its value in no signal. But
 * without the standard interfaces: every object has them, and naming them is a fifth of the message. */
static int append_interfaces(Bus *b, sd_bus_message *m, const BusObject *o, bool in_signal) {
        uint64_t without = SD_BUS_VTABLE_PROPERTY_EXPLICIT |
                           (in_signal ? SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION : 0);
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sa{sv}}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sa{sv}");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', o->interface);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        FOREACH_PROPERTY(v, o->vtable) {
                if (v->flags & without)
                        continue;
                r = append_property(b, m, o, v);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int new_manager_signal(Bus *b, const BusObject *o, const char *member,
                              sd_bus_message **ret) {
        int r;

        r = sd_bus_message_new_signal(b->bus, ret, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                      member);
        return r < 0 ? r : sd_bus_message_append_basic(*ret, 'o', o->path);
}

int bus_object_added(Bus *b, const BusObject *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = new_manager_signal(b, o, "InterfacesAdded", &m);
        if (r >= 0)
                r = append_interfaces(b, m, o, true);
        return r < 0 ? r : bus_signal_send(b, m);
}

int bus_object_removed(Bus *b, const BusObject *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = new_manager_signal(b, o, "InterfacesRemoved", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "as", 1, o->interface);
        return r < 0 ? r : bus_signal_send(b, m);
}

static bool is_among(const char *name, const char *const *names) {
        for (; *names; names++)
                if (streq(*names, name))
                        return true;
        return false;
}

int bus_object_changed(Bus *b, const BusObject *o, const char *const *names) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(b->bus, &m, o->path, "org.freedesktop.DBus.Properties",
                                      "PropertiesChanged");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 's', o->interface);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        FOREACH_PROPERTY(v, o->vtable)
        if ((v->flags & SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE) &&
            is_among(v->x.property.member, names)) {
                r = append_property(b, m, o, v);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        FOREACH_PROPERTY(v, o->vtable)
        if (r >= 0 && (v->flags & SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION) &&
            is_among(v->x.property.member, names))
                r = sd_bus_message_append_basic(m, 's', v->x.property.member);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : bus_signal_send(b, m);
}

/* ---- GetManagedObjects ---- */

static int append_object(Bus *b, sd_bus_message *m, const BusObject *o) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "oa{sa{sv}}");
        if (r >= 0)
                r = sd_bus_message_append_basic(m, 'o', o->path);
        if (r >= 0)
                r = append_interfaces(b, m, o, false);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* The regions all at once: they are few, and their list has no place to go on from. */
static int begin_reply(Bus *b, ObjectsCall *c) {
        int r;

        r = sd_bus_message_new_method_return(c->call, &c->reply);
        if (r >= 0)
                r = sd_bus_message_open_container(c->reply, 'a', "{oa{sa{sv}}}");
        for (size_t i = 0; i < b->manager->n_regions && r >= 0; i++) {
                _cleanup_free_ char *path = NULL;
                BusObject o;

                r = bus_region_object(b->manager->regions[i], &path, &o);
                if (r >= 0)
                        r = append_object(b, c->reply, &o);
        }
        return r;
}

/* 1: it is complete; 0: to be continued. */
static int continue_reply(Bus *b, ObjectsCall *c, const Turn *turn) {
        int r;

        if (!c->reply) {
                r = begin_reply(b, c);
                if (r < 0)
                        return r;
        }
        for (;;) {
                _cleanup_free_ char *path = NULL;
                Lease key = {.id = c->next_lease}, *l;
                BusObject o;

                l = RB_NFIND(LeaseTree, &b->manager->leases, &key);
                if (!l)
                        break;
                c->next_lease = l->id + 1;
                if (l->hidden)
                        continue;
                r = bus_lease_object(l, &path, &o);
                if (r >= 0)
                        r = append_object(b, c->reply, &o);
                if (r < 0)
                        return r;
                if (turn_is_over(turn))
                        return 0;
        }
        r = sd_bus_message_close_container(c->reply);
        if (r >= 0)
                r = sd_bus_send(b->bus, c->reply, NULL);
        return r < 0 ? r : 1;
}

/* True: there is nothing more to do. */
static bool serve_objects(Bus *b) {
        Turn turn = turn_begin();
        ObjectsCall *c;

        while ((c = TAILQ_FIRST(&b->objects))) {
                int r = continue_reply(b, c, &turn);

                if (r == 0)
                        return false;
                if (r < 0)
                        (void) sd_bus_reply_method_errno(c->call, r, NULL);
                objects_call_free(b, c);
                send_held(b);
                if (turn_is_over(&turn))
                        break;
        }
        return TAILQ_EMPTY(&b->objects);
}

static int on_turn(sd_event_source *s, uint64_t usec, void *userdata);

static void serve_in_turns(Bus *b) {
        int r;

        if (serve_objects(b)) {
                b->objects_source = sd_event_source_disable_unref(b->objects_source);
                return;
        }
        r = turn_again(b->manager->event, &b->objects_source, on_turn, b);
        if (r >= 0)
                return;
        (void) log_error_errno(r, "Failed to go on in another turn: %m");
        while (!serve_objects(b))
                ;
}

static int on_turn(sd_event_source *s, uint64_t usec, void *userdata) {
        serve_in_turns(userdata);
        return 0;
}

static int on_get_objects(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *sender = sd_bus_message_get_sender(m);
        Bus *b = userdata;
        ObjectsCall *c;
        unsigned n = 0;

        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.ObjectManager",
                                          "GetManagedObjects") <= 0 ||
            *sd_bus_message_get_signature(m, true))
                return 0;
        TAILQ_FOREACH (c, &b->objects, link)
                n += streq_ptr(sd_bus_message_get_sender(c->call), sender);
        if (n >= OBJECTS_CALLS_MAX)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                         "%u such calls of yours are being answered; the limit is "
                                         "%u",
                                         n, OBJECTS_CALLS_MAX);
        c = malloc(sizeof(*c));
        if (!c)
                return -ENOMEM;
        *c = (ObjectsCall){.call = sd_bus_message_ref(m), .size = bus_reader_begin(b, sender)};
        TAILQ_INSERT_TAIL(&b->objects, c, link);
        if (!b->objects_source)
                serve_in_turns(b);
        return 1;
}

int bus_objects_add(Bus *b) {
        int r;

        r = sd_bus_add_object_manager(b->bus, NULL, EGM_PATH);
        return r < 0 ? r : sd_bus_add_object(b->bus, NULL, EGM_PATH, on_get_objects, b);
}

void bus_objects_forget(Bus *b, const char *sender) {
        ObjectsCall *c, *next;

        for (c = TAILQ_FIRST(&b->objects); c; c = next) {
                next = TAILQ_NEXT(c, link);
                if (streq_ptr(sd_bus_message_get_sender(c->call), sender))
                        objects_call_free(b, c);
        }
        /* Were they behind an answer that no longer comes: those that still ask have not begun. */
        c = TAILQ_FIRST(&b->objects);
        if (!c || !c->reply)
                send_held(b);
}

void bus_objects_free(Bus *b) {
        ObjectsCall *c;

        b->objects_source = sd_event_source_disable_unref(b->objects_source);
        while ((c = TAILQ_FIRST(&b->objects)))
                objects_call_free(b, c);
        send_held(b);
}
