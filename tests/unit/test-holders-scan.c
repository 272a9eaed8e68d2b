/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What can be asked for, and whose processes are seen. */

#include "holders-fixture.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "fd-util.h"

#define NOBODY 65534U

static void body_fd(Child *c) {
        memfds[1] = safe_close(memfds[1]);
        child_stay(c);
}

static void body_part(Child *c) {
        (void) map_or_abort(memfds[0], 64 * KIB, 128 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED);
        close_devices();
        child_stay(c);
}

static void test_pids(void **state) {
        Child a = child_new(body_fd), b = child_new(body_part), gone = child_new(body_fd);
        pid_t pids[] = {gone.pid, b.pid, b.pid};
        HolderDevice d = device_of_fd(memfds[0]);
        _cleanup_holder_list_ HolderList l = {}, none = {};

        child_kill(&gone);
        scan_with((HolderScan){.devices = &d, .n_devices = 1, .pids = pids, .n_pids = 3}, &l);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.items[0].pid, b.pid);
        scan_with((HolderScan){.devices = &d, .n_devices = 1, .pids = pids, .n_pids = 0}, &none);
        assert_int_equal(none.n, 0);
        child_end(&a);
        child_end(&b);
}

static void test_self(void **state) {
        Child c = child_new(body_fd);
        HolderDevice d = device_of_fd(memfds[0]);
        _cleanup_holder_list_ HolderList l = {};

        scan_with((HolderScan){.devices = &d, .n_devices = 1, .self = c.pid}, &l);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.items[0].pid, getpid());
        child_end(&c);
}

static int kept_pipe[2], other_pipe[2], fifo_fd;

static void body_pipes(Child *c) {
        memfds[1] = safe_close(memfds[1]);
        (void) safe_close(other_pipe[0]);
        (void) safe_close(other_pipe[1]);
        (void) safe_close(kept_pipe[0]);
        /* The oldest has the highest number. */
        if (fcntl(kept_pipe[1], F_DUPFD_CLOEXEC, 100) < 0)
                abort();
        (void) safe_close(kept_pipe[1]);
        child_stay(c);
}

static void body_other_pipe(Child *c) {
        close_devices();
        child_stay(c);
}

static ino_t inode_of(int fd) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        return st.st_ino;
}

static bool has_pipe(const Holder *h, ino_t ino) {
        for (size_t i = 0; i < h->n_pipes; i++)
                if (h->pipes[i] == ino)
                        return true;
        return false;
}

static void test_pipes(void **state) {
        char dir[] = "/tmp/test-holders-XXXXXX", path[64];
        HolderDevice d = device_of_fd(memfds[0]);
        _cleanup_holder_list_ HolderList l = {};
        const Holder *h;
        Child c, before;

        assert_non_null(mkdtemp(dir));
        (void) snprintf(path, sizeof(path), "%s/fifo", dir);
        assert_int_equal(mkfifo(path, 0600), 0);
        fifo_fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fifo_fd >= 0);
        assert_int_equal(pipe2(kept_pipe, O_CLOEXEC), 0);
        assert_int_equal(pipe2(other_pipe, O_CLOEXEC), 0);
        before = child_new(body_other_pipe);
        c = child_new(body_pipes);

        scan_with((HolderScan){.devices = &d, .n_devices = 1, .want_pipes = true}, &l);
        assert_int_equal(l.n, 1);
        h = l.items;
        assert_true(has_pipe(h, inode_of(kept_pipe[1])));
        assert_false(has_pipe(h, inode_of(other_pipe[1])));
        assert_false(has_pipe(h, inode_of(fifo_fd)));
        for (size_t i = 1; i < h->n_pipes; i++)
                assert_true(h->pipes[i - 1] < h->pipes[i]);

        child_end(&c);
        child_end(&before);
        for (size_t i = 0; i < 2; i++) {
                (void) safe_close(kept_pipe[i]);
                (void) safe_close(other_pipe[i]);
        }
        (void) safe_close(fifo_fd);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(rmdir(dir), 0);
}

