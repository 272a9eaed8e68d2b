/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "lifeline.h"
#include "pidfd.h"

typedef struct Context {
        sd_event *event;
        Lifeline *line;
        int closed;
        int unbound;
        pid_t last;
} Context;

static void on_closed(Lifeline *l, void *userdata) {
        ((Context *) userdata)->closed++;
}

static void on_unbound(Lifeline *l, pid_t pid, void *userdata) {
        Context *c = userdata;

        c->unbound++;
        c->last = pid;
}

static const LifelineOps ops = {.closed = on_closed, .unbound = on_unbound};

/* Everything that is due, and no waiting. */
static void settle(Context *c) {
        while (sd_event_run(c->event, 0) > 0)
                ;
}

static int start(Context *c) {
        int fd;

        *c = (Context){};
        assert_true(sd_event_new(&c->event) >= 0);
        assert_int_equal(lifeline_new(c->event, &ops, c, &c->line, &fd), 0);
        return fd;
}

static void stop(Context *c) {
        c->line = lifeline_free(c->line);
        sd_event_unref(c->event);
}

static pid_t child(int *ret_pidfd, int *ret_end) {
        int fds[2];
        pid_t pid;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                char c;

                (void) close(fds[1]);
                (void) !read(fds[0], &c, 1);
                _exit(0);
        }
        (void) close(fds[0]);
        *ret_end = fds[1];
        assert_int_equal(pidfd_new(pid, ret_pidfd), 0);
        return pid;
}

