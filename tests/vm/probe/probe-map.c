/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "probe.h"

#define FAR (2 * MIB)

/* Writes at one offset, looks at another: the same bytes? -1 if one of them cannot be mapped. */
static int is_same_page(int fd, uint64_t a, uint64_t b) {
        static uint64_t mark = UINT64_C(0x1234567800000000);
        uint64_t *x = probe_map(fd, a, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
        uint64_t *y = probe_map(fd, b, PAGE, PROT_READ, MAP_SHARED);
        int same = -1;

        if ((void *) x != MAP_FAILED && (void *) y != MAP_FAILED) {
                *x = ++mark;
                same = *y == mark;
        }
        if ((void *) x != MAP_FAILED)
                (void) munmap(x, PAGE);
        if ((void *) y != MAP_FAILED)
                (void) munmap(y, PAGE);
        return same;
}

static void check_offsets_ignored(Probe *p, int fd) {
        probe_check(p, is_same_page(fd, 0, FAR) == 1, "the page at 2 MiB is the first page");
        probe_check(p, is_same_page(fd, FAR, p->size) == 1, "so is the one past the end");
        probe_check(p, is_same_page(fd, 0, TIB) == 1, "and the one at 1 TiB");
        probe_check_errno(p, probe_try_map(fd, 0, p->size + PAGE, PROT_READ, MAP_SHARED), 0,
                          "a page too much");
        probe_check_errno(p, probe_try_map(fd, FAR, p->size, PROT_READ, MAP_SHARED), 0,
                          "size at 2 MiB");
}

static void check_offsets(Probe *p, int fd) {
        static const int rw = PROT_READ | PROT_WRITE;
        bool wraps = p->variant == VARIANT_R2 || p->variant == VARIANT_D;

        probe_check(p, is_same_page(fd, 0, FAR) == 0, "the page at 2 MiB is another one");
        probe_check(p, is_same_page(fd, FAR, FAR) == 1, "and seen again by another mapping");
        probe_check(p, is_same_page(fd, p->size - PAGE, p->size - PAGE) == 1,
                    "the last page is there");
        probe_check_errno(p, probe_try_map(fd, 0, p->size, rw, MAP_SHARED), 0, "all of it");

        probe_check_errno(p, probe_try_map(fd, 0, p->size + 1, rw, MAP_SHARED), EINVAL,
                          "a byte too much");
        probe_check_errno(p, probe_try_map(fd, PAGE, p->size, rw, MAP_SHARED), EINVAL,
                          "a page too far");
        probe_check_errno(p, probe_try_map(fd, p->size - PAGE, 2 * PAGE, rw, MAP_SHARED), EINVAL,
                          "a page across the end");
        probe_check_errno(p, probe_try_map(fd, p->size, PAGE, rw, MAP_SHARED), EINVAL,
                          "right after the end");
        probe_check_errno(p, probe_try_map(fd, TIB - PAGE, PAGE, rw, MAP_SHARED), EINVAL,
                          "just below 1 TiB");

        /* R2 looks at 40 bits of the offset. */
        probe_check_errno(p, probe_try_map(fd, TIB, PAGE, rw, MAP_SHARED), wraps ? 0 : EINVAL,
                          "at 1 TiB");
        probe_check_errno(p, probe_try_map(fd, UINT64_C(1) << 62, PAGE, rw, MAP_SHARED),
                          wraps ? 0 : EINVAL, "at 2^62");
        if (wraps)
                probe_check(p, is_same_page(fd, FAR, 5 * TIB + FAR) == 1,
                            "2 MiB beyond 5 TiB is the page at 2 MiB");
}

static bool has_flags(const char *flags) {
        return strstr(flags, " io") && strstr(flags, " pf") && strstr(flags, " de") &&
               strstr(flags, " dd");
}

/* What /proc/self/smaps says of a mapping. */
static int find_vma(const void *address, uint64_t *ret_offset, bool *ret_has_flags) {
        _cleanup_fclose_ FILE *f = fopen("/proc/self/smaps", "re");
        uint64_t start, end, offset = 0, o;
        bool found = false;
        char line[512];

        if (!f)
                return -errno;
        while (fgets(line, sizeof(line), f)) {
                if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &o) == 3) {
                        found = start == (uintptr_t) address;
                        offset = o;
                } else if (found && strncmp(line, "VmFlags:", 8) == 0) {
                        *ret_offset = offset;
                        *ret_has_flags = has_flags(line);
                        return 0;
                }
        }
        return -ENOENT;
}

