/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A member of the group who records all that he can read over the life of somebody else's lease: no label, no process. The owner
 * and root read it all, on connections that the daemon has never seen before. */

#include "bed.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fd-util.h"

#define WATCHER 65534U
#define OWNER 1U
#define GROUP 60777U /* see meson.build */
#define SIZE (2 * MIB)
#define LABEL "secret-label"
#define WAITER_LABEL "secret-waiter"
#define COMM "secret-comm"
#define PROPERTIES "org.freedesktop.DBus.Properties"

static sd_bus *bus; /* root's */

/* ---- Recording ---- */

typedef struct Record {
        char *text;
        size_t size;
        FILE *f;
        size_t n_signals;
} Record;

static void record_begin(Record *r) {
        *r = (Record){};
        r->f = open_memstream(&r->text, &r->size);
        assert_non_null(r->f);
}

static void record_done(Record *r) {
        if (r->f)
                (void) fclose(r->f);
        free(r->text);
}

static void record(Record *r, sd_bus_message *m) {
        assert_true(sd_bus_message_dump(m, r->f, SD_BUS_MESSAGE_DUMP_WITH_HEADER) >= 0);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Record *r = userdata;

        r->n_signals++;
        record(r, m);
        return 0;
}

static void call(Record *r, sd_bus *b, const char *path, const char *interface, const char *method,
                 const char *a, const char *c) {
        sd_bus_message *m = bed_call_new(b, path, interface, method), *reply = NULL;

        if (a)
                assert_true(sd_bus_message_append(m, "s", a) >= 0);
        if (c)
                assert_true(sd_bus_message_append(m, "s", c) >= 0);
        if (sd_bus_call(b, m, 0, NULL, &reply) >= 0)
                record(r, reply);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
}

/* All that one can ask for. */
static void read_all(Record *r, sd_bus *b, const char *lease) {
        static const char *const properties[] = {"Label", "HolderPid", "Unit", "HeldUpBy"};

        call(r, b, EGM_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL, NULL);
        call(r, b, EGM_PATH, PROPERTIES, "GetAll", EGM_MANAGER_INTERFACE, NULL);
        call(r, b, EGM_PATH, PROPERTIES, "Get", EGM_MANAGER_INTERFACE, "Waiting");
        call(r, b, EGM_PATH, PROPERTIES, "GetAll", "", NULL);
        call(r, b, EGM_REGION_PATH "/egm4", PROPERTIES, "GetAll", EGM_REGION_INTERFACE, NULL);
        call(r, b, lease, PROPERTIES, "GetAll", EGM_LEASE_INTERFACE, NULL);
        call(r, b, lease, PROPERTIES, "GetAll", "", NULL);
        for (size_t i = 0; i < ELEMENTSOF(properties); i++)
                call(r, b, lease, PROPERTIES, "Get", EGM_LEASE_INTERFACE, properties[i]);
        call(r, b, lease, "org.freedesktop.DBus.Introspectable", "Introspect", NULL, NULL);
}

static void read_as(uid_t uid, const char *lease, Record *ret) {
        sd_bus *b = uid == 0 ? bed_connect() : bed_connect_as(uid, GROUP);

        record_begin(ret);
        read_all(ret, b, lease);
        (void) fflush(ret->f);
        sd_bus_flush_close_unref(b);
}

/* ---- The lease's life ---- */

static Record seen; /* by the watcher */
static sd_bus *watcher;
static char pid_text[32];

static void must_not_see(const Record *r, const char *secret, const char *when) {
        const char *at = strstr(r->text, secret);

        if (at)
                fail_msg("%s: %s, in: %.200s", when, secret, at - MIN(at - r->text, 150));
}

static void must_see(uid_t uid, const char *lease, const char *secret, const char *when) {
        Record r;

        read_as(uid, lease, &r);
        if (!strstr(r.text, secret))
                fail_msg("%s: uid %u does not see %s", when, (unsigned) uid, secret);
        record_done(&r);
}

