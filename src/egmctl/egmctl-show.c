/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "describe.h"
#include "egmctl.h"

/* show-region and show-lease: one after the other, as KEY=VALUE or into one JSON array. */
typedef struct Show {
        const Options *o;
        json_object *array;
        size_t n;
} Show;

static void show_done(Show *s) {
        (void) json_object_put(s->array);
}

static int show_properties(Show *s, const PropertyList *l) {
        const char *missing;

        /* With --value --property there is one line for each: blank ones would only be in the way. */
        if (s->n++ > 0 && !s->o->value)
                putchar('\n');
        if (property_list_print(l, s->o, &missing) < 0) {
                complain("There is no property '%s'", missing);
                return STATUS_USAGE;
        }
        return STATUS_OK;
}

static int show_region(Show *s, egm_region *region) {
        _cleanup_property_list_ PropertyList l = {};

        if (s->array)
                return json_append(s->array, region_to_json(region)) < 0 ? complain_oom()
                                                                         : STATUS_OK;
        return describe_region(region, &l) < 0 ? complain_oom() : show_properties(s, &l);
}

static int show_lease(Show *s, egm_lease_info *lease) {
        _cleanup_property_list_ PropertyList l = {};

        if (s->array)
                return json_append(s->array, lease_to_json(lease)) < 0 ? complain_oom() : STATUS_OK;
        return describe_lease(lease, &l) < 0 ? complain_oom() : show_properties(s, &l);
}

static int show_region_named(Show *s, egm_connection *c, const char *name) {
        _cleanup_egm_(region) egm_region *region = NULL;
        int r = egm_get_region(c, name, &region);

        return r < 0 ? complain_call(c, r, "Failed to show region %s", name)
                     : show_region(s, region);
}

static int show_lease_named(Show *s, egm_connection *c, const char *id) {
        _cleanup_egm_(lease_info) egm_lease_info *lease = NULL;
        int r = egm_get_lease_info(c, id, &lease);

        return r < 0 ? complain_call(c, r, "Failed to show lease %s", id) : show_lease(s, lease);
}

static int show_named(Show *s, egm_connection *c, int n_args, char **args,
                      int (*show)(Show *s, egm_connection *c, const char *name)) {
        int status = STATUS_OK;

        for (int i = 0; i < n_args; i++) {
                int r = show(s, c, args[i]);

                if (r != STATUS_OK)
                        status = r;
        }
        return status;
}

static int show_all(Show *s, egm_connection *c, bool leases) {
        _cleanup_egm_(snapshot) egm_snapshot *snapshot = NULL;
        egm_lease_info *lease;
        egm_region *region;
        int r;

        r = egm_snapshot_new(c, &snapshot);
        if (r < 0)
                return complain_call(c, r, "Failed to ask egmd");
        for (size_t i = 0; leases && (lease = egm_snapshot_get_lease(snapshot, i)); i++) {
                r = show_lease(s, lease);
                if (r != STATUS_OK)
                        return r;
        }
        for (size_t i = 0; !leases && (region = egm_snapshot_get_region(snapshot, i)); i++) {
                r = show_region(s, region);
                if (r != STATUS_OK)
                        return r;
        }
        return STATUS_OK;
}

static int show(const Options *o, int n_args, char **args, bool leases) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_(show_done) Show s = {.o = o};
        int r = connect_bus(o, &c);

        if (r != 0)
                return r;
        if (o->json != JSON_OFF) {
                s.array = json_object_new_array();
                if (!s.array)
                        return complain_oom();
        }
        r = n_args == 0 ? show_all(&s, c, leases)
                        : show_named(&s, c, n_args, args,
                                     leases ? show_lease_named : show_region_named);
        if (s.array && print_json(TAKE_PTR(s.array), o->json) < 0)
                return complain_oom();
        return r;
}

int verb_show_region(const Options *o, int n_args, char **args) {
        return show(o, n_args, args, false);
}

int verb_show_lease(const Options *o, int n_args, char **args) {
        return show(o, n_args, args, true);
}
