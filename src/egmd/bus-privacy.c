/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "log-control.h"

/* Status is for everybody, but who a tenant is, is his own and root's to know: labels, processes, units. A property's getter
 * decides by who reads the message that it writes to. Signals are read by everybody and so never hold any of
 * this, whoever's call they are sent in: these properties are announced as changed, without a value.
 *
 * Getters cannot wait until the bus has said who a reader is. So calls that read are held before they get there. */

static bool reads_properties(sd_bus_message *m) {
        return sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Get") > 0 ||
               sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "GetAll") > 0;
}

static bool reads_objects(sd_bus_message *m) {
        return sd_bus_message_is_method_call(m, "org.freedesktop.DBus.ObjectManager",
                                             "GetManagedObjects") > 0;
}

/* By somebody whose name is not everybody's to know. */
static bool any_region_held(const Manager *m) {
        for (size_t i = 0; i < m->n_regions; i++)
                if (m->regions[i]->held_by || watcher_next(m->watcher, m->regions[i], NULL))
                        return true;
        return false;
}

/* 0: go on; 1: it comes again. */
static int know_reader(Bus *b, sd_bus_message *m, sd_bus_error *reterr) {
        Peer *peer;
        int r;

        r = bus_peer_get(b, m, &peer, reterr);
        return r < 0 ? r : r == 0;
}

static int on_manager(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Bus *b = userdata;
        const Manager *manager = b->manager;

        if ((reads_properties(m) && manager_has_waiters(manager)) ||
            (reads_objects(m) && (!RB_EMPTY(&manager->leases) || any_region_held(manager))))
                return know_reader(b, m, reterr);
        return 0;
}

static int on_region(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Bus *b = userdata;

        return reads_properties(m) && any_region_held(b->manager) ? know_reader(b, m, reterr) : 0;
}

static int on_lease(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return reads_properties(m) ? know_reader(userdata, m, reterr) : 0;
}

/* sd-bus would ask the bus who that is, and stand still until it has said so. */
static int on_log_control(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Peer *peer;
        int r;

        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Set") <= 0)
                return 0;
        r = bus_peer_get(userdata, m, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (bus_peer_is_root(peer))
                return 0;
        return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                 "Only root may change what egmd logs, and you are uid %u",
                                 (unsigned) peer->uid);
}

int bus_privacy_add(Bus *b) {
        int r;

        r = sd_bus_add_object(b->bus, NULL, LOG_CONTROL_PATH, on_log_control, b);
        if (r < 0)
                return r;
        r = sd_bus_add_object(b->bus, NULL, EGM_PATH, on_manager, b);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback(b->bus, NULL, EGM_REGION_PATH, on_region, b);
        if (r < 0)
                return r;
        return sd_bus_add_fallback(b->bus, NULL, EGM_LEASE_PATH, on_lease, b);
}

/* A signal is sent to nobody in particular. */
bool bus_may_read(Bus *b, sd_bus_message *reply, uid_t owner) {
        const char *reader = sd_bus_message_get_destination(reply);
        const Peer *p = reader ? bus_peer_find(b, reader) : NULL;

        return p && p->known && (bus_peer_is_root(p) || p->uid == owner);
}
