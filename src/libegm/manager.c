/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "properties.h"

struct egm_manager {
        unsigned n_ref;
        char *version;
        Table sockets;
        Table waiting;
        Table unsupported;
        uint32_t lease_count;
        uint64_t granted;
        uint64_t refused;
        uint64_t ended;
        uint64_t scrubbed_bytes;
        uint64_t bad_pages;
        uint64_t overreaches;
        uint32_t leases_max;
        uint32_t slices_max;
        uint32_t waiting_max;
        int egm_offset_allowed;
};

static const Property properties[] = {
                PROPERTY(egm_manager, "Version", "s", version),
                PROPERTY_TABLE(egm_manager, "Sockets", "itttt", sockets),
                PROPERTY_TABLE(egm_manager, "Waiting", "uusttt", waiting),
                PROPERTY_TABLE(egm_manager, "UnsupportedDevices", "st", unsupported),
                PROPERTY(egm_manager, "LeaseCount", "u", lease_count),
                PROPERTY(egm_manager, "Granted", "t", granted),
                PROPERTY(egm_manager, "Refused", "t", refused),
                PROPERTY(egm_manager, "Ended", "t", ended),
                PROPERTY(egm_manager, "ScrubbedBytes", "t", scrubbed_bytes),
                PROPERTY(egm_manager, "BadPages", "t", bad_pages),
                PROPERTY(egm_manager, "Overreaches", "t", overreaches),
                PROPERTY(egm_manager, "LeasesMax", "u", leases_max),
                PROPERTY(egm_manager, "SlicesMax", "u", slices_max),
                PROPERTY(egm_manager, "WaitingMax", "u", waiting_max),
                PROPERTY(egm_manager, "EgmOffsetAllowed", "b", egm_offset_allowed),
};

static void manager_free(egm_manager *m) {
        properties_done(properties, ELEMENTSOF(properties), m);
        free(m);
}

DEFINE_REF_UNREF(egm_manager, manager_free)

int manager_from_properties(sd_bus_message *message, egm_manager **ret) {
        _cleanup_egm_(manager) egm_manager *m = NULL;
        int r;

        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->n_ref = 1;
        r = properties_read(message, properties, ELEMENTSOF(properties), m);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

_public_ int egm_get_manager(egm_connection *c, egm_manager **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!ret)
                return -EINVAL;
        r = connection_get_all(c, EGM_PATH, EGM_MANAGER_INTERFACE, &m);
        return r < 0 ? r : manager_from_properties(m, ret);
}

DEFINE_STRING_GETTER(manager, version)
DEFINE_GETTER(manager, uint32_t, lease_count, 0)
DEFINE_GETTER(manager, uint64_t, granted, 0)
DEFINE_GETTER(manager, uint64_t, refused, 0)
DEFINE_GETTER(manager, uint64_t, ended, 0)
DEFINE_GETTER(manager, uint64_t, scrubbed_bytes, 0)
DEFINE_GETTER(manager, uint64_t, bad_pages, 0)
DEFINE_GETTER(manager, uint64_t, overreaches, 0)
DEFINE_GETTER(manager, uint32_t, leases_max, 0)
DEFINE_GETTER(manager, uint32_t, slices_max, 0)
DEFINE_GETTER(manager, uint32_t, waiting_max, 0)
DEFINE_GETTER(manager, int, egm_offset_allowed, 0)

_public_ size_t egm_manager_count_sockets(egm_manager *m) {
        return m ? m->sockets.n_rows : 0;
}

_public_ int egm_manager_get_socket(egm_manager *m, size_t i, int *ret_socket, uint64_t *ret_size,
                                    uint64_t *ret_free, uint64_t *ret_leased,
                                    uint64_t *ret_retired) {
        if (!m || !table_has(&m->sockets, i))
                return -EINVAL;
        if (ret_socket)
                *ret_socket = (int) (int64_t) table_number(&m->sockets, i, 0);
        if (ret_size)
                *ret_size = table_number(&m->sockets, i, 1);
        if (ret_free)
                *ret_free = table_number(&m->sockets, i, 2);
        if (ret_leased)
                *ret_leased = table_number(&m->sockets, i, 3);
        if (ret_retired)
                *ret_retired = table_number(&m->sockets, i, 4);
        return 0;
}

_public_ size_t egm_manager_count_waiting(egm_manager *m) {
        return m ? m->waiting.n_rows : 0;
}

_public_ int egm_manager_get_waiting(egm_manager *m, size_t i, uint32_t *ret_uid,
                                     const char **ret_label, uint64_t *ret_size,
                                     uint64_t *ret_since_usec, uint64_t *ret_until_usec) {
        if (!m || !table_has(&m->waiting, i))
                return -EINVAL;
        /* Column 0 is the position, which the order says already. */
        if (ret_uid)
                *ret_uid = (uint32_t) table_number(&m->waiting, i, 1);
        if (ret_label)
                *ret_label = table_string(&m->waiting, i, 2);
        if (ret_size)
                *ret_size = table_number(&m->waiting, i, 3);
        if (ret_since_usec)
                *ret_since_usec = table_number(&m->waiting, i, 4);
        if (ret_until_usec)
                *ret_until_usec = table_number(&m->waiting, i, 5);
        return 0;
}

_public_ size_t egm_manager_count_unsupported(egm_manager *m) {
        return m ? m->unsupported.n_rows : 0;
}

_public_ int egm_manager_get_unsupported(egm_manager *m, size_t i, const char **ret_address,
                                         uint64_t *ret_size) {
        if (!m || !table_has(&m->unsupported, i))
                return -EINVAL;
        if (ret_address)
                *ret_address = table_string(&m->unsupported, i, 0);
        if (ret_size)
                *ret_size = table_number(&m->unsupported, i, 1);
        return 0;
}
