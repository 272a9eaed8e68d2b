/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "kinds.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "scene.h"

#define KTHREADD_PID 2

static void add_kind(Kinds *k, const char *name, int fd, bool right) {
        if (fd < 0)
                fail_msg("%s: %s", name, strerror(errno));
        assert_true(k->n < KINDS_MAX);
        k->list[k->n++] = (Kind){name, fd, right};
}

pid_t kinds_child(uid_t uid, bool stays) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid != 0)
                return pid;
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (uid != 0 && setresuid(uid, uid, uid) < 0)
                _exit(EXIT_FAILURE);
        while (stays)
                (void) pause();
        _exit(EXIT_SUCCESS);
}

void kinds_end_child(pid_t pid) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int one_end(int fds[2]) {
        (void) close(fds[1]);
        return fds[0];
}

static void add_files(Kinds *k) {
        struct sockaddr sa = {.sa_family = AF_UNIX};
        int p[2], s[2], listening;
        sigset_t set;

        (void) sigemptyset(&set);
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
        listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listening, &sa, sizeof(sa.sa_family)), 0);
        assert_int_equal(listen(listening, 1), 0);
        add_kind(k, "a pipe", one_end(p), false);
        add_kind(k, "a socket", one_end(s), false);
        add_kind(k, "a listening socket", listening, false);
        add_kind(k, "a directory", open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), false);
        add_kind(k, "a path", open("/", O_PATH | O_CLOEXEC), false);
        add_kind(k, "a device's path", open("/dev/null", O_PATH | O_CLOEXEC), false);
        add_kind(k, "a device", open("/dev/zero", O_RDWR | O_CLOEXEC), false);
        add_kind(k, "a terminal's device", open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), false);
        add_kind(k, "a process' directory", open("/proc/self", O_RDONLY | O_CLOEXEC), false);
        add_kind(k, "a process' directory by path", open("/proc/self", O_PATH | O_CLOEXEC), false);
        add_kind(k, "a process' memory", open("/proc/self/mem", O_RDONLY | O_CLOEXEC), false);
        add_kind(k, "a process' namespace", open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), false);
        add_kind(k, "a pidfd's fdinfo", open("/proc/self/fdinfo/0", O_RDONLY | O_CLOEXEC), false);
        add_kind(k, "an epoll", epoll_create1(EPOLL_CLOEXEC), false);
        add_kind(k, "an eventfd", eventfd(1, EFD_CLOEXEC), false);
        add_kind(k, "a timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), false);
        add_kind(k, "a signalfd", signalfd(-1, &set, SFD_CLOEXEC), false);
        add_kind(k, "an inotify", inotify_init1(IN_CLOEXEC), false);
        add_kind(k, "a memfd of that name", memfd_create("anon_inode:[pidfd]", MFD_CLOEXEC), false);
}

static void *wait_for_end(void *arg) {
        char c;

        (void) read(*(int *) arg, &c, 1);
        return NULL;
}

static void *say_who(void *arg) {
        int *fds = arg;
        pid_t self = gettid();

        assert_int_equal(write_all(fds[1], &self, sizeof(self)), 0);
        return wait_for_end(fds + 2);
}

/* PIDFD_THREAD, from Linux 6.9: of a thread that leads its process, of one that does not, and of one that has ended. */
static void add_threads(Kinds *k) {
        int fds[4], first = pidfd_open(getpid(), O_EXCL), second;
        pthread_t thread;
        pid_t tid;

        if (first < 0)
                return;
        add_kind(k, "a thread that leads its process", first, false);
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(pipe2(fds + 2, O_CLOEXEC), 0);
        assert_int_equal(pthread_create(&thread, NULL, say_who, fds), 0);
        assert_int_equal(read(fds[0], &tid, sizeof(tid)), sizeof(tid));
        second = pidfd_open(tid, O_EXCL);
        assert_int_equal(write_all(fds[3], "", 1), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                (void) close(fds[i]);
        add_kind(k, "a thread that has ended", second, false);
}

/* In a namespace below ours, where it has another number. */
static pid_t child_elsewhere(void) {
        int parent = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        pid_t pid;

        if (geteuid() != 0 || parent < 0 || unshare(CLONE_NEWPID) < 0) {
                (void) safe_close(parent);
                return 0;
        }
        pid = kinds_child(0, true);
        assert_int_equal(setns(parent, CLONE_NEWPID), 0);
        (void) close(parent);
        return pid;
}

static void add_processes(Kinds *k) {
        pid_t dead = kinds_child(0, false);
        siginfo_t si;
        char comm[16] = "";
        int fd;

        add_kind(k, "a dead process", pidfd_open(dead, 0), false);
        assert_int_equal(waitpid(dead, NULL, 0), dead);
        k->zombie = kinds_child(0, false);
        add_kind(k, "a zombie", pidfd_open(k->zombie, 0), false);
        assert_int_equal(waitid(P_PID, (id_t) k->zombie, &si, WEXITED | WNOWAIT), 0);
        add_kind(k, "egmd itself", pidfd_open(scene_pid(), 0), false);
        fd = open("/proc/2/comm", O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, comm, sizeof(comm) - 1) > 0 && streq(comm, "kthreadd\n"))
                add_kind(k, "a kernel thread", pidfd_open(KTHREADD_PID, 0), false);
        (void) safe_close(fd);
        add_kind(k, "this process", pidfd_open(getpid(), 0), true);
        add_kind(k, "process 1", pidfd_open(1, 0), geteuid() == 0);
        k->foreign = geteuid() == 0 ? kinds_child(65533, true) : 0;
        if (k->foreign > 0)
                add_kind(k, "somebody else's process", pidfd_open(k->foreign, 0), true);
        k->elsewhere = child_elsewhere();
        if (k->elsewhere > 0)
                add_kind(k, "a process of another namespace", pidfd_open(k->elsewhere, 0), true);
}

void kinds_open(Kinds *k, const Granted *g) {
        *k = (Kinds){};
        add_files(k);
        add_kind(k, "the region", fd_copy(g->memory), false);
        add_kind(k, "a lease's lifetime", fd_copy(g->lifetime), false);
        add_threads(k);
        add_processes(k);
}

void kinds_close(Kinds *k) {
        for (size_t i = 0; i < k->n; i++)
                (void) close(k->list[i].fd);
        assert_int_equal(waitpid(k->zombie, NULL, 0), k->zombie);
        if (k->foreign > 0)
                kinds_end_child(k->foreign);
        if (k->elsewhere > 0)
                kinds_end_child(k->elsewhere);
}

void kinds_expect(sd_bus *bus, sd_bus_message *m, const Kind *kind, const char *method) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(bus, m, 0, &e, NULL);

        if (kind->right ? r < 0 : !sd_bus_error_has_name(&e, SD_BUS_ERROR_INVALID_ARGS))
                fail_msg("%s of %s: %s (%s)", method, kind->name, e.name ?: "was granted",
                         e.message);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
}
