/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "lease-record.h"

/* What can become of records and stored descriptors while nobody looks after them. */

#define FILE_MAX (64 * KIB)
#define TABLE_MAX MIB

/* ---- the store ---- */

static void region_fd_name(char ret[static 32], unsigned region) {
        (void) snprintf(ret, 32, "region-%s", walk_regions[region].name);
}

static size_t find_stored(Walk *w, unsigned region) {
        char name[32];

        region_fd_name(name, region);
        for (size_t i = 0; i < keeper_n_stored(w->keeper); i++)
                if (streq(keeper_stored_name(w->keeper, i), name))
                        return i;
        walk_fail(w, "%s is not stored", name);
}

static void store(Walk *w, const char *name, int fd) {
        walk_check(w, keeper_store_add(w->keeper, name, fd) == 1);
}

/* The very descriptor under another name. */
static void rename_stored(Walk *w, unsigned region, const char *name) {
        size_t i = find_stored(w, region);
        int fd = fd_copy(keeper_stored_fd(w->keeper, i));

        walk_check(w, fd >= 0);
        keeper_store_remove(w->keeper, i);
        store(w, name, fd);
        (void) close(fd);
}

/* Not the region, but as large. */
static void store_foreign(Walk *w, unsigned region) {
        char name[32];
        int fd = memfd_create("foreign", MFD_CLOEXEC);

        walk_check(w, fd >= 0 && ftruncate(fd, (off_t) w->regions[region].size) == 0);
        region_fd_name(name, region);
        store(w, name, fd);
        (void) close(fd);
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        walk_check(w, fd >= 0);
        store(w, "region-egm9", fd);
        (void) close(fd);
        fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
        walk_check(w, fd >= 0);
        store(w, "whatever", fd);
        (void) close(fd);
}

/* The same memory, opened once more. */
static void store_duplicate(Walk *w, unsigned region) {
        char path[64], name[32];
        int fd;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i",
                        keeper_stored_fd(w->keeper, find_stored(w, region)));
        fd = open(path, O_RDWR | O_CLOEXEC);
        walk_check(w, fd >= 0);
        region_fd_name(name, region);
        store(w, name, fd);
        (void) close(fd);
}

/* There is one always. */
static unsigned some_device(Walk *w) {
        unsigned i;

        do
                i = (unsigned) walk_random(w, WALK_REGIONS);
        while (w->regions[i].gone);
        return i;
}

static void tamper_with_store(Walk *w, WalkWitnesses *t) {
        unsigned i = some_device(w), k = (i + 1) % WALK_REGIONS;
        const char *name = walk_regions[i].name;
        char a[32], b[32];

        switch (walk_random(w, 14)) {
        case 0:
                walk_note(w, "    the store is empty");
                keeper_store_clear(w->keeper);
                for (size_t j = 0; j < WALK_REGIONS; j++)
                        t->stored[j] = false;
                break;
        case 1:
                walk_note(w, "    %s is not stored", name);
                keeper_store_remove(w->keeper, find_stored(w, i));
                t->stored[i] = false;
                break;
        case 2:
                walk_note(w, "    %s is stored under a wrong name", name);
                rename_stored(w, i, "egm");
                t->stored[i] = false;
                break;
        case 3:
                if (w->regions[k].gone)
                        break;
                walk_note(w, "    %s and %s are stored under each other's names", name,
                          walk_regions[k].name);
                region_fd_name(a, i);
                region_fd_name(b, k);
                rename_stored(w, i, "between");
                rename_stored(w, k, a);
                for (size_t j = 0; j < keeper_n_stored(w->keeper); j++)
                        if (streq(keeper_stored_name(w->keeper, j), "between")) {
                                int fd = fd_copy(keeper_stored_fd(w->keeper, j));

                                keeper_store_remove(w->keeper, j);
                                store(w, b, fd);
                                (void) close(fd);
                                break;
                        }
                t->stored[i] = t->stored[k] = false;
                break;
        case 4:
                walk_note(w, "    what is not %s is stored under its name, and more", name);
                store_foreign(w, i);
                t->foreign[i] = true;
                break;
        case 5:
                walk_note(w, "    %s is stored twice", name);
                store_duplicate(w, i);
                break;
        default:
                break;
        }
}

/* ---- files ---- */

static void file_path(Walk *w, const char *name, char ret[static 256]) {
        (void) snprintf(ret, 256, "%s/%s", keeper_runtime_dir(w->keeper), name);
}

static bool has_file(Walk *w, const char *name) {
        char path[256];

        file_path(w, name, path);
        return access(path, F_OK) == 0;
}

static char *read_file(Walk *w, const char *name) {
        char path[256], *text;

        file_path(w, name, path);
        if (read_full_file_at(AT_FDCWD, path, FILE_MAX, &text, NULL) < 0)
                walk_fail(w, "there is no %s", name);
        return text;
}

