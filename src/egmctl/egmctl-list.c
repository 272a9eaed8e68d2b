/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "describe.h"
#include "egmctl.h"
#include "list.h"
#include "size.h"
#include "text-table.h"

static int add_region(TextTable *t, egm_region *r) {
        _cleanup_free_ char *gpus = NULL;
        const uint64_t sizes[] = {
                        egm_region_get_size(r),
                        egm_region_get_free(r),
                        egm_region_get_largest_free(r),
                        egm_region_get_leased(r),
                        egm_region_get_draining(r),
                        egm_region_get_dirty(r) + egm_region_get_scrubbing(r),
                        egm_region_get_retired(r),
        };
        const int places[] = {egm_region_get_socket(r), egm_region_get_node(r)};
        int k;

        k = text_table_add(t, "%s", egm_region_get_name(r));
        for (size_t i = 0; i < ELEMENTSOF(places) && k >= 0; i++)
                k = places[i] < 0 ? text_table_add(t, "%s", "")
                                  : text_table_add(t, "%d", places[i]);
        for (size_t i = 0; i < ELEMENTSOF(sizes) && k >= 0; i++)
                k = text_table_add(t, "%s", FORMAT_SIZE(sizes[i]));
        if (k >= 0)
                k = text_table_add(t, "%s%s", egm_region_get_state(r),
                                   egm_region_get_schedulable(r) ? "" : ", switched off");
        if (k >= 0)
                k = gpus_to_text(r, &gpus);
        return k < 0 ? k : text_table_add(t, "%s", gpus);
}

int print_regions(egm_snapshot *s, bool legend) {
        static const TextColumn columns[] = {
                        {"REGION", false}, {"SOCKET", true},  {"NODE", true},   {"SIZE", true},
                        {"FREE", true},    {"LARGEST", true}, {"LEASED", true}, {"DRAINING", true},
                        {"UNCLEAN", true}, {"RETIRED", true}, {"STATE", false}, {"GPUS", false},
        };
        _cleanup_(text_table_freep) TextTable *t = NULL;
        size_t n = egm_snapshot_count_regions(s);
        int r;

        r = text_table_new(columns, ELEMENTSOF(columns), &t);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = add_region(t, egm_snapshot_get_region(s, i));
        if (r < 0)
                return r;
        if (n > 0)
                text_table_print(t, stdout, legend);
        if (legend && n > 0)
                printf("\n%zu region%s listed.\n", n, n == 1 ? "" : "s");
        else if (legend)
                puts("No regions.");
        return 0;
}

static int add_lease(TextTable *t, egm_lease_info *l) {
        bool concealed = egm_lease_info_get_concealed(l);
        _cleanup_free_ char *slices = NULL;
        int r;

        r = slices_to_text(l, &slices);
        if (r < 0 || text_table_add(t, "%s", egm_lease_info_get_id(l)) < 0 ||
            text_table_add(t, "%s", concealed ? CONCEALED : egm_lease_info_get_label(l)) < 0 ||
            text_table_add(t, "%s", FORMAT_SIZE(lease_size(l))) < 0 ||
            text_table_add(t, "%s", egm_lease_info_get_state(l)) < 0 ||
            text_table_add(t, "%" PRIu32, egm_lease_info_get_owner_uid(l)) < 0)
                return -ENOMEM;
        r = egm_lease_info_get_holder_pid(l) == 0
                            ? text_table_add(t, "%s", concealed ? CONCEALED : "")
                            : text_table_add(t, "%" PRIu32, egm_lease_info_get_holder_pid(l));
        if (r >= 0)
                r = text_table_add(t, "%s", concealed ? CONCEALED : egm_lease_info_get_unit(l));
        return r < 0 ? r : text_table_add(t, "%s", slices);
}

int print_leases(egm_snapshot *s, bool legend) {
        static const TextColumn columns[] = {
                        {"LEASE", true}, {"LABEL", false}, {"SIZE", true},  {"STATE", false},
                        {"UID", true},   {"PID", true},    {"UNIT", false}, {"SLICES", false},
        };
        _cleanup_(text_table_freep) TextTable *t = NULL;
        size_t n = egm_snapshot_count_leases(s);
        int r;

        r = text_table_new(columns, ELEMENTSOF(columns), &t);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = add_lease(t, egm_snapshot_get_lease(s, i));
        if (r < 0)
                return r;
        if (n > 0)
                text_table_print(t, stdout, legend);
        if (legend && n > 0)
                printf("\n%zu lease%s listed.\n", n, n == 1 ? "" : "s");
        else if (legend)
                puts("No leases.");
        return 0;
}

int verb_list_regions(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(snapshot) egm_snapshot *s = NULL;
        int r = take_snapshot(o, &c, &s);

        if (r != 0)
                return r;
        r = o->json != JSON_OFF ? print_json(regions_to_json(s), o->json)
                                : print_regions(s, !o->no_legend);
        return r < 0 ? complain_oom() : STATUS_OK;
}

int verb_list_leases(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(snapshot) egm_snapshot *s = NULL;
        int r = take_snapshot(o, &c, &s);

        if (r != 0)
                return r;
        r = o->json != JSON_OFF ? print_json(leases_to_json(s), o->json)
                                : print_leases(s, !o->no_legend);
        return r < 0 ? complain_oom() : STATUS_OK;
}
