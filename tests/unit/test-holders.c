/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What processes can have, and how they live. */

#include "holders-fixture.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fd-util.h"

static int reopen_or_abort(int fd, int flags) {
        char path[64];
        int n;

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", fd);
        n = open(path, flags | O_CLOEXEC);
        if (n < 0)
                abort();
        return n;
}

/* Runs the body to where it stays, sees what it has, and that nothing is left when it has ended. */
static void expect_of(child_body_t body, bool has_fd, uint64_t offset, uint64_t size) {
        Child c = child_new(body);

        expect_only(c.pid, has_fd, offset, size);
        child_end(&c);
        expect_nobody();
}

/* ---- what a process can have ---- */

static void body_nothing(Child *c) {
        close_devices();
        child_stay(c);
}

static void test_nobody(void **state) {
        Child c = child_new(body_nothing);

        expect_nobody(); /* we have them open ourselves */
        child_end(&c);
}

static void body_part(Child *c) {
        (void) map_or_abort(memfds[0], 64 * KIB, 128 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED);
        close_devices();
        child_stay(c);
}

static void body_part_and_fd(Child *c) {
        (void) map_or_abort(memfds[0], 64 * KIB, 128 * KIB, PROT_NONE, MAP_SHARED);
        memfds[1] = safe_close(memfds[1]);
        child_stay(c);
}

static void body_read_only(Child *c) {
        _cleanup_close_ int fd = reopen_or_abort(memfds[0], O_RDONLY);

        (void) map_or_abort(fd, 64 * KIB, 64 * KIB, PROT_READ, MAP_SHARED);
        fd = safe_close(fd);
        close_devices();
        child_stay(c);
}

static void body_past_end(Child *c) {
        (void) map_or_abort(memfds[0], DEVICE_SIZE - 64 * KIB, 256 * KIB, PROT_READ, MAP_SHARED);
        close_devices();
        child_stay(c);
}

static void body_private(Child *c) {
        (void) map_or_abort(memfds[0], 64 * KIB, 4 * KIB, PROT_READ, MAP_PRIVATE);
        close_devices();
        child_stay(c);
}

static void body_fd(Child *c) {
        memfds[1] = safe_close(memfds[1]);
        child_stay(c);
}

static void body_fd_read_only(Child *c) {
        _cleanup_close_ int fd = reopen_or_abort(memfds[0], O_RDONLY);

        close_devices();
        child_stay(c);
}

static void test_mapping(void **state) {
        expect_of(body_part, false, 64 * KIB, 128 * KIB);
        expect_of(body_part_and_fd, true, 64 * KIB, 128 * KIB);
        expect_of(body_read_only, false, 64 * KIB, 64 * KIB);
        expect_of(body_past_end, false, DEVICE_SIZE - 64 * KIB, 64 * KIB);
        expect_of(body_private, false, 0, DEVICE_SIZE);
}

static void test_descriptor(void **state) {
        expect_of(body_fd, true, 0, 0);
        expect_of(body_fd_read_only, true, 0, 0);
}

static void body_path_only(Child *c) {
        _cleanup_close_ int fd = reopen_or_abort(memfds[0], O_PATH);

        close_devices();
        child_stay(c);
}

static void test_path_only_is_no_holder(void **state) {
        Child c = child_new(body_path_only);

        expect_nobody();
        child_end(&c);
}

static void body_unmaps(Child *c) {
        char *p = map_or_abort(memfds[0], 0, 256 * KIB, PROT_READ, MAP_SHARED);

        close_devices();
        child_stay(c);
        if (munmap(p + 64 * KIB, 64 * KIB) < 0)
                abort();
        child_stay(c);
        if (munmap(p, 256 * KIB) < 0)
                abort();
        child_stay(c);
}

