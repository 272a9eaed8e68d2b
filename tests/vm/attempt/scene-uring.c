/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "attempt.h"

#define OP_FIXED_FD_INSTALL 54 /* since Linux 6.8, which our headers need not be of */

/* io_uring maps nothing but its own rings: whatever is registered with it, no mapping of the device comes of it. */

static int ring_new(struct io_uring_params *params) {
        int fd = (int) syscall(SYS_io_uring_setup, 4, params);

        return fd < 0 ? -errno : fd;
}

static int ring_register(int ring, unsigned what, const void *p, unsigned n) {
        return syscall(SYS_io_uring_register, ring, what, p, n) < 0 ? -errno : 0;
}

/* The ring's own memory is not the registered file's, whatever the offset. */
static int look_ring(const Actor *a, uint64_t offset) {
        struct io_uring_params params = {};
        _cleanup_close_ int ring = ring_new(&params);
        int r;

        if (ring < 0)
                return ring;
        r = ring_register(ring, IORING_REGISTER_FILES, &a->own.fd, 1);
        if (r < 0)
                return r;
        r = look(ring, offset, PAGE);
        return r == SEEN_ZERO || r == SEEN_STRANGE ? SEEN_NOTHING : r;
}

/* Memory of the device as a buffer, and as the rings themselves. */
static int register_buffer(const Actor *a) {
        struct io_uring_params params = {};
        _cleanup_close_ int ring = ring_new(&params);
        struct iovec buffer = {.iov_len = PAGE};
        int r;

        if (ring < 0)
                return ring;
        buffer.iov_base = map_own(a);
        r = ring_register(ring, IORING_REGISTER_BUFFERS, &buffer, 1);
        (void) munmap(buffer.iov_base, a->own.size);
        return r < 0 ? r : SEEN_NOTHING;
}

/* One request, with the registered file 0. */
static int submit(const Actor *a, uint8_t opcode, uint64_t offset, void *buffer) {
        struct io_uring_params params = {};
        _cleanup_close_ int ring = ring_new(&params);
        struct io_uring_sqe *sqe;
        struct io_uring_cqe *cqe;
        uint8_t *rings;
        int r;

        if (ring < 0)
                return ring;
        r = ring_register(ring, IORING_REGISTER_FILES, &a->own.fd, 1);
        if (r < 0)
                return r;
        rings = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
        sqe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
        if (rings == MAP_FAILED || (void *) sqe == MAP_FAILED)
                return -errno;
        *sqe = (struct io_uring_sqe){.opcode = opcode,
                                     .flags = IOSQE_FIXED_FILE,
                                     .fd = 0,
                                     .off = offset,
                                     .addr = (uintptr_t) buffer,
                                     .len = buffer ? (uint32_t) PAGE : 0};
        *(uint32_t *) (rings + params.sq_off.array) = 0;
        __atomic_store_n((uint32_t *) (rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
        if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
                return -errno;
        cqe = (struct io_uring_cqe *) (rings + params.cq_off.cqes);
        return cqe->res;
}

static int read_registered(const Actor *a) {
        uint64_t page[PAGE / sizeof(uint64_t)] = {};
        int r = submit(a, IORING_OP_READ, a->neighbours.offset, page);

        return r < 0 ? r : look_at(page, PAGE);
}

/* A registered file as a descriptor: one more copy, for what it is worth. */
static int look_installed(const Actor *a, uint64_t offset) {
        int r = submit(a, OP_FIXED_FD_INSTALL, 0, NULL);

        return r < 0 ? r : look(r, offset, PAGE);
}

static int installed_own(const Actor *a) {
        return look_installed(a, a->own.offset);
}

static int installed_before(const Actor *a) {
        return look_installed(a, a->own.offset - PAGE);
}

static void play_uring(Actor *a) {
        report(a, "uring-ring", look_ring(a, IORING_OFF_SQ_RING));
        report(a, "uring-ring-at-tenants-offset", look_ring(a, SLICE - PAGE));
        report(a, "uring-buffer", in_child(a, register_buffer));
        report(a, "uring-read", in_child(a, read_registered));
        report(a, "uring-installed-own", in_child(a, installed_own));
        report(a, "uring-installed-before", in_child(a, installed_before));
}

const Scene scene_uring = {.name = "uring", .play = play_uring};
