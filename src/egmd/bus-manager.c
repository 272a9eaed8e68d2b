/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "s", EGMD_VERSION);
}

static int get_sockets(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        _cleanup_free_ SocketCapacity *list = NULL;
        Bus *b = userdata;
        size_t n;
        int r;

        r = manager_capacity(b->manager, &list, &n);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(reply, 'a', "(itttt)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                r = sd_bus_message_append(reply, "(itttt)", list[i].socket, list[i].size,
                                          list[i].free, list[i].leased, list[i].retired);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int get_waiting(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        Bus *b = userdata;
        uint32_t position = 0;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(uusttt)");
        if (r < 0)
                return r;
        for (Waiter *w = waiter_next(b->manager, NULL); w; w = waiter_next(b->manager, w)) {
                const AcquireRequest *q = waiter_request(w);

                r = sd_bus_message_append(reply, "(uusttt)", ++position, (uint32_t) q->uid,
                                          bus_may_read(b, reply, q->uid) && q->label ? q->label
                                                                                     : "",
                                          acquire_request_bytes(q), waiter_since_usec(w),
                                          waiter_deadline_usec(w));
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int get_unsupported(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *reterr) {
        Bus *b = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(st)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < b->manager->n_unsupported; i++) {
                r = sd_bus_message_append(reply, "(st)", b->manager->unsupported[i].address,
                                          b->manager->unsupported[i].size);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Manager *m = ((Bus *) userdata)->manager;
        const struct {
                const char *name;
                char type;
                uint64_t value;
        } table[] = {
                        {"LeaseCount", 'u', m->n_leases},
                        {"Granted", 't', m->counters.granted},
                        {"Refused", 't', m->counters.refused},
                        {"Ended", 't', m->counters.ended},
                        {"ScrubbedBytes", 't', m->counters.scrubbed_bytes},
                        {"BadPages", 't', m->counters.bad_pages},
                        {"Overreaches", 't', m->counters.overreaches},
                        {"LeasesMax", 'u', m->config->leases_max},
                        {"SlicesMax", 'u', EGM_SLICES_MAX},
                        {"WaitingMax", 'u', m->config->waiting_max},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(table[i].name, property))
                        return table[i].type == 'u'
                                               ? sd_bus_message_append(reply, "u",
                                                                       (uint32_t) table[i].value)
                                               : sd_bus_message_append(reply, "t", table[i].value);
        assert(false);
        return -ENOENT;
}

static int get_offset_allowed(sd_bus *bus, const char *path, const char *interface,
                              const char *property, sd_bus_message *reply, void *userdata,
                              sd_bus_error *reterr) {
        const Bus *b = userdata;

        return sd_bus_message_append(reply, "b", (int) b->manager->config->egm_offset_allowed);
}

const sd_bus_vtable bus_manager_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD_WITH_ARGS("AcquireLease", SD_BUS_ARGS("a{sv}", options),
                                        SD_BUS_RESULT("o", lease, "h", lifetime, "a(shtt)", slices),
                                        bus_method_acquire, SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_METHOD_WITH_ARGS("GetQuotas", SD_BUS_ARGS("a{sv}", options),
                                        SD_BUS_RESULT("aa{sv}", quotas), bus_method_get_quotas,
                                        SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("Sockets", "a(itttt)", get_sockets, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Waiting", "a(uusttt)", get_waiting, 0, 0),
                SD_BUS_PROPERTY("UnsupportedDevices", "a(st)", get_unsupported, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("LeaseCount", "u", get_number, 0, 0),
                SD_BUS_PROPERTY("Granted", "t", get_number, 0, 0),
                SD_BUS_PROPERTY("Refused", "t", get_number, 0, 0),
                SD_BUS_PROPERTY("Ended", "t", get_number, 0, 0),
                SD_BUS_PROPERTY("ScrubbedBytes", "t", get_number, 0, 0),
                SD_BUS_PROPERTY("BadPages", "t", get_number, 0, 0),
                SD_BUS_PROPERTY("Overreaches", "t", get_number, 0, 0),
                SD_BUS_PROPERTY("LeasesMax", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("SlicesMax", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("WaitingMax", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("EgmOffsetAllowed", "b", get_offset_allowed, 0,
                                SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_VTABLE_END,
};
