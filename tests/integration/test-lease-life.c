/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The lives of leases, from the first byte to the last: who keeps one, what holds its memory up, when it is another's. */

#include "bed.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
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

/* A process that does what its letter says, and goes. */
typedef struct Child {
        pid_t pid;
        int pidfd;
        int commands;
        int answers;
} Child;

static void child_run(int in, int out, const Granted *g) {
        void *p = NULL;
        char c;

        while (read(in, &c, 1) == 1) {
                if (c == 'm')
                        p = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED, g->memory,
                                 (off_t) g->offset);
                else if (c == 'w')
                        memset(p, 0xa5, g->size);
                else if (c == 'u')
                        (void) munmap(p, g->size);
                else if (c == 'l') /* its copy of the lifetime descriptor */
                        (void) close(g->lifetime);
                else if (c == 'f') /* and of the memory */
                        (void) close(g->memory);
                if (p == MAP_FAILED || write(out, &c, 1) != 1)
                        _exit(1);
        }
        _exit(0);
}

/* Inherits copies of the lease's descriptors. */
static Child child_new(const Granted *g) {
        Child c = {};
        int in[2], out[2];

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(in[1]);
                (void) close(out[0]);
                child_run(in[0], out[1], g);
        }
        (void) close(in[0]);
        (void) close(out[1]);
        c.commands = in[1];
        c.answers = out[0];
        c.pidfd = pidfd_open(c.pid, 0);
        assert_true(c.pidfd >= 0);
        return c;
}

static void tell(const Child *c, const char *letters) {
        for (; *letters; letters++) {
                char answer;

                assert_int_equal(write(c->commands, letters, 1), 1);
                assert_int_equal(read(c->answers, &answer, 1), 1);
        }
}

static void child_end(Child *c) {
        int status;

        (void) close(c->commands);
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        assert_int_equal(status, 0);
        (void) close(c->answers);
        (void) close(c->pidfd);
}

static bool exists(const char *path) {
        char *s = NULL;
        int r = bed_get_string(bus, path, EGM_LEASE_INTERFACE, "State", &s);

        free(s);
        return r >= 0;
}

static bool gone(sd_bus *b, const void *arg) {
        return !exists(arg);
}

static void expect_state(const Granted *g, const char *expected) {
        char *s = NULL, *snapshot = bed_snapshot(bus);

        free(snapshot);
        assert_true(bed_get_string(bus, g->path, EGM_LEASE_INTERFACE, "State", &s) >= 0);
        assert_string_equal(s, expected);
        free(s);
}

/* HeldUpBy has one entry, that process. */
typedef struct HeldUp {
        const Granted *lease;
        pid_t pid;
} HeldUp;

static bool held_up_by(sd_bus *b, const void *arg) {
        const HeldUp *h = arg;
        sd_bus_message *m = NULL;
        const char *comm, *unit;
        uint32_t pid = 0, second;
        uint64_t start = 0, ignored;
        bool only;

        if (sd_bus_get_property(b, EGM_BUS_NAME, h->lease->path, EGM_LEASE_INTERFACE, "HeldUpBy",
                                NULL, &m, "a(usst)") < 0)
                return false;
        assert_true(sd_bus_message_enter_container(m, 'a', "(usst)") > 0);
        (void) sd_bus_message_read(m, "(usst)", &pid, &comm, &unit, &start);
        only = sd_bus_message_read(m, "(usst)", &second, &comm, &unit, &ignored) == 0;
        sd_bus_message_unref(m);
        return only && pid == (uint32_t) h->pid && start == bed_start_time(h->pid);
}

static void wait_held_up(const Granted *g, pid_t pid) {
        bed_wait(bus, held_up_by, &(HeldUp){g, pid}, "HeldUpBy");
        expect_state(g, "draining");
}

static void wait_over(const Granted *g) {
        char *snapshot;

        bed_wait(bus, gone, g->path, "the lease's object to go");
        snapshot = bed_snapshot(bus);
        free(snapshot);
}

static void wait_all_free(void) {
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
}

static unsigned char *map(const Granted *g) {
        void *p = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_SHARED, g->memory,
                       (off_t) g->offset);

        assert_true(p != MAP_FAILED);
        return p;
}

static void fill(const Granted *g) {
        unsigned char *p = map(g);

        memset(p, 0xa5, g->size);
        assert_int_equal(munmap(p, g->size), 0);
}

