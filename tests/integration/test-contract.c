/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-contract CHECK XML: the objects that a host shows (manager, region, lease), each introspected, go to the checker
 * that compares them with the contract. */

#include "bed.h"

#include <sys/wait.h>

#include "fd-util.h"

static char **arguments;

static void introspect(sd_bus *bus, const char *path, const char *file) {
        sd_bus_message *reply = NULL;
        const char *xml;
        FILE *f = fopen(file, "we");

        assert_non_null(f);
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, path,
                                       "org.freedesktop.DBus.Introspectable", "Introspect", NULL,
                                       &reply, NULL) >= 0);
        assert_true(sd_bus_message_read(reply, "s", &xml) > 0);
        assert_true(fputs(xml, f) >= 0);
        assert_int_equal(fclose(f), 0);
        sd_bus_message_unref(reply);
}

static void test_contract(void **state) {
        static const char *const files[] = {"manager.xml", "region.xml", "lease.xml"};
        char dir[] = "/tmp/egmd-contract.XXXXXX";
        sd_bus *bus = bed_new();
        Granted g = bed_acquire(bus, "egm4", 2 * MIB, "descriptor");
        int status;
        pid_t pid;

        assert_non_null(mkdtemp(dir));
        assert_int_equal(chdir(dir), 0);
        introspect(bus, EGM_PATH, files[0]);
        introspect(bus, EGM_REGION_PATH "/egm5", files[1]);
        introspect(bus, g.path, files[2]);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void) execlp("python3", "python3", arguments[1], arguments[2], files[0], files[1],
                              files[2], NULL);
                _exit(127);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                (void) unlink(files[i]);
        assert_int_equal(chdir("/"), 0);
        (void) rmdir(dir);
        assert_int_equal(status, 0);
        bed_close(&g.lifetime);
        bed_close(&g.memory);
        sd_bus_flush_close_unref(bus);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_contract)};

        if (argc != 3)
                return 2;
        arguments = argv;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
