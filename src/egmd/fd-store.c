/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <systemd/sd-daemon.h>

#include "fd-store.h"
#include "fd-util.h"
#include "log.h"

typedef struct Stored {
        char *name;
        int fd; /* -EBADF: taken */
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

void fd_store_finish(FdStore *s) {
        assert(s);

        for (size_t i = 0; i < s->n; i++) {
                int r;

                if (s->items[i].fd < 0)
                        continue;
                log_notice("Closing a descriptor that has no use any more: \"%s\"",
                           s->items[i].name);
                s->items[i].fd = safe_close(s->items[i].fd);
                r = fd_store_remove(s->items[i].name);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to have it forgotten: %m");
        }
}

FdStore *fd_store_free(FdStore *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->n; i++) {
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
                if (s->items[i].fd >= 0 && streq(s->items[i].name, name)) {
                        *ret_fd = TAKE_FD(s->items[i].fd);
                        return 0;
                }
        return -ENOENT;
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
