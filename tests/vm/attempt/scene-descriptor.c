/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "attempt.h"

/* Other descriptors of the same region, and other ways to one. The actor's folder is a tmpfs on which device nodes work. */

#define FOLDER "/run/egm-attempts"

static int look_opened(const char *path, uint64_t offset) {
        _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

        return fd < 0 ? -errno : look(fd, offset, PAGE);
}

static int look_copied(const Actor *a, uint64_t offset) {
        _cleanup_close_ int fd = dup(a->own.fd);

        return fd < 0 ? -errno : look(fd, offset, PAGE);
}

static int look_stranger(const Actor *a, uint64_t offset) {
        Range range = {.fd = a->own.fd, .offset = offset, .size = PAGE};

        return ask(a, REQUEST_STRANGER, &range);
}

static int look_elsewhere(const Actor *a) {
        Range other = {.fd = -EBADF};
        int r;

        ask_or_die(a, REQUEST_ELSEWHERE, &other);
        report(a, "other-region-own", look(other.fd, other.offset, other.size));
        report(a, "other-region-after", look(other.fd, other.offset + other.size, PAGE));
        r = look(other.fd, a->own.offset, PAGE);
        safe_close(other.fd);
        return r;
}

static void play_descriptor(Actor *a) {
        uint64_t own = a->own.offset, before = own - PAGE;

        report(a, "copy-own", look_copied(a, own));
        report(a, "copy-before", look_copied(a, before));
        report(a, "passed-to-stranger-own", look_stranger(a, own));
        report(a, "passed-to-stranger-before", look_stranger(a, before));
        report(a, "other-region-at-own-offset", look_elsewhere(a));
}

const Scene scene_descriptor = {.name = "descriptor", .play = play_descriptor};

/* Two leases of one region, side by side: all of the hole. */
static void play_second(Actor *a) {
        Range other = {.fd = -EBADF};
        uint64_t first;

        ask_or_die(a, REQUEST_SECOND, &other);
        if (mark(other.fd, other.offset, other.size, WRITER_ACTOR) < 0)
                _exit(EXIT_FAILURE);
        first = MIN(a->own.offset, other.offset);
        report(a, "second-lease-own", look(other.fd, other.offset, other.size));
        report(a, "second-lease-first-range", look(other.fd, a->own.offset, a->own.size));
        report(a, "second-lease-before", look(other.fd, first - PAGE, PAGE));
        report(a, "second-lease-after", look(other.fd, first + SLICE, PAGE));
        report(a, "second-lease-across-both", look(other.fd, first + SLICE / 2 - PAGE, 2 * PAGE));
}

const Scene scene_second = {.name = "second", .size = SLICE / 2, .play = play_second};

static int look_made(const Actor *a) {
        char path[64];
        struct stat st;
        int r;

        if (fstat(a->own.fd, &st) < 0)
                return -errno;
        (void) snprintf(path, sizeof(path), FOLDER "/node-%d", getpid());
        if (mknod(path, S_IFCHR | 0666, st.st_rdev) < 0)
                return -errno;
        r = look_opened(path, a->neighbours.offset);
        (void) unlink(path);
        return r;
}

static int look_proc(pid_t pid, int fd, uint64_t offset) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
        return look_opened(path, offset);
}

static int look_map_files(const Actor *a) {
        char path[128];

        (void) snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", a->neighbour,
                        (unsigned long) a->neighbours_map,
                        (unsigned long) a->neighbours_map + a->neighbours.size);
        return look_opened(path, a->neighbours.offset);
}

static int look_taken(const Actor *a) {
        _cleanup_close_ int pidfd = (int) syscall(SYS_pidfd_open, a->neighbour, 0), fd = -EBADF;

        if (pidfd < 0)
                return -errno;
        fd = (int) syscall(SYS_pidfd_getfd, pidfd, a->neighbours.fd, 0);
        return fd < 0 ? -errno : look(fd, a->neighbours.offset, PAGE);
}

static int look_physical(uint64_t offset) {
        FILE *f = fopen("/sys/module/egmsim/parameters/phys", "re");
        unsigned long long phys = 0;
        int n;

        if (!f)
                return -errno;
        n = fscanf(f, "%llu", &phys);
        (void) fclose(f);
        return n == 1 ? look_opened("/dev/mem", phys + offset) : -EBADMSG;
}

/* A bound process is no better than any other with what it did not get from egmd. */
static void play_node(Actor *a) {
        report(a, "device-itself", look_opened("/dev/egm4", a->neighbours.offset));
        report(a, "device-itself-own", look_opened("/dev/egm4", a->own.offset));
        report(a, "node-made", look_made(a));
        report(a, "proc-self-fd-reopened", look_proc(getpid(), a->own.fd, a->neighbours.offset));
        report(a, "proc-tenant-fd-reopened",
               look_proc(a->neighbour, a->neighbours.fd, a->neighbours.offset));
        report(a, "map-files-reopened", look_map_files(a));
        report(a, "descriptor-taken", look_taken(a));
        report(a, "dev-mem", look_physical(a->neighbours.offset));
}

const Scene scene_node = {.name = "node", .play = play_node};

/* Somebody whose lease is bound to nobody maps nothing, whatever he has. */
static void play_unbound(Actor *a) {
        report(a, "unbound-own", look_own(a));
        report(a, "unbound-before", look_before(a));
        report(a, "unbound-private",
               look_with(a->own.fd, a->own.offset, PAGE, PROT_READ, MAP_PRIVATE));
        report(a, "unbound-device-itself", look_opened("/dev/egm4", a->own.offset));
        report(a, "unbound-node-made", look_made(a));
        report(a, "unbound-descriptor-taken", look_taken(a));
        report(a, "unbound-stranger", look_stranger(a, a->own.offset));
}

const Scene scene_unbound = {.name = "unbound", .unbound = true, .play = play_unbound};