static void test_mappings_change(void **state) {
        Child c = child_new(body_unmaps);
        _cleanup_holder_list_ HolderList l = {};

        expect_only(c.pid, false, 0, 256 * KIB);
        send_value(&c, 0);
        (void) receive_value(&c);
        scan_memfds(&l);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.items[0].mapped.n, 2);
        assert_true(ranges_overlap(&l.items[0].mapped, 0, 64 * KIB));
        assert_false(ranges_overlap(&l.items[0].mapped, 64 * KIB, 64 * KIB));
        assert_true(ranges_overlap(&l.items[0].mapped, 128 * KIB, 128 * KIB));
        send_value(&c, 0);
        (void) receive_value(&c);
        expect_nobody();
        child_end(&c);
}

static void body_both(Child *c) {
        (void) map_or_abort(memfds[1], 0, 64 * KIB, PROT_READ, MAP_SHARED);
        memfds[1] = safe_close(memfds[1]);
        child_stay(c);
}

static void test_two_devices(void **state) {
        Child a = child_new(body_both), b = child_new(body_part);
        _cleanup_holder_list_ HolderList l = {};
        const Holder *h;

        scan_memfds(&l);
        assert_int_equal(l.n, 3);
        h = l.items;
        assert_true(h[0].pid == a.pid && h[0].device == 0 && h[0].has_fd && !h[0].maps);
        assert_true(h[1].pid == a.pid && h[1].device == 1 && !h[1].has_fd && h[1].maps);
        assert_true(h[2].pid == b.pid && h[2].device == 0 && !h[2].has_fd && h[2].maps);
        child_end(&a);
        child_end(&b);
}

static void test_offsets_ignored(void **state) {
        Child c = child_new(body_part);
        HolderDevice d = device_of_fd(memfds[0]);
        _cleanup_holder_list_ HolderList l = {};

        d.offsets = false;
        scan_with((HolderScan){.devices = &d, .n_devices = 1}, &l);
        assert_int_equal(l.n, 1);
        assert_true(ranges_bytes(&l.items[0].mapped) == DEVICE_SIZE);
        child_end(&c);
}

/* ---- lives ---- */

static void test_killed(void **state) {
        Child c = child_new(body_part_and_fd);
        siginfo_t info;

        expect_only(c.pid, true, 64 * KIB, 128 * KIB);
        assert_int_equal(kill(c.pid, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t) c.pid, &info, WEXITED | WNOWAIT), 0);
        expect_nobody(); /* a zombie */
        child_kill(&c);
        expect_nobody();
}

static void body_parent(Child *c) {
        pid_t pid;

        (void) map_or_abort(memfds[0], 0, 64 * KIB, PROT_READ, MAP_SHARED);
        close_devices();
        pid = fork();
        if (pid < 0)
                abort();
        if (pid == 0)
                child_stay(c);
}

static void test_grandchild(void **state) {
        Child c = child_start(body_parent);
        pid_t grandchild = receive_value(&c);

        assert_int_equal(waitpid(c.pid, NULL, 0), c.pid);
        assert_int_not_equal(grandchild, c.pid);
        expect_only(grandchild, false, 0, 64 * KIB);
        c.pid = grandchild; /* ours to wait for now */
        child_end(&c);
        expect_nobody();
}

static void exec_cat(Child *c) {
        if (dup2(c->from, STDIN_FILENO) < 0)
                abort();
        (void) execlp("cat", "cat", NULL);
        abort();
}

static void body_exec_fd(Child *c) {
        memfds[1] = safe_close(memfds[1]);
        if (fcntl(memfds[0], F_SETFD, 0) < 0)
                abort();
        exec_cat(c);
}

static void body_exec_mapping(Child *c) {
        (void) map_or_abort(memfds[0], 0, 64 * KIB, PROT_READ, MAP_SHARED);
        exec_cat(c);
}

/* The child's end of the pipe closes when it executes something else. */
static void wait_exec(const Child *c) {
        struct pollfd p = {.fd = c->from};

        assert_int_equal(poll(&p, 1, TIMEOUT_MSEC), 1);
        assert_true(p.revents & POLLHUP);
}

