/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "log.h"
#include "state-internal.h"

/* A file of ours, read but not acted upon: nothing is touched before all were looked at. */
typedef struct Found {
        char name[STATE_FILE_NAME_MAX];
        StateFileKind kind;
        uint32_t slot;    /* of the table; 0: a file */
        const char *text; /* what is in that slot */
        char *why;        /* what is wrong with it; NULL: fine */
        bool damaged;
        unsigned format;
        DaemonRecord daemon;
        RegionRecord region;
        LeaseRecord lease;
} Found;

typedef struct FoundList {
        Found *items;
        size_t n, room;
        char *table;
        size_t table_size;
        bool table_damaged;
} FoundList;

static void found_done(Found *f) {
        free(f->why);
        daemon_record_done(&f->daemon);
        region_record_done(&f->region);
        lease_record_done(&f->lease);
}

static void found_list_done(FoundList *l) {
        for (size_t i = 0; i < l->n; i++)
                found_done(l->items + i);
        free(l->items);
        free(l->table);
}

static Found *found_add(FoundList *l, StateFileKind kind) {
        if (l->n == l->room) {
                size_t room = MAX((size_t) 16, l->room * 2);
                Found *t = reallocarray(l->items, room, sizeof(*t));

                if (!t)
                        return NULL;
                l->items = t;
                l->room = room;
        }
        l->items[l->n] = (Found){.kind = kind};
        return l->items + l->n++;
}

/* -EBADMSG: whatever it is, it is no file that we wrote. */
static int read_record_file(State *s, const char *name, char **ret, size_t *ret_size,
                            char **ret_why) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t n = 0;

        fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && (errno == ELOOP || errno == ENXIO))
                return state_refuse(ret_why, "not a regular file");
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return state_refuse(ret_why, "not a regular file");
        if (st.st_size > (off_t) STATE_FILE_MAX)
                return state_refuse(ret_why, "%jd bytes long, at most %" PRIu64,
                                    (intmax_t) st.st_size, STATE_FILE_MAX);
        text = malloc((size_t) st.st_size + 1);
        if (!text)
                return -ENOMEM;
        while (n < (size_t) st.st_size) {
                ssize_t k = read(fd, text + n, (size_t) st.st_size - n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0)
                        break;
                n += (size_t) k;
        }
        *ret = TAKE_PTR(text);
        *ret_size = n;
        return 0;
}

/* A record under another's name would be that other. */
static int found_check_name(Found *f) {
        char name[STATE_FILE_NAME_MAX] = STATE_DAEMON_FILE;

        if (f->kind == STATE_FILE_REGION)
                state_region_file(name, f->region.name);
        if (f->kind == STATE_FILE_LEASE)
                state_lease_file(name, f->lease.id, ".json");
        return streq(name, f->name) ? 0 : state_refuse(&f->why, "the record of %s", name);
}

/* What the text says, or what is wrong with it. */
static int found_judge(State *s, Found *f, int r) {
        if (r == -EBADMSG) {
                f->damaged = true;
                return 0;
        }
        if (r == -EPROTONOSUPPORT)
                return log_error_errno(r,
                                       "%s/%s is of format %u and we know formats up to %u: it "
                                       "belongs to a newer egmd",
                                       s->path, f->name, f->format, STATE_FORMAT);
        if (r < 0)
                return log_error_errno(r, "Failed to read %s/%s: %m", s->path, f->name);
        if (f->format != STATE_FORMAT)
                log_debug("%s/%s is of format %u and becomes %u when it changes", s->path, f->name,
                          f->format, STATE_FORMAT);
        return 0;
}

static int found_read(State *s, Found *f) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int r;

        r = read_record_file(s, f->name, &text, &size, &f->why);
        if (r >= 0 && f->kind == STATE_FILE_DAEMON)
                r = daemon_record_from_text(text, size, &f->daemon, &f->format, &f->why);
        else if (r >= 0 && f->kind == STATE_FILE_REGION)
                r = region_record_from_text(text, size, &f->region, &f->format, &f->why);
        else if (r >= 0 && f->kind == STATE_FILE_LEASE)
                r = lease_record_from_text(text, size, &f->lease, &f->format, &f->why);
        if (r >= 0)
                r = found_check_name(f);
        return found_judge(s, f, r);
}

