/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Dma-bufs of leases: who gets them, and what waits for them. The daemon is started here, so that it can be killed. What it
 * hands out are the simulation's stand-ins: files of their own. egm4 has a driver that exports, egm5 has one that does not. */

#include "bed.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "egm.h"
#include "fd-util.h"

#define SIZE (4 * MIB)
#define NOT_SUPPORTED SD_BUS_ERROR_NOT_SUPPORTED

static const char *egmd;
static char directory[64];
static pid_t pid;
static uint64_t slice = SIZE;
static sd_bus *bus;

static void put(const char *name, const char *text) {
        char path[128];
        FILE *f;

        (void) snprintf(path, sizeof(path), "%s/%s", directory, name);
        f = fopen(path, "we");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static bool is_ready(sd_bus *b, const void *arg) {
        _cleanup_free_ char *state = NULL;

        return bed_get_string(b, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "State", &state) >=
                               0 &&
               (arg || streq(state, "ready")); /* arg: any will do */
}

static void start_any(const char *config, bool any) {
        char simulate[128], file[128], address[256];

        (void) snprintf(simulate, sizeof(simulate), "--simulate=%s/machine", directory);
        (void) snprintf(file, sizeof(file), "--config=%s/egmd.conf", directory);
        (void) snprintf(address, sizeof(address), "--bus=%s", getenv("EGM_TEST_BUS"));
        put("egmd.conf", config);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) setenv("RUNTIME_DIRECTORY", directory, 1);
                (void) execl(egmd, egmd, simulate, file, address, NULL);
                _exit(127);
        }
        bed_wait(bus, is_ready, any ? config : NULL, "egm4 to be ready");
}

static void start(const char *config) {
        start_any(config, strstr(config, "RequireEnforcement"));
}

static bool is_gone(sd_bus *b, const void *arg) {
        return sd_bus_get_name_creds(b, EGM_BUS_NAME, 0, NULL) < 0;
}

