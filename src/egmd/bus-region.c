/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "confine.h"
#include "log.h"
#include "region-scrub.h"

int bus_region_path(const Region *r, char **ret) {
        return sd_bus_path_encode(EGM_REGION_PATH, r->name, ret);
}

int bus_region_find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                    void **ret, sd_bus_error *reterr) {
        _cleanup_free_ char *name = NULL;
        Bus *b = userdata;
        Region *region;
        int r;

        r = sd_bus_path_decode(path, EGM_REGION_PATH, &name);
        if (r <= 0)
                return r;
        region = manager_find_region(b->manager, name);
        if (!region)
                return 0;
        *ret = region;
        return 1;
}

int bus_region_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                         sd_bus_error *reterr) {
        const Manager *m = ((Bus *) userdata)->manager;
        char **l;

        l = calloc(m->n_regions + 1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_regions; i++) {
                int r = bus_region_path(m->regions[i], l + i);

                if (r < 0) {
                        for (size_t k = 0; k < i; k++)
                                free(l[k]);
                        free(l);
                        return r;
                }
        }
        *ret = l;
        return 1;
}

static int get_string(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Region *region = userdata;
        const char *s = "";

        if (streq(property, "Name"))
                s = region->name;
        else if (streq(property, "DevicePath"))
                s = region->info->devnode;
        else if (streq(property, "State"))
                s = region_state_to_string(region->state);
        else if (streq(property, "Reason"))
                s = region->held_by && bus_may_read(bus_of(region->manager), reply, (uid_t) -1)
                                    ? region->held_by
                                    : region->reason;
        else if (streq(property, "Partitioning"))
                s = region_whole_only(region) ? "whole-only" : "full";
        else if (streq(property, "Driver"))
                s = region_driver(region);
        else if (streq(property, "IsolationReason"))
                s = confine_reason(region);
        else if (streq(property, "Isolation"))
                s = region->enforced ? "enforced" : "cooperative";
        return sd_bus_message_append(reply, "s", s ?: "");
}

static int get_bytes(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        static const struct {
                const char *name;
                ExtentState state;
        } table[] = {
                        {"Free", EXTENT_FREE},           {"Leased", EXTENT_LEASED},
                        {"Draining", EXTENT_DRAINING},   {"Dirty", EXTENT_DIRTY},
                        {"Scrubbing", EXTENT_SCRUBBING}, {"Retired", EXTENT_RETIRED},
        };
        const Region *region = userdata;
        uint64_t v = 0;

        if (streq(property, "Granule"))
                v = region_granule(region);
        else if (streq(property, "Scrubbed"))
                v = region_scrub_progress(region);
        else if (streq(property, "LargestFree"))
                v = region_largest_free(region);
        else if (streq(property, "Size"))
                v = region->map ? extent_map_size(region->map) : 0;
        else
                for (size_t i = 0; i < ELEMENTSOF(table) && region->map; i++)
                        if (streq(table[i].name, property))
                                v = extent_map_bytes(region->map, table[i].state);
        return sd_bus_message_append(reply, "t", v);
}

static int get_index(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Region *region = userdata;

        return sd_bus_message_append(reply, "i",
                                     streq(property, "Node") ? region->info->node
                                                             : region->info->socket);
}

static int get_schedulable(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *reterr) {
        const Region *region = userdata;

        return sd_bus_message_append(reply, "b", (int) region->schedulable);
}

