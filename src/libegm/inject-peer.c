/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "inject-peer.h"

/* Long enough for any /proc/TID/fd/N. */
#define PROC_PATH_MAX 64

/* What the kernel itself uses for calls that start over whatever interrupted them. Not for user space's headers: it is
 * never seen there, unless by tracers. */
#define RESTART_NOINTR 513

void peer_done(Peer *p) {
        p->mem_fd = safe_close(p->mem_fd);
}

/* ---- Memory ---- */

int peer_open_memory(Peer *p) {
        char path[PROC_PATH_MAX];

        if (p->mem_fd >= 0)
                return 0;
        snprintf(path, sizeof(path), "/proc/%d/mem", p->tid);
        p->mem_fd = open(path, O_RDWR | O_CLOEXEC);
        return p->mem_fd < 0 ? -errno : 0;
}

int peer_read(const Peer *p, uint64_t address, void *buffer, size_t size) {
        ssize_t n;

        if (address > INT64_MAX)
                return -EFAULT;
        n = pread(p->mem_fd, buffer, size, (off_t) address);
        return n == (ssize_t) size ? 0 : -EFAULT;
}

int peer_write(const Peer *p, uint64_t address, const void *data, size_t size) {
        ssize_t n;

        if (address > INT64_MAX)
                return -EFAULT;
        n = pwrite(p->mem_fd, data, size, (off_t) address);
        return n == (ssize_t) size ? 0 : -EFAULT;
}

int peer_read_string(const Peer *p, uint64_t address, char *buffer, size_t size) {
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
        size_t n = 0;

        /* The string may end right before a page that is not there. */
        while (n < size) {
                size_t k = MIN((size_t) (page - (address + n) % page), size - n);
                int r = peer_read(p, address + n, buffer + n, k);

                if (r < 0)
                        return r;
                if (memchr(buffer + n, '\0', k))
                        return 0;
                n += k;
        }
        return -ENAMETOOLONG;
}

/* ---- Descriptors ---- */

int peer_resolve(const Peer *p, int dir_fd, const char *path, char **ret) {
        char link[PROC_PATH_MAX], dir[PATH_MAX];
        ssize_t n;

        if (*path == '/' || *path == '\0') {
                *ret = strdup(path);
                return *ret ? 0 : -ENOMEM;
        }
        if (dir_fd == AT_FDCWD)
                snprintf(link, sizeof(link), "/proc/%d/cwd", p->tid);
        else
                snprintf(link, sizeof(link), "/proc/%d/fd/%d", p->tid, dir_fd);
        n = readlink(link, dir, sizeof(dir));
        if (n < 0)
                return -errno;
        if (n == (ssize_t) sizeof(dir))
                return -ENAMETOOLONG;
        return asprintf(ret, "%.*s/%s", (int) n, dir, path) < 0 ? -ENOMEM : 0;
}

int peer_fd_is(const Peer *p, int fd, const struct stat *file) {
        char path[PROC_PATH_MAX];
        struct stat st;

        /* Follows the link to the file itself, whatever its name is by now, without opening it. */
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", p->tid, fd);
        if (stat(path, &st) < 0)
                return errno == ENOENT ? -EBADF : -errno;
        return st.st_dev == file->st_dev && st.st_ino == file->st_ino &&
               st.st_rdev == file->st_rdev;
}

/* ---- Registers ---- */

#if defined(__x86_64__)
typedef struct user_regs_struct Registers;

