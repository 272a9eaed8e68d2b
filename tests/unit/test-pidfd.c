/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "pidfd.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

#define TIMEOUT_MSEC 60000

/* A child that lives until it is killed. */
static pid_t child_new(int *ret_pidfd) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        (void) pause();
        }
        assert_int_equal(pidfd_new(pid, ret_pidfd), 0);
        return pid;
}

static void wait_dead(int pidfd) {
        struct pollfd p = {.fd = pidfd, .events = POLLIN};

        assert_int_equal(poll(&p, 1, TIMEOUT_MSEC), 1);
}

static void test_life(void **state) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid, got = 0;

        pid = child_new(&fd);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(pidfd_verify(fd), 0);
        assert_int_equal(pidfd_get_pid(fd, &got), 0);
        assert_int_equal(got, pid);
        assert_int_equal(pidfd_is_dead(fd), 0);
        assert_int_equal(pidfd_signal(fd, 0), 0);
        assert_int_equal(pidfd_is_dead(fd), 0);

        assert_int_equal(pidfd_signal(fd, SIGKILL), 0);
        wait_dead(fd);
        assert_int_equal(pidfd_is_dead(fd), 1);
        got = 0;
        assert_int_equal(pidfd_get_pid(fd, &got), 0); /* a zombie has a number */
        assert_int_equal(got, pid);

        assert_int_equal(waitpid(pid, NULL, 0), pid);
        got = 7;
        assert_int_equal(pidfd_get_pid(fd, &got), -ESRCH);
        assert_int_equal(got, 7);
        assert_int_equal(pidfd_verify(fd), 0);
        assert_int_equal(pidfd_is_dead(fd), 1);
        assert_int_equal(pidfd_signal(fd, SIGKILL), -ESRCH);
}

static void test_new_needs_a_process(void **state) {
        _cleanup_close_ int fd = -EBADF;
        int got = 42;
        pid_t pid;

        pid = child_new(&fd);
        assert_int_equal(pidfd_signal(fd, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(pidfd_new(pid, &got), -ESRCH);
        assert_int_equal(got, 42);
}

static void *new_for_thread(void *arg) {
        int got = 42;

        assert_int_equal(pidfd_new(gettid(), &got), -ESRCH);
        assert_int_equal(got, 42);
        return NULL;
}

/* What was a process once may be a thread of another one now. */
static void test_new_refuses_threads(void **state) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, new_for_thread, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
}

static void refused(int fd) {
        pid_t got = 7;

        assert_int_equal(pidfd_verify(fd), -EBADF);
        assert_int_equal(pidfd_get_pid(fd, &got), -EBADF);
        assert_int_equal(got, 7);
}

static void test_other_descriptors_are_refused(void **state) {
        _cleanup_close_ int event = -EBADF, memfd = -EBADF, null = -EBADF, named = -EBADF,
                            same_length = -EBADF, thread = -EBADF, proc = -EBADF;
        char path[] = "/tmp/pidfds-XXXXXX", name[128];
        int closed;

        event = eventfd(0, EFD_CLOEXEC);
        memfd = memfd_create("anon_inode:[pidfd]", MFD_CLOEXEC);
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        proc = open("/proc/self", O_PATH | O_CLOEXEC);
        assert_true(event >= 0 && memfd >= 0 && null >= 0 && proc >= 0);
        refused(-EBADF);
        refused(event);
        refused(memfd);
        refused(null);
        refused(proc);

        closed = fd_copy(null);
        assert_true(closed >= 0);
        (void) safe_close(closed);
        refused(closed);

        /* A name as long as the right one, and the right one on a file. */
        same_length = mkostemp(path, O_CLOEXEC);
        assert_true(same_length >= 0);
        assert_int_equal(strlen(path), strlen("anon_inode:[pidfd]"));
        refused(same_length);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        (void) snprintf(name, sizeof(name), "%s/anon_inode:[pidfd]", path);
        named = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(named >= 0);
        refused(named);
        assert_int_equal(unlink(name), 0);
        assert_int_equal(rmdir(path), 0);

        thread = (int) syscall(SYS_pidfd_open, getpid(), PIDFD_THREAD);
        if (thread >= 0) /* Linux 6.9 */
                refused(thread);
}

/* The command's name may hold anything, field separators too. */
static void test_start_time(void **state) {
        _cleanup_close_ int fd = -EBADF, self = -EBADF;
        uint64_t start = 0, named = 0, own = 0;
        pid_t pid;

        pid = child_new(&fd);
        assert_int_equal(pidfd_new(getpid(), &self), 0);
        assert_int_equal(pidfd_get_start_time(fd, &start), 0);
        assert_int_equal(pidfd_get_start_time(self, &own), 0);
        assert_true(own > 0 && own <= start);
        assert_int_equal(prctl(PR_SET_NAME, "a) 1 2 3 (b"), 0);
        assert_int_equal(pidfd_get_start_time(self, &named), 0);
        assert_int_equal(named, own);

        assert_int_equal(pidfd_signal(fd, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(pidfd_get_start_time(fd, &start), -ESRCH);
}

/* Who may hold a lease: no zombie, though it has a number; not ourselves; and none of the kernel's own. */
static void test_holder(void **state) {
        _cleanup_close_ int fd = -EBADF, self = -EBADF, kernel = -EBADF;
        char comm[16] = "";
        pid_t pid, got = 7;
        FILE *f;

        assert_int_equal(pidfd_new(getpid(), &self), 0);
        assert_int_equal(pidfd_get_holder(self, &got), -EDEADLK);
        f = fopen("/proc/2/comm", "re");
        if (f && fgets(comm, sizeof(comm), f) && streq(comm, "kthreadd\n")) {
                assert_int_equal(pidfd_new(2, &kernel), 0);
                assert_int_equal(pidfd_get_pid(kernel, &got), 0);
                assert_int_equal(pidfd_get_holder(kernel, &got), -EBADF);
        }
        if (f)
                (void) fclose(f);
        pid = child_new(&fd);
        assert_int_equal(pidfd_get_holder(fd, &got), 0);
        assert_int_equal(got, pid);
        assert_int_equal(pidfd_signal(fd, SIGKILL), 0);
        wait_dead(fd);
        assert_int_equal(pidfd_get_holder(fd, &got), -ESRCH);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(pidfd_get_holder(fd, &got), -ESRCH);
}

static void test_take_fd(void **state) {
        _cleanup_close_ int fd = -EBADF, memory = -EBADF, copy = -EBADF;
        struct stat a, b;
        pid_t pid;
        int none;

        memory = memfd_create("taken", MFD_CLOEXEC);
        assert_true(memory >= 0);
        pid = child_new(&fd);
        assert_int_equal(pidfd_take_fd(fd, memory, &copy), 0);
        assert_true(fcntl(copy, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fstat(memory, &a), 0);
        assert_int_equal(fstat(copy, &b), 0);
        assert_true(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
        assert_int_equal(pidfd_take_fd(fd, 1000, &none), -EBADF);

        assert_int_equal(pidfd_signal(fd, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(pidfd_take_fd(fd, memory, &none), -ESRCH);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_life),
                        cmocka_unit_test(test_start_time),
                        cmocka_unit_test(test_holder),
                        cmocka_unit_test(test_take_fd),
                        cmocka_unit_test(test_new_needs_a_process),
                        cmocka_unit_test(test_new_refuses_threads),
                        cmocka_unit_test(test_other_descriptors_are_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