static int state_find_files(State *s, FoundList *l) {
        _cleanup_closedir_ DIR *d = NULL;
        StateFileKind kind;
        const char *name;
        int r;

        r = state_open_dir(s, &d);
        if (r < 0)
                return r;
        while ((r = state_next_file(d, &kind, &name)) > 0) {
                Found *f;

                if (kind == STATE_FILE_LIFETIME || kind == STATE_FILE_CLOSED)
                        continue;
                f = found_add(l, kind);
                if (!f)
                        return -ENOMEM;
                memcpy(f->name, name, strlen(name) + 1); /* names of ours fit */
                if (kind == STATE_FILE_TEMPORARY)
                        continue;
                r = found_read(s, f);
                if (r < 0)
                        return r;
        }
        return r;
}

/* One record of the table. Where all of it is text, its end is missing. */
static int found_read_slot(State *s, Found *f, const char *text, size_t size) {
        size_t n = strnlen(text, size);
        int r;

        f->text = text;
        (void) snprintf(f->name, sizeof(f->name), TABLE_FILE " (slot %" PRIu32 ")", f->slot);
        r = n == size ? state_refuse(&f->why, "cut short")
                      : lease_record_from_text(text, n, &f->lease, &f->format, &f->why);
        return found_judge(s, f, r);
}

static int state_find_slots(State *s, FoundList *l) {
        int r;

        r = table_read(&s->table, &l->table, &l->table_size);
        if (r == -EBADMSG) {
                l->table_damaged = true;
                return 0;
        }
        if (r < 0)
                return log_error_errno(r, "Failed to read %s/%s: %m", s->path, TABLE_FILE);
        for (size_t at = TABLE_SLOT; at < l->table_size; at += TABLE_SLOT) {
                Found *f = found_add(l, STATE_FILE_LEASE);

                if (!f)
                        return -ENOMEM;
                f->slot = (uint32_t) (at / TABLE_SLOT);
                if (l->table[at] == '\0')
                        continue; /* free */
                r = found_read_slot(s, f, l->table + at,
                                    MIN((size_t) TABLE_SLOT, l->table_size - at));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int slot_move_aside(State *s, const Found *f, const char *aside) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = openat(s->dir_fd, aside,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
                    0600);
        if (fd < 0)
                return -errno;
        r = write_all(fd, f->text, strnlen(f->text, TABLE_SLOT));
        return r < 0 ? r : table_vacate(&s->table, f->slot, false);
}

static void state_move_aside(State *s, const Found *f) {
        char aside[STATE_FILE_NAME_MAX + 16];
        int r = 0;

        if (f->slot > 0) {
                (void) snprintf(aside, sizeof(aside), TABLE_FILE "-%" PRIu32 ".damaged", f->slot);
                r = slot_move_aside(s, f, aside);
        } else {
                (void) snprintf(aside, sizeof(aside), "%s.damaged", f->name);
                if (renameat(s->dir_fd, f->name, s->dir_fd, aside) < 0)
                        r = -errno;
        }
        if (r < 0)
                (void) log_warning_errno(r, "%s/%s is damaged (%s) and stays in the way: %m",
                                         s->path, f->name, f->why ?: "?");
        else
                log_warning("%s/%s is damaged (%s); moved aside to %s", s->path, f->name,
                            f->why ?: "?", aside);
}

/* Its memory is gone, and its processes. */
static void state_forget_other_boot(State *s, const Found *f) {
        int r;

        r = f->kind == STATE_FILE_LEASE ? state_forget_lease(s, f->lease.id)
                                        : state_unlink(s, f->name);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to remove %s/%s of another boot: %m", s->path,
                                         f->name);
}

static const char *found_boot(const Found *f) {
        return f->kind == STATE_FILE_DAEMON   ? f->daemon.boot
               : f->kind == STATE_FILE_REGION ? f->region.boot
                                              : f->lease.boot;
}

