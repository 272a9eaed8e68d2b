/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "log.h"
#include "size.h"
#include "state-internal.h"

#define LOCK_FILE "lock"
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

void state_lease_file(char ret[static STATE_FILE_NAME_MAX], uint64_t id, const char *suffix) {
        (void) snprintf(ret, STATE_FILE_NAME_MAX, "lease-%" PRIu64 "%s", id, suffix);
}

void state_region_file(char ret[static STATE_FILE_NAME_MAX], const char *name) {
        (void) snprintf(ret, STATE_FILE_NAME_MAX, "region-%s.json", name);
}

static void closed_file(char ret[static STATE_FILE_NAME_MAX], const char *name) {
        (void) snprintf(ret, STATE_FILE_NAME_MAX, "region-%s.closed", name);
}

static void temporary_file(char ret[static STATE_FILE_NAME_MAX], const char *name) {
        (void) snprintf(ret, STATE_FILE_NAME_MAX, ".%s.tmp", name);
}

/* The middle of a name; false unless it begins and ends so, with something in between. */
static bool name_middle(const char *name, const char *prefix, const char *suffix,
                        char ret[static STATE_FILE_NAME_MAX]) {
        size_t n = strlen(name), before = strlen(prefix), after = strlen(suffix);

        if (n <= before + after || n - before - after >= STATE_FILE_NAME_MAX ||
            strncmp(name, prefix, before) != 0 || !streq(name + n - after, suffix))
                return false;
        memcpy(ret, name + before, n - before - after);
        ret[n - before - after] = '\0';
        return true;
}

/* Exactly as state_lease_file() writes it, so that two names never mean one lease. */
static bool name_is_lease(const char *name, const char *suffix, uint64_t *ret_id) {
        char middle[STATE_FILE_NAME_MAX];

        return name_middle(name, "lease-", suffix, middle) && middle[0] != '0' &&
               parse_uint64(middle, ret_id) >= 0;
}

static StateFileKind name_kind(const char *name) {
        char middle[STATE_FILE_NAME_MAX];
        uint64_t id;

        if (streq(name, STATE_DAEMON_FILE))
                return STATE_FILE_DAEMON;
        if (name_middle(name, "region-", ".json", middle) && state_name_is_valid(middle))
                return STATE_FILE_REGION;
        if (name_middle(name, "region-", ".closed", middle) && state_name_is_valid(middle))
                return STATE_FILE_CLOSED;
        if (name_is_lease(name, ".json", &id))
                return STATE_FILE_LEASE;
        if (name_is_lease(name, ".fifo", &id))
                return STATE_FILE_LIFETIME;
        if (name_middle(name, ".", ".tmp", middle)) {
                StateFileKind of = name_kind(middle);

                if (of == STATE_FILE_DAEMON || of == STATE_FILE_REGION || of == STATE_FILE_CLOSED ||
                    of == STATE_FILE_LEASE)
                        return STATE_FILE_TEMPORARY;
        }
        return STATE_FILE_FOREIGN;
}

State *state_free(State *s) {
        if (!s)
                return NULL;
        table_done(&s->table);
        s->lock_fd = safe_close(s->lock_fd);
        s->dir_fd = safe_close(s->dir_fd);
        free(s->boot);
        free(s->path);
        return mfree(s);
}

const char *state_boot(const State *s) {
        assert(s);
        return s->boot;
}

dev_t state_dev(const State *s) {
        assert(s);
        return s->dev;
}

static int read_boot_id(char **ret) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_full_file_at(AT_FDCWD, BOOT_ID_FILE, STATE_NAME_MAX, &text, NULL);
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}

static int state_lock(State *s) {
        s->lock_fd = openat(s->dir_fd, LOCK_FILE,
                            O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK,
                            0600);
        if (s->lock_fd < 0)
                return -errno;
        /* The file stays when we go: who removed it could remove one that somebody has locked since. */
        if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        return 0;
}

