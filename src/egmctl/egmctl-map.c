/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/ioctl.h>

#include "describe.h"
#include "egmctl.h"
#include "map-picture.h"
#include "size.h"
#include "text.h"

#define WIDTH_MIN 20U
#define WIDTH_MAX 1000U

static size_t picture_width(void) {
        const char *columns = getenv("COLUMNS");
        struct winsize w = {};
        uint64_t width = 80;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) >= 0 && w.ws_col > 0)
                width = w.ws_col;
        else if (columns && parse_uint64(columns, &width) < 0)
                width = 80;
        width = MAX(width, (uint64_t) WIDTH_MIN);
        width = MIN(width, (uint64_t) WIDTH_MAX);
        return (size_t) width - 2; /* one bar on each side */
}

static bool use_colors(void) {
        const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

        return isatty(STDOUT_FILENO) && (!no_color || !*no_color) && term && !streq(term, "dumb");
}

static const char *mark_color(char mark) {
        static const char *const lease_colors[] = {"\x1b[34m", "\x1b[35m", "\x1b[36m",
                                                   "\x1b[94m", "\x1b[95m", "\x1b[96m"};

        switch (mark) {
        case MAP_FREE:
                return "\x1b[32m";
        case MAP_DIRTY:
        case MAP_SCRUBBING:
        case MAP_DRAINING:
                return "\x1b[33m";
        case MAP_RETIRED:
        case MAP_UNKNOWN:
                return "\x1b[31m";
        default:
                return lease_colors[(unsigned char) mark % ELEMENTSOF(lease_colors)];
        }
}

static void print_picture(const char *picture, bool colors) {
        putchar('|');
        for (const char *p = picture; *p; p++) {
                if (colors && (p == picture || *p != p[-1]))
                        fputs(mark_color(*p), stdout);
                putchar(*p);
        }
        puts(colors ? "\x1b[0m|" : "|");
}

static char lease_mark(egm_snapshot *s, const char *id) {
        egm_lease_info *l;

        for (size_t i = 0; (l = egm_snapshot_get_lease(s, i)); i++)
                if (streq(egm_lease_info_get_id(l), id))
                        return map_lease_mark(i);
        /* Born after the snapshot. */
        return MAP_UNKNOWN;
}

static char extent_mark(egm_snapshot *s, const char *state, const char *lease) {
        static const struct {
                const char *state;
                char mark;
        } table[] = {
                        {"free", MAP_FREE},           {"dirty", MAP_DIRTY},
                        {"scrubbing", MAP_SCRUBBING}, {"draining", MAP_DRAINING},
                        {"retired", MAP_RETIRED},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (streq(table[i].state, state))
                        return table[i].mark;
        return streq(state, "leased") ? lease_mark(s, lease) : MAP_UNKNOWN;
}

static int draw_extents(egm_snapshot *s, egm_extents *extents, uint64_t size, size_t width,
                        char *ret) {
        _cleanup_free_ MapExtent *marks = NULL;
        size_t n = egm_extents_count(extents);
        const char *state, *lease;

        marks = calloc(n + 1, sizeof(*marks));
        if (!marks)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                (void) egm_extents_get(extents, i, &marks[i].offset, &marks[i].size, &state,
                                       &lease);
                marks[i].mark = extent_mark(s, state, lease);
        }
        map_picture(marks, n, size, width, ret);
        return 0;
}

static int map_region(egm_connection *c, egm_snapshot *s, egm_region *region) {
        _cleanup_egm_(extents) egm_extents *extents = NULL;
        const char *name = egm_region_get_name(region);
        size_t width = picture_width();
        uint64_t size = egm_region_get_size(region);
        char picture[WIDTH_MAX];
        int r;

        printf("%s: %s, %s free, %s leased, %s retired%s%s\n", name, FORMAT_SIZE(size),
               FORMAT_SIZE(egm_region_get_free(region)), FORMAT_SIZE(egm_region_get_leased(region)),
               FORMAT_SIZE(egm_region_get_retired(region)),
               *egm_region_get_reason(region) ? ", " : "",
               *egm_region_get_reason(region) ? egm_region_get_state(region) : "");
        if (size == 0)
                return STATUS_OK;
        r = egm_get_extents(c, name, &extents);
        if (r < 0)
                return complain_call(c, r, "Failed to get the extents of region %s", name);
        if (draw_extents(s, extents, size, width, picture) < 0)
                return complain_oom();
        print_picture(picture, use_colors());
        return STATUS_OK;
}

