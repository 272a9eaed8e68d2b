/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A virtual machine as far as its memory goes: maps a slice, insists that it is zero, fills it with a pattern of
 * its own, keeps looking whether the pattern is still there, and goes when it is told to.
 *
 *     pretend-vm FD OFFSET SIZE BYTE     (the arguments of `egmctl run -- pretend-vm {0.fd} {0.offset} {0.size} 165`)
 *
 * Prints "zero", "filled" and, on end of input or SIGTERM, "intact". Exit: 0, or 1 when a byte is not what it must be. */

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include "macro.h"
#include "size.h"

typedef struct Memory {
        int fd;
        uint64_t offset;
        uint64_t size;
        uint8_t byte;
        uint64_t *words;
} Memory;

/* A pattern that tells every word of every VM apart. */
static uint64_t word_at(const Memory *m, uint64_t position) {
        return (m->offset + position) * UINT64_C(0x9e3779b97f4a7c15) ^
               (m->byte * UINT64_C(0x0101010101010101));
}

typedef bool (*visit_t)(const Memory *m, uint64_t position, uint64_t *word);

static bool is_zero(const Memory *m, uint64_t position, uint64_t *word) {
        return *word == 0;
}

static bool fill(const Memory *m, uint64_t position, uint64_t *word) {
        *word = word_at(m, position);
        return true;
}

static bool is_mine(const Memory *m, uint64_t position, uint64_t *word) {
        return *word == word_at(m, position);
}

static int map(Memory *m) {
        void *p;

        p = mmap(NULL, (size_t) m->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd,
                 (off_t) m->offset);
        if (p == MAP_FAILED) {
                fprintf(stderr, "pretend-vm: mmap at %#llx: %m\n", (unsigned long long) m->offset);
                return -errno;
        }
        m->words = p;
        return 0;
}

static int walk(const Memory *m, visit_t visit, const char *done) {
        for (uint64_t at = 0; at < m->size; at += sizeof(*m->words)) {
                uint64_t *word = m->words + at / sizeof(*word);

                if (!visit(m, at, word)) {
                        fprintf(stderr, "pretend-vm: byte %#llx of the slice is %#llx, not %s\n",
                                (unsigned long long) at, (unsigned long long) *word, done);
                        return -EIO;
                }
        }
        puts(done);
        return fflush(stdout) == 0 ? 0 : -errno;
}

/* Until end of input or SIGTERM. */
static int wait_for_end(void) {
        struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
        if (fds[1].fd < 0)
                return -errno;
        for (;;) {
                char buffer[256];

                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        return -errno;
                if (fds[1].revents ||
                    (fds[0].revents && read(STDIN_FILENO, buffer, sizeof(buffer)) <= 0))
                        break;
        }
        (void) close(fds[1].fd);
        return 0;
}

int main(int argc, char *argv[]) {
        Memory m = {};
        uint64_t byte;
        sigset_t set;

        if (argc != 5 || parse_int(argv[1], &m.fd) < 0 || parse_size(argv[2], &m.offset) < 0 ||
            parse_size(argv[3], &m.size) < 0 || parse_uint64(argv[4], &byte) < 0 ||
            byte > UINT8_MAX) {
                fprintf(stderr, "Usage: pretend-vm FD OFFSET SIZE BYTE\n");
                return 2;
        }
        m.byte = (uint8_t) byte;
        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        if (map(&m) < 0 || walk(&m, is_zero, "zero") < 0 || walk(&m, fill, "filled") < 0 ||
            wait_for_end() < 0 || walk(&m, is_mine, "intact") < 0)
                return 1;
        return 0;
}
