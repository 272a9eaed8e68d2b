/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/filter.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "inject-bed.h"

/* Injection: how leases, VMMs, launchers and objects end. */

static void open_too_late(void) {
        MUST_FAIL(open(PATH0, O_RDWR), ENODEV);
        MUST(open("/dev/null", O_RDWR) >= 0);
}

static void test_lease_ended(void **state) {
        static const char *const words[] = {"Lease 7 has ended", NULL};
        Bed bed;

        bed_start(&bed, false, false);
        fake.lifetime_fd = safe_close(fake.lifetime_fd);
        (void) bed_run(&bed, open_too_late, words);
        assert_int_equal(egm_inject_count_opens(bed.inject, 0), 0);
        bed_end(&bed);
}

static void open_refused(void) {
        MUST_FAIL(open(PATH0, O_RDWR), EBUSY);
        MUST_FAIL(open(PATH1, O_RDWR), ENODEV);
        MUST(open(PATH0, O_RDWR) >= 0);
}

static int refuse_twice(egm_inject *i, size_t slice, void *userdata) {
        int *n = userdata;

        assert_int_equal(slice, *n == 1);
        return (*n)++ == 0 ? -EBUSY : *n == 2 ? -ENODEV : 0;
}

static void test_callback(void **state) {
        static const char *const words[] = {PATH0 " is not handed out: Device or resource busy",
                                            "Lease 7 has ended", NULL};
        int n = 0;
        Bed bed;

        bed_start(&bed, true, false);
        assert_int_equal(egm_inject_set_callback(NULL, refuse_twice, &n), -EINVAL);
        assert_int_equal(egm_inject_set_callback(bed.inject, refuse_twice, &n), 0);
        (void) bed_run(&bed, open_refused, words);
        assert_int_equal(n, 3);
        bed_end(&bed);
}

static void open_once(void) {
        (void) open(PATH0, O_RDWR);
        (void) open(PATH0, O_RDWR);
}

/* Killed while it waits: nothing hangs, nothing leaks. */
static void test_killed(void **state) {
        for (unsigned after = 0; after < 2; after++) {
                struct pollfd p = {.events = POLLIN};
                int status;
                pid_t pid;
                Bed bed;

                bed_start(&bed, false, false);
                pid = bed_fork(&bed, open_once);
                p.fd = egm_inject_get_fd(bed.inject);
                for (unsigned i = 0; i < after; i++) {
                        assert_int_equal(poll(&p, 1, 60000), 1);
                        assert_int_equal(egm_inject_dispatch(bed.inject), 1);
                }
                assert_int_equal(poll(&p, 1, 60000), 1);
                assert_int_equal(kill(pid, SIGKILL), 0);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                while (egm_inject_dispatch(bed.inject) > 0)
                        ;
                assert_int_equal(egm_inject_dispatch(bed.inject), -EPIPE);
                assert_int_equal(egm_inject_count_opens(bed.inject, 0), (int) after);
                bed_end(&bed);
        }
}

static int to_child[2], from_child[2];

static void outlive(void) {
        int fd = open(PATH0, O_RDWR), other;
        char byte, *p;

        MUST(fd >= 0);
        p = map(fd, 0, SIZE);
        MUST(p != MAP_FAILED);
        p[0] = 'o';
        MUST(write(from_child[1], "x", 1) == 1);
        MUST(read(to_child[0], &byte, 1) == 1);
        /* The launcher is gone: what it would have to answer fails, memory and all else go on. */
        MUST(p[0] == 'o');
        p[1] = 'l';
        MUST_FAIL(open(PATH0, O_RDWR), ENOSYS);
        MUST_FAIL(map(fd, 0, SIZE), ENOSYS);
        other = open("/dev/null", O_RDWR | O_CLOEXEC);
        MUST(other >= 0 && dup(other) >= 0 && open("/dev/zero", O_RDONLY) >= 0);
        MUST(mmap(NULL, 4096, PROT_READ, MAP_SHARED, open("/proc/self/exe", O_RDONLY), 0) !=
             MAP_FAILED);
        MUST(close(fd) == 0);
}

