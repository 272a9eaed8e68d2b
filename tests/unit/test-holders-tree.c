/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What no process can be made to show on request. */

#include "holders-tree.h"
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fd-util.h"

/* ---- descriptors ---- */

static void test_who(void **state) {
        _cleanup_holder_list_ HolderList l = {};
        _cleanup_free_ char *s = NULL;

        put_holder(50);
        put("50/cgroup", "0::/machine.slice/vm.scope/libvirt\n");
        assert_int_equal(scan(&l), 0);
        assert_int_equal(l.n, 1);
        assert_true(l.items[0].pid == 50 && l.items[0].start_time == 100 && l.items[0].uid == 2);
        assert_int_equal(holder_describe(l.items, &s), 0);
        assert_string_equal(s, "pid 50 (holder, vm.scope)");
}

static void test_odd_descriptors(void **state) {
        put_idle(50);
        put_link("50/fd/0", "50/nowhere"); /* closed meanwhile */
        put_link("50/fd/1", "1");          /* ELOOP: a file system that gives errors */
        put_link("50/fd/2", "/dev/zero");
        put_link("50/fd/x", "/dev/full"); /* not a number */
        put_link("50/fd/99999999999", "/dev/full");
        EXPECT_PIDS();
        if (geteuid() == 0) {
                char path[PATH_MAX];

                /* the same number, but of a disk */
                path_of(path, "disk");
                assert_int_equal(mknod(path, S_IFBLK | 0600, devices[0].rdev), 0);
                put_link("50/fd/3", path);
                EXPECT_PIDS();
        }
        put_link("50/fd/4294967295", "/dev/full");
        EXPECT_PIDS(50);
}

static void test_same_inode_elsewhere(void **state) {
        char path[PATH_MAX];

        put_idle(50);
        path_of(path, "memfd");
        put_link("50/fd/3", path);
        EXPECT_PIDS(50);
        devices[1].dev++;
        EXPECT_PIDS();
        devices[1].dev--;
        devices[1].ino++;
        EXPECT_PIDS();
}

static void test_path_only(void **state) {
        put_holder(50);
        put("50/fdinfo/3", "pos:\t0\nflags:\t010000000\n");
        EXPECT_PIDS();
        put_link("50/fd/4", "/dev/full");
        put("50/fdinfo/4", "pos:\t0\nflags:\t0100002\n");
        EXPECT_PIDS(50);
        take_away("50/fdinfo/4"); /* closed since we saw it */
        EXPECT_PIDS(50);
        put("50/fdinfo/4", "flags: none\n");
        expect_error(-EBADMSG);
}

static void test_nothing_to_look_at(void **state) {
        put_process(50, "kworker", 'S', 0x00200040, 1, 100);
        put_link("50/fd/3", "/dev/full");
        put_process(51, "zombie", 'Z', 0, 1, 100);
        put_link("51/fd/3", "/dev/full");
        put("self", "nobody");
        put("4294967366/stat", "not 70\n"); /* 70 if one did not look */
        EXPECT_PIDS();
        put_holder(52);
        take_away("52/maps"); /* neither is an error: they went away one after the other */
        put_idle(53);
        take_away("53/fd");
        EXPECT_PIDS(52);
}

static void test_threads(void **state) {
        /* The first has ended, the second has the memory and the descriptors. */
        put_process(50, "odd", 'Z', 0, 3, 100);
        put_link("50/task/50/fd/3", "/dev/zero");
        put("50/task/51/maps", "");
        put_link("50/task/51/fd/3", "/dev/zero");
        put("50/task/52/maps", "1000-2000 rw-s 00000000 00:00 0 \n");
        put_link("50/task/52/fd/7", "/dev/full");
        /* As many threads, none with anything. */
        put_process(60, "even", 'S', 0, 2, 100);
        put_link("60/task/61/fd/3", "/dev/zero");
        put("60/task/61/maps", "Not to be read: the first thread's mappings are everybody's.\n");
        put("60/maps", "1000-2000 rw-s 00000000 00:00 0 \n");
        EXPECT_PIDS(50);
        take_away("50/task/52/fd/7");
        EXPECT_PIDS();
        put("50/task/52/maps", "1000-2000 rw-s 00000000 00:05 12 /dev/full\n");
        devices[0].dev = makedev(0, 5);
        devices[0].ino = 12;
        EXPECT_PIDS(50);
}

/* ---- mappings ---- */

