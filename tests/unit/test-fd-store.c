/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "fd-store.h"
#include "fd-util.h"

/* The service manager's end of the notification socket. */
static int manager_new_socket(void) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        socklen_t n = sizeof(sa);
        char text[sizeof(sa.sun_path) + 1];
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        /* An abstract name of the kernel's choice. */
        assert_int_equal(bind(fd, (struct sockaddr *) &sa, sizeof(sa_family_t)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &sa, &n), 0);
        (void) snprintf(text, sizeof(text), "@%s", sa.sun_path + 1);
        assert_int_equal(setenv("NOTIFY_SOCKET", text, 1), 0);
        return fd;
}

static size_t receive(int fd, char *text, size_t size, int *ret_fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        } control = {};
        struct iovec v = {.iov_base = text, .iov_len = size - 1};
        struct msghdr m = {
                        .msg_iov = &v,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control),
        };
        ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        *ret_fd = -EBADF;
        if (n < 0)
                return 0;
        text[n] = '\0';
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                        memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
        return (size_t) n;
}

static void *settle(void *result) {
        atomic_store((atomic_int *) result, fd_store_settle());
        return NULL;
}

static void test_put_and_remove(void **state) {
        _cleanup_close_ int manager = manager_new_socket(), memory = -EBADF, got = -EBADF;
        atomic_int settled = 0;
        pthread_t thread;
        struct stat a, b;
        char text[512];
        int early;

        memory = memfd_create("stored", MFD_CLOEXEC);
        assert_true(fd_store_put("region-egm4", memory) > 0);
        assert_true(receive(manager, text, sizeof(text), &got) > 0);
        assert_non_null(strstr(text, "FDSTORE=1\n"));
        assert_non_null(strstr(text, "FDNAME=region-egm4"));
        assert_non_null(strstr(text, "FDPOLL=0"));
        assert_true(got >= 0);
        assert_int_equal(fstat(memory, &a), 0);
        assert_int_equal(fstat(got, &b), 0);
        assert_true(a.st_ino == b.st_ino);
        safe_close(got);

        assert_true(fd_store_remove("region-egm4") > 0);
        assert_true(receive(manager, text, sizeof(text), &got) > 0);
        assert_non_null(strstr(text, "FDSTOREREMOVE=1\n"));
        assert_non_null(strstr(text, "FDNAME=region-egm4"));
        assert_true(got < 0);

        assert_int_equal(pthread_create(&thread, NULL, settle, &settled), 0);
        assert_int_equal(poll(&(struct pollfd){.fd = manager, .events = POLLIN}, 1, 60 * 1000), 1);
        assert_true(receive(manager, text, sizeof(text), &got) > 0);
        assert_string_equal(text, "BARRIER=1");
        assert_true(got >= 0);
        /* As long as it is not done with it that is waited for, or given up. */
        early = atomic_load(&settled);
        assert_true(early == 0 || early == -ETIMEDOUT);
        safe_close(got);
        assert_int_equal(pthread_join(thread, NULL), 0);
        /* Where the machine had no time for us for a second, it has given up. */
        assert_true(atomic_load(&settled) > 0 || atomic_load(&settled) == -ETIMEDOUT);

        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        assert_int_equal(fd_store_put("region-egm4", memory), 0);
        assert_int_equal(fd_store_remove("region-egm4"), 0);
        assert_int_equal(fd_store_settle(), 0);
        assert_int_equal(receive(manager, text, sizeof(text), &got), 0);
}

