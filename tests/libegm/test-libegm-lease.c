/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../unit/test.h"

#include "lease-bed.h"

/* Leases: asking, the descriptors' lives, mapping, and answers that no correct daemon gives. */

static void test_request(void **state) {
        _cleanup_close_ int pidfd = (int) syscall(SYS_pidfd_open, getpid(), 0);
        egm_connection *c = connect_fake();
        egm_request *r = NULL;
        egm_lease *l = NULL;

        assert_int_equal(egm_request_new(NULL), -EINVAL);
        assert_int_equal(egm_request_new(&r), 0);
        assert_int_equal(egm_request_add_slice(NULL, 1), -EINVAL);
        assert_int_equal(egm_request_set_slice_node(r, 0, 1), -EINVAL);
        assert_int_equal(egm_request_add_slice(r, 2 * MIB), 0);
        assert_int_equal(egm_request_add_whole_slice(r), 1);
        assert_int_equal(egm_request_set_slice_gpu(r, 2, "x"), -EINVAL);
        assert_int_equal(egm_request_set_slice_region(r, 0, "egm5"), 0);
        assert_int_equal(egm_request_set_slice_region(r, 0, "egm4"), 0);
        assert_int_equal(egm_request_set_slice_gpu(r, 0, "0009:01:00.0"), 0);
        assert_int_equal(egm_request_set_slice_node(r, 0, -1), 0);
        assert_int_equal(egm_request_set_slice_socket(r, 0, 1), 0);
        assert_int_equal(egm_request_set_slice_align(r, 0, GIB), 0);
        assert_int_equal(egm_request_set_slice_include_retired(r, 0, 1), 0);
        assert_int_equal(egm_request_set_label(r, "vm \xc3\xa9"), 0);
        assert_int_equal(egm_request_set_persistent(r, 1), 0);
        assert_int_equal(egm_request_set_holder(r, pidfd), 0);
        assert_int_equal(egm_request_set_wait(r, 5), 0);

        fake.n_slices = 2;
        fake.slices[1] = (FakeSlice){"egm5", FAKE_MEMORY, 0, 8 * MIB};
        assert_int_equal(egm_acquire(c, r, &l), 0);
        assert_string_equal(fake.request,
                            "[Slices [[Size 2097152   Region egm4   Gpu 0009:01:00.0   Node i-1   "
                            "Socket i1   "
                            "Align 1073741824   Retired include   ] [Whole b1   ] ]   "
                            "Label vm \xc3\xa9   Lifetime persistent   Holder h0   WaitUSec 5   ]");
        egm_lease_unref(l);

        /* Not UTF-8: refused here, with words. */
        assert_int_equal(egm_request_set_label(r, "\xff"), 0);
        assert_int_equal(egm_acquire(c, r, &l), -EINVAL);
        assert_non_null(egm_connection_get_error_message(c));

        /* Nothing set: nothing sent. */
        egm_request_unref(r);
        assert_int_equal(egm_request_new(&r), 0);
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        assert_string_equal(fake.request, "[Slices []   ]");
        egm_request_unref(r);
        egm_connection_unref(c);
}