static void put_maps(unsigned pid, const char *beginning, const HolderDevice *d) {
        char name[64], text[512];

        (void) snprintf(name, sizeof(name), "%u/maps", pid);
        (void) snprintf(text, sizeof(text), "%s %02x:%02x %ju /x\n", beginning, major(d->dev),
                        minor(d->dev), (uintmax_t) d->ino);
        put(name, text);
}

static void expect_mapped(const char *beginning, const HolderDevice *d, uint64_t offset,
                          uint64_t size) {
        _cleanup_holder_list_ HolderList l = {};

        put_maps(50, beginning, d);
        assert_int_equal(scan(&l), 0);
        assert_int_equal(l.n, 1);
        assert_true(l.items[0].maps);
        assert_int_equal(l.items[0].mapped.n, size > 0);
        if (size == 0)
                return;
        assert_true(l.items[0].mapped.items[0].offset == offset);
        assert_true(l.items[0].mapped.items[0].size == size);
}

static void test_ranges(void **state) {
        HolderDevice *number = devices, *inode = devices + 1;

        put_idle(50);
        number->dev = makedev(0, 5);
        number->ino = 4711;
        for (size_t i = 0; i < 2; i++) {
                const HolderDevice *d = devices + i;

                expect_mapped("1000-3000 rw-s 00004000", d, 0x4000, 0x2000);
                expect_mapped("1000-3000 rw-p 00004000", d, 0, DEVICE_SIZE);
                expect_mapped("0-100000 rw-s 00000000", d, 0, DEVICE_SIZE);
                /* overflow */
                expect_mapped("1000-3000 rw-s fffffffffffff000", d, 0, DEVICE_SIZE);
        }
        /* Past the end there is nothing in a file, but nobody knows what on a device that allows it. */
        expect_mapped("1000-3000 rw-s 000ff000", number, 0, DEVICE_SIZE);
        expect_mapped("1000-3000 rw-s 000ff000", inode, 0xff000, 0x1000);
        expect_mapped("1000-3000 rw-s 10000000000", number, 0, DEVICE_SIZE);
        expect_mapped("1000-3000 rw-s 10000000000", inode, 0, 0);
        number->offsets = inode->offsets = false;
        expect_mapped("1000-3000 rw-s 00004000", number, 0, DEVICE_SIZE);
        expect_mapped("1000-3000 rw-s 00004000", inode, 0, DEVICE_SIZE);
}

static void test_other_nodes(void **state) {
        char text[256];
        struct stat st;

        put_idle(50);
        put("50/maps", "1000-3000 rw-s 00004000 00:05 12 /a\n4000-5000 rw-s 00004000 00:05 13 /a\n"
                       "6000-7000 r--p 00004000 00:05 12 /a\n");
        put_link("50/map_files/1000-3000", "/dev/zero");
        put_link("50/map_files/4000-5000", "/dev/zero");
        EXPECT_PIDS();
        take_away("50/map_files/4000-5000");
        put_link("50/map_files/4000-5000", "/dev/full");
        EXPECT_PIDS(50);

        /* The mapping is there no longer when its file is asked for: its name must do, if it is the same node. */
        take_away("50/map_files");
        EXPECT_PIDS();
        assert_int_equal(stat("/dev/full", &st), 0);
        (void) snprintf(text, sizeof(text), "1000-3000 rw-s 00004000 %x:%x %ju /dev/full\n",
                        major(st.st_dev), minor(st.st_dev), (uintmax_t) st.st_ino);
        put("50/maps", text);
        EXPECT_PIDS(50);
        (void) snprintf(text, sizeof(text), "1000-3000 rw-s 00004000 %x:%x %ju /dev/full\n",
                        major(st.st_dev), minor(st.st_dev), (uintmax_t) st.st_ino + 1);
        put("50/maps", text);
        EXPECT_PIDS();
}

/* Files are asked about once, whoever maps them; those that cannot be remembered, each time. */
static void test_many_files(void **state) {
        put_idle(50);
        put_idle(51);
        put("50/maps", "1000-3000 rw-s 00004000 00:05 12 /a\n");
        put("51/maps", "1000-3000 rw-s 00004000 00:05 12 /a\n");
        put_link("50/map_files/1000-3000", "/dev/full");
        put_link("51/map_files/1000-3000", "/dev/full");
        EXPECT_PIDS(50, 51);
        put("51/maps", "1000-3000 rw-s 00004000 00:05 12 /b\n");
        take_away("51/map_files/1000-3000");
        put_link("51/map_files/1000-3000", "/dev/zero");
        EXPECT_PIDS(50);
}

