/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "proc-parse.h"

/* Parsers get a copy without a NUL at its end, so that the sanitizer sees them look past it. */
static char *exact(const char *s, size_t n) {
        char *copy = malloc(n > 0 ? n : 1);

        assert_non_null(copy);
        memcpy(copy, s, n);
        return copy;
}

typedef struct MapsCase {
        const char *line;
        uint64_t start, end, offset;
        unsigned major, minor;
        uint64_t ino;
        bool shared;
        const char *path;
} MapsCase;

static const MapsCase maps_good[] = {
                {"7f2a40000000-7f2a40200000 rw-s 00200000 00:05 812                        "
                 "/dev/egm4",
                 0x7f2a40000000, 0x7f2a40200000, 0x200000, 0, 5, 812, true, "/dev/egm4"},
                /* opened for reading only */
                {"7f2a40000000-7f2a40001000 r--s 00000000 00:05 812 /dev/egm4", 0x7f2a40000000,
                 0x7f2a40001000, 0, 0, 5, 812, true, "/dev/egm4"},
                /* private: the offset is the physical address */
                {"7f2a40000000-7f2a40001000 rw-p 200000000000 00:05 812 /dev/egm4", 0x7f2a40000000,
                 0x7f2a40001000, 0x200000000000, 0, 5, 812, false, "/dev/egm4"},
                /* no permissions left */
                {"7f2a40000000-7f2a40001000 ---s 00000000 00:05 812 /dev/egm4", 0x7f2a40000000,
                 0x7f2a40001000, 0, 0, 5, 812, true, "/dev/egm4"},
                {"1000-2000 rw-p 00000000 00:00 0 ", 0x1000, 0x2000, 0, 0, 0, 0, false, ""},
                {"1000-2000 rw-p 00000000 00:00 0", 0x1000, 0x2000, 0, 0, 0, 0, false, ""},
                {"1000-2000 rw-p 00000000 00:00 0                          [heap]", 0x1000, 0x2000,
                 0, 0, 0, 0, false, "[heap]"},
                {"1000-2000 rw-s 00000000 00:01 5 [anon_shmem:0-1 rw-s 0 0:0 0]", 0x1000, 0x2000, 0,
                 0, 1, 5, true, "[anon_shmem:0-1 rw-s 0 0:0 0]"},
                {"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]",
                 0xffffffffff600000, 0xffffffffff601000, 0, 0, 0, 0, false, "[vsyscall]"},
                {"0-ffffffffffffffff rw-s fffffffffffff000 fff:fffff 18446744073709551615 /x", 0,
                 UINT64_MAX, 0xfffffffffffff000, 0xfff, 0xfffff, UINT64_MAX, true, "/x"},
                /* names that look like something else */
                {"1000-2000 rw-s 00000000 00:05 9 /tmp/a b (deleted)", 0x1000, 0x2000, 0, 0, 5, 9,
                 true, "/tmp/a b (deleted)"},
                {"1000-2000 rw-s 00000000 00:05 9 /tmp/a\\0121000-2000 rw-s 0 00:05 812 /dev/egm4",
                 0x1000, 0x2000, 0, 0, 5, 9, true,
                 "/tmp/a\\0121000-2000 rw-s 0 00:05 812 /dev/egm4"},
                {"1000-2000 rw-s 00000000 00:05 9 /\xff\x01\t", 0x1000, 0x2000, 0, 0, 5, 9, true,
                 "/\xff\x01\t"},
};

static void test_maps_good(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(maps_good); i++) {
                const MapsCase *c = maps_good + i;
                size_t n = strlen(c->line);
                _cleanup_free_ char *line = exact(c->line, n);
                MapsLine m;

                assert_int_equal(maps_line_parse(line, n, &m), 0);
                assert_true(m.start == c->start && m.end == c->end && m.offset == c->offset);
                assert_true(m.dev == makedev(c->major, c->minor));
                assert_true(m.ino == c->ino);
                assert_int_equal(m.shared, c->shared);
                assert_int_equal(m.path_size, strlen(c->path));
                assert_memory_equal(m.path, c->path, m.path_size);
                assert_ptr_equal(m.path + m.path_size, line + n);
                assert_ptr_equal(m.identity + m.identity_size, line + n);
        }
}

