/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <egm.h>

#include "json-util.h"
#include "options.h"

/* Regions, leases and the manager as KEY=VALUE lines (D-Bus names) and as JSON (the same in snake_case, raw bytes). */

typedef struct PropertyText {
        const char *name; /* static */
        char *value;
} PropertyText;

typedef struct PropertyList {
        PropertyText *items;
        size_t n;
} PropertyList;

void property_list_done(PropertyList *l);
#define _cleanup_property_list_ _cleanup_(property_list_done)

int describe_region(egm_region *region, PropertyList *ret);
int describe_lease(egm_lease_info *lease, PropertyList *ret);
const char *property_list_find(const PropertyList *l, const char *name);
/* All, or those that --property names; with --value without the names. -ENOENT: there is none of that name, *ret_missing. */
int property_list_print(const PropertyList *l, const Options *o, const char **ret_missing);

/* NULL: out of memory. */
json_object *region_to_json(egm_region *region);
json_object *lease_to_json(egm_lease_info *lease);
json_object *regions_to_json(egm_snapshot *s);
json_object *leases_to_json(egm_snapshot *s);
json_object *snapshot_to_json(egm_snapshot *s);
/* {"region": …, "offset": …, "size": …}; without a region if that is NULL. */
json_object *range_to_json(const char *region, uint64_t offset, uint64_t size);
/* Frees it. 0, or -ENOMEM (also for NULL). */
int print_json(json_object *object, JsonMode mode);

/* ---- Words for people ---- */

/* What stands for what is kept from us. */
#define CONCEALED "-"
uint64_t lease_size(egm_lease_info *lease);
/* "egm4:128G+64G egm5:0B+64G": region, offset, size. */
int slices_to_text(egm_lease_info *lease, char **ret);
/* "4711 (qemu, vm1.scope), 4712 (qemu)", or "". */
int holders_to_text(egm_lease_info *lease, char **ret);
/* "0008:01:00.0 0009:01:00.0" */
int gpus_to_text(egm_region *region, char **ret);
