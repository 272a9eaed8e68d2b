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

static void child(const SpawnWhat *what, const SpawnSignals *signals, int channel) {
        char byte;
        int r;

        if (read(channel, &byte, 1) == 1) {
                r = become(what, signals);
                (void) send(channel, &r, sizeof(r), MSG_NOSIGNAL);
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
