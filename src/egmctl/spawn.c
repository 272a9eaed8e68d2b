/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "spawn.h"

int spawn_block_signals(SpawnSignals *ret) {
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
        const struct sigaction sa = {.sa_handler = SIG_DFL};
        SpawnSignals old;
        sigset_t set;
        int fd;

        (void) sigemptyset(&set);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                (void) sigaddset(&set, signals[i]);
        /* Who started us may have ignored it: then nobody would know how the command ended. */
        if (sigaction(SIGCHLD, &sa, &old.child) < 0 || sigprocmask(SIG_BLOCK, &set, &old.mask) < 0)
                return -errno;
        fd = signalfd(-1, &set, SFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = old;
        return fd;
}

static int become(const SpawnWhat *what, const SpawnSignals *signals) {
        for (size_t i = 0; i < what->n_fds; i++)
                if (fcntl(what->fds[i], F_SETFD, 0) < 0)
                        return -errno;
        for (char **p = what->environment; *p; p++)
                if (putenv(*p) != 0)
                        return -errno;
        if (sigaction(SIGCHLD, &signals->child, NULL) < 0 ||
            sigprocmask(SIG_SETMASK, &signals->mask, NULL) < 0)
                return -errno;
        (void) execvp(what->argv[0], what->argv);
        return -errno;
}

typedef union Control {
        char buffer[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header; /* for its alignment */
} Control;

/* Descriptors that are negative are errors, and travel as such alone. */
static void send_fd(int channel, int fd) {
        Control control = {};
        struct iovec iov = {&fd, sizeof(fd)};
        struct msghdr m = {
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = fd >= 0 ? &control : NULL,
                        .msg_controllen = fd >= 0 ? sizeof(control) : 0,
        };

        control.header = (struct cmsghdr){
                        .cmsg_len = CMSG_LEN(sizeof(fd)),
                        .cmsg_level = SOL_SOCKET,
                        .cmsg_type = SCM_RIGHTS,
        };
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        (void) sendmsg(channel, &m, MSG_NOSIGNAL);
}

static void child(const SpawnWhat *what, const SpawnSignals *signals, int channel) {
        char byte;
        int r;

        while (read(channel, &byte, 1) == 1) {
                if (byte == 'p') {
                        r = what->prepare(what->userdata);
                        send_fd(channel, r);
                        safe_close(r);
                        continue;
                }
                r = become(what, signals);
                (void) send(channel, &r, sizeof(r), MSG_NOSIGNAL);
                break;
        }
        _exit(127);
}

int spawn(const SpawnWhat *what, const SpawnSignals *signals, Spawned *ret) {
        _cleanup_(spawned_done) Spawned s = SPAWNED_NULL;
        _cleanup_close_ int other = -EBADF;
        int p[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
                return -errno;
        s.channel = p[0];
        other = p[1];
        s.pid = fork();
        if (s.pid < 0)
                return -errno;
        if (s.pid == 0) {
                safe_close(s.channel); /* or it would never see the end */
                child(what, signals, other);
        }
        s.pidfd = pidfd_open(s.pid, 0);
        if (s.pidfd < 0)
                return -errno;
        *ret = s;
        s = SPAWNED_NULL;
        return 0;
}

int spawned_prepare(Spawned *s, int *ret_fd) {
        Control control = {};
        int result, fd = -EBADF;
        struct iovec iov = {&result, sizeof(result)};
        struct msghdr m = {
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control),
        };
        const struct cmsghdr *c;
        ssize_t n;

        (void) send(s->channel, "p", 1, MSG_NOSIGNAL);
        do
                n = recvmsg(s->channel, &m, MSG_WAITALL | MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n != (ssize_t) sizeof(result))
                return n < 0 ? -errno : -ESRCH; /* killed while it waited */
        if (result < 0)
                return result;
        c = CMSG_FIRSTHDR(&m);
        if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(fd)))
                return -EBADF;
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        *ret_fd = fd;
        return 0;
}

int spawned_start(Spawned *s) {
        ssize_t n;
        int error;

        /* A process that was killed while it waited tells how by its exit status. */
        (void) send(s->channel, "x", 1, MSG_NOSIGNAL);
        do
                n = recv(s->channel, &error, sizeof(error), MSG_WAITALL);
        while (n < 0 && errno == EINTR);
        if (n == (ssize_t) sizeof(error))
                return error;
        s->channel = safe_close(s->channel);
        return 0;
}

int spawned_kill(const Spawned *s, int signo) {
        return pidfd_send_signal(s->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

void spawned_done(Spawned *s) {
        bool waiting = s->channel >= 0 && s->pid > 0;

        s->channel = safe_close(s->channel);
        s->pidfd = safe_close(s->pidfd);
        if (waiting)
                (void) waitpid(s->pid, NULL, 0);
        s->pid = 0;
}
