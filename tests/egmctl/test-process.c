/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "../unit/test.h"

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "process.h"

static uint64_t start_time(pid_t pid) {
        unsigned long long v = 0;
        char path[64], text[1024];
        size_t n;
        FILE *f;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        f = fopen(path, "re");
        assert_non_null(f);
        n = fread(text, 1, sizeof(text) - 1, f);
        (void) fclose(f);
        text[n] = '\0';
        assert_int_equal(sscanf(strrchr(text, ')'),
                                ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                                "%*d %*d %*d %llu",
                                &v),
                         1);
        return v;
}

static pid_t child_new(void) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        (void) pause();
        }
        return pid;
}

static void test_opens_that_process_only(void **state) {
        pid_t pid = child_new();
        uint64_t start = start_time(pid);
        int fd = -7;

        assert_int_equal(process_open(pid, start + 1, &fd), -ESRCH);
        assert_int_equal(process_open(pid, start - 1, &fd), -ESRCH);
        assert_int_equal(process_open(pid, 0, &fd), -ESRCH);
        assert_int_equal(fd, -7);
        assert_int_equal(process_open(pid, start, &fd), 0);
        assert_int_equal(pidfd_send_signal(fd, SIGKILL, NULL, 0), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        fd = safe_close(fd);
        assert_int_equal(process_open(pid, start, &fd), -ESRCH);
}

static void test_name_with_parentheses(void **state) {
        uint64_t start = start_time(getpid());
        int fd;

        assert_int_equal(prctl(PR_SET_NAME, ") 1 (2) S 3"), 0);
        assert_int_equal(process_open(getpid(), start, &fd), 0);
        (void) safe_close(fd);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_opens_that_process_only),
                        cmocka_unit_test(test_name_with_parentheses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