static void test_maps_identity(void **state) {
        static const char a[] = "1000-2000 rw-s 00000000 00:05 9     /a",
                          b[] = "ff000-ff2000 r--p 00001000 00:05 9     /a",
                          c[] = "1000-2000 rw-s 00000000 00:06 9     /a";
        MapsLine x, y, z;

        assert_int_equal(maps_line_parse(a, strlen(a), &x), 0);
        assert_int_equal(maps_line_parse(b, strlen(b), &y), 0);
        assert_int_equal(maps_line_parse(c, strlen(c), &z), 0);
        assert_int_equal(x.identity_size, strlen("00:05 9     /a"));
        assert_int_equal(y.identity_size, x.identity_size);
        assert_memory_equal(x.identity, y.identity, x.identity_size);
        assert_memory_not_equal(x.identity, z.identity, x.identity_size);
}

static void test_maps_bad(void **state) {
        static const char *const bad[] = {
                        "",
                        " ",
                        "-",
                        "1000",
                        "1000-",
                        "1000-2000",
                        "1000-2000 ",
                        "1000-2000 rw-s",
                        "1000-2000 rw-s 0",
                        "1000-2000 rw-s 00000000 00:05",
                        "1000-2000 rw-s 00000000 00:05 ",
                        "1000-2000 rw-s 00000000 0005 812 /dev/egm4",
                        "1000-2000 rw-s 00000000 :05 812 /dev/egm4",
                        "1000-2000 rw-s 00000000 00:05 812/dev/egm4",
                        "1000-2000 rw-s 00000000 00:05 81a /dev/egm4",
                        "1000-2000 rw-s 00000000 100000000:05 1 /x",
                        "1000-2000 rw-s 00000000 05:100000000 1 /x",
                        "1000-2000 rw-x 00000000 00:05 812 /dev/egm4", /* neither */
                        "1000-2000 rws 00000000 00:05 812 /dev/egm4",
                        "1000-2000 rw-ss 00000000 00:05 812 /dev/egm4",
                        "1000-2000  rw-s 00000000 00:05 812 /dev/egm4",
                        "2000-1000 rw-s 00000000 00:05 812 /dev/egm4", /* backwards */
                        "1000-1000 rw-s 00000000 00:05 812 /dev/egm4", /* empty */
                        "-1000-2000 rw-s 00000000 00:05 812 /dev/egm4",
                        "0x1000-2000 rw-s 00000000 00:05 812 /dev/egm4",
                        "1000-2000 rw-s -0000000 00:05 812 /dev/egm4",
                        "1000-10000000000000000 rw-s 0 00:05 812 /dev/egm4", /* over 64 bits */
                        "1000-2000 rw-s 10000000000000000 00:05 812 /dev/egm4",
                        "1000-2000 rw-s 00000000 00:05 18446744073709551616 /dev/egm4",
                        "Garbage",
        };
        MapsLine m = {.ino = 77};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                size_t n = strlen(bad[i]);
                _cleanup_free_ char *line = exact(bad[i], n);

                if (maps_line_parse(line, n, &m) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
                assert_true(m.ino == 77);
        }
}

/* Every beginning of a line is either refused or means the same but for the path. */
static void test_maps_cut(void **state) {
        const char *whole = maps_good[0].line;
        size_t path_at = (size_t) (strchr(whole, '/') - whole);

        for (size_t n = 0; n < strlen(whole); n++) {
                _cleanup_free_ char *line = exact(whole, n);
                MapsLine m;
                int r = maps_line_parse(line, n, &m);

                if (n >= path_at) {
                        assert_int_equal(r, 0);
                        assert_true(m.ino == 812);
                        assert_int_equal(m.path_size, n - path_at);
                }
        }
}

static void test_maps_path(void **state) {
        static const struct {
                const char *path, *expected;
        } cases[] = {
                        {"", ""},
                        {"/dev/egm4", "/dev/egm4"},
                        {"/dev/egm4 (deleted)", "/dev/egm4"},
                        {"/dev/a (deleted) (deleted)", "/dev/a (deleted)"},
                        {"/a\\012b", "/a\nb"},
                        {"\\012", "\n"},
                        {"/a\\01", "/a\\01"},
                        {"/a\\", "/a\\"},
                        {"/a\\040b", "/a\\040b"},
                        {" (deleted)", ""},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                size_t n = strlen(cases[i].path);
                _cleanup_free_ char *path = exact(cases[i].path, n), *s = NULL;

                assert_int_equal(maps_path_unescape(path, n, &s), 0);
                assert_string_equal(s, cases[i].expected);
        }
}

static void check_stat(const char *text, const char *comm, char state, bool kernel_thread,
                       uint64_t threads, uint64_t start) {
        size_t n = strlen(text);
        _cleanup_free_ char *copy = exact(text, n);
        ProcStat s;

        assert_int_equal(proc_stat_parse(copy, n, &s), 0);
        assert_string_equal(s.comm, comm);
        assert_int_equal(s.state, state);
        assert_int_equal(s.kernel_thread, kernel_thread);
        assert_true(s.n_threads == threads && s.start_time == start);
}

