/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <sys/pidfd.h>

#include "fd-util.h"
#include "pidfd.h"
#include "size.h"

#define FDINFO_MAX 4096U
#define STAT_MAX 4096U
#define STATUS_MAX 65536U

/* PIDFD_THREAD (Linux 6.9) is this bit, and shows among the file's flags. */
#define FLAG_THREAD O_EXCL

int pidfd_verify(int fd) {
        static const char expected[] = "anon_inode:[pidfd]";
        char path[64], link[sizeof(expected)];
        ssize_t n;
        int flags;

        if (fd < 0)
                return -EBADF;
        /* Everything that has a path starts with a slash, so no file can be named like this. */
        (void) snprintf(path, sizeof(path), "/proc/thread-self/fd/%i", fd);
        n = readlink(path, link, sizeof(link));
        if (n < 0)
                return errno == ENOENT ? -EBADF : -errno;
        if (n != (ssize_t) strlen(expected) || memcmp(link, expected, strlen(expected)) != 0)
                return -EBADF;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        return flags & FLAG_THREAD ? -EBADF : 0;
}

int pidfd_get_pid(int fd, pid_t *ret) {
        _cleanup_free_ char *text = NULL;
        char path[64], *at;
        int pid, r;

        assert(ret);

        r = pidfd_verify(fd);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%i", fd);
        r = read_full_file_at(AT_FDCWD, path, FDINFO_MAX, &text, NULL);
        if (r < 0)
                return r;
        at = strstr(text, "\nPid:\t");
        if (!at)
                return -EBADMSG;
        at += strlen("\nPid:\t");
        at[strcspn(at, "\n")] = '\0';
        r = parse_int(at, &pid);
        if (r < 0)
                return -EBADMSG;
        if (pid < 0)
                return -ESRCH;
        if (pid == 0)
                return -EREMOTE;
        *ret = pid;
        return 0;
}

#define FIELD_FLAGS 9
#define FIELD_START_TIME 22
#define FLAG_KTHREAD 0x00200000U /* PF_KTHREAD */

/* Counted from behind the command's name, which may hold anything. */
static int parse_field(char *text, unsigned wanted, uint64_t *ret) {
        char *at = strrchr(text, ')'), *word, *save = NULL;
        unsigned field = 2;

        for (word = at ? strtok_r(at + 1, " ", &save) : NULL; word;
             word = strtok_r(NULL, " ", &save))
                if (++field == wanted)
                        return parse_uint64(word, ret) < 0 ? -EBADMSG : 0;
        return -EBADMSG;
}

/* A file of its directory in /proc. */
static int read_proc(int fd, const char *name, size_t max, char **ret) {
        _cleanup_free_ char *text = NULL;
        char path[64];
        pid_t pid, again;
        int r;

        r = pidfd_get_pid(fd, &pid);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof(path), "/proc/%i/%s", (int) pid, name);
        r = read_full_file_at(AT_FDCWD, path, max, &text, NULL);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        /* It still has the number, so it had it while we read. */
        r = pidfd_get_pid(fd, &again);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(text);
        return 0;
}

int pidfd_get_start_time(int fd, uint64_t *ret) {
        _cleanup_free_ char *text = NULL;
        int r;

        assert(ret);

        r = read_proc(fd, "stat", STAT_MAX, &text);
        return r < 0 ? r : parse_field(text, FIELD_START_TIME, ret);
}

int pidfd_get_uids(int fd, uid_t ret[static PIDFD_UIDS]) {
        _cleanup_free_ char *text = NULL;
        unsigned ids[PIDFD_UIDS];
        const char *at;
        int r;

        assert(ret);

        r = read_proc(fd, "status", STATUS_MAX, &text);
        if (r < 0)
                return r;
        at = strstr(text, "\nUid:\t");
        if (!at ||
            sscanf(at, "\nUid:\t%u\t%u\t%u\t%u", ids, ids + 1, ids + 2, ids + 3) != PIDFD_UIDS)
                return -EBADMSG;
        for (size_t i = 0; i < PIDFD_UIDS; i++)
                ret[i] = ids[i];
        return 0;
}

int pidfd_get_holder(int fd, pid_t *ret) {
        _cleanup_free_ char *text = NULL;
        uint64_t flags;
        pid_t pid;
        int r;

        assert(ret);

        r = pidfd_get_pid(fd, &pid);
        if (r < 0)
                return r;
        if (pid == getpid())
                return -EDEADLK;
        r = pidfd_is_dead(fd);
        if (r != 0)
                return r < 0 ? r : -ESRCH;
        /* Not known where /proc hides it from us; kernel threads are not hidden from who needs to know. */
        if (read_proc(fd, "stat", STAT_MAX, &text) >= 0 &&
            parse_field(text, FIELD_FLAGS, &flags) >= 0 && (flags & FLAG_KTHREAD))
                return -EBADF;
        *ret = pid;
        return 0;
}

int pidfd_is_dead(int fd) {
        struct pollfd p = {.fd = fd, .events = POLLIN};

        assert(fd >= 0);

        for (;;) {
                int r = poll(&p, 1, 0);

                if (r >= 0)
                        break;
                if (errno != EINTR)
                        return -errno;
        }
        if (p.revents & POLLNVAL)
                return -EBADF;
        return p.revents != 0;
}

int pidfd_new(pid_t pid, int *ret_fd) {
        int fd;

        assert(pid > 0);
        assert(ret_fd);

        fd = pidfd_open(pid, 0);
        /* The number of a thread by now (which error says so depends on the kernel): the process is gone, too. */
        if (fd < 0)
                return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
        *ret_fd = fd;
        return 0;
}

int pidfd_take_fd(int fd, int number, int *ret_fd) {
        int copy;

        assert(fd >= 0);
        assert(ret_fd);

        copy = pidfd_getfd(fd, number, 0);
        if (copy < 0)
                return -errno;
        *ret_fd = copy;
        return 0;
}

int pidfd_signal(int fd, int sig) {
        assert(fd >= 0);
        return pidfd_send_signal(fd, sig, NULL, 0) < 0 ? -errno : 0;
}