static int get_retired(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Region *region = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(tt)");
        if (r < 0)
                return r;
        RANGES_FOREACH (i, &region->retired) {
                r = sd_bus_message_append(reply, "(tt)", i->offset, i->size);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int get_extents(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Region *region = userdata;
        Extent e;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(ttss)");
        if (r < 0)
                return r;
        for (uint64_t at = 0; region->map && extent_map_get(region->map, at, &e);
             at = e.offset + e.size) {
                char id[32] = "";

                if (e.owner > 0)
                        (void) snprintf(id, sizeof(id), "%" PRIu64, e.owner);
                r = sd_bus_message_append(reply, "(ttss)", e.offset, e.size,
                                          extent_state_to_string(e.state), id);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int get_gpus(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append_strv(reply, (char **) ((const Region *) userdata)->gpus);
}

static int get_gpu_drivers(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *reterr) {
        const RegionInfo *info = ((const Region *) userdata)->info;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(ss)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < info->n_gpus; i++) {
                r = sd_bus_message_append(reply, "(ss)", info->gpus[i].address,
                                          info->gpus[i].driver ?: "");
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

/* Of who maps in thousands of pieces, as many as fit into a line of a table. */
#define OVERREACH_SHOWN_MAX 16U

static int append_finding(sd_bus_message *reply, const Finding *f, bool named) {
        int r;

        for (OverreachKind k = 0; k < _OVERREACH_KIND_MAX; k++) {
                unsigned n = 0;

                RANGES_FOREACH (i, f->bytes.bytes + k) {
                        if (n++ == OVERREACH_SHOWN_MAX)
                                break;
                        r = sd_bus_message_append(reply, "(sttus)", overreach_kind_to_string(k),
                                                  i->offset, i->size, named ? (uint32_t) f->pid : 0,
                                                  named ? f->comm : "");
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int get_overreach(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const Region *region = userdata;
        const Watcher *w = region->manager->watcher;
        bool named = bus_may_read(bus_of(region->manager), reply, (uid_t) -1);
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(sttus)");
        if (r < 0)
                return r;
        for (const Finding *f = watcher_next(w, region, NULL); f; f = watcher_next(w, region, f)) {
                r = append_finding(reply, f, named);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

static int method_set_schedulable(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Region *region = userdata;
        Bus *b = bus_of(region->manager);
        Peer *peer;
        int on, r;

        r = bus_peer_get(b, m, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (!bus_peer_is_root(peer)) {
                r = bus_polkit_check(peer, m, POLKIT_MANAGE,
                                     (const char *const[]){"region", region->name, NULL}, reterr);
                if (r == -EACCES && !sd_bus_error_is_set(reterr))
                        return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                                 "Only root may switch lending on and off, and you "
                                                 "are uid %u",
                                                 (unsigned) peer->uid);
                if (r <= 0)
                        return r < 0 ? r : 1;
        }
        r = sd_bus_message_read(m, "b", &on);
        if (r < 0)
                return r;
        r = region_set_schedulable(region, on);
        if (r < 0)
                return sd_bus_error_set_errnof(reterr, r, "Failed to write that down for %s: %s",
                                               region->name, strerror(-r));
        return sd_bus_reply_method_return(m, NULL);
}

#define BYTES(name) SD_BUS_PROPERTY(name, "t", get_bytes, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

const sd_bus_vtable bus_region_vtable[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_METHOD_WITH_ARGS("SetSchedulable", SD_BUS_ARGS("b", schedulable),
                                        SD_BUS_NO_RESULT, method_set_schedulable,
                                        SD_BUS_VTABLE_UNPRIVILEGED),
                SD_BUS_PROPERTY("Name", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("DevicePath", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                BYTES("Size"),
                BYTES("Free"),
                BYTES("LargestFree"),
                BYTES("Leased"),
                BYTES("Draining"),
                BYTES("Dirty"),
                BYTES("Scrubbing"),
                BYTES("Retired"),
                BYTES("Scrubbed"),
                SD_BUS_PROPERTY("RetiredRanges", "a(tt)", get_retired, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Extents", "a(ttss)", get_extents, 0,
                                SD_BUS_VTABLE_PROPERTY_EXPLICIT),
                SD_BUS_PROPERTY("Granule", "t", get_bytes, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("Node", "i", get_index, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Socket", "i", get_index, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Gpus", "as", get_gpus, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("GpuDrivers", "a(ss)", get_gpu_drivers, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("State", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Reason", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_PROPERTY("Partitioning", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Driver", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
                SD_BUS_PROPERTY("Isolation", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("IsolationReason", "s", get_string, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Schedulable", "b", get_schedulable, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
                SD_BUS_PROPERTY("Overreach", "a(sttus)", get_overreach, 0,
                                SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
                SD_BUS_SIGNAL_WITH_ARGS("OverreachFound",
                                        SD_BUS_ARGS("s", kind, "a(tt)", ranges, "b", ended), 0),
                SD_BUS_VTABLE_END,
};

int bus_region_object(Region *r, char **ret_path, BusObject *ret) {
        int k;

        k = bus_region_path(r, ret_path);
        if (k < 0)
                return k;
        *ret = (BusObject){.path = *ret_path,
                           .interface = EGM_REGION_INTERFACE,
                           .vtable = bus_region_vtable,
                           .userdata = r};
        return 0;
}
