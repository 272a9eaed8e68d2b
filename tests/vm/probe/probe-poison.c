/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "probe.h"

#define BAD (3 * MIB)
#define UNMAPPED (5 * MIB)

static sigjmp_buf back;
static siginfo_t caught;

static void on_sigbus(int signal, siginfo_t *info, void *context) {
        caught = *info;
        siglongjmp(back, 1);
}

/* Reads or writes a byte. False: SIGBUS, and `caught` says the rest. */
static bool touch(volatile char *at, bool write) {
        memset(&caught, 0, sizeof(caught));
        if (sigsetjmp(back, 1))
                return false;
        if (write)
                *at = 'x';
        else
                (void) *at;
        return true;
}

static bool is_poisoned(const char *at) {
        return !touch((char *) at, false) && caught.si_code == BUS_MCEERR_AR &&
               ((uintptr_t) caught.si_addr & ~(PAGE - 1)) == ((uintptr_t) at & ~(PAGE - 1)) &&
               caught.si_addr_lsb == 12;
}

static void check_others(Probe *p, int fd, const char *m) {
        uint64_t offset = p->variant == VARIANT_K2 ? 0 : BAD - PAGE;
        uint64_t size = p->variant == VARIANT_K2 ? BAD + PAGE : 3 * PAGE;
        char *n = probe_map(fd, offset, size, PROT_READ | PROT_WRITE, MAP_SHARED);
        char *bad = n + (BAD - offset);
        pid_t pid;
        int status = 0;

        probe_check(p, is_poisoned(bad), "a new mapping: bad too");
        probe_check(p, touch(bad - PAGE, true) && m[BAD - PAGE] == 'x', "the page before it: fine");
        (void) munmap(n, size);

        pid = fork();
        if (pid == 0)
                _exit(is_poisoned(m + BAD) && m[BAD + PAGE] == 'n' ? 0 : 1);
        (void) waitpid(pid, &status, 0);
        probe_check(p, status == 0, "a child: bad too, the next page fine");
}

static void check_listed(Probe *p, int fd, uint64_t offset, bool listed, const char *what) {
        _cleanup_free_ RetiredList *list = NULL;

        probe_check_errno(p, probe_read_list(fd, &list), 0, "the list");
        probe_check(p, list && probe_list_has(list, offset) == listed, "%s is %s the list", what,
                    listed ? "in" : "not in");
}

static void check_private(Probe *p, int fd) {
        char *m = probe_map(fd, 0, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE);

        m[7 * MIB] = 'c';
        probe_check_errno(p, probe_poison(p, 7 * MIB), 0, "poison under a private copy");
        probe_check(p, touch(m + 7 * MIB, false) && m[7 * MIB] == 'c', "does not touch the copy");
        probe_check_errno(p, probe_poison(p, 8 * MIB), 0, "poison in a private mapping");
        probe_check(p, is_poisoned(m + 8 * MIB), "is seen there");
        (void) munmap(m, p->size);
}

void probe_poison_rules(Probe *p) {
        const struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
        _cleanup_close_ int fd = probe_open(p, O_RDWR);
        bool recorded = p->variant != VARIANT_S4;
        char *m, *part;

        (void) sigaction(SIGBUS, &action, NULL);
        m = probe_map(fd, 0, p->size, PROT_READ | PROT_WRITE, MAP_SHARED);
        if (!probe_check(p, m != MAP_FAILED, "the region is mapped"))
                return;
        m[BAD + PAGE] = 'n';
        probe_check(p, touch(m + BAD, true), "a page that works");
        check_listed(p, fd, BAD, false, "it");

        probe_check_errno(p, probe_poison(p, BAD), 0, "poison");
        probe_check(p, is_poisoned(m + BAD),
                    "reading it: SIGBUS, BUS_MCEERR_AR, its address, 4 KiB");
        probe_check(p, !touch(m + BAD + 8, true) && caught.si_code == BUS_MCEERR_AR,
                    "writing it: the same");
        check_others(p, fd, m);
        check_listed(p, fd, BAD, recorded, "the bad page");

        part = mremap(m, p->size, p->size, MREMAP_MAYMOVE | MREMAP_FIXED, m + 2 * p->size);
        probe_check(p, part != MAP_FAILED && is_poisoned(part + BAD),
                    "moved elsewhere: still bad there");
        (void) munmap(part, p->size);
        probe_check_errno(p, probe_poison(p, UNMAPPED), 0, "poison that nobody maps");
        check_listed(p, fd, UNMAPPED, false, "it");
        m = probe_map(fd, 0, p->size, PROT_READ, MAP_SHARED);
        probe_check(p, is_poisoned(m + UNMAPPED), "but is found by the next who maps it");
        (void) munmap(m, p->size);
        check_private(p, fd);

        fd = safe_close(fd);
        fd = probe_open(p, O_RDWR);
        check_listed(p, fd, BAD, recorded, "closed and opened again: the bad page");
}
