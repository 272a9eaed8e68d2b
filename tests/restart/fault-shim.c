/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Preloaded into the daemon: stands between it (and its libraries) and libc, and lets calls fail, or ends the process at
 * one, as the page that it shares with a test says (fault-page.h). Built without _FILE_OFFSET_BITS, so that both names of
 * a call can be had. */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fault-page.h"

#define BIT(class) (1U << (class))
#define KILL BIT(FAULT_KILL)
#define SPACE BIT(FAULT_SPACE)
#define IO BIT(FAULT_IO)
#define FILES (BIT(FAULT_FILES) | BIT(FAULT_FILES_WORKERS))
#define MEMORY (BIT(FAULT_MEMORY) | BIT(FAULT_MEMORY_WORKERS))
#define SEND BIT(FAULT_SEND)
#define MAIN_ONLY (BIT(FAULT_IO) | BIT(FAULT_FILES) | BIT(FAULT_MEMORY))
#define WORKERS_ONLY (BIT(FAULT_FILES_WORKERS) | BIT(FAULT_MEMORY_WORKERS))

static FaultPage *page;
/* json-c copies names without a look at whether that worked, before 0.17. */
#define JSON_C_CHECKS ((0 << 16) | (17 << 8))
static bool parser_is_frail;
/* Inside of what does not bear it. */
static _Thread_local bool in_frail;

