/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who holds released memory up, and who does not. */

#include "bed.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fd-util.h"

#define SIZE (4 * MIB)

static sd_bus *bus;

static int setup(void **state) {
        bus = bed_new();
        return 0;
}

static int teardown(void **state) {
        bus = sd_bus_flush_close_unref(bus);
        return 0;
}

/* ---- A process that maps and lets go as it is told ---- */

typedef struct Command {
        char what; /* m: map; u: unmap all of it; c: close; x: exit */
        int fd;
        uint64_t offset;
        uint64_t size;
} Command;

typedef struct Child {
        pid_t pid;
        int pidfd;
        int commands;
        int answers;
} Child;

static void child_run(int in, int out) {
        void *maps[8] = {};
        size_t n = 0, sizes[8] = {};
        Command c;

        while (read(in, &c, sizeof(c)) == (ssize_t) sizeof(c)) {
                if (c.what == 'x')
                        _exit(0);
                if (c.what == 'm' && n < ELEMENTSOF(maps)) {
                        sizes[n] = c.size;
                        maps[n] = mmap(NULL, c.size, PROT_READ | PROT_WRITE, MAP_SHARED, c.fd,
                                       (off_t) c.offset);
                        if (maps[n++] == MAP_FAILED)
                                _exit(1);
                } else if (c.what == 'u')
                        while (n > 0) {
                                n--;
                                (void) munmap(maps[n], sizes[n]);
                        }
                else if (c.what == 'c')
                        (void) close(c.fd);
                if (write(out, "", 1) != 1)
                        _exit(1);
        }
        _exit(1);
}

/* Inherits all descriptors there are now. pid 0: any; -1: that pid cannot be had. */
static pid_t fork_as(pid_t pid) {
        struct clone_args args = {
                        .exit_signal = SIGCHLD,
                        .set_tid = (uint64_t) (uintptr_t) &pid,
                        .set_tid_size = 1,
        };

        return pid == 0 ? fork() : (pid_t) syscall(SYS_clone3, &args, sizeof(args));
}

static bool child_new(pid_t pid, Child *ret) {
        int in[2], out[2];

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        ret->pid = fork_as(pid);
        if (ret->pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(in[1]);
                (void) close(out[0]);
                child_run(in[0], out[1]);
        }
        (void) close(in[0]);
        (void) close(out[1]);
        ret->commands = in[1];
        ret->answers = out[0];
        ret->pidfd = ret->pid > 0 ? pidfd_open(ret->pid, 0) : -EBADF;
        return ret->pid > 0;
}

static void tell(const Child *c, const Command *command) {
        char answer;

        assert_int_equal(write(c->commands, command, sizeof(*command)), sizeof(*command));
        assert_int_equal(read(c->answers, &answer, 1), 1);
}

static void tell_map(const Child *c, const Granted *g) {
        tell(c, &(Command){'m', g->memory, g->offset, g->size});
}

static void child_end(Child *c) {
        const Command leave = {.what = 'x'};
        int status;

        assert_int_equal(write(c->commands, &leave, sizeof(leave)), sizeof(leave));
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        assert_int_equal(status, 0);
        (void) close(c->commands);
        (void) close(c->answers);
        c->pidfd = safe_close(c->pidfd);
}

/* ---- Leases ---- */

static void release(const Granted *g) {
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
}

static bool gone(sd_bus *b, const void *arg) {
        char *s = NULL;
        int r = bed_get_string(b, arg, EGM_LEASE_INTERFACE, "State", &s);

        free(s);
        return r < 0;
}

static void wait_over(const Granted *g) {
        bed_wait(bus, gone, g->path, "the lease's object to go");
}

static void drop(Granted *g) {
        bed_close(&g->lifetime);
        bed_close(&g->memory);
}

typedef struct HeldUp {
        const char *path;
        const pid_t *pids;
        size_t n;
} HeldUp;

/* By exactly these processes, as they are now. */
static bool held_up_by(sd_bus *b, const void *arg) {
        const HeldUp *h = arg;
        sd_bus_message *m = NULL;
        const char *comm, *unit;
        size_t n = 0, known = 0;
        uint64_t start;
        uint32_t pid;

        if (sd_bus_get_property(b, EGM_BUS_NAME, h->path, EGM_LEASE_INTERFACE, "HeldUpBy", NULL, &m,
                                "a(usst)") < 0)
                return false;
        assert_true(sd_bus_message_enter_container(m, 'a', "(usst)") > 0);
        for (; sd_bus_message_read(m, "(usst)", &pid, &comm, &unit, &start) > 0; n++)
                for (size_t i = 0; i < h->n; i++)
                        known += (uint32_t) h->pids[i] == pid &&
                                 bed_start_time(h->pids[i]) == start;
        sd_bus_message_unref(m);
        return n == h->n && known == h->n;
}