static void test_acquire(void **state) {
        egm_connection *c = connect_fake();
        egm_lease *l = acquire(c);
        const char *region;
        uint64_t offset, size;
        int fd;

        assert_string_equal(egm_lease_get_id(l), "7");
        assert_string_equal(egm_lease_get_path(l), "/org/nvidia/Egm1/lease/7");
        assert_int_equal(egm_lease_count_slices(l), 1);
        assert_int_equal(egm_lease_get_slice(l, 0, &region, &fd, &offset, &size), 0);
        assert_string_equal(region, "egm4");
        assert_int_equal(offset, MIB);
        assert_int_equal(size, 2 * MIB);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fcntl(egm_lease_get_lifetime_fd(l), F_GETFD), FD_CLOEXEC);
        assert_int_equal(egm_lease_get_slice(l, 1, NULL, NULL, NULL, NULL), -EINVAL);

        /* Clipped to the slice and counted from its start; other regions' pages are not its. */
        assert_int_equal(egm_lease_count_retired_ranges(l, 0), 2);
        assert_int_equal(egm_lease_get_retired_range(l, 0, 0, &offset, &size), 0);
        assert_int_equal(offset, 0);
        assert_int_equal(size, 4096);
        assert_int_equal(egm_lease_get_retired_range(l, 0, 1, &offset, &size), 0);
        assert_int_equal(offset, MIB);
        assert_int_equal(size, 65536);
        assert_int_equal(egm_lease_get_retired_range(l, 0, 2, &offset, &size), -EINVAL);
        assert_int_equal(egm_lease_count_retired_ranges(l, 1), -EINVAL);
        egm_lease_unref(l);
        egm_connection_unref(c);
}

static void test_interactive(void **state) {
        egm_connection *c = connect_fake();

        assert_int_equal(egm_connection_set_interactive(NULL, 1), -EINVAL);
        for (int i = 0; i < 3; i++) {
                egm_lease_unref(acquire(c));
                assert_int_equal(fake.interactive, i % 2);
                assert_int_equal(egm_connection_set_interactive(c, !(i % 2)), 0);
        }
        egm_connection_unref(c);
}

static void test_lifetime(void **state) {
        egm_connection *c = connect_fake();
        egm_lease *l;
        int fd;

        /* Ends with the object… */
        l = acquire(c);
        assert_false(lifetime_ended(0));
        egm_lease_ref(l);
        egm_lease_unref(l);
        assert_false(lifetime_ended(0));
        egm_lease_unref(l);
        assert_true(lifetime_ended(10000));
        assert_int_equal(fake.n_released, 0);

        /* …unless the descriptor was taken: then it is the caller's, once. */
        l = acquire(c);
        fd = egm_lease_take_lifetime_fd(l);
        assert_true(fd >= 0);
        assert_int_equal(egm_lease_take_lifetime_fd(l), -EBADF);
        assert_int_equal(egm_lease_get_lifetime_fd(l), -EBADF);
        egm_lease_unref(l);
        assert_false(lifetime_ended(0));
        safe_close(fd);
        assert_true(lifetime_ended(10000));

        /* Release tells the daemon and lets go of everything. */
        l = acquire(c);
        assert_int_equal(egm_lease_release(l), 0);
        assert_true(lifetime_ended(10000));
        assert_string_equal(fake.released, "/org/nvidia/Egm1/lease/7");
        assert_int_equal(egm_lease_get_slice(l, 0, NULL, &fd, NULL, NULL), 0);
        assert_int_equal(fd, -EBADF);
        egm_lease_unref(l);

        /* Also when the daemon says no. */
        l = acquire(c);
        fake.error_name = "org.nvidia.Egm1.Error.NotHolder";
        assert_int_equal(egm_lease_release(l), -EPERM);
        assert_true(lifetime_ended(10000));
        egm_lease_unref(l);
        egm_connection_unref(c);
}

/* The lease keeps the connection, so the order of unrefs does not matter. */
static void test_lease_outlives_connection(void **state) {
        egm_connection *c = connect_fake();
        egm_lease *l = acquire(c);

        egm_connection_unref(c);
        assert_int_equal(egm_lease_release(l), 0);
        egm_lease_unref(l);
}

