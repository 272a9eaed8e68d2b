/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <grp.h>
#include <time.h>

#include "bus-internal.h"
#include "log-control.h"
#include "log.h"

/* Counters change with every call; who watches them wants the latest a few times a second. */
#define FLUSH_USEC (100 * USEC_PER_MSEC)
#define OVERREACH_SENT_MAX 16U

Bus *bus_of(Manager *m) {
        return m->observer_userdata;
}

int bus_refuse(sd_bus_error *reterr, int r, const EgmError *e) {
        if (e->kind != EGM_ERROR_NONE)
                return sd_bus_error_set(reterr, egm_error_kind_to_name(e->kind), e->message);
        /* A container read at its end or beside its type: the caller's fault, not ours. */
        if (r == -ENXIO || r == -EBADMSG)
                return sd_bus_error_set(reterr, SD_BUS_ERROR_INVALID_ARGS,
                                        "The arguments are not of the documented form");
        if (r == -EMFILE || r == -ENFILE)
                return sd_bus_error_set(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                        "egmd has no descriptors left");
        return sd_bus_error_set_errno(reterr, r);
}

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

#define STRV(...) ((const char *const[]){__VA_ARGS__, NULL})

static void flush(Bus *b) {
        Manager *m = b->manager;

        b->last_flush_usec = now_usec();
        for (size_t i = 0; i < m->n_regions; i++) {
                Region *region = m->regions[i];
                _cleanup_free_ char *path = NULL;
                BusObject o;

                if (!region->changed)
                        continue;
                region->changed = false;
                if (bus_region_object(region, &path, &o) >= 0)
                        (void) bus_object_changed(b, &o,
                                                  STRV("Size", "Free", "LargestFree", "Leased",
                                                       "Draining", "Dirty", "Scrubbing", "Retired",
                                                       "Scrubbed", "RetiredRanges", "Node",
                                                       "Socket", "Gpus", "GpuDrivers", "State",
                                                       "Reason", "Partitioning", "Isolation",
                                                       "IsolationReason", "Schedulable",
                                                       "Overreach"));
        }
        if (b->sockets_changed)
                (void) sd_bus_emit_properties_changed(b->bus, EGM_PATH, EGM_MANAGER_INTERFACE,
                                                      "Sockets", NULL);
        if (b->devices_changed)
                (void) sd_bus_emit_properties_changed(b->bus, EGM_PATH, EGM_MANAGER_INTERFACE,
                                                      "UnsupportedDevices", NULL);
        b->sockets_changed = b->devices_changed = false;
}

static void flush_later(Bus *b) {
        int enabled, r;

        if (!b->flush_source || sd_event_source_get_enabled(b->flush_source, &enabled) > 0)
                return;
        r = sd_event_source_set_time(b->flush_source, b->last_flush_usec + FLUSH_USEC);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->flush_source, SD_EVENT_ONESHOT);
        if (r < 0)
                (void) log_error_errno(r, "Failed to set the timer for changes: %m");
}

static int on_flush(sd_event_source *s, uint64_t usec, void *userdata) {
        Bus *b = userdata;

        if (bus_signals_are_held(b)) {
                /* They would only pile up. */
                b->last_flush_usec = now_usec();
                flush_later(b);
        } else
                flush(b);
        return 0;
}

static void on_region_changed(Region *region, void *userdata) {
        Bus *b = userdata;

        region->changed = true;
        b->sockets_changed = true;
        flush_later(b);
}

static void on_region_added(Region *region, void *userdata) {
        _cleanup_free_ char *path = NULL;
        Bus *b = userdata;
        BusObject o;

        if (bus_region_object(region, &path, &o) >= 0)
                (void) bus_object_added(b, &o);
        on_region_changed(region, b);
}

static void on_lease_added(Lease *l, void *userdata) {
        _cleanup_free_ char *path = NULL;
        BusObject o;

        if (bus_lease_object(l, &path, &o) >= 0)
                (void) bus_object_added(userdata, &o);
}

static void on_lease_changed(Lease *l, void *userdata) {
        _cleanup_free_ char *path = NULL;
        BusObject o;

        if (bus_lease_object(l, &path, &o) >= 0)
                (void) bus_object_changed(userdata, &o,
                                          STRV("State", "HolderPid", "Unit", "HeldUpBy"));
}

static void on_lease_removed(Lease *l, void *userdata) {
        _cleanup_free_ char *path = NULL;
        BusObject o;

        if (bus_lease_object(l, &path, &o) >= 0)
                (void) bus_object_removed(userdata, &o);
}