static bool is_about_to_restart(const Registers *regs, const uint64_t args[static 6]) {
        const uint64_t now[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
        int64_t result = (int64_t) regs->rax;

        /* ERESTARTSYS to ERESTARTNOHAND, and ERESTART_RESTARTBLOCK. */
        return regs->orig_rax == SYS_mmap && result <= -512 && result >= -516 &&
               memcmp(now, args, sizeof(now)) == 0;
}

static void set_registers(Registers *regs, uint64_t fd, uint64_t offset) {
        regs->r8 = fd;
        regs->r9 = offset;
}
#elif defined(__aarch64__)
typedef struct user_regs_struct Registers;

/* The kernel has put the first register and the program counter back already. */
static bool is_about_to_restart(const Registers *regs, const uint64_t args[static 6]) {
        return regs->regs[8] == SYS_mmap && memcmp(regs->regs, args, 6 * sizeof(*args)) == 0;
}

static void set_registers(Registers *regs, uint64_t fd, uint64_t offset) {
        regs->regs[4] = fd;
        regs->regs[5] = offset;
}
#else
typedef struct Registers {
        uint64_t none;
} Registers;

static bool is_about_to_restart(const Registers *regs, const uint64_t args[static 6]) {
        return false;
}

static void set_registers(Registers *regs, uint64_t fd, uint64_t offset) {
}
#endif

/* Its own parent wants to hear of its end, which may be us; where it is not, nobody hears before us. */
static void bury(pid_t tid) {
        char path[PROC_PATH_MAX], parent[PROC_PATH_MAX];
        _cleanup_free_ char *status = NULL;
        siginfo_t si;

        snprintf(path, sizeof(path), "/proc/%d/status", tid);
        snprintf(parent, sizeof(parent), "\nPPid:\t%d\n", getpid());
        if (read_full_file_at(AT_FDCWD, path, 64 * KIB, &status, NULL) < 0 ||
            strstr(status, parent))
                return;
        (void) waitid(P_PID, (id_t) tid, &si, WEXITED | WNOHANG | __WALL);
}

/* Until the interruption that was asked for; signals that come first are let through. */
static int wait_for_stop(pid_t tid) {
        for (;;) {
                siginfo_t si = {};

                if (waitid(P_PID, (id_t) tid, &si, WSTOPPED | WEXITED | WNOWAIT | __WALL) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (si.si_code != CLD_TRAPPED) {
                        bury(tid);
                        return -ESRCH;
                }
                (void) waitid(P_PID, (id_t) tid, &si, WSTOPPED | WNOHANG | __WALL);
                if (si.si_status >> 8 == PTRACE_EVENT_STOP)
                        return 0;
                if (ptrace(PTRACE_CONT, tid, NULL, (void *) (uintptr_t) (si.si_status & 0xff)) < 0)
                        return -errno;
        }
}

static int change_call(pid_t tid, const uint64_t args[static 6], uint64_t fd, uint64_t offset) {
        Registers regs;
        struct iovec iov = {&regs, sizeof(regs)};

        if (ptrace(PTRACE_GETREGSET, tid, (void *) NT_PRSTATUS, &iov) < 0)
                return -errno;
        /* It was elsewhere already: what it calls next is seen anew. */
        if (!is_about_to_restart(&regs, args))
                return -EAGAIN;
        set_registers(&regs, fd, offset);
        return ptrace(PTRACE_SETREGSET, tid, (void *) NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

int peer_restart_mmap(const Peer *p, int listener, const struct seccomp_notif *call, uint64_t fd,
                      uint64_t offset) {
        struct seccomp_notif_resp answer = {.id = call->id, .error = -RESTART_NOINTR};
        uint64_t args[6];
        int r;

        for (size_t i = 0; i < ELEMENTSOF(args); i++)
                args[i] = call->data.args[i];
        if (ptrace(PTRACE_SEIZE, p->tid, NULL, NULL) < 0)
                return -errno;
        /* In this order: with the interruption due, the answer cannot get as far as the program. */
        if (ptrace(PTRACE_INTERRUPT, p->tid, NULL, NULL) < 0)
                return -errno;
        /* Where signals end the wait, it is over already. */
        (void) ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
        r = wait_for_stop(p->tid);
        if (r >= 0)
                r = change_call(p->tid, args, fd, offset);
        (void) ptrace(PTRACE_DETACH, p->tid, NULL, NULL);
        return r < 0 ? 1 : 0;
}
