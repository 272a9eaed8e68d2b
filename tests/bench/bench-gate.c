/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What one mmap() and its munmap() take, one page each, of anonymous memory, of a file, and of a leased slice; and what a fork
 * takes. Runs in the test VM, with the gate and without:
 *     egmctl run --size=2M -- bench-gate WHO FILE {0.fd} {0.offset} ROUNDS */

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "bench.h"
#include "size.h"

#define PAGE 4096U

typedef struct Target {
        const char *name;
        int flags;
        int fd;
        off_t offset;
} Target;

static uint64_t time_mapping(const Target *t) {
        uint64_t begin = bench_now(), end;
        void *p;

        p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, t->flags, t->fd, t->offset);
        if (p == MAP_FAILED)
                err(EXIT_FAILURE, "%s", t->name);
        (void) munmap(p, PAGE);
        end = bench_now();
        return end - begin;
}

static uint64_t time_fork(void) {
        uint64_t begin = bench_now();
        pid_t pid = fork();

        if (pid == 0)
                _exit(EXIT_SUCCESS);
        if (pid < 0 || waitpid(pid, NULL, 0) < 0)
                err(EXIT_FAILURE, "fork");
        return bench_now() - begin;
}

static int open_file(const char *path) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0 || ftruncate(fd, PAGE) < 0)
                err(EXIT_FAILURE, "%s", path);
        return fd;
}

int main(int argc, char *argv[]) {
        Target targets[3] = {{"anonymous", MAP_PRIVATE | MAP_ANONYMOUS, -1, 0},
                             {"file", MAP_SHARED, -1, 0},
                             {"egm", MAP_SHARED, -1, 0}};
        uint64_t *times, offset;
        size_t n;

        if (argc != 6 || parse_int(argv[3], &targets[2].fd) < 0 || parse_size(argv[4], &offset) < 0)
                errx(EXIT_FAILURE, "usage: bench-gate WHO FILE FD OFFSET ROUNDS");
        targets[1].fd = open_file(argv[2]);
        targets[2].offset = (off_t) offset;
        n = bench_number(argv[5]);
        times = calloc(n, sizeof(*times));
        if (n == 0 || !times)
                errx(EXIT_FAILURE, "%zu rounds", n);

        for (size_t k = 0; k < ELEMENTSOF(targets); k++) {
                for (size_t i = 0; i < n; i++)
                        times[i] = time_mapping(&targets[k]);
                bench_print_times(argv[1], targets[k].name, times, n);
        }
        for (size_t i = 0; i < MIN(n, (size_t) 100); i++)
                times[i] = time_fork();
        bench_print_times(argv[1], "fork", times, MIN(n, (size_t) 100));
        free(times);
        return EXIT_SUCCESS;
}
