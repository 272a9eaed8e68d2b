/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/mman.h>

#include "../unit/test.h"

#include "egm.h"
#include "fd-util.h"

/* The lease that `egmctl run` leaves to its child. */

static int new_memory(void) {
        int fd = memfd_create("memory", 0);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t) (8 * MIB)), 0);
        return fd;
}

static void set_environment(const char *id, const char *lifetime, const char *slices) {
        static const char *const names[] = {"EGM_LEASE", "EGM_LIFETIME_FD", "EGM_SLICES"};
        const char *values[] = {id, lifetime, slices};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (values[i])
                        assert_int_equal(setenv(names[i], values[i], 1), 0);
                else
                        assert_int_equal(unsetenv(names[i]), 0);
}

static void test_bad_environment(void **state) {
        char lifetime[16], once[64], twice[160], large[64];
        const char *const table[][3] = {
                        {"7", NULL, once},        {"7", lifetime, NULL},
                        {"7", lifetime, ""},      {"7", lifetime, "x"},
                        {"7", lifetime, "3:a:0"}, {"7", lifetime, "999:egm4:0:4096"},
                        {"7", lifetime, twice},   {"7", lifetime, large},
                        {"7/", lifetime, once},   {"7", "-1", once},
                        {"7", "999", once},
        };
        _cleanup_close_ int memory = new_memory();
        egm_lease *l = NULL;
        int fds[2];

        set_environment(NULL, NULL, NULL);
        assert_int_equal(egm_lease_new_from_environment(0, &l), -ENXIO);

        assert_int_equal(pipe(fds), 0);
        (void) snprintf(lifetime, sizeof(lifetime), "%d", fds[1]);
        (void) snprintf(once, sizeof(once), "%d:egm4:1048576:2097152", memory);
        (void) snprintf(twice, sizeof(twice), "%s %d:egm4:4194304:4096", once, memory);
        (void) snprintf(large, sizeof(large), "%d:egm4:1048576:8388608", memory);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                set_environment(table[i][0], table[i][1], table[i][2]);
                assert_int_equal(egm_lease_new_from_environment(1, &l), -EBADMSG);
                assert_non_null(getenv("EGM_LEASE"));
                /* Nothing was taken. */
                assert_int_equal(fcntl(memory, F_GETFD), 0);
                assert_int_equal(fcntl(fds[1], F_GETFD), 0);
        }
        close(fds[0]);
        close(fds[1]);
}

static void test_environment(void **state) {
        int memory = new_memory(), fds[2];
        char slices[64], lifetime[16];
        egm_lease *l = NULL;
        void *p = NULL;

        assert_int_equal(pipe(fds), 0);
        (void) snprintf(lifetime, sizeof(lifetime), "%d", fds[1]);
        (void) snprintf(slices, sizeof(slices), "%d:egm4:1048576:2097152", memory);
        set_environment("7", lifetime, slices);
        assert_int_equal(egm_lease_new_from_environment(1, &l), 0);
        assert_null(getenv("EGM_SLICES"));
        assert_int_equal(fcntl(memory, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC);
        assert_string_equal(egm_lease_get_id(l), "7");
        assert_int_equal(egm_lease_count_retired_ranges(l, 0), -ENODATA);
        assert_int_equal(egm_lease_map(l, 0, 0, 4096, PROT_READ, 0, &p), 0);
        munmap(p, 4096);
        assert_int_equal(egm_lease_map(l, 0, 2 * MIB, 4096, PROT_READ, 0, &p), -ERANGE);
        assert_int_equal(egm_lease_bind(l, 0), -ENOTCONN);
        assert_int_equal(egm_lease_admit(l, 0), -ENOTCONN);
        assert_int_equal(egm_lease_release(l), 0);
        assert_int_equal(fcntl(memory, F_GETFD), -1);
        assert_int_equal(fcntl(fds[1], F_GETFD), -1);
        egm_lease_unref(l);
        close(fds[0]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_bad_environment),
                        cmocka_unit_test(test_environment),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