static void stop(int sig) {
        int status;

        assert_int_equal(kill(pid, sig), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(sig == SIGKILL || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        bed_wait(bus, is_gone, NULL, "the daemon to go");
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return 0;
}

static int setup(void **state) {
        (void) snprintf(directory, sizeof(directory), "/tmp/egm-dmabuf-XXXXXX");
        assert_non_null(mkdtemp(directory));
        put("machine", "{\"regions\":[{\"name\":\"egm4\",\"size\":\"64M\",\"variant\":\"D\","
                       "\"retired\":[{\"offset\":\"32M\",\"size\":\"64K\"}]},"
                       "{\"name\":\"egm5\",\"size\":\"64M\"}]}");
        bus = bed_connect();
        assert_true(sd_bus_add_match(bus, NULL, "type='signal'", on_signal, NULL) >= 0);
        return 0;
}

static int teardown(void **state) {
        char command[128];

        bus = sd_bus_flush_close_unref(bus);
        (void) snprintf(command, sizeof(command), "rm -rf %s", directory);
        return system(command);
}

/* The error's name, or NULL with the lease. */
static char *acquire(const char *region, bool dmabuf, Granted *ret) {
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        char *name = NULL;

        /* It may have to be scrubbed first. */
        assert_true(sd_bus_message_append(m, "a{sv}", 3, "Slices", "aa{sv}", 1, 3, "Size", "t",
                                          slice, "Region", "s", region, "Retired", "s", "include",
                                          "Dmabuf", "b", (int) dmabuf, "WaitUSec", "t",
                                          60 * USEC_PER_SEC) >= 0);
        if (sd_bus_call(bus, m, 0, &e, &reply) < 0) {
                assert_non_null(e.message);
                if (streq(region, "egm5"))
                        assert_non_null(strstr(e.message, "egm5 (sim)"));
                name = strdup(e.name);
        } else
                bed_read_granted(reply, ret);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        return name;
}

static Granted granted(bool dmabuf) {
        Granted g;

        assert_null(acquire("egm4", dmabuf, &g));
        return g;
}

static int export_as(sd_bus *b, const Granted *g, char **ret_error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *region;
        int fd = -EBADF;

        *ret_error = NULL;
        if (sd_bus_call_method(b, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "ExportDmabuf", &e,
                               &reply, "") < 0)
                *ret_error = strdup(e.name);
        else {
                assert_true(sd_bus_message_enter_container(reply, 'a', "(sh)") > 0);
                assert_true(sd_bus_message_read(reply, "(sh)", &region, &fd) > 0);
                assert_string_equal(region, g->region);
                fd = fd_copy(fd);
                assert_true(fd >= 0);
                assert_int_equal(sd_bus_message_at_end(reply, false), 1);
        }
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
        return fd;
}

static int export(const Granted *g) {
        char *error;
        int fd = export_as(bus, g, &error);

        if (error)
                fail_msg("%s", error);
        return fd;
}

static void expect_refused(sd_bus *b, const Granted *g, const char *name) {
        _cleanup_free_ char *error = NULL;

        assert_int_equal(export_as(b, g, &error), -EBADF);
        assert_non_null(error);
        assert_string_equal(error, name);
}

static void expect_state(const Granted *g, const char *wanted) {
        _cleanup_free_ char *state = NULL;

        assert_int_equal(bed_get_string(bus, g->path, EGM_LEASE_INTERFACE, "State", &state), 0);
        assert_string_equal(state, wanted);
}

/* It has been looked at, and somebody is named. */
static bool is_held_up(sd_bus *b, const void *arg) {
        const Granted *g = arg;
        sd_bus_message *reply = NULL;
        bool held;

        assert_true(sd_bus_get_property(b, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "HeldUpBy",
                                        NULL, &reply, "a(usst)") >= 0);
        assert_true(sd_bus_message_enter_container(reply, 'a', "(usst)") > 0);
        held = sd_bus_message_at_end(reply, false) == 0;
        sd_bus_message_unref(reply);
        return held;
}

static bool is_over(sd_bus *b, const void *arg) {
        char *state = NULL;
        int r = bed_get_string(b, ((const Granted *) arg)->path, EGM_LEASE_INTERFACE, "State",
                               &state);

        free(state);
        return r < 0;
}

static void drop(Granted *g) {
        bed_close(&g->lifetime);
        bed_close(&g->memory);
}

static void test_export(void **state) {
        Granted g, other;
        struct stat a, b;
        char *isolation;
        int one, two;

        start("[Egmd]\nDmabufAllowed=yes\n");
        slice = 60 * MIB;
        g = granted(true);
        slice = SIZE;
        assert_int_equal(bed_get_string(bus, g.path, EGM_LEASE_INTERFACE, "Isolation", &isolation),
                         0);
        assert_string_equal(isolation, "cooperative");
        free(isolation);
        one = export(&g);
        two = export(&g);
        assert_int_equal(fstat(one, &a), 0);
        assert_int_equal(fstat(two, &b), 0);
        assert_true(a.st_ino != b.st_ino);
        /* Without the retired page. */
        assert_int_equal(a.st_size, 60 * MIB - 64 * KIB);

        other = granted(false);
        expect_refused(bus, &other, NOT_SUPPORTED);
        drop(&other);
        bed_wait(bus, is_over, &other, "the other one's end");

        /* Each one that is left holds it up, and only that. */
        drop(&g);
        bed_wait(bus, is_held_up, &g, "somebody to be named");
        expect_state(&g, "draining");
        expect_refused(bus, &g, EGM_ERROR_PREFIX "Draining");
        bed_close(&one);
        other = granted(true);
        drop(&other);
        bed_wait(bus, is_over, &other, "one without a dma-buf to end");
        expect_state(&g, "draining");
        bed_close(&two);
        bed_wait(bus, is_over, &g, "its end");
        stop(SIGTERM);
}

static void test_limit(void **state) {
        int fds[32];
        Granted g;

        start("[Egmd]\nDmabufAllowed=yes\n");
        g = granted(true);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = export(&g);
        expect_refused(bus, &g, "org.freedesktop.DBus.Error.LimitsExceeded");
        drop(&g);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                expect_state(&g, "draining");
                bed_close(fds + i);
        }
        bed_wait(bus, is_over, &g, "its end");
        stop(SIGTERM);
}

static void test_refused(void **state) {
        static const char *const off[] = {"", "[Egmd]\nDmabufAllowed=no\n",
                                          "[Egmd]\nDmabufAllowed=yes\nRequireEnforcement=yes\n"};
        sd_bus *stranger;
        Granted g;
        char *error;

        for (size_t i = 0; i < ELEMENTSOF(off); i++) {
                start(off[i]);
                error = acquire("egm4", true, &g);
                assert_non_null(error);
                assert_string_equal(error, NOT_SUPPORTED);
                free(error);
                assert_int_equal(bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount"),
                                 0);
                stop(SIGTERM);
        }
        start("[Egmd]\nDmabufAllowed=yes\n");
        error = acquire("egm5", true, &g);
        assert_non_null(error);
        assert_string_equal(error, NOT_SUPPORTED);
        free(error);
        assert_int_equal(bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount"), 0);
        g = granted(true);
        if (getuid() == 0) {
                char path[128];

                /* The bus is in a directory of root's. */
                (void) snprintf(path, sizeof(path), "%s",
                                strchr(getenv("EGM_TEST_BUS"), '/') ?: "/");
                path[strcspn(path, ",")] = '\0';
                *strrchr(path, '/') = '\0';
                assert_int_equal(chmod(path, 0711), 0);
                stranger = bed_connect_as(65534, 65534);
                expect_refused(stranger, &g, EGM_ERROR_PREFIX "NotHolder");
                sd_bus_flush_close_unref(stranger);
        }
        drop(&g);
        bed_wait(bus, is_over, &g, "its end");
        stop(SIGTERM);
}

/* The record came before the dma-buf, so the next daemon waits for it as well. */
static void test_restart(void **state) {
        Granted g, kept;
        int fd, again;

        for (int released = 0; released < 2; released++) {
                start("[Egmd]\nDmabufAllowed=yes\n");
                kept = granted(false); /* by which the next one has the region */
                g = granted(true);
                fd = export(&g);
                if (released) {
                        drop(&g);
                        bed_wait(bus, is_held_up, &g, "somebody to be named");
                }
                stop(SIGKILL);
                start("[Egmd]\nDmabufAllowed=yes\n");
                if (!released) {
                        expect_state(&g, "active");
                        again = export(&g);
                        bed_close(&again);
                        drop(&g);
                }
                bed_wait(bus, is_held_up, &g, "somebody to be named");
                expect_state(&g, "draining");
                bed_close(&fd);
                bed_wait(bus, is_over, &g, "its end");
                drop(&kept);
                bed_wait(bus, is_over, &kept, "the other one's end");
                stop(SIGTERM);
        }
}

static bool is_held_elsewhere(sd_bus *b, const void *arg) {
        _cleanup_free_ char *state = NULL;

        return bed_get_string(b, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE, "State", &state) >=
                               0 &&
               streq(state, "held-elsewhere");
}

/* A dma-buf keeps the driver from nothing: once nobody has the region open it would be opened, and lent, under it. */
static void test_lost(void **state) {
        Granted g;
        int fd;

        start("[Egmd]\nDmabufAllowed=yes\n");
        g = granted(true);
        fd = export(&g);
        bed_close(&g.memory);
        for (int i = 0; i < 2; i++) {
                stop(SIGKILL);
                start_any("[Egmd]\nDmabufAllowed=yes\n", true);
                bed_wait(bus, is_held_elsewhere, NULL, "the dma-buf to be found");
                expect_state(&g, "lost");
                expect_refused(bus, &g, EGM_ERROR_PREFIX "Draining");
                bed_close(&g.lifetime);
        }
        bed_close(&fd);
        bed_wait(bus, is_ready, NULL, "egm4 to be ready");
        bed_wait(bus, is_over, &g, "its end");
        stop(SIGTERM);
}

static void test_library(void **state) {
        egm_connection *c = NULL;
        egm_request *q = NULL;
        egm_lease *l = NULL;
        struct stat st;
        int fds[2];

        start("[Egmd]\nDmabufAllowed=yes\n");
        assert_int_equal(egm_connection_new(getenv("EGM_TEST_BUS"), &c), 0);
        assert_int_equal(egm_request_new(&q), 0);
        assert_int_equal(egm_request_add_slice(q, SIZE), 0);
        assert_int_equal(egm_request_set_slice_region(q, 0, "egm4"), 0);
        assert_int_equal(egm_request_add_slice(q, 2 * SIZE), 1);
        assert_int_equal(egm_request_set_slice_region(q, 1, "egm4"), 0);
        assert_int_equal(egm_request_set_wait(q, 60 * USEC_PER_SEC), 0);
        assert_int_equal(egm_acquire(c, q, &l), 0);
        assert_int_equal(egm_lease_export_dmabuf(l, fds), -EOPNOTSUPP);
        egm_lease_unref(l);
        assert_int_equal(egm_request_set_dmabuf(q, 1), 0);
        assert_int_equal(egm_acquire(c, q, &l), 0);
        assert_int_equal(egm_lease_export_dmabuf(l, NULL), -EINVAL);
        assert_int_equal(egm_lease_export_dmabuf(l, fds), 0);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(fstat(fds[i], &st), 0);
                assert_int_equal(st.st_size, (i + 1) * SIZE);
                assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
                safe_close(fds[i]);
        }
        egm_lease_unref(l);
        egm_request_unref(q);
        egm_connection_unref(c);
        stop(SIGTERM);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_export),  cmocka_unit_test(test_limit),
                        cmocka_unit_test(test_refused), cmocka_unit_test(test_restart),
                        cmocka_unit_test(test_lost),    cmocka_unit_test(test_library),
        };

        assert_int_equal(argc, 2);
        egmd = argv[1];
        return cmocka_run_group_tests(tests, setup, teardown);
}