/* By the first call of a connection. */
static void must_see_at_once(uid_t uid, const char *path, const char *interface, const char *method,
                             const char *a, const char *c, const char *secret) {
        sd_bus *b = uid == 0 ? bed_connect() : bed_connect_as(uid, GROUP);
        Record r;

        record_begin(&r);
        call(&r, b, path, interface, method, a, c);
        (void) fflush(r.f);
        if (!strstr(r.text, secret))
                fail_msg("%s: uid %u does not see %s", method, (unsigned) uid, secret);
        record_done(&r);
        sd_bus_flush_close_unref(b);
}

static void look(const char *lease, const char *when) {
        static const char *const secrets[] = {LABEL, WAITER_LABEL, COMM, pid_text};
        Record fresh;

        read_as(WATCHER, lease, &fresh);
        read_all(&seen, watcher, lease);
        while (sd_bus_process(watcher, NULL) > 0)
                ;
        (void) fflush(seen.f);
        for (size_t i = 0; i < ELEMENTSOF(secrets); i++) {
                must_not_see(&seen, secrets[i], when);
                must_not_see(&fresh, secrets[i], when);
        }
        record_done(&fresh);
}

static sd_bus_message *acquire(sd_bus *b, uint64_t size, const char *label, uint64_t wait_usec) {
        sd_bus_message *m = bed_call_new(b, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 4, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          size, "Region", "s", "egm4", "Label", "s", label,
                                          "Lifetime", "s", "persistent", "WaitUSec", "t",
                                          wait_usec) >= 0);
        return m;
}

/* Maps the memory and keeps it until the other end of ret_fd is closed. */
static pid_t start_user(int memory, uint64_t offset, int *ret_fd) {
        int to[2], from[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_NAME, COMM);
                if (mmap(NULL, SIZE, PROT_READ, MAP_SHARED, memory, (off_t) offset) == MAP_FAILED)
                        _exit(1);
                (void) !write(from[1], "x", 1);
                /* Our connections, and its own end of the pipe, are not for it to keep open. */
                if (dup2(to[0], STDIN_FILENO) < 0 || close_range(3, ~0U, 0) < 0)
                        _exit(1);
                (void) !read(STDIN_FILENO, &c, 1);
                _exit(0);
        }
        (void) close(to[0]);
        (void) close(from[1]);
        assert_int_equal(read(from[0], &c, 1), 1);
        (void) close(from[0]);
        *ret_fd = to[1];
        return pid;
}

static void bind_to(sd_bus *b, const char *path, pid_t pid) {
        int fd = (int) syscall(SYS_pidfd_open, pid, 0);

        assert_true(fd >= 0);
        assert_true(sd_bus_call_method(b, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, "Bind", NULL,
                                       NULL, "h", fd) >= 0);
        (void) close(fd);
}