static void test_launcher_dies(void **state) {
        struct pollfd p = {.events = POLLIN}, done = {.events = POLLIN};
        pid_t pid;
        Bed bed;

        assert_int_equal(pipe(to_child), 0);
        assert_int_equal(pipe(from_child), 0);
        bed_start(&bed, false, true);
        assert_int_equal(egm_inject_set_narrow(bed.inject, 1), 0);
        pid = bed_fork(&bed, outlive);
        p.fd = egm_inject_get_fd(bed.inject);
        done.fd = from_child[0];
        while (poll(&done, 1, 0) == 0) {
                (void) poll(&p, 1, 10);
                assert_true(egm_inject_dispatch(bed.inject) >= 0);
        }
        bed_end(&bed);
        assert_int_equal(write(to_child[1], "x", 1), 1);
        bed_reap(pid);
        check_memory(OFFSET, 'o');
        check_memory(OFFSET + 1, 'l');
        for (int i = 0; i < 2; i++) {
                close(to_child[i]);
                close(from_child[i]);
        }
}

static egm_inject *again;

static void install_twice(void) {
        MUST(egm_inject_install(again) == -EBUSY);
        MUST(egm_inject_dispatch(again) == -ECHILD);
        MUST(egm_inject_get_fd(again) == -ECHILD);
        MUST(egm_inject_set_shift(again, 0, 1) == -ECHILD);
}

static void test_twice(void **state) {
        Bed bed;

        bed_start(&bed, false, false);
        again = bed.inject;
        (void) bed_run(&bed, install_twice, NULL);
        bed_end(&bed);
}

/* Who is not root gets no_new_privs; who is keeps what it has. */
static void test_no_new_privs(void **state) {
        if (geteuid() != 0)
                skip();
        for (int as_root = 0; as_root < 2; as_root++) {
                pid_t pid;
                Bed bed;

                bed_start(&bed, false, false);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0) {
                        MUST(as_root || setuid(65534) == 0);
                        MUST(egm_inject_install(bed.inject) >= 0);
                        MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == !as_root);
                        _exit(0);
                }
                bed_reap(pid);
                bed_end(&bed);
        }
}

static void test_objects(void **state) {
        const struct sock_filter *filter;
        egm_inject *i = NULL;
        struct rlimit old, few = {40, 0};
        unsigned before;
        size_t n;
        Bed bed;

        bed_start(&bed, false, false);
        before = count_fds();
        assert_int_equal(egm_inject_new(NULL, &i), -EINVAL);
        assert_int_equal(egm_inject_new(bed.lease, NULL), -EINVAL);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        few.rlim_max = old.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        assert_int_equal(egm_inject_new(bed.lease, &i), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(egm_inject_new(bed.lease, &i), 0);
        assert_int_equal(egm_inject_get_fd(i), -EBADF);
        assert_int_equal(egm_inject_dispatch(i), -ENOTCONN);
        assert_int_equal(egm_inject_set_listener(i, -1), -EINVAL);
        assert_int_equal(egm_inject_set_listener(i, STDIN_FILENO), -EBADF);
        assert_int_equal(egm_inject_set_listener(i, fake.memory_fd), -EBADF);
        assert_int_equal(egm_inject_set_shift(i, 1, 1), -EINVAL);
        assert_int_equal(egm_inject_count_opens(i, 1), -EINVAL);
        assert_int_equal(egm_inject_get_filter(i, &filter, &n), 0);
        assert_true(n > 10);
        egm_inject_unref(egm_inject_ref(i));
        assert_null(egm_inject_unref(i));
        assert_int_equal(count_fds(), before);
        /* Without descriptors there is nothing to hand out. */
        close(egm_lease_take_slice_fd(bed.lease, 0));
        assert_int_equal(egm_inject_new(bed.lease, &i), -EBADF);
        bed_end(&bed);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_lease_ended), cmocka_unit_test(test_callback),
                        cmocka_unit_test(test_killed),      cmocka_unit_test(test_launcher_dies),
                        cmocka_unit_test(test_twice),       cmocka_unit_test(test_no_new_privs),
                        cmocka_unit_test(test_objects),
        };

        return bed_main(tests, ELEMENTSOF(tests));
}
