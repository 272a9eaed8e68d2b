/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "state-table.h"

#define TABLE_TITLE "egmd's own notes on leases, do not parse: one in each 1024 bytes from here\n"

/* More than leases can be out. */
#define TABLE_SLOTS_MAX (UINT32_C(1) << 22)

static int entry_compare(const TableEntry *a, const TableEntry *b) {
        return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE_INTERNAL(TableTree, TableEntry, by_id, entry_compare, _unused_ static)

static void table_clear(Table *t) {
        TableEntry *e;

        while ((e = RB_ROOT(&t->entries))) {
                (void) RB_REMOVE(TableTree, &t->entries, e);
                free(e);
        }
        t->free = mfree(t->free);
        t->n_free = t->room_for_free = 0;
        t->n_slots = 0;
}

void table_init(Table *t, int dir_fd) {
        *t = (Table){.dir_fd = dir_fd, .fd = -EBADF};
        RB_INIT(&t->entries);
}

void table_done(Table *t) {
        table_clear(t);
        t->fd = safe_close(t->fd);
}

static TableEntry *entry_find(const Table *t, uint64_t id) {
        TableEntry key = {.id = id};

        return RB_FIND(TableTree, (TableTree *) &t->entries, &key);
}

const TableEntry *table_find(const Table *t, uint64_t id) {
        return entry_find(t, id);
}

static int entry_new(Table *t, uint64_t id, TableEntry **ret) {
        TableEntry *e = malloc(sizeof(*e));

        if (!e)
                return -ENOMEM;
        *e = (TableEntry){.id = id};
        (void) RB_INSERT(TableTree, &t->entries, e);
        *ret = e;
        return 0;
}

static void entry_free(Table *t, TableEntry *e) {
        (void) RB_REMOVE(TableTree, &t->entries, e);
        free(e);
}

/* Room in the list first: what is done to the file cannot be undone. */
static int reserve_free(Table *t) {
        size_t room = MAX((size_t) 64, 2 * t->room_for_free);
        uint32_t *list;

        if (t->n_free < t->room_for_free)
                return 0;
        list = reallocarray(t->free, room, sizeof(*list));
        if (!list)
                return -ENOMEM;
        t->free = list;
        t->room_for_free = room;
        return 0;
}

static int write_at(int fd, const char *data, size_t size, uint64_t at) {
        while (size > 0) {
                ssize_t n = pwrite(fd, data, size, (off_t) at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t) n;
                at += (uint64_t) n;
        }
        return 0;
}

static uint64_t slot_offset(uint32_t slot) {
        return (uint64_t) slot * TABLE_SLOT;
}

int table_open(Table *t) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (t->fd >= 0)
                return 0;
        fd = openat(t->dir_fd, TABLE_FILE,
                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADMSG;
        /* Nobody writes into a table that he has not read. */
        if (st.st_size > (off_t) TABLE_SLOT)
                return -ESTALE;
        r = write_at(fd, TABLE_TITLE, strlen(TABLE_TITLE), 0);
        if (r < 0)
                return r;
        t->fd = TAKE_FD(fd);
        t->n_slots = 1;
        return 0;
}

static int read_all(int fd, char *data, size_t size, size_t *ret_size) {
        size_t done = 0;

        while (done < size) {
                ssize_t n = read(fd, data + done, size - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t) n;
        }
        data[done] = '\0';
        *ret_size = done;
        return 0;
}

int table_read(Table *t, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *data = NULL;
        struct stat st;
        int r;

        table_clear(t);
        t->fd = safe_close(t->fd);
        fd = openat(t->dir_fd, TABLE_FILE, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT) {
                *ret_size = 0;
                return 0;
        }
        if (fd < 0)
                return errno == ELOOP || errno == ENXIO || errno == EISDIR ? -EBADMSG : -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size > (off_t) slot_offset(TABLE_SLOTS_MAX))
                return -EBADMSG;
        data = malloc((size_t) st.st_size + 1);
        if (!data)
                return -ENOMEM;
        r = read_all(fd, data, (size_t) st.st_size, ret_size);
        if (r < 0)
                return r;
        /* One that is cut short counts: what is left of its record is not to be written over unseen. */
        t->n_slots = MAX((uint32_t) ((*ret_size + TABLE_SLOT - 1) / TABLE_SLOT), UINT32_C(1));
        t->fd = TAKE_FD(fd);
        *ret = TAKE_PTR(data);
        return 0;
}

int table_adopt(Table *t, uint32_t slot, uint64_t id) {
        TableEntry *e = entry_find(t, id);
        int r;

        if (e && e->slot > 0)
                return -EEXIST;
        if (!e) {
                r = entry_new(t, id, &e);
                if (r < 0)
                        return r;
        }
        e->slot = slot;
        return 0;
}

int table_vacate(Table *t, uint32_t slot, bool empty) {
        int r;

        r = reserve_free(t);
        if (r >= 0 && !empty)
                r = write_at(t->fd, "", 1, slot_offset(slot));
        if (r >= 0)
                t->free[t->n_free++] = slot;
        return r;
}

int table_prepare_own_file(Table *t, uint64_t id) {
        TableEntry *e;

        return entry_find(t, id) ? 0 : entry_new(t, id, &e);
}

void table_set_own_file(Table *t, uint64_t id) {
        TableEntry *e = entry_find(t, id);

        assert(e);
        e->own_file = true;
        /* Where this fails the lease's end tries again, and the file counts meanwhile. */
        if (e->slot > 0 && table_vacate(t, e->slot, false) >= 0)
                e->slot = 0;
}

static int write_slot(Table *t, uint32_t slot, const char *text, size_t size) {
        /* One page's here as well: nothing of it can be missing when the rest has been copied. */
        _Alignas(TABLE_SLOT) char data[TABLE_SLOT] = {};

        memcpy(data, text, size);
        return write_at(t->fd, data, sizeof(data), slot_offset(slot));
}

static int put_new(Table *t, uint64_t id, const char *text, size_t size) {
        TableEntry *e;
        uint32_t slot;
        int r;

        if (t->n_free == 0 && t->n_slots >= TABLE_SLOTS_MAX)
                return -ENOSPC;
        r = reserve_free(t);
        if (r >= 0)
                r = entry_new(t, id, &e);
        if (r < 0)
                return r;
        slot = t->n_free > 0 ? t->free[--t->n_free] : t->n_slots++;
        r = write_slot(t, slot, text, size);
        if (r < 0) {
                /* Some of it may be there. Whoever comes next writes all over it. */
                (void) write_at(t->fd, "", 1, slot_offset(slot));
                t->free[t->n_free++] = slot;
                entry_free(t, e);
                return r;
        }
        e->slot = slot;
        return 0;
}

int table_put(Table *t, uint64_t id, const char *text, size_t size) {
        const TableEntry *e = entry_find(t, id);
        int r;

        assert(size > 0 && *text);

        if (size >= TABLE_SLOT || (e && e->own_file))
                return -E2BIG;
        r = table_open(t);
        if (r < 0)
                return r;
        if (e && e->slot > 0)
                return write_slot(t, e->slot, text, size);
        return put_new(t, id, text, size);
}

int table_drop(Table *t, uint64_t id) {
        TableEntry *e = entry_find(t, id);
        int r;

        if (!e || e->slot == 0)
                return 0;
        r = table_vacate(t, e->slot, false);
        if (r < 0)
                return r;
        e->slot = 0;
        if (!e->own_file)
                entry_free(t, e);
        return 0;
}

void table_forget(Table *t, uint64_t id) {
        TableEntry *e = entry_find(t, id);

        if (e && e->slot == 0)
                entry_free(t, e);
}
