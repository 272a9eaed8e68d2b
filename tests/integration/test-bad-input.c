/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Whatever is sent, the answer is a named error, nothing has changed and the daemon is there. */

#include "bed.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon-fds.h"
#include "fd-util.h"
#include "size.h"
#include "text.h"

#define INVALID SD_BUS_ERROR_INVALID_ARGS
#define LIMITS SD_BUS_ERROR_LIMITS_EXCEEDED
#define NO_CAPACITY EGM_ERROR_PREFIX "NoCapacity"
#define NO_SUCH_REGION EGM_ERROR_PREFIX "NoSuchRegion"
#define NO_SUCH_LEASE EGM_ERROR_PREFIX "NoSuchLease"
#define BAD_ALIGNMENT EGM_ERROR_PREFIX "BadAlignment"
#define DRAINING EGM_ERROR_PREFIX "Draining"
#define TIMED_OUT EGM_ERROR_PREFIX "TimedOut"

static sd_bus *bus;
static char *before;

static int setup(void **state) {
        bus = bed_new();
        return 0;
}

static int teardown(void **state) {
        bus = sd_bus_flush_close_unref(bus);
        return 0;
}

static void expect_refusal(const char *row, sd_bus_message *m, const char *expected) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        char *after;
        int r;

        r = sd_bus_call(bus, m, 0, &e, &reply);
        if (r >= 0)
                fail_msg("%s: was granted", row);
        if (!e.name || !streq(e.name, expected))
                fail_msg("%s: %s (%s) instead of %s", row, e.name, e.message, expected);
        if (!e.message || !*e.message)
                fail_msg("%s: %s without a word", row, e.name);
        if (!text_is_printable(e.message))
                fail_msg("%s: words that a terminal obeys", row);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        sd_bus_message_unref(m);
        after = bed_snapshot(bus);
        if (!streq(before, after))
                fail_msg("%s: changed\n%sto\n%s", row, before, after);
        free(after);
}

/* The rest is for sd_bus_message_append(). */
#define REFUSED_AT(row, expected, path, interface, method, ...) \
        do { \
                sd_bus_message *_m = bed_call_new(bus, path, interface, method); \
                assert_true(sd_bus_message_append(_m, __VA_ARGS__) >= 0); \
                expect_refusal(row, _m, expected); \
        } while (false)