static bool held_up(sd_bus *b, const void *path) {
        sd_bus_message *m = NULL;
        bool any;

        assert_true(sd_bus_get_property(b, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, "HeldUpBy",
                                        NULL, &m, "a(usst)") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(usst)") > 0);
        any = sd_bus_message_at_end(m, false) == 0;
        sd_bus_message_unref(m);
        return any;
}

static bool somebody_waits(sd_bus *b, const void *arg) {
        sd_bus_message *m = NULL;
        bool any;

        assert_true(sd_bus_get_property(b, EGM_BUS_NAME, EGM_PATH, EGM_MANAGER_INTERFACE, "Waiting",
                                        NULL, &m, "a(uusttt)") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(uusttt)") > 0);
        any = sd_bus_message_at_end(m, false) == 0;
        sd_bus_message_unref(m);
        return any;
}

static bool nobody_waits(sd_bus *b, const void *arg) {
        return !somebody_waits(b, arg);
}

static void watcher_is_refused(uint64_t size) {
        sd_bus_message *m = acquire(watcher, size, "mine", 0);
        sd_bus_error e = SD_BUS_ERROR_NULL;

        assert_true(sd_bus_call(watcher, m, 0, &e, NULL) < 0);
        sd_bus_message_unref(m);
        (void) fprintf(seen.f, "%s\n", e.message);
        /* Whose it is. */
        assert_non_null(strstr(e.message, " (uid 1, 2M)"));
        sd_bus_error_free(&e);
}

static bool concealed(uid_t uid, const char *lease) {
        sd_bus *b = uid == 0 ? bed_connect() : bed_connect_as(uid, GROUP);
        int v;

        assert_true(sd_bus_get_property_trivial(b, EGM_BUS_NAME, lease, EGM_LEASE_INTERFACE,
                                                "Concealed", NULL, 'b', &v) >= 0);
        sd_bus_flush_close_unref(b);
        return v;
}

static void test_life(void **state) {
        uint64_t size = bed_get_u64(bus, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "Size");
        sd_bus *owner = bed_connect_as(OWNER, GROUP), *waiter = bed_connect_as(OWNER, GROUP);
        static const uid_t readers[] = {0, OWNER};
        sd_bus_message *m, *reply;
        int keep, status;
        Granted g;
        pid_t pid;

        m = acquire(owner, SIZE, LABEL, 0);
        assert_true(sd_bus_call(owner, m, 0, NULL, &reply) >= 0);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        (void) snprintf(pid_text, sizeof(pid_text), "UINT32 %d;", (int) getpid());
        look(g.path, "granted");
        for (size_t i = 0; i < ELEMENTSOF(readers); i++) {
                must_see(readers[i], g.path, LABEL, "granted");
                must_see(readers[i], g.path, pid_text, "granted");
                assert_false(concealed(readers[i], g.path));
        }
        assert_true(concealed(WATCHER, g.path));

        pid = start_user(g.memory, g.offset, &keep);
        bind_to(owner, g.path, pid);
        (void) snprintf(pid_text, sizeof(pid_text), "UINT32 %d;", (int) pid);
        look(g.path, "bound");
        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                must_see(readers[i], g.path, pid_text, "bound");

        m = acquire(waiter, size, WAITER_LABEL, 3600 * USEC_PER_SEC);
        assert_true(sd_bus_send(waiter, m, &(uint64_t){0}) >= 0);
        assert_true(sd_bus_flush(waiter) >= 0);
        sd_bus_message_unref(m);
        bed_wait(bus, somebody_waits, NULL, "a request to wait");
        look(g.path, "waiting");
        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                must_see(readers[i], g.path, WAITER_LABEL, "waiting");
        for (size_t i = 0; i < ELEMENTSOF(readers); i++) {
                must_see_at_once(readers[i], EGM_PATH, PROPERTIES, "Get", EGM_MANAGER_INTERFACE,
                                 "Waiting", WAITER_LABEL);
                must_see_at_once(readers[i], EGM_PATH, PROPERTIES, "GetAll", EGM_MANAGER_INTERFACE,
                                 NULL, WAITER_LABEL);
                must_see_at_once(readers[i], EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                 "GetManagedObjects", NULL, NULL, LABEL);
                must_see_at_once(readers[i], g.path, PROPERTIES, "GetAll", EGM_LEASE_INTERFACE,
                                 NULL, LABEL);
                must_see_at_once(readers[i], g.path, PROPERTIES, "Get", EGM_LEASE_INTERFACE,
                                 "Label", LABEL);
        }
        watcher_is_refused(size);
        sd_bus_flush_close_unref(waiter);
        bed_wait(bus, nobody_waits, NULL, "the request to be gone");

        bed_close(&g.lifetime);
        bed_close(&g.memory);
        assert_true(sd_bus_call_method(owner, EGM_BUS_NAME, g.path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
        bed_wait(bus, held_up, g.path, "the lease to be held up");
        look(g.path, "held up");
        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                must_see(readers[i], g.path, COMM, "held up");
        (void) close(keep);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
        look(g.path, "over");
        /* Or it proves nothing. */
        assert_true(seen.n_signals > 0);
        assert_non_null(strstr(seen.text, "InterfacesAdded"));
        assert_non_null(strstr(seen.text, "HolderPid"));
        assert_non_null(strstr(seen.text, "HeldUpBy"));
        assert_non_null(strstr(seen.text, "InterfacesRemoved"));
        sd_bus_flush_close_unref(owner);
}

static int setup(void **state) {
        bus = bed_new();
        record_begin(&seen);
        watcher = bed_connect_as(WATCHER, GROUP);
        assert_true(sd_bus_add_match(watcher, NULL, "type='signal',sender='" EGM_BUS_NAME "'",
                                     on_message, &seen) >= 0);
        return 0;
}

static int teardown(void **state) {
        watcher = sd_bus_flush_close_unref(watcher);
        bus = sd_bus_flush_close_unref(bus);
        record_done(&seen);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_life),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
