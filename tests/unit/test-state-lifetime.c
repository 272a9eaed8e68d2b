/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "state-dir.h"

/* The FIFOs: what each end sees of the other's life. */

/* What poll() says without being asked for anything. */
static short events(int fd) {
        struct pollfd p = {.fd = fd};

        assert_true(poll(&p, 1, 0) >= 0);
        return p.revents;
}

static void assert_fd_flags(int fd, int access) {
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), access | O_NONBLOCK);
}

static void test_lifetime(void **state) {
        State *s = state_dir_open();
        int fd, holder, copy;
        struct stat st;

        assert_int_equal(state_make_lifetime(s, 1, &fd, &holder), 0);
        assert_fd_flags(fd, O_RDONLY);
        assert_fd_flags(holder, O_RDWR);
        assert_int_equal(fstat(holder, &st), 0);
        assert_true(S_ISFIFO(st.st_mode));
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_true(st.st_dev == state_dev(s));
        assert_int_equal(state_make_lifetime(s, 1, &(int){0}, &(int){0}), -EEXIST);
        assert_int_equal(events(fd), 0);
        assert_int_equal(events(holder), 0);

        /* The last copy counts. */
        copy = dup(holder);
        close(holder);
        assert_int_equal(events(fd), 0);
        close(copy);
        assert_int_equal(events(fd), POLLHUP);
        close(fd);
        state_free(s);
}

/* A restart while there is a holder. */
static void test_lifetime_across_restart(void **state) {
        State *s = state_dir_open();
        int fd, holder;

        assert_int_equal(state_make_lifetime(s, 1, &fd, &holder), 0);
        close(fd);
        state_free(s);
        /* Nobody reads, and the holder sees nothing of it, whatever it does. */
        assert_int_equal(events(holder), 0);
        assert_int_equal(write(holder, "x", 1), 1);
        s = state_dir_open();
        for (int i = 0; i < 2; i++) {
                assert_int_equal(state_open_lifetime(s, 1, &fd), 0);
                assert_fd_flags(fd, O_RDONLY);
                assert_int_equal(events(fd), 0);
                assert_int_equal(events(holder), 0);
                close(fd);
                assert_int_equal(events(holder), 0);
        }
        assert_int_equal(state_open_lifetime(s, 1, &fd), 0);
        close(holder);
        assert_int_equal(events(fd), POLLHUP);
        close(fd);
        state_free(s);
}

/* The holder goes while no egmd is there to see it. */
static void test_lifetime_ends_unseen(void **state) {
        State *s = state_dir_open();
        int fd, other, holder;

        assert_int_equal(state_make_lifetime(s, 1, &fd, &holder), 0);
        close(fd);
        close(holder);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(state_open_lifetime(s, 1, &fd), 0);
                assert_int_equal(events(fd), POLLHUP);
                close(fd);
        }
        /* Also one that has not been opened by anybody since it was made. */
        assert_int_equal(mkfifo(PATH("lease-2.fifo"), 0600), 0);
        assert_int_equal(state_open_lifetime(s, 2, &fd), 0);
        assert_int_equal(events(fd), POLLHUP);
        /* Another reader does not change what ours says, and nor does its going. */
        assert_int_equal(state_open_lifetime(s, 2, &other), 0);
        assert_int_equal(events(fd), POLLHUP);
        close(other);
        assert_int_equal(events(fd), POLLHUP);
        close(fd);
        state_free(s);
}

/* The holder is another process, and it is killed. */
static void test_lifetime_of_process(void **state) {
        State *s = state_dir_open();
        int fd, holder;
        pid_t pid;

        assert_int_equal(state_make_lifetime(s, 1, &fd, &holder), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        pause();
        }
        close(holder);
        close(fd);
        assert_int_equal(state_open_lifetime(s, 1, &fd), 0);
        assert_int_equal(events(fd), 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(poll(&(struct pollfd){.fd = fd}, 1, 60000), 1);
        assert_int_equal(events(fd), POLLHUP);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(fd);
        state_free(s);
}

static void test_lifetime_not_there(void **state) {
        State *s = state_dir_open();
        int fd = -1;

        assert_int_equal(state_open_lifetime(s, 1, &fd), -ENOENT);
        state_dir_put("lease-2.fifo", "a file");
        assert_int_equal(state_open_lifetime(s, 2, &fd), -EBADMSG);
        assert_int_equal(mkfifo(PATH("lease-3.fifo"), 0600), 0);
        assert_int_equal(symlink("lease-3.fifo", PATH("lease-4.fifo")), 0);
        assert_int_equal(state_open_lifetime(s, 4, &fd), -EBADMSG);
        assert_int_equal(mkdir(PATH("lease-5.fifo"), 0700), 0);
        assert_int_equal(state_open_lifetime(s, 5, &fd), -EBADMSG);
        assert_int_equal(fd, -1);
        state_free(s);
}

static void test_tidy(void **state) {
        static const uint64_t ids[] = {3, 10, UINT64_MAX};
        State *s = state_dir_open();

        for (int i = 1; i <= 12; i++) {
                char name[32];

                (void) snprintf(name, sizeof(name), "lease-%i.fifo", i);
                assert_int_equal(mkfifo(PATH(name), 0600), 0);
        }
        assert_int_equal(mkfifo(PATH("lease-18446744073709551615.fifo"), 0600), 0);
        assert_int_equal(mkfifo(PATH("lease-03.fifo"), 0600), 0);
        assert_int_equal(mkfifo(PATH("other.fifo"), 0600), 0);
        assert_int_equal(state_dir_save_lease(s, 4, ""), 0);
        assert_int_equal(state_tidy_lifetimes(s, ids, ELEMENTSOF(ids)), 0);
        state_dir_assert("lease-03.fifo lease-10.fifo lease-18446744073709551615.fifo lease-3.fifo "
                         "leases lock other.fifo ");
        assert_int_equal(state_tidy_lifetimes(s, NULL, 0), 0);
        state_dir_assert("lease-03.fifo leases lock other.fifo ");
        state_free(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        STATE_DIR_TEST(test_lifetime),
                        STATE_DIR_TEST(test_lifetime_across_restart),
                        STATE_DIR_TEST(test_lifetime_ends_unseen),
                        STATE_DIR_TEST(test_lifetime_of_process),
                        STATE_DIR_TEST(test_lifetime_not_there),
                        STATE_DIR_TEST(test_tidy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
