/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "state-dir.h"
#include "state-records.h"

static void test_open(void **state) {
        State *s;
        char *id;

        assert_int_equal(state_open(PATH("none"), RECORD_BOOT, &s), -ENOENT);
        state_dir_put("file", "");
        assert_int_equal(state_open(PATH("file"), RECORD_BOOT, &s), -ENOTDIR);
        assert_int_equal(state_open(state_dir, "", &s), -EINVAL);
        assert_int_equal(state_open(state_dir, "a/b", &s), -EINVAL);
        assert_int_equal(state_open(state_dir, NULL, &s), 0);
        assert_int_equal(read_full_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 100, &id,
                                           NULL),
                         0);
        assert_int_equal(strncmp(id, state_boot(s), 36), 0);
        assert_int_equal(strlen(state_boot(s)), 36);
        free(id);
        state_free(s);
        s = state_dir_open();
        assert_string_equal(state_boot(s), RECORD_BOOT);
        state_free(s);
        assert_null(state_free(NULL));
}

static void test_open_only_what_is_ours(void **state) {
        State *s;

        assert_int_equal(chmod(state_dir, 0770), 0);
        assert_int_equal(state_open(state_dir, RECORD_BOOT, &s), -EPERM);
        assert_int_equal(chmod(state_dir, 0702), 0);
        assert_int_equal(state_open(state_dir, RECORD_BOOT, &s), -EPERM);
        state_dir_assert("");
        assert_int_equal(chmod(state_dir, 0755), 0);
        state_free(state_dir_open());
        if (geteuid() != 0)
                return;
        assert_int_equal(chown(state_dir, 12345, 0), 0);
        assert_int_equal(state_open(state_dir, RECORD_BOOT, &s), -EPERM);
}

/* Runs until killed, with the lock. */
static pid_t start_owner(void) {
        int fds[2];
        pid_t pid;
        char c;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                State *s;

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (state_open(state_dir, RECORD_BOOT, &s) < 0 || write(fds[1], "x", 1) != 1)
                        _exit(1);
                for (;;)
                        pause();
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &c, 1), 1);
        close(fds[0]);
        return pid;
}

static void test_lock(void **state) {
        pid_t pid = start_owner();
        State *s;

        assert_int_equal(state_open(state_dir, RECORD_BOOT, &s), -EBUSY);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        s = state_dir_open();
        assert_int_equal(state_open(state_dir, RECORD_BOOT, &(State *){NULL}), -EBUSY);
        state_free(s);
        state_free(state_dir_open());
        state_dir_assert("lock ");
}

