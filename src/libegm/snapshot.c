/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "internal.h"

struct egm_snapshot {
        unsigned n_ref;
        egm_manager *manager;
        egm_region **regions;
        size_t n_regions;
        egm_lease_info **leases;
        size_t n_leases;
};

static void snapshot_free(egm_snapshot *s) {
        egm_manager_unref(s->manager);
        for (size_t i = 0; i < s->n_regions; i++)
                egm_region_unref(s->regions[i]);
        free(s->regions);
        for (size_t i = 0; i < s->n_leases; i++)
                egm_lease_info_unref(s->leases[i]);
        free(s->leases);
        free(s);
}

DEFINE_REF_UNREF(egm_snapshot, snapshot_free)

/* Room for one more; doubles. */
static int array_grow(void *array, size_t n) {
        void **p = array, *t;

        if (n != 0 && !is_pow2(n))
                return 0;
        t = reallocarray(*p, n == 0 ? 1 : n * 2, sizeof(void *));
        if (!t)
                return -ENOMEM;
        *p = t;
        return 0;
}

static int add_region(egm_snapshot *s, sd_bus_message *m, const char *name) {
        int r = array_grow(&s->regions, s->n_regions);

        if (r < 0)
                return r;
        r = region_from_properties(m, name, s->regions + s->n_regions);
        if (r < 0)
                return r;
        s->n_regions++;
        return 0;
}

static int add_lease(egm_snapshot *s, sd_bus_message *m, const char *id) {
        int r = array_grow(&s->leases, s->n_leases);

        if (r < 0)
                return r;
        r = lease_info_from_properties(m, id, s->leases + s->n_leases);
        if (r < 0)
                return r;
        s->n_leases++;
        return 0;
}

/* One {sa{sv}}: an interface of the object. */
static int read_interface(egm_snapshot *s, sd_bus_message *m, const char *path) {
        const char *interface, *name;
        int r;

        r = sd_bus_message_read_basic(m, 's', &interface);
        if (r < 0)
                return r;
        if (streq(interface, EGM_REGION_INTERFACE)) {
                name = name_from_path(EGM_REGION_PATH, path);
                return name ? add_region(s, m, name) : -EBADMSG;
        }
        if (streq(interface, EGM_LEASE_INTERFACE)) {
                name = name_from_path(EGM_LEASE_PATH, path);
                return name ? add_lease(s, m, name) : -EBADMSG;
        }
        return sd_bus_message_skip(m, "a{sv}");
}

/* One {oa{sa{sv}}}. */
static int read_object(egm_snapshot *s, sd_bus_message *m) {
        const char *path;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = read_interface(s, m, path);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_objects(egm_snapshot *s, sd_bus_message *m) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                r = read_object(s, m);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int compare_regions(const void *a, const void *b) {
        return strverscmp(egm_region_get_name(*(egm_region *const *) a),
                          egm_region_get_name(*(egm_region *const *) b));
}

static int compare_leases(const void *a, const void *b) {
        egm_lease_info *x = *(egm_lease_info *const *) a, *y = *(egm_lease_info *const *) b;
        uint64_t t = egm_lease_info_get_created_usec(x), u = egm_lease_info_get_created_usec(y);

        if (t != u)
                return t < u ? -1 : 1;
        return strverscmp(egm_lease_info_get_id(x), egm_lease_info_get_id(y));
}

_public_ int egm_snapshot_new(egm_connection *c, egm_snapshot **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_egm_(snapshot) egm_snapshot *s = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!ret)
                return -EINVAL;
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->n_ref = 1;
        r = connection_new_call(c, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                "GetManagedObjects", &m);
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, &reply);
        if (r < 0)
                return r;
        r = read_objects(s, reply);
        if (r < 0)
                return bad_message(r);
        r = egm_get_manager(c, &s->manager);
        if (r < 0)
                return r;
        if (s->n_regions > 0)
                qsort(s->regions, s->n_regions, sizeof(*s->regions), compare_regions);
        if (s->n_leases > 0)
                qsort(s->leases, s->n_leases, sizeof(*s->leases), compare_leases);
        *ret = TAKE_PTR(s);
        return 0;
}

_public_ size_t egm_snapshot_count_regions(egm_snapshot *s) {
        return s ? s->n_regions : 0;
}

_public_ size_t egm_snapshot_count_leases(egm_snapshot *s) {
        return s ? s->n_leases : 0;
}

_public_ egm_region *egm_snapshot_get_region(egm_snapshot *s, size_t i) {
        return s && i < s->n_regions ? s->regions[i] : NULL;
}

_public_ egm_lease_info *egm_snapshot_get_lease(egm_snapshot *s, size_t i) {
        return s && i < s->n_leases ? s->leases[i] : NULL;
}

_public_ egm_manager *egm_snapshot_get_manager(egm_snapshot *s) {
        return s ? s->manager : NULL;
}