static void test_first_process(void **state) {
        HolderDevice devices[2];
        _cleanup_holder_list_ HolderList all = {}, skipped = {};

        if (!isolated)
                skip();
        devices[0] = device_of_fd(init_memfd);
        devices[1] = device_of_fd(init_mapped_memfd);
        scan_with((HolderScan){.devices = devices, .n_devices = 2}, &all);
        assert_int_equal(all.n, 2);
        assert_true(all.items[0].pid == 1 && all.items[0].has_fd && !all.items[0].maps);
        assert_true(all.items[1].pid == 1 && all.items[1].has_fd && all.items[1].maps);
        scan_with((HolderScan){.devices = devices, .n_devices = 2, .store = 1}, &skipped);
        assert_int_equal(skipped.n, 1);
        assert_true(skipped.items[0].device == 1 && !skipped.items[0].has_fd);
        assert_true(ranges_bytes(&skipped.items[0].mapped) == 64 * KIB);
}

static void body_nobody_user(Child *c) {
        if (prctl(PR_SET_NAME, "a)\n\x1b[31m(b") < 0)
                abort();
        if (geteuid() == 0 && setresuid(0, NOBODY, 0) < 0)
                abort();
        memfds[1] = safe_close(memfds[1]);
        child_stay(c);
}

static void test_who(void **state) {
        Child c = child_new(body_nobody_user);
        _cleanup_holder_list_ HolderList l = {};
        _cleanup_free_ char *s = NULL;
        char expected[64];
        Holder h;

        scan_memfds(&l);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.items[0].uid, geteuid() == 0 ? NOBODY : geteuid());
        assert_string_equal(l.items[0].comm, "a)??[31m(b");
        child_end(&c);

        h = l.items[0];
        h.unit = NULL;
        assert_int_equal(holder_describe(&h, &s), 0);
        (void) snprintf(expected, sizeof(expected), "pid %i (a)??[31m(b)", h.pid);
        assert_string_equal(s, expected);
        s = mfree(s);
        h.unit = (char *) "vm.scope";
        assert_int_equal(holder_describe(&h, &s), 0);
        (void) snprintf(expected, sizeof(expected), "pid %i (a)??[31m(b, vm.scope)", h.pid);
        assert_string_equal(s, expected);
}

/* ---- namespaces and permissions ---- */

static void body_namespace(Child *c) {
        pid_t pid;

        if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
                abort();
        memfds[1] = safe_close(memfds[1]);
        pid = fork();
        if (pid < 0)
                abort();
        if (pid == 0) {
                (void) receive_value(c);
                return;
        }
        close_devices();
        send_value(c, pid);
        if (waitpid(pid, NULL, 0) != pid)
                abort();
}

static void test_other_namespace(void **state) {
        pid_t inside;
        Child c;

        if (geteuid() != 0)
                skip();
        c = child_start(body_namespace);
        inside = receive_value(&c);
        expect_only(inside, true, 0, 0);
        child_end(&c);
}

static void test_not_allowed_to_look(void **state) {
        HolderDevice d = device_of_fd(memfds[0]);
        _cleanup_holder_list_ HolderList ignored = {}, l = {};
        pid_t pid;
        Child c;
        int r, others;

        if (geteuid() != 0)
                skip();
        c = child_new(body_fd);
        pid = c.pid;
        assert_int_equal(seteuid(NOBODY), 0);
        r = holders_scan(&(HolderScan){.devices = &d, .n_devices = 1}, &l);
        others = holders_scan(
                        &(HolderScan){.devices = &d, .n_devices = 1, .pids = &pid, .n_pids = 1},
                        &l);
        assert_int_equal(holders_scan(&(HolderScan){.devices = &d,
                                                    .n_devices = 1,
                                                    .ignore_inaccessible = true},
                                      &ignored),
                         0);
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(r, -EACCES);
        assert_int_equal(others, -EACCES);
        assert_int_equal(l.n, 0);
        assert_int_equal(ignored.n, 0);
        child_end(&c);
}

/* ---- character devices, by the nodes of harmless ones ---- */

static char node_dir[] = "/tmp/test-holders-nodes-XXXXXX";
static char node_zero[64], node_full[64];

