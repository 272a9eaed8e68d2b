/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <systemd/sd-daemon.h>

#include "fd-store.h"
#include "fd-util.h"
#include "log.h"

typedef struct Stored {
        char *name;
        int fd;
        bool taken;
        bool useless; /* to be forgotten */
} Stored;

struct FdStore {
        Stored *items;
        size_t n;
};

static void free_names(char **names) {
        for (char **p = names; p && *p; p++)
                free(*p);
        free(names);
}

int fd_store_collect(FdStore **ret) {
        _cleanup_(fd_store_freep) FdStore *s = NULL;
        char **names = NULL;
        int n;

        assert(ret);

        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        n = sd_listen_fds_with_names(true, &names);
        if (n < 0)
                return n;
        s->items = calloc((size_t) n + 1, sizeof(*s->items));
        if (!s->items) {
                free_names(names);
                return -ENOMEM;
        }
        for (int i = 0; i < n; i++)
                s->items[s->n++] = (Stored){.name = names[i], .fd = SD_LISTEN_FDS_START + i};
        free(names);
        *ret = TAKE_PTR(s);
        return 0;
}

bool fd_store_is_empty(const FdStore *s) {
        assert(s);
        return s->n == 0;
}

static bool is_name_forgotten(const FdStore *s, const char *name) {
        for (size_t i = 0; i < s->n; i++)
                if (s->items[i].useless && streq(s->items[i].name, name))
                        return true;
        return false;
}

void fd_store_finish(FdStore *s) {
        assert(s);

        for (size_t i = 0; i < s->n; i++) {
                Stored *t = s->items + i;
                int r;

                if (!t->taken) {
                        log_notice("Closing a descriptor that has no use any more: \"%s\"",
                                   t->name);
                        t->fd = safe_close(t->fd);
                        t->taken = t->useless = true;
                }
                if (!t->useless)
                        continue;
                r = fd_store_remove(t->name);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to have it forgotten: %m");
        }
        /* The manager forgets by name only. */
        for (size_t i = 0; i < s->n; i++) {
                const Stored *t = s->items + i;
                int r;

                if (t->useless || !is_name_forgotten(s, t->name))
                        continue;
                r = fd_store_put(t->name, t->fd);
                if (r < 0)
                        (void) log_error_errno(r, "Failed to store \"%s\" again: %m", t->name);
        }
}

FdStore *fd_store_free(FdStore *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n; i++) {
                if (!s->items[i].taken)
                        safe_close(s->items[i].fd);
                free(s->items[i].name);
        }
        free(s->items);
        return mfree(s);
}

int fd_store_take(FdStore *s, const char *name, int *ret_fd) {
        assert(s);
        assert(ret_fd);

        for (size_t i = 0; i < s->n; i++)
                if (!s->items[i].taken && streq(s->items[i].name, name)) {
                        s->items[i].taken = true;
                        *ret_fd = s->items[i].fd;
                        return 0;
                }
        return -ENOENT;
}

void fd_store_reject(FdStore *s, int fd) {
        assert(s);

        for (size_t i = 0; i < s->n; i++)
                if (s->items[i].taken && s->items[i].fd == fd)
                        s->items[i].useless = true;
}

pid_t fd_store_manager(void) {
        const char *e = getenv("NOTIFY_SOCKET");

        return e && *e ? getppid() : 0;
}

static int notify(const char *what, const char *name, const char *more, const int *fds,
                  unsigned n) {
        char text[256];
        int k = snprintf(text, sizeof(text), "%s\nFDNAME=%s%s", what, name, more);

        if (k < 0 || (size_t) k >= sizeof(text))
                return -ENAMETOOLONG;
        return n > 0 ? sd_pid_notify_with_fds(0, false, text, fds, n) : sd_notify(false, text);
}

int fd_store_put(const char *name, int fd) {
        /* It is never polled: what a driver says to that is nothing to the store. */
        return notify("FDSTORE=1", name, "\nFDPOLL=0", &fd, 1);
}

int fd_store_remove(const char *name) {
        return notify("FDSTOREREMOVE=1", name, "", NULL, 0);
}

int fd_store_settle(void) {
        return sd_notify_barrier(false, USEC_PER_SEC);
}
