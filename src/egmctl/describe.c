/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdarg.h>

#include "describe.h"
#include "size.h"
#include "text.h"

void property_list_done(PropertyList *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->items[i].value);
        free(l->items);
        *l = (PropertyList){};
}

/* Takes over value. */
static int add_text(PropertyList *l, const char *name, char *value) {
        PropertyText *t;

        if (!value)
                return -ENOMEM;
        t = reallocarray(l->items, l->n + 1, sizeof(*t));
        if (!t) {
                free(value);
                return -ENOMEM;
        }
        l->items = t;
        text_make_printable(value);
        l->items[l->n++] = (PropertyText){name, value};
        return 0;
}

static int add_string(PropertyList *l, const char *name, const char *value) {
        return add_text(l, name, strdup(value));
}

static int add_number(PropertyList *l, const char *name, uint64_t value) {
        char *text;

        return asprintf(&text, "%" PRIu64, value) < 0 ? -ENOMEM : add_text(l, name, text);
}

static int add_int(PropertyList *l, const char *name, int value) {
        char *text;

        return asprintf(&text, "%d", value) < 0 ? -ENOMEM : add_text(l, name, text);
}

/* Words, a blank between each two. */
typedef struct Words {
        FILE *f;
        char *text;
        size_t size;
        const char *separator; /* NULL: a blank */
        bool any;
} Words;

static void words_add(Words *w, const char *format, ...) _printf_(2, 3);

static void words_add(Words *w, const char *format, ...) {
        va_list ap;

        if (!w->f)
                w->f = open_memstream(&w->text, &w->size);
        if (!w->f)
                return;
        if (w->any)
                fputs(w->separator ?: " ", w->f);
        w->any = true;
        va_start(ap, format);
        vfprintf(w->f, format, ap);
        va_end(ap);
}

/* The text, or NULL when memory ran out. */
static char *words_finish(Words *w) {
        if (!w->f)
                return w->any ? NULL : strdup("");
        if (fclose(w->f) != 0)
                w->text = mfree(w->text);
        w->f = NULL;
        return w->text;
}

/* ---- Regions ---- */

static char *region_retired(egm_region *region) {
        uint64_t offset, size;
        Words w = {};

        for (size_t i = 0; egm_region_get_retired_range(region, i, &offset, &size) >= 0; i++)
                words_add(&w, "%" PRIu64 ":%" PRIu64, offset, size);
        return words_finish(&w);
}

static char *region_gpus(egm_region *region, bool drivers) {
        const char *address, *driver;
        Words w = {};

        for (size_t i = 0; egm_region_get_gpu(region, i, &address, &driver) >= 0; i++)
                if (drivers)
                        words_add(&w, "%s=%s", address, driver);
                else
                        words_add(&w, "%s", address);
        return words_finish(&w);
}

static char *region_overreach(egm_region *region) {
        const char *kind, *command;
        uint64_t offset, size;
        uint32_t pid;
        Words w = {};

        for (size_t i = 0;
             egm_region_get_overreach(region, i, &kind, &offset, &size, &pid, &command) >= 0; i++)
                words_add(&w, "%s:%" PRIu64 ":%" PRIu64 ":%" PRIu32 ":%s", kind, offset, size, pid,
                          command);
        return words_finish(&w);
}

static int describe_bytes(egm_region *r, PropertyList *l) {
        const struct {
                const char *name;
                uint64_t value;
        } table[] = {
                        {"Size", egm_region_get_size(r)},
                        {"Free", egm_region_get_free(r)},
                        {"LargestFree", egm_region_get_largest_free(r)},
                        {"Leased", egm_region_get_leased(r)},
                        {"Draining", egm_region_get_draining(r)},
                        {"Dirty", egm_region_get_dirty(r)},
                        {"Scrubbing", egm_region_get_scrubbing(r)},
                        {"Retired", egm_region_get_retired(r)},
                        {"Scrubbed", egm_region_get_scrubbed(r)},
                        {"Granule", egm_region_get_granule(r)},
        };
        int k = 0;

        for (size_t i = 0; i < ELEMENTSOF(table) && k >= 0; i++)
                k = add_number(l, table[i].name, table[i].value);
        return k;
}

int describe_region(egm_region *r, PropertyList *ret) {
        _cleanup_property_list_ PropertyList l = {};

        if (add_string(&l, "Name", egm_region_get_name(r)) < 0 ||
            add_string(&l, "DevicePath", egm_region_get_device_path(r)) < 0 ||
            describe_bytes(r, &l) < 0 || add_text(&l, "RetiredRanges", region_retired(r)) < 0 ||
            add_int(&l, "Node", egm_region_get_node(r)) < 0 ||
            add_int(&l, "Socket", egm_region_get_socket(r)) < 0 ||
            add_text(&l, "Gpus", region_gpus(r, false)) < 0 ||
            add_text(&l, "GpuDrivers", region_gpus(r, true)) < 0 ||
            add_string(&l, "State", egm_region_get_state(r)) < 0 ||
            add_string(&l, "Reason", egm_region_get_reason(r)) < 0 ||
            add_string(&l, "Partitioning", egm_region_get_partitioning(r)) < 0 ||
            add_string(&l, "Driver", egm_region_get_driver(r)) < 0 ||
            add_string(&l, "Isolation", egm_region_get_isolation(r)) < 0 ||
            add_string(&l, "IsolationReason", egm_region_get_isolation_reason(r)) < 0 ||
            add_string(&l, "Schedulable", egm_region_get_schedulable(r) ? "yes" : "no") < 0 ||
            add_text(&l, "Overreach", region_overreach(r)) < 0)
                return -ENOMEM;
        *ret = l;
        l = (PropertyList){};
        return 0;
}

