/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "properties.h"

struct egm_region {
        unsigned n_ref;
        char *name;
        char *device_path;
        uint64_t size;
        uint64_t free;
        uint64_t largest_free;
        uint64_t leased;
        uint64_t draining;
        uint64_t dirty;
        uint64_t scrubbing;
        uint64_t retired;
        uint64_t scrubbed;
        uint64_t granule;
        int32_t node;
        int32_t socket;
        char *state;
        char *reason;
        char *partitioning;
        char *driver;
        char *isolation;
        char *isolation_reason;
        int schedulable;
        Table retired_ranges;
        Table gpus;
        Table gpu_drivers;
        Table overreach;
};

static const Property properties[] = {
                PROPERTY(egm_region, "Name", "s", name),
                PROPERTY(egm_region, "DevicePath", "s", device_path),
                PROPERTY(egm_region, "Size", "t", size),
                PROPERTY(egm_region, "Free", "t", free),
                PROPERTY(egm_region, "LargestFree", "t", largest_free),
                PROPERTY(egm_region, "Leased", "t", leased),
                PROPERTY(egm_region, "Draining", "t", draining),
                PROPERTY(egm_region, "Dirty", "t", dirty),
                PROPERTY(egm_region, "Scrubbing", "t", scrubbing),
                PROPERTY(egm_region, "Retired", "t", retired),
                PROPERTY(egm_region, "Scrubbed", "t", scrubbed),
                PROPERTY_TABLE(egm_region, "RetiredRanges", "tt", retired_ranges),
                PROPERTY(egm_region, "Granule", "t", granule),
                PROPERTY(egm_region, "Node", "i", node),
                PROPERTY(egm_region, "Socket", "i", socket),
                PROPERTY_STRINGS(egm_region, "Gpus", gpus),
                PROPERTY_TABLE(egm_region, "GpuDrivers", "ss", gpu_drivers),
                PROPERTY(egm_region, "State", "s", state),
                PROPERTY(egm_region, "Reason", "s", reason),
                PROPERTY(egm_region, "Partitioning", "s", partitioning),
                PROPERTY(egm_region, "Driver", "s", driver),
                PROPERTY(egm_region, "Isolation", "s", isolation),
                PROPERTY(egm_region, "IsolationReason", "s", isolation_reason),
                PROPERTY(egm_region, "Schedulable", "b", schedulable),
                PROPERTY_TABLE(egm_region, "Overreach", "sttus", overreach),
};

static void region_free(egm_region *region) {
        properties_done(properties, ELEMENTSOF(properties), region);
        free(region);
}

DEFINE_REF_UNREF(egm_region, region_free)

int region_from_properties(sd_bus_message *m, const char *name, egm_region **ret) {
        _cleanup_egm_(region) egm_region *region = NULL;
        int r;

        region = calloc(1, sizeof(*region));
        if (!region)
                return -ENOMEM;
        region->n_ref = 1;
        region->node = region->socket = -1;
        r = properties_read(m, properties, ELEMENTSOF(properties), region);
        if (r < 0)
                return r;
        if (!streq_ptr(region->name, name))
                return -EBADMSG;
        *ret = TAKE_PTR(region);
        return 0;
}

_public_ int egm_get_region(egm_connection *c, const char *name, egm_region **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *path = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!name || !ret)
                return -EINVAL;
        if (!name_is_valid(name))
                return connection_refuse(c, -ENODEV, "There is no region '%s'", name);
        r = path_from_name(EGM_REGION_PATH, name, &path);
        if (r < 0)
                return r;
        r = connection_get_all(c, path, EGM_REGION_INTERFACE, &m);
        if (r < 0)
                return connection_no_object(c, r, -ENODEV, "region", name);
        return region_from_properties(m, name, ret);
}

DEFINE_STRING_GETTER(region, name)
DEFINE_STRING_GETTER(region, device_path)
DEFINE_GETTER(region, uint64_t, size, 0)
DEFINE_GETTER(region, uint64_t, free, 0)
DEFINE_GETTER(region, uint64_t, largest_free, 0)
DEFINE_GETTER(region, uint64_t, leased, 0)
DEFINE_GETTER(region, uint64_t, draining, 0)
DEFINE_GETTER(region, uint64_t, dirty, 0)
DEFINE_GETTER(region, uint64_t, scrubbing, 0)
DEFINE_GETTER(region, uint64_t, scrubbed, 0)
DEFINE_GETTER(region, uint64_t, retired, 0)
DEFINE_GETTER(region, uint64_t, granule, 0)
DEFINE_GETTER(region, int, node, -1)
DEFINE_GETTER(region, int, socket, -1)
DEFINE_STRING_GETTER(region, state)
DEFINE_STRING_GETTER(region, reason)
DEFINE_STRING_GETTER(region, partitioning)
DEFINE_STRING_GETTER(region, driver)
DEFINE_STRING_GETTER(region, isolation)
DEFINE_STRING_GETTER(region, isolation_reason)
DEFINE_GETTER(region, int, schedulable, 0)