static void test_stat(void **state) {
        static const char tail[] = " 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 1 1 1\n";
        char text[512];

        check_stat("7 (qemu) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 1 1 1\n", "qemu",
                   'S', false, 3, 4711);
        check_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 1 2 3 4 5 6 7 8 20 0 1 0 5 0 0 1\n",
                   "kthreadd", 'S', true, 1, 5);
        check_stat("7 (a) Z 1 7 7 34816 4000 4227084 1 2 3 4 5 6 -7 -8 20 -20 2 0 "
                   "18446744073709551615 "
                   "0 0\n",
                   "a", 'Z', false, 2, UINT64_MAX);

        /* Names that try to be the rest of the line, or none at all. */
        (void) snprintf(text, sizeof(text), "7 (a) Z 0 0 0 0 0 2129984 ) S 1 7 7 0 -1%s", tail);
        check_stat(text, "a) Z 0 0 0 0 0 2129984 ", 'S', false, 3, 4711);
        (void) snprintf(text, sizeof(text), "7 (()\n\x01\xff\t\x7f) R 1 7 7 0 -1%s", tail);
        check_stat(text, "()?????", 'R', false, 3, 4711);
        (void) snprintf(text, sizeof(text), "7 () R 1 7 7 0 -1%s", tail);
        check_stat(text, "", 'R', false, 3, 4711);
        (void) snprintf(text, sizeof(text), "7 (%0100d) R 1 7 7 0 -1%s", 0, tail);
        check_stat(text, "000000000000000000000000000000000000000000000000000000000000000", 'R',
                   false, 3, 4711);
}

static void test_stat_bad(void **state) {
        static const char good[] = "7 (q) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 ";
        static const char *const bad[] = {
                        "",
                        "7",
                        "7 (",
                        "7 (q S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 1\n",
                        "(q) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 1\n",
                        "7 (q)S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 1\n",
                        "7 (q) S 1 7 7 0 -1 x 1 2 3 4 5 6 7 8 20 0 3 0 4711 1\n",
                        "7 (q) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 -3 0 4711 1\n",
                        "7 (q) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 -4711 1\n",
                        "7 (q) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 18446744073709551616 "
                        "1\n",
                        "7 (q) S  7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4711 1\n",
                        "7 (q) S 1 7 7 0 -1 4194560x 1 2 3 4 5 6 7 8 20 0 3 0 4711 1\n",
        };
        ProcStat s = {.start_time = 77};

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                size_t n = strlen(bad[i]);
                _cleanup_free_ char *text = exact(bad[i], n);

                if (proc_stat_parse(text, n, &s) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
                assert_true(s.start_time == 77);
        }
        /* A start time that might be cut is none. */
        for (size_t n = 0; n < strlen(good); n++) {
                _cleanup_free_ char *text = exact(good, n);

                assert_int_equal(proc_stat_parse(text, n, &s), -EBADMSG);
        }
        assert_int_equal(proc_stat_parse(good, strlen(good), &s), 0);
}

static int parse_uid(const char *text, uid_t *ret) {
        size_t n = strlen(text);
        _cleanup_free_ char *copy = exact(text, n);

        return proc_status_parse_uid(copy, n, ret);
}

static void test_uid(void **state) {
        uid_t uid = 77;

        assert_int_equal(parse_uid("Name:\tq\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n",
                                   &uid),
                         0);
        assert_int_equal(uid, 2);
        assert_int_equal(parse_uid("Name:\tUid:\t9\t9\t9\t9\\nUid:\t8\t8\nUid:"
                                   "\t0\t4294967294\t0\t0\n",
                                   &uid),
                         0);
        assert_true(uid == 4294967294);
        uid = 77;
        assert_int_equal(parse_uid("", &uid), -EBADMSG);
        assert_int_equal(parse_uid("Name:\tq\nGid:\t1\t2\t3\t4\n", &uid), -EBADMSG);
        assert_int_equal(parse_uid("Uid:\t1\n", &uid), -EBADMSG);
        assert_int_equal(parse_uid("Uid:\t1\t2", &uid), -EBADMSG);
        assert_int_equal(parse_uid("Uid:\t1\t-1\t2\t3\n", &uid), -EBADMSG);
        assert_int_equal(parse_uid("Uid:\t1\t4294967296\t2\t3\n", &uid), -EBADMSG);
        assert_int_equal(uid, 77);
}

