/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "holders-tree.h"
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "fd-util.h"

char root[] = "/tmp/test-holders-tree-XXXXXX";
HolderDevice devices[2];

static void make_dir(const char *path) {
        assert_true(mkdirat(AT_FDCWD, path, 0755) == 0 || errno == EEXIST);
}

void path_of(char buf[static PATH_MAX], const char *name) {
        (void) snprintf(buf, PATH_MAX, "%s/%s", root, name);
        for (char *p = buf + strlen(root) + 1; (p = strchr(p, '/')); p++) {
                *p = '\0';
                make_dir(buf);
                *p = '/';
        }
}

void put(const char *name, const char *content) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];

        path_of(path, name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(write_all(fd, content, strlen(content)), 0);
}

void put_link(const char *name, const char *target) {
        char path[PATH_MAX];

        path_of(path, name);
        assert_int_equal(symlink(target, path), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f) {
        return remove(path);
}

void take_away(const char *name) {
        char path[PATH_MAX];

        path_of(path, name);
        assert_int_equal(nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void put_process(unsigned pid, const char *comm, char state, unsigned flags, unsigned threads,
                 unsigned start) {
        char name[64], text[256];

        (void) snprintf(name, sizeof(name), "%u/stat", pid);
        (void) snprintf(text, sizeof(text), STAT_FORMAT, pid, comm, state, flags, threads, start);
        put(name, text);
        (void) snprintf(name, sizeof(name), "%u/status", pid);
        put(name, "Name:\tx\nUid:\t1\t2\t3\t4\n");
        (void) snprintf(name, sizeof(name), "%u/maps", pid);
        put(name, "");
        (void) snprintf(name, sizeof(name), "%u/fd", pid);
        {
                char path[PATH_MAX];

                path_of(path, name);
                make_dir(path);
        }
}

void put_idle(unsigned pid) {
        put_process(pid, "idle", 'S', 0, 1, 100);
}

void put_holder(unsigned pid) {
        char name[64];

        put_process(pid, "holder", 'S', 0, 1, 100);
        (void) snprintf(name, sizeof(name), "%u/fd/3", pid);
        put_link(name, "/dev/full");
}

int tree_setup(void **state) {
        struct stat st;

        (void) strcpy(root + strlen(root) - 6, "XXXXXX");
        assert_non_null(mkdtemp(root));
        /* By number, and by inode. */
        assert_int_equal(stat("/dev/full", &st), 0);
        devices[0] = (HolderDevice){.rdev = st.st_rdev, .size = DEVICE_SIZE, .offsets = true};
        put("memfd", "");
        {
                char path[PATH_MAX];

                path_of(path, "memfd");
                assert_int_equal(stat(path, &st), 0);
        }
        devices[1] = (HolderDevice){
                        .dev = st.st_dev, .ino = st.st_ino, .size = DEVICE_SIZE, .offsets = true};
        put_idle(1);
        return 0;
}

int tree_teardown(void **state) {
        return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

HolderScan tree_scan(void) {
        return (HolderScan){.proc = root, .devices = devices, .n_devices = 2, .self = 999999};
}

int scan(HolderList *ret) {
        HolderScan s = tree_scan();

        return holders_scan(&s, ret);
}

void expect_error(int error) {
        HolderList l = {.n = 77};

        assert_int_equal(scan(&l), error);
        assert_int_equal(l.n, 77);
}

void expect_pids(const pid_t *pids) {
        _cleanup_holder_list_ HolderList l = {};

        assert_int_equal(scan(&l), 0);
        for (size_t i = 0; i < l.n; i++)
                assert_int_equal(l.items[i].pid, pids[i]);
        assert_int_equal(pids[l.n], 0);
}
