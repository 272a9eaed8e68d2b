/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <err.h>
#include <signal.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "attempt.h"

#define MAGIC UINT64_C(0xe67da7700000000)
#define STATUS_SEEN 200

/* ---- looking ---- */

int look_at(const void *p, uint64_t size) {
        const volatile uint8_t *bytes = p;
        bool own = false, strange = false;

        for (uint64_t at = 0; at < size; at += PAGE) {
                uint64_t word = *(const volatile uint64_t *) (bytes + at);

                if (word == (MAGIC | WRITER_ACTOR))
                        own = true;
                else if ((word & ~UINT64_C(0xff)) == MAGIC)
                        return SEEN_OTHER;
                else if (word != 0)
                        strange = true;
        }
        return strange ? SEEN_STRANGE : own ? SEEN_OWN : SEEN_ZERO;
}

static int look_map(int fd, uint64_t offset, uint64_t size, uint64_t looked_at, int prot,
                    int flags) {
        void *p = mmap(NULL, size, prot, flags, fd, (off_t) offset);
        int r;

        if (p == MAP_FAILED)
                return -errno;
        r = look_at(p, looked_at);
        (void) munmap(p, size);
        return r;
}

int look_with(int fd, uint64_t offset, uint64_t size, int prot, int flags) {
        return look_map(fd, offset, size, size, prot, flags);
}

int look(int fd, uint64_t offset, uint64_t size) {
        return look_with(fd, offset, size, PROT_READ | PROT_WRITE, MAP_SHARED);
}

int look_part(int fd, uint64_t offset, uint64_t size, uint64_t looked_at) {
        return look_map(fd, offset, size, looked_at, PROT_READ | PROT_WRITE, MAP_SHARED);
}

int look_own(const Actor *a) {
        return look(a->own.fd, a->own.offset, a->own.size);
}

int look_before(const Actor *a) {
        return look(a->own.fd, a->own.offset - PAGE, PAGE);
}

Export export_of(uint64_t offset) {
        return (Export){.argsz = sizeof(Export),
                        .nr_ranges = 1,
                        .open_flags = O_RDWR | O_CLOEXEC,
                        .offset = offset,
                        .length = PAGE};
}

void *map_own(const Actor *a) {
        void *p = mmap(NULL, a->own.size, PROT_READ | PROT_WRITE, MAP_SHARED, a->own.fd,
                       (off_t) a->own.offset);

        if (p == MAP_FAILED)
                err(EXIT_FAILURE, "the actor's own memory");
        return p;
}

int mark(int fd, uint64_t offset, uint64_t size, Writer writer) {
        uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t) offset);

        if (p == MAP_FAILED)
                return -errno;
        for (uint64_t at = 0; at < size; at += PAGE)
                *(volatile uint64_t *) (p + at) = MAGIC | writer;
        (void) munmap(p, size);
        return 0;
}

bool is_marked(const void *p, uint64_t size, Writer writer) {
        for (uint64_t at = 0; at < size; at += PAGE)
                if (*(const volatile uint64_t *) ((const uint8_t *) p + at) != (MAGIC | writer))
                        return false;
        return true;
}

/* ---- children ---- */

int to_status(int r) {
        return r < 0 ? MIN(-r, STATUS_SEEN - 1) : STATUS_SEEN + r;
}

int from_status(int status) {
        if (!WIFEXITED(status))
                return SEEN_KILLED;
        status = WEXITSTATUS(status);
        return status < STATUS_SEEN ? -status : status - STATUS_SEEN;
}

int wait_for(pid_t pid) {
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return from_status(status);
}

int in_child(const Actor *a, attempt_t f) {
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0)
                _exit(to_status(f(a)));
        return wait_for(pid);
}

/* ---- messages ---- */

int message_send(int socket, const Message *m, int fd) {
        struct iovec iov = {.iov_base = (void *) m, .iov_len = sizeof(*m)};
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

        if (fd >= 0) {
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
                h.msg_control = &control;
                h.msg_controllen = sizeof(control);
        }
        return sendmsg(socket, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int message_receive(int socket, Message *m) {
        struct iovec iov = {.iov_base = m, .iov_len = sizeof(*m)};
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct msghdr h = {
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control),
        };
        struct cmsghdr *c;
        ssize_t n;

        do
                n = recvmsg(socket, &h, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (n != sizeof(*m))
                return -EPIPE;
        m->range.fd = -EBADF;
        c = CMSG_FIRSTHDR(&h);
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                memcpy(&m->range.fd, CMSG_DATA(c), sizeof(int));
        return 0;
}

void report(const Actor *a, const char *name, int r) {
        Message m = {.request = REQUEST_REPORT, .r = r};

        (void) snprintf(m.name, sizeof(m.name), "%s", name);
        if (message_send(a->control, &m, -EBADF) < 0)
                _exit(EXIT_FAILURE);
}

int ask(const Actor *a, Request request, Range *range) {
        Message m = {.request = request};
        int r;

        if (range)
                m.range = *range;
        r = message_send(a->control, &m, range ? range->fd : -EBADF);
        if (r >= 0)
                r = message_receive(a->control, &m);
        if (r < 0)
                errx(EXIT_FAILURE, "the stage has gone");
        if (range)
                *range = m.range;
        else
                safe_close(m.range.fd);
        return m.r;
}

void ask_or_die(const Actor *a, Request request, Range *range) {
        int r = ask(a, request, range);

        if (r < 0) {
                errno = -r;
                err(EXIT_FAILURE, "request %u", request);
        }
}

/* ---- puppets ---- */

void puppet_serve(int socket) {
        Message m;

        while (message_receive(socket, &m) >= 0) {
                m.r = look(m.range.fd, m.range.offset, m.range.size);
                safe_close(m.range.fd);
                if (message_send(socket, &m, -EBADF) < 0)
                        break;
        }
        _exit(EXIT_SUCCESS);
}

int puppet_start(Puppet *p) {
        int sockets[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        p->pid = fork();
        if (p->pid == 0) {
                (void) close(sockets[0]);
                puppet_serve(sockets[1]);
        }
        (void) close(sockets[1]);
        p->socket = sockets[0];
        return p->pid < 0 ? -ENOMEM : 0;
}

int puppet_look(const Puppet *p, int fd, uint64_t offset, uint64_t size) {
        Message m = {.range = {.offset = offset, .size = size}};
        int r;

        r = message_send(p->socket, &m, fd);
        if (r >= 0)
                r = message_receive(p->socket, &m);
        return r < 0 ? r : m.r;
}

/* Others may have inherited our end of its socket: it would not notice that we close ours. */
void puppet_stop(Puppet *p) {
        p->socket = safe_close(p->socket);
        (void) kill(p->pid, SIGKILL);
        (void) waitpid(p->pid, NULL, 0);
}
