/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "fd-util.h"
#include "still-fixture.h"

int still_root;
int still_memory_fd;

void still_fixture_init(void) {
        still_root = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        still_memory_fd = memfd_create("still", 0);
        if (still_root < 0 || still_memory_fd < 0)
                err(EXIT_FAILURE, "what is tested with");
}

void *child_serve(void *fds) {
        int *p = fds;
        char c;

        while (read(p[0], &c, 1) == 1)
                if (write(p[1], &c, 1) != 1)
                        break;
        return NULL;
}

/* Becomes a program, and the first thread's number is its own then. */
static void *execute(void *fds) {
        int *p = fds;
        char c;

        if (read(p[0], &c, 1) == 1)
                (void) execl("/bin/sh", "sh", "-c", "printf x; read -r line", NULL);
        return NULL;
}

/* Ends, and answers nothing. */
static void *end_thread(void *fds) {
        char c;

        (void) !read(*(int *) fds, &c, 1);
        return NULL;
}

static int child_main(Kind kind, int in, int out) {
        int fds[2] = {in, out};
        pthread_t id;
        char c = 0;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (kind == SPINNER) {
                if (write(out, &c, 1) != 1)
                        return 1;
                for (;;)
                        __asm__ volatile("" ::: "memory");
        }
        if (kind == EXECUTING && (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0))
                return 1;
        if (kind == THREADED || kind == ENDING || kind == EXECUTING) {
                if (pthread_create(&id, NULL,
                                   kind == THREADED ? child_serve
                                   : kind == ENDING ? end_thread
                                                    : execute,
                                   fds) != 0)
                        return 1;
                /* Never runs again, whatever the other does. */
                for (;;)
                        (void) pause();
        }
        if (kind == OPENER) {
                if (read(in, &c, 1) != 1 || fcntl(still_memory_fd, F_DUPFD_CLOEXEC, 200) < 0 ||
                    close(still_memory_fd) < 0 || write(out, &c, 1) != 1)
                        return 1;
        } else
                (void) close(still_memory_fd);
        (void) child_serve(fds);
        return 0;
}

Child child_start(Kind kind) {
        int to[2], from[2];
        Child c;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                (void) close(to[1]);
                (void) close(from[0]);
                _exit(child_main(kind, to[0], from[1]));
        }
        (void) close(to[0]);
        (void) close(from[1]);
        c.wake = to[1];
        c.answer = from[0];
        return c;
}

void child_wake(const Child *c) {
        char b = 1;

        assert_int_equal(write(c->wake, &b, 1), 1);
        assert_int_equal(read(c->answer, &b, 1), 1);
}

void child_end(Child *c) {
        (void) kill(c->pid, SIGKILL);
        assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
        (void) close(c->wake);
        (void) close(c->answer);
}

ino_t ino_of(pid_t pid) {
        struct stat st;
        char path[32];

        (void) snprintf(path, sizeof(path), "%i", pid);
        assert_int_equal(fstatat(still_root, path, &st, 0), 0);
        return st.st_ino;
}

uint64_t threads_of(pid_t pid) {
        struct stat st;
        char path[32];

        (void) snprintf(path, sizeof(path), "%i/task", pid);
        assert_int_equal(fstatat(still_root, path, &st, 0), 0);
        return st.st_nlink - 2;
}

uint64_t now_msec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000 + (uint64_t) ts.tv_nsec / 1000000;
}

/* Whether that is where it stays until somebody wakes it: on its way there it may have to sleep for other things, for a page or
 * for a lock that whoever looks through /proc has. */
static bool waits_to_be_told(int tasks, const char *tid) {
        _cleanup_close_ int fd = -EBADF;
        char path[NAME_MAX + sizeof("/syscall")], text[128];
        long number = -1;
        ssize_t n;

        (void) snprintf(path, sizeof(path), "%s/syscall", tid);
        fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (n <= 0)
                return false;
        text[n] = '\0';
        if (sscanf(text, "%ld ", &number) != 1)
                return false;
#ifdef SYS_pause
        if (number == SYS_pause)
                return true;
#endif
        return number == SYS_read || number == SYS_ppoll;
}

bool all_wait_to_be_told(pid_t pid) {
        bool all = true;
        char path[32];
        int fd;
        DIR *d;

        (void) snprintf(path, sizeof(path), "%i/task", pid);
        fd = openat(still_root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        d = fdopendir(fd);
        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d));)
                all = all && (*e->d_name == '.' || waits_to_be_told(dirfd(d), e->d_name));
        (void) closedir(d);
        return all;
}

void remember_asleep(ProcStill *s, pid_t pid, uint64_t n_threads) {
        uint64_t deadline = now_msec() + 60000;

        for (;;) {
                _cleanup_still_mark_ StillMark m = {};

                if (threads_of(pid) == n_threads && all_wait_to_be_told(pid) &&
                    proc_still_mark(s, pid, n_threads, &m) > 0) {
                        assert_int_equal(proc_still_remember(s, pid, ino_of(pid), &m, true), 0);
                        if (proc_still_meet(s, pid, ino_of(pid)))
                                return;
                }
                assert_true(now_msec() < deadline);
                (void) sched_yield();
        }
}

ProcStill *still_new(void) {
        char text[64];
        ProcStill *s;
        int fd;

        fd = openat(still_root, "self/syscall", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof(text)) <= 0)
                skip();
        (void) close(fd);
        assert_int_equal(proc_still_new(&s), 0);
        assert_int_equal(proc_still_begin(s, still_root, "k", 1), 0);
        return s;
}
