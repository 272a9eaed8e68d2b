/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "fuzz.h"

/* Runs a fuzz target once on each file given, or in a directory given: what a fuzzer has found stays found, with any
 * compiler. */

#define INPUT_MAX (1 * MIB)

static unsigned run_file(int dir_fd, const char *name) {
        _cleanup_free_ char *data = NULL;
        _cleanup_free_ uint8_t *exact = NULL;
        size_t size;
        int r;

        r = read_full_file_at(dir_fd, name, INPUT_MAX, &data, &size);
        if (r < 0)
                errx(EXIT_FAILURE, "%s: %s", name, strerror(-r));
        /* Of just that size, so that a sanitizer sees a byte too far. */
        exact = malloc(size > 0 ? size : 1);
        if (!exact)
                errx(EXIT_FAILURE, "Out of memory");
        memcpy(exact, data, size);
        if (LLVMFuzzerTestOneInput(exact, size) != 0)
                errx(EXIT_FAILURE, "%s: not zero", name);
        return 1;
}

static unsigned run_directory(const char *path) {
        DIR *d = opendir(path);
        struct dirent *e;
        unsigned n = 0;

        if (!d)
                err(EXIT_FAILURE, "%s", path);
        while ((errno = 0, e = readdir(d)))
                if (e->d_name[0] != '.')
                        n += run_file(dirfd(d), e->d_name);
        if (errno > 0)
                err(EXIT_FAILURE, "%s", path);
        (void) closedir(d);
        return n;
}

int main(int argc, char *argv[]) {
        unsigned n = 0;

        for (int i = 1; i < argc; i++) {
                struct stat st;

                if (stat(argv[i], &st) < 0)
                        err(EXIT_FAILURE, "%s", argv[i]);
                n += S_ISDIR(st.st_mode) ? run_directory(argv[i]) : run_file(AT_FDCWD, argv[i]);
        }
        printf("%u inputs\n", n);
        return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