int state_open(const char *path, const char *boot, State **ret) {
        _cleanup_(state_freep) State *s = NULL;
        struct stat st;
        int r;

        assert(path);
        assert(ret);

        s = malloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (State){.dir_fd = -EBADF, .lock_fd = -EBADF, .path = strdup(path)};
        table_init(&s->table, -EBADF);
        if (!s->path)
                return -ENOMEM;
        r = boot ? free_and_strdup(&s->boot, boot) : read_boot_id(&s->boot);
        if (r < 0)
                return r;
        if (!state_name_is_valid(s->boot))
                return -EINVAL;
        s->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (s->dir_fd < 0)
                return -errno;
        table_init(&s->table, s->dir_fd);
        if (fstat(s->dir_fd, &st) < 0)
                return -errno;
        if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & (S_IWGRP | S_IWOTH)))
                return -EPERM;
        s->dev = st.st_dev;
        r = state_lock(s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int state_open_dir(State *s, DIR **ret) {
        _cleanup_close_ int fd = -EBADF;
        DIR *d;

        /* Not a copy: that would share its position with all others. */
        fd = openat(s->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d)
                return -errno;
        (void) TAKE_FD(fd);
        *ret = d;
        return 0;
}

int state_next_file(DIR *d, StateFileKind *ret_kind, const char **ret_name) {
        for (;;) {
                struct dirent *e;
                StateFileKind kind;

                errno = 0;
                e = readdir(d);
                if (!e)
                        return errno > 0 ? -errno : 0;
                kind = name_kind(e->d_name);
                if (kind == STATE_FILE_FOREIGN)
                        continue;
                *ret_kind = kind;
                *ret_name = e->d_name;
                return 1;
        }
}

int state_unlink(State *s, const char *name) {
        if (unlinkat(s->dir_fd, name, 0) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

int state_write(State *s, const char *name, const char *text, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        char temporary[STATE_FILE_NAME_MAX];
        int r;

        temporary_file(temporary, name);
        fd = openat(s->dir_fd, temporary,
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        if (fd < 0)
                return -errno;
        r = write_all(fd, text, size);
        if (r >= 0 && renameat(s->dir_fd, temporary, s->dir_fd, name) < 0)
                r = -errno;
        if (r < 0)
                (void) unlinkat(s->dir_fd, temporary, 0);
        return r;
}

int state_save_daemon(State *s, const DaemonRecord *r) {
        _cleanup_free_ char *text = NULL;
        DaemonRecord ours;
        size_t size;
        int k;

        assert(s);
        assert(r);

        ours = *r;
        ours.boot = r->boot ?: s->boot;
        k = daemon_record_to_text(&ours, &text, &size);
        return k < 0 ? k : state_write(s, STATE_DAEMON_FILE, text, size);
}

int state_save_region(State *s, const RegionRecord *r) {
        _cleanup_free_ char *text = NULL;
        char name[STATE_FILE_NAME_MAX];
        RegionRecord ours;
        size_t size;
        int k;

        assert(s);
        assert(r);

        ours = *r;
        ours.boot = r->boot ?: s->boot;
        k = region_record_to_text(&ours, &text, &size);
        if (k < 0)
                return k;
        state_region_file(name, r->name);
        return state_write(s, name, text, size);
}

/* Too long for the table, or what else kept it out of there. */
static int save_own_file(State *s, uint64_t id, const char *text, size_t size) {
        char name[STATE_FILE_NAME_MAX];
        int r;

        r = table_prepare_own_file(&s->table, id);
        if (r < 0)
                return r;
        state_lease_file(name, id, ".json");
        r = state_write(s, name, text, size);
        if (r < 0) {
                const TableEntry *e = table_find(&s->table, id);

                if (!e->own_file)
                        table_forget(&s->table, id);
                return r;
        }
        table_set_own_file(&s->table, id);
        return 0;
}

int state_save_lease(State *s, const LeaseRecord *r) {
        _cleanup_free_ char *text = NULL;
        LeaseRecord ours;
        size_t size;
        int k;

        assert(s);
        assert(r);

        ours = *r;
        ours.boot = r->boot ?: s->boot;
        k = lease_record_to_text(&ours, &text, &size);
        if (k < 0)
                return k;
        k = table_put(&s->table, r->id, text, size);
        return k < 0 ? save_own_file(s, r->id, text, size) : 0;
}

int state_forget_region(State *s, const char *name) {
        char file[STATE_FILE_NAME_MAX];

        assert(s);
        assert(name);

        if (!state_name_is_valid(name))
                return 0; /* never written */
        state_region_file(file, name);
        return state_unlink(s, file);
}

int state_close_region(State *s, const char *name, bool closed) {
        char file[STATE_FILE_NAME_MAX];

        assert(s);
        assert(name);

        if (!state_name_is_valid(name))
                return -EINVAL;
        closed_file(file, name);
        return closed ? state_write(s, file, s->boot, strlen(s->boot)) : state_unlink(s, file);
}

int state_region_is_closed(State *s, const char *name) {
        _cleanup_free_ char *boot = NULL;
        char file[STATE_FILE_NAME_MAX];
        int r;

        assert(s);
        assert(name);

        if (!state_name_is_valid(name))
                return 0;
        closed_file(file, name);
        r = read_full_file_at(s->dir_fd, file, STATE_NAME_MAX, &boot, NULL);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        if (streq(boot, s->boot))
                return 1;
        (void) state_unlink(s, file);
        return 0;
}

int state_forget_lease(State *s, uint64_t id) {
        char name[STATE_FILE_NAME_MAX];
        const TableEntry *e;
        bool own_file;
        int r;

        assert(s);

        e = table_find(&s->table, id);
        own_file = !e || e->own_file;
        /* The file last: while it is there, it counts. */
        r = table_drop(&s->table, id);
        if (r >= 0 && own_file) {
                state_lease_file(name, id, ".json");
                r = state_unlink(s, name);
        }
        if (r < 0)
                return r;
        table_forget(&s->table, id);
        /* A record without its lifetime would be a lease that nobody keeps: harmless, but a lie. */
        state_lease_file(name, id, ".fifo");
        return state_unlink(s, name);
}

/* By descriptor: the very FIFO, whatever has its name by now. */
static int fifo_reopen(int fd, int flags) {
        char path[64];
        int r;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        r = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        return r < 0 ? -errno : r;
}

static int fifo_open(State *s, const char *name, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        fd = openat(s->dir_fd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        if (fd < 0)
                return errno == ELOOP || errno == ENXIO ? -EBADMSG : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISFIFO(st.st_mode))
                return -EBADMSG;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int state_make_lifetime(State *s, uint64_t id, int *ret_fd, int *ret_holder_fd) {
        _cleanup_close_ int fd = -EBADF, holder_fd = -EBADF;
        char name[STATE_FILE_NAME_MAX];
        int r;

        assert(s);
        assert(ret_fd);
        assert(ret_holder_fd);

        state_lease_file(name, id, ".fifo");
        if (mkfifoat(s->dir_fd, name, 0600) < 0)
                return -errno;
        fd = openat(s->dir_fd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        /* By its name, which nobody else can give to another: half the price of the way through /proc. */
        if (fd >= 0)
                holder_fd = openat(s->dir_fd, name,
                                   O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
        if (holder_fd < 0) {
                r = -errno;
                (void) unlinkat(s->dir_fd, name, 0);
                return r;
        }
        *ret_fd = TAKE_FD(fd);
        *ret_holder_fd = TAKE_FD(holder_fd);
        return 0;
}

int state_open_lifetime(State *s, uint64_t id, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF, writer = -EBADF;
        char name[STATE_FILE_NAME_MAX];
        int r;

        assert(s);
        assert(ret_fd);

        state_lease_file(name, id, ".fifo");
        r = fifo_open(s, name, &fd);
        if (r < 0)
                return r;
        /* A FIFO that is opened for reading without blocking, when nobody has it open for writing, says "hung up" only
         * after a writer has come and gone: till then poll() would wait for a first one. So we are that one, for a moment.
         * With a holder there this changes nothing: he is still there when we close. */
        writer = fifo_reopen(fd, O_WRONLY);
        if (writer < 0)
                return writer;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int state_put_lifetime_aside(State *s, uint64_t id) {
        char name[STATE_FILE_NAME_MAX], aside[STATE_FILE_NAME_MAX];

        assert(s);

        state_lease_file(name, id, ".fifo");
        state_lease_file(aside, id, ".fifo.damaged");
        return renameat(s->dir_fd, name, s->dir_fd, aside) < 0 ? -errno : 0;
}

static int id_compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? -1 : x > y;
}

int state_tidy_lifetimes(State *s, const uint64_t *ids, size_t n) {
        _cleanup_closedir_ DIR *d = NULL;
        StateFileKind kind;
        const char *name;
        int r;

        assert(s);
        assert(ids || n == 0);

        r = state_open_dir(s, &d);
        if (r < 0)
                return r;
        while ((r = state_next_file(d, &kind, &name)) > 0) {
                uint64_t id;
                int k;

                if (kind != STATE_FILE_LIFETIME || !name_is_lease(name, ".fifo", &id))
                        continue;
                if (n > 0 && bsearch(&id, ids, n, sizeof(*ids), id_compare))
                        continue;
                k = state_unlink(s, name);
                if (k < 0)
                        (void) log_warning_errno(k, "Failed to remove %s/%s: %m", s->path, name);
        }
        return r;
}