#define REFUSED(row, expected, ...) \
        REFUSED_AT(row, expected, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease", __VA_ARGS__)
/* Options of the one slice, how many first. */
#define SLICE_REFUSED(row, expected, n, ...) \
        REFUSED(row, expected, "a{sv}", 1, "Slices", "aa{sv}", 1, n, __VA_ARGS__)
/* A good slice, and options of the request, how many first. */
#define OPTION_REFUSED(row, expected, n, ...) \
        REFUSED(row, expected, "a{sv}", (n) + 1, "Slices", "aa{sv}", 1, 1, "Size", "t", \
                (uint64_t) (2 * MIB), __VA_ARGS__)

static void test_types(void **state) {
        before = bed_snapshot(bus);
        REFUSED("body: string", INVALID, "s", "Slices");
        REFUSED("body: two", INVALID, "a{sv}s", 0, "more");
        REFUSED("Slices: string", INVALID, "a{sv}", 1, "Slices", "s", "all");
        REFUSED("Slices: one dictionary", INVALID, "a{sv}", 1, "Slices", "a{sv}", 1, "Size", "t",
                (uint64_t) MIB);
        REFUSED("Slices: strings", INVALID, "a{sv}", 1, "Slices", "as", 1, "egm4");
        SLICE_REFUSED("Size: u", INVALID, 1, "Size", "u", (uint32_t) MIB);
        SLICE_REFUSED("Size: x", INVALID, 1, "Size", "x", (int64_t) MIB);
        SLICE_REFUSED("Size: string", INVALID, 1, "Size", "s", "1G");
        SLICE_REFUSED("Size: variant", INVALID, 1, "Size", "v", "t", (uint64_t) (2 * MIB));
        SLICE_REFUSED("Whole: string", INVALID, 1, "Whole", "s", "yes");
        SLICE_REFUSED("Region: number", INVALID, 1, "Region", "u", 4);
        SLICE_REFUSED("Gpu: path", INVALID, 1, "Gpu", "o", "/gpu");
        SLICE_REFUSED("Node: u", INVALID, 1, "Node", "u", 0);
        SLICE_REFUSED("Socket: t", INVALID, 1, "Socket", "t", UINT64_C(0));
        SLICE_REFUSED("Align: u", INVALID, 1, "Align", "u", 65536);
        SLICE_REFUSED("Retired: bool", INVALID, 1, "Retired", "b", 1);
        OPTION_REFUSED("Label: bytes", INVALID, 1, "Label", "ay", 1, 'x');
        OPTION_REFUSED("OwnerUid: string", INVALID, 1, "OwnerUid", "s", "root");
        OPTION_REFUSED("OwnerUid: nobody's", INVALID, 1, "OwnerUid", "u", UINT32_MAX);
        OPTION_REFUSED("Lifetime: bool", INVALID, 1, "Lifetime", "b", 1);
        OPTION_REFUSED("Holder: pid", INVALID, 1, "Holder", "u", (uint32_t) getpid());
        OPTION_REFUSED("WaitUSec: u", INVALID, 1, "WaitUSec", "u", 1);
        free(before);
}

#define A31 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void test_keys(void **state) {
        const uint64_t size = 2 * MIB;

        before = bed_snapshot(bus);
        REFUSED("no options", INVALID, "a{sv}", 0);
        REFUSED("no Slices", INVALID, "a{sv}", 1, "Label", "s", "x");
        REFUSED("empty Slices", INVALID, "a{sv}", 1, "Slices", "aa{sv}", 0);
        REFUSED("an empty slice", INVALID, "a{sv}", 1, "Slices", "aa{sv}", 1, 0);
        OPTION_REFUSED("unknown", INVALID, 1, "Colour", "s", "red");
        OPTION_REFUSED("unknown: case", INVALID, 1, "label", "s", "x");
        OPTION_REFUSED("unknown: empty", INVALID, 1, "", "s", "x");
        OPTION_REFUSED("a slice's option", INVALID, 1, "Size", "t", size);
        SLICE_REFUSED("unknown", INVALID, 2, "Size", "t", size, "Offset", "t", UINT64_C(0));
        SLICE_REFUSED("a request's option", INVALID, 2, "Size", "t", size, "Label", "s", "x");
        REFUSED("unknown in the second slice", INVALID, "a{sv}", 1, "Slices", "aa{sv}", 2, 1,
                "Size", "t", size, 2, "Size", "t", size, "X", "b", 1);
        /* Quoted, but no more of them than fits: not UTF-8 any more, which the bus would not carry. */
        OPTION_REFUSED("cut inside of a character", INVALID, 1, A31 A31 "a\303\251", "s", "x");
        OPTION_REFUSED("Lifetime: cut", INVALID, 1, "Lifetime", "s", A31 "\303\251");
        SLICE_REFUSED("Retired: cut", INVALID, 2, "Size", "t", size, "Retired", "s",
                      A31 "\303\251");
        OPTION_REFUSED("controls", INVALID, 1, "\n<0>\033[2J\302\2331A\177", "s", "x");
        OPTION_REFUSED("Lifetime: controls", INVALID, 1, "Lifetime", "s", "\n\033[2J");
        OPTION_REFUSED("Label twice", INVALID, 2, "Label", "s", "x", "Label", "s", "x");
        OPTION_REFUSED("Slices twice", INVALID, 1, "Slices", "aa{sv}", 1, 1, "Size", "t", size);
        OPTION_REFUSED("WaitUSec twice", INVALID, 2, "WaitUSec", "t", UINT64_C(0), "WaitUSec", "t",
                       UINT64_C(0));
        SLICE_REFUSED("Size twice", INVALID, 2, "Size", "t", size, "Size", "t", size);
        SLICE_REFUSED("Region twice", INVALID, 3, "Size", "t", size, "Region", "s", "egm4",
                      "Region", "s", "egm5");
        free(before);
}