static void test_bind_and_reopen(void **state) {
        _cleanup_close_ int pidfd = (int) syscall(SYS_pidfd_open, getpid(), 0);
        egm_connection *c = connect_fake();
        egm_lease *l = acquire(c);

        assert_int_equal(egm_lease_bind(l, -1), -EINVAL);
        assert_int_equal(egm_lease_bind(l, pidfd), 0);
        assert_string_equal(fake.bound, "/org/nvidia/Egm1/lease/7");
        assert_true(fcntl(pidfd, F_GETFD) >= 0);
        assert_int_equal(egm_bind(c, "8", pidfd), 0);
        assert_string_equal(fake.bound, "/org/nvidia/Egm1/lease/8");
        assert_int_equal(egm_lease_admit(l, -1), -EINVAL);
        assert_null(fake.admitted);
        assert_int_equal(egm_lease_admit(l, pidfd), 0);
        assert_string_equal(fake.admitted, "/org/nvidia/Egm1/lease/7");
        egm_lease_unref(l);

        assert_int_equal(egm_reopen(c, "9", &l), 0);
        assert_string_equal(egm_lease_get_id(l), "9");
        assert_int_equal(egm_lease_count_slices(l), 1);
        assert_int_equal(egm_lease_count_retired_ranges(l, 0), 2);
        egm_lease_unref(l);
        fake.slices[0].size = 3;
        assert_int_equal(egm_reopen(c, "9", &l), -EBADMSG);
        fake.error_name = "org.nvidia.Egm1.Error.NotHolder";
        assert_int_equal(egm_reopen(c, "9", &l), -EPERM);
        egm_connection_unref(c);
}

static void test_map(void **state) {
        static const struct {
                uint64_t offset, size;
                int prot, flags, r;
        } table[] = {
                        {0, 2 * MIB, PROT_READ, 0, 0},
                        {0, 2 * MIB, PROT_WRITE, MAP_SHARED, 0},
                        {MIB, MIB, PROT_READ | PROT_WRITE, MAP_POPULATE, 0},
                        {2 * MIB - 4096, 4096, PROT_READ, 0, 0},
                        {0, 2 * MIB + 4096, PROT_READ, 0, -ERANGE},
                        {2 * MIB, 4096, PROT_READ, 0, -ERANGE},
                        {4096, 2 * MIB, PROT_READ, 0, -ERANGE},
                        {UINT64_MAX - 4095, 4096, PROT_READ, 0, -ERANGE},
                        {UINT64_MAX - 4095, 8192, PROT_READ, 0, -ERANGE},
                        {4096, UINT64_MAX - 4095, PROT_READ, 0, -ERANGE},
                        {0, UINT64_MAX - 4095, PROT_READ, 0, -ERANGE},
                        {0, 0, PROT_READ, 0, -EINVAL},
                        {1, 4096, PROT_READ, 0, -EINVAL},
                        {0, 4095, PROT_READ, 0, -EINVAL},
                        {0, 4096, PROT_NONE, 0, -EINVAL},
                        {0, 4096, PROT_READ | PROT_EXEC, 0, -EINVAL},
                        {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, -EINVAL},
                        {0, 4096, PROT_READ, MAP_SHARED_VALIDATE, -EINVAL},
                        {0, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, -EINVAL},
                        {0, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -EINVAL},
        };
        egm_connection *c = connect_fake();
        egm_lease *l = acquire(c);
        void *p;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                p = (void *) 0x1;
                assert_int_equal(egm_lease_map(l, 0, table[i].offset, table[i].size, table[i].prot,
                                               table[i].flags, &p),
                                 table[i].r);
                if (table[i].r < 0)
                        assert_ptr_equal(p, (void *) 0x1);
                else
                        assert_int_equal(munmap(p, table[i].size), 0);
        }
        assert_int_equal(egm_lease_map(l, 1, 0, 4096, PROT_READ, 0, &p), -EINVAL);
        assert_int_equal(egm_lease_map(NULL, 0, 0, 4096, PROT_READ, 0, &p), -EINVAL);
        safe_close(egm_lease_take_slice_fd(l, 0));
        assert_int_equal(egm_lease_map(l, 0, 0, 4096, PROT_READ, 0, &p), -EBADF);
        egm_lease_unref(l);
        egm_connection_unref(c);
}

