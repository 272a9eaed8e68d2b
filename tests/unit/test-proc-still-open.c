/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "still-fixture.h"

/* The counts that stay open: how many, and whose they are. */

static unsigned fds_open(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n;
}

/* The counts of sleepers are open, and of nobody else. */
static void test_open(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER), t = child_start(THREADED);
        unsigned before;
        StillMark m;

        before = fds_open();
        remember_asleep(s, c.pid, 1);
        remember_asleep(s, t.pid, 2);
        assert_int_equal(proc_still_count_open(s), 3);
        assert_int_equal(fds_open(), before + 3);
        assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 1);
        assert_int_equal(proc_still_remember(s, c.pid, ino_of(c.pid), &m, false), 0);
        assert_int_equal(proc_still_count_open(s), 2);
        still_mark_done(&m);
        child_wake(&t);
        assert_false(proc_still_meet(s, t.pid, ino_of(t.pid)));
        assert_int_equal(proc_still_count_open(s), 0);
        assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 1);
        still_mark_done(&m);
        assert_int_equal(fds_open(), before);
        remember_asleep(s, c.pid, 1);
        proc_still_free(s);
        assert_int_equal(fds_open(), before);
        child_end(&c);
        child_end(&t);
}

/* Of few descriptors a small part: the others are looked up by name, and are as good. */
static void test_open_limit(void **state) {
        struct rlimit old, few;
        Child c[8];
        ProcStill *s;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        few = old;
        few.rlim_cur = 80;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        s = still_new();
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                c[i] = child_start(i % 2 == 0 ? SLEEPER : THREADED);
        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                remember_asleep(s, c[i].pid, i % 2 == 0 ? 1 : 2);
        assert_int_equal(proc_still_count(s), ELEMENTSOF(c));
        assert_int_equal(proc_still_count_open(s), 5);
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                assert_true(proc_still_meet(s, c[i].pid, ino_of(c[i].pid)));
                child_wake(c + i);
                assert_false(proc_still_meet(s, c[i].pid, ino_of(c[i].pid)));
        }
        assert_int_equal(proc_still_count_open(s), 0);
        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                child_end(c + i);
        proc_still_free(s);
}

/* What it did before it ended nobody knows. */
static void test_thread_ended(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(ENDING);
        uint64_t deadline = now_msec() + 20000;
        char b = 1;

        remember_asleep(s, c.pid, 2);
        assert_int_equal(write(c.wake, &b, 1), 1);
        while (threads_of(c.pid) > 1) {
                assert_true(now_msec() < deadline);
                (void) sched_yield();
        }
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        child_end(&c);
        proc_still_free(s);
}

/* Another program, whose only thread has the first one's number, and the second one's count. */
static void test_thread_executed(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(EXECUTING);

        remember_asleep(s, c.pid, 2);
        child_wake(&c);
        assert_int_equal(threads_of(c.pid), 1);
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        assert_int_equal(proc_still_count_open(s), 0);
        child_end(&c);
        proc_still_free(s);
}

/* Sleeps from the start, so that it has run as seldom as its namesake. */
static pid_t start_as(pid_t pid, int *ret_end) {
        struct clone_args args = {.exit_signal = SIGCHLD,
                                  .set_tid = (uint64_t) (uintptr_t) &pid,
                                  .set_tid_size = 1};
        int fds[2];
        long r;
        char c;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        r = syscall(SYS_clone3, &args, sizeof(args));
        if (r == 0) {
                (void) close(fds[1]);
                _exit(read(fds[0], &c, 1) < 0);
        }
        (void) close(fds[0]);
        *ret_end = fds[1];
        return r < 0 ? -errno : (pid_t) r;
}

/* Nothing but the descriptor of its count tells it from the one that slept before. */
static void test_namesake(void **state) {
        ProcStill *s = still_new();
        int end = -EBADF, other = -EBADF;
        pid_t pid, again;
        ino_t ino;

        /* Some number, and nobody's now. */
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        again = start_as(pid, &end);
        if (again == -EPERM) {
                (void) close(end);
                proc_still_free(s);
                skip(); /* takes privilege */
        }
        assert_int_equal(again, pid);
        remember_asleep(s, pid, 1);
        assert_int_equal(proc_still_count_open(s), 1);
        ino = ino_of(pid);
        (void) kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(start_as(pid, &other), pid);
        {
                ProcStill *probe = still_new();

                remember_asleep(probe, pid, 1); /* it sleeps */
                proc_still_free(probe);
        }
        assert_false(proc_still_meet(s, pid, ino));
        assert_int_equal(proc_still_count_open(s), 0);
        (void) close(end);
        (void) close(other);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        proc_still_free(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_open),         cmocka_unit_test(test_open_limit),
                        cmocka_unit_test(test_thread_ended), cmocka_unit_test(test_thread_executed),
                        cmocka_unit_test(test_namesake),
        };

        still_fixture_init();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
