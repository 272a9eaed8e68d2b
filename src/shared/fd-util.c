/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/resource.h>

#include "fd-util.h"

#define FDS_RESERVED_MAX 1024U

int safe_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                (void) close(fd);
                errno = saved;
        }
        return -EBADF;
}

int memstream_close(FILE *f, char **text) {
        int r;

        assert(f);
        assert(text);

        r = fclose(f);
        if (r == 0 && *text)
                return 0;
        *text = mfree(*text);
        return -ENOMEM;
}

int fd_copy(int fd) {
        int r = fcntl(fd, F_DUPFD_CLOEXEC, 3);

        return r < 0 ? -errno : r;
}

bool fds_are_scarce(void) {
        /* Asked once: whoever changes it while we run does so for the next start. */
        static struct rlimit rl;
        int fd;

        if (rl.rlim_cur == 0 && getrlimit(RLIMIT_NOFILE, &rl) < 0)
                return false;
        /* The lowest that is free. */
        fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
                return errno == EMFILE || errno == ENFILE;
        (void) close(fd);
        return (rlim_t) fd >= rl.rlim_cur - MIN(rl.rlim_cur / 4, (rlim_t) FDS_RESERVED_MAX);
}

int read_full_file_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *buf = NULL;
        size_t n = 0, room = MIN(max, (size_t) 4096);

        assert(path);
        assert(ret);

        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        for (;;) {
                char *t;
                ssize_t k;

                /* One byte more than allowed tells "too long" from "just fits", one is for the NUL. */
                t = realloc(buf, room + 2);
                if (!t)
                        return -ENOMEM;
                buf = t;
                k = read(fd, buf + n, room + 1 - n);
                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (k == 0)
                        break;
                n += (size_t) k;
                if (n > max)
                        return -E2BIG;
                if (n > room)
                        room = MIN(max, room * 2);
        }
        buf[n] = '\0';
        *ret = TAKE_PTR(buf);
        if (ret_size)
                *ret_size = n;
        return 0;
}

int write_all(int fd, const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t k = write(fd, p, size);

                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (k == 0)
                        return -EIO;
                p += k;
                size -= (size_t) k;
        }
        return 0;
}