static void test_sizes(void **state) {
        const uint64_t size = 2 * MIB, max = UINT64_MAX, top = UINT64_C(1) << 63;

        before = bed_snapshot(bus);
        SLICE_REFUSED("0", INVALID, 1, "Size", "t", UINT64_C(0));
        SLICE_REFUSED("not Whole", INVALID, 1, "Whole", "b", 0);
        SLICE_REFUSED("with Whole", INVALID, 2, "Size", "t", size, "Whole", "b", 1);
        SLICE_REFUSED("2^64 - 1", BAD_ALIGNMENT, 1, "Size", "t", max);
        SLICE_REFUSED("2^64 - 64K", NO_CAPACITY, 1, "Size", "t", max - 65535);
        SLICE_REFUSED("2^63", NO_CAPACITY, 1, "Size", "t", top);
        REFUSED("2^63 twice", NO_CAPACITY, "a{sv}", 1, "Slices", "aa{sv}", 2, 1, "Size", "t", top,
                1, "Size", "t", top);
        REFUSED("2^64 - 64K and a little", NO_CAPACITY, "a{sv}", 1, "Slices", "aa{sv}", 2, 1,
                "Size", "t", size, 1, "Size", "t", max - 65535);
        SLICE_REFUSED("1", BAD_ALIGNMENT, 1, "Size", "t", UINT64_C(1));
        SLICE_REFUSED("4K", BAD_ALIGNMENT, 1, "Size", "t", UINT64_C(4096));
        SLICE_REFUSED("2M + 1", BAD_ALIGNMENT, 1, "Size", "t", size + 1);
        SLICE_REFUSED("2M - 4K", BAD_ALIGNMENT, 1, "Size", "t", size - 4096);
        SLICE_REFUSED("Align 0", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t", UINT64_C(0));
        SLICE_REFUSED("Align 1", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t", UINT64_C(1));
        SLICE_REFUSED("Align 3", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t", UINT64_C(3));
        SLICE_REFUSED("Align 32K", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t",
                      UINT64_C(32768));
        SLICE_REFUSED("Align 2M + 64K", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t",
                      size + 65536);
        SLICE_REFUSED("Align 2G", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t", 2 * GIB);
        SLICE_REFUSED("Align 2^63", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t", top);
        SLICE_REFUSED("Align 2^64 - 1", BAD_ALIGNMENT, 2, "Size", "t", size, "Align", "t", max);
        free(before);
}

static void test_places(void **state) {
        const uint64_t size = 2 * MIB;
        char name[300];

        memset(name, 'e', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        before = bed_snapshot(bus);
        SLICE_REFUSED("Node -1", INVALID, 2, "Size", "t", size, "Node", "i", -1);
        SLICE_REFUSED("Node INT32_MIN", INVALID, 2, "Size", "t", size, "Node", "i", INT32_MIN);
        SLICE_REFUSED("Socket -1", INVALID, 2, "Size", "t", size, "Socket", "i", -1);
        SLICE_REFUSED("Node 7", NO_SUCH_REGION, 2, "Size", "t", size, "Node", "i", 7);
        SLICE_REFUSED("Socket INT32_MAX", NO_SUCH_REGION, 2, "Size", "t", size, "Socket", "i",
                      INT32_MAX);
        SLICE_REFUSED("Region egm9", NO_SUCH_REGION, 2, "Size", "t", size, "Region", "s", "egm9");
        SLICE_REFUSED("Region /dev/egm4", NO_SUCH_REGION, 2, "Size", "t", size, "Region", "s",
                      "/dev/egm4");
        SLICE_REFUSED("no Region", INVALID, 2, "Size", "t", size, "Region", "s", "");
        SLICE_REFUSED("a long Region", INVALID, 2, "Size", "t", size, "Region", "s", name);
        SLICE_REFUSED("a Region with a newline", INVALID, 2, "Size", "t", size, "Region", "s",
                      "egm4\n");
        SLICE_REFUSED("Gpu of nobody", NO_SUCH_REGION, 2, "Size", "t", size, "Gpu", "s",
                      "0042:01:00.0");
        SLICE_REFUSED("Gpu: %n", NO_SUCH_REGION, 2, "Size", "t", size, "Gpu", "s", "%n%s%s%s");
        SLICE_REFUSED("Gpu of the other Region", NO_SUCH_REGION, 3, "Size", "t", size, "Region",
                      "s", "egm4", "Gpu", "s", "0018:01:00.0");
        SLICE_REFUSED("Retired", INVALID, 2, "Size", "t", size, "Retired", "s", "maybe");
        REFUSED("the second slice", NO_SUCH_REGION, "a{sv}", 1, "Slices", "aa{sv}", 2, 1, "Size",
                "t", size, 2, "Size", "t", size, "Region", "s", "egm9");
        free(before);
}

static void many_slices(unsigned n, const char *expected) {
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        char row[32];

        (void) snprintf(row, sizeof(row), "%u slices", n);
        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_open_container(m, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(m, "s", "Slices") >= 0);
        assert_true(sd_bus_message_open_container(m, 'v', "aa{sv}") >= 0);
        assert_true(sd_bus_message_open_container(m, 'a', "a{sv}") >= 0);
        for (unsigned i = 0; i < n; i++)
                assert_true(sd_bus_message_append(m, "a{sv}", 1, "Size", "t", UINT64_C(65536)) >=
                            0);
        for (unsigned i = 0; i < 4; i++)
                assert_true(sd_bus_message_close_container(m) >= 0);
        expect_refusal(row, m, expected);
}

static void test_limits(void **state) {
        char label[130];

        memset(label, 'x', sizeof(label) - 1);
        label[sizeof(label) - 1] = '\0';
        before = bed_snapshot(bus);
        many_slices(16, LIMITS);
        many_slices(10000, LIMITS);
        OPTION_REFUSED("Label: 129 bytes", INVALID, 1, "Label", "s", label);
        OPTION_REFUSED("Label: newline", INVALID, 1, "Label", "s", "a\nb");
        OPTION_REFUSED("Label: escape", INVALID, 1, "Label", "s", "\033[2J");
        OPTION_REFUSED("Label: DEL", INVALID, 1, "Label", "s", "\177");
        OPTION_REFUSED("Label: C1", INVALID, 1, "Label", "s", "\302\233");
        OPTION_REFUSED("Lifetime: empty", INVALID, 1, "Lifetime", "s", "");
        OPTION_REFUSED("Lifetime: eternal", INVALID, 1, "Lifetime", "s", "eternal");
        OPTION_REFUSED("Lifetime: case", INVALID, 1, "Lifetime", "s", "Persistent");
        free(before);
}

static int dead_pidfd(void) {
        pid_t pid = fork();
        int fd;

        assert_true(pid >= 0);
        if (pid == 0)
                _exit(0);
        fd = pidfd_open(pid, 0);
        assert_true(fd >= 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        return fd;
}

typedef struct NoHolder {
        const char *name;
        int fd;
} NoHolder;

#define N_NO_HOLDERS 6

/* None is the pidfd of a process that lives. */
static void no_holders_open(NoHolder *ret) {
        int p[2], s[2];

        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
        ret[0] = (NoHolder){"a file", open("/proc/self/status", O_RDONLY | O_CLOEXEC)};
        ret[1] = (NoHolder){"a directory of /proc", open("/proc/self", O_RDONLY | O_CLOEXEC)};
        ret[2] = (NoHolder){"a pipe", p[0]};
        ret[3] = (NoHolder){"a socket", s[0]};
        ret[4] = (NoHolder){"a memfd", memfd_create("anon_inode:[pidfd]", MFD_CLOEXEC)};
        ret[5] = (NoHolder){"a dead process", dead_pidfd()};
        (void) close(p[1]);
        (void) close(s[1]);
        for (size_t i = 0; i < N_NO_HOLDERS; i++)
                assert_true(ret[i].fd >= 0);
}

static size_t daemon_fds(void) {
        size_t n;
        int pid;

        /* The answers to these come after the end of what was asked before. */
        free(bed_snapshot(bus));
        assert_int_equal(parse_int(getenv("EGM_TEST_DAEMON_PID"), &pid), 0);
        n = daemon_fds_count(pid);
        assert_true(n > 0);
        return n;
}

static void test_holders(void **state) {
        NoHolder no[N_NO_HOLDERS];
        size_t n = daemon_fds();

        no_holders_open(no);
        before = bed_snapshot(bus);
        OPTION_REFUSED("twice", INVALID, 2, "Holder", "h", no[0].fd, "Holder", "h", no[0].fd);
        OPTION_REFUSED("beside another mistake", INVALID, 2, "Holder", "h", no[0].fd, "X", "b", 1);
        for (size_t i = 0; i < N_NO_HOLDERS; i++) {
                OPTION_REFUSED(no[i].name, INVALID, 1, "Holder", "h", no[i].fd);
                (void) close(no[i].fd);
        }
        free(before);
        assert_int_equal(daemon_fds(), n);
}

static bool lease_gone(sd_bus *b, const void *arg) {
        return bed_get_u32(b, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount") == 0;
}

static void end(Granted *g) {
        bed_close(&g->memory);
        bed_close(&g->lifetime);
        bed_wait(bus, lease_gone, NULL, "the lease to go");
        bed_wait(bus, bed_all_free, NULL, "its memory");
}

/* Refused at once: a wait that cannot end well is none. The zombie has a number still. */
static void test_waiting_holders(void **state) {
        Granted g = bed_acquire(bus, "egm4", 4 * MIB, "descriptor");
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        pid_t zombie = fork();
        NoHolder no[N_NO_HOLDERS + 1];
        siginfo_t si;

        assert_true(zombie >= 0);
        if (zombie == 0)
                _exit(0);
        no_holders_open(no);
        assert_int_equal(waitid(P_PID, (id_t) zombie, &si, WEXITED | WNOWAIT), 0);
        no[N_NO_HOLDERS] = (NoHolder){"a zombie", pidfd_open(zombie, 0)};
        assert_true(no[N_NO_HOLDERS].fd >= 0);
        before = bed_snapshot(bus);
        for (size_t i = 0; i < ELEMENTSOF(no); i++) {
                OPTION_REFUSED(no[i].name, INVALID, 1, "Holder", "h", no[i].fd);
                REFUSED(no[i].name, INVALID, "a{sv}", 3, "Slices", "aa{sv}", 1, 2, "Size", "t", all,
                        "Region", "s", "egm4", "Holder", "h", no[i].fd, "WaitUSec", "t",
                        UINT64_MAX);
                (void) close(no[i].fd);
        }
        free(before);
        assert_int_equal(waitpid(zombie, NULL, 0), zombie);
        end(&g);
}

static void test_waits(void **state) {
        Granted g = bed_acquire(bus, "egm4", 4 * MIB, "descriptor");
        uint64_t all = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");

        before = bed_snapshot(bus);
        REFUSED("no wait", NO_CAPACITY, "a{sv}", 1, "Slices", "aa{sv}", 1, 2, "Size", "t", all,
                "Region", "s", "egm4");
        REFUSED("a wait of 0", NO_CAPACITY, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t", all,
                "Region", "s", "egm4", "WaitUSec", "t", UINT64_C(0));
        REFUSED("a short wait", TIMED_OUT, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t", all,
                "Region", "s", "egm4", "WaitUSec", "t", UINT64_C(1000));
        REFUSED("what never fits", NO_CAPACITY, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                all + 65536, "Region", "s", "egm4", "WaitUSec", "t", UINT64_MAX);
        REFUSED("what is nowhere", NO_SUCH_REGION, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size",
                "t", all, "Region", "s", "egm9", "WaitUSec", "t", UINT64_MAX);
        free(before);
        end(&g);
}

#define LEASE_REFUSED(row, expected, path, method, ...) \
        REFUSED_AT(row, expected, path, EGM_LEASE_INTERFACE, method, __VA_ARGS__)

static void test_lease_methods(void **state) {
        Granted g = bed_acquire(bus, "egm5", 4 * MIB, "descriptor");
        NoHolder no[N_NO_HOLDERS];

        no_holders_open(no);
        before = bed_snapshot(bus);
        LEASE_REFUSED("Release: option", INVALID, g.path, "Release", "a{sv}", 1, "Force", "b", 1);
        LEASE_REFUSED("Release: string", INVALID, g.path, "Release", "s", "now");
        LEASE_REFUSED("Bind: string", INVALID, g.path, "Bind", "s", "me");
        LEASE_REFUSED("Admit: string", INVALID, g.path, "Admit", "s", "me");
        LEASE_REFUSED("Reopen: string", INVALID, g.path, "Reopen", "s", "me");
        LEASE_REFUSED("a method of nobody", SD_BUS_ERROR_UNKNOWN_METHOD, g.path, "Destroy", "s",
                      "x");
        for (size_t i = 0; i < N_NO_HOLDERS; i++) {
                LEASE_REFUSED(no[i].name, INVALID, g.path, "Bind", "h", no[i].fd);
                LEASE_REFUSED(no[i].name, INVALID, g.path, "Admit", "h", no[i].fd);
                (void) close(no[i].fd);
        }
        free(before);
        end(&g);
}

static void test_paths(void **state) {
        static const char *const leases[] = {"999", "01", "x", "18446744073709551616", "_2d1"};

        before = bed_snapshot(bus);
        for (size_t i = 0; i < ELEMENTSOF(leases); i++) {
                char path[64];

                (void) snprintf(path, sizeof(path), EGM_LEASE_PATH "/%s", leases[i]);
                LEASE_REFUSED(leases[i], NO_SUCH_LEASE, path, "Release", "a{sv}", 0);
                LEASE_REFUSED(leases[i], NO_SUCH_LEASE, path, "Reopen", "");
        }
        REFUSED_AT("egm9", NO_SUCH_REGION, EGM_REGION_PATH "/egm9", EGM_REGION_INTERFACE,
                   "SetSchedulable", "b", 0);
        REFUSED_AT("schedulable: string", INVALID, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE,
                   "SetSchedulable", "s", "no");
        free(before);
}

static void release(const Granted *g) {
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
}

/* A lease that has ended, but somebody (this test) still maps it: no way back to it. */
static void test_ended(void **state) {
        Granted g = bed_acquire(bus, "egm4", 2 * MIB, "persistent");
        int self = pidfd_open(getpid(), 0);
        void *p = mmap(NULL, g.size, PROT_READ, MAP_SHARED, g.memory, (off_t) g.offset);

        assert_true(p != MAP_FAILED);
        assert_true(self >= 0);
        release(&g);
        before = bed_snapshot(bus);
        LEASE_REFUSED("Release twice", DRAINING, g.path, "Release", "a{sv}", 0);
        LEASE_REFUSED("Bind", DRAINING, g.path, "Bind", "h", self);
        LEASE_REFUSED("Admit", DRAINING, g.path, "Admit", "h", self);
        LEASE_REFUSED("Reopen", DRAINING, g.path, "Reopen", "");
        free(before);
        assert_int_equal(munmap(p, g.size), 0);
        (void) close(self);
        end(&g);
        before = bed_snapshot(bus);
        LEASE_REFUSED("Release once it is gone", NO_SUCH_LEASE, g.path, "Release", "a{sv}", 0);
        free(before);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_types),           cmocka_unit_test(test_keys),
                        cmocka_unit_test(test_sizes),           cmocka_unit_test(test_places),
                        cmocka_unit_test(test_limits),          cmocka_unit_test(test_holders),
                        cmocka_unit_test(test_waiting_holders), cmocka_unit_test(test_waits),
                        cmocka_unit_test(test_lease_methods),   cmocka_unit_test(test_paths),
                        cmocka_unit_test(test_ended),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