/* Paths can be longer than any buffer; what comes after them counts all the same. */
static void test_long_paths(void **state) {
        enum { BUFFER = 64 * 1024 };
        static const int lengths[] = {4000,        BUFFER - 34, BUFFER - 33,
                                      BUFFER - 32, BUFFER - 31, BUFFER - 30,
                                      BUFFER,      200000,      2 * BUFFER};
        char last[128];

        put_idle(50);
        (void) snprintf(last, sizeof(last), "3000-4000 rw-s 00002000 %x:%x %ju /x",
                        major(devices[1].dev), minor(devices[1].dev), (uintmax_t) devices[1].ino);
        for (size_t i = 0; i < ELEMENTSOF(lengths); i++) {
                _cleanup_free_ char *text = NULL, *path = malloc((size_t) lengths[i] + 1);
                _cleanup_holder_list_ HolderList l = {};

                assert_non_null(path);
                memset(path, '/', (size_t) lengths[i]);
                path[lengths[i]] = '\0';
                assert_true(asprintf(&text, "1000-2000 rw-s 00000000 00:05 9 %s\n%s\n", path,
                                     last) > 0);
                put("50/maps", text);
                put_link("50/map_files/1000-2000", "/dev/zero");
                assert_int_equal(scan(&l), 0);
                assert_int_equal(l.n, 1);
                assert_true(l.items[0].mapped.n == 1 &&
                            l.items[0].mapped.items[0].offset == 0x2000);
                take_away("50/map_files/1000-2000");
                put_link("50/map_files/1000-2000", "/dev/full");
                holder_list_done(&l);
                assert_int_equal(scan(&l), 0);
                assert_int_equal(l.n, 2);
                take_away("50/map_files/1000-2000");
        }
}

static void test_many_mappings(void **state) {
        _cleanup_holder_list_ HolderList l = {};
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&text, &size);
        assert_non_null(f);
        /* Every other page of the first half. */
        for (unsigned i = 0; i < 64; i++)
                (void) fprintf(f, "%x-%x r--s %08x %x:%x %ju    /memfd:a b\\012c (deleted)\n",
                               i * 0x10000, i * 0x10000 + 0x1000, i * 0x2000, major(devices[1].dev),
                               minor(devices[1].dev), (uintmax_t) devices[1].ino);
        for (unsigned i = 0; i < 4000; i++)
                (void) fprintf(f, "7%07x000-7%07x000 rw-p 00000000 00:00 0 \n", i * 2, i * 2 + 1);
        assert_int_equal(fclose(f), 0);
        put_idle(50);
        put("50/maps", text);
        assert_int_equal(scan(&l), 0);
        assert_int_equal(l.n, 1);
        assert_int_equal(l.items[0].mapped.n, 64);
        assert_true(ranges_bytes(&l.items[0].mapped) == 64 * 0x1000);
}

/* ---- faults ---- */

static void test_garbage(void **state) {
        static const char *const maps[] = {"Garbage\n", "\n",
                                           "1000-2000 rw-s 00000000 00:00 0", /* never ends */
                                           "1000-2000 rw-s 00000000 00:00 0 \n1000-2000 rw-s 0000"};

        put_idle(50);
        for (size_t i = 0; i < ELEMENTSOF(maps); i++) {
                put("50/maps", maps[i]);
                expect_error(-EBADMSG);
        }
        put("50/maps", "");
        EXPECT_PIDS();
        put("50/stat", "50 (idle\n");
        expect_error(-EBADMSG);
        put("50/stat", "");
        expect_error(-EBADMSG);
        take_away("50");
        put_holder(50);
        put("50/status", "");
        expect_error(-EBADMSG);
        put("50/status", "Uid:\t0\t0\t0\t0\n");
        put("50/cgroup", "???"); /* only a name is lost */
        EXPECT_PIDS(50);
}

static void test_hidden(void **state) {
        HolderScan s = tree_scan();
        HolderList l = {};

        take_away("1");
        expect_error(-EACCES);
        s.ignore_inaccessible = true;
        assert_int_equal(holders_scan(&s, &l), 0);
        s = tree_scan();
        s.proc = "/nowhere";
        assert_int_equal(holders_scan(&s, &l), -ENOENT);
        assert_int_equal(l.n, 0);
}

