/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Tenants that map what they were not lent, next to honest ones: told of once, and ended where $EGM_TEST_ACTION is "kill". */

#include "bed.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fd-util.h"

#define SIZE (4 * MIB)
#define REGION EGM_REGION_PATH "/egm5"

static sd_bus *bus;
static bool kills;

/* ---- Tenants ---- */

typedef struct Piece {
        uint64_t offset;
        uint64_t size; /* 0: leave. Not the end of the pipe: whoever is forked later has a copy of this end. */
        int flags;
} Piece;

typedef struct Tenant {
        pid_t pid;
        int pidfd;
        int commands;
        int answers;
        int memory;
} Tenant;

static void tenant_run(int memory, int in, int out) {
        Piece p;

        while (read(in, &p, sizeof(p)) == (ssize_t) sizeof(p) && p.size > 0) {
                if (mmap(NULL, p.size, PROT_READ | PROT_WRITE, p.flags, memory, (off_t) p.offset) ==
                                    MAP_FAILED ||
                    write(out, "", 1) != 1)
                        _exit(1);
        }
        _exit(0);
}

/* Has the descriptors there are now, but for the lifetimes given. */
static Tenant tenant_new(int memory, const int *hidden, size_t n_hidden) {
        int in[2], out[2];
        Tenant t;

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        t = (Tenant){.pid = fork(), .commands = in[1], .answers = out[0]};
        assert_true(t.pid >= 0);
        if (t.pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(in[1]);
                (void) close(out[0]);
                for (size_t i = 0; i < n_hidden; i++)
                        (void) close(hidden[i]);
                tenant_run(memory, in[0], out[1]);
        }
        (void) close(in[0]);
        (void) close(out[1]);
        t.pidfd = pidfd_open(t.pid, 0);
        assert_true(t.pidfd >= 0);
        return t;
}

static ssize_t tenant_try_map(const Tenant *t, uint64_t offset, uint64_t size, int flags) {
        const Piece p = {offset, size, flags};
        char answer;

        assert_int_equal(write(t->commands, &p, sizeof(p)), sizeof(p));
        return read(t->answers, &answer, 1);
}

static void tenant_map(const Tenant *t, uint64_t offset, uint64_t size, int flags) {
        assert_int_equal(tenant_try_map(t, offset, size, flags), 1);
}

/* What he may be ended for, and before he gets to answer. */
static void tenant_overreach(const Tenant *t, uint64_t offset, uint64_t size) {
        ssize_t n = tenant_try_map(t, offset, size, MAP_SHARED);

        assert_true(n == 1 || (n == 0 && kills));
}

/* It was let live, or not, to its end. */
static void tenant_end(Tenant *t, bool killed) {
        struct pollfd p = {.fd = t->pidfd, .events = POLLIN};
        int status;

        const Piece leave = {};

        if (!killed)
                assert_int_equal(write(t->commands, &leave, sizeof(leave)), sizeof(leave));
        assert_int_equal(poll(&p, 1, BED_DEADLINE_USEC / USEC_PER_MSEC), 1);
        (void) close(t->commands);
        assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
        if (killed)
                assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        else
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        (void) close(t->answers);
        (void) close(t->pidfd);
}

/* ---- Leases ---- */

static Granted acquire_for(uid_t owner) {
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        sd_bus_message *reply = NULL;
        Granted g;

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          SIZE, "Region", "s", "egm5", "OwnerUid", "u",
                                          (uint32_t) owner) >= 0);
        assert_true(sd_bus_call(bus, m, 0, NULL, &reply) >= 0);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        return g;
}

static void release(Granted *g) {
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
        bed_close(&g->lifetime);
        bed_close(&g->memory);
}

static uint64_t region_size(void) {
        return bed_get_u64(bus, REGION, EGM_REGION_INTERFACE, "Size");
}

/* ---- What is told ---- */

static uint64_t count(void) {
        return bed_get_u64(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "Overreaches");
}

