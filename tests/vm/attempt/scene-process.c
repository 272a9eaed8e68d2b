/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "attempt.h"

/* Who inherits a lease, and who does not. */

static int look_grandchild(const Actor *a) {
        return in_child(a, look_own);
}

/* A child of the stage, not of the actor; it says what it saw through a socket. */
static int look_sibling(const Actor *a, uint64_t offset) {
        Puppet p = {};
        int sockets[2], r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        p.socket = sockets[0];
        p.pid = (pid_t) syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
        if (p.pid == 0)
                puppet_serve(sockets[1]);
        (void) close(sockets[1]);
        r = p.pid < 0 ? -ENOMEM : puppet_look(&p, a->own.fd, offset, PAGE);
        safe_close(p.socket);
        (void) kill(p.pid, SIGKILL);
        return r;
}

typedef struct Errand {
        const Actor *actor;
        attempt_t attempt;
} Errand;

static int run_errand(void *userdata) {
        Errand *e = userdata;

        return to_status(e->attempt(e->actor));
}

/* As vfork() does it: in our memory, while we wait. */
static int in_vfork(const Actor *a, attempt_t f) {
        const size_t size = 64 * KIB;
        uint8_t *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              0);
        Errand errand = {a, f};
        pid_t pid;
        int r;

        if (stack == MAP_FAILED)
                return -errno;
        pid = clone(run_errand, stack + size, CLONE_VM | CLONE_VFORK | SIGCHLD, &errand);
        r = pid < 0 ? -errno : wait_for(pid);
        (void) munmap(stack, size);
        return r;
}

/* Shares our memory, without being a thread of ours, and without our waiting. */
static int in_sharer(const Actor *a, attempt_t f) {
        const size_t size = 64 * KIB;
        uint8_t *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              0);
        Errand errand = {a, f};
        pid_t pid;
        int r;

        if (stack == MAP_FAILED)
                return -errno;
        pid = clone(run_errand, stack + size, CLONE_VM | CLONE_FILES | SIGCHLD, &errand);
        r = pid < 0 ? -errno : wait_for(pid);
        (void) munmap(stack, size);
        return r;
}

static Puppet earlier;

static void prepare_process(Actor *a) {
        if (puppet_start(&earlier) < 0)
                _exit(EXIT_FAILURE);
}

static void play_process(Actor *a) {
        uint64_t own = a->own.offset, before = own - PAGE;

        report(a, "child-own", in_child(a, look_own));
        report(a, "child-before", in_child(a, look_before));
        report(a, "grandchild-own", in_child(a, look_grandchild));
        report(a, "sibling-own", look_sibling(a, own));
        report(a, "sibling-before", look_sibling(a, before));
        report(a, "vfork-own", in_vfork(a, look_own));
        report(a, "vfork-before", in_vfork(a, look_before));
        report(a, "memory-sharer-own", in_sharer(a, look_own));
        report(a, "memory-sharer-before", in_sharer(a, look_before));
        report(a, "earlier-child-own", puppet_look(&earlier, a->own.fd, own, PAGE));
        report(a, "earlier-child-before", puppet_look(&earlier, a->own.fd, before, PAGE));
        puppet_stop(&earlier);
}

const Scene scene_process = {.name = "process", .prepare = prepare_process, .play = play_process};

/* ---- a number that is used again ---- */

static int look_as(const Actor *a, pid_t pid) {
        struct clone_args args = {
                        .exit_signal = SIGCHLD,
                        .set_tid = (uintptr_t) &pid,
                        .set_tid_size = 1,
        };
        long r = syscall(SYS_clone3, &args, sizeof(args));

        if (r < 0)
                return -errno;
        if (r == 0)
                _exit(to_status(look_own(a)));
        return r == pid ? wait_for(pid) : -ENOTRECOVERABLE;
}

/* The lease is bound to a child, which dies; it lives on by its lifetime's descriptor. */
static void play_reuse(Actor *a) {
        Puppet holder;
        Range pidfd = {};
        int fd;

        if (puppet_start(&holder) < 0)
                _exit(EXIT_FAILURE);
        pidfd.fd = fd = (int) syscall(SYS_pidfd_open, holder.pid, 0);
        ask_or_die(a, REQUEST_BIND, &pidfd);
        safe_close(fd);
        report(a, "bound-child-own", puppet_look(&holder, a->own.fd, a->own.offset, PAGE));
        report(a, "bound-child-before",
               puppet_look(&holder, a->own.fd, a->own.offset - PAGE, PAGE));
        report(a, "parent-of-bound-child", look_own(a));
        puppet_stop(&holder);
        report(a, "holder-gone", look_own(a));
        report(a, "holders-number-used-again", look_as(a, holder.pid));
}

const Scene scene_reuse = {.name = "reuse", .unbound = true, .play = play_reuse};