#define wait_held_up(g, ...) \
        bed_wait(bus, held_up_by, \
                 &(HeldUp){(g)->path, (const pid_t[]){__VA_ARGS__}, \
                           sizeof((const pid_t[]){__VA_ARGS__}) / sizeof(pid_t)}, \
                 "HeldUpBy to name them")

/* Everybody who holds it up is named as long as he does, and no longer. */
static void test_named_as_long_as(void **state) {
        Granted g = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Child a, b;

        assert_true(child_new(0, &a));
        assert_true(child_new(0, &b));
        tell(&a, &(Command){'c', g.lifetime, 0, 0});
        tell(&b, &(Command){'c', g.lifetime, 0, 0});
        drop(&g);
        wait_held_up(&g, a.pid, b.pid);
        child_end(&a);
        wait_held_up(&g, b.pid);
        child_end(&b);
        wait_over(&g);
}

/* A process that gets the pid of one that held the memory up is another process, also when it holds it up itself. */
static void test_recycled_pid(void **state) {
        Granted g = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted mine = bed_acquire(bus, "egm5", SIZE, "descriptor");
        uint64_t started;
        Child first, second;

        assert_true(child_new(0, &first));
        tell_map(&first, &g);
        release(&g);
        wait_held_up(&g, first.pid);
        started = bed_start_time(first.pid);
        do {
                /* Never without a holder, and never with the same start time. */
                void *p = mmap(NULL, g.size, PROT_READ, MAP_SHARED, g.memory, (off_t) g.offset);

                assert_true(p != MAP_FAILED);
                child_end(&first);
                if (!child_new(first.pid, &second)) {
                        assert_int_equal(munmap(p, g.size), 0);
                        drop(&g);
                        drop(&mine);
                        wait_over(&g);
                        wait_over(&mine);
                        skip();
                }
                tell_map(&second, &g);
                assert_int_equal(munmap(p, g.size), 0);
                first = second;
        } while (bed_start_time(second.pid) == started);
        wait_held_up(&g, second.pid);
        child_end(&second);
        drop(&g);
        drop(&mine);
        wait_over(&g);
        wait_over(&mine);
}

/* ---- Who has the region's descriptor by right ---- */

enum {
        INSIDE = 1 << 0,   /* maps a lease that is alive */
        OUTSIDE = 1 << 1,  /* maps what is nobody's */
        DRAINING = 1 << 2, /* maps another released lease, which it holds up */
        PIPE = 1 << 3,     /* has the living lease's lifetime descriptor */
        BOUND = 1 << 4,    /* is bound to it */
};

static void with_descriptor(unsigned what, bool expected) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm5", EGM_REGION_INTERFACE, "Size");
        Granted g = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted alive = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted released = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Child c;

        assert_true(child_new(0, &c));
        if (!(what & PIPE))
                tell(&c, &(Command){'c', alive.lifetime, 0, 0});
        if (what & BOUND)
                assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, alive.path, EGM_LEASE_INTERFACE,
                                               "Bind", NULL, NULL, "h", c.pidfd) >= 0);
        if (what & INSIDE)
                tell_map(&c, &alive);
        if (what & OUTSIDE)
                tell(&c, &(Command){'m', g.memory, all - 2 * MIB, 2 * MIB});
        if (what & DRAINING)
                tell_map(&c, &released);
        release(&released);
        if (what & DRAINING)
                wait_held_up(&released, c.pid);
        release(&g);
        if (expected)
                wait_held_up(&g, c.pid);
        else
                wait_over(&g);
        child_end(&c);
        drop(&g);
        drop(&released);
        wait_over(&g);
        wait_over(&released);
        drop(&alive);
        wait_over(&alive);
}

static void test_descriptor(void **state) {
        static const struct {
                unsigned what;
                bool holds_up;
        } table[] = {
                        {0, true},
                        {INSIDE, false},
                        {OUTSIDE, true},
                        {INSIDE | OUTSIDE, true},
                        {DRAINING, true},
                        {INSIDE | DRAINING, false},
                        {INSIDE | OUTSIDE | DRAINING, true},
                        {PIPE, false},
                        {PIPE | INSIDE | OUTSIDE, false},
                        {BOUND, false},
                        {BOUND | OUTSIDE, false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                with_descriptor(table[i].what, table[i].holds_up);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_named_as_long_as),
                        cmocka_unit_test(test_recycled_pid),
                        cmocka_unit_test(test_descriptor),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
