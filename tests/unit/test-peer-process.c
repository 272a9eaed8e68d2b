/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which processes a caller may have map an enforced lease. As root: there must be others. */

#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bus-internal.h"
#include "fd-util.h"
#include "pidfd.h"

#define USER 60001U
#define OTHER 60002U

typedef struct Child {
        pid_t pid;
        int fd;
} Child;

/* With these ids, once this returns. */
static Child child_new(uid_t real, uid_t effective, uid_t saved) {
        int ready[2];
        Child c;
        char b;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                if (setresuid(real, effective, saved) < 0)
                        _exit(EXIT_FAILURE);
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) write_all(ready[1], "", 1);
                for (;;)
                        (void) pause();
        }
        (void) close(ready[1]);
        assert_int_equal(read(ready[0], &b, 1), 1);
        (void) close(ready[0]);
        assert_int_equal(pidfd_new(c.pid, &c.fd), 0);
        return c;
}

static void child_end(const Child *c) {
        assert_int_equal(kill(c->pid, SIGKILL), 0);
        assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
        (void) close(c->fd);
}

static bool may(uid_t uid, pid_t caller, bool enforced, int fd) {
        const Peer p = {.uid = uid, .pid = caller, .known = true};
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        int r = bus_peer_check_process(&p, enforced, fd, &e);

        assert_int_equal(e.kind, r < 0 ? EGM_ERROR_ACCESS_DENIED : EGM_ERROR_NONE);
        if (r < 0)
                assert_non_null(strstr(e.message, "is not all uid"));
        return r >= 0;
}

static int need_root(void **state) {
        if (geteuid() != 0)
                skip();
        return 0;
}

static void test_own(void **state) {
        Child c = child_new(USER, USER, USER);

        assert_true(may(USER, 0, true, c.fd));
        assert_true(may(0, 0, true, c.fd));
        assert_false(may(OTHER, 0, true, c.fd));
        /* Nothing is mapped by anybody's leave where nothing is enforced. */
        assert_true(may(OTHER, 0, false, c.fd));
        child_end(&c);
}

/* Somebody may run it, and is not it. */
static void test_in_part(void **state) {
        const uid_t ids[][3] = {{USER, OTHER, OTHER}, {OTHER, USER, OTHER}, {OTHER, OTHER, USER},
                                {USER, USER, OTHER},  {USER, OTHER, USER},  {OTHER, USER, USER},
                                {USER, USER, 0},      {0, USER, USER},      {USER, 0, USER}};

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                Child c = child_new(ids[i][0], ids[i][1], ids[i][2]);

                assert_false(may(USER, 0, true, c.fd));
                assert_false(may(OTHER, 0, true, c.fd));
                assert_true(may(0, 0, true, c.fd));
                /* Unless that is who asks. */
                assert_true(may(USER, c.pid, true, c.fd));
                child_end(&c);
        }
}

/* The number that a caller had may be another process' by now. */
static void test_number_again(void **state) {
        Child c = child_new(OTHER, OTHER, OTHER), roots = child_new(0, 0, 0);

        assert_false(may(USER, c.pid, true, c.fd));
        assert_false(may(USER, roots.pid, true, roots.fd));
        assert_false(may(USER, 1, true, roots.fd));
        child_end(&c);
        child_end(&roots);
}

static void test_gone(void **state) {
        Child c = child_new(USER, USER, USER);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        assert_int_equal(kill(c.pid, SIGKILL), 0);
        assert_int_equal(waitpid(c.pid, NULL, 0), c.pid);
        /* What it is not is for others to say, to whoever asks. */
        assert_true(may(OTHER, 0, true, c.fd));
        assert_true(may(OTHER, 0, true, null));
        (void) close(null);
        (void) close(c.fd);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup(test_own, need_root),
                        cmocka_unit_test_setup(test_in_part, need_root),
                        cmocka_unit_test_setup(test_number_again, need_root),
                        cmocka_unit_test_setup(test_gone, need_root),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
