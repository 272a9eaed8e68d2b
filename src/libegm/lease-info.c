/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "properties.h"

struct egm_lease_info {
        unsigned n_ref;
        char *id;
        char *label;
        char *state;
        char *lifetime;
        char *isolation;
        uint32_t owner_uid;
        uint32_t holder_pid;
        char *unit;
        uint64_t created_usec;
        Table slices;
        Table retired_ranges;
        Table held_up_by;
        int concealed;
};

static const Property properties[] = {
                PROPERTY(egm_lease_info, "Id", "s", id),
                PROPERTY(egm_lease_info, "Label", "s", label),
                PROPERTY_TABLE(egm_lease_info, "Slices", "stt", slices),
                PROPERTY(egm_lease_info, "State", "s", state),
                PROPERTY(egm_lease_info, "Lifetime", "s", lifetime),
                PROPERTY(egm_lease_info, "Isolation", "s", isolation),
                PROPERTY(egm_lease_info, "OwnerUid", "u", owner_uid),
                PROPERTY(egm_lease_info, "HolderPid", "u", holder_pid),
                PROPERTY(egm_lease_info, "Unit", "s", unit),
                PROPERTY(egm_lease_info, "CreatedUSec", "t", created_usec),
                PROPERTY_TABLE(egm_lease_info, "RetiredRanges", "stt", retired_ranges),
                PROPERTY_TABLE(egm_lease_info, "HeldUpBy", "usst", held_up_by),
                PROPERTY(egm_lease_info, "Concealed", "b", concealed),
};

static void lease_info_free(egm_lease_info *l) {
        properties_done(properties, ELEMENTSOF(properties), l);
        free(l);
}

DEFINE_REF_UNREF(egm_lease_info, lease_info_free)

int lease_info_from_properties(sd_bus_message *m, const char *id, egm_lease_info **ret) {
        _cleanup_egm_(lease_info) egm_lease_info *l = NULL;
        int r;

        l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->n_ref = 1;
        r = properties_read(m, properties, ELEMENTSOF(properties), l);
        if (r < 0)
                return r;
        if (!streq_ptr(l->id, id))
                return -EBADMSG;
        *ret = TAKE_PTR(l);
        return 0;
}

_public_ int egm_get_lease_info(egm_connection *c, const char *id, egm_lease_info **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *path = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!id || !ret)
                return -EINVAL;
        if (!name_is_valid(id))
                return connection_refuse(c, -ENOENT, "There is no lease '%s'", id);
        r = path_from_name(EGM_LEASE_PATH, id, &path);
        if (r < 0)
                return r;
        r = connection_get_all(c, path, EGM_LEASE_INTERFACE, &m);
        if (r < 0)
                return connection_no_object(c, r, -ENOENT, "lease", id);
        return lease_info_from_properties(m, id, ret);
}

DEFINE_STRING_GETTER(lease_info, id)
DEFINE_STRING_GETTER(lease_info, label)
DEFINE_STRING_GETTER(lease_info, state)
DEFINE_STRING_GETTER(lease_info, lifetime)
DEFINE_STRING_GETTER(lease_info, isolation)
DEFINE_GETTER(lease_info, uint32_t, owner_uid, UINT32_MAX)
DEFINE_GETTER(lease_info, uint32_t, holder_pid, 0)
DEFINE_STRING_GETTER(lease_info, unit)
DEFINE_GETTER(lease_info, uint64_t, created_usec, 0)
DEFINE_GETTER(lease_info, int, concealed, 0)

static int get_range(const Table *t, size_t i, const char **ret_region, uint64_t *ret_offset,
                     uint64_t *ret_size) {
        if (!table_has(t, i))
                return -EINVAL;
        if (ret_region)
                *ret_region = table_string(t, i, 0);
        if (ret_offset)
                *ret_offset = table_number(t, i, 1);
        if (ret_size)
                *ret_size = table_number(t, i, 2);
        return 0;
}

_public_ size_t egm_lease_info_count_slices(egm_lease_info *l) {
        return l ? l->slices.n_rows : 0;
}

_public_ int egm_lease_info_get_slice(egm_lease_info *l, size_t i, const char **ret_region,
                                      uint64_t *ret_offset, uint64_t *ret_size) {
        return l ? get_range(&l->slices, i, ret_region, ret_offset, ret_size) : -EINVAL;
}

_public_ size_t egm_lease_info_count_retired_ranges(egm_lease_info *l) {
        return l ? l->retired_ranges.n_rows : 0;
}

_public_ int egm_lease_info_get_retired_range(egm_lease_info *l, size_t i, const char **ret_region,
                                              uint64_t *ret_offset, uint64_t *ret_size) {
        return l ? get_range(&l->retired_ranges, i, ret_region, ret_offset, ret_size) : -EINVAL;
}

_public_ size_t egm_lease_info_count_held_up_by(egm_lease_info *l) {
        return l ? l->held_up_by.n_rows : 0;
}

_public_ int egm_lease_info_get_held_up_by(egm_lease_info *l, size_t i, uint32_t *ret_pid,
                                           const char **ret_command, const char **ret_unit) {
        if (!l || !table_has(&l->held_up_by, i))
                return -EINVAL;
        if (ret_pid)
                *ret_pid = (uint32_t) table_number(&l->held_up_by, i, 0);
        if (ret_command)
                *ret_command = table_string(&l->held_up_by, i, 1);
        if (ret_unit)
                *ret_unit = table_string(&l->held_up_by, i, 2);
        return 0;
}

_public_ int egm_lease_info_get_held_up_by_start_time(egm_lease_info *l, size_t i, uint64_t *ret) {
        if (!l || !table_has(&l->held_up_by, i))
                return -EINVAL;
        if (ret)
                *ret = table_number(&l->held_up_by, i, 3);
        return 0;
}