static int parse_flags(const char *text, int *ret) {
        size_t n = strlen(text);
        _cleanup_free_ char *copy = exact(text, n);

        return proc_fdinfo_parse_flags(copy, n, ret);
}

static void test_fdinfo(void **state) {
        int flags = 77;

        assert_int_equal(parse_flags("pos:\t0\nflags:\t0100002\nmnt_id:\t4\nino:\t7\n", &flags), 0);
        assert_int_equal(flags, 0100002);
        assert_int_equal(parse_flags("flags:\t012000000\n", &flags), 0);
        assert_true((flags & O_PATH) == O_PATH);
        flags = 77;
        assert_int_equal(parse_flags("", &flags), -EBADMSG);
        assert_int_equal(parse_flags("pos:\t0\n", &flags), -EBADMSG);
        assert_int_equal(parse_flags("flags:\t\n", &flags), -EBADMSG);
        assert_int_equal(parse_flags("flags:\t08\n", &flags), -EBADMSG);
        assert_int_equal(parse_flags("flags:\t040000000000\n", &flags), -EBADMSG);
        assert_int_equal(flags, 77);
}

static void test_unit(void **state) {
        static const struct {
                const char *text, *unit, *slice;
        } cases[] = {
                        {"0::/system.slice/foo.service\n", "foo.service", "system.slice"},
                        {"0::/system.slice/foo.service", "foo.service", "system.slice"},
                        {"0::/machine.slice/machine-qemu\\x2d1.scope/libvirt/emulator\n",
                         "machine-qemu\\x2d1.scope", "machine.slice"},
                        {"0::/user.slice/user-0.slice/user@0.service/app.slice/x.scope\n",
                         "user@0.service", "user-0.slice"},
                        {"0::/a.slice/a-b.slice/c.service (deleted)\n", "c.service", "a-b.slice"},
                        {"0::/init.scope\n", "init.scope", NULL},
                        {"0::/system.slice/_cpu.service\n", "cpu.service", "system.slice"},
                        {"0::/a\x1b.slice/foo.service\n", NULL, NULL},
                        {"0::/.slice/foo.service\n", NULL, NULL},
                        {"0::/\n", NULL, NULL},
                        {"0::\n", NULL, NULL},
                        {"", NULL, NULL},
                        {"0::/system.slice\n", NULL, NULL},
                        {"0::/system.slice/\n", NULL, NULL},
                        {"0::/docker/0123.scope\n", NULL, NULL}, /* not below a unit of systemd's */
                        {"0::/../foo.service\n", NULL, NULL},
                        {"0::foo.service\n", NULL, NULL},
                        {"0::/.service\n", NULL, NULL},
                        {"0::/a b.service\n", NULL, NULL},
                        {"0::/a\x1b[2J.service\n", NULL, NULL},
                        {"0::/\xff.service\n", NULL, NULL},
                        /* hybrid and legacy */
                        {"9:name=systemd:/system.slice/foo.service\n8:pids:/x.service\n0::/\n",
                         "foo.service", "system.slice"},
                        {"4:memory:/bar.service\n1:name=systemd:/\n0::/system.slice/foo.service\n",
                         "foo.service", "system.slice"},
                        {"4:memory:/bar.service\n", NULL, NULL},
                        {"4:name=other:/bar.service\n", NULL, NULL},
                        {"1:name=systemd:/foo.scope/0::/bar.service\n", "foo.scope", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                size_t n = strlen(cases[i].text);
                _cleanup_free_ char *text = exact(cases[i].text, n), *unit = NULL, *slice = NULL;
                int r = proc_cgroup_parse_unit(text, n, &unit, &slice);

                if (r != (cases[i].unit ? 0 : -ENXIO) || !streq_ptr(unit, cases[i].unit) ||
                    !streq_ptr(slice, cases[i].slice))
                        fail_msg("%s: %i, %s in %s", cases[i].text, r, unit ?: "none",
                                 slice ?: "none");
        }
        {
                static const char bad[] = "garbage\n";
                _cleanup_free_ char *unit = NULL;

                assert_int_equal(proc_cgroup_parse_unit(bad, strlen(bad), &unit, NULL), -EBADMSG);
                assert_null(unit);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_maps_good), cmocka_unit_test(test_maps_identity),
                        cmocka_unit_test(test_maps_bad),  cmocka_unit_test(test_maps_cut),
                        cmocka_unit_test(test_maps_path), cmocka_unit_test(test_stat),
                        cmocka_unit_test(test_stat_bad),  cmocka_unit_test(test_uid),
                        cmocka_unit_test(test_fdinfo),    cmocka_unit_test(test_unit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
