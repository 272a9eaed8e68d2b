/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <egm.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "fd-util.h"
#include "keeper.h"
#include "lease-record.h"
#include "test.h"

/* test-finds EGMD: odd things that a start may find, and must not stumble over: it would again with each try. */

#define DEADLINE_USEC (60 * USEC_PER_SEC)
#define TEXT_MAX (64 * KIB)

static const char *egmd;

typedef struct Bed {
        char regions[64];
        Keeper *keeper;
        egm_connection *connection;
        egm_lease *lease; /* number 1, all of its life in the tests' hands */
} Bed;

static void put(const char *path, const char *text) {
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static void find_path(Bed *b, const char *name, char ret[static 256]) {
        (void) snprintf(ret, 256, "%s/%s", keeper_runtime_dir(b->keeper), name);
}

static void bed_init(Bed *b) {
        char arg_sim[96], arg_bus[256];
        const char *args[] = {arg_sim, arg_bus, NULL};
        egm_request *q;
        int fd;

        *b = (Bed){.regions = "/tmp/egmd-finds.XXXXXX"};
        fd = mkostemp(b->regions, O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(close(fd), 0);
        put(b->regions, "{\"regions\": [{\"name\": \"egm4\", \"size\": \"4M\"}]}");
        (void) snprintf(arg_sim, sizeof(arg_sim), "--simulate=%s", b->regions);
        (void) snprintf(arg_bus, sizeof(arg_bus), "--bus=%s", getenv("EGM_TEST_BUS"));
        assert_int_equal(keeper_new(egmd, args, &b->keeper), 0);
        assert_int_equal(keeper_start(b->keeper, DEADLINE_USEC), 0);
        assert_int_equal(egm_connection_new(getenv("EGM_TEST_BUS"), &b->connection), 0);
        assert_int_equal(egm_request_new(&q), 0);
        assert_int_equal(egm_request_add_slice(q, 64 * KIB), 0);
        assert_int_equal(egm_request_set_wait(q, DEADLINE_USEC), 0);
        assert_int_equal(egm_acquire(b->connection, q, &b->lease), 0);
        egm_request_unref(q);
}

static void bed_done(Bed *b) {
        int status;

        assert_int_equal(keeper_signal(b->keeper, SIGTERM), 0);
        assert_int_equal(keeper_wait(b->keeper, DEADLINE_USEC, &status), 0);
        assert_int_equal(status, 0);
        egm_lease_unref(b->lease);
        egm_connection_unref(b->connection);
        keeper_free(b->keeper);
        assert_int_equal(unlink(b->regions), 0);
}

static void kill_daemon(Bed *b) {
        assert_int_equal(keeper_signal(b->keeper, SIGKILL), 0);
        assert_int_equal(keeper_wait(b->keeper, DEADLINE_USEC, NULL), 0);
}

static void start_daemon(Bed *b) {
        if (keeper_start(b->keeper, DEADLINE_USEC) != 0)
                fail_msg("it did not start: %s", keeper_log_text(b->keeper));
}

static bool exists(Bed *b) {
        egm_lease_info *i;

        if (egm_get_lease_info(b->connection, "1", &i) < 0)
                return false;
        egm_lease_info_unref(i);
        return true;
}

static bool is_active(Bed *b) {
        egm_lease_info *i;
        bool yes;

        assert_int_equal(egm_get_lease_info(b->connection, "1", &i), 0);
        yes = streq(egm_lease_info_get_state(i), "active");
        egm_lease_info_unref(i);
        return yes;
}

/* Nothing tells a plain client that a lease has gone but looking again. */
static void wait_gone(Bed *b) {
        time_t until = time(NULL) + 60;

        while (exists(b)) {
                assert_true(time(NULL) <= until);
                (void) usleep(20000);
        }
}

/* Something in the place of what stands between the two. */
static char *edit(const char *text, const char *from, const char *to, const char *instead) {
        const char *at = strstr(text, from), *end;
        char *edited;

        assert_non_null(at);
        at += strlen(from);
        end = strstr(at, to);
        assert_non_null(end);
        assert_true(asprintf(&edited, "%.*s%s%s", (int) (at - text), text, instead, end) > 0);
        return edited;
}

static void edit_file(Bed *b, const char *name, const char *from, const char *to,
                      const char *instead) {
        char path[256], *text, *edited;

        find_path(b, name, path);
        assert_int_equal(read_full_file_at(AT_FDCWD, path, TEXT_MAX, &text, NULL), 0);
        edited = edit(text, from, to, instead);
        put(path, edited);
        free(edited);
        free(text);
}

/* The lease's record, which may become too long for the table. */
static void edit_record(Bed *b, const char *from, const char *to, const char *instead) {
        char path[256], *text, *edited;

        text = lease_record_get(keeper_runtime_dir(b->keeper), 1);
        assert_non_null(text);
        edited = edit(text, from, to, instead);
        assert_int_equal(lease_record_remove(keeper_runtime_dir(b->keeper), 1), 0);
        find_path(b, "lease-1.json", path);
        put(path, edited);
        free(edited);
        free(text);
}

/* ---- The number of a bound process is a thread's by now ---- */

typedef struct Thread {
        pthread_t thread;
        int tid;
        int ready[2], end[2];
} Thread;

static void *thread_run(void *p) {
        Thread *t = p;
        char c;

        t->tid = (int) syscall(SYS_gettid);
        if (write(t->ready[1], "", 1) == 1)
                (void) read(t->end[0], &c, 1);
        return NULL;
}

static void test_thread_has_number(void **state) {
        Thread t = {};
        char tid[16], c;
        int pidfd;
        Bed b;

        assert_int_equal(pipe2(t.ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(t.end, O_CLOEXEC), 0);
        assert_int_equal(pthread_create(&t.thread, NULL, thread_run, &t), 0);
        assert_int_equal(read(t.ready[0], &c, 1), 1);
        (void) snprintf(tid, sizeof(tid), "%i", t.tid);

        bed_init(&b);
        pidfd = pidfd_open(getpid(), 0);
        assert_true(pidfd >= 0);
        assert_int_equal(egm_bind(b.connection, "1", pidfd), 0);
        assert_int_equal(close(pidfd), 0);
        kill_daemon(&b);
        edit_record(&b, "\"bound\":[{\"pid\":", ",", tid);
        start_daemon(&b);
        assert_true(is_active(&b));
        b.lease = egm_lease_unref(b.lease);
        wait_gone(&b);
        bed_done(&b);

        assert_int_equal(close(t.end[1]), 0);
        assert_int_equal(pthread_join(t.thread, NULL), 0);
        assert_int_equal(close(t.end[0]), 0);
        assert_int_equal(close(t.ready[0]), 0);
        assert_int_equal(close(t.ready[1]), 0);
}

/* ---- What has a lifetime's name is no FIFO ---- */

static void find_no_fifo(bool directory) {
        char path[256];
        struct stat st;
        Bed b;

        bed_init(&b);
        kill_daemon(&b);
        find_path(&b, "lease-1.fifo", path);
        assert_int_equal(unlink(path), 0);
        if (directory)
                assert_int_equal(mkdir(path, 0700), 0);
        else
                put(path, "what is this?");
        start_daemon(&b);
        /* As if it were missing: nobody holds it. */
        wait_gone(&b);
        find_path(&b, "lease-1.fifo.damaged", path);
        assert_int_equal(stat(path, &st), 0);
        assert_true(directory ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode));
        bed_done(&b);
}

static void test_no_fifo(void **state) {
        find_no_fifo(false);
        find_no_fifo(true);
}

/* ---- More slices than a request may have: what a record may hold ---- */

static void test_many_slices(void **state) {
        char slices[TEXT_MAX / 8] = "";
        size_t n = 0;
        Bed b;

        bed_init(&b);
        kill_daemon(&b);
        /* The last is nowhere: its loss is written down. */
        for (unsigned i = 0; i < 20; i++)
                n += (size_t) snprintf(slices + n, sizeof(slices) - n,
                                       "%s{\"region\":\"%s\",\"offset\":%u,\"size\":65536,"
                                       "\"phase\":\"leased\"}",
                                       i > 0 ? "," : "", i < 19 ? "egm4" : "egm5", i * 65536);
        edit_record(&b, "\"slices\":[", "]", slices);
        start_daemon(&b);
        assert_true(exists(&b));
        bed_done(&b);
}

/* ---- The list of retired pages cannot be read ---- */

static int acquire_all(Bed *b, uint64_t wait_usec, egm_lease **ret) {
        egm_request *q;
        int r;

        assert_int_equal(egm_request_new(&q), 0);
        assert_int_equal(egm_request_add_slice(q, 4 * MIB), 0);
        /* The bytes have to come back first. */
        assert_int_equal(egm_request_set_wait(q, wait_usec), 0);
        r = egm_acquire(b->connection, q, ret);
        egm_request_unref(q);
        return r;
}

static void test_no_list(void **state) {
        egm_lease *l = NULL;
        Bed b;

        bed_init(&b);
        kill_daemon(&b);
        put(b.regions, "{\"regions\": [{\"name\": \"egm4\", \"size\": \"4M\","
                       "\"faults\": {\"list\": \"fault\"}}]}");
        start_daemon(&b);
        /* Who has memory keeps it, and nobody gets any that may be bad. */
        assert_true(is_active(&b));
        b.lease = egm_lease_unref(b.lease);
        wait_gone(&b);
        assert_true(acquire_all(&b, 2 * USEC_PER_SEC, &l) < 0);
        assert_null(l);
        kill_daemon(&b);
        put(b.regions, "{\"regions\": [{\"name\": \"egm4\", \"size\": \"4M\"}]}");
        start_daemon(&b);
        assert_int_equal(acquire_all(&b, DEADLINE_USEC, &l), 0);
        egm_lease_unref(l);
        bed_done(&b);
}

/* ---- A page went bad under somebody whose record is lost ---- */

static int acquire_whole_with_retired(Bed *b, uint64_t wait_usec, egm_lease **ret) {
        egm_request *q;
        int r;

        assert_int_equal(egm_request_new(&q), 0);
        assert_int_equal(egm_request_add_whole_slice(q), 0);
        assert_int_equal(egm_request_set_slice_include_retired(q, 0, 1), 0);
        assert_int_equal(egm_request_set_wait(q, wait_usec), 0);
        r = egm_acquire(b->connection, q, ret);
        egm_request_unref(q);
        return r;
}

/* Between leases it is all that nobody claims, and can be lent like them to who takes such pages. */
static void test_retired_unclaimed(void **state) {
        egm_lease *rest = NULL, *all = NULL;
        uint64_t offset, size;
        egm_request *q;
        void *map;
        int fd;
        Bed b;

        bed_init(&b);
        assert_int_equal(egm_request_new(&q), 0);
        assert_int_equal(egm_request_add_slice(q, 4 * MIB - 64 * KIB), 0);
        assert_int_equal(egm_request_set_slice_align(q, 0, 64 * KIB), 0);
        assert_int_equal(egm_request_set_wait(q, DEADLINE_USEC), 0);
        assert_int_equal(egm_acquire(b.connection, q, &rest), 0);
        egm_request_unref(q);
        assert_int_equal(egm_lease_get_slice(b.lease, 0, NULL, &fd, &offset, &size), 0);
        assert_int_equal(offset, 0);
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(map != MAP_FAILED);
        kill_daemon(&b);
        assert_int_equal(lease_record_remove(keeper_runtime_dir(b.keeper), 1), 0);
        put(b.regions, "{\"regions\": [{\"name\": \"egm4\", \"size\": \"4M\","
                       "\"retired\": [{\"offset\": 0, \"size\": 65536}]}]}");
        start_daemon(&b);
        b.lease = egm_lease_unref(b.lease);
        egm_lease_unref(rest);
        assert_true(acquire_whole_with_retired(&b, 2 * USEC_PER_SEC, &all) < 0);
        assert_int_equal(munmap(map, size), 0);
        assert_int_equal(acquire_whole_with_retired(&b, DEADLINE_USEC, &all), 0);
        egm_lease_unref(all);
        bed_done(&b);
}

/* ---- Switched off for maintenance, whatever becomes of the device ---- */

#define EGM4 "{\"name\": \"egm4\", \"size\": \"4M\"}"
#define EGM4_AGAIN "{\"name\": \"egm4\", \"size\": \"4M\", \"instance\": 2}"
#define EGM5 "{\"name\": \"egm5\", \"size\": \"2M\"}"
#define REGIONS(list) "{\"regions\": [" list "]}"

static bool region_is(Bed *b, const char *state) {
        egm_region *r;
        bool yes;

        if (egm_get_region(b->connection, "egm4", &r) < 0)
                return false;
        yes = streq(egm_region_get_state(r), state);
        egm_region_unref(r);
        return yes;
}

static void wait_region(Bed *b, const char *state) {
        time_t until = time(NULL) + 60;

        while (!region_is(b, state)) {
                assert_true(time(NULL) <= until);
                (void) usleep(20000);
        }
}

static void assert_schedulable(Bed *b, bool expected) {
        egm_region *r;

        assert_int_equal(egm_get_region(b->connection, "egm4", &r), 0);
        assert_int_equal(egm_region_get_schedulable(r), expected);
        egm_region_unref(r);
}

static void test_closed_while_gone(void **state) {
        egm_lease *l = NULL;
        Bed b;

        bed_init(&b);
        b.lease = egm_lease_unref(b.lease);
        wait_gone(&b);
        put(b.regions, REGIONS(EGM5));
        wait_region(&b, "gone");
        assert_int_equal(egm_set_schedulable(b.connection, "egm4", 0), 0);
        kill_daemon(&b);
        start_daemon(&b); /* it has never heard of it */
        put(b.regions, REGIONS(EGM4_AGAIN));
        wait_region(&b, "ready");
        assert_schedulable(&b, false);
        assert_true(acquire_all(&b, 2 * USEC_PER_SEC, &l) < 0);
        kill_daemon(&b);
        start_daemon(&b);
        assert_schedulable(&b, false);
        assert_int_equal(egm_set_schedulable(b.connection, "egm4", 1), 0);
        kill_daemon(&b);
        start_daemon(&b);
        assert_schedulable(&b, true);
        assert_int_equal(acquire_all(&b, DEADLINE_USEC, &l), 0);
        egm_lease_unref(l);
        bed_done(&b);
}

/* It went, and another came, while nobody was there. */
static void test_closed_is_the_name(void **state) {
        Bed b;

        bed_init(&b);
        assert_int_equal(egm_set_schedulable(b.connection, "egm4", 0), 0);
        kill_daemon(&b);
        put(b.regions, REGIONS(EGM4_AGAIN));
        start_daemon(&b);
        wait_region(&b, "ready");
        assert_schedulable(&b, false);
        bed_done(&b);
}

/* An earlier version said so in the region's record. */
static void test_closed_by_record(void **state) {
        Bed b;

        bed_init(&b);
        kill_daemon(&b);
        edit_file(&b, "region-egm4.json", "\"schedulable\":", "}", "false");
        start_daemon(&b);
        assert_schedulable(&b, false);
        assert_true(is_active(&b));
        kill_daemon(&b);
        start_daemon(&b);
        assert_schedulable(&b, false);
        assert_int_equal(egm_set_schedulable(b.connection, "egm4", 1), 0);
        kill_daemon(&b);
        start_daemon(&b);
        assert_schedulable(&b, true);
        bed_done(&b);
}

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_thread_has_number),
                        cmocka_unit_test(test_no_fifo),
                        cmocka_unit_test(test_many_slices),
                        cmocka_unit_test(test_no_list),
                        cmocka_unit_test(test_retired_unclaimed),
                        cmocka_unit_test(test_closed_while_gone),
                        cmocka_unit_test(test_closed_is_the_name),
                        cmocka_unit_test(test_closed_by_record),
        };

        assert_int_equal(argc, 2);
        egmd = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
