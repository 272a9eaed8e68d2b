/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "keeper.h"
#include "test.h"

#define DEADLINE (30 * USEC_PER_SEC)

static const char *stand_in;

#define keeper(...) keeper_for((const char *const[]){__VA_ARGS__, NULL})

static Keeper *keeper_for(const char *const *args) {
        Keeper *k;

        assert_int_equal(keeper_new(stand_in, args, &k), 0);
        return k;
}

static void expect_exit(int status, int code) {
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), code);
}

static void expect_log(Keeper *k, const char *expected) {
        char *text = keeper_log_text(k);

        assert_string_equal(text, expected);
        free(text);
}

static void test_ready_and_signal(void **state) {
        Keeper *k = keeper("notify:READY=1\nSTATUS=here I am", "wait");
        char *text;
        int status;

        assert_int_equal(keeper_pid(k), 0);
        assert_int_equal(keeper_wait(k, 0, NULL), -ECHILD);
        assert_int_equal(keeper_signal(k, SIGTERM), -ESRCH);
        assert_int_equal(keeper_start(k, DEADLINE), 0);
        assert_true(keeper_pid(k) > 0);
        assert_true(keeper_is_ready(k));
        assert_false(keeper_is_stopping(k));
        text = keeper_status_text(k);
        assert_string_equal(text, "here I am");
        free(text);
        assert_int_equal(keeper_wait(k, 0, &status), -ETIMEDOUT);
        assert_int_equal(keeper_signal(k, SIGTERM), 0);
        assert_int_equal(keeper_wait(k, DEADLINE, &status), 0);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGTERM);
        assert_int_equal(keeper_exit_status(k), status);
        assert_int_equal(keeper_pid(k), 0);
        keeper_free(k);
}

static void test_exit_before_ready(void **state) {
        Keeper *k = keeper("notify:STATUS=no", "fail");

        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_exit(keeper_exit_status(k), 3);
        assert_false(keeper_is_ready(k));
        keeper_free(k);
        k = keeper_for(NULL);
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_exit(keeper_exit_status(k), 0);
        keeper_free(k);
        assert_int_equal(keeper_new("/nonexistent/egmd", NULL, &k), 0);
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_exit(keeper_exit_status(k), 127);
        keeper_free(k);
}

static void test_timeout(void **state) {
        Keeper *k = keeper("wait");
        struct pollfd ended = {.events = POLLIN};

        assert_int_equal(keeper_start(k, 1000), -ETIMEDOUT);
        assert_true(keeper_pid(k) > 0);
        ended.fd = fd_copy(keeper_pidfd(k));
        assert_true(ended.fd >= 0);
        assert_int_equal(poll(&ended, 1, 0), 0);
        keeper_free(k);
        assert_int_equal(poll(&ended, 1, 0), 1);
        (void) close(ended.fd);
}

/* Whatever it sent before it died is in the store, the newest first, and is there at the next start. */
static void test_store_outlives(void **state) {
        Keeper *k = keeper("list", "env:LISTEN_FDNAMES", "make:one", "make:three", "die");

        assert_int_equal(keeper_start(k, DEADLINE), 1);
        assert_true(WIFSIGNALED(keeper_exit_status(k)));
        assert_int_equal(keeper_n_stored(k), 2);
        assert_string_equal(keeper_stored_name(k, 0), "three");
        assert_string_equal(keeper_stored_name(k, 1), "one");
        assert_int_equal(lseek(keeper_stored_fd(k, 0), 0, SEEK_END), 5);
        expect_log(k, "0 stored\nLISTEN_FDNAMES=(unset)\n");
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_log(k, "2 stored\nthree 5\none 3\nLISTEN_FDNAMES=three:one\n");
        assert_int_equal(keeper_n_stored(k), 4);
        keeper_store_clear(k);
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_log(k, "0 stored\nLISTEN_FDNAMES=(unset)\n");
        keeper_free(k);
}

static void test_store_rules(void **state) {
        Keeper *k = keeper("make:one", "again:two", "make:four", "make:four", "make:a:b",
                           "forget:four", "child:FDSTOREREMOVE=1\nFDNAME=one", "notify:READY=1");

        assert_int_equal(keeper_start(k, DEADLINE), 0);
        assert_int_equal(keeper_wait(k, DEADLINE, NULL), 0);
        /* No duplicates, all of a name removed, no bad names, nobody else's words. */
        assert_int_equal(keeper_n_stored(k), 2);
        assert_string_equal(keeper_stored_name(k, 0), "stored");
        assert_string_equal(keeper_stored_name(k, 1), "one");
        keeper_free(k);
}

static void test_store_by_hand(void **state) {
        Keeper *k = keeper("list");
        int a = memfd_create("a", MFD_CLOEXEC), b = memfd_create("b", MFD_CLOEXEC);

        assert_true(a >= 0 && b >= 0);
        assert_int_equal(ftruncate(b, 7), 0);
        /* A test that is careless with its own leaves nothing to the daemon. */
        assert_int_equal(fcntl(a, F_SETFD, 0), 0);
        assert_int_equal(keeper_store_add(k, "a", a), 1);
        assert_int_equal(keeper_store_add(k, "again", a), 0);
        assert_int_equal(keeper_store_add(k, "b", b), 1);
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_log(k, "2 stored\nb 7\na 0\n");
        keeper_store_remove(k, 1);
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_log(k, "1 stored\nb 7\n");
        (void) safe_close(a);
        (void) safe_close(b);
        keeper_free(k);
}

/* More than a socket's queue holds, and nobody here reads meanwhile. */
static void test_many_messages(void **state) {
        const char *args[1003] = {};
        Keeper *k;

        args[0] = "notify:READY=1";
        for (size_t i = 1; i < 1001; i++)
                args[i] = "notify:STATUS=again";
        args[1001] = "notify:STOPPING=1";
        k = keeper_for(args);
        assert_int_equal(keeper_start(k, DEADLINE), 0);
        assert_int_equal(keeper_wait(k, DEADLINE, NULL), 0);
        assert_true(keeper_is_stopping(k));
        keeper_free(k);
}

static void test_environment(void **state) {
        Keeper *k = keeper("env:ONE", "env:RUNTIME_DIRECTORY");
        char dir[128], *expected;
        struct stat st;

        assert_int_equal(keeper_setenv(k, "ONE", "1"), 0);
        assert_int_equal(keeper_setenv(k, "ONE", "2"), 0);
        (void) snprintf(dir, sizeof(dir), "%s", keeper_runtime_dir(k));
        assert_int_equal(stat(dir, &st), 0);
        assert_int_equal(st.st_mode, S_IFDIR | 0700);
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        assert_true(asprintf(&expected, "ONE=2\nRUNTIME_DIRECTORY=%s\n", dir) > 0);
        expect_log(k, expected);
        free(expected);
        keeper_unsetenv(k, "RUNTIME_DIRECTORY");
        keeper_unsetenv(k, "ONE");
        assert_int_equal(keeper_start(k, DEADLINE), 1);
        expect_log(k, "ONE=(unset)\nRUNTIME_DIRECTORY=(unset)\n");
        keeper_free(k);
        assert_int_equal(stat(dir, &st), -1);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_ready_and_signal),
                        cmocka_unit_test(test_exit_before_ready),
                        cmocka_unit_test(test_timeout),
                        cmocka_unit_test(test_store_outlives),
                        cmocka_unit_test(test_store_rules),
                        cmocka_unit_test(test_store_by_hand),
                        cmocka_unit_test(test_many_messages),
                        cmocka_unit_test(test_environment),
        };

        if (argc != 2)
                return 2;
        stand_in = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
