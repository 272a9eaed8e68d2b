/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "probe.h"

static void ignore_usr1(int signal) {
}

/* The child: one open, its result to the parent, and then until the parent closes. */
static _Noreturn void opener_run(const Probe *p, int result_fd, int stop_fd) {
        const struct sigaction handled = {.sa_handler = ignore_usr1};
        char c;
        int r;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) sigaction(SIGUSR1, &handled, NULL);
        r = probe_open(p, O_RDWR);
        if (r > 0)
                r = 0;
        (void) write_all(result_fd, &r, sizeof(r));
        while (read(stop_fd, &c, 1) < 0 && errno == EINTR)
                ;
        _exit(0);
}

int opener_start(const Probe *p, Opener *ret) {
        _cleanup_close_ int result_read = -EBADF, result_write = -EBADF;
        _cleanup_close_ int stop_read = -EBADF, stop_write = -EBADF;
        int fds[2], pid_fd;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        result_read = fds[0];
        result_write = fds[1];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        stop_read = fds[0];
        stop_write = fds[1];

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                result_read = safe_close(result_read);
                stop_write = safe_close(stop_write);
                opener_run(p, result_write, stop_read);
        }

        pid_fd = pidfd_open(pid, 0);
        if (pid_fd < 0)
                return -errno;
        *ret = (Opener){
                        .pid = pid,
                        .pid_fd = pid_fd,
                        .result_fd = TAKE_FD(result_read),
                        .stop_fd = TAKE_FD(stop_write),
        };
        return 0;
}

static int wait_readable(int fd, int timeout_ms) {
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};
        int n = poll(&pollfd, 1, timeout_ms);

        return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

int opener_result(Opener *o) {
        int result, r;
        ssize_t n;

        r = wait_readable(o->result_fd, DEADLINE_MS);
        if (r < 0)
                return r;
        n = read(o->result_fd, &result, sizeof(result));
        if (n < 0)
                return -errno;
        return n == sizeof(result) ? result : -EPIPE;
}

/* A moment for those who will not be alive much longer. */
bool opener_is_alive(const Opener *o) {
        return wait_readable(o->pid_fd, 300) == -ETIMEDOUT;
}

int opener_signal(const Opener *o, int signal) {
        return pidfd_send_signal(o->pid_fd, signal, NULL, 0) < 0 ? -errno : 0;
}

int opener_wait(Opener *o) {
        int r;

        if (o->pid < 0)
                return 0;
        r = wait_readable(o->pid_fd, DEADLINE_MS);
        if (r < 0)
                return r;
        (void) waitpid(o->pid, NULL, 0);
        o->pid = -1;
        return 0;
}

void opener_stop(Opener *o) {
        o->stop_fd = safe_close(o->stop_fd);
        (void) opener_wait(o);
        o->pid_fd = safe_close(o->pid_fd);
        o->result_fd = safe_close(o->result_fd);
}
