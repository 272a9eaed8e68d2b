/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <dirent.h>
#include <inttypes.h>

#include "daemon-fds.h"
#include "lease-record.h"
#include "size.h"

/* What the daemon has open, has written down and has stored, when it is at rest: of each thing that is there one, and nothing else. */

static size_t count_descriptors(Walk *w, size_t ret_of_region[static WALK_REGIONS]) {
        char path[64], name[320], target[128];
        struct dirent *e;
        size_t n = 0;
        DIR *d;

        (void) snprintf(path, sizeof(path), "/proc/%i/fd", (int) keeper_pid(w->keeper));
        d = opendir(path);
        walk_check(w, d);
        memset(ret_of_region, 0, WALK_REGIONS * sizeof(*ret_of_region));
        while ((e = readdir(d))) {
                ssize_t length;
                bool is_region = false;

                if (e->d_name[0] == '.')
                        continue;
                (void) snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
                length = readlink(name, target, sizeof(target) - 1);
                if (length < 0)
                        continue;
                target[length] = '\0';
                for (size_t i = 0; i < WALK_REGIONS; i++) {
                        char memfd[32];

                        (void) snprintf(memfd, sizeof(memfd), "/memfd:%s ", walk_regions[i].name);
                        if (strncmp(target, memfd, strlen(memfd)) == 0) {
                                ret_of_region[i]++;
                                is_region = true;
                        }
                }
                n += !is_region && daemon_fd_counts(target);
        }
        (void) closedir(d);
        return n;
}

static bool descriptors_are_settled(Walk *w) {
        size_t of_region[WALK_REGIONS], n = count_descriptors(w, of_region), expected = 0;

        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used && !w->leases[i].ended)
                        expected += 1 + walk_lease_bound_alive(w, w->leases + i);
        if (w->base_fds < 0)
                w->base_fds = (int) (n - expected);
        if (n != (size_t) w->base_fds + expected)
                return walk_not_yet("the daemon has %zu descriptors beside its regions', and %zu "
                                    "should be",
                                    n, (size_t) w->base_fds + expected);
        /* The simulation's own, and the open file; after a restart only that. */
        for (size_t i = 0; i < WALK_REGIONS; i++)
                if ((of_region[i] < 1 && !w->regions[i].gone) || of_region[i] > 2)
                        return walk_not_yet("the daemon has %zu descriptors of %s", of_region[i],
                                            walk_regions[i].name);
        return true;
}

static bool ends_with(const char *s, const char *end) {
        return strlen(s) >= strlen(end) && streq(s + strlen(s) - strlen(end), end);
}

static bool file_is_known(Walk *w, const View *v, const char *name, size_t *n_records) {
        char digits[24];
        uint64_t id;

        if (streq(name, "lock") || streq(name, "egmd.json") || streq(name, "leases") ||
            ends_with(name, ".damaged"))
                return true;
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                char region[32];

                (void) snprintf(region, sizeof(region), "region-%s.json", walk_regions[i].name);
                if (streq(name, region)) {
                        ++*n_records;
                        return true;
                }
                (void) snprintf(region, sizeof(region), "region-%s.closed", walk_regions[i].name);
                if (streq(name, region))
                        return !w->regions[i].schedulable;
        }
        if (strncmp(name, "lease-", 6) != 0)
                return false;
        (void) snprintf(digits, sizeof(digits), "%.*s", (int) strcspn(name + 6, "."), name + 6);
        if (parse_uint64(digits, &id) < 0 || !walk_view_lease(v, id))
                return false;
        *n_records += ends_with(name, ".json");
        return true;
}

static bool directory_is_settled(Walk *w, const View *v) {
        size_t n_records = 0, expected = walk_n_devices(w);
        struct dirent *e;
        DIR *d = opendir(keeper_runtime_dir(w->keeper));
        char stray[128] = "";

        walk_check(w, d);
        while ((e = readdir(d)))
                if (e->d_name[0] != '.' || strlen(e->d_name) > 2)
                        if (!file_is_known(w, v, e->d_name, &n_records))
                                (void) snprintf(stray, sizeof(stray), "%.100s", e->d_name);
        (void) closedir(d);
        if (*stray)
                return walk_not_yet("the state directory has %s", stray);
        n_records += lease_record_count_slots(keeper_runtime_dir(w->keeper));
        for (size_t i = 0; i < v->n_leases; i++)
                expected += !streq(v->leases[i].label, "(unknown)");
        if (n_records != expected)
                return walk_not_yet("%zu records, and %zu should be", n_records, expected);
        return true;
}

static bool store_is_settled(Walk *w) {
        walk_check(w, keeper_pump(w->keeper) >= 0);
        if (keeper_n_stored(w->keeper) != walk_n_devices(w))
                return walk_not_yet("%zu descriptors are stored", keeper_n_stored(w->keeper));
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                char name[32];
                bool found;

                (void) snprintf(name, sizeof(name), "region-%s", walk_regions[i].name);
                found = keeper_has_stored(w->keeper, name);
                if (found == w->regions[i].gone)
                        return walk_not_yet("%s is%s stored", name, found ? "" : " not");
        }
        return true;
}

bool walk_files_are_settled(Walk *w, const View *v) {
        if (!descriptors_are_settled(w))
                return false;
        return !w->remembers || (directory_is_settled(w, v) && store_is_settled(w));
}