/* Each lease's letter, then the other marks. */
static int print_legend(egm_snapshot *s) {
        egm_lease_info *l;

        for (size_t i = 0; (l = egm_snapshot_get_lease(s, i)); i++) {
                _cleanup_free_ char *slices = NULL, *label = strdup(egm_lease_info_get_label(l));

                if (!streq(egm_lease_info_get_state(l), "active"))
                        continue;
                if (!label || slices_to_text(l, &slices) < 0)
                        return -ENOMEM;
                text_make_printable(label);
                printf("%c lease %s%s%s: %s\n", map_lease_mark(i), egm_lease_info_get_id(l),
                       *label ? " " : "", label, slices);
        }
        printf("%c free  %c dirty  %c scrubbing  %c draining  %c retired\n", MAP_FREE, MAP_DIRTY,
               MAP_SCRUBBING, MAP_DRAINING, MAP_RETIRED);
        return 0;
}

static json_object *new_extent(uint64_t offset, uint64_t size, const char *state,
                               const char *lease) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (json_add(o, "offset", json_object_new_uint64(offset)) < 0 ||
            json_add(o, "size", json_object_new_uint64(size)) < 0 ||
            json_add(o, "state", json_object_new_string(state)) < 0 ||
            json_add(o, "lease", json_object_new_string(lease)) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *extents_to_json(egm_region *region, egm_extents *extents) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *a = json_object_new_array();
        const char *state, *lease;
        uint64_t offset, size;

        if (json_add(o, "extents", a) < 0 ||
            json_add(o, "name", json_object_new_string(egm_region_get_name(region))) < 0 ||
            json_add(o, "size", json_object_new_uint64(egm_region_get_size(region))) < 0)
                return NULL;
        for (size_t i = 0; egm_extents_get(extents, i, &offset, &size, &state, &lease) >= 0; i++)
                if (json_append(a, new_extent(offset, size, state, lease)) < 0)
                        return NULL;
        return TAKE_PTR(o);
}

static int append_region(json_object *array, egm_connection *c, egm_region *region) {
        _cleanup_egm_(extents) egm_extents *extents = NULL;
        int r = egm_get_extents(c, egm_region_get_name(region), &extents);

        if (r < 0)
                return complain_call(c, r, "Failed to get the extents of region %s",
                                     egm_region_get_name(region));
        return json_append(array, extents_to_json(region, extents)) < 0 ? complain_oom()
                                                                        : STATUS_OK;
}

static bool is_wanted(egm_region *region, int n_args, char **args) {
        for (int i = 0; i < n_args; i++)
                if (streq(args[i], egm_region_get_name(region)))
                        return true;
        return n_args == 0;
}

static int check_names(egm_snapshot *s, int n_args, char **args) {
        for (int i = 0; i < n_args; i++) {
                egm_region *region;
                bool found = false;

                for (size_t j = 0; (region = egm_snapshot_get_region(s, j)); j++)
                        found = found || streq(args[i], egm_region_get_name(region));
                if (!found) {
                        complain("There is no region '%s'", args[i]);
                        return STATUS_NOT_FOUND;
                }
        }
        return STATUS_OK;
}

int verb_map(const Options *o, int n_args, char **args) {
        _cleanup_json_ json_object *array = NULL;
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(snapshot) egm_snapshot *s = NULL;
        egm_region *region;
        int r = take_snapshot(o, &c, &s);

        if (r == STATUS_OK)
                r = check_names(s, n_args, args);
        if (r != STATUS_OK)
                return r;
        if (o->json != JSON_OFF) {
                array = json_object_new_array();
                if (!array)
                        return complain_oom();
        }
        for (size_t i = 0; (region = egm_snapshot_get_region(s, i)); i++) {
                if (!is_wanted(region, n_args, args))
                        continue;
                r = array ? append_region(array, c, region) : map_region(c, s, region);
                if (r != STATUS_OK)
                        return r;
        }
        if (array)
                return print_json(TAKE_PTR(array), o->json) < 0 ? complain_oom() : STATUS_OK;
        if (egm_snapshot_count_regions(s) == 0 && !o->no_legend)
                puts("No regions.");
        else if (!o->no_legend && print_legend(s) < 0)
                return complain_oom();
        return STATUS_OK;
}