/* In a child, as a service starts: descriptors from 3 on. 0: all as it should be. */
static int started(const char *names, int n, int manager) {
        _cleanup_(fd_store_freep) FdStore *s = NULL;
        char text[512], number[16];
        int fd, got, removed = 0;

        (void) snprintf(number, sizeof(number), "%i", n);
        (void) setenv("LISTEN_FDS", number, 1);
        (void) snprintf(number, sizeof(number), "%i", (int) getpid());
        (void) setenv("LISTEN_PID", number, 1);
        (void) setenv("LISTEN_FDNAMES", names, 1);
        if (fd_store_collect(&s) < 0 || getenv("LISTEN_FDS"))
                return 1;
        if (fcntl(3, F_GETFD) != FD_CLOEXEC)
                return 2;
        /* Same name twice: one after the other, then no more. */
        if (fd_store_take(s, "two", &fd) < 0 || fd != 4 || fd_store_take(s, "two", &fd) < 0 ||
            fd != 5)
                return 3;
        if (fd_store_take(s, "two", &fd) != -ENOENT || fd_store_take(s, "none", &fd) != -ENOENT)
                return 4;
        fd_store_finish(s);
        if (fcntl(3, F_GETFD) >= 0 || fcntl(6, F_GETFD) >= 0)
                return 5; /* nobody took them */
        if (fcntl(4, F_GETFD) < 0 || fcntl(5, F_GETFD) < 0)
                return 6;
        while (receive(manager, text, sizeof(text), &got) > 0) {
                if (!strstr(text, "FDSTOREREMOVE=1\n") || strstr(text, "FDNAME=two"))
                        return 7;
                removed++;
        }
        return removed == 2 ? 0 : 8;
}

static void test_collect(void **state) {
        _cleanup_close_ int manager = manager_new_socket();
        int status;
        pid_t pid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int high = fcntl(manager, F_DUPFD_CLOEXEC, 100);
                int memory = memfd_create("given", 0);

                for (int i = 3; i < 7; i++)
                        (void) dup2(memory, i);
                _exit(started("one:two:two:unknown", 4, high));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
}

/* One of two that have a name is of no use: the manager forgets by name, so the other is stored anew. */
static int started_with_a_wrong_one(int manager) {
        _cleanup_(fd_store_freep) FdStore *s = NULL;
        char text[512], number[16];
        int wrong, right, got;

        (void) setenv("LISTEN_FDS", "2", 1);
        (void) snprintf(number, sizeof(number), "%i", (int) getpid());
        (void) setenv("LISTEN_PID", number, 1);
        (void) setenv("LISTEN_FDNAMES", "one:one", 1);
        if (fd_store_collect(&s) < 0 || fd_store_is_empty(s))
                return 1;
        if (fd_store_take(s, "one", &wrong) < 0 || fd_store_take(s, "one", &right) < 0)
                return 2;
        fd_store_reject(s, wrong);
        safe_close(wrong);
        fd_store_finish(s);
        if (fcntl(right, F_GETFD) < 0)
                return 3;
        if (receive(manager, text, sizeof(text), &got) == 0 || got >= 0 ||
            !strstr(text, "FDSTOREREMOVE=1\nFDNAME=one"))
                return 4;
        if (receive(manager, text, sizeof(text), &got) == 0 || got < 0 ||
            !strstr(text, "FDSTORE=1\nFDNAME=one"))
                return 5;
        safe_close(got);
        return receive(manager, text, sizeof(text), &got) == 0 ? 0 : 6;
}

static void test_reject(void **state) {
        _cleanup_close_ int manager = manager_new_socket();
        int status;
        pid_t pid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int high = fcntl(manager, F_DUPFD_CLOEXEC, 100);
                int memory = memfd_create("given", 0);

                (void) dup2(memory, 3);
                (void) dup2(memory, 4);
                _exit(started_with_a_wrong_one(high));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
}

/* Started by hand. */
static void test_nothing_given(void **state) {
        _cleanup_(fd_store_freep) FdStore *s = NULL;
        int fd;

        (void) unsetenv("LISTEN_FDS");
        (void) unsetenv("LISTEN_PID");
        assert_int_equal(fd_store_collect(&s), 0);
        assert_int_equal(fd_store_take(s, "one", &fd), -ENOENT);
        fd_store_finish(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_put_and_remove),
                        cmocka_unit_test(test_collect),
                        cmocka_unit_test(test_reject),
                        cmocka_unit_test(test_nothing_given),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