static void expect_zero(const Granted *g) {
        unsigned char *p = map(g);

        for (uint64_t i = 0; i < g->size; i++)
                if (p[i] != 0)
                        fail_msg("byte %#llx of the slice is %#x", (unsigned long long) i, p[i]);
        assert_int_equal(munmap(p, g->size), 0);
}

static void drop(Granted *g) {
        bed_close(&g->lifetime);
        bed_close(&g->memory);
}

static void release(const Granted *g) {
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
}

/* Copies of the descriptor, in this process and in another, keep it; the last one that closes ends it. The next holder of
 * the same bytes finds zeros. */
static void test_copies(void **state) {
        Granted g = bed_acquire(bus, "egm4", SIZE, "descriptor"), next;
        int copy = fcntl(g.lifetime, F_DUPFD_CLOEXEC, 3);
        Child c;

        expect_state(&g, "active");
        expect_zero(&g);
        fill(&g);
        bed_close(&g.lifetime);
        expect_state(&g, "active");
        g.lifetime = TAKE_FD(copy);
        c = child_new(&g);
        tell(&c, "f");
        drop(&g);
        /* Had the daemon seen an end of file, a call behind it would show that. */
        expect_state(&g, "active");
        expect_state(&g, "active");
        tell(&c, "l");
        wait_over(&g);
        child_end(&c);
        wait_all_free();
        next = bed_acquire(bus, "egm4", SIZE, "descriptor");
        assert_int_equal(next.offset, g.offset);
        assert_string_not_equal(next.path, g.path);
        expect_zero(&next);
        drop(&next);
        wait_over(&next);
        wait_all_free();
}

/* A lease that has ended, but whose memory somebody still maps, is nobody else's until he lets go. */
static void hold_up(bool unmaps) {
        Granted g = bed_acquire(bus, "egm5", SIZE, "descriptor"), other;
        Child c = child_new(&g);

        tell(&c, "mwlf");
        drop(&g);
        wait_held_up(&g, c.pid);
        other = bed_acquire(bus, "egm5", SIZE, "descriptor");
        assert_true(other.offset >= g.offset + SIZE || other.offset + SIZE <= g.offset);
        expect_zero(&other);
        drop(&other);
        wait_over(&other);
        wait_held_up(&g, c.pid);
        if (unmaps) {
                tell(&c, "u");
                wait_over(&g);
                child_end(&c);
        } else {
                child_end(&c);
                wait_over(&g);
        }
        wait_all_free();
        other = bed_acquire(bus, "egm5", SIZE, "descriptor");
        assert_int_equal(other.offset, g.offset);
        expect_zero(&other);
        drop(&other);
        wait_over(&other);
        wait_all_free();
}

static void test_held_up_until_unmapped(void **state) {
        hold_up(true);
}

static void test_held_up_until_exit(void **state) {
        hold_up(false);
}

static void test_bind(void **state) {
        Granted g = bed_acquire(bus, "egm4", SIZE, "descriptor");
        Child c = child_new(&g);

        tell(&c, "lf");
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g.path, EGM_LEASE_INTERFACE, "Bind", NULL,
                                       NULL, "h", c.pidfd) >= 0);
        assert_int_equal(bed_get_u32(bus, g.path, EGM_LEASE_INTERFACE, "HolderPid"), c.pid);
        drop(&g);
        expect_state(&g, "active");
        expect_state(&g, "active");
        child_end(&c);
        wait_over(&g);
        wait_all_free();
}

static Granted reopen(const Granted *g) {
        sd_bus_message *reply = NULL;
        const char *region;
        int lifetime, memory;
        Granted n = *g;

        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "Reopen",
                                       NULL, &reply, "") >= 0);
        assert_true(sd_bus_message_read(reply, "h", &lifetime) > 0);
        assert_true(sd_bus_message_enter_container(reply, 'a', "(shtt)") > 0);
        assert_true(sd_bus_message_read(reply, "(shtt)", &region, &memory, &n.offset, &n.size) > 0);
        n.lifetime = fd_copy(lifetime);
        n.memory = fd_copy(memory);
        assert_true(n.lifetime >= 0 && n.memory >= 0);
        assert_int_equal(n.offset, g->offset);
        assert_int_equal(n.size, g->size);
        sd_bus_message_unref(reply);
        return n;
}