_public_ size_t egm_region_count_gpus(egm_region *region) {
        return region ? region->gpus.n_rows : 0;
}

_public_ int egm_region_get_gpu(egm_region *region, size_t i, const char **ret_address,
                                const char **ret_driver) {
        const char *address, *driver = "";

        if (!region || !table_has(&region->gpus, i))
                return -EINVAL;
        address = table_string(&region->gpus, i, 0);
        for (size_t j = 0; table_has(&region->gpu_drivers, j); j++)
                if (streq(table_string(&region->gpu_drivers, j, 0), address))
                        driver = table_string(&region->gpu_drivers, j, 1);
        if (ret_address)
                *ret_address = address;
        if (ret_driver)
                *ret_driver = driver;
        return 0;
}

_public_ size_t egm_region_count_retired_ranges(egm_region *region) {
        return region ? region->retired_ranges.n_rows : 0;
}

_public_ int egm_region_get_retired_range(egm_region *region, size_t i, uint64_t *ret_offset,
                                          uint64_t *ret_size) {
        if (!region || !table_has(&region->retired_ranges, i))
                return -EINVAL;
        if (ret_offset)
                *ret_offset = table_number(&region->retired_ranges, i, 0);
        if (ret_size)
                *ret_size = table_number(&region->retired_ranges, i, 1);
        return 0;
}

_public_ size_t egm_region_count_overreach(egm_region *region) {
        return region ? region->overreach.n_rows : 0;
}

_public_ int egm_region_get_overreach(egm_region *region, size_t i, const char **ret_kind,
                                      uint64_t *ret_offset, uint64_t *ret_size, uint32_t *ret_pid,
                                      const char **ret_command) {
        if (!region || !table_has(&region->overreach, i))
                return -EINVAL;
        if (ret_kind)
                *ret_kind = table_string(&region->overreach, i, 0);
        if (ret_offset)
                *ret_offset = table_number(&region->overreach, i, 1);
        if (ret_size)
                *ret_size = table_number(&region->overreach, i, 2);
        if (ret_pid)
                *ret_pid = (uint32_t) table_number(&region->overreach, i, 3);
        if (ret_command)
                *ret_command = table_string(&region->overreach, i, 4);
        return 0;
}

/* ---- Extents ---- */

struct egm_extents {
        unsigned n_ref;
        Table table;
};

static void extents_free(egm_extents *e) {
        table_done(&e->table);
        free(e);
}

DEFINE_REF_UNREF(egm_extents, extents_free)

static int extents_from_message(sd_bus_message *m, egm_extents **ret) {
        _cleanup_egm_(extents) egm_extents *e = NULL;
        int r;

        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        e->n_ref = 1;
        r = sd_bus_message_enter_container(m, 'v', "a(ttss)");
        if (r < 0)
                return bad_message(r);
        r = table_read(m, "ttss", &e->table);
        if (r < 0)
                return bad_message(r);
        *ret = TAKE_PTR(e);
        return 0;
}

_public_ int egm_get_extents(egm_connection *c, const char *region, egm_extents **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ char *path = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!region || !ret)
                return -EINVAL;
        if (!name_is_valid(region))
                return connection_refuse(c, -ENODEV, "There is no region '%s'", region);
        r = path_from_name(EGM_REGION_PATH, region, &path);
        if (r < 0)
                return r;
        r = connection_new_call(c, path, "org.freedesktop.DBus.Properties", "Get", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", EGM_REGION_INTERFACE, "Extents");
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, &reply);
        if (r < 0)
                return connection_no_object(c, r, -ENODEV, "region", region);
        return extents_from_message(reply, ret);
}

_public_ size_t egm_extents_count(egm_extents *e) {
        return e ? e->table.n_rows : 0;
}

_public_ int egm_extents_get(egm_extents *e, size_t i, uint64_t *ret_offset, uint64_t *ret_size,
                             const char **ret_state, const char **ret_lease) {
        if (!e || !table_has(&e->table, i))
                return -EINVAL;
        if (ret_offset)
                *ret_offset = table_number(&e->table, i, 0);
        if (ret_size)
                *ret_size = table_number(&e->table, i, 1);
        if (ret_state)
                *ret_state = table_string(&e->table, i, 2);
        if (ret_lease)
                *ret_lease = table_string(&e->table, i, 3);
        return 0;
}
