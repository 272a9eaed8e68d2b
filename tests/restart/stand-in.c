/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* In a daemon's place for the keeper's own test: does what its arguments say, in turn. */

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

#include "macro.h"

#define FDS_MAX 1024

static const char *memory_name;
static int memory_fd = -EBADF;

static int notify_with(const char *text, int fd) {
        return sd_pid_notify_with_fds(0, false, text, &fd, fd >= 0);
}

/* What it was given, one line each: name, its size. */
static int list(void) {
        char **names = NULL;
        int n = sd_listen_fds_with_names(false, &names);

        if (n < 0)
                return n;
        fprintf(stderr, "%d stored\n", n);
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                fprintf(stderr, "%s %lld\n", names[i], (long long) lseek(fd, 0, SEEK_END));
                free(names[i]);
        }
        free(names);
        /* What came along with those. */
        for (int fd = SD_LISTEN_FDS_START + n; fd < FDS_MAX; fd++)
                if (fcntl(fd, F_GETFD) >= 0)
                        fprintf(stderr, "%d is open\n", fd);
        return 0;
}

static int remember(const char *text) {
        _cleanup_free_ char *s = NULL;

        if (asprintf(&s, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", text) < 0)
                return -ENOMEM;
        return notify_with(s, memory_fd);
}

static int forget(const char *text) {
        _cleanup_free_ char *s = NULL;

        if (asprintf(&s, "FDSTOREREMOVE=1\nFDNAME=%s", text) < 0)
                return -ENOMEM;
        return sd_notify(false, s);
}

static int act(const char *what) {
        if (streq(what, "list"))
                return list();
        if (streq(what, "wait"))
                return pause() < 0 ? 0 : 0;
        if (streq(what, "die"))
                return raise(SIGKILL);
        if (streq(what, "fail"))
                _exit(3);
        if (strncmp(what, "notify:", 7) == 0)
                return sd_notify(false, what + 7);
        /* A memfd of as many bytes as its name is long, stored or stored again. */
        if (strncmp(what, "make:", 5) == 0) {
                memory_name = what + 5;
                memory_fd = memfd_create(memory_name, MFD_CLOEXEC);
                return memory_fd < 0 || ftruncate(memory_fd, (off_t) strlen(memory_name)) < 0
                                       ? -errno
                                       : remember(memory_name);
        }
        if (strncmp(what, "again:", 6) == 0)
                return remember(what + 6);
        if (strncmp(what, "forget:", 7) == 0)
                return forget(what + 7);
        if (strncmp(what, "env:", 4) == 0)
                return fprintf(stderr, "%s=%s\n", what + 4, getenv(what + 4) ?: "(unset)");
        /* From another process: not the service's word. */
        if (strncmp(what, "child:", 6) == 0) {
                if (fork() == 0) {
                        (void) sd_notify(false, what + 6);
                        _exit(0);
                }
                return wait(NULL) < 0 ? -errno : 0;
        }
        return -EINVAL;
}

int main(int argc, char *argv[]) {
        for (int i = 1; i < argc; i++)
                if (act(argv[i]) < 0)
                        return 99;
        return 0;
}