/* The next definition of the same name: libc's, or a sanitizer's. */
#define REAL(name) \
        ({ \
                static __typeof__(&name) _f; \
                if (!_f) \
                        _f = (__typeof__(&name)) dlsym(RTLD_NEXT, #name); \
                _f; \
        })

__attribute__((constructor)) static void set_up(void) {
        const char *path = getenv("EGM_FAULT_PAGE");
        int (*json_c_version)(void), fd;
        void *p;

        if (!path)
                return;
        json_c_version = (int (*)(void)) dlsym(RTLD_DEFAULT, "json_c_version_num");
        parser_is_frail = json_c_version && json_c_version() < JSON_C_CHECKS;
        /* What the daemon runs is not to be struck as well. */
        fd = (int) syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                abort();
        p = (void *) syscall(SYS_mmap, NULL, FAULT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                             fd, 0);
        if (p == MAP_FAILED)
                abort();
        (void) syscall(SYS_close, fd);
        page = p;
}

static _Noreturn void die(void) {
        (void) REAL(syscall)(SYS_kill, getpid(), SIGKILL);
        for (;;)
                (void) pause();
}

/* Counts a call. True: it is to fail, errno says how. Comes back for a kill behind the call: *ret_die. */
static bool strike(unsigned classes, const char *name, bool *ret_die) {
        *ret_die = false;
        if (!page)
                return false;
        classes &= gettid() == getpid() ? ~WORKERS_ONLY : ~MAIN_ONLY;
        for (unsigned c = 0; c < _FAULT_CLASS_MAX; c++) {
                uint64_t k;

                if (!(classes & BIT(c)))
                        continue;
                k = atomic_fetch_add(&page->counts[c], 1) + 1;
                if (c != page->on || page->first == 0 || k < page->first ||
                    k - page->first >= page->n)
                        continue;
                (void) atomic_fetch_add(&page->hit, 1);
                strncpy(page->call, name, sizeof(page->call) - 1);
                page->in_frail = in_frail;
                if (page->error != 0) {
                        errno = page->error;
                        return true;
                }
                if (!page->after)
                        die();
                *ret_die = true;
        }
        return false;
}

/* The body of a call that returns failed when it fails. */
#define CALL(classes, failed, name, ...) \
        do { \
                bool _die; \
                if (strike(classes, #name, &_die)) \
                        return failed; \
                if (!_die) \
                        return REAL(name)(__VA_ARGS__); \
                (void) REAL(name)(__VA_ARGS__); \
                die(); \
        } while (0)

/* Opening for reading changes nothing that anybody else could see. */
static unsigned open_classes(int flags) {
        return flags & (O_CREAT | O_TRUNC) ? KILL | SPACE | IO | FILES : FILES;
}

static bool wants_mode(int flags) {
        return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

#define TAKE_MODE(flags) \
        ({ \
                mode_t _mode = 0; \
                if (wants_mode(flags)) { \
                        va_list _ap; \
                        va_start(_ap, flags); \
                        _mode = va_arg(_ap, mode_t); \
                        va_end(_ap); \
                } \
                _mode; \
        })

int open(const char *path, int flags, ...) {
        mode_t mode = TAKE_MODE(flags);

        CALL(open_classes(flags), -1, open, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
        mode_t mode = TAKE_MODE(flags);

        CALL(open_classes(flags), -1, open64, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...) {
        mode_t mode = TAKE_MODE(flags);

        CALL(open_classes(flags), -1, openat, dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...) {
        mode_t mode = TAKE_MODE(flags);

        CALL(open_classes(flags), -1, openat64, dir, path, flags, mode);
}

/* What _FORTIFY_SOURCE makes of those without a mode. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

int __open_2(const char *path, int flags) {
        CALL(open_classes(flags), -1, __open_2, path, flags);
}

int __open64_2(const char *path, int flags) {
        CALL(open_classes(flags), -1, __open64_2, path, flags);
}

int __openat_2(int dir, const char *path, int flags) {
        CALL(open_classes(flags), -1, __openat_2, dir, path, flags);
}

int __openat64_2(int dir, const char *path, int flags) {
        CALL(open_classes(flags), -1, __openat64_2, dir, path, flags);
}

DIR *opendir(const char *path) {
        CALL(FILES, NULL, opendir, path);
}

FILE *fopen64(const char *path, const char *mode) {
        CALL(FILES, NULL, fopen64, path, mode);
}

int mkfifo(const char *path, mode_t mode) {
        CALL(KILL | SPACE | IO, -1, mkfifo, path, mode);
}

int mkfifoat(int dir, const char *path, mode_t mode) {
        CALL(KILL | SPACE | IO, -1, mkfifoat, dir, path, mode);
}

static bool is_regular(int fd) {
        int saved = errno;
        struct stat st;
        bool b;

        b = fstat(fd, &st) >= 0 && S_ISREG(st.st_mode);
        errno = saved;
        return b;
}

ssize_t read(int fd, void *buf, size_t size) {
        CALL(page && is_regular(fd) ? IO : 0, -1, read, fd, buf, size);
}

/* The log is nobody's business; nor is how the daemon wakes itself. */
static unsigned write_classes(int fd) {
        return fd > STDERR_FILENO && is_regular(fd) ? KILL | SPACE | IO : 0;
}

ssize_t write(int fd, const void *buf, size_t size) {
        CALL(write_classes(fd), -1, write, fd, buf, size);
}

ssize_t writev(int fd, const struct iovec *iov, int n) {
        CALL(write_classes(fd), -1, writev, fd, iov, n);
}

ssize_t pwrite(int fd, const void *buf, size_t size, off_t offset) {
        CALL(write_classes(fd), -1, pwrite, fd, buf, size, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t size, off64_t offset) {
        CALL(write_classes(fd), -1, pwrite64, fd, buf, size, offset);
}

int rename(const char *from, const char *to) {
        CALL(KILL | SPACE | IO, -1, rename, from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
        CALL(KILL | SPACE | IO, -1, renameat, from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
        CALL(KILL | SPACE | IO, -1, renameat2, from_dir, from, to_dir, to, flags);
}

int unlink(const char *path) {
        CALL(KILL | IO, -1, unlink, path);
}

int unlinkat(int dir, const char *path, int flags) {
        CALL(KILL | IO, -1, unlinkat, dir, path, flags);
}

int ftruncate(int fd, off_t size) {
        CALL(KILL | SPACE | IO, -1, ftruncate, fd, size);
}

int ftruncate64(int fd, off64_t size) {
        CALL(KILL | SPACE | IO, -1, ftruncate64, fd, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
        CALL(KILL | SPACE | IO, -1, fallocate64, fd, mode, offset, size);
}

int memfd_create(const char *name, unsigned flags) {
        CALL(KILL | SPACE | FILES, -1, memfd_create, name, flags);
}

/* In the main thread: workers close what they looked at, by the hundred. */
int close(int fd) {
        CALL(gettid() == getpid() ? KILL : 0, -1, close, fd);
}

static unsigned fcntl_classes(int command) {
        return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? FILES : 0;
}

int fcntl(int fd, int command, ...) {
        va_list ap;
        long arg;

        va_start(ap, command);
        arg = va_arg(ap, long);
        va_end(ap);
        CALL(fcntl_classes(command), -1, fcntl, fd, command, arg);
}

int fcntl64(int fd, int command, ...) {
        va_list ap;
        long arg;

        va_start(ap, command);
        arg = va_arg(ap, long);
        va_end(ap);
        CALL(fcntl_classes(command), -1, fcntl64, fd, command, arg);
}

int dup(int fd) {
        CALL(FILES, -1, dup, fd);
}

int pipe2(int fds[2], int flags) {
        CALL(FILES, -1, pipe2, fds, flags);
}

int eventfd(unsigned initial, int flags) {
        CALL(FILES, -1, eventfd, initial, flags);
}

int timerfd_create(int clock, int flags) {
        CALL(FILES, -1, timerfd_create, clock, flags);
}

int epoll_create1(int flags) {
        CALL(FILES, -1, epoll_create1, flags);
}

int socket(int domain, int type, int protocol) {
        CALL(FILES, -1, socket, domain, type, protocol);
}

int pidfd_open(pid_t pid, unsigned flags) {
        CALL(FILES, -1, pidfd_open, pid, flags);
}

int pidfd_getfd(int pidfd, int fd, unsigned flags) {
        CALL(FILES, -1, pidfd_getfd, pidfd, fd, flags);
}

static unsigned syscall_classes(long number) {
        switch (number) {
        case SYS_pidfd_open:
        case SYS_pidfd_getfd:
                return FILES;
        case SYS_renameat2:
                return KILL | SPACE | IO;
        default:
                return 0;
        }
}

long syscall(long number, ...) {
        long a[6];
        va_list ap;

        va_start(ap, number);
        for (size_t i = 0; i < 6; i++)
                a[i] = va_arg(ap, long);
        va_end(ap);
        CALL(syscall_classes(number), -1, syscall, number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Of files only: libc's own memory comes from the kernel without us. */
static unsigned mmap_classes(int fd) {
        return fd >= 0 ? KILL | MEMORY : MEMORY;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
        CALL(mmap_classes(fd), MAP_FAILED, mmap, address, size, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset) {
        CALL(mmap_classes(fd), MAP_FAILED, mmap64, address, size, protection, flags, fd, offset);
}

int munmap(void *address, size_t size) {
        CALL(KILL, -1, munmap, address, size);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
        CALL(operation == EPOLL_CTL_ADD ? MEMORY : 0, -1, epoll_ctl, epoll, operation, fd, event);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
        CALL(KILL | SEND, -1, sendmsg, fd, message, flags);
}

ssize_t sendto(int fd, const void *buf, size_t size, int flags, const struct sockaddr *to,
               socklen_t to_size) {
        CALL(KILL | SEND, -1, sendto, fd, buf, size, flags, to, to_size);
}

ssize_t send(int fd, const void *buf, size_t size, int flags) {
        CALL(KILL | SEND, -1, send, fd, buf, size, flags);
}

int pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*work)(void *), void *arg) {
        CALL(KILL | MEMORY, EAGAIN, pthread_create, ret, attr, work, arg);
}

void *json_tokener_parse_ex(void *tokener, const char *text, int size);

void *json_tokener_parse_ex(void *tokener, const char *text, int size) {
        void *p;

        in_frail = parser_is_frail;
        p = REAL(json_tokener_parse_ex)(tokener, text, size);
        in_frail = false;
        return p;
}

/* libnuma does not look whether it got its table of masks; that is when the daemon begins, and has touched nothing. */
int numa_node_to_cpus(int node, void *mask);

int numa_node_to_cpus(int node, void *mask) {
        int r;

        in_frail = true;
        r = REAL(numa_node_to_cpus)(node, mask);
        in_frail = false;
        return r;
}

#ifndef FAULT_NO_MALLOC
/* Not by dlsym(), which may allocate. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);

/* Never killed there: nobody would see the difference. */
void *malloc(size_t size) {
        bool ignored;

        return strike(MEMORY, "malloc", &ignored) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
        bool ignored;

        return strike(MEMORY, "calloc", &ignored) ? NULL : __libc_calloc(n, size);
}

/* Making something smaller is never refused. */
void *realloc(void *p, size_t size) {
        bool ignored;

        return size > 0 && strike(MEMORY, "realloc", &ignored) ? NULL : __libc_realloc(p, size);
}
#endif