static int send_retired(Bus *b, const char *path, const char *region, const Ranges *pages) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(b->bus, &m, path, EGM_LEASE_INTERFACE, "RetiredPagesFound");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(stt)");
        if (r < 0)
                return r;
        RANGES_FOREACH (i, pages) {
                r = sd_bus_message_append(m, "(stt)", region, i->offset, i->size);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        return bus_signal_send(b, m);
}

static void on_lease_retired(Lease *l, const char *region, const Ranges *pages, void *userdata) {
        _cleanup_free_ char *path = NULL;
        Bus *b = userdata;
        BusObject o;
        int r;

        r = bus_lease_object(l, &path, &o);
        if (r >= 0)
                r = send_retired(b, path, region, pages);
        if (r >= 0)
                r = bus_object_changed(b, &o, STRV("RetiredRanges"));
        if (r < 0)
                (void) log_warning_errno(r, "Failed to tell of retired pages: %m");
}

static int send_overreach(Bus *b, const char *path, const char *kind, const Ranges *bytes,
                          bool ended) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        size_t n = 0;
        int r;

        r = sd_bus_message_new_signal(b->bus, &m, path, EGM_REGION_INTERFACE, "OverreachFound");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", kind);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(tt)");
        if (r < 0)
                return r;
        RANGES_FOREACH (i, bytes) {
                if (n++ == OVERREACH_SENT_MAX)
                        break;
                r = sd_bus_message_append(m, "(tt)", i->offset, i->size);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "b", (int) ended);
        if (r < 0)
                return r;
        return bus_signal_send(b, m);
}

/* Who it is, is root's to read: in the log, and as a property. */
static void on_overreach(Region *region, const char *kind, const Ranges *bytes, bool ended,
                         void *userdata) {
        _cleanup_free_ char *path = NULL;
        Bus *b = userdata;
        int r;

        r = bus_region_path(region, &path);
        if (r >= 0)
                r = send_overreach(b, path, kind, bytes, ended);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to tell of an overreach: %m");
}

static void on_devices_changed(Manager *m, void *userdata) {
        Bus *b = userdata;

        b->devices_changed = true;
        flush_later(b);
}

static const ManagerObserver observer = {
                .region_added = on_region_added,
                .region_changed = on_region_changed,
                .lease_added = on_lease_added,
                .lease_changed = on_lease_changed,
                .lease_removed = on_lease_removed,
                .lease_retired = on_lease_retired,
                .overreach = on_overreach,
                .devices_changed = on_devices_changed,
};

/* Calls to objects that are not there: the contract has names for two kinds of them. */
static int on_missing(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *path = sd_bus_message_get_path(m);
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Bus *b = userdata;
        void *found;
        int r;

        if (streq(path, EGM_LEASE_PATH) || streq(path, EGM_REGION_PATH))
                return 0;
        if (strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) == 0) {
                if (bus_lease_find(b->bus, path, NULL, b, &found, NULL) > 0)
                        return 0;
                r = egm_error_set(&e, EGM_ERROR_NO_SUCH_LEASE, "There is no lease %.64s",
                                  path + strlen(EGM_LEASE_PATH "/"));
        } else {
                if (bus_region_find(b->bus, path, NULL, b, &found, NULL) > 0)
                        return 0;
                r = egm_error_set(&e, EGM_ERROR_NO_SUCH_REGION, "There is no region %.64s",
                                  path + strlen(EGM_REGION_PATH "/"));
        }
        bus_polkit_drop(b, m);
        return bus_refuse(reterr, r, &e);
}

static int add_objects(Bus *b) {
        int r;

        r = bus_objects_add(b);
        if (r < 0)
                return r;
        r = sd_bus_add_object_vtable(b->bus, NULL, EGM_PATH, EGM_MANAGER_INTERFACE,
                                     bus_manager_vtable, b);
        if (r < 0)
                return r;
        r = bus_privacy_add(b);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback(b->bus, NULL, EGM_REGION_PATH, on_missing, b);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback(b->bus, NULL, EGM_LEASE_PATH, on_missing, b);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback_vtable(b->bus, NULL, EGM_REGION_PATH, EGM_REGION_INTERFACE,
                                       bus_region_vtable, bus_region_find, b);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback_vtable(b->bus, NULL, EGM_LEASE_PATH, EGM_LEASE_INTERFACE,
                                       bus_lease_vtable, bus_lease_find, b);
        if (r < 0)
                return r;
        r = sd_bus_add_node_enumerator(b->bus, NULL, EGM_REGION_PATH, bus_region_enumerate, b);
        if (r < 0)
                return r;
        r = sd_bus_add_node_enumerator(b->bus, NULL, EGM_LEASE_PATH, bus_lease_enumerate, b);
        if (r < 0)
                return r;
        return log_control_add(b->bus);
}

