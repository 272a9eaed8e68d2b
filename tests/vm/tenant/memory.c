/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "memory.h"

int memory_map(Memory *m, egm_lease *lease, const char *label) {
        const char *region;
        uint64_t offset;
        void *p;
        int r;

        r = egm_lease_get_slice(lease, 0, &region, NULL, &offset, &m->size);
        if (r < 0)
                return r;
        r = egm_lease_map(lease, 0, 0, m->size, PROT_READ | PROT_WRITE, 0, &p);
        if (r < 0)
                return r;
        m->words = p;
        if (asprintf(&m->place, "%s:%" PRIu64 ":%" PRIu64, region, offset, m->size) < 0)
                return -ENOMEM;
        m->seed = UINT64_C(0xcbf29ce484222325);
        for (; *label; label++)
                m->seed = (m->seed ^ (uint8_t) *label) * UINT64_C(0x100000001b3);
        return 0;
}

void memory_unmap(Memory *m) {
        if (m->words)
                (void) munmap(m->words, m->size);
        free(m->place);
        *m = (Memory){};
}

/* Never zero in practice, and nothing that another tenant or another place has. */
static uint64_t word_at(const Memory *m, size_t i) {
        return (i + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ m->seed;
}

int memory_fill(Memory *m) {
        for (size_t i = 0; i < m->size / sizeof(*m->words); i++)
                m->words[i] = word_at(m, i);
        return 0;
}

static int wrong(const Memory *m, size_t i, uint64_t is, uint64_t wanted) {
        printf("wrong: byte %zu of %s is part of %#" PRIx64 ", not of %#" PRIx64 "\n",
               i * sizeof(is), m->place, is, wanted);
        (void) fflush(stdout);
        return -EIO;
}

int memory_check_zero(const Memory *m) {
        for (size_t i = 0; i < m->size / sizeof(*m->words); i++) {
                uint64_t word = m->words[i];

                if (word != 0)
                        return wrong(m, i, word, 0);
        }
        return 0;
}

int memory_check_pattern(const Memory *m) {
        for (size_t i = 0; i < m->size / sizeof(*m->words); i++) {
                uint64_t word = m->words[i];

                if (word != word_at(m, i))
                        return wrong(m, i, word, word_at(m, i));
        }
        return 0;
}

/* ---- Signals ---- */

static volatile sig_atomic_t signal_got = 0;

static void on_signal(int signal) {
        static const char said[] = "wrong: a signal that kills\n";

        signal_got = signal;
        if (signal == SIGBUS || signal == SIGSEGV || signal == SIGILL || signal == SIGFPE) {
                ssize_t n = write(STDOUT_FILENO, said, sizeof(said) - 1);

                _exit(n < 0 ? 4 : 3);
        }
}

int signals_expect_none(void) {
        struct sigaction sa = {.sa_handler = on_signal};

        for (int i = 1; i < SIGRTMAX; i++)
                if (i != SIGKILL && i != SIGSTOP && i != SIGCHLD && sigaction(i, &sa, NULL) < 0 &&
                    errno != EINVAL)
                        return -errno;
        return 0;
}

int signals_check(void) {
        if (signal_got == 0)
                return 0;
        printf("wrong: signal %d\n", (int) signal_got);
        (void) fflush(stdout);
        return -EINTR;
}

/* ---- Leases ---- */

int acquire_slice(egm_connection *c, const char *label, const char *region, uint64_t size,
                  bool persistent, egm_lease **ret) {
        _cleanup_(egm_request_unrefp) egm_request *request = NULL;
        int r;

        r = egm_request_new(&request);
        if (r >= 0)
                r = egm_request_add_slice(request, size);
        if (r >= 0)
                r = egm_request_set_slice_region(request, 0, region);
        if (r >= 0)
                r = egm_request_set_label(request, label);
        if (r >= 0)
                r = egm_request_set_persistent(request, persistent);
        if (r >= 0)
                r = egm_request_set_wait(request, DEADLINE_USEC);
        return r < 0 ? r : egm_acquire(c, request, ret);
}

bool told_to_end(int timeout_msec) {
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

        return poll(&p, 1, timeout_msec) > 0;
}

int be_humble(void) {
        return setpriority(PRIO_PROCESS, 0, 19) < 0 ? -errno : 0;
}
