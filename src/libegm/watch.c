/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "properties.h"

struct egm_watch {
        unsigned n_ref;
        egm_connection *connection;
        egm_watch_callback callback;
        void *userdata;
        sd_bus_slot *signals;
        sd_bus_slot *owner;
};

struct egm_event {
        int type;
        const char *name;
        Table changed; /* "s" */
        Table pages;   /* "stt" */
};

static void event_done(egm_event *e) {
        table_done(&e->changed);
        table_done(&e->pages);
}

static void watch_free(egm_watch *w) {
        /* In a child the bus belongs to the parent. */
        if (w->connection->origin == getpid()) {
                sd_bus_slot_unref(w->signals);
                sd_bus_slot_unref(w->owner);
        }
        egm_connection_unref(w->connection);
        free(w);
}

DEFINE_REF_UNREF(egm_watch, watch_free)

/* The last thing that a handler does with its watch: the callback may have ended it. */
static void emit(egm_watch *w, egm_event *e) {
        if (connection_begin(w->connection) >= 0)
                w->callback(w->connection, e, w->userdata);
}

/* What a path of ours is about: its name and one of the two types; and the interface that counts there. */
static bool set_object(egm_event *e, const char *path, int region, int lease,
                       const char **ret_interface) {
        e->name = name_from_path(EGM_REGION_PATH, path);
        e->type = e->name ? region : lease;
        *ret_interface = e->name ? EGM_REGION_INTERFACE : EGM_LEASE_INTERFACE;
        if (!e->name)
                e->name = name_from_path(EGM_LEASE_PATH, path);
        return e->name;
}

/* ---- ObjectManager ---- */

/* Positive when the dictionary of interfaces, a{sa{sv}}, has this one. */
static int find_interface(sd_bus_message *m, const char *interface) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                if (streq(name, interface))
                        return 1;
                r = sd_bus_message_skip(m, "a{sv}");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

static int on_interfaces_added(egm_watch *w, sd_bus_message *m) {
        const char *path, *interface;
        egm_event e = {};
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        if (!set_object(&e, path, EGM_EVENT_REGION_ADDED, EGM_EVENT_LEASE_ADDED, &interface))
                return 0;
        r = find_interface(m, interface);
        if (r > 0)
                emit(w, &e);
        return r;
}

static int on_interfaces_removed(egm_watch *w, sd_bus_message *m) {
        _cleanup_(table_done) Table interfaces = {};
        const char *path, *interface;
        egm_event e = {};
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        if (!set_object(&e, path, EGM_EVENT_REGION_REMOVED, EGM_EVENT_LEASE_REMOVED, &interface))
                return 0;
        r = table_read_strings(m, &interfaces);
        if (r < 0)
                return r;
        for (size_t i = 0; table_has(&interfaces, i); i++)
                if (streq(table_string(&interfaces, i, 0), interface)) {
                        emit(w, &e);
                        break;
                }
        return 0;
}

/* ---- Properties ---- */

static int on_properties_changed(egm_watch *w, sd_bus_message *m) {
        _cleanup_(event_done) egm_event e = {.type = EGM_EVENT_MANAGER_CHANGED, .name = ""};
        const char *name, *interface = EGM_MANAGER_INTERFACE, *path = sd_bus_message_get_path(m);
        int r;

        if (!streq(path, EGM_PATH) &&
            !set_object(&e, path, EGM_EVENT_REGION_CHANGED, EGM_EVENT_LEASE_CHANGED, &interface))
                return 0;
        r = sd_bus_message_read_basic(m, 's', &name);
        if (r < 0)
                return r;
        if (!streq(name, interface))
                return 0;
        r = table_read_changed(m, &e.changed);
        if (r < 0)
                return r;
        emit(w, &e);
        return 0;
}

static int on_retired_pages(egm_watch *w, sd_bus_message *m) {
        _cleanup_(event_done) egm_event e = {.type = EGM_EVENT_RETIRED_PAGES_FOUND};
        int r;

        e.name = name_from_path(EGM_LEASE_PATH, sd_bus_message_get_path(m));
        if (!e.name)
                return 0;
        r = table_read(m, "stt", &e.pages);
        if (r < 0)
                return r;
        emit(w, &e);
        return 0;
}

/* What makes no sense in a signal is passed over: there is nobody to tell. */
static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        static const struct {
                const char *interface;
                const char *member;
                int (*handler)(egm_watch *w, sd_bus_message *m);
        } table[] = {
                        {"org.freedesktop.DBus.ObjectManager", "InterfacesAdded",
                         on_interfaces_added},
                        {"org.freedesktop.DBus.ObjectManager", "InterfacesRemoved",
                         on_interfaces_removed},
                        {"org.freedesktop.DBus.Properties", "PropertiesChanged",
                         on_properties_changed},
                        {EGM_LEASE_INTERFACE, "RetiredPagesFound", on_retired_pages},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (sd_bus_message_is_signal(m, table[i].interface, table[i].member) > 0) {
                        (void) table[i].handler(userdata, m);
                        break;
                }
        return 0;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        egm_event e = {.name = ""};
        const char *owner;

        if (sd_bus_message_read(m, "sss", NULL, NULL, &owner) < 0)
                return 0;
        e.type = *owner ? EGM_EVENT_DAEMON_STARTED : EGM_EVENT_DAEMON_STOPPED;
        emit(userdata, &e);
        return 0;
}

_public_ int egm_watch_new(egm_connection *c, egm_watch_callback callback, void *userdata,
                           egm_watch **ret) {
        _cleanup_egm_(watch) egm_watch *w = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!callback || !ret)
                return -EINVAL;
        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->n_ref = 1;
        w->connection = egm_connection_ref(c);
        w->callback = callback;
        w->userdata = userdata;
        r = sd_bus_add_match(c->bus, &w->signals,
                             "type='signal',sender='" EGM_BUS_NAME "',path_namespace='" EGM_PATH
                             "'",
                             on_signal, w);
        if (r < 0)
                return r;
        r = sd_bus_add_match(c->bus, &w->owner,
                             "type='signal',sender='org.freedesktop.DBus',"
                             "path='/org/freedesktop/DBus',interface='org.freedesktop.DBus',"
                             "member='NameOwnerChanged',arg0='" EGM_BUS_NAME "'",
                             on_owner_changed, w);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

_public_ int egm_event_get_type(egm_event *e) {
        return e ? e->type : -EINVAL;
}

_public_ const char *egm_event_get_name(egm_event *e) {
        return e ? e->name : NULL;
}

_public_ const char *egm_event_get_changed(egm_event *e, size_t i) {
        return e && table_has(&e->changed, i) ? table_string(&e->changed, i, 0) : NULL;
}

_public_ size_t egm_event_count_pages(egm_event *e) {
        return e ? e->pages.n_rows : 0;
}

_public_ int egm_event_get_page(egm_event *e, size_t i, const char **ret_region,
                                uint64_t *ret_offset, uint64_t *ret_size) {
        if (!e || !table_has(&e->pages, i))
                return -EINVAL;
        if (ret_region)
                *ret_region = table_string(&e->pages, i, 0);
        if (ret_offset)
                *ret_offset = table_number(&e->pages, i, 1);
        if (ret_size)
                *ret_size = table_number(&e->pages, i, 2);
        return 0;
}