static void test_exec(void **state) {
        Child keeps = child_start(body_exec_fd), drops;

        wait_exec(&keeps);
        drops = child_start(body_exec_mapping);
        wait_exec(&drops);
        expect_only(keeps.pid, true, 0, 0);
        child_kill(&keeps);
        child_kill(&drops);
}

/* ---- threads ---- */

typedef struct Thread {
        Child *child;
        pthread_t first;
        sem_t apart, end;
} Thread;

static void *thread_own_table(void *p) {
        Thread *t = p;

        if (unshare(CLONE_FILES) < 0)
                abort();
        (void) sem_post(&t->apart);
        (void) sem_wait(&t->end);
        return NULL;
}

/* Only the second thread's table still has it. */
static void body_thread(Child *c) {
        Thread t = {.child = c};
        pthread_t id;

        memfds[1] = safe_close(memfds[1]);
        if (sem_init(&t.apart, 0, 0) < 0 || sem_init(&t.end, 0, 0) < 0 ||
            pthread_create(&id, NULL, thread_own_table, &t) != 0)
                abort();
        (void) sem_wait(&t.apart);
        close_devices();
        child_stay(c);
        (void) sem_post(&t.end);
        (void) pthread_join(id, NULL);
}

static void *thread_survives(void *p) {
        Thread *t = p;

        (void) pthread_join(t->first, NULL);
        child_stay(t->child);
        _exit(EXIT_SUCCESS);
}

static void leave_to_thread(Child *c) {
        Thread *t = calloc(1, sizeof(*t));
        pthread_t id;

        if (!t)
                abort();
        *t = (Thread){.child = c, .first = pthread_self()};
        if (pthread_create(&id, NULL, thread_survives, t) != 0)
                abort();
        pthread_exit(NULL);
}

static void body_first_ends_fd(Child *c) {
        memfds[1] = safe_close(memfds[1]);
        leave_to_thread(c);
}

static void body_first_ends_mapping(Child *c) {
        (void) map_or_abort(memfds[0], 64 * KIB, 64 * KIB, PROT_READ, MAP_SHARED);
        close_devices();
        leave_to_thread(c);
}

/* Nothing tells of a thread that has ended but is not reaped. */
static void wait_zombie(pid_t pid) {
        for (unsigned i = 0; i < TIMEOUT_MSEC; i++) {
                _cleanup_free_ char *text = NULL;
                char path[64];

                (void) snprintf(path, sizeof(path), "/proc/%i/stat", pid);
                assert_int_equal(read_full_file_at(AT_FDCWD, path, 4096, &text, NULL), 0);
                if (strstr(text, ") Z "))
                        return;
                (void) poll(NULL, 0, 1);
        }
        fail();
}

static void test_thread_with_own_table(void **state) {
        expect_of(body_thread, true, 0, 0);
}

static void test_first_thread_ended(void **state) {
        Child a, b;

        if (geteuid() != 0) /* such a process is root's to look at */
                skip();
        a = child_new(body_first_ends_fd);

        wait_zombie(a.pid);
        expect_only(a.pid, true, 0, 0);
        child_end(&a);
        b = child_new(body_first_ends_mapping);
        wait_zombie(b.pid);
        expect_only(b.pid, false, 64 * KIB, 64 * KIB);
        child_end(&b);
        expect_nobody();
}

static int run(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_nobody),
                        cmocka_unit_test(test_mapping),
                        cmocka_unit_test(test_descriptor),
                        cmocka_unit_test(test_path_only_is_no_holder),
                        cmocka_unit_test(test_mappings_change),
                        cmocka_unit_test(test_two_devices),
                        cmocka_unit_test(test_offsets_ignored),
                        cmocka_unit_test(test_killed),
                        cmocka_unit_test(test_grandchild),
                        cmocka_unit_test(test_exec),
                        cmocka_unit_test(test_thread_with_own_table),
                        cmocka_unit_test(test_first_thread_ended),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
        return run_isolated(run);
}
