/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdarg.h>
#include <time.h>

#include "describe.h"
#include "egmctl.h"
#include "list.h"
#include "size.h"
#include "text-table.h"
#include "text.h"

/* What to print in front of a part but the first. */
static void begin_part(bool *any) {
        if (*any)
                putchar('\n');
        *any = true;
}

static const char *format_time(char buf[static 64], uint64_t usec) {
        time_t t = (time_t) (usec / USEC_PER_SEC);
        struct tm tm;

        if (!localtime_r(&t, &tm) || strftime(buf, 64, "%F %T", &tm) == 0)
                return "?";
        return buf;
}

static int print_sockets(egm_manager *m, bool legend) {
        static const TextColumn columns[] = {
                        {"SOCKET", true}, {"SIZE", true},    {"FREE", true},
                        {"LEASED", true}, {"UNCLEAN", true}, {"RETIRED", true},
        };
        _cleanup_(text_table_freep) TextTable *t = NULL;
        uint64_t size, free_bytes, leased, retired;
        int socket, r;

        r = text_table_new(columns, ELEMENTSOF(columns), &t);
        for (size_t i = 0; r >= 0 && egm_manager_get_socket(m, i, &socket, &size, &free_bytes,
                                                            &leased, &retired) >= 0;
             i++) {
                /* Draining ones as well: on their way back, none to be had now. */
                uint64_t unclean = size - free_bytes - leased - retired;

                r = socket < 0 ? text_table_add(t, "%s", "") : text_table_add(t, "%d", socket);
                if (r < 0 || text_table_add(t, "%s", FORMAT_SIZE(size)) < 0 ||
                    text_table_add(t, "%s", FORMAT_SIZE(free_bytes)) < 0 ||
                    text_table_add(t, "%s", FORMAT_SIZE(leased)) < 0 ||
                    text_table_add(t, "%s", FORMAT_SIZE(unclean)) < 0)
                        return -ENOMEM;
                r = text_table_add(t, "%s", FORMAT_SIZE(retired));
        }
        if (r < 0)
                return r;
        text_table_print(t, stdout, legend);
        return 0;
}

static int print_waiting(egm_manager *m, bool legend) {
        static const TextColumn columns[] = {
                        {"WAITING", true}, {"LABEL", false}, {"SIZE", true},
                        {"UID", true},     {"SINCE", false},
        };
        _cleanup_(text_table_freep) TextTable *t = NULL;
        uint64_t size, since;
        const char *label;
        char buf[64];
        uint32_t uid;
        int r;

        r = text_table_new(columns, ELEMENTSOF(columns), &t);
        for (size_t i = 0;
             r >= 0 && egm_manager_get_waiting(m, i, &uid, &label, &size, &since, NULL) >= 0; i++) {
                if (text_table_add(t, "%zu", i + 1) < 0 || text_table_add(t, "%s", label) < 0 ||
                    text_table_add(t, "%s", FORMAT_SIZE(size)) < 0 ||
                    text_table_add(t, "%" PRIu32, uid) < 0)
                        return -ENOMEM;
                r = text_table_add(t, "%s", format_time(buf, since));
        }
        if (r < 0)
                return r;
        text_table_print(t, stdout, legend);
        return 0;
}

static int print_note(bool *any, bool *first, const char *format, ...) _printf_(3, 4);

static int print_note(bool *any, bool *first, const char *format, ...) {
        _cleanup_free_ char *note = NULL;
        va_list ap;
        int k;

        va_start(ap, format);
        k = vasprintf(&note, format, ap);
        va_end(ap);
        if (k < 0)
                return -ENOMEM;
        text_make_printable(note);
        if (*first)
                begin_part(any);
        *first = false;
        puts(note);
        return 0;
}

