/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "attempt.h"

/* A debugger that changes a call's arguments when it has begun: the kernel goes by what it finds then. */

/* What the call becomes; what is 0 stays as it is. */
typedef struct Change {
        long from; /* the number that is waited for */
        unsigned long long number, offset, length;
} Change;

typedef struct Tracee {
        pid_t pid;
        int socket;
} Tracee;

/* Sent a range, it has itself traced and makes one call for it, by this number. */
static _Noreturn void tracee_live(int socket) {
        Message m;
        void *p;

        if (message_receive(socket, &m) < 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
                _exit(EXIT_FAILURE);
        (void) raise(SIGSTOP);
        p = (void *) syscall(m.r, NULL, m.range.size, PROT_READ, MAP_SHARED, m.range.fd,
                             m.range.offset);
        _exit(to_status(p == MAP_FAILED ? -errno : look_at(p, m.range.size)));
}

static void tracee_start(Tracee *t) {
        int sockets[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                _exit(EXIT_FAILURE);
        t->pid = fork();
        if (t->pid == 0)
                tracee_live(sockets[1]);
        (void) close(sockets[1]);
        t->socket = sockets[0];
}

static int change_registers(pid_t pid, const Change *c) {
        struct user_regs_struct regs;

        if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
                return -errno;
        if (regs.orig_rax != (unsigned long long) c->from)
                return 0;
        if (c->number)
                regs.orig_rax = c->number;
        if (c->offset)
                regs.r9 = c->offset;
        if (c->length)
                regs.rsi = c->length;
        return ptrace(PTRACE_SETREGS, pid, NULL, &regs) < 0 ? -errno : 1;
}

/* From its SIGSTOP to the entry of that call, which is changed; then it runs to its end. */
static int trace(pid_t pid, const Change *c) {
        int status, r = 0;

        if (waitpid(pid, &status, 0) < 0)
                return -errno;
        while (WIFSTOPPED(status) && r == 0) {
                if (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) < 0)
                        return -errno;
                if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP)
                        r = change_registers(pid, c);
        }
        if (r < 0)
                return r;
        if (!WIFSTOPPED(status))
                return -ESRCH; /* the call never came */
        if (ptrace(PTRACE_DETACH, pid, NULL, NULL) < 0)
                return -errno;
        return wait_for(pid);
}

static int look_changed(Tracee *t, const Actor *a, const Change *c) {
        Message m = {.r = (int) c->from, .range = {.offset = a->own.offset, .size = PAGE}};
        int r;

        r = message_send(t->socket, &m, a->own.fd);
        if (r >= 0)
                r = trace(t->pid, c);
        t->socket = safe_close(t->socket);
        return r;
}

static int look_traced(const Actor *a, const Change *c) {
        Tracee t;

        tracee_start(&t);
        return look_changed(&t, a, c);
}

/* Forked before the actor was bound, so bound to nothing. */
static Tracee earlier, earlier_again;

static void prepare_trace(Actor *a) {
        tracee_start(&earlier);
        tracee_start(&earlier_again);
}

static void play_trace(Actor *a) {
        uint64_t own = a->own.offset, before = own - PAGE;

        report(a, "trace-own", look_traced(a, &(Change){.from = SYS_mmap}));
        report(a, "trace-offset", look_traced(a, &(Change){.from = SYS_mmap, .offset = before}));
        report(a, "trace-length",
               look_traced(a, &(Change){.from = SYS_mmap, .length = SLICE + PAGE}));
        report(a, "trace-number-own",
               look_traced(a, &(Change){.from = SYS_getppid, .number = SYS_mmap}));
        report(a, "trace-number-before",
               look_traced(a,
                           &(Change){.from = SYS_getppid, .number = SYS_mmap, .offset = before}));
        report(a, "trace-unbound-tracee-own",
               look_changed(&earlier, a, &(Change){.from = SYS_mmap, .offset = own}));
        report(a, "trace-unbound-tracee-before",
               look_changed(&earlier_again, a, &(Change){.from = SYS_mmap, .offset = before}));
}

const Scene scene_trace = {.name = "trace", .prepare = prepare_trace, .play = play_trace};

/* The lease is bound to the tracee alone. */
static void bind_to(Actor *a, pid_t pid) {
        Range pidfd = {.fd = (int) syscall(SYS_pidfd_open, pid, 0)};
        int fd = pidfd.fd;

        if (fd < 0)
                _exit(EXIT_FAILURE);
        ask_or_die(a, REQUEST_BIND, &pidfd);
        safe_close(fd);
}

static void play_trace_unbound(Actor *a) {
        Tracee bound, again;

        tracee_start(&bound);
        tracee_start(&again);
        bind_to(a, bound.pid);
        bind_to(a, again.pid);
        report(a, "trace-by-unbound-own", look_changed(&again, a, &(Change){.from = SYS_mmap}));
        report(a, "trace-by-unbound-before",
               look_changed(&bound, a,
                            &(Change){.from = SYS_mmap, .offset = a->own.offset - PAGE}));
        report(a, "trace-unbound-tracer-itself", look_own(a));
}

const Scene scene_trace_unbound = {
                .name = "trace-unbound", .unbound = true, .play = play_trace_unbound};