static void write_file(Walk *w, const char *name, const char *text, size_t size) {
        char path[256];
        int fd;

        file_path(w, name, path);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        walk_check(w, fd >= 0 && write_all(fd, text, size) >= 0);
        (void) close(fd);
}

static void remove_file(Walk *w, const char *name) {
        char path[256];

        file_path(w, name, path);
        walk_check(w, unlink(path) == 0);
}

/* Gone, or cut short. */
static void spoil_file(Walk *w, const char *name) {
        _cleanup_free_ char *text = NULL;

        if (walk_chance(w, 2)) {
                walk_note(w, "    %s is missing", name);
                remove_file(w, name);
                return;
        }
        text = read_file(w, name);
        walk_note(w, "    %s is cut short", name);
        write_file(w, name, text, walk_random(w, strlen(text) - 1));
}

/* Takes every `,"key":value` out. */
static void drop_member(char *text, const char *key) {
        char needle[32], *at;

        (void) snprintf(needle, sizeof(needle), ",\"%s\":", key);
        while ((at = strstr(text, needle))) {
                char *end = at + strlen(needle);

                end += strcspn(end, ",}");
                memmove(at, end, strlen(end) + 1);
        }
}

static void set_format(Walk *w, char *text, char digit) {
        char *at = strstr(text, "\"format\":");

        walk_check(w, at);
        at[strlen("\"format\":")] = digit;
}

/* As the first version wrote it. */
static void make_old(Walk *w, const char *name, char *text) {
        walk_note(w, "    %s is of format 1", name);
        set_format(w, text, '1');
        drop_member(text, "phase");
        drop_member(text, "start");
        drop_member(text, "schedulable");
        drop_member(text, "delegate");
        drop_member(text, "account_unit");
        drop_member(text, "account_slice");
        drop_member(text, "dmabuf");
        drop_member(text, "dmabufs");
        write_file(w, name, text, strlen(text));
        free(text);
}

static void lease_file(char ret[static 64], const WalkLease *l, const char *suffix) {
        (void) snprintf(ret, 64, "lease-%" PRIu64 ".%s", l->id, suffix);
}

static void region_file(char ret[static 64], unsigned region) {
        (void) snprintf(ret, 64, "region-%s.json", walk_regions[region].name);
}

static char *read_lease(Walk *w, const WalkLease *l) {
        char *text = lease_record_get(keeper_runtime_dir(w->keeper), l->id);

        if (!text)
                walk_fail(w, "there is no record of lease %" PRIu64, l->id);
        return text;
}

static void write_lease(Walk *w, const WalkLease *l, const char *text) {
        walk_check(w, lease_record_put(keeper_runtime_dir(w->keeper), l->id, text) >= 0);
}

/* Nobody knows of it any more, but who has it has it. */
static void spoil_lease(Walk *w, WalkLease *l) {
        _cleanup_free_ char *text = read_lease(w, l);

        if (walk_chance(w, 2)) {
                walk_note(w, "    the record of lease %" PRIu64 " is missing", l->id);
                walk_check(w, lease_record_remove(keeper_runtime_dir(w->keeper), l->id) >= 0);
        } else {
                walk_note(w, "    the record of lease %" PRIu64 " is cut short", l->id);
                text[1 + walk_random(w, strlen(text) - 2)] = '\0';
                write_lease(w, l, text);
        }
        walk_lease_forget(w, l);
}

/* Which had a file for each. */
static void make_lease_old(Walk *w, const WalkLease *l) {
        char *text = read_lease(w, l), name[64];

        walk_check(w, lease_record_remove(keeper_runtime_dir(w->keeper), l->id) >= 0);
        lease_file(name, l, "json");
        make_old(w, name, text);
}

static void lose_lifetime(Walk *w, WalkLease *l) {
        char name[64];

        walk_note(w, "    the lifetime of lease %" PRIu64 " is missing", l->id);
        lease_file(name, l, "fifo");
        remove_file(w, name);
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                for (size_t k = 0; k < WALK_SLOTS; k++)
                        if (w->children[i].slots[k].kind == WALK_SLOT_LIFETIME &&
                            w->children[i].slots[k].lease == l->serial)
                                w->children[i].slots[k].lease = 0;
        walk_model_update(w);
}

static void lose_all(Walk *w, WalkWitnesses *t) {
        DIR *d = opendir(keeper_runtime_dir(w->keeper));
        struct dirent *e;

        walk_note(w, "    the state directory is empty");
        walk_check(w, d);
        while ((e = readdir(d)))
                if (e->d_name[0] != '.')
                        remove_file(w, e->d_name);
        (void) closedir(d);
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used)
                        walk_lease_forget(w, w->leases + i);
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                t->recorded[i] = false;
                w->regions[i].schedulable = true;
        }
        /* With the store empty as well, nothing tells this start from the first. */
        if (keeper_n_stored(w->keeper) == 0) {
                free(w->ids);
                w->ids = NULL;
                w->n_ids = w->room_for_ids = 0;
        }
}