static void test_save_and_load(void **state) {
        BoundRecord bound = {77, 1234};
        SliceRecord slices[] = {{(char *) "egm5", GIB, 4 * MIB, SLICE_DRAINING},
                                {(char *) "egm4", 0, 2 * MIB, SLICE_LEASED}};
        LeaseRecord l = {
                        .id = UINT64_MAX,
                        .label = (char *) "\"\\",
                        .lifetime = LEASE_LIFETIME_PERSISTENT,
                        .owner_uid = 3,
                        .owner_pid = 4,
                        .unit = (char *) "x.scope",
                        .created_usec = 5,
                        .released = true,
                        .bound = &bound,
                        .n_bound = 1,
                        .slices = slices,
                        .n_slices = 2,
        };
        RegionRecord g = {NULL, (char *) "egm5", 6, 7, 8, true, 9, 10, true};
        DaemonRecord d = {NULL, 11};
        _cleanup_state_content_ StateContent c = {};
        State *s = state_dir_open();
        struct stat st;

        assert_int_equal(state_load(s, &c), 0);
        assert_null(c.daemon.boot);
        assert_int_equal(c.n_leases, 0);
        assert_int_equal(c.n_regions, 0);
        state_content_done(&c);

        assert_int_equal(state_save_daemon(s, &d), 0);
        assert_int_equal(state_save_region(s, &g), 0);
        g.name = (char *) "egm4";
        assert_int_equal(state_save_region(s, &g), 0);
        assert_int_equal(state_dir_save_lease(s, 10, "ten"), 0);
        assert_int_equal(state_save_lease(s, &l), 0);
        assert_int_equal(state_dir_save_lease(s, 9, "old"), 0);
        assert_int_equal(state_dir_save_lease(s, 9, NULL), 0);
        state_dir_assert("egmd.json leases lock region-egm4.json region-egm5.json ");
        assert_int_equal(stat(PATH("leases"), &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        state_free(s);

        s = state_dir_open();
        assert_int_equal(state_load(s, &c), 0);
        state_free(s);
        assert_false(c.other_boot);
        assert_int_equal(c.n_damaged, 0);
        assert_string_equal(c.daemon.boot, RECORD_BOOT);
        assert_int_equal(c.daemon.next_lease, 11);
        assert_int_equal(c.n_regions, 2);
        assert_string_equal(c.regions[0].name, "egm4");
        assert_string_equal(c.regions[1].name, "egm5");
        assert_int_equal(c.regions[1].rdev, 6);
        assert_int_equal(c.regions[1].file_ino, 10);
        assert_int_equal(c.n_leases, 3);
        assert_int_equal(c.leases[0].id, 9);
        assert_null(c.leases[0].label);
        assert_int_equal(c.leases[1].id, 10);
        assert_string_equal(c.leases[1].label, "ten");
        assert_true(c.leases[2].id == UINT64_MAX);
        assert_string_equal(c.leases[2].label, "\"\\");
        assert_true(c.leases[2].released);
        assert_int_equal(c.leases[2].bound[0].start_time, 1234);
        assert_int_equal(c.leases[2].slices[0].phase, SLICE_DRAINING);
        assert_string_equal(c.leases[2].slices[1].region, "egm4");
}

static void test_refuses_what_it_could_not_read(void **state) {
        RegionRecord g = {.name = (char *) "../egm4", .size = 1};
        State *s = state_dir_open();

        assert_int_equal(state_dir_save_lease(s, 0, ""), -EINVAL);
        assert_int_equal(state_dir_save_lease(s, 1, "\n"), -EINVAL);
        assert_int_equal(state_save_region(s, &g), -EINVAL);
        assert_int_equal(state_save_daemon(s, &(DaemonRecord){}), -EINVAL);
        assert_int_equal(state_forget_region(s, "../lock"), 0);
        state_dir_assert("lock ");
        state_free(s);
}

static void test_forget(void **state) {
        RegionRecord g = {.name = (char *) "egm4", .size = 1};
        State *s = state_dir_open();
        int fd, holder;

        assert_int_equal(state_make_lifetime(s, 1, &fd, &holder), 0);
        assert_int_equal(state_dir_save_lease(s, 1, ""), 0);
        assert_int_equal(state_dir_save_lease(s, 11, ""), 0);
        assert_int_equal(state_save_region(s, &g), 0);
        state_dir_assert("lease-1.fifo leases lock region-egm4.json ");
        assert_int_equal(state_forget_lease(s, 1), 0);
        state_dir_assert("leases lock region-egm4.json ");
        assert_int_equal(state_forget_lease(s, 1), 0);
        assert_int_equal(state_forget_region(s, "egm4"), 0);
        assert_int_equal(state_forget_region(s, "egm4"), 0);
        state_dir_assert("leases lock ");
        /* The record goes first: what is left when it cannot is a lease, and not a lifetime of nobody. */
        assert_int_equal(state_make_lifetime(s, 12, &(int){0}, &(int){0}), 0);
        assert_int_equal(mkdir(PATH("lease-12.json"), 0700), 0);
        assert_true(state_forget_lease(s, 12) < 0);
        state_dir_assert("lease-12.fifo lease-12.json leases lock ");
        close(fd);
        close(holder);
        state_free(s);
}

/* Formats of the past are read, and written as ours with the next change. */
static void test_upgrade(void **state) {
        _cleanup_state_content_ StateContent c = {};
        State *s = state_dir_open();
        char *text;

        state_dir_put_fixture(1, "egmd.json");
        state_dir_put_fixture(1, "region-egm4.json");
        state_dir_put_fixture(1, "lease-7.json");
        state_dir_put_fixture(1, "lease-8.json");
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_damaged, 0);
        assert_int_equal(c.daemon.next_lease, 41);
        assert_int_equal(c.n_regions, 1);
        assert_true(c.regions[0].schedulable);
        assert_int_equal(c.n_leases, 2);
        assert_int_equal(c.leases[0].slices[1].phase, SLICE_LEASED);
        assert_int_equal(c.leases[1].slices[0].phase, SLICE_DRAINING);
        assert_int_equal(state_save_lease(s, c.leases), 0);
        text = state_dir_get("lease-7.json");
        assert_non_null(strstr(text, "\"format\":4,"));
        assert_non_null(strstr(text, "{\"pid\":4244,\"start\":0}"));
        free(text);
        state_content_done(&c);
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_leases, 2);
        assert_int_equal(c.leases[0].bound[1].pid, 4244);
        state_free(s);
}

