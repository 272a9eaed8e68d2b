/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "size.h"

/* Tries to map a device and says what came of it: "mapped", or the error's name.
 *
 *     egm-attempt [--from=PID] WHAT FD OFFSET SIZE
 *         map, private    so many bytes from there
 *         hold            the same, until end of input
 *         again           maps, then the same bytes once more, until it is refused
 *         moved           maps, moves it somewhere else, and holds that
 *         dodge           the same again and again
 *         forked          maps, and holds it in a child alone
 *         protect         maps for reading, waits for a line, and wants to write
 *         exec            what a thread that is not the first executes maps it
 *
 * FD is a descriptor that was inherited, or with --from= one of that process. Exit status 0 whatever the kernel said. */

static const char *arg_what;
static int fd;
static uint64_t arg_offset, arg_size;

static void *map(int prot, int flags) {
        return mmap(NULL, (size_t) arg_size, prot, flags, fd, (off_t) arg_offset);
}

static int say(bool ok) {
        puts(ok ? "mapped" : strerrorname_np(errno));
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Back and forth between two places, while there is nothing to read. */
static int move(void *p, bool again) {
        void *places[2] = {MAP_FAILED, p};
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

        places[0] = mmap(NULL, (size_t) arg_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (places[0] == MAP_FAILED)
                return -errno;
        for (unsigned i = 0; i == 0 || (again && poll(&input, 1, 0) == 0); i++)
                if (mremap(places[(i + 1) % 2], (size_t) arg_size, (size_t) arg_size,
                           MREMAP_MAYMOVE | MREMAP_FIXED, places[i % 2]) == MAP_FAILED)
                        return -errno;
        return 0;
}

/* True in the child. */
static bool leave_to_child(void *p) {
        pid_t pid = fork();

        if (pid <= 0)
                return pid == 0;
        (void) munmap(p, (size_t) arg_size);
        (void) waitpid(pid, NULL, 0);
        return false;
}

static void wait_for_line(void) {
        char buffer[256];

        (void) !fgets(buffer, sizeof(buffer), stdin);
}

static void *exec_by_thread(void *argv) {
        (void) execv("/proc/self/exe", argv);
        return NULL;
}

static int attempt_by_exec(void) {
        char number[16], offset[24], size[24];
        char self[] = "egm-attempt", what[] = "map";
        char *argv[] = {self, what, number, offset, size, NULL};
        pthread_t thread;

        (void) snprintf(number, sizeof(number), "%d", fd);
        (void) snprintf(offset, sizeof(offset), "%llu", (unsigned long long) arg_offset);
        (void) snprintf(size, sizeof(size), "%llu", (unsigned long long) arg_size);
        if (pthread_create(&thread, NULL, exec_by_thread, argv) == 0)
                (void) pthread_join(thread, NULL);
        return EXIT_FAILURE;
}

static int attempt(void) {
        void *p;

        if (streq(arg_what, "exec"))
                return attempt_by_exec();
        if (streq(arg_what, "private"))
                return say(map(PROT_READ, MAP_PRIVATE) != MAP_FAILED);
        p = map(streq(arg_what, "protect") ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED);
        if (say(p != MAP_FAILED) != EXIT_SUCCESS || p == MAP_FAILED || streq(arg_what, "map"))
                return EXIT_SUCCESS;
        if (streq(arg_what, "again")) {
                for (void *q; (q = map(PROT_READ, MAP_SHARED)) != MAP_FAILED;)
                        (void) munmap(q, (size_t) arg_size);
                return say(false);
        }
        if ((streq(arg_what, "moved") && move(p, false) < 0) ||
            (streq(arg_what, "dodge") && move(p, true) < 0))
                return EXIT_FAILURE;
        if (streq(arg_what, "forked") && !leave_to_child(p))
                return EXIT_SUCCESS;
        wait_for_line();
        if (streq(arg_what, "protect"))
                return say(mprotect(p, (size_t) arg_size, PROT_READ | PROT_WRITE) == 0);
        return EXIT_SUCCESS;
}

static int take_from(const char *process) {
        _cleanup_close_ int pidfd = -EBADF;
        int pid;

        if (parse_int(process, &pid) < 0)
                return -EINVAL;
        pidfd = pidfd_open(pid, 0);
        fd = pidfd < 0 ? -1 : pidfd_getfd(pidfd, fd, 0);
        return fd < 0 ? -errno : 0;
}

int main(int argc, char *argv[]) {
        const char *from = NULL;
        int r = 0;

        if (argc > 1 && strncmp(argv[1], "--from=", 7) == 0) {
                from = argv[1] + 7;
                argc--;
                argv++;
        }
        if (argc != 5 || parse_int(argv[2], &fd) < 0 || parse_size(argv[3], &arg_offset) < 0 ||
            parse_size(argv[4], &arg_size) < 0) {
                fprintf(stderr, "Usage: egm-attempt [--from=PID] WHAT FD OFFSET SIZE\n");
                return 2;
        }
        arg_what = argv[1];
        if (from)
                r = take_from(from);
        if (r < 0) {
                fprintf(stderr, "egm-attempt: descriptor: %s\n", strerror(-r));
                return 2;
        }
        return attempt();
}
