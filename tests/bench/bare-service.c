/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The floor of the call path: a service made with sd-bus that has egmd's arguments, a descriptor for the memory and
 * one for the lifetime in the reply, an object for each lease, InterfacesAdded and InterfacesRemoved for it, and does
 * nothing else: no check of anything, no account, no state, no watching.
 *     bare-service ADDRESS [PROPERTIES]        PROPERTIES: of a lease's object, 0 or 6 */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "bench.h"
#include "egm-names.h"
#include "fd-util.h"

#define BARE_NAME "org.nvidia.EgmBare1"

typedef struct BareLease {
        sd_bus_slot *slot;
        int lifetime;
        uint64_t created;
        uint32_t uid;
        const char *state, *lifetime_kind;
        char *label;
        char id[32];
        char path[64];
} BareLease;

typedef struct Bare {
        int memory;
        uint64_t next;
        const sd_bus_vtable *lease_vtable;
} Bare;

static int get_id(sd_bus *bus, const char *path, const char *interface, const char *property,
                  sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append_basic(reply, 's', ((const BareLease *) userdata)->id);
}

static int method_release(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        BareLease *l = userdata;
        int r;

        r = sd_bus_message_skip(m, "a{sv}");
        if (r < 0)
                return r;
        (void) sd_bus_emit_object_removed(sd_bus_message_get_bus(m), l->path);
        r = sd_bus_reply_method_return(m, NULL);
        sd_bus_slot_unref(l->slot);
        safe_close(l->lifetime);
        free(l->label);
        free(l);
        return r;
}

#define LEASE_METHODS \
        SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, \
                                method_release, SD_BUS_VTABLE_UNPRIVILEGED)

static const sd_bus_vtable lease_vtable[] = {
                SD_BUS_VTABLE_START(0),
                LEASE_METHODS,
                SD_BUS_PROPERTY("Id", "s", get_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("Label", "s", NULL, offsetof(BareLease, label),
                                SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("State", "s", NULL, offsetof(BareLease, state),
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Lifetime", "s", NULL, offsetof(BareLease, lifetime_kind),
                                SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("OwnerUid", "u", NULL, offsetof(BareLease, uid),
                                SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("CreatedUSec", "t", NULL, offsetof(BareLease, created),
                                SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_VTABLE_END,
};

static const sd_bus_vtable plain_vtable[] = {
                SD_BUS_VTABLE_START(0),
                LEASE_METHODS,
                SD_BUS_VTABLE_END,
};

static int send_lease(sd_bus_message *call, const Bare *b, const BareLease *l, int lifetime) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(call, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "oha(shtt)", l->path, lifetime, 1, "egm4", b->memory,
                                  l->created, l->created);
        if (r < 0)
                return r;
        return sd_bus_send(NULL, reply, NULL);
}

static int method_acquire(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_close_ int lifetime = -EBADF;
        sd_bus *bus = sd_bus_message_get_bus(m);
        Bare *b = userdata;
        BareLease *l;
        int fds[2], r;

        r = sd_bus_message_skip(m, "a{sv}");
        if (r < 0)
                return r;
        l = calloc(1, sizeof(*l));
        if (!l || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -ENOMEM;
        lifetime = fds[1];
        l->lifetime = fds[0];
        l->state = "active";
        l->lifetime_kind = "descriptor";
        l->label = strdup("");
        (void) snprintf(l->id, sizeof(l->id), "%" PRIu64, b->next++);
        (void) snprintf(l->path, sizeof(l->path), EGM_LEASE_PATH "/%s", l->id);
        r = sd_bus_add_object_vtable(bus, &l->slot, l->path, EGM_LEASE_INTERFACE, b->lease_vtable,
                                     l);
        if (r < 0)
                return r;
        r = sd_bus_emit_object_added(bus, l->path);
        if (r < 0)
                return r;
        return send_lease(m, b, l, lifetime);
}

static const sd_bus_vtable manager_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD_WITH_ARGS("AcquireLease", SD_BUS_ARGS("a{sv}", options),
                                        SD_BUS_RESULT("o", lease, "h", lifetime, "a(shtt)", slices),
                                        method_acquire, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_VTABLE_END,
};

int main(int argc, char *argv[]) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        Bare b = {.next = 1, .lease_vtable = lease_vtable};

        if (argc < 2)
                errx(EXIT_FAILURE, "usage: bare-service ADDRESS [0|6]");
        if (argc > 2 && streq(argv[2], "0"))
                b.lease_vtable = plain_vtable;
        b.memory = memfd_create("bare", MFD_CLOEXEC);
        if (b.memory < 0)
                err(EXIT_FAILURE, "memfd_create");
        bench_check(sd_event_default(&event), "sd_event_default");
        bench_check(sd_bus_new(&bus), "sd_bus_new");
        bench_check(sd_bus_set_address(bus, argv[1]), "address");
        bench_check(sd_bus_set_bus_client(bus, true), "client");
        bench_check(sd_bus_negotiate_fds(bus, true), "descriptors");
        bench_check(sd_bus_start(bus), "connecting");
        bench_check(sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL), "attaching");
        bench_check(sd_bus_add_object_manager(bus, NULL, EGM_PATH), "object manager");
        bench_check(sd_bus_add_object_vtable(bus, NULL, EGM_PATH, EGM_MANAGER_INTERFACE,
                                             manager_vtable, &b),
                    "vtable");
        bench_check(sd_bus_request_name(bus, BARE_NAME, 0), "name");
        bench_check(sd_event_loop(event), "loop");
        return EXIT_SUCCESS;
}