static bool count_is(sd_bus *b, const void *arg) {
        return count() >= *(const uint64_t *) arg;
}

static void wait_count(uint64_t n) {
        bed_wait(bus, count_is, &n, "the overreach to be found");
        assert_int_equal(count(), n);
}

/* The lines of the log with this in them. */
static unsigned log_lines(const char *pattern) {
        _cleanup_free_ char *text = NULL, *words = NULL;
        char *save = NULL;
        unsigned n = 0;

        assert_int_equal(read_full_file_at(AT_FDCWD, getenv("EGM_TEST_LOG"), 64 * MIB, &text, NULL),
                         0);
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                n += strstr(line, "Overreach: ") && strstr(line, pattern);
        return n;
}

/* How often the table of the region has exactly that. */
static unsigned table_rows(const char *kind, uint64_t offset, uint64_t size, pid_t pid) {
        sd_bus_message *m = NULL;
        const char *k, *comm;
        uint64_t o, s;
        unsigned n = 0;
        uint32_t p;

        assert_true(sd_bus_get_property(bus, EGM_BUS_NAME, REGION, EGM_REGION_INTERFACE,
                                        "Overreach", NULL, &m, "a(sttus)") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(sttus)") > 0);
        while (sd_bus_message_read(m, "(sttus)", &k, &o, &s, &p, &comm) > 0)
                n += streq(k, kind) && o == offset && s == size && p == (uint32_t) pid;
        sd_bus_message_unref(m);
        return n;
}

static void assert_told(const char *kind, uint64_t offset, uint64_t size, pid_t pid, bool killed) {
        char line[256];

        (void) snprintf(line, sizeof(line),
                        "region=egm5 kind=%s offset=%" PRIu64 " size=%" PRIu64
                        " pid=%i start=%" PRIu64 " uid=%u comm=\"test-overreach\"",
                        kind, offset, size, pid, killed ? 0 : bed_start_time(pid),
                        (unsigned) geteuid());
        if (killed)
                /* When it started cannot be asked any more. */
                (void) snprintf(line, sizeof(line),
                                "kind=%s offset=%" PRIu64 " size=%" PRIu64 " pid=%i start=", kind,
                                offset, size, pid);
        assert_int_equal(log_lines(line), 1);
        if (!killed && geteuid() == 0)
                assert_int_equal(table_rows(kind, offset, size, pid), 1);
}

static bool table_empty(sd_bus *b, const void *arg) {
        sd_bus_message *m = NULL;
        bool any;

        assert_true(sd_bus_get_property(b, EGM_BUS_NAME, REGION, EGM_REGION_INTERFACE, "Overreach",
                                        NULL, &m, "a(sttus)") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(sttus)") > 0);
        any = sd_bus_message_at_end(m, false) == 0;
        sd_bus_message_unref(m);
        return !any;
}

static void wait_all_free(void) {
        bed_wait(bus, bed_all_free, NULL, "all memory to be free");
}

/* ---- Tests ---- */

static int setup(void **state) {
        kills = streq_ptr(getenv("EGM_TEST_ACTION"), "kill");
        bus = bed_new();
        return 0;
}

static int teardown(void **state) {
        bus = sd_bus_flush_close_unref(bus);
        return 0;
}

/* Two VMs, one of which maps a page behind its slice and some of the region's end. */
static void test_unlent(void **state) {
        uint64_t before = count(), end = region_size();
        Granted a = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted b = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted *last = a.offset > b.offset ? &a : &b, *first = last == &a ? &b : &a;
        Tenant honest, helper, greedy;

        honest = tenant_new(first->memory, (int[]){last->lifetime}, 1);
        helper = tenant_new(first->memory, (int[]){a.lifetime, b.lifetime}, 2);
        greedy = tenant_new(last->memory, (int[]){first->lifetime}, 1);
        tenant_map(&honest, first->offset, SIZE, MAP_SHARED);
        tenant_map(&helper, first->offset, SIZE, MAP_SHARED);
        tenant_map(&helper, last->offset, SIZE, MAP_SHARED); /* shows nothing: anybody's helper */
        tenant_overreach(&greedy, last->offset, SIZE + 4096);
        wait_count(before + 1);
        assert_told("unlent", last->offset + SIZE, 4096, greedy.pid, kills);
        if (!kills) {
                /* It still maps that, and is looked at again. */
                tenant_map(&greedy, end - MIB, MIB, MAP_SHARED);
                wait_count(before + 2);
                assert_told("unlent", end - MIB, MIB, greedy.pid, false);
                assert_told("unlent", last->offset + SIZE, 4096, greedy.pid, false);
        }
        tenant_end(&greedy, kills);
        bed_wait(bus, table_empty, NULL, "it to be forgotten");
        tenant_end(&honest, false);
        tenant_end(&helper, false);
        assert_int_equal(count(), before + (kills ? 1 : 2));
        release(&a);
        release(&b);
        wait_all_free();
}

/* What drains was lent a moment ago. The one that is found meanwhile is found by the same look. */
static void test_draining(void **state) {
        uint64_t before = count(), end = region_size();
        Granted a = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted b = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Tenant late, greedy;

        late = tenant_new(a.memory, (int[]){a.lifetime, b.lifetime}, 2);
        greedy = tenant_new(b.memory, (int[]){a.lifetime}, 1);
        tenant_map(&late, a.offset, SIZE, MAP_SHARED);
        release(&a);
        tenant_overreach(&greedy, end - MIB, MIB);
        wait_count(before + 1);
        assert_told("unlent", end - MIB, MIB, greedy.pid, kills);
        tenant_end(&greedy, kills);
        tenant_end(&late, false);
        release(&b);
        wait_all_free();
}

/* Another's lease: foreign where that is another user's, and no reason to end anybody where it is not. */
static void test_others(void **state) {
        bool root = geteuid() == 0;
        uint64_t before = count();
        Granted mine = root ? acquire_for(1000) : bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted same = root ? acquire_for(1000) : bed_acquire(bus, "egm5", SIZE, "descriptor");
        Granted other = root ? acquire_for(1001) : GRANTED_NULL;
        Tenant confused, thief, bound;

        confused = tenant_new(mine.memory, (int[]){same.lifetime, other.lifetime}, 2);
        tenant_map(&confused, mine.offset, SIZE, MAP_SHARED);
        tenant_map(&confused, same.offset, SIZE, MAP_SHARED);
        wait_count(before + 1);
        assert_told("unproven", same.offset, SIZE, confused.pid, false);
        if (root) {
                /* Who is bound to it may. */
                bound = tenant_new(mine.memory, (int[]){same.lifetime, other.lifetime}, 2);
                assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, other.path, EGM_LEASE_INTERFACE,
                                               "Bind", NULL, NULL, "h", bound.pidfd) >= 0);
                tenant_map(&bound, other.offset, SIZE, MAP_SHARED);
                thief = tenant_new(mine.memory, (int[]){same.lifetime, other.lifetime}, 2);
                tenant_overreach(&thief, other.offset, SIZE);
                wait_count(before + 2);
                assert_told("foreign", other.offset, SIZE, thief.pid, kills);
                tenant_end(&thief, kills);
                tenant_end(&bound, false);
        }
        tenant_end(&confused, false);
        release(&mine);
        release(&same);
        if (root)
                release(&other);
        wait_all_free();
}

static void test_private(void **state) {
        uint64_t before = count(), all = region_size();
        Granted a = bed_acquire(bus, "egm5", SIZE, "descriptor");
        Tenant t = tenant_new(a.memory, NULL, 0);

        tenant_map(&t, a.offset, SIZE, MAP_PRIVATE);
        wait_count(before + 1);
        assert_told("private", 0, all, t.pid, false);
        tenant_end(&t, false);
        release(&a);
        wait_all_free();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_unlent),
                        cmocka_unit_test(test_draining),
                        cmocka_unit_test(test_others),
                        cmocka_unit_test(test_private),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
