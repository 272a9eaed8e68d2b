/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "mapper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fd-util.h"

static bool as_it_was(unsigned char *const *maps, const MapperPart *parts, size_t n) {
        for (size_t i = 0; i < n; i++)
                for (uint64_t b = 0; b < parts[i].size; b++)
                        if (maps[i][b] != parts[i].pattern)
                                return false;
        return true;
}

/* Its parent has threads: nothing but system calls. */
static _Noreturn void mapper_run(const MapperPart *parts, size_t n, int in, int out) {
        unsigned char *maps[MAPPER_MAPS_MAX];
        char c;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (size_t i = 0; i < n; i++) {
                maps[i] = mmap(NULL, parts[i].size, PROT_READ | PROT_WRITE, MAP_SHARED, parts[i].fd,
                               (off_t) parts[i].offset);
                if (maps[i] == MAP_FAILED)
                        _exit(1);
        }
        if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
            close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(1);
        do {
                c = as_it_was(maps, parts, n) ? 'y' : 'n';
                if (write(STDOUT_FILENO, &c, 1) != 1)
                        _exit(1);
        } while (read(STDIN_FILENO, &c, 1) == 1);
        _exit(0);
}

static int read_answer(const Mapper *m) {
        char c;
        ssize_t n = read(m->answers, &c, 1);

        if (n < 0)
                return -errno;
        return n == 0 ? -ECHILD : c == 'y';
}

int mapper_start(const MapperPart *parts, size_t n, Mapper *ret) {
        int in[2], out[2], r;
        Mapper m;

        assert(n <= MAPPER_MAPS_MAX);

        if (pipe2(in, O_CLOEXEC) < 0)
                return -errno;
        if (pipe2(out, O_CLOEXEC) < 0) {
                r = -errno;
                (void) safe_close(in[0]);
                (void) safe_close(in[1]);
                return r;
        }
        m = (Mapper){.commands = in[1], .answers = out[0], .pidfd = -EBADF};
        m.pid = fork();
        if (m.pid == 0)
                mapper_run(parts, n, in[0], out[1]);
        r = m.pid < 0 ? -errno : 0;
        (void) safe_close(in[0]);
        (void) safe_close(out[1]);
        if (r >= 0) {
                m.pidfd = pidfd_open(m.pid, 0);
                r = m.pidfd < 0 ? -errno : read_answer(&m);
        }
        if (r <= 0) {
                mapper_stop(&m);
                return r < 0 ? r : -EIO;
        }
        *ret = m;
        return 0;
}

int mapper_check(const Mapper *m) {
        if (write(m->commands, "c", 1) != 1)
                return -errno;
        return read_answer(m);
}

void mapper_stop(Mapper *m) {
        if (m->pid <= 0)
                return;
        m->commands = safe_close(m->commands);
        (void) waitpid(m->pid, NULL, 0);
        m->answers = safe_close(m->answers);
        m->pidfd = safe_close(m->pidfd);
        m->pid = 0;
}
