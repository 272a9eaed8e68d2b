/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <time.h>

#include "describe.h"
#include "egmctl.h"
#include "size.h"
#include "text-table.h"

static const char *event_name(int type) {
        static const char *const table[] = {
                        [EGM_EVENT_REGION_ADDED] = "region-added",
                        [EGM_EVENT_REGION_CHANGED] = "region-changed",
                        [EGM_EVENT_REGION_REMOVED] = "region-removed",
                        [EGM_EVENT_LEASE_ADDED] = "lease-added",
                        [EGM_EVENT_LEASE_CHANGED] = "lease-changed",
                        [EGM_EVENT_LEASE_REMOVED] = "lease-removed",
                        [EGM_EVENT_RETIRED_PAGES_FOUND] = "retired-pages-found",
                        [EGM_EVENT_MANAGER_CHANGED] = "manager-changed",
                        [EGM_EVENT_DAEMON_STARTED] = "daemon-started",
                        [EGM_EVENT_DAEMON_STOPPED] = "daemon-stopped",
        };

        return type > 0 && (size_t) type < ELEMENTSOF(table) ? table[type] : NULL;
}

typedef struct Monitor {
        const Options *o;
        int status;
} Monitor;

/* The object that it is about, as it is now; both stay NULL if it is gone already. */
static void get_object(egm_connection *c, egm_event *e, egm_region **region,
                       egm_lease_info **lease) {
        switch (egm_event_get_type(e)) {
        case EGM_EVENT_REGION_ADDED:
        case EGM_EVENT_REGION_CHANGED:
                (void) egm_get_region(c, egm_event_get_name(e), region);
                break;
        case EGM_EVENT_LEASE_ADDED:
        case EGM_EVENT_LEASE_CHANGED:
                (void) egm_get_lease_info(c, egm_event_get_name(e), lease);
                break;
        }
}

static void get_properties(egm_connection *c, egm_event *e, PropertyList *ret) {
        _cleanup_egm_(region) egm_region *region = NULL;
        _cleanup_egm_(lease_info) egm_lease_info *lease = NULL;

        get_object(c, e, &region, &lease);
        if (region)
                (void) describe_region(region, ret);
        else if (lease)
                (void) describe_lease(lease, ret);
}

static void print_changed(egm_event *e, const PropertyList *l) {
        const char *name, *value;

        for (size_t i = 0; (name = egm_event_get_changed(e, i)); i++) {
                value = property_list_find(l, name);
                printf(" %s%s%s", name, value ? "=" : "", value ?: "");
        }
}

static void print_text(egm_connection *c, egm_event *e, const char *name) {
        _cleanup_property_list_ PropertyList l = {};
        char now[64] = "";
        const char *region;
        uint64_t offset, size;
        time_t t = time(NULL);
        struct tm tm;

        if (localtime_r(&t, &tm))
                (void) strftime(now, sizeof(now), "%T ", &tm);
        printf("%s%s%s%s", now, name, *egm_event_get_name(e) ? " " : "", egm_event_get_name(e));
        get_properties(c, e, &l);
        print_changed(e, &l);
        if (egm_event_get_type(e) == EGM_EVENT_LEASE_ADDED && l.n > 0)
                printf(" Label=%s Slices=%s", property_list_find(&l, "Label"),
                       property_list_find(&l, "Slices"));
        for (size_t i = 0; egm_event_get_page(e, i, &region, &offset, &size) >= 0; i++)
                printf(" %s:%" PRIu64 ":%" PRIu64, region, offset, size);
        putchar('\n');
}

/* ---- JSON: one object a line ---- */

static json_object *changed_to_json(egm_event *e) {
        _cleanup_json_ json_object *a = json_object_new_array();
        const char *property;

        for (size_t i = 0; (property = egm_event_get_changed(e, i)); i++)
                if (json_append(a, json_object_new_string(property)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

static json_object *pages_to_json(egm_event *e) {
        _cleanup_json_ json_object *a = json_object_new_array();
        const char *region;
        uint64_t offset, size;

        for (size_t i = 0; egm_event_get_page(e, i, &region, &offset, &size) >= 0; i++)
                if (json_append(a, range_to_json(region, offset, size)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

/* The object as it is now, under "region" or "lease". */
static int add_object(json_object *o, egm_connection *c, egm_event *e) {
        _cleanup_egm_(region) egm_region *region = NULL;
        _cleanup_egm_(lease_info) egm_lease_info *lease = NULL;

        get_object(c, e, &region, &lease);
        if (region)
                return json_add(o, "region", region_to_json(region));
        return lease ? json_add(o, "lease", lease_to_json(lease)) : 0;
}

static int print_event_json(egm_connection *c, egm_event *e, const char *name, JsonMode mode) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (json_add(o, "event", json_object_new_string(name)) < 0 ||
            json_add(o, "name", json_object_new_string(egm_event_get_name(e))) < 0 ||
            json_add(o, "changed", changed_to_json(e)) < 0 ||
            json_add(o, "pages", pages_to_json(e)) < 0 || add_object(o, c, e) < 0)
                return -ENOMEM;
        return print_json(TAKE_PTR(o), mode);
}

static void on_event(egm_connection *c, egm_event *e, void *userdata) {
        const char *name = event_name(egm_event_get_type(e));
        Monitor *m = userdata;

        /* From a newer library. */
        if (!name || m->status != STATUS_OK)
                return;
        if (m->o->json == JSON_OFF)
                print_text(c, e, name);
        else if (print_event_json(c, e, name, m->o->json) < 0)
                m->status = complain_oom();
        /* Who reads along wants it now; who left ends this. What went wrong is said at the end of main(). */
        if (fflush(stdout) != 0)
                m->status = STATUS_FAILED;
}

int verb_monitor(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(watch) egm_watch *watch = NULL;
        Monitor m = {.o = o};
        int r = connect_bus(o, &c);

        if (r != STATUS_OK)
                return r;
        r = egm_watch_new(c, on_event, &m, &watch);
        if (r < 0)
                return complain_call(c, r, "Failed to watch egmd");
        while (m.status == STATUS_OK) {
                r = egm_connection_wait(c, UINT64_MAX);
                if (r >= 0)
                        r = egm_connection_dispatch(c);
                if (r < 0 && r != -EINTR)
                        return complain_call(c, r, "Lost the connection to the bus");
        }
        return m.status;
}