static const char *overreach_words(const char *kind) {
        static const struct {
                const char *kind, *words;
        } table[] = {
                        {"unlent", "which is lent to nobody"},
                        {"foreign", "which is lent to another user"},
                        {"unproven", "which is a lease that it shows no claim to"},
                        {"private", "privately, so that where cannot be told"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(table[i].kind, kind))
                        return table[i].words;
        return kind;
}

static int print_overreach(egm_region *region, bool *any, bool *first) {
        const char *name = egm_region_get_name(region), *kind, *command;
        uint64_t offset, size;
        uint32_t pid;
        int r = 0;

        for (size_t i = 0; r >= 0 && egm_region_get_overreach(region, i, &kind, &offset, &size,
                                                              &pid, &command) >= 0;
             i++)
                r = pid == 0 ? print_note(any, first, "%s: somebody maps %s at %" PRIu64 ", %s",
                                          name, FORMAT_SIZE(size), offset, overreach_words(kind))
                             : print_note(any, first,
                                          "%s: pid %" PRIu32 " (%s) maps %s at %" PRIu64 ", %s",
                                          name, pid, command, FORMAT_SIZE(size), offset,
                                          overreach_words(kind));
        return r;
}

/* What needs somebody's attention: regions that cannot be used, and why; who maps too much; who holds up memory. */
static int print_notes(egm_snapshot *s, bool *any) {
        egm_manager *m = egm_snapshot_get_manager(s);
        bool first = true;
        egm_lease_info *lease;
        egm_region *region;
        const char *address;
        int r = 0;

        for (size_t i = 0; r >= 0 && (region = egm_snapshot_get_region(s, i)); i++)
                if (*egm_region_get_reason(region))
                        r = print_note(any, &first, "%s: %s: %s", egm_region_get_name(region),
                                       egm_region_get_state(region), egm_region_get_reason(region));
        for (size_t i = 0; r >= 0 && (region = egm_snapshot_get_region(s, i)); i++)
                r = print_overreach(region, any, &first);
        for (size_t i = 0; r >= 0 && (lease = egm_snapshot_get_lease(s, i)); i++) {
                _cleanup_free_ char *holders = NULL;

                r = holders_to_text(lease, &holders);
                if (r >= 0 && *holders)
                        r = print_note(any, &first, "lease %s: held up by %s",
                                       egm_lease_info_get_id(lease), holders);
        }
        for (size_t i = 0; r >= 0 && egm_manager_get_unsupported(m, i, &address, NULL) >= 0; i++)
                r = print_note(any, &first,
                               "%s: carries EGM in a way that this version of egmd cannot use",
                               address);
        return r;
}

static int print_status(egm_snapshot *s, bool legend) {
        egm_manager *m = egm_snapshot_get_manager(s);
        bool any = false;
        int r = 0;

        if (egm_manager_count_sockets(m) > 0) {
                begin_part(&any);
                r = print_sockets(m, legend);
        }
        if (r >= 0 && (legend || egm_snapshot_count_regions(s) > 0)) {
                begin_part(&any);
                r = print_regions(s, legend);
        }
        if (r >= 0 && (legend || egm_snapshot_count_leases(s) > 0)) {
                begin_part(&any);
                r = print_leases(s, legend);
        }
        if (r >= 0 && egm_manager_count_waiting(m) > 0) {
                begin_part(&any);
                r = print_waiting(m, legend);
        }
        return r < 0 ? r : print_notes(s, &any);
}

/* ---- One lease ---- */

static void print_line(const char *name, const char *format, ...) _printf_(2, 3);

static void print_line(const char *name, const char *format, ...) {
        _cleanup_free_ char *value = NULL;
        va_list ap;
        int k;

        va_start(ap, format);
        k = vasprintf(&value, format, ap);
        va_end(ap);
        if (k < 0)
                return;
        text_make_printable(value);
        printf("%12s%c %s\n", name, *name ? ':' : ' ', value);
}

static void print_slices(egm_lease_info *l) {
        uint64_t offset, size;
        const char *region;

        for (size_t i = 0; egm_lease_info_get_slice(l, i, &region, &offset, &size) >= 0; i++)
                print_line(i == 0 ? "Slices" : "",
                           "%s of %s from offset %s (%" PRIu64 "+%" PRIu64 ")", FORMAT_SIZE(size),
                           region, FORMAT_SIZE(offset), offset, size);
        for (size_t i = 0; egm_lease_info_get_retired_range(l, i, &region, &offset, &size) >= 0;
             i++)
                print_line(i == 0 ? "Retired" : "", "%s of %s at %" PRIu64, FORMAT_SIZE(size),
                           region, offset);
}

static int print_lease(egm_lease_info *l) {
        _cleanup_free_ char *holders = NULL;
        const char *unit = egm_lease_info_get_unit(l), *label = egm_lease_info_get_label(l);
        uint32_t pid = egm_lease_info_get_holder_pid(l);
        char buf[64];

        if (holders_to_text(l, &holders) < 0)
                return -ENOMEM;
        print_line("Lease", "%s%s%s", egm_lease_info_get_id(l), *label ? " - " : "", label);
        print_line("State", "%s%s%s", egm_lease_info_get_state(l), *holders ? ", held up by " : "",
                   holders);
        print_line("Size", "%s", FORMAT_SIZE(lease_size(l)));
        print_slices(l);
        print_line("Lifetime", "%s", egm_lease_info_get_lifetime(l));
        print_line("Isolation", "%s", egm_lease_info_get_isolation(l));
        print_line("Owner", "uid %" PRIu32, egm_lease_info_get_owner_uid(l));
        if (egm_lease_info_get_concealed(l))
                print_line("Holder", "%s", CONCEALED);
        else if (pid != 0)
                print_line("Holder", "pid %" PRIu32 "%s%s", pid, *unit ? ", " : "", unit);
        print_line("Since", "%s", format_time(buf, egm_lease_info_get_created_usec(l)));
        return 0;
}

static int lease_status(egm_connection *c, const char *id) {
        _cleanup_egm_(lease_info) egm_lease_info *l = NULL;
        int r = egm_get_lease_info(c, id, &l);

        if (r < 0)
                return complain_call(c, r, "Failed to show lease %s", id);
        return print_lease(l) < 0 ? complain_oom() : STATUS_OK;
}

int verb_status(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(snapshot) egm_snapshot *s = NULL;
        int r, status = STATUS_OK;

        if (o->quota)
                return show_quotas(o, n_args, args);
        if (n_args > 0 && o->json != JSON_OFF)
                return verb_show_lease(o, n_args, args);
        if (n_args == 0) {
                r = take_snapshot(o, &c, &s);
                if (r != 0)
                        return r;
                r = o->json != JSON_OFF ? print_json(snapshot_to_json(s), o->json)
                                        : print_status(s, !o->no_legend);
                return r < 0 ? complain_oom() : STATUS_OK;
        }
        r = connect_bus(o, &c);
        if (r != 0)
                return r;
        for (int i = 0; i < n_args; i++) {
                if (i > 0)
                        putchar('\n');
                r = lease_status(c, args[i]);
                if (r != STATUS_OK)
                        status = r;
        }
        return status;
}
