/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "describe.h"

static int add_string(json_object *o, const char *key, const char *value) {
        return json_add(o, key, json_object_new_string(value));
}

static int add_number(json_object *o, const char *key, uint64_t value) {
        return json_add(o, key, json_object_new_uint64(value));
}

static int add_int(json_object *o, const char *key, int value) {
        return json_add(o, key, json_object_new_int(value));
}

json_object *range_to_json(const char *region, uint64_t offset, uint64_t size) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if ((region && add_string(o, "region", region) < 0) ||
            add_number(o, "offset", offset) < 0 || add_number(o, "size", size) < 0)
                return NULL;
        return TAKE_PTR(o);
}

/* ---- Regions ---- */

static json_object *region_retired(egm_region *region) {
        _cleanup_json_ json_object *a = json_object_new_array();
        uint64_t offset, size;

        for (size_t i = 0; egm_region_get_retired_range(region, i, &offset, &size) >= 0; i++)
                if (json_append(a, range_to_json(NULL, offset, size)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

static json_object *new_gpu(const char *address, const char *driver) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (add_string(o, "address", address) < 0 || add_string(o, "driver", driver) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *region_gpus(egm_region *region) {
        _cleanup_json_ json_object *a = json_object_new_array();
        const char *address, *driver;

        for (size_t i = 0; egm_region_get_gpu(region, i, &address, &driver) >= 0; i++)
                if (json_append(a, new_gpu(address, driver)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

static int add_bytes(json_object *o, egm_region *r) {
        const struct {
                const char *key;
                uint64_t value;
        } table[] = {
                        {"size", egm_region_get_size(r)},
                        {"free", egm_region_get_free(r)},
                        {"largest_free", egm_region_get_largest_free(r)},
                        {"leased", egm_region_get_leased(r)},
                        {"draining", egm_region_get_draining(r)},
                        {"dirty", egm_region_get_dirty(r)},
                        {"scrubbing", egm_region_get_scrubbing(r)},
                        {"retired", egm_region_get_retired(r)},
                        {"scrubbed", egm_region_get_scrubbed(r)},
                        {"granule", egm_region_get_granule(r)},
        };
        int k = 0;

        for (size_t i = 0; i < ELEMENTSOF(table) && k >= 0; i++)
                k = add_number(o, table[i].key, table[i].value);
        return k;
}

static json_object *region_overreach(egm_region *region) {
        _cleanup_json_ json_object *a = json_object_new_array();
        const char *kind, *command;
        uint64_t offset, size;
        uint32_t pid;

        for (size_t i = 0;
             egm_region_get_overreach(region, i, &kind, &offset, &size, &pid, &command) >= 0; i++) {
                _cleanup_json_ json_object *o = json_object_new_object();

                if (add_string(o, "kind", kind) < 0 || add_number(o, "offset", offset) < 0 ||
                    add_number(o, "size", size) < 0 || add_number(o, "pid", pid) < 0 ||
                    add_string(o, "command", command) < 0 || json_append(a, TAKE_PTR(o)) < 0)
                        return NULL;
        }
        return TAKE_PTR(a);
}

json_object *region_to_json(egm_region *r) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (add_string(o, "name", egm_region_get_name(r)) < 0 ||
            add_string(o, "device_path", egm_region_get_device_path(r)) < 0 ||
            add_bytes(o, r) < 0 || json_add(o, "retired_ranges", region_retired(r)) < 0 ||
            add_int(o, "node", egm_region_get_node(r)) < 0 ||
            add_int(o, "socket", egm_region_get_socket(r)) < 0 ||
            json_add(o, "gpus", region_gpus(r)) < 0 ||
            add_string(o, "state", egm_region_get_state(r)) < 0 ||
            add_string(o, "reason", egm_region_get_reason(r)) < 0 ||
            add_string(o, "partitioning", egm_region_get_partitioning(r)) < 0 ||
            add_string(o, "driver", egm_region_get_driver(r)) < 0 ||
            add_string(o, "isolation", egm_region_get_isolation(r)) < 0 ||
            add_string(o, "isolation_reason", egm_region_get_isolation_reason(r)) < 0 ||
            json_add(o, "schedulable", json_object_new_boolean(egm_region_get_schedulable(r))) <
                            0 ||
            json_add(o, "overreach", region_overreach(r)) < 0)
                return NULL;
        return TAKE_PTR(o);
}

/* ---- Leases ---- */

typedef int (*range_getter_t)(egm_lease_info *l, size_t i, const char **ret_region,
                              uint64_t *ret_offset, uint64_t *ret_size);

static json_object *lease_ranges(egm_lease_info *lease, range_getter_t get) {
        _cleanup_json_ json_object *a = json_object_new_array();
        uint64_t offset, size;
        const char *region;

        for (size_t i = 0; get(lease, i, &region, &offset, &size) >= 0; i++)
                if (json_append(a, range_to_json(region, offset, size)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

static json_object *new_holder(uint32_t pid, const char *command, const char *unit,
                               uint64_t start_time) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (add_number(o, "pid", pid) < 0 || add_string(o, "command", command) < 0 ||
            add_string(o, "unit", unit) < 0 || add_number(o, "start_time", start_time) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *lease_holders(egm_lease_info *lease) {
        _cleanup_json_ json_object *a = json_object_new_array();
        const char *command, *unit;
        uint64_t start_time;
        uint32_t pid;

        for (size_t i = 0; egm_lease_info_get_held_up_by(lease, i, &pid, &command, &unit) >= 0 &&
                           egm_lease_info_get_held_up_by_start_time(lease, i, &start_time) >= 0;
             i++)
                if (json_append(a, new_holder(pid, command, unit, start_time)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

json_object *lease_to_json(egm_lease_info *l) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (add_string(o, "id", egm_lease_info_get_id(l)) < 0 ||
            add_string(o, "label", egm_lease_info_get_label(l)) < 0 ||
            json_add(o, "slices", lease_ranges(l, egm_lease_info_get_slice)) < 0 ||
            add_string(o, "state", egm_lease_info_get_state(l)) < 0 ||
            add_string(o, "lifetime", egm_lease_info_get_lifetime(l)) < 0 ||
            add_string(o, "isolation", egm_lease_info_get_isolation(l)) < 0 ||
            add_number(o, "owner_uid", egm_lease_info_get_owner_uid(l)) < 0 ||
            add_number(o, "holder_pid", egm_lease_info_get_holder_pid(l)) < 0 ||
            add_string(o, "unit", egm_lease_info_get_unit(l)) < 0 ||
            add_number(o, "created_usec", egm_lease_info_get_created_usec(l)) < 0 ||
            json_add(o, "retired_ranges", lease_ranges(l, egm_lease_info_get_retired_range)) < 0 ||
            json_add(o, "held_up_by", lease_holders(l)) < 0 ||
            json_add(o, "concealed", json_object_new_boolean(egm_lease_info_get_concealed(l))) < 0)
                return NULL;
        return TAKE_PTR(o);
}

/* ---- Everything ---- */

static json_object *manager_sockets(egm_manager *m) {
        _cleanup_json_ json_object *a = json_object_new_array();
        uint64_t size, free_bytes, leased, retired;
        int socket;

        for (size_t i = 0;
             egm_manager_get_socket(m, i, &socket, &size, &free_bytes, &leased, &retired) >= 0;
             i++) {
                json_object *o = json_object_new_object();

                if (json_append(a, o) < 0 || add_int(o, "socket", socket) < 0 ||
                    add_number(o, "size", size) < 0 || add_number(o, "free", free_bytes) < 0 ||
                    add_number(o, "leased", leased) < 0 || add_number(o, "retired", retired) < 0)
                        return NULL;
        }
        return TAKE_PTR(a);
}

static json_object *manager_waiting(egm_manager *m) {
        _cleanup_json_ json_object *a = json_object_new_array();
        uint64_t size, since, until;
        const char *label;
        uint32_t uid;

        for (size_t i = 0; egm_manager_get_waiting(m, i, &uid, &label, &size, &since, &until) >= 0;
             i++) {
                json_object *o = json_object_new_object();

                if (json_append(a, o) < 0 || add_number(o, "uid", uid) < 0 ||
                    add_string(o, "label", label) < 0 || add_number(o, "size", size) < 0 ||
                    add_number(o, "since_usec", since) < 0 ||
                    add_number(o, "until_usec", until) < 0)
                        return NULL;
        }
        return TAKE_PTR(a);
}

static json_object *manager_unsupported(egm_manager *m) {
        _cleanup_json_ json_object *a = json_object_new_array();
        const char *address;
        uint64_t size;

        for (size_t i = 0; egm_manager_get_unsupported(m, i, &address, &size) >= 0; i++) {
                json_object *o = json_object_new_object();

                if (json_append(a, o) < 0 || add_string(o, "address", address) < 0 ||
                    add_number(o, "size", size) < 0)
                        return NULL;
        }
        return TAKE_PTR(a);
}

static int add_counters(json_object *o, egm_manager *m) {
        const struct {
                const char *key;
                uint64_t value;
        } table[] = {
                        {"lease_count", egm_manager_get_lease_count(m)},
                        {"leases_max", egm_manager_get_leases_max(m)},
                        {"slices_max", egm_manager_get_slices_max(m)},
                        {"waiting_max", egm_manager_get_waiting_max(m)},
                        {"granted", egm_manager_get_granted(m)},
                        {"refused", egm_manager_get_refused(m)},
                        {"ended", egm_manager_get_ended(m)},
                        {"scrubbed_bytes", egm_manager_get_scrubbed_bytes(m)},
                        {"bad_pages", egm_manager_get_bad_pages(m)},
                        {"overreaches", egm_manager_get_overreaches(m)},
        };
        int k = 0;

        for (size_t i = 0; i < ELEMENTSOF(table) && k >= 0; i++)
                k = add_number(o, table[i].key, table[i].value);
        return k;
}

json_object *regions_to_json(egm_snapshot *s) {
        _cleanup_json_ json_object *a = json_object_new_array();

        for (size_t i = 0; i < egm_snapshot_count_regions(s); i++)
                if (json_append(a, region_to_json(egm_snapshot_get_region(s, i))) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

json_object *leases_to_json(egm_snapshot *s) {
        _cleanup_json_ json_object *a = json_object_new_array();

        for (size_t i = 0; i < egm_snapshot_count_leases(s); i++)
                if (json_append(a, lease_to_json(egm_snapshot_get_lease(s, i))) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

json_object *snapshot_to_json(egm_snapshot *s) {
        _cleanup_json_ json_object *o = json_object_new_object();
        egm_manager *m = egm_snapshot_get_manager(s);

        if (add_string(o, "version", egm_manager_get_version(m)) < 0 ||
            json_add(o, "sockets", manager_sockets(m)) < 0 ||
            json_add(o, "regions", regions_to_json(s)) < 0 ||
            json_add(o, "leases", leases_to_json(s)) < 0 ||
            json_add(o, "waiting", manager_waiting(m)) < 0 ||
            json_add(o, "unsupported_devices", manager_unsupported(m)) < 0 ||
            add_counters(o, m) < 0 ||
            json_add(o, "egm_offset_allowed",
                     json_object_new_boolean(egm_manager_get_egm_offset_allowed(m))) < 0)
                return NULL;
        return TAKE_PTR(o);
}

int print_json(json_object *object, JsonMode mode) {
        const char *text;

        assert(mode != JSON_OFF);
        if (!object)
                return -ENOMEM;
        text = json_object_to_json_string_ext(
                        object,
                        mode == JSON_PRETTY
                                        ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE
                                        : JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (text)
                puts(text);
        (void) json_object_put(object);
        return text ? 0 : -ENOMEM;
}
