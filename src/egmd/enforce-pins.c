/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "enforce.h"
#include "enforce-pins.h"
#include "fd-util.h"

#define PIN(name) \
        { name, ENFORCE_PIN_DIRECTORY "/" name }

const EnforcePin enforce_pins[ENFORCE_N_PINS] = {
                PIN("bearers"), PIN("leases"),   PIN("devices"),      PIN("highest"),
                PIN("mmap"),    PIN("mprotect"), PIN("fork"),         PIN("exec"),
                PIN("forked"),  PIN("ioctl"),    PIN("ioctl-compat"),
};

static int open_directory(int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        struct statfs fs;
        struct stat st;

        fd = open(ENFORCE_PIN_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (fs.f_type != BPF_FS_MAGIC)
                return -ENOTTY;
        /* Whoever can get in there can bind whom he likes. */
        if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
                return -EPERM;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int enforce_pins_open(int *ret_fd) {
        assert(ret_fd);

        if (mkdir(ENFORCE_PIN_DIRECTORY, 0700) < 0 && errno != EEXIST)
                return -errno;
        return open_directory(ret_fd);
}

int enforce_pins_complete(int dir) {
        struct stat st;

        assert(dir >= 0);

        for (size_t i = 0; i < ENFORCE_N_PINS; i++)
                if (fstatat(dir, enforce_pins[i].name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return errno == ENOENT ? 0 : -errno;
        return 1;
}

int enforce_remove_pins(void) {
        _cleanup_close_ int fd = -EBADF;
        int r = 0;

        fd = open(ENFORCE_PIN_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        (void) unlinkat(fd, ENFORCE_PIN_NEXT, 0);
        /* The programs before what they go by: links are behind the maps. */
        for (size_t i = ENFORCE_N_PINS; i-- > 0;)
                if (unlinkat(fd, enforce_pins[i].name, 0) >= 0)
                        r = 1;
                else if (errno != ENOENT)
                        return -errno;
        /* Under our unit it is a mount of its own, and stays. */
        if (rmdir(ENFORCE_PIN_DIRECTORY) < 0 && errno != EBUSY && errno != EROFS)
                return -errno;
        return r;
}