static void check_vma(Probe *p, int fd) {
        char *m = probe_map(fd, FAR, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
        uint64_t offset = 0;
        bool flags = false;
        char byte = 0;
        struct iovec local = {&byte, 1}, remote = {m, 1};

        probe_check_errno(p, find_vma(m, &offset, &flags), 0, "the mapping is in smaps");
        probe_check(p, flags, "with pf, io, de and dd");
        probe_check(p, offset == FAR, "and the offset that was asked for");

        probe_check_errno(p, process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0 ? -errno : 0,
                          EFAULT, "process_vm_readv");
        probe_check_errno(p, madvise(m, PAGE, MADV_DONTNEED) < 0 ? -errno : 0, EINVAL,
                          "MADV_DONTNEED");
        probe_check_errno(p,
                          mremap(m, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -errno : 0,
                          EFAULT, "growing it");
        m[0] = 1;
        m[3 * PAGE] = 4;
        probe_check_errno(p, mprotect(m, PAGE, PROT_NONE) < 0 ? -errno : 0, 0,
                          "mprotect of a part");
        probe_check_errno(p, munmap(m + PAGE, PAGE) < 0 ? -errno : 0, 0, "munmap of a part");
        (void) mprotect(m, PAGE, PROT_READ);
        probe_check(p, m[0] == 1 && m[3 * PAGE] == 4, "the other parts stay as they were");
        (void) munmap(m, 4 * PAGE);
}

/* Private mappings are allowed, and show the page frame in place of the offset. */
static void check_private(Probe *p, int fd) {
        static const int rw = PROT_READ | PROT_WRITE;
        uint64_t *shared = probe_map(fd, 0, PAGE, rw, MAP_SHARED), offset = 0;
        uint64_t *private = probe_map(fd, 0, PAGE, rw, MAP_PRIVATE);
        bool flags = false;

        if (!probe_check(p, (void *) private != MAP_FAILED, "a private mapping"))
                return;
        *shared = 7;
        probe_check(p, *private == 7, "shows the region's bytes");
        *private = 8;
        probe_check(p, *shared == 7, "and keeps what is written to it");
        (void) find_vma(private, &offset, &flags);
        probe_check(p, offset >= 256 * MIB && offset % PAGE == 0,
                    "its offset in smaps is physical");
        (void) munmap(private, PAGE);
        (void) munmap(shared, PAGE);
}

static void check_read_only(Probe *p) {
        _cleanup_close_ int fd = probe_open(p, O_RDONLY);

        probe_check_errno(p, probe_try_map(fd, 0, PAGE, PROT_READ, MAP_SHARED), 0,
                          "O_RDONLY: read");
        probe_check_errno(p, probe_try_map(fd, 0, PAGE, PROT_WRITE, MAP_SHARED), EACCES,
                          "O_RDONLY: write");
}

/* A child has the mapping without asking for it, and with it the device. */
static void check_fork(Probe *p) {
        _cleanup_close_ int fd = probe_open(p, O_RDWR), again = -EBADF;
        uint64_t *m = probe_map(fd, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
        int fds[2], r = pipe2(fds, O_CLOEXEC);
        pid_t pid;
        char c;

        assert(r == 0);
        pid = fork();
        if (pid == 0) {
                (void) close(fds[1]);
                (void) close(fd);
                *m = 99;
                _exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
        }
        (void) close(fds[0]);
        fd = safe_close(fd);
        (void) munmap(m, PAGE);

        again = probe_open(p, O_RDWR);
        if (p->variant == VARIANT_K2)
                probe_check_errno(p, probe_try_map(again, 0, PAGE, PROT_READ, MAP_SHARED), EINVAL,
                                  "a child's mapping keeps the device: the next file");
        else
                probe_check_errno(p, again, p->variant == VARIANT_S3 ? 0 : EBUSY,
                                  "a child's mapping keeps the device: open");
        (void) close(fds[1]);
        (void) waitpid(pid, NULL, 0);
}

static void check_mappings(Probe *p) {
        _cleanup_close_ int fd = probe_open(p, O_RDWR);

        if (p->variant == VARIANT_K2)
                check_offsets_ignored(p, fd);
        else
                check_offsets(p, fd);
        check_vma(p, fd);
        check_private(p, fd);
}

void probe_map_rules(Probe *p) {
        check_mappings(p);
        check_read_only(p);
        check_fork(p);
}

/* What the driver has no operation for. */
void probe_file_rules(Probe *p) {
        _cleanup_close_ int fd = probe_open(p, O_RDWR), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN};
        struct pollfd pollfd = {.fd = fd, .events = POLLIN | POLLOUT};
        struct stat st = {};
        char buffer[8] = "";

        (void) fstat(fd, &st);
        probe_check(p, S_ISCHR(st.st_mode) && (st.st_mode & 07777) == 0600 && st.st_uid == 0,
                    "a char device, mode 0600, root's");
        probe_check(p, minor(st.st_rdev) == (unsigned) p->id, "its minor is %d", p->id);
        probe_check(p, st.st_size == 0, "its size is 0");
        probe_check_errno(p, read(fd, buffer, 1) < 0 ? -errno : 0, EINVAL, "read");
        probe_check_errno(p, write(fd, buffer, 1) < 0 ? -errno : 0, EINVAL, "write");
        probe_check_errno(p, pread(fd, buffer, 1, 0) < 0 ? -errno : 0, EINVAL, "pread");
        probe_check_errno(p, lseek(fd, 0, SEEK_END) < 0 ? -errno : 0, ESPIPE, "lseek");
        probe_check_errno(p, ftruncate(fd, 0) < 0 ? -errno : 0, EINVAL, "ftruncate");
        probe_check_errno(p, fallocate(fd, 0, 0, 1) < 0 ? -errno : 0, ENODEV, "fallocate");
        probe_check(p, poll(&pollfd, 1, 0) == 1, "poll: always ready");
        probe_check_errno(p, epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0, EPERM,
                          "epoll_ctl");
        errno = 0;
        probe_check(p, !isatty(fd) && errno == EINVAL, "isatty: EINVAL, not ENOTTY");
}
