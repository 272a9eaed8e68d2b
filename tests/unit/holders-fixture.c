/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "holders-fixture.h"

bool isolated;
int memfds[2] = {-EBADF, -EBADF};
int init_memfd = -EBADF;
int init_mapped_memfd = -EBADF;

void send_value(const Child *c, int value) {
        if (write(c->to, &value, sizeof(value)) != sizeof(value))
                abort();
}

int receive_value(const Child *c) {
        struct pollfd p = {.fd = c->from, .events = POLLIN};
        int value;

        if (poll(&p, 1, TIMEOUT_MSEC) != 1 || read(c->from, &value, sizeof(value)) != sizeof(value))
                abort();
        return value;
}

void child_stay(Child *c) {
        send_value(c, getpid());
        (void) receive_value(c);
}

void close_devices(void) {
        for (size_t i = 0; i < ELEMENTSOF(memfds); i++)
                memfds[i] = safe_close(memfds[i]);
        init_memfd = safe_close(init_memfd);
        init_mapped_memfd = safe_close(init_mapped_memfd);
}

Child child_start(child_body_t body) {
        int up[2], down[2];
        Child c;

        assert_int_equal(pipe2(up, O_CLOEXEC), 0);
        assert_int_equal(pipe2(down, O_CLOEXEC), 0);
        c = (Child){.to = down[1], .from = up[0]};
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) safe_close(down[1]);
                (void) safe_close(up[0]);
                c = (Child){.to = up[1], .from = down[0]};
                init_memfd = safe_close(init_memfd);
                init_mapped_memfd = safe_close(init_mapped_memfd);
                body(&c);
                _exit(EXIT_SUCCESS);
        }
        (void) safe_close(down[0]);
        (void) safe_close(up[1]);
        return c;
}

Child child_new(child_body_t body) {
        Child c = child_start(body);

        (void) receive_value(&c);
        return c;
}

void child_end(Child *c) {
        int status;

        send_value(c, 0);
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void) safe_close(c->to);
        (void) safe_close(c->from);
}

void child_kill(Child *c) {
        assert_int_equal(kill(c->pid, SIGKILL), 0);
        assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
        (void) safe_close(c->to);
        (void) safe_close(c->from);
}

void *map_or_abort(int fd, uint64_t offset, size_t size, int prot, int flags) {
        void *p = mmap(NULL, size, prot, flags, fd, (off_t) offset);

        if (p == MAP_FAILED)
                abort();
        return p;
}

HolderDevice device_of_fd(int fd) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        return (HolderDevice){
                        .rdev = S_ISCHR(st.st_mode) ? st.st_rdev : 0,
                        .dev = st.st_dev,
                        .ino = st.st_ino,
                        .size = DEVICE_SIZE,
                        .offsets = true,
        };
}

void scan_with(HolderScan scan, HolderList *ret) {
        scan.ignore_inaccessible = !isolated;
        assert_int_equal(holders_scan(&scan, ret), 0);
}

void scan_memfds(HolderList *ret) {
        HolderDevice devices[] = {device_of_fd(memfds[0]), device_of_fd(memfds[1])};

        scan_with((HolderScan){.devices = devices, .n_devices = 2}, ret);
}

void expect_nobody(void) {
        _cleanup_holder_list_ HolderList l = {};

        scan_memfds(&l);
        assert_int_equal(l.n, 0);
}

void expect_only(pid_t pid, bool has_fd, uint64_t offset, uint64_t size) {
        _cleanup_holder_list_ HolderList l = {};
        const Holder *h;

        scan_memfds(&l);
        assert_int_equal(l.n, 1);
        h = l.items;
        assert_int_equal(h->device, 0);
        assert_int_equal(h->pid, pid);
        assert_true(h->start_time > 0);
        assert_int_equal(h->has_fd, has_fd);
        assert_int_equal(h->maps, size > 0);
        assert_int_equal(h->mapped.n, size > 0);
        if (size > 0) {
                assert_true(h->mapped.items[0].offset == offset);
                assert_true(h->mapped.items[0].size == size);
        }
        assert_int_equal(h->n_pipes, 0);
}

static int make_memfds(int (*run)(void)) {
        /* Grandchildren become ours to wait for. */
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return EXIT_FAILURE;
        for (size_t i = 0; i < ELEMENTSOF(memfds); i++) {
                memfds[i] = memfd_create("device", MFD_CLOEXEC);
                if (memfds[i] < 0 || ftruncate(memfds[i], DEVICE_SIZE) < 0)
                        return EXIT_FAILURE;
        }
        return run();
}

/* In the new namespace: process 1 has two memfds open and does nothing but wait. */
static int run_below_init(int (*run)(void)) {
        int status;
        pid_t pid;

        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("proc", "/proc", "proc", 0, NULL) < 0) {
                (void) fprintf(stderr, "# no /proc of our own: %m\n");
                return make_memfds(run);
        }
        isolated = true;
        init_memfd = memfd_create("init", MFD_CLOEXEC);
        init_mapped_memfd = memfd_create("init-mapped", MFD_CLOEXEC);
        if (init_memfd < 0 || init_mapped_memfd < 0 ||
            ftruncate(init_mapped_memfd, DEVICE_SIZE) < 0)
                return EXIT_FAILURE;
        (void) map_or_abort(init_mapped_memfd, 0, 64 * KIB, PROT_READ, MAP_SHARED);
        pid = fork();
        if (pid < 0)
                return EXIT_FAILURE;
        if (pid == 0)
                exit(make_memfds(run));
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return EXIT_FAILURE;
        return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}

int run_isolated(int (*run)(void)) {
        int status;
        pid_t pid;

        if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) {
                (void) fprintf(stderr, "# among everybody else's processes: %m\n");
                return make_memfds(run);
        }
        pid = fork();
        if (pid < 0)
                return EXIT_FAILURE;
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                exit(run_below_init(run));
        }
        if (waitpid(pid, &status, 0) != pid)
                return EXIT_FAILURE;
        /* This process can have no threads any more, so the leak checker could not run at its exit. */
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}