/* What is written through a mapping is in the slice, and nothing else is. */
static void test_map_lands(void **state) {
        egm_connection *c = connect_fake();
        egm_lease *l = acquire(c);
        unsigned char *all, *p = NULL;
        void *q = NULL;

        assert_int_equal(egm_lease_map(l, 0, 65536, 65536, PROT_READ | PROT_WRITE, 0, &q), 0);
        p = q;
        /* The mapping outlives the lease. */
        assert_int_equal(egm_lease_release(l), 0);
        memset(p, 0x5a, 65536);
        all = mmap(NULL, FAKE_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fake.memory_fd, 0);
        assert_ptr_not_equal(all, MAP_FAILED);
        for (size_t i = 0; i < FAKE_MEMORY_SIZE; i++)
                if (all[i] != (i >= MIB + 65536 && i < MIB + 131072 ? 0x5a : 0))
                        fail_msg("byte %zu is %u", i, all[i]);
        memset(all, 0, FAKE_MEMORY_SIZE);
        munmap(all, FAKE_MEMORY_SIZE);
        munmap(p, 65536);
        egm_lease_unref(l);
        egm_connection_unref(c);
}

/* Grants that would make us map what is not ours, or nothing at all. Each is refused, given back, and leaves no descriptor. */
static void test_bad_grants(void **state) {
        static const struct {
                const char *what;
                FakeFd lifetime;
                FakeSlice slice, second;
        } table[] = {
                        {"overflow", 0, {"egm4", FAKE_MEMORY, UINT64_MAX - MIB + 1, 2 * MIB}, {}},
                        {"beyond off_t",
                         0,
                         {"egm4", FAKE_DEVICE, INT64_MAX - MIB + 1, 2 * MIB},
                         {}},
                        {"device, overflow",
                         0,
                         {"egm4", FAKE_DEVICE, UINT64_MAX - MIB + 1, 2 * MIB},
                         {}},
                        {"past the file", 0, {"egm4", FAKE_MEMORY, 7 * MIB, 2 * MIB}, {}},
                        {"offset not of pages", 0, {"egm4", FAKE_MEMORY, MIB + 1, 2 * MIB}, {}},
                        {"another size", 0, {"egm4", FAKE_MEMORY, MIB, 4 * MIB}, {}},
                        {"size 0", 0, {"egm4", FAKE_MEMORY, MIB, 0}, {}},
                        {"another region", 0, {"egm5", FAKE_MEMORY, MIB, 2 * MIB}, {}},
                        {"no name", 0, {"", FAKE_MEMORY, MIB, 2 * MIB}, {}},
                        {"read-only", 0, {"egm4", FAKE_MEMORY_RDONLY, MIB, 2 * MIB}, {}},
                        {"pipe as memory", 0, {"egm4", FAKE_PIPE, MIB, 2 * MIB}, {}},
                        {"directory as memory", 0, {"egm4", FAKE_DIRECTORY, MIB, 2 * MIB}, {}},
                        {"memory as lifetime",
                         FAKE_MEMORY,
                         {"egm4", FAKE_MEMORY, MIB, 2 * MIB},
                         {}},
                        {"one too many",
                         0,
                         {"egm4", FAKE_MEMORY, 0, 2 * MIB},
                         {"egm4", FAKE_MEMORY, 2 * MIB, 2 * MIB}},
        };
        egm_connection *c = connect_fake();
        egm_request *r = new_request();
        egm_lease *l = (egm_lease *) 0x1;

        assert_int_equal(egm_request_set_slice_region(r, 0, "egm4"), 0);
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                unsigned before;

                fake_reset(&fake);
                fake.lifetime = table[i].lifetime;
                fake.slices[0] = table[i].slice;
                fake.slices[1] = table[i].second;
                fake.n_slices = table[i].second.region ? 2 : 1;
                before = count_fds();
                if (egm_acquire(c, r, &l) != -EBADMSG)
                        fail_msg("%s: not refused", table[i].what);
                assert_ptr_equal(l, (void *) 0x1);
                if (table[i].lifetime == FAKE_LIFETIME)
                        assert_true(lifetime_ended(10000));
                /* The fake keeps the reading end. */
                assert_int_equal(count_fds() - (fake.lifetime_fd >= 0), before);
                /* The daemon was told as well, for persistent ones: in order before any later call. */
                assert_int_equal(egm_release(c, "0"), 0);
                assert_int_equal(fake.n_released, 2);
        }
        egm_request_unref(r);
        egm_connection_unref(c);
}