int gpus_to_text(egm_region *region, char **ret) {
        char *text = region_gpus(region, false);

        if (!text)
                return -ENOMEM;
        *ret = text;
        return 0;
}

/* ---- Leases ---- */

typedef int (*range_getter_t)(egm_lease_info *l, size_t i, const char **ret_region,
                              uint64_t *ret_offset, uint64_t *ret_size);

static char *lease_ranges(egm_lease_info *lease, range_getter_t get) {
        uint64_t offset, size;
        const char *region;
        Words w = {};

        for (size_t i = 0; get(lease, i, &region, &offset, &size) >= 0; i++)
                words_add(&w, "%s:%" PRIu64 ":%" PRIu64, region, offset, size);
        return words_finish(&w);
}

static char *lease_held_up_by(egm_lease_info *lease) {
        const char *command, *unit;
        uint64_t start_time;
        uint32_t pid;
        Words w = {};

        for (size_t i = 0; egm_lease_info_get_held_up_by(lease, i, &pid, &command, &unit) >= 0 &&
                           egm_lease_info_get_held_up_by_start_time(lease, i, &start_time) >= 0;
             i++)
                words_add(&w, "%" PRIu32 ":%s:%s:%" PRIu64, pid, command, unit, start_time);
        return words_finish(&w);
}

static int describe_user(egm_lease_info *i, PropertyList *l) {
        if (egm_lease_info_get_concealed(i))
                return add_string(l, "HolderPid", CONCEALED) < 0 ||
                                                       add_string(l, "Unit", CONCEALED) < 0
                                       ? -ENOMEM
                                       : 0;
        return add_number(l, "HolderPid", egm_lease_info_get_holder_pid(i)) < 0 ||
                                               add_string(l, "Unit", egm_lease_info_get_unit(i)) < 0
                               ? -ENOMEM
                               : 0;
}

int describe_lease(egm_lease_info *i, PropertyList *ret) {
        _cleanup_property_list_ PropertyList l = {};
        bool concealed = egm_lease_info_get_concealed(i);

        if (add_string(&l, "Id", egm_lease_info_get_id(i)) < 0 ||
            add_string(&l, "Label", concealed ? CONCEALED : egm_lease_info_get_label(i)) < 0 ||
            add_text(&l, "Slices", lease_ranges(i, egm_lease_info_get_slice)) < 0 ||
            add_string(&l, "State", egm_lease_info_get_state(i)) < 0 ||
            add_string(&l, "Lifetime", egm_lease_info_get_lifetime(i)) < 0 ||
            add_string(&l, "Isolation", egm_lease_info_get_isolation(i)) < 0 ||
            add_number(&l, "OwnerUid", egm_lease_info_get_owner_uid(i)) < 0 ||
            describe_user(i, &l) < 0 ||
            add_number(&l, "CreatedUSec", egm_lease_info_get_created_usec(i)) < 0 ||
            add_text(&l, "RetiredRanges", lease_ranges(i, egm_lease_info_get_retired_range)) < 0 ||
            add_text(&l, "HeldUpBy", concealed ? strdup(CONCEALED) : lease_held_up_by(i)) < 0 ||
            add_string(&l, "Concealed", concealed ? "yes" : "no") < 0)
                return -ENOMEM;
        *ret = l;
        l = (PropertyList){};
        return 0;
}

uint64_t lease_size(egm_lease_info *lease) {
        uint64_t size, sum = 0;

        for (size_t i = 0; egm_lease_info_get_slice(lease, i, NULL, NULL, &size) >= 0; i++)
                if (__builtin_add_overflow(sum, size, &sum))
                        return UINT64_MAX;
        return sum;
}

int slices_to_text(egm_lease_info *lease, char **ret) {
        uint64_t offset, size;
        const char *region;
        Words w = {};

        for (size_t i = 0; egm_lease_info_get_slice(lease, i, &region, &offset, &size) >= 0; i++)
                words_add(&w, "%s:%s+%s", region, FORMAT_SIZE(offset), FORMAT_SIZE(size));
        *ret = words_finish(&w);
        return *ret ? 0 : -ENOMEM;
}

int holders_to_text(egm_lease_info *lease, char **ret) {
        const char *command, *unit;
        Words w = {.separator = ", "};
        uint32_t pid;

        for (size_t i = 0; egm_lease_info_get_held_up_by(lease, i, &pid, &command, &unit) >= 0; i++)
                words_add(&w, "pid %" PRIu32 " (%s%s%s)", pid, command, *unit ? ", " : "", unit);
        *ret = words_finish(&w);
        return *ret ? 0 : -ENOMEM;
}

/* ---- Printing ---- */

const char *property_list_find(const PropertyList *l, const char *name) {
        for (size_t i = 0; i < l->n; i++)
                if (streq(l->items[i].name, name))
                        return l->items[i].value;
        return NULL;
}

static void print_property(const char *name, const char *value, const Options *o) {
        printf("%s%s%s\n", o->value ? "" : name, o->value ? "" : "=", value);
}

int property_list_print(const PropertyList *l, const Options *o, const char **ret_missing) {
        for (size_t i = 0; i < o->n_properties; i++)
                if (!property_list_find(l, o->properties[i])) {
                        *ret_missing = o->properties[i];
                        return -ENOENT;
                }
        for (size_t i = 0; i < o->n_properties; i++)
                print_property(o->properties[i], property_list_find(l, o->properties[i]), o);
        for (size_t i = 0; o->n_properties == 0 && i < l->n; i++)
                print_property(l->items[i].name, l->items[i].value, o);
        return 0;
}