static void leave_strays(Walk *w) {
        walk_note(w, "    temporary files were left");
        write_file(w, ".egmd.json.tmp", "{", 1);
        write_file(w, ".region-egm4.json.tmp", "", 0);
        write_file(w, ".lease-7.json.tmp", "{\"private\":", 11);
        write_file(w, "lease-77.fifo", "", 0);
}

/* ---- a newer version was here ---- */

static char *text_of_all(Walk *w) {
        DIR *d = opendir(keeper_runtime_dir(w->keeper));
        struct dirent *e;
        char *text = NULL;
        uint64_t sum = 0;

        walk_check(w, d);
        while ((e = readdir(d))) {
                _cleanup_free_ char *content = NULL;
                uint64_t h = 14695981039346656037U;
                size_t size;

                if (e->d_name[0] == '.' || strstr(e->d_name, ".fifo"))
                        continue;
                walk_check(w,
                           read_full_file_at(dirfd(d), e->d_name, TABLE_MAX, &content, &size) >= 0);
                for (const char *p = e->d_name; *p; p++)
                        h = (h ^ (unsigned char) *p) * 1099511628211U;
                for (size_t i = 0; i < size; i++)
                        h = (h ^ (unsigned char) content[i]) * 1099511628211U;
                sum += h;
        }
        (void) closedir(d);
        walk_check(w, asprintf(&text, "%016" PRIx64 ", %zu stored", sum,
                               keeper_n_stored(w->keeper)) > 0);
        return text;
}

static void refuse(Walk *w, const char *name) {
        _cleanup_free_ char *before = text_of_all(w), *after = NULL, *log = NULL;
        int r;

        r = keeper_start(w->keeper, WALK_DEADLINE_USEC);
        if (r != 1)
                walk_fail(w, "it started all the same: %i", r);
        r = keeper_exit_status(w->keeper);
        if (!WIFEXITED(r) || WEXITSTATUS(r) == 0)
                walk_fail(w, "it ended with status %#x", (unsigned) r);
        walk_check(w, keeper_pump(w->keeper) >= 0);
        after = text_of_all(w);
        if (!streq(before, after))
                walk_fail(w, "refused, and touched: %s, now %s", before, after);
        log = keeper_log_text(w->keeper);
        walk_check(w, log && strstr(log, name));
}

static void refuse_newer(Walk *w, const char *name) {
        _cleanup_free_ char *text = read_file(w, name), *newer = strdup(text);

        walk_note(w, "    %s is of a newer format", name);
        walk_check(w, newer);
        set_format(w, newer, '9');
        write_file(w, name, newer, strlen(newer));
        refuse(w, name);
        write_file(w, name, text, strlen(text));
}

static void refuse_newer_lease(Walk *w, const WalkLease *l) {
        _cleanup_free_ char *text = read_lease(w, l), *newer = strdup(text);

        walk_note(w, "    the record of lease %" PRIu64 " is of a newer format", l->id);
        walk_check(w, newer);
        set_format(w, newer, '9');
        write_lease(w, l, newer);
        refuse(w, "/lease");
        write_lease(w, l, text);
}

/* ---- */

static void tamper_with_files(Walk *w, WalkWitnesses *t) {
        unsigned i = some_device(w);
        WalkLease *l = walk_lease_pick(w, false);
        char name[64];

        region_file(name, i);
        /* Without its record nothing but its device number tells a region's file from another, and a simulated one has none. */
        for (size_t k = 0; k < WALK_REGIONS; k++)
                if (t->foreign[k])
                        return;
        switch (walk_random(w, 22)) {
        case 0:
                lose_all(w, t);
                break;
        case 1:
        case 2:
                if (l)
                        spoil_lease(w, l);
                break;
        case 3:
                l = walk_lease_pick(w, true);
                if (l)
                        spoil_lease(w, l);
                break;
        case 4:
        case 5:
                spoil_file(w, name);
                t->recorded[i] = false;
                break;
        case 6:
                /* Once lost, it is written again when the next numbers are needed. */
                if (has_file(w, "egmd.json"))
                        spoil_file(w, "egmd.json");
                break;
        case 7:
                /* That had no word for what is lost. */
                if (l && walk_lease_pick(w, true) != l && !walk_lease_is_lost(l))
                        make_lease_old(w, l);
                break;
        case 8:
                make_old(w, name, read_file(w, name));
                break;
        case 9:
                refuse_newer(w, name);
                break;
        case 10:
                if (l)
                        refuse_newer_lease(w, l);
                break;
        case 11:
                leave_strays(w);
                break;
        case 12:
                if (l && !l->persistent)
                        lose_lifetime(w, l);
                break;
        default:
                break;
        }
}

void walk_witnesses_tamper(Walk *w, WalkWitnesses *t) {
        tamper_with_store(w, t);
        tamper_with_files(w, t);
}
