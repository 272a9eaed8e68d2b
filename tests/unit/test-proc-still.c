/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "holders.h"
#include "still-fixture.h"

static void test_sleeper(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER);

        remember_asleep(s, c.pid, 1);
        assert_true(proc_still_meet(s, c.pid, ino_of(c.pid)));
        assert_int_equal(proc_still_count(s), 1);
        child_wake(&c);
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        /* It has slept again since, but what it did meanwhile nobody knows. */
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        assert_int_equal(proc_still_count(s), 0);
        child_end(&c);
        proc_still_free(s);
}

static void test_spinner(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SPINNER);
        StillMark m;
        char b;

        assert_int_equal(read(c.answer, &b, 1), 1);
        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 0);
        assert_null(m.threads);
        child_end(&c);
        proc_still_free(s);
}

static void test_second_thread(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(THREADED);

        remember_asleep(s, c.pid, 2);
        child_wake(&c);
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        child_end(&c);
        proc_still_free(s);
}

static void test_had_something(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER);
        StillMark m;

        remember_asleep(s, c.pid, 1);
        assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 1);
        assert_int_equal(proc_still_remember(s, c.pid, ino_of(c.pid), &m, false), 0);
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        still_mark_done(&m);
        child_end(&c);
        proc_still_free(s);
}

/* It ran between the mark and the end of the look. */
static void test_ran_during_look(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER);
        StillMark m;

        remember_asleep(s, c.pid, 1);
        assert_int_equal(proc_still_mark(s, c.pid, 1, &m), 1);
        child_wake(&c);
        assert_int_equal(proc_still_remember(s, c.pid, ino_of(c.pid), &m, true), 0);
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid)));
        still_mark_done(&m);
        child_end(&c);
        proc_still_free(s);
}

static int sharer_main(void *fds) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) child_serve(fds);
        return 0;
}

static void check_sharing(int flags) {
        static char stack[65536] __attribute__((aligned(64)));
        ProcStill *s = still_new();
        Child alone = child_start(SLEEPER), c = child_start(SLEEPER);
        _cleanup_still_mark_ StillMark m = {};
        int to[2], from[2], fds[2];
        pid_t sharer;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        fds[0] = to[0];
        fds[1] = from[1];
        sharer = clone(sharer_main, stack + sizeof(stack), flags | SIGCHLD, fds);
        assert_true(sharer > 0);

        remember_asleep(s, alone.pid, 1);
        remember_asleep(s, c.pid, 1);
        /* We share with it and do run: both have to be looked at from now on, however long it sleeps. */
        remember_asleep(s, sharer, 1);
        assert_int_equal(proc_still_remember(s, getpid(), ino_of(getpid()), &m, true), 0);
        assert_false(proc_still_meet(s, sharer, ino_of(sharer)));
        assert_true(proc_still_meet(s, alone.pid, ino_of(alone.pid)));
        assert_true(proc_still_meet(s, c.pid, ino_of(c.pid)));
        assert_int_equal(proc_still_count(s), 2);

        (void) kill(sharer, SIGKILL);
        assert_int_equal(waitpid(sharer, NULL, 0), sharer);
        for (size_t i = 0; i < 2; i++) {
                (void) close(to[i]);
                (void) close(from[i]);
        }
        child_end(&alone);
        child_end(&c);
        proc_still_free(s);
}

static void test_shares_descriptors(void **state) {
        check_sharing(CLONE_FILES);
}

static void test_shares_memory(void **state) {
        check_sharing(CLONE_VM);
}

/* Others are compared with who has gone since he was last met. */
static void test_gone(void **state) {
        ProcStill *s = still_new();
        Child c[5];

        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                c[i] = child_start(SLEEPER);
        for (size_t i = 0; i < 4; i++)
                remember_asleep(s, c[i].pid, 1);
        for (size_t i = 0; i < 3; i++)
                child_end(c + i);
        remember_asleep(s, c[4].pid, 1);
        /* Who is gone may be found out when the next one is compared with him, and is forgotten with the round at the latest. */
        for (size_t round = 0; round < 2; round++) {
                assert_true(proc_still_meet(s, c[3].pid, ino_of(c[3].pid)));
                assert_true(proc_still_meet(s, c[4].pid, ino_of(c[4].pid)));
                proc_still_sweep(s);
        }
        assert_int_equal(proc_still_count(s), 2);
        child_end(c + 3);
        child_end(c + 4);
        proc_still_free(s);
}