static void test_unreadable(void **state) {
        static const char *const names[] = {"50/fd", "50/maps", "50/stat", "50"};
        bool is_root = geteuid() == 0;
        char path[PATH_MAX];

        put_holder(50);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                HolderScan s = tree_scan();
                HolderList l = {};
                struct stat st;
                int r, ignoring;

                path_of(path, names[i]);
                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(chmod(path, 0), 0);
                assert_int_equal(chmod(root, 0755), 0);
                if (is_root)
                        assert_int_equal(seteuid(65534), 0);
                r = holders_scan(&s, &l);
                s.ignore_inaccessible = true;
                ignoring = holders_scan(&s, &l);
                if (is_root)
                        assert_int_equal(seteuid(0), 0);
                assert_int_equal(chmod(path, st.st_mode & 07777), 0);
                assert_int_equal(r, -EACCES);
                assert_int_equal(ignoring, 0);
                assert_int_equal(l.n, 0);
        }
        EXPECT_PIDS(50);
}

static void test_no_descriptors_left(void **state) {
        struct rlimit old, r;
        unsigned failed = 0;

        put_holder(50);
        put_process(60, "threads", 'S', 0, 2, 100);
        put_link("60/task/61/fd/3", "/dev/full");
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        r = old;
        for (r.rlim_cur = 0;; r.rlim_cur++) {
                HolderScan s = tree_scan();
                HolderList l = {.n = 77};
                int k;

                s.want_pipes = true;
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
                k = holders_scan(&s, &l);
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
                if (k == -EMFILE) {
                        assert_int_equal(l.n, 77);
                        failed++;
                        continue;
                }
                assert_int_equal(k, 0);
                assert_int_equal(l.n, 2);
                holder_list_done(&l);
                break;
        }
        assert_true(failed > 3);
}

/* Allocations until one fails; negative: never. */
static int allocations_left = -1;

static bool out_of_memory(void) {
        if (allocations_left < 0)
                return false;
        if (allocations_left == 0) {
                errno = ENOMEM;
                return true;
        }
        allocations_left--;
        return false;
}

#define DEFINE_WRAP(ret, name, params, args) \
        ret __real_##name params; \
        ret __wrap_##name params; \
        ret __wrap_##name params { \
                return out_of_memory() ? NULL : __real_##name args; \
        }

DEFINE_WRAP(void *, malloc, (size_t n), (n))
DEFINE_WRAP(void *, calloc, (size_t n, size_t size), (n, size))
DEFINE_WRAP(void *, realloc, (void *p, size_t size), (p, size))
DEFINE_WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size))
DEFINE_WRAP(char *, strdup, (const char *s), (s))
DEFINE_WRAP(char *, strndup, (const char *s, size_t n), (s, n))

static void test_no_memory_left(void **state) {
        unsigned failed = 0;
        int pipes[2];

        put_holder(50);
        put("50/cgroup", "0::/a.service\n");
        put("50/maps", "1000-3000 rw-s 00004000 00:05 12 /a\n7000-8000 rw-p 0 00:05 12 /a\n");
        put_link("50/map_files/1000-3000", "/dev/full");
        put_idle(60);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        {
                char target[64];

                (void) snprintf(target, sizeof(target), "/proc/self/fd/%i", pipes[0]);
                put_link("50/fd/9", target);
                put_link("50/fd/10", target);
        }
        for (int i = 0;; i++) {
                HolderScan s = tree_scan();
                HolderList l = {.n = 77};
                int r;

                s.want_pipes = true;
                allocations_left = i;
                r = holders_scan(&s, &l);
                allocations_left = -1;
                if (r == -ENOMEM) {
                        assert_int_equal(l.n, 77);
                        failed++;
                        continue;
                }
                assert_int_equal(r, 0);
                assert_int_equal(l.n, 1);
                assert_string_equal(l.items[0].unit, "a.service");
                assert_int_equal(l.items[0].n_pipes, 1);
                assert_true(ranges_bytes(&l.items[0].mapped) == DEVICE_SIZE);
                holder_list_done(&l);
                break;
        }
        assert_true(failed > 10);
        (void) safe_close(pipes[0]);
        (void) safe_close(pipes[1]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_who, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_odd_descriptors, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_same_inode_elsewhere, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_path_only, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_nothing_to_look_at, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_threads, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_ranges, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_other_nodes, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_many_files, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_long_paths, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_many_mappings, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_garbage, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_hidden, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_unreadable, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_no_descriptors_left, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_no_memory_left, tree_setup,
                                                        tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