static void test_overlap(void **state) {
        egm_connection *c = connect_fake();
        egm_request *r = new_request();
        egm_lease *l = NULL;

        assert_int_equal(egm_request_add_slice(r, 2 * MIB), 1);
        fake.n_slices = 2;
        fake.slices[1] = (FakeSlice){"egm4", FAKE_MEMORY, 3 * MIB - 65536, 2 * MIB};
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        fake.slices[1].region = "egm5";
        assert_int_equal(egm_acquire(c, r, &l), 0);
        egm_lease_unref(l);
        fake.slices[1] = (FakeSlice){"egm4", FAKE_MEMORY, 3 * MIB, 2 * MIB};
        assert_int_equal(egm_acquire(c, r, &l), 0);
        egm_lease_unref(l);
        /* A device has no size that we could check. */
        fake.slices[1].fd = FAKE_DEVICE;
        assert_int_equal(egm_acquire(c, r, &l), 0);
        egm_lease_unref(l);
        egm_request_unref(r);
        egm_connection_unref(c);
}

static void test_bad_answers(void **state) {
        egm_connection *c = connect_fake();
        egm_request *r = new_request();
        egm_lease *l = NULL;
        unsigned before;

        before = count_fds();
        fake.signature = "";
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        fake.signature = "s";
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        fake.signature = NULL;
        fake.lease_path = "/org/nvidia/Egm1/region/egm4";
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        fake.lease_path = "/";
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        assert_int_equal(fake.n_released, 0);
        /* A lease whose bad pages are not known is not handed out. */
        fake_reset(&fake);
        fake.retired_fails = true;
        assert_int_equal(egm_acquire(c, r, &l), -EBADMSG);
        assert_true(lifetime_ended(10000));
        assert_int_equal(egm_release(c, "0"), 0);
        assert_int_equal(fake.n_released, 2);
        assert_null(l);
        assert_int_equal(count_fds() - (fake.lifetime_fd >= 0), before);
        egm_request_unref(r);
        egm_connection_unref(c);
}

static int in_child(egm_lease *l) {
        void *p;

        if (egm_lease_map(l, 0, 0, 4096, PROT_READ, 0, &p) != -ECHILD ||
            egm_lease_release(l) != -ECHILD || egm_lease_bind(l, 0) != -ECHILD)
                return 1;
        /* What a launcher needs between fork() and exec() works. */
        if (egm_lease_get_lifetime_fd(l) < 0 || fcntl(egm_lease_get_lifetime_fd(l), F_SETFD, 0) < 0)
                return 2;
        egm_lease_unref(l);
        return 0;
}

static void test_fork(void **state) {
        egm_connection *c = connect_fake();
        egm_lease *l = acquire(c);
        int status;
        pid_t pid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(in_child(l));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(fake.n_released, 0);
        assert_false(lifetime_ended(0));
        assert_int_equal(egm_lease_release(l), 0);
        egm_lease_unref(l);
        egm_connection_unref(c);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_request),
                        cmocka_unit_test(test_acquire),
                        cmocka_unit_test(test_interactive),
                        cmocka_unit_test(test_lifetime),
                        cmocka_unit_test(test_lease_outlives_connection),
                        cmocka_unit_test(test_bind_and_reopen),
                        cmocka_unit_test(test_map),
                        cmocka_unit_test(test_map_lands),
                        cmocka_unit_test(test_bad_grants),
                        cmocka_unit_test(test_overlap),
                        cmocka_unit_test(test_bad_answers),
                        cmocka_unit_test(test_fork),
        };

        return lease_bed_main(tests, ELEMENTSOF(tests));
}
