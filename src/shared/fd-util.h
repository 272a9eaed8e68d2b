/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Closes, keeps errno, returns -EBADF so that `fd = safe_close(fd)` reads well. Negative is a no-op. */
int safe_close(int fd);

static inline void closep(int *fd) {
        (void) safe_close(*fd);
}
#define _cleanup_close_ _cleanup_(closep)

static inline void fclosep(FILE **f) {
        if (*f)
                (void) fclose(*f);
}
#define _cleanup_fclose_ _cleanup_(fclosep)

/* Of open_memstream(): when there is no memory left for the text, fclose() may say that all is well and leave none. text is freed
 * on failure. */
int memstream_close(FILE *f, char **text);

/* A close-on-exec copy with a number of at least 3. */
int fd_copy(int fd);

/* Whether so few numbers are left that none may be given to what stays: what comes and goes (a message's descriptors, a file
 * that is read) must always find some, or the bus's connection ends. */
bool fds_are_scarce(void);

/* Reads a whole (small) file; -E2BIG when it is longer than max bytes. The result is NUL-terminated;
 * ret_size may be NULL. */
int read_full_file_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size);

/* Writes everything or fails. */
int write_all(int fd, const void *data, size_t size);
