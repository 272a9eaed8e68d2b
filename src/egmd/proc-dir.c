/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>

#include "fd-util.h"
#include "proc-dir.h"

int proc_dir_open(ProcDir *d, int dir_fd, const char *path) {
        int fd;

        assert(d);
        assert(path);

        fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        d->fd = fd;
        d->at = d->n = 0;
        return 0;
}

void proc_dir_done(ProcDir *d) {
        d->fd = safe_close(d->fd);
}

static bool parse_number(const char *name, unsigned *ret) {
        unsigned v = 0;

        if (*name == '\0')
                return false;
        for (; *name; name++)
                if (*name < '0' || *name > '9' || __builtin_mul_overflow(v, 10, &v) ||
                    __builtin_add_overflow(v, (unsigned) (*name - '0'), &v))
                        return false;
        *ret = v;
        return true;
}

int proc_dir_next(ProcDir *d, unsigned *ret) {
        assert(d);
        assert(ret);

        for (;;) {
                const struct dirent64 *e;

                if (d->at >= d->n) {
                        ssize_t n = getdents64(d->fd, d->buffer, sizeof(d->buffer));

                        if (n < 0)
                                return -errno;
                        if (n == 0)
                                return 0;
                        d->at = 0;
                        d->n = (size_t) n;
                }
                e = (const struct dirent64 *) (d->buffer + d->at);
                d->at += e->d_reclen;
                if (parse_number(e->d_name, ret)) {
                        d->ino = e->d_ino;
                        return 1;
                }
        }
}