static void end_child(pid_t pid, int end) {
        (void) close(end);
        /* Its younger siblings have inherited copies of that. */
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_last_copy_counts(void **state) {
        Context c;
        int fd = start(&c), copy = fd_copy(fd);

        settle(&c);
        assert_int_equal(c.closed, 0);
        assert_int_equal(write(fd, "noise", 5), 5);
        settle(&c);
        assert_int_equal(c.closed, 0);
        (void) close(fd);
        settle(&c);
        assert_int_equal(c.closed, 0);
        (void) close(copy);
        settle(&c);
        assert_int_equal(c.closed, 1);
        settle(&c);
        assert_int_equal(c.closed, 1);
        stop(&c);
}

static void test_copy_in_another_process(void **state) {
        int pidfd, end, fd;
        Context c;
        pid_t pid;

        fd = start(&c);
        pid = child(&pidfd, &end); /* inherits a copy over fork */
        (void) close(fd);
        settle(&c);
        assert_int_equal(c.closed, 0);
        end_child(pid, end);
        settle(&c);
        assert_int_equal(c.closed, 1);
        (void) close(pidfd);
        stop(&c);
}

static void test_reopen(void **state) {
        Context c;
        int fd = start(&c), again;

        assert_int_equal(lifeline_reopen(c.line, &again), 0);
        (void) close(fd);
        settle(&c);
        assert_int_equal(c.closed, 0);
        (void) close(again);
        settle(&c);
        assert_int_equal(c.closed, 1);
        /* After the end as well: a persistent lease goes on. */
        assert_int_equal(lifeline_reopen(c.line, &again), 0);
        settle(&c);
        assert_int_equal(c.closed, 1);
        (void) close(again);
        settle(&c);
        assert_int_equal(c.closed, 2);
        stop(&c);
}

/* The last copy is closed, and before the loop gets to hear of it there is a new one. */
static void test_reopen_before_the_news(void **state) {
        Context c;
        int fd = start(&c), again;

        (void) close(fd);
        assert_true(sd_event_prepare(c.event) >= 0);
        assert_true(sd_event_wait(c.event, 0) > 0);
        assert_int_equal(lifeline_reopen(c.line, &again), 0);
        assert_true(sd_event_dispatch(c.event) > 0);
        settle(&c);
        assert_int_equal(c.closed, 0);
        (void) close(again);
        settle(&c);
        assert_int_equal(c.closed, 1);
        stop(&c);
}

static void test_bind(void **state) {
        int pidfd, end, fd, pidfd2, end2;
        pid_t pid, pid2, got;
        Context c;

        pid = child(&pidfd, &end);
        pid2 = child(&pidfd2, &end2);
        fd = start(&c);
        assert_int_equal(lifeline_bind(c.line, pidfd, &got), 1);
        assert_int_equal(got, pid);
        assert_int_equal(lifeline_bind(c.line, pidfd, &got), 0);
        assert_int_equal(lifeline_bind(c.line, pidfd2, &got), 1);
        assert_int_equal(lifeline_bound(c.line), 2);
        /* Ours is a copy. */
        (void) close(pidfd);
        (void) close(pidfd2);
        settle(&c);
        assert_int_equal(c.unbound, 0);
        end_child(pid, end);
        settle(&c);
        assert_int_equal(c.unbound, 1);
        assert_int_equal(c.last, pid);
        assert_int_equal(lifeline_bound(c.line), 1);
        assert_int_equal(lifeline_pid(c.line, 0), pid2);
        end_child(pid2, end2);
        settle(&c);
        assert_int_equal(c.unbound, 2);
        assert_int_equal(lifeline_bound(c.line), 0);
        assert_int_equal(c.closed, 0);
        (void) close(fd);
        stop(&c);
}

static void test_bind_bad(void **state) {
        int pidfd, end, fd;
        Context c;
        pid_t pid;

        pid = child(&pidfd, &end);
        end_child(pid, end);
        fd = start(&c);
        assert_int_equal(lifeline_bind(c.line, pidfd, NULL), -ESRCH);
        assert_int_equal(lifeline_bind(c.line, fd, NULL), -EBADF);
        assert_int_equal(lifeline_bind(c.line, -1, NULL), -EBADF);
        assert_int_equal(lifeline_bound(c.line), 0);
        (void) close(pidfd);
        (void) close(fd);
        stop(&c);
}

static void test_adopt_wants_a_pipe(void **state) {
        Lifeline *l = NULL;
        sd_event *event;

        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(lifeline_adopt(event, &ops, NULL, open("/dev/null", O_RDONLY | O_CLOEXEC),
                                        &l),
                         -EBADF);
        assert_null(l);
        sd_event_unref(event);
}

static size_t count_names(const LifelineNames *names, bool bound, uint64_t name,
                          const void *userdata) {
        const LifelineName *n = lifeline_names_first(names, bound, name);
        size_t k = 0;

        for (; n; n = lifeline_names_next(n)) {
                assert_int_equal(n->bound, bound);
                assert_int_equal(n->name, name);
                k += !userdata || n->userdata == userdata;
        }
        return k;
}

/* Who shows what a lease is kept by is found for as long as it is, and no longer. */
static void test_names(void **state) {
        _cleanup_close_ int pidfd = -EBADF, end = -EBADF;
        LifelineNames names = {};
        Context c[100];
        int fds[100];
        ino_t inode;
        uint64_t started;
        pid_t pid = child(&pidfd, &end);

        assert_int_equal(pidfd_get_start_time(pidfd, &started), 0);
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                fds[i] = start(c + i);
                /* Bound before it is listed, and behind it. */
                if (i == 0)
                        assert_int_equal(lifeline_bind(c[i].line, pidfd, NULL), 1);
                lifeline_list(c[i].line, &names);
                assert_int_equal(count_names(&names, false, lifeline_inode(c[i].line), c + i), 1);
        }
        assert_int_equal(count_names(&names, true, (uint64_t) pid, c), 1);
        for (size_t i = 1; i < 50; i++)
                assert_int_equal(lifeline_bind(c[i].line, pidfd, NULL), 1);
        assert_int_equal(count_names(&names, true, (uint64_t) pid, NULL), 50);
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                assert_int_equal(count_names(&names, true, (uint64_t) pid, c + i), i < 50);
                assert_int_equal(count_names(&names, false, lifeline_inode(c[i].line), NULL), 1);
        }
        assert_int_equal(lifeline_names_first(&names, true, (uint64_t) pid)->started, started);
        /* A pid is no inode. */
        assert_int_equal(count_names(&names, false, (uint64_t) pid, c),
                         lifeline_inode(c[0].line) == (ino_t) pid);
        lifeline_unbind(c[7].line, pid);
        assert_int_equal(count_names(&names, true, (uint64_t) pid, NULL), 49);
        assert_int_equal(count_names(&names, true, (uint64_t) pid, c + 7), 0);
        inode = lifeline_inode(c[3].line);
        c[3].line = lifeline_free(c[3].line);
        assert_int_equal(count_names(&names, false, inode, NULL), 0);
        assert_int_equal(count_names(&names, true, (uint64_t) pid, NULL), 48);
        end = safe_close(end);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        for (size_t i = 0; i < 50; i++)
                settle(c + i);
        assert_null(lifeline_names_first(&names, true, (uint64_t) pid));
        for (size_t i = 0; i < ELEMENTSOF(c); i++) {
                stop(c + i);
                (void) close(fds[i]);
        }
        assert_true(RB_EMPTY(&names));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_last_copy_counts),
                        cmocka_unit_test(test_copy_in_another_process),
                        cmocka_unit_test(test_reopen),
                        cmocka_unit_test(test_reopen_before_the_news),
                        cmocka_unit_test(test_bind),
                        cmocka_unit_test(test_bind_bad),
                        cmocka_unit_test(test_adopt_wants_a_pipe),
                        cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