/* No descriptor ends a persistent lease; who reopens it finds what was left there. */
static void test_persistent(void **state) {
        Granted g = bed_acquire(bus, "egm4", SIZE, "persistent"), again;
        unsigned char *p;

        fill(&g);
        drop(&g);
        expect_state(&g, "active");
        again = reopen(&g);
        p = map(&again);
        assert_int_equal(p[SIZE - 1], 0xa5);
        assert_int_equal(munmap(p, SIZE), 0);
        drop(&again);
        expect_state(&g, "active");
        expect_state(&g, "active");
        release(&g);
        wait_over(&g);
        wait_all_free();
}

/* A second copy from Reopen keeps a lease just like one that was passed on. */
static void test_reopened_keeps(void **state) {
        Granted g = bed_acquire(bus, "egm5", SIZE, "descriptor"), again = reopen(&g);

        drop(&g);
        expect_state(&g, "active");
        expect_state(&g, "active");
        drop(&again);
        wait_over(&g);
        wait_all_free();
}

static sd_bus_message *two_slices(sd_bus *b, uint64_t first, uint64_t second, uint64_t wait_usec) {
        sd_bus_message *m = bed_call_new(b, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 2, 2, "Size", "t",
                                          first, "Region", "s", "egm4", 2, "Size", "t", second,
                                          "Region", "s", "egm5", "WaitUSec", "t", wait_usec) >= 0);
        return m;
}

static void test_all_or_nothing(void **state) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm5", EGM_REGION_INTERFACE, "Size");
        char *before = bed_snapshot(bus), *after;
        sd_bus_message *m = two_slices(bus, SIZE, all + 65536, 0), *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        Granted g;

        assert_true(sd_bus_call(bus, m, 0, &e, NULL) < 0);
        assert_string_equal(e.name, EGM_ERROR_PREFIX "NoCapacity");
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        after = bed_snapshot(bus);
        assert_string_equal(before, after);
        free(before);
        free(after);

        m = two_slices(bus, SIZE, all, 0);
        assert_true(sd_bus_call(bus, m, 0, NULL, &reply) >= 0);
        bed_read_granted(reply, &g);
        assert_int_equal(g.n_slices, 2);
        assert_int_equal(bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Leased"),
                         SIZE);
        assert_int_equal(bed_get_u64(bus, EGM_REGION_PATH "/egm5", EGM_REGION_INTERFACE, "Free"),
                         0);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        drop(&g);
        wait_over(&g);
        wait_all_free();
}

static bool waiting(sd_bus *b, const void *arg) {
        sd_bus_message *m = NULL;
        bool any;

        assert_true(sd_bus_get_property(b, EGM_BUS_NAME, EGM_PATH, EGM_MANAGER_INTERFACE, "Waiting",
                                        NULL, &m, "a(uusttt)") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(uusttt)") > 0);
        any = sd_bus_message_at_end(m, false) == 0;
        sd_bus_message_unref(m);
        return any == *(const bool *) arg;
}

static const bool yes = true, no = false;

static int on_granted(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Granted *g = userdata;

        assert_false(sd_bus_message_is_method_error(m, NULL));
        bed_read_granted(m, g);
        return 0;
}

static bool is_granted(sd_bus *b, const void *arg) {
        return ((const Granted *) arg)->lifetime >= 0;
}

/* Granted as soon as the memory is back, all of it zero. */
static void test_waits_for_memory(void **state) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        Granted g = bed_acquire(bus, "egm4", all, "descriptor"), late = GRANTED_NULL;
        sd_bus_message *m = two_slices(bus, all, SIZE, 120 * USEC_PER_SEC);

        fill(&g);
        assert_true(sd_bus_call_async(bus, NULL, m, on_granted, &late, 300 * USEC_PER_SEC) >= 0);
        sd_bus_message_unref(m);
        bed_wait(bus, waiting, &yes, "the request to wait");
        assert_false(is_granted(bus, &late));
        drop(&g);
        bed_wait(bus, is_granted, &late, "the memory that came back");
        assert_true(waiting(bus, &no));
        assert_int_equal(late.size, all);
        expect_zero(&late);
        drop(&late);
        wait_over(&late);
        wait_all_free();
}

static bool name_left(sd_bus *b, const void *arg) {
        return sd_bus_get_name_creds(b, arg, 0, NULL) < 0;
}