/* Of a name, for this boot. */
static void test_closed(void **state) {
        _cleanup_state_content_ StateContent c = {};
        State *s = state_dir_open();

        assert_int_equal(state_region_is_closed(s, "egm4"), 0);
        assert_int_equal(state_close_region(s, "egm4", false), 0);
        assert_int_equal(state_close_region(s, "egm4", true), 0);
        assert_int_equal(state_close_region(s, "egm4", true), 0);
        assert_int_equal(state_region_is_closed(s, "egm4"), 1);
        assert_int_equal(state_region_is_closed(s, "egm5"), 0);
        assert_int_equal(state_close_region(s, "../egm4", true), -EINVAL);
        assert_int_equal(state_region_is_closed(s, "../egm4"), 0);
        state_dir_assert("lock region-egm4.closed ");
        /* One that was being written goes, what was written stays. */
        state_dir_put(".region-egm5.closed.tmp", "0c3f");
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_damaged, 0);
        state_dir_assert("leases lock region-egm4.closed ");
        assert_int_equal(state_region_is_closed(s, "egm4"), 1);
        state_dir_put("region-egm4.closed", "another-boot");
        assert_int_equal(state_region_is_closed(s, "egm4"), 0);
        state_dir_assert("leases lock ");
        assert_int_equal(state_close_region(s, "egm4", true), 0);
        assert_int_equal(state_close_region(s, "egm4", false), 0);
        state_dir_assert("leases lock ");
        state_free(s);
}

/* Loads with standard error in a file. */
static int load_and_listen(State *s, StateContent *c, char **ret_said) {
        int saved = dup(STDERR_FILENO), r;

        assert_non_null(freopen(PATH("said"), "w", stderr));
        r = state_load(s, c);
        (void) fflush(stderr);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        close(saved);
        *ret_said = state_dir_get("said");
        assert_int_equal(unlink(PATH("said")), 0);
        return r;
}

/* Nothing at all is touched, whichever file it is that is newer. */
static void test_newer(void **state) {
        static const char *const newer[] = {"lease-7.json", "region-egm4.json", "egmd.json"};

        for (size_t i = 0; i < ELEMENTSOF(newer); i++) {
                StateContent c = {.n_leases = 42};
                State *s = state_dir_open();
                char *before, *after, *said;

                for (size_t k = 0; k < ELEMENTSOF(newer); k++)
                        state_dir_put_fixture(k == i ? 5 : 4, newer[k]);
                state_dir_put("lease-1.json", "damaged");
                state_dir_put("lease-99.json", "damaged");
                state_dir_put("region-a.json", "damaged");
                state_dir_put("region-z.json", "damaged");
                state_dir_put(".lease-1.json.tmp", "");
                state_dir_put(".region-egm4.json.tmp", "");
                assert_int_equal(mkfifo(PATH("lease-99.fifo"), 0600), 0);
                state_free(s);
                assert_int_equal(state_open(state_dir, "another-boot", &s), 0);
                before = state_dir_names();
                assert_int_equal(load_and_listen(s, &c, &said), -EPROTONOSUPPORT);
                after = state_dir_names();
                assert_string_equal(after, before);
                assert_int_equal(c.n_leases, 42);
                if (!strstr(said, newer[i]) || !strstr(said, "format 5") ||
                    !strstr(said, "up to 4"))
                        fail_msg("\"%s\" does not say it all", said);
                free(before);
                free(after);
                free(said);
                state_free(s);
                state_dir_teardown(NULL);
                assert_int_equal(mkdir(state_dir, 0700), 0);
        }
}

