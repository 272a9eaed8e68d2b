/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "fd-util.h"
#include "lease-record.h"

#define SLOT 1024
#define PATH_SIZE 256

static void file_path(const char *directory, uint64_t id, char ret[static PATH_SIZE]) {
        (void) snprintf(ret, PATH_SIZE, "%s/lease-%" PRIu64 ".json", directory, id);
}

static int open_table(const char *directory) {
        char path[PATH_SIZE];

        (void) snprintf(path, sizeof(path), "%s/leases", directory);
        return open(path, O_RDWR | O_CLOEXEC);
}

/* Where in the table, and what; 0: nowhere. */
static off_t find_slot(int fd, uint64_t id, char text[static SLOT + 1]) {
        char needle[32];
        ssize_t n;

        (void) snprintf(needle, sizeof(needle), "\"id\":%" PRIu64 ",", id);
        for (off_t at = SLOT; (n = pread(fd, text, SLOT, at)) > 0; at += SLOT) {
                text[n] = '\0';
                if (strstr(text, needle))
                        return at;
        }
        return 0;
}

char *lease_record_get(const char *directory, uint64_t id) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_SIZE], slot[SLOT + 1], *text;

        file_path(directory, id, path);
        if (read_full_file_at(AT_FDCWD, path, 64 * KIB, &text, NULL) >= 0)
                return text;
        fd = open_table(directory);
        return fd >= 0 && find_slot(fd, id, slot) > 0 ? strdup(slot) : NULL;
}

int lease_record_put(const char *directory, uint64_t id, const char *text) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_SIZE], slot[SLOT + 1];
        off_t at;

        file_path(directory, id, path);
        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        if (fd >= 0)
                return write_all(fd, text, strlen(text));
        fd = open_table(directory);
        if (fd < 0)
                return -errno;
        at = find_slot(fd, id, slot);
        if (at == 0 || strlen(text) >= SLOT)
                return at == 0 ? -ENOENT : -E2BIG;
        memset(slot, 0, sizeof(slot));
        memcpy(slot, text, strlen(text));
        return pwrite(fd, slot, SLOT, at) == SLOT ? 0 : -EIO;
}

int lease_record_remove(const char *directory, uint64_t id) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_SIZE], slot[SLOT + 1];
        bool was = false;
        off_t at;

        file_path(directory, id, path);
        was = unlink(path) == 0;
        fd = open_table(directory);
        at = fd >= 0 ? find_slot(fd, id, slot) : 0;
        if (at > 0 && pwrite(fd, "", 1, at) != 1)
                return -EIO;
        return was || at > 0 ? 0 : -ENOENT;
}

size_t lease_record_count_slots(const char *directory) {
        _cleanup_close_ int fd = open_table(directory);
        size_t n = 0;
        char c;

        for (off_t at = SLOT; fd >= 0 && pread(fd, &c, 1, at) == 1; at += SLOT)
                n += c != '\0';
        return n;
}