/* Who is dead and still there has no memory any more, and all the trees led to by what he had. */
static void check_sharing_beside_dead(void) {
        static char stacks[2][65536] __attribute__((aligned(64)));
        ProcStill *s = still_new();
        _cleanup_still_mark_ StillMark m = {};
        int to[2], from[2], fds[2];
        pid_t sharers[2];
        Child c[16];

        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                c[i] = child_start(SLEEPER);
        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        fds[0] = to[0];
        fds[1] = from[1];
        for (size_t i = 0; i < 2; i++) {
                sharers[i] = clone(sharer_main, stacks[i] + sizeof(stacks[i]), CLONE_VM | SIGCHLD,
                                   fds);
                assert_true(sharers[i] > 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                remember_asleep(s, c[i].pid, 1);
                if (i == ELEMENTSOF(c) / 2)
                        remember_asleep(s, sharers[0], 1);
        }
        proc_still_sweep(s);
        assert_int_equal(proc_still_count(s), ELEMENTSOF(c) + 1);
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                siginfo_t info;

                assert_int_equal(kill(c[i].pid, SIGKILL), 0);
                assert_int_equal(waitid(P_PID, (id_t) c[i].pid, &info, WEXITED | WNOWAIT), 0);
        }
        assert_int_equal(proc_still_remember(s, sharers[1], ino_of(sharers[1]), &m, true), 0);
        assert_false(proc_still_meet(s, sharers[0], ino_of(sharers[0])));

        for (size_t i = 0; i < 2; i++) {
                (void) kill(sharers[i], SIGKILL);
                assert_int_equal(waitpid(sharers[i], NULL, 0), sharers[i]);
                (void) close(to[i]);
                (void) close(from[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(c); i++)
                child_end(c + i);
        proc_still_free(s);
}

/* By chance one may be found all the same. */
static void test_shares_beside_dead(void **state) {
        for (unsigned i = 0; i < 4; i++)
                check_sharing_beside_dead();
}

static void test_another_of_that_number(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER);

        remember_asleep(s, c.pid, 1);
        assert_false(proc_still_meet(s, c.pid, ino_of(c.pid) + 1));
        assert_int_equal(proc_still_count(s), 0);
        child_end(&c);
        proc_still_free(s);
}

static void test_sweep(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER);

        remember_asleep(s, c.pid, 1);
        proc_still_sweep(s);
        assert_int_equal(proc_still_count(s), 1);
        proc_still_sweep(s);
        assert_int_equal(proc_still_count(s), 0);
        child_end(&c);
        proc_still_free(s);
}

static void test_other_things(void **state) {
        ProcStill *s = still_new();
        Child c = child_start(SLEEPER);

        remember_asleep(s, c.pid, 1);
        assert_int_equal(proc_still_begin(s, still_root, "k", 1), 0);
        assert_int_equal(proc_still_count(s), 1);
        assert_int_equal(proc_still_begin(s, still_root, "l", 1), 0);
        assert_int_equal(proc_still_count(s), 0);
        child_end(&c);
        proc_still_free(s);
}

/* ---- with a scan around it ---- */

static bool scan_finds(ProcStill *s, pid_t pid) {
        _cleanup_holder_list_ HolderList list = {};
        HolderDevice device = {.size = 65536, .offsets = true};
        HolderScan scan = {.devices = &device,
                           .n_devices = 1,
                           .still = s,
                           .ignore_inaccessible = true};
        struct stat st;
        bool found = false;

        assert_int_equal(fstat(still_memory_fd, &st), 0);
        device.dev = st.st_dev;
        device.ino = st.st_ino;
        assert_int_equal(holders_scan(&scan, &list), 0);
        for (size_t i = 0; i < list.n; i++)
                found = found || list.items[i].pid == pid;
        return found;
}

/* A process that sleeps through scans is found as soon as it has something, and as long. */
static void test_scan(void **state) {
        ProcStill *s = still_new();
        Child sleeper = child_start(SLEEPER), opener = child_start(OPENER);
        uint64_t deadline = now_msec() + 60000;

        child_wake(&sleeper); /* it has closed its copy by now */
        assert_true(scan_finds(s, opener.pid));
        do {
                assert_false(scan_finds(s, sleeper.pid));
                assert_true(now_msec() < deadline);
        } while (proc_still_count(s) == 0);
        for (unsigned i = 0; i < 3; i++) {
                assert_false(scan_finds(s, sleeper.pid));
                assert_true(scan_finds(s, opener.pid));
                child_wake(&opener); /* the first time it moves it to another number */
                child_wake(&sleeper);
        }
        child_end(&sleeper);
        child_end(&opener);
        proc_still_free(s);
}

