/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "attempt.h"

/* At the mapping of somebody who has one. */

static int copy_remote(const Actor *a, bool write) {
        uint64_t page[PAGE / sizeof(uint64_t)] = {};
        struct iovec here = {page, PAGE}, there = {a->neighbours_map, PAGE};
        ssize_t n = write ? process_vm_writev(a->neighbour, &here, 1, &there, 1, 0)
                          : process_vm_readv(a->neighbour, &here, 1, &there, 1, 0);

        if (n < 0)
                return -errno;
        return write ? SEEN_OTHER : look_at(page, PAGE);
}

static int copy_from_proc(const Actor *a) {
        _cleanup_close_ int fd = -EBADF;
        uint64_t page[PAGE / sizeof(uint64_t)] = {};
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/mem", a->neighbour);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || pread(fd, page, PAGE, (off_t) (uintptr_t) a->neighbours_map) < 0)
                return -errno;
        return look_at(page, PAGE);
}

static int peek(const Actor *a) {
        long word;
        int r;

        if (ptrace(PTRACE_ATTACH, a->neighbour, NULL, NULL) < 0)
                return -errno;
        (void) waitpid(a->neighbour, NULL, __WALL);
        errno = 0;
        word = ptrace(PTRACE_PEEKDATA, a->neighbour, a->neighbours_map, NULL);
        r = errno != 0 ? -errno : look_at(&word, sizeof(word));
        (void) ptrace(PTRACE_DETACH, a->neighbour, NULL, NULL);
        return r;
}

/* Through the descriptor, without a mapping. */
static int read_device(const Actor *a) {
        uint64_t page[PAGE / sizeof(uint64_t)] = {};

        return pread(a->own.fd, page, PAGE, (off_t) a->neighbours.offset) < 0 ? -errno
                                                                              : look_at(page, PAGE);
}

static int splice_device(const Actor *a) {
        off_t offset = (off_t) a->neighbours.offset;
        uint64_t page[PAGE / sizeof(uint64_t)] = {};
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0 || splice(a->own.fd, &offset, fds[1], NULL, PAGE, 0) < 0 ||
            read(fds[0], page, PAGE) < 0)
                return -errno;
        return look_at(page, PAGE);
}

/* ---- what others would keep of the actor's own, though it is not mapped any more ---- */

static int keep_in_pipe(const Actor *a, void *p) {
        const struct iovec iov = {p, PAGE};
        uint64_t page[PAGE / sizeof(uint64_t)] = {};
        int fds[2];

        if (pipe2(fds, O_CLOEXEC) < 0 || vmsplice(fds[1], &iov, 1, SPLICE_F_NONBLOCK) < 0 ||
            read(fds[0], page, PAGE) < 0)
                return -errno;
        return look_at(page, PAGE);
}

static int keep_in_socket(const Actor *a, void *p) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        _cleanup_close_ int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        _cleanup_close_ int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        uint64_t page[PAGE / sizeof(uint64_t)] = {};
        socklen_t size = sizeof(address);
        int one = 1;

        if (bind(server, (struct sockaddr *) &address, size) < 0 ||
            getsockname(server, (struct sockaddr *) &address, &size) < 0 ||
            connect(client, (struct sockaddr *) &address, size) < 0 ||
            setsockopt(client, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0 ||
            send(client, p, PAGE, MSG_ZEROCOPY) < 0 || recv(server, page, PAGE, 0) < 0)
                return -errno;
        return look_at(page, PAGE);
}

static void play_others(Actor *a) {
        void *p;

        report(a, "tenant-read", copy_remote(a, false));
        report(a, "tenant-write", copy_remote(a, true));
        report(a, "tenant-proc-mem", copy_from_proc(a));
        report(a, "tenant-peek", peek(a));
        report(a, "device-read", read_device(a));
        report(a, "device-splice", splice_device(a));
        p = map_own(a);
        report(a, "kept-in-pipe", keep_in_pipe(a, p));
        report(a, "kept-in-socket", keep_in_socket(a, p));
}

const Scene scene_others = {.name = "others", .play = play_others};
