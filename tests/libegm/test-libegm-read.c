/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/wait.h>

#include "../unit/test.h"

#include "egm.h"
#include "egm-error.h"
#include "fake-egmd.h"

/* Connections, snapshots and watches, against a daemon that can be told to lie. */

static Fake fake;

static egm_connection *connect_fake(void) {
        egm_connection *c = NULL;

        fake_reset(&fake);
        assert_int_equal(egm_connection_new(fake.address, &c), 0);
        return c;
}

static void test_connect(void **state) {
        egm_connection *c = (egm_connection *) 0x1;

        assert_int_equal(egm_connection_new(NULL, NULL), -EINVAL);
        assert_int_equal(egm_connection_new("nonsense", &c), -ECONNREFUSED);
        assert_int_equal(egm_connection_new("unix:path=/does/not/exist", &c), -ENOENT);
        assert_ptr_equal(c, (void *) 0x1);
        assert_null(egm_connection_unref(NULL));
        assert_null(egm_connection_ref(NULL));
        assert_int_equal(egm_connection_get_fd(NULL), -EINVAL);
}

static void test_quotas(void **state) {
        egm_connection *c = connect_fake();
        egm_quotas *q = NULL;
        const char *scope, *name;
        uint64_t used, max;
        uint32_t uid;

        assert_int_equal(egm_get_quotas(NULL, 0, &q), -EINVAL);
        assert_int_equal(egm_get_quotas(c, 0, NULL), -EINVAL);
        assert_int_equal(egm_get_quotas(c, 1000, &q), 0);
        assert_int_equal(egm_quotas_count(q), 2);
        assert_int_equal(egm_quotas_get(q, 0, &scope, &uid, &name), 0);
        assert_string_equal(scope, "user");
        assert_int_equal(uid, 1000);
        assert_string_equal(name, "");
        assert_int_equal(egm_quotas_get_amount(q, 0, "bytes", &used, &max), 0);
        assert_int_equal(used, 5);
        assert_int_equal(max, 6);
        assert_int_equal(egm_quotas_get_amount(q, 0, "calls", NULL, &max), 0);
        assert_int_equal(max, 9);
        /* Who is not told of a limit has none. */
        assert_int_equal(egm_quotas_get_amount(q, 0, "leases", &used, &max), 0);
        assert_int_equal(used, 0);
        assert_true(max == UINT64_MAX);
        assert_int_equal(egm_quotas_get(q, 1, &scope, NULL, &name), 0);
        assert_string_equal(scope, "unit");
        assert_string_equal(name, "a.service");
        assert_int_equal(egm_quotas_get(q, 2, &scope, &uid, &name), -EINVAL);
        assert_int_equal(egm_quotas_get_amount(q, 2, "bytes", &used, &max), -EINVAL);
        assert_int_equal(egm_quotas_get_amount(q, 0, "Bytes", &used, &max), -EINVAL);
        assert_int_equal(egm_quotas_get_amount(q, 0, NULL, &used, &max), -EINVAL);
        assert_int_equal(egm_quotas_get(NULL, 0, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(egm_quotas_count(NULL), 0);
        assert_ptr_equal(egm_quotas_ref(q), q);
        assert_null(egm_quotas_unref(q));
        assert_null(egm_quotas_unref(q));
        q = NULL;
        fake.wrong_type = "quotas";
        assert_int_equal(egm_get_quotas(c, UINT32_MAX, &q), -EBADMSG);
        assert_null(q);
        egm_connection_unref(c);
}

static void test_region(void **state) {
        egm_connection *c = connect_fake();
        egm_region *region = NULL;
        const char *address, *driver, *kind;
        uint32_t pid;
        uint64_t offset, size;

        assert_int_equal(egm_get_region(c, "egm4", &region), 0);
        assert_string_equal(egm_region_get_name(region), "egm4");
        assert_string_equal(egm_region_get_device_path(region), "/dev/egm4");
        assert_int_equal(egm_region_get_size(region), 1000);
        assert_int_equal(egm_region_get_free(region), 400);
        assert_int_equal(egm_region_get_largest_free(region), 300);
        assert_int_equal(egm_region_get_leased(region), 200);
        assert_int_equal(egm_region_get_draining(region), 150);
        assert_int_equal(egm_region_get_dirty(region), 120);
        assert_int_equal(egm_region_get_scrubbing(region), 70);
        assert_int_equal(egm_region_get_retired(region), 60);
        assert_int_equal(egm_region_get_scrubbed(region), 35);
        assert_int_equal(egm_region_get_granule(region), 65536);
        assert_int_equal(egm_region_get_node(region), -1);
        assert_int_equal(egm_region_get_socket(region), 1);
        assert_string_equal(egm_region_get_state(region), "held-elsewhere");
        assert_string_equal(egm_region_get_reason(region), "by pid 7");
        assert_string_equal(egm_region_get_partitioning(region), "full");
        assert_string_equal(egm_region_get_driver(region), "sim");
        assert_string_equal(egm_region_get_isolation(region), "cooperative");
        assert_string_equal(egm_region_get_isolation_reason(region), "no lsm=bpf");
        assert_int_equal(egm_region_get_schedulable(region), 1);
        assert_int_equal(egm_region_count_gpus(region), 2);
        assert_int_equal(egm_region_get_gpu(region, 0, &address, &driver), 0);
        assert_string_equal(address, "0008:01:00.0");
        assert_string_equal(driver, "");
        assert_int_equal(egm_region_get_gpu(region, 1, NULL, &driver), 0);
        assert_string_equal(driver, "nvgrace-gpu-vfio-pci");
        assert_int_equal(egm_region_get_gpu(region, 2, &address, &driver), -EINVAL);
        assert_int_equal(egm_region_count_retired_ranges(region), 2);
        assert_int_equal(egm_region_get_retired_range(region, 1, &offset, &size), 0);
        assert_int_equal(offset, 128);
        assert_int_equal(size, 44);
        assert_int_equal(egm_region_get_retired_range(region, 2, &offset, &size), -EINVAL);
        assert_int_equal(egm_region_count_overreach(region), 2);
        assert_int_equal(egm_region_get_overreach(region, 0, &kind, &offset, &size, &pid, &driver),
                         0);
        assert_string_equal(kind, "unlent");
        assert_int_equal(offset, 2 * MIB);
        assert_int_equal(size, 4 * MIB);
        assert_int_equal(pid, 4712);
        assert_string_equal(driver, "vhost");
        assert_int_equal(egm_region_get_overreach(region, 1, NULL, NULL, NULL, NULL, NULL), 0);
        assert_int_equal(egm_region_get_overreach(region, 2, &kind, NULL, NULL, NULL, NULL),
                         -EINVAL);
        egm_region_unref(region);
        egm_connection_unref(c);
}

static void test_lease_info(void **state) {
        egm_connection *c = connect_fake();
        egm_lease_info *info = NULL;
        const char *region, *command, *unit;
        uint64_t offset, size, start_time;
        uint32_t pid;

        assert_int_equal(egm_get_lease_info(c, "7", &info), 0);
        assert_string_equal(egm_lease_info_get_id(info), "7");
        assert_string_equal(egm_lease_info_get_label(info), "vm1");
        assert_string_equal(egm_lease_info_get_state(info), "draining");
        assert_string_equal(egm_lease_info_get_lifetime(info), "descriptor");
        assert_string_equal(egm_lease_info_get_isolation(info), "enforced");
        assert_int_equal(egm_lease_info_get_owner_uid(info), 1000);
        assert_int_equal(egm_lease_info_get_holder_pid(info), 4711);
        assert_string_equal(egm_lease_info_get_unit(info), "vm1.scope");
        assert_int_equal(egm_lease_info_get_concealed(info), 0);
        assert_int_equal(egm_lease_info_get_created_usec(info), 1234567);
        assert_int_equal(egm_lease_info_count_slices(info), 2);
        assert_int_equal(egm_lease_info_get_slice(info, 1, &region, &offset, &size), 0);
        assert_string_equal(region, "egm5");
        assert_int_equal(offset, 0);
        assert_int_equal(size, 4 * MIB);
        assert_int_equal(egm_lease_info_get_slice(info, 2, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(egm_lease_info_count_retired_ranges(info), 2);
        assert_int_equal(egm_lease_info_get_retired_range(info, 0, NULL, &offset, NULL), 0);
        assert_int_equal(offset, MIB);
        assert_int_equal(egm_lease_info_count_held_up_by(info), 1);
        assert_int_equal(egm_lease_info_get_held_up_by(info, 0, &pid, &command, &unit), 0);
        assert_int_equal(pid, 4711);
        assert_string_equal(command, "qemu");
        assert_string_equal(unit, "vm1.scope");
        assert_int_equal(egm_lease_info_get_held_up_by_start_time(info, 0, &start_time), 0);
        assert_int_equal(start_time, 987654321098);
        assert_int_equal(egm_lease_info_get_held_up_by_start_time(info, 0, NULL), 0);
        assert_int_equal(egm_lease_info_get_held_up_by(info, 1, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(egm_lease_info_get_held_up_by_start_time(info, 1, &start_time), -EINVAL);
        assert_int_equal(egm_lease_info_get_held_up_by_start_time(NULL, 0, &start_time), -EINVAL);
        egm_lease_info_unref(info);
        egm_connection_unref(c);
}

static void check_manager(egm_manager *m) {
        uint64_t size, free, leased, retired, since, until;
        const char *label, *address;
        uint32_t uid;
        int socket;

        assert_string_equal(egm_manager_get_version(m), "0.1.0");
        assert_int_equal(egm_manager_count_sockets(m), 2);
        assert_int_equal(egm_manager_get_socket(m, 0, &socket, &size, &free, &leased, &retired), 0);
        assert_int_equal(socket, -1);
        assert_int_equal(size, 10);
        assert_int_equal(free, 5);
        assert_int_equal(leased, 4);
        assert_int_equal(retired, 1);
        assert_int_equal(egm_manager_get_socket(m, 1, &socket, NULL, NULL, NULL, NULL), 0);
        assert_int_equal(socket, 1);
        assert_int_equal(egm_manager_get_socket(m, 2, NULL, NULL, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(egm_manager_count_waiting(m), 1);
        assert_int_equal(egm_manager_get_waiting(m, 0, &uid, &label, &size, &since, &until), 0);
        assert_int_equal(uid, 1000);
        assert_string_equal(label, "next");
        assert_int_equal(size, 77);
        assert_int_equal(since, 88);
        assert_int_equal(until, 99);
        assert_int_equal(egm_manager_count_unsupported(m), 1);
        assert_int_equal(egm_manager_get_unsupported(m, 0, &address, &size), 0);
        assert_string_equal(address, "0008:00:00.0");
        assert_int_equal(size, 5);
        assert_int_equal(egm_manager_get_lease_count(m), 3);
        assert_int_equal(egm_manager_get_granted(m), 4);
        assert_int_equal(egm_manager_get_refused(m), 5);
        assert_int_equal(egm_manager_get_ended(m), 6);
        assert_int_equal(egm_manager_get_scrubbed_bytes(m), 7);
        assert_int_equal(egm_manager_get_bad_pages(m), 8);
        assert_int_equal(egm_manager_get_overreaches(m), 12);
        assert_int_equal(egm_manager_get_leases_max(m), 9);
        assert_int_equal(egm_manager_get_slices_max(m), 10);
        assert_int_equal(egm_manager_get_waiting_max(m), 11);
        assert_int_equal(egm_manager_get_egm_offset_allowed(m), 1);
}

static void test_snapshot(void **state) {
        egm_connection *c = connect_fake();
        egm_snapshot *s = NULL;
        egm_region *region;

        assert_int_equal(egm_snapshot_new(c, &s), 0);
        assert_int_equal(egm_snapshot_count_regions(s), 1);
        assert_int_equal(egm_snapshot_count_leases(s), 1);
        assert_null(egm_snapshot_get_region(s, 1));
        assert_null(egm_snapshot_get_lease(s, 1));
        assert_string_equal(egm_lease_info_get_id(egm_snapshot_get_lease(s, 0)), "7");
        check_manager(egm_snapshot_get_manager(s));
        /* Outlives snapshot and connection. */
        region = egm_region_ref(egm_snapshot_get_region(s, 0));
        egm_snapshot_unref(s);
        egm_connection_unref(c);
        assert_string_equal(egm_region_get_name(region), "egm4");
        egm_region_unref(region);
}

static void test_extents(void **state) {
        egm_connection *c = connect_fake();
        const char *extent_state, *lease;
        egm_extents *e = NULL;
        uint64_t offset, size;

        assert_int_equal(egm_get_extents(c, "egm4", &e), 0);
        assert_int_equal(egm_extents_count(e), 2);
        assert_int_equal(egm_extents_get(e, 1, &offset, &size, &extent_state, &lease), 0);
        assert_int_equal(offset, 64);
        assert_int_equal(size, 32);
        assert_string_equal(extent_state, "leased");
        assert_string_equal(lease, "7");
        assert_int_equal(egm_extents_get(e, 2, NULL, NULL, NULL, NULL), -EINVAL);
        egm_extents_unref(e);
        egm_connection_unref(c);
}

/* A property of another type than the contract's, or an object that is not the one asked for, is refused whole. */
static void test_lies(void **state) {
        static const char *const regions[] = {"Name", "Size",          "Node",
                                              "Gpus", "RetiredRanges", "Schedulable"};
        egm_connection *c = connect_fake();
        egm_region *region = (egm_region *) 0x1;
        egm_lease_info *info;
        egm_snapshot *s;
        egm_manager *m;

        for (size_t i = 0; i < ELEMENTSOF(regions); i++) {
                fake.wrong_type = regions[i];
                assert_int_equal(egm_get_region(c, "egm4", &region), -EBADMSG);
                assert_int_equal(egm_snapshot_new(c, &s), -EBADMSG);
        }
        fake.wrong_type = "Slices";
        assert_int_equal(egm_get_lease_info(c, "7", &info), -EBADMSG);
        fake.wrong_type = "Sockets";
        assert_int_equal(egm_get_manager(c, &m), -EBADMSG);
        assert_int_equal(egm_snapshot_new(c, &s), -EBADMSG);

        fake_reset(&fake);
        fake.left_out = "Name";
        assert_int_equal(egm_get_region(c, "egm4", &region), -EBADMSG);
        fake_reset(&fake);
        fake.name = "egm5";
        assert_int_equal(egm_get_region(c, "egm4", &region), -EBADMSG);
        assert_int_equal(egm_get_lease_info(c, "8", &info), -EBADMSG);
        assert_ptr_equal(region, (void *) 0x1);

        /* Others may be missing: strings are empty, never NULL. */
        fake_reset(&fake);
        fake.left_out = "Reason";
        assert_int_equal(egm_get_region(c, "egm4", &region), 0);
        assert_string_equal(egm_region_get_reason(region), "");
        egm_region_unref(region);
        egm_connection_unref(c);
}

static void test_errors(void **state) {
        static const struct {
                const char *name;
                int error;
        } table[] = {
                        {"org.nvidia.Egm1.Error.NoCapacity", ENOSPC},
                        {"org.nvidia.Egm1.Error.Fragmented", EXFULL},
                        {"org.nvidia.Egm1.Error.NoSuchRegion", ENODEV},
                        {"org.nvidia.Egm1.Error.NoSuchLease", ENOENT},
                        {"org.nvidia.Egm1.Error.NotPartitionable", ENOTUNIQ},
                        {"org.nvidia.Egm1.Error.RegionNotReady", ENOLINK},
                        {"org.nvidia.Egm1.Error.BadAlignment", EDOM},
                        {"org.nvidia.Egm1.Error.QuotaExceeded", EDQUOT},
                        {"org.nvidia.Egm1.Error.NotHolder", EPERM},
                        {"org.nvidia.Egm1.Error.Draining", EBUSY},
                        {"org.nvidia.Egm1.Error.TimedOut", ETIMEDOUT},
                        {"org.nvidia.Egm1.Error.Unheard", EIO},
                        {"org.freedesktop.DBus.Error.InvalidArgs", EINVAL},
                        {"org.freedesktop.DBus.Error.AccessDenied", EACCES},
                        {"org.freedesktop.DBus.Error.LimitsExceeded", ENOBUFS},
                        {"org.freedesktop.DBus.Error.NotSupported", EOPNOTSUPP},
                        {"org.freedesktop.DBus.Error.ServiceUnknown", EHOSTUNREACH},
        };
        egm_connection *c = connect_fake();
        egm_manager *m = NULL;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                fake.error_name = table[i].name;
                fake.error_message = "words";
                assert_int_equal(egm_get_manager(c, &m), -table[i].error);
                assert_string_equal(egm_connection_get_error_name(c), table[i].name);
                assert_string_equal(egm_connection_get_error_message(c), "words");
        }
        /* The next call forgets it. */
        fake.error_name = NULL;
        assert_int_equal(egm_get_manager(c, &m), 0);
        assert_null(egm_connection_get_error_name(c));
        assert_null(egm_connection_get_error_message(c));
        egm_manager_unref(m);
        egm_connection_unref(c);
}

static void test_no_object(void **state) {
        egm_connection *c = connect_fake();
        egm_lease_info *info = NULL;
        egm_region *region = NULL;
        egm_extents *e = NULL;

        fake.error_name = SD_BUS_ERROR_UNKNOWN_OBJECT;
        fake.error_message = "Unknown object";
        assert_int_equal(egm_get_region(c, "egm9", &region), -ENODEV);
        assert_string_equal(egm_connection_get_error_message(c), "There is no region 'egm9'");
        assert_int_equal(egm_get_extents(c, "egm9", &e), -ENODEV);
        assert_int_equal(egm_set_schedulable(c, "egm9", 0), -ENODEV);
        assert_int_equal(egm_get_lease_info(c, "9", &info), -ENOENT);
        assert_int_equal(egm_release(c, "9"), -ENOENT);
        assert_int_equal(egm_bind(c, "9", 0), -ENOENT);
        assert_string_equal(egm_connection_get_error_message(c), "There is no lease '9'");

        /* What cannot be a part of a path is not sent. */
        assert_int_equal(fake.n_released, 1);
        fake.error_name = NULL;
        assert_int_equal(egm_get_region(c, "../lease/7", &region), -ENODEV);
        assert_int_equal(egm_get_region(c, "", &region), -ENODEV);
        assert_int_equal(egm_get_lease_info(c, "7/", &info), -ENOENT);
        assert_int_equal(egm_release(c, "7 8"), -ENOENT);
        assert_int_equal(fake.n_released, 1);
        egm_connection_unref(c);
}

static void note_event(egm_connection *c, egm_event *e, void *userdata) {
        char **log = userdata, *line;
        const char *name;
        uint64_t offset;

        assert_true(asprintf(&line, "%s%d:%s", *log ?: "", egm_event_get_type(e),
                             egm_event_get_name(e)) > 0);
        free(*log);
        *log = line;
        for (size_t i = 0; (name = egm_event_get_changed(e, i)); i++) {
                assert_true(asprintf(&line, "%s,%s", *log, name) > 0);
                free(*log);
                *log = line;
        }
        for (size_t i = 0; i < egm_event_count_pages(e); i++) {
                assert_int_equal(egm_event_get_page(e, i, &name, &offset, NULL), 0);
                assert_true(asprintf(&line, "%s,%s+%d", *log, name, (int) offset) > 0);
                free(*log);
                *log = line;
        }
        assert_int_equal(egm_event_get_page(e, 99, NULL, NULL, NULL), -EINVAL);
        assert_true(asprintf(&line, "%s ", *log) > 0);
        free(*log);
        *log = line;
}

static void test_watch(void **state) {
        static const char expected[] = "4:7 "
                                       "2:egm4,Free,State,RetiredRanges "
                                       "8:,Sockets "
                                       "7:7,egm4+2097152 "
                                       "6:7 ";
        _cleanup_free_ char *log = NULL, *other = NULL;
        egm_connection *c = connect_fake();
        egm_watch *watch = NULL, *second = NULL;
        uint64_t usec = 4711;

        assert_int_equal(egm_watch_new(c, note_event, &log, &watch), 0);
        assert_int_equal(egm_watch_new(c, note_event, &other, &second), 0);
        assert_true(egm_connection_get_fd(c) >= 0);
        assert_true(egm_connection_get_events(c) >= 0);
        assert_int_equal(egm_connection_get_timeout(c, &usec), 0);
        fake_send_signals(&fake);
        while (!log || strlen(log) < sizeof(expected) - 1) {
                assert_true(egm_connection_wait(c, 10 * USEC_PER_SEC) >= 0);
                assert_true(egm_connection_dispatch(c) >= 0);
        }
        assert_string_equal(log, expected);
        assert_string_equal(other, expected);

        /* No watch, no call; the other one goes on, and it keeps the connection. */
        egm_watch_unref(watch);
        egm_connection_unref(c);
        fake_send_signals(&fake);
        while (strlen(other) < 2 * (sizeof(expected) - 1)) {
                assert_true(egm_connection_wait(c, 10 * USEC_PER_SEC) >= 0);
                assert_true(egm_connection_dispatch(c) >= 0);
        }
        assert_string_equal(log, expected);
        egm_watch_unref(second);
}

static void end_watch(egm_connection *c, egm_event *e, void *userdata) {
        egm_watch **watch = userdata;

        *watch = egm_watch_unref(*watch);
}

/* A callback may end its own watch, and with it the connection. */
static void test_watch_ends_itself(void **state) {
        egm_connection *c = connect_fake();
        egm_watch *watch = NULL;

        assert_int_equal(egm_watch_new(c, end_watch, &watch, &watch), 0);
        egm_connection_unref(c);
        fake_send_signals(&fake);
        while (watch) {
                assert_true(egm_connection_wait(c, 10 * USEC_PER_SEC) >= 0);
                assert_true(egm_connection_dispatch(c) >= 0);
        }
}

static int in_child(egm_connection *c) {
        egm_manager *m = NULL;
        uint64_t usec;

        if (egm_get_manager(c, &m) != -ECHILD || egm_connection_dispatch(c) != -ECHILD ||
            egm_connection_get_timeout(c, &usec) != -ECHILD || egm_release(c, "7") != -ECHILD)
                return 1;
        egm_connection_unref(c);
        return 0;
}

static void test_fork(void **state) {
        egm_connection *c = connect_fake();
        egm_manager *m = NULL;
        int status;
        pid_t pid;

        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(in_child(c));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        /* The child left the connection alone. */
        assert_int_equal(egm_get_manager(c, &m), 0);
        egm_manager_unref(m);
        egm_connection_unref(c);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_connect),
                        cmocka_unit_test(test_quotas),
                        cmocka_unit_test(test_region),
                        cmocka_unit_test(test_lease_info),
                        cmocka_unit_test(test_snapshot),
                        cmocka_unit_test(test_extents),
                        cmocka_unit_test(test_lies),
                        cmocka_unit_test(test_errors),
                        cmocka_unit_test(test_no_object),
                        cmocka_unit_test(test_watch),
                        cmocka_unit_test(test_watch_ends_itself),
                        cmocka_unit_test(test_fork),
        };
        const char *address = getenv("EGM_TEST_BUS");
        int r;

        if (!address)
                return 77;
        if (fake_start(address, &fake) < 0)
                return EXIT_FAILURE;
        r = cmocka_run_group_tests(tests, NULL, NULL);
        fake_stop(&fake);
        return r;
}