/* It has nothing, sleeps through scans, then opens something by name. */
static int latecomer(int in, int out, int fd) {
        char path[64], c = 0;

        (void) snprintf(path, sizeof(path), "/proc/%i/fd/%i", getppid(), fd);
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) close(fd);
        if (write(out, &c, 1) != 1 || read(in, &c, 1) != 1 || open(path, O_RDWR) < 0 ||
            write(out, &c, 1) != 1)
                return 1;
        (void) read(in, &c, 1);
        return 0;
}

static void test_scan_latecomer(void **state) {
        ProcStill *s = still_new(), *probe = still_new();
        int to[2], from[2];
        Child c = {};
        char b;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0)
                _exit(latecomer(to[0], from[1], still_memory_fd));
        c.wake = to[1];
        c.answer = from[0];
        assert_int_equal(read(c.answer, &b, 1), 1);
        remember_asleep(probe, c.pid, 1);
        for (unsigned i = 0; i < 3; i++)
                assert_false(scan_finds(s, c.pid));
        assert_true(proc_still_meet(probe, c.pid, ino_of(c.pid)));
        child_wake(&c);
        assert_true(scan_finds(s, c.pid));
        assert_true(scan_finds(s, c.pid));
        child_end(&c);
        (void) close(to[0]);
        (void) close(from[1]);
        proc_still_free(probe);
        proc_still_free(s);
}

/* Shares descriptors with a thread that sleeps, and with none but that; opens something there, and is gone. */
static void open_for_thread(const int *fds) {
        char path[64];
        pid_t pid;

        (void) snprintf(path, sizeof(path), "/proc/%i/fd/%i", fds[3], fds[2]);
        (void) unshare(CLONE_FILES);
        pid = (pid_t) syscall(SYS_clone, CLONE_FILES, 0UL, 0UL, 0UL, 0UL);
        if (pid == 0) {
                char c;

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                pid = (pid_t) syscall(SYS_getpid);
                if (write(fds[1], &pid, sizeof(pid)) != sizeof(pid) || read(fds[0], &c, 1) != 1 ||
                    open(path, O_RDWR) < 0)
                        _exit(1);
                _exit(0);
        }
        for (;;)
                (void) pause();
}

static void *thread_with_table(void *fds) {
        open_for_thread(fds);
        return NULL;
}

static void test_scan_table_of_thread(void **state) {
        uint64_t deadline = now_msec() + 60000;
        ProcStill *s = still_new();
        int to[2], from[2];
        Child c = {};
        pid_t sharer;
        int pidfd;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                int fds[] = {to[0], from[1], still_memory_fd, getppid()};
                pthread_t id;

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(still_memory_fd);
                if (pthread_create(&id, NULL, thread_with_table, fds) != 0)
                        _exit(1);
                for (;;)
                        (void) pause();
        }
        c.wake = to[1];
        c.answer = from[0];
        assert_int_equal(read(c.answer, &sharer, sizeof(sharer)), sizeof(sharer));
        pidfd = (int) syscall(SYS_pidfd_open, sharer, 0);
        assert_true(pidfd >= 0);
        while (!all_wait_to_be_told(c.pid)) {
                assert_true(now_msec() < deadline);
                (void) sched_yield();
        }
        for (unsigned i = 0; i < 3; i++)
                assert_false(scan_finds(s, c.pid));
        assert_int_equal(write(c.wake, &(char){1}, 1), 1);
        assert_int_equal(poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, 60000), 1);
        assert_true(scan_finds(s, c.pid));
        (void) close(pidfd);
        child_end(&c);
        (void) close(to[0]);
        (void) close(from[1]);
        proc_still_free(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_sleeper),
                        cmocka_unit_test(test_spinner),
                        cmocka_unit_test(test_second_thread),
                        cmocka_unit_test(test_had_something),
                        cmocka_unit_test(test_ran_during_look),
                        cmocka_unit_test(test_shares_descriptors),
                        cmocka_unit_test(test_shares_memory),
                        cmocka_unit_test(test_gone),
                        cmocka_unit_test(test_shares_beside_dead),
                        cmocka_unit_test(test_another_of_that_number),
                        cmocka_unit_test(test_sweep),
                        cmocka_unit_test(test_other_things),
                        cmocka_unit_test(test_scan),
                        cmocka_unit_test(test_scan_latecomer),
                        cmocka_unit_test(test_scan_table_of_thread),
        };

        still_fixture_init();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
