/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>

#include "fd-util.h"
#include "process.h"
#include "size.h"

#define STAT_MAX 4096U
#define FIELD_START_TIME 22

static int read_start_time(pid_t pid, uint64_t *ret) {
        _cleanup_free_ char *text = NULL;
        char path[64], *at, *saved;
        int r;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        r = read_full_file_at(AT_FDCWD, path, STAT_MAX, &text, NULL);
        if (r < 0)
                return r;
        /* The command's name is the second field and may hold anything, but nothing behind it holds a parenthesis. */
        at = strrchr(text, ')');
        at = at ? strtok_r(at + 1, " \n", &saved) : NULL;
        for (int field = 3; at && field < FIELD_START_TIME; field++)
                at = strtok_r(NULL, " \n", &saved);
        return !at || parse_uint64(at, ret) < 0 ? -EBADMSG : 0;
}

int process_open(pid_t pid, uint64_t start_time, int *ret_pidfd) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t found;
        int r;

        assert(pid > 0);
        assert(ret_pidfd);

        /* First the descriptor: should the pid change hands behind it, what is read tells of another process than the one we
         * would signal, but the one we would signal is gone then. */
        fd = pidfd_open(pid, 0);
        if (fd < 0)
                return -errno;
        r = read_start_time(pid, &found);
        if (r < 0)
                /* It went meanwhile, or /proc hides it. */
                return pidfd_send_signal(fd, 0, NULL, 0) < 0 && errno == ESRCH ? -ESRCH : -EACCES;
        if (found != start_time)
                return -ESRCH;
        *ret_pidfd = TAKE_FD(fd);
        return 0;
}