static void test_other_boot(void **state) {
        _cleanup_state_content_ StateContent c = {};
        State *s;

        state_dir_put_fixture(3, "egmd.json");
        state_dir_put_fixture(3, "region-egm4.json");
        state_dir_put_fixture(1, "lease-8.json");
        state_dir_put_fixture(3, "lease-7.json");
        assert_int_equal(mkfifo(PATH("lease-7.fifo"), 0600), 0);
        assert_int_equal(state_open(state_dir, "another-boot", &s), 0);
        assert_int_equal(state_dir_save_lease(s, 9, "of this boot"), 0);
        assert_int_equal(state_load(s, &c), 0);
        assert_true(c.other_boot);
        assert_int_equal(c.n_damaged, 0);
        assert_null(c.daemon.boot);
        assert_int_equal(c.n_regions, 0);
        assert_int_equal(c.n_leases, 1);
        assert_int_equal(c.leases[0].id, 9);
        state_dir_assert("leases lock ");
        state_free(s);
}

static void test_damaged(void **state) {
        _cleanup_state_content_ StateContent c = {};
        State *s = state_dir_open();
        char *big = calloc(1, STATE_FILE_MAX + 2), *text;

        memset(big, ' ', STATE_FILE_MAX + 1);
        assert_int_equal(state_dir_save_lease(s, 1, "good"), 0);
        state_dir_put("lease-2.json", "");
        state_dir_put("lease-3.json", "{}");
        state_dir_put("lease-4.json", big);
        state_dir_put_fixture(2, "lease-7.json");
        assert_int_equal(rename(PATH("lease-7.json"), PATH("lease-8.json")), 0);
        state_dir_put_fixture(3, "region-egm4.json");
        assert_int_equal(rename(PATH("region-egm4.json"), PATH("region-egm5.json")), 0);
        state_dir_put("lease-8.json.damaged", "older");
        state_dir_put("egmd.json", "{\"format\":3}");
        state_dir_put("elsewhere", "not here");
        assert_int_equal(symlink("elsewhere", PATH("lease-5.json")), 0);
        assert_int_equal(mkfifo(PATH("lease-6.json"), 0600), 0);
        assert_int_equal(mkdir(PATH("region-dir.json"), 0700), 0);
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_damaged, 9);
        assert_int_equal(c.n_leases, 1);
        assert_string_equal(c.leases[0].label, "good");
        assert_int_equal(c.n_regions, 0);
        assert_null(c.daemon.boot);
        assert_false(c.other_boot);
        state_dir_assert("egmd.json.damaged elsewhere lease-2.json.damaged "
                         "lease-3.json.damaged "
                         "lease-4.json.damaged lease-5.json.damaged lease-6.json.damaged "
                         "lease-8.json.damaged leases lock region-dir.json.damaged "
                         "region-egm5.json.damaged ");
        text = state_dir_get("lease-8.json.damaged");
        assert_non_null(strstr(text, "\"id\":7"));
        free(text);
        /* What was moved aside is nobody's any more. */
        state_content_done(&c);
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_damaged, 0);
        assert_int_equal(c.n_leases, 1);
        state_free(s);
        free(big);
}

static void test_temporary_and_foreign(void **state) {
        static const char *const foreign[] = {
                        ".tmp",
                        ".lease-x.json.tmp",
                        ".lease-1.fifo.tmp",
                        "..lease-1.json.tmp.tmp",
                        "lease-.json",
                        "lease-0.json",
                        "lease-01.json",
                        "lease-+1.json",
                        "lease-1.json.bak",
                        "lease-18446744073709551616.json",
                        "region-.json",
                        "region-a b.json",
                        "notes",
        };
        _cleanup_state_content_ StateContent c = {};
        State *s = state_dir_open();
        char *before, *after;

        for (size_t i = 0; i < ELEMENTSOF(foreign); i++)
                state_dir_put(foreign[i], "something");
        state_dir_put("leases", "");
        before = state_dir_names();
        state_dir_put(".egmd.json.tmp", "");
        state_dir_put(".lease-1.json.tmp", "{}");
        assert_int_equal(symlink("/", PATH(".region-egm4.json.tmp")), 0);
        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_damaged, 0);
        assert_int_equal(c.n_leases, 0);
        assert_int_equal(c.n_regions, 0);
        after = state_dir_names();
        assert_string_equal(after, before);
        free(before);
        free(after);
        state_free(s);
}