/* Who went does not wait any more, and is granted nothing. */
static void test_waiting_client_goes(void **state) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        Granted g = bed_acquire(bus, "egm4", all, "descriptor");
        sd_bus *other = bed_connect();
        sd_bus_message *m;
        const char *name;
        char *copy;

        m = two_slices(other, all, SIZE, 120 * USEC_PER_SEC);
        assert_true(sd_bus_send(other, m, &(uint64_t){0}) >= 0);
        sd_bus_message_unref(m);
        assert_true(sd_bus_flush(other) >= 0);
        assert_true(sd_bus_get_unique_name(other, &name) >= 0);
        copy = strdup(name);
        assert_non_null(copy);
        bed_wait(bus, waiting, &yes, "the request to wait");
        sd_bus_flush_close_unref(other);
        bed_wait(bus, name_left, copy, "the client to go");
        free(copy);
        /* The bus tells the daemon of it before it delivers this question. */
        assert_true(waiting(bus, &no));
        drop(&g);
        wait_over(&g);
        wait_all_free();
}

static int on_refused(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        bool *refused = userdata;

        assert_non_null(e);
        assert_string_equal(e->name, SD_BUS_ERROR_INVALID_ARGS);
        assert_string_equal(e->message, "Holder: the process is gone");
        *refused = true;
        return 0;
}

static bool is_true(sd_bus *b, const void *arg) {
        return *(const bool *) arg;
}

/* A lease for a process that has gone is of use to nobody: the wait for it ends with the process. */
static void test_waiting_holder_goes(void **state) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        Granted g = bed_acquire(bus, "egm4", SIZE, "descriptor");
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        bool refused = false;
        Child c = child_new(&g);

        tell(&c, "lf");
        assert_true(sd_bus_message_append(m, "a{sv}", 3, "Slices", "aa{sv}", 1, 2, "Size", "t", all,
                                          "Region", "s", "egm4", "Holder", "h", c.pidfd, "WaitUSec",
                                          "t", UINT64_MAX) >= 0);
        assert_true(sd_bus_call_async(bus, NULL, m, on_refused, &refused, 300 * USEC_PER_SEC) >= 0);
        sd_bus_message_unref(m);
        bed_wait(bus, waiting, &yes, "the request to wait");
        assert_false(refused);
        child_end(&c);
        bed_wait(bus, is_true, &refused, "the wait to end");
        assert_true(waiting(bus, &no));
        expect_state(&g, "active");
        drop(&g);
        wait_over(&g);
        wait_all_free();
}

/* A refusal says who has the memory. */
static void expect_users(const Granted *g, const char *message) {
        char text[128];

        (void) snprintf(text, sizeof(text), ", held by lease %s (uid %u, ",
                        strrchr(g->path, '/') + 1, (unsigned) getuid());
        if (!strstr(message, text))
                fail_msg("no \"%s\" in: %s", text, message);
}

static void test_refusal_names_users(void **state) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        Granted g = bed_acquire(bus, "egm4", SIZE, "descriptor");
        sd_bus_message *m = two_slices(bus, all, SIZE, 0);
        sd_bus_error e = SD_BUS_ERROR_NULL;

        assert_true(sd_bus_call(bus, m, 0, &e, NULL) < 0);
        assert_string_equal(e.name, EGM_ERROR_PREFIX "NoCapacity");
        expect_users(&g, e.message);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        drop(&g);
        wait_over(&g);
        wait_all_free();
}

static void test_waits_in_vain(void **state) {
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        Granted g = bed_acquire(bus, "egm4", SIZE, "descriptor");
        sd_bus_message *m = two_slices(bus, all, SIZE, 1000);
        sd_bus_error e = SD_BUS_ERROR_NULL;

        assert_true(sd_bus_call(bus, m, 0, &e, NULL) < 0);
        assert_string_equal(e.name, EGM_ERROR_PREFIX "TimedOut");
        expect_users(&g, e.message);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        assert_true(waiting(bus, &no));
        expect_state(&g, "active");
        drop(&g);
        wait_over(&g);
        wait_all_free();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_copies),
                        cmocka_unit_test(test_held_up_until_unmapped),
                        cmocka_unit_test(test_held_up_until_exit),
                        cmocka_unit_test(test_bind),
                        cmocka_unit_test(test_persistent),
                        cmocka_unit_test(test_reopened_keeps),
                        cmocka_unit_test(test_all_or_nothing),
                        cmocka_unit_test(test_waits_for_memory),
                        cmocka_unit_test(test_waiting_client_goes),
                        cmocka_unit_test(test_waiting_holder_goes),
                        cmocka_unit_test(test_refusal_names_users),
                        cmocka_unit_test(test_waits_in_vain),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