static bool make_nodes(void) {
        _cleanup_close_ int fd = -EBADF;

        if (!isolated)
                return false;
        assert_non_null(mkdtemp(node_dir));
        (void) snprintf(node_zero, sizeof(node_zero), "%s/a b\nc", node_dir);
        (void) snprintf(node_full, sizeof(node_full), "%s/full", node_dir);
        if (mknod(node_zero, S_IFCHR | 0666, makedev(1, 5)) == 0 &&
            mknod(node_full, S_IFCHR | 0666, makedev(1, 7)) == 0)
                fd = open(node_full, O_RDWR | O_CLOEXEC);
        if (fd >= 0)
                return true;
        (void) unlink(node_zero);
        (void) unlink(node_full);
        (void) rmdir(node_dir);
        return false;
}

static int open_or_abort(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC);

        if (fd < 0)
                abort();
        return fd;
}

static void body_opens_full(Child *c) {
        (void) open_or_abort(node_full, O_RDWR);
        child_stay(c);
}

static void body_points_at_full(Child *c) {
        (void) open_or_abort(node_full, O_PATH);
        child_stay(c);
}

static void body_maps_zero(Child *c) {
        int fd = open_or_abort(node_zero, O_RDWR);

        (void) map_or_abort(fd, 4 * KIB, 4 * KIB, PROT_READ, MAP_PRIVATE);
        (void) safe_close(fd);
        child_stay(c);
}

/* As somebody who may not ask about mappings, of a process of the same user. */
static void body_maps_zero_as_nobody(Child *c) {
        int fd;

        if (setuid(NOBODY) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
                abort();
        fd = open_or_abort("/dev/zero", O_RDWR);
        (void) map_or_abort(fd, 4 * KIB, 4 * KIB, PROT_READ, MAP_PRIVATE);
        (void) safe_close(fd);
        close_devices();
        child_stay(c);
}

static void test_nodes(void **state) {
        HolderDevice devices[] = {
                        {.rdev = makedev(1, 5), .size = DEVICE_SIZE, .offsets = true},
                        {.rdev = makedev(1, 7), .size = DEVICE_SIZE, .offsets = true},
        };
        HolderScan scan = {.devices = devices, .n_devices = 2};
        _cleanup_holder_list_ HolderList l = {}, unprivileged = {};
        Child opens, points, maps, maps_too, hidden;

        if (!make_nodes())
                skip();
        points = child_new(body_points_at_full);
        maps = child_new(body_maps_zero);
        maps_too = child_new(body_maps_zero);
        opens = child_new(body_opens_full);
        scan_with(scan, &l);
        assert_int_equal(l.n, 3);
        assert_true(l.items[0].pid == maps.pid && l.items[0].device == 0 && !l.items[0].has_fd);
        assert_true(ranges_bytes(&l.items[0].mapped) == DEVICE_SIZE);
        assert_true(l.items[1].pid == maps_too.pid && l.items[1].device == 0);
        assert_true(l.items[2].pid == opens.pid && l.items[2].device == 1);
        assert_true(l.items[2].has_fd && !l.items[2].maps);
        child_end(&opens);
        child_end(&points);
        child_end(&maps);
        child_end(&maps_too);

        hidden = child_new(body_maps_zero_as_nobody);
        scan.ignore_inaccessible = true;
        assert_int_equal(seteuid(NOBODY), 0);
        assert_int_equal(holders_scan(&scan, &unprivileged), 0);
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(unprivileged.n, 1);
        assert_true(unprivileged.items[0].pid == hidden.pid && unprivileged.items[0].maps);
        child_end(&hidden);

        assert_int_equal(unlink(node_zero), 0);
        assert_int_equal(unlink(node_full), 0);
        assert_int_equal(rmdir(node_dir), 0);
}

static int run(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_pids),
                        cmocka_unit_test(test_self),
                        cmocka_unit_test(test_pipes),
                        cmocka_unit_test(test_first_process),
                        cmocka_unit_test(test_who),
                        cmocka_unit_test(test_other_namespace),
                        cmocka_unit_test(test_not_allowed_to_look),
                        cmocka_unit_test(test_nodes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
        return run_isolated(run);
}