static int connect_bus(Bus *b, const char *address) {
        int r;

        if (!address)
                return sd_bus_open_system_with_description(&b->bus, "egmd");
        r = sd_bus_new(&b->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(b->bus, address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(b->bus, true);
        if (r < 0)
                return r;
        (void) sd_bus_negotiate_fds(b->bus, true);
        (void) sd_bus_set_description(b->bus, "egmd");
        return sd_bus_start(b->bus);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Bus *b = userdata;

        log_error("The connection to the bus is lost; leaving");
        return sd_event_exit(b->manager->event, EXIT_FAILURE);
}

int bus_new(Manager *m, const char *address, Bus **ret) {
        _cleanup_(bus_freep) Bus *b = NULL;
        int r;

        assert(m);
        assert(ret);

        b = malloc(sizeof(*b));
        if (!b)
                return -ENOMEM;
        *b = (Bus){.manager = m, .group = (gid_t) -1};
        TAILQ_INIT(&b->peers);
        TAILQ_INIT(&b->pending);
        TAILQ_INIT(&b->queries);
        TAILQ_INIT(&b->objects);
        r = connect_bus(b, address);
        if (r < 0)
                return log_error_errno(r, "Failed to connect to the bus: %m");
        r = sd_bus_attach_event(b->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(b->bus, NULL, "org.freedesktop.DBus.Local",
                                      "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                      "Disconnected", on_disconnected, NULL, b);
        if (r < 0)
                return r;
        r = sd_event_add_time(m->event, &b->flush_source, CLOCK_MONOTONIC, 0, 5 * USEC_PER_MSEC,
                              on_flush, b);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(b->flush_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = bus_bounds_watch(b);
        if (r < 0)
                return r;
        r = bus_peers_watch(b);
        if (r < 0)
                return r;
        r = add_objects(b);
        /* When memory runs out in there libsystemd forgets half of an object, and the connection is not freed without an
         * assertion: we end with an error as it is. */
        if (r == -ENOMEM)
                (void) TAKE_PTR(b->bus);
        if (r < 0)
                return log_error_errno(r, "Failed to show the objects on the bus: %m");
        manager_set_observer(m, &observer, b);
        *ret = TAKE_PTR(b);
        return 0;
}

/* A bus that had stopped listening to an egmd may not have noticed its end: who is sent something and is not there loses
 * the name. One that is there answers. */
static bool owner_answers(Bus *b) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        if (sd_bus_message_new_method_call(b->bus, &m, EGM_BUS_NAME, EGM_PATH,
                                           "org.freedesktop.DBus.Peer", "Ping") < 0)
                return true;
        return sd_bus_call(b->bus, m, 5 * USEC_PER_SEC, NULL, NULL) >= 0;
}

int bus_start(Bus *b) {
        const struct group *g;
        int r;

        assert(b);

        r = sd_bus_request_name(b->bus, EGM_BUS_NAME, 0);
        if (r == -EEXIST && !owner_answers(b))
                r = sd_bus_request_name(b->bus, EGM_BUS_NAME, 0);
        if (r == -EEXIST || r == -EALREADY)
                return log_error_errno(r, "The name " EGM_BUS_NAME
                                          " is taken: is another egmd running on this bus?");
        if (r < 0)
                return log_error_errno(r, "Failed to take the name " EGM_BUS_NAME ": %m");
        /* It takes as long as all the rest, and no call is looked at before the loop runs. */
        g = getgrnam(EGM_GROUP);
        if (g)
                b->group = g->gr_gid;
        return 0;
}

void bus_stop(Bus *b) {
        if (!b || bus_is_stuck(b))
                return;
        bus_peers_stop(b);
        bus_objects_free(b);
        flush(b);
        (void) sd_bus_release_name(b->bus, EGM_BUS_NAME);
        (void) sd_bus_flush(b->bus);
}

Bus *bus_free(Bus *b) {
        if (!b)
                return NULL;
        if (b->manager->observer_userdata == b)
                manager_set_observer(b->manager, NULL, NULL);
        bus_polkit_forget(b, NULL);
        bus_acquire_forget(b, NULL);
        bus_objects_free(b);
        bus_peers_free(b);
        b->readers_source = sd_event_source_disable_unref(b->readers_source);
        b->own_stats = sd_bus_slot_unref(b->own_stats);
        b->flush_source = sd_event_source_disable_unref(b->flush_source);
        bus_bounds_free(b);
        /* Not flushed: that waits for ever where the connection never came to be, and bus_stop() has done it otherwise. */
        b->bus = sd_bus_close_unref(b->bus);
        return mfree(b);
}