/* Says where each lease's record is. Files come first: one of its own counts. 0: there is nothing more to do. */
static int state_place_lease(State *s, Found *f) {
        const TableEntry *e;
        int r;

        if (f->slot == 0) {
                r = table_prepare_own_file(&s->table, f->lease.id);
                if (r >= 0)
                        table_set_own_file(&s->table, f->lease.id);
                return r < 0 ? r : 1;
        }
        e = table_find(&s->table, f->lease.id);
        if (e && e->own_file)
                return table_vacate(&s->table, f->slot, false);
        r = table_adopt(&s->table, f->slot, f->lease.id);
        if (r == -EEXIST) {
                f->damaged = true;
                r = state_refuse(&f->why, "another record of lease %" PRIu64, f->lease.id);
                return r == -EBADMSG ? 1 : r;
        }
        return r < 0 ? r : 1;
}

/* Hands the record over, or acts on what it is instead. There is room for all. */
static int state_sort_out(State *s, Found *f, StateContent *c) {
        int r;

        if (f->slot > 0 && !f->text)
                return table_vacate(&s->table, f->slot, true);
        if (f->kind == STATE_FILE_TEMPORARY) {
                r = state_unlink(s, f->name);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to remove %s/%s: %m", s->path, f->name);
                return 0;
        }
        if (f->kind == STATE_FILE_LEASE && !f->damaged) {
                r = state_place_lease(s, f);
                if (r <= 0)
                        return r;
        }
        if (f->damaged) {
                c->n_damaged++;
                state_move_aside(s, f);
        } else if (!streq(found_boot(f), s->boot)) {
                c->other_boot = true;
                state_forget_other_boot(s, f);
        } else if (f->kind == STATE_FILE_DAEMON) {
                c->daemon = f->daemon;
                f->daemon = (DaemonRecord){};
        } else if (f->kind == STATE_FILE_REGION) {
                c->regions[c->n_regions++] = f->region;
                f->region = (RegionRecord){};
        } else {
                c->leases[c->n_leases++] = f->lease;
                f->lease = (LeaseRecord){};
        }
        return 0;
}

static int lease_record_compare(const void *a, const void *b) {
        uint64_t x = ((const LeaseRecord *) a)->id, y = ((const LeaseRecord *) b)->id;

        return x < y ? -1 : x > y;
}

static int region_record_compare(const void *a, const void *b) {
        return strcmp(((const RegionRecord *) a)->name, ((const RegionRecord *) b)->name);
}

void state_content_done(StateContent *c) {
        assert(c);

        daemon_record_done(&c->daemon);
        for (size_t i = 0; i < c->n_leases; i++)
                lease_record_done(c->leases + i);
        free(c->leases);
        for (size_t i = 0; i < c->n_regions; i++)
                region_record_done(c->regions + i);
        free(c->regions);
        *c = (StateContent){};
}

int state_load(State *s, StateContent *ret) {
        _cleanup_(found_list_done) FoundList found = {};
        _cleanup_state_content_ StateContent c = {};
        unsigned daemon_format = 0;
        int r;

        assert(s);
        assert(ret);

        r = state_find_files(s, &found);
        if (r >= 0)
                r = state_find_slots(s, &found);
        if (r < 0)
                return r;
        c.leases = calloc(found.n + 1, sizeof(*c.leases));
        c.regions = calloc(found.n + 1, sizeof(*c.regions));
        if (!c.leases || !c.regions)
                return -ENOMEM;
        if (found.table_damaged) {
                Found table = {.name = TABLE_FILE, .why = (char *) "not a table of ours"};

                c.n_damaged++;
                state_move_aside(s, &table);
        }
        for (size_t i = 0; i < found.n; i++) {
                r = state_sort_out(s, found.items + i, &c);
                if (r < 0)
                        return r;
                if (found.items[i].kind == STATE_FILE_DAEMON)
                        daemon_format = found.items[i].format;
        }
        /* An older egmd knows nothing of the table, and must not get as far as missing it. */
        if (c.daemon.boot && daemon_format < STATE_FORMAT) {
                r = state_save_daemon(s, &c.daemon);
                if (r < 0)
                        return r;
        }
        /* Else it is tried again with each record, which gets a file of its own meanwhile. */
        (void) table_open(&s->table);
        qsort(c.leases, c.n_leases, sizeof(*c.leases), lease_record_compare);
        qsort(c.regions, c.n_regions, sizeof(*c.regions), region_record_compare);
        *ret = c;
        c = (StateContent){};
        return 0;
}
