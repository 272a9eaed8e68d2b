/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fd-util.h"
#include "size.h"

/* A process that holds what it is given and does what it is told. Nothing in here may need what a fork of a threaded
 * process does not have. */

#define FIRST_FD 100
#define HOLDER_SOCKET 99

typedef struct Mapping {
        unsigned char *address;
        uint64_t offset;
        uint64_t size;
} Mapping;

static Mapping mappings[WALK_SLOTS];

int walk_send(int socket, const void *data, size_t size, int fd) {
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = {(void *) data, size};
        struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

        if (fd >= 0) {
                struct cmsghdr *c;

                mh.msg_control = &control;
                mh.msg_controllen = sizeof(control);
                c = CMSG_FIRSTHDR(&mh);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &fd, sizeof(int));
        }
        return sendmsg(socket, &mh, MSG_NOSIGNAL) == (ssize_t) size ? 0 : -errno;
}

int walk_receive(int socket, void *data, size_t size, int *ret_fd) {
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {data, size};
        struct msghdr mh = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
        struct cmsghdr *c;
        ssize_t n;

        *ret_fd = -EBADF;
        n = recvmsg(socket, &mh, MSG_CMSG_CLOEXEC);
        if (n < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&mh);
        if (c && c->cmsg_type == SCM_RIGHTS)
                memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
        if ((size_t) n != size) {
                *ret_fd = safe_close(*ret_fd);
                return -ECONNRESET;
        }
        return 0;
}

/* Tells every word of every lease apart. */
static uint64_t pattern(unsigned lease, unsigned region, uint64_t offset) {
        uint64_t x = offset + ((uint64_t) lease << 40) + ((uint64_t) region << 36);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        return (x ^ (x >> 27)) | 1; /* never zero */
}

static int do_map(const WalkCommand *c) {
        Mapping *m = mappings + c->slot;
        void *p;

        p = mmap(NULL, c->size, c->private ? PROT_READ : PROT_READ | PROT_WRITE,
                 c->private ? MAP_PRIVATE : MAP_SHARED, FIRST_FD + (int) c->from,
                 (off_t) c->offset);
        if (p == MAP_FAILED)
                return -errno;
        *m = (Mapping){p, c->offset, c->size};
        return 0;
}

static int do_unmap(const WalkCommand *c) {
        Mapping *m = mappings + c->slot;
        uint64_t head = c->size > 0 ? c->offset - m->offset : m->size;

        if (head > 0 && munmap(m->address, head) < 0)
                return -errno;
        if (c->size == 0) {
                *m = (Mapping){};
                return 0;
        }
        if (m->size > head + c->size &&
            munmap(m->address + head + c->size, m->size - head - c->size) < 0)
                return -errno;
        *m = (Mapping){m->address + head, c->offset, c->size};
        return 0;
}

static int do_fill(const WalkCommand *c) {
        const Mapping *m = mappings + c->slot;
        uint64_t *p = (uint64_t *) m->address;

        for (uint64_t i = 0; i < m->size / sizeof(*p); i++)
                p[i] = pattern(c->lease, c->region, m->offset + i * sizeof(*p));
        return 0;
}

static int do_compare(const WalkCommand *c, WalkAnswer *a) {
        const Mapping *m = mappings + c->slot;
        const uint64_t *p = (const uint64_t *) m->address;

        for (uint64_t i = 0; i < m->size / sizeof(*p); i++) {
                uint64_t at = m->offset + i * sizeof(*p);
                uint64_t expected =
                                c->order == WALK_ORDER_ZERO ? 0 : pattern(c->lease, c->region, at);

                if (p[i] == expected ||
                    (c->order == WALK_ORDER_ZERO && walk_config_unscrubbable(c->region, at)))
                        continue;
                a->at = at;
                a->found = p[i];
                return -EIO;
        }
        return 0;
}

static int do_fork(int *socket, int fd, WalkAnswer *a) {
        a->pid = fork();
        if (a->pid < 0)
                return -errno;
        if (a->pid > 0)
                return 0;
        /* The new one keeps all descriptors and mappings, but talks through its own socket. */
        if (dup2(fd, *socket) < 0)
                _exit(1);
        return 1;
}

static int do_exec(const char *self) {
        char number[16];

        (void) snprintf(number, sizeof(number), "%i", HOLDER_SOCKET);
        for (int fd = HOLDER_SOCKET; fd < FIRST_FD + (int) WALK_SLOTS; fd++)
                (void) fcntl(fd, F_SETFD, 0);
        (void) execl(self, self, "--holder", number, NULL);
        return -errno;
}

static int obey(const WalkCommand *c, int *socket, int fd, const char *self, WalkAnswer *a,
                int *ret_fd) {
        int slot = FIRST_FD + (int) c->slot;

        switch (c->order) {
        case WALK_ORDER_TAKE:
                return dup3(fd, slot, O_CLOEXEC) < 0 ? -errno : 0;
        case WALK_ORDER_GIVE:
                *ret_fd = slot;
                return 0;
        case WALK_ORDER_CLOSE:
                return close(slot) < 0 ? -errno : 0;
        case WALK_ORDER_MAP:
                return do_map(c);
        case WALK_ORDER_UNMAP:
                return do_unmap(c);
        case WALK_ORDER_FILL:
                return do_fill(c);
        case WALK_ORDER_ZERO:
        case WALK_ORDER_CHECK:
                return do_compare(c, a);
        case WALK_ORDER_FORK:
                return do_fork(socket, fd, a);
        case WALK_ORDER_EXEC:
                return do_exec(self); /* the new program says that it is there */
        case WALK_ORDER_EXIT:
                _exit(0);
        case WALK_ORDER_HELLO:
                return 0;
        }
        return -EINVAL;
}

void walk_holder_run(int socket, const char *self) {
        WalkCommand c;
        int fd;

        (void) signal(SIGCHLD, SIG_IGN);
        while (walk_receive(socket, &c, sizeof(c), &fd) >= 0) {
                WalkAnswer a = {};
                int answer_fd = -EBADF;

                a.r = obey(&c, &socket, fd, self, &a, &answer_fd);
                fd = safe_close(fd);
                if (c.order == WALK_ORDER_FORK && a.pid == 0 && a.r > 0)
                        continue; /* the parent answers */
                if (walk_send(socket, &a, sizeof(a), answer_fd) < 0)
                        break;
        }
        _exit(0);
}

int walk_holder_main(int argc, char *argv[]) {
        WalkAnswer a = {};
        int socket;

        if (argc != 3 || parse_int(argv[2], &socket) < 0)
                return 2;
        if (walk_send(socket, &a, sizeof(a), -EBADF) < 0)
                return 1;
        for (int fd = HOLDER_SOCKET; fd < FIRST_FD + (int) WALK_SLOTS; fd++)
                (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
        walk_holder_run(socket, argv[0]);
}
