/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "size.h"
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
        /* And of the process's reads. */
        assert_int_equal(proc_still_count_open(s), 5);
        assert_int_equal(fds_open(), before + 5);
        assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 1);
        assert_int_equal(proc_still_remember(s, c.pid, ino_of(c.pid), &m, false), 0);
        assert_int_equal(proc_still_count_open(s), 3);
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

/* Of few descriptors a small part. Who is alone is looked up by name then, and is as good; who is not has to be looked at. */
static void test_open_limit(void **state) {
        struct rlimit old, few;
        ProcStill *s, *probe = still_new();
        Child c[6];
        StillMark m;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        few = old;
        few.rlim_cur = 160;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        s = still_new();
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                c[i] = child_start(i % 2 == 0 ? SLEEPER : THREADED);
                remember_asleep(probe, c[i].pid, 1 + i % 2);
        }
        for (size_t i = 0; i < 5; i++)
                remember_asleep(s, c[i].pid, 1 + i % 2);
        assert_int_equal(proc_still_count(s), 5);
        assert_int_equal(proc_still_count_open(s), 2 + 3 + 0 + 3 + 0);
        assert_int_equal(proc_still_mark(s, c[5].pid, 2, &m), 0);
        for (size_t i = 0; i < 5; i++) {
                assert_true(proc_still_meet(s, c[i].pid, ino_of(c[i].pid)));
                child_wake(c + i);
                assert_false(proc_still_meet(s, c[i].pid, ino_of(c[i].pid)));
        }
        assert_int_equal(proc_still_count_open(s), 0);
        remember_asleep(s, c[5].pid, 2);
        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                child_end(c + i);
        proc_still_free(probe);
        proc_still_free(s);
}

/* One that was made since the process was looked up is not known. */
static void test_thread_more(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(THREADED);
        StillMark m;

        remember_asleep(s, c.pid, 2);
        assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 0);
        child_end(&c);
        proc_still_free(s);
}

/* What it did before it ended nobody knows. */
static void test_thread_ended(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(ENDING);
        uint64_t deadline = now_msec() + 60000;
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

static uint64_t runs_of(const char *path) {
        char text[128], *at;
        uint64_t n;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t k = read(fd, text, sizeof(text) - 1);

        assert_true(k > 0);
        (void) close(fd);
        text[k - 1] = '\0';
        at = strrchr(text, ' ');
        assert_non_null(at);
        assert_int_equal(parse_uint64(at + 1, &n), 0);
        return n;
}

static void *imitate(void *fds) {
        const struct timespec moment = {.tv_nsec = 20000};
        uint64_t target;

        if (read(((int *) fds)[0], &target, sizeof(target)) != (ssize_t) sizeof(target))
                return NULL;
        while (runs_of("/proc/thread-self/schedstat") < target)
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &moment, NULL);
        (void) execl("/bin/sh", "sh", "-c", "printf x; read -r line", NULL);
        return NULL;
}

/* Sleeps alone; then has a thread become the program that it is, once that has run as often as it is told. */
static pid_t start_imitator(int *ret_to, int *ret_from) {
        int to[2], from[2];
        pthread_t id;
        pid_t pid;
        char c;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (dup2(to[0], STDIN_FILENO) < 0 || dup2(from[1], STDOUT_FILENO) < 0)
                        _exit(1);
                for (unsigned i = 0; i < 60; i++)
                        if (read(to[0], &c, 1) != 1 || write(from[1], &c, 1) != 1)
                                _exit(1);
                if (read(to[0], &c, 1) != 1 || pthread_create(&id, NULL, imitate, to) != 0)
                        _exit(1);
                for (;;)
                        (void) pause();
        }
        (void) close(to[0]);
        (void) close(from[1]);
        *ret_to = to[1];
        *ret_from = from[0];
        for (unsigned i = 0; i < 60; i++)
                assert_true(write(to[1], "x", 1) == 1 && read(from[0], &c, 1) == 1);
        return pid;
}

/* The first thread's number, directory, and how often it had run: all that is left to tell by is that a program was read. */
static void test_imitated(void **state) {
        uint64_t less = 1, end = now_msec() + 30000;
        unsigned hits = 0;

        for (unsigned i = 0; i < 200 && hits < 3 && now_msec() < end; i++) {
                ProcStill *s = still_new(), *probe = still_new();
                uint64_t before, after, target;
                char path[64], c;
                int to, from;
                pid_t pid;

                pid = start_imitator(&to, &from);
                remember_asleep(s, pid, 1);
                (void) snprintf(path, sizeof(path), "/proc/%i/schedstat", pid);
                before = runs_of(path);
                target = before - less;
                assert_int_equal(write(to, "x", 1), 1);
                assert_int_equal(write(to, &target, sizeof(target)), sizeof(target));
                assert_int_equal(read(from, &c, 1), 1);
                remember_asleep(probe, pid, 1);
                after = runs_of(path);
                hits += after == before;
                assert_false(proc_still_meet(s, pid, ino_of(pid)));
                less = after > before ? MIN(less + (after - before), before / 2)
                                      : less - MIN(less, before - after);
                (void) kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, NULL, 0), pid);
                (void) close(to);
                (void) close(from);
                proc_still_free(s);
                proc_still_free(probe);
        }
        if (hits == 0)
                skip(); /* too busy a machine to meet a number */
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
        if (again == -EPERM || again == -ENOSYS) {
                (void) close(end);
                proc_still_free(s);
                skip(); /* takes privilege, and a container that lets us */
        }
        assert_int_equal(again, pid);
        remember_asleep(s, pid, 1);
        assert_int_equal(proc_still_count_open(s), 2);
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
                        cmocka_unit_test(test_thread_more),  cmocka_unit_test(test_imitated),
                        cmocka_unit_test(test_namesake),
        };

        still_fixture_init();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