/* In a child, whose limits and mounts are its own. Exits with 1 at the first check that fails, with 77 where this cannot be
 * done here. */
#define CHECK(e) \
        do { \
                if (!(e)) { \
                        fprintf(stderr, "line %i: %s\n", __LINE__, #e); \
                        _exit(1); \
                } \
        } while (0)

static int in_child(void (*work)(void)) {
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                work();
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

/* Leases up to n are as they were, and nothing lies about. */
static void check_old_are_there(State *s, uint64_t n) {
        StateContent c;

        CHECK(faccessat(AT_FDCWD, PATH(".lease-1.json.tmp"), F_OK, 0) < 0);
        CHECK(faccessat(AT_FDCWD, PATH("lease-1.json"), F_OK, 0) < 0);
        CHECK(state_load(s, &c) == 0);
        CHECK(c.n_damaged == 0);
        CHECK(c.n_leases == n);
        for (uint64_t i = 0; i < n; i++)
                CHECK(c.leases[i].id == i + 1 && streq(c.leases[i].label, "old"));
        state_content_done(&c);
}

static void file_too_large(void) {
        struct rlimit limit = {100, 100};
        State *s;

        CHECK(state_open(state_dir, RECORD_BOOT, &s) == 0);
        CHECK(state_dir_save_lease(s, 1, "old") == 0);
        CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK(state_dir_save_lease(s, 1, "new") == -EFBIG);
        CHECK(state_dir_save_lease(s, 2, "new") == -EFBIG);
        check_old_are_there(s, 1);
        state_free(s);
}

static void no_space(void) {
        static char page[4096];
        uint64_t n = 1;
        State *s;
        int fd, r;

        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", state_dir, "tmpfs", 0, "size=256k,mode=0700") < 0)
                _exit(77);
        CHECK(state_open(state_dir, RECORD_BOOT, &s) == 0);
        CHECK(state_dir_save_lease(s, 1, "new") == 0);
        fd = open(PATH("filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        CHECK(fd >= 0);
        while (write(fd, page, sizeof(page)) > 0)
                ;
        CHECK(errno == ENOSPC);
        /* What is there can change, and the page that it is in gets full. */
        CHECK(state_dir_save_lease(s, 1, "old") == 0);
        while ((r = state_dir_save_lease(s, n + 1, "old")) == 0)
                CHECK(++n < 256);
        CHECK(r == -ENOSPC);
        check_old_are_there(s, n);
        CHECK(state_dir_save_lease(s, n + 1, "new") == -ENOSPC);
        check_old_are_there(s, n);
        /* And when there is room again all is well. */
        CHECK(ftruncate(fd, 0) == 0);
        CHECK(state_dir_save_lease(s, n + 1, "old") == 0);
        check_old_are_there(s, n + 1);
        state_free(s);
}

static void test_cannot_be_written(void **state) {
        int r;

        assert_int_equal(in_child(file_too_large), 0);
        r = in_child(no_space);
        if (r == 77)
                print_message("no mounts of our own here: not tried on a full file system\n");
        else
                assert_int_equal(r, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        STATE_DIR_TEST(test_open),
                        STATE_DIR_TEST(test_open_only_what_is_ours),
                        STATE_DIR_TEST(test_lock),
                        STATE_DIR_TEST(test_save_and_load),
                        STATE_DIR_TEST(test_refuses_what_it_could_not_read),
                        STATE_DIR_TEST(test_forget),
                        STATE_DIR_TEST(test_upgrade),
                        STATE_DIR_TEST(test_closed),
                        STATE_DIR_TEST(test_newer),
                        STATE_DIR_TEST(test_other_boot),
                        STATE_DIR_TEST(test_damaged),
                        STATE_DIR_TEST(test_temporary_and_foreign),
                        STATE_DIR_TEST(test_cannot_be_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
