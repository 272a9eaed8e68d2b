/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A program to run with a lease: "expect BYTE" makes sure that every byte of its slices is that, "fill BYTE" makes it so;
 * any number of these, in order. "wait" waits for the end of input, the mapping in place. "stubborn" ignores SIGTERM from there
 * on; "heir" leaves a child behind that has the mapping, once, when SIGTERM comes. */

#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>

#include "egm.h"
#include "macro.h"
#include "size.h"

typedef struct Mapping {
        unsigned char *bytes;
        uint64_t size;
} Mapping;

static int map_all(egm_lease *l, Mapping **ret) {
        size_t n = egm_lease_count_slices(l);
        Mapping *m = calloc(n, sizeof(*m));

        if (!m)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                void *p;
                int r;

                (void) egm_lease_get_slice(l, i, NULL, NULL, NULL, &m[i].size);
                r = egm_lease_map(l, i, 0, m[i].size, PROT_READ | PROT_WRITE, 0, &p);
                if (r < 0) {
                        free(m);
                        return r;
                }
                m[i].bytes = p;
        }
        *ret = m;
        return 0;
}

static int expect(const Mapping *m, size_t n, unsigned char byte) {
        for (size_t i = 0; i < n; i++)
                for (uint64_t j = 0; j < m[i].size; j++)
                        if (m[i].bytes[j] != byte) {
                                fprintf(stderr, "slice %zu: byte %" PRIu64 " is %u, not %u\n", i, j,
                                        m[i].bytes[j], byte);
                                return EXIT_FAILURE;
                        }
        return EXIT_SUCCESS;
}

static int act(const char *verb, const char *value, const Mapping *m, size_t n) {
        uint64_t byte;

        if (parse_uint64(value, &byte) < 0 || byte > 255)
                return 2;
        if (streq(verb, "expect"))
                return expect(m, n, (unsigned char) byte);
        if (!streq(verb, "fill"))
                return 2;
        for (size_t i = 0; i < n; i++)
                memset(m[i].bytes, (int) byte, m[i].size);
        return EXIT_SUCCESS;
}

static void leave_heir(int sig) {
        (void) signal(SIGTERM, SIG_DFL);
        if (fork() != 0)
                _exit(EXIT_SUCCESS);
}

int main(int argc, char **argv) {
        _cleanup_(egm_lease_unrefp) egm_lease *l = NULL;
        _cleanup_free_ Mapping *m = NULL;
        char byte;
        int r;

        r = egm_lease_new_from_environment(1, &l);
        if (r >= 0)
                r = map_all(l, &m);
        if (r < 0) {
                fprintf(stderr, "no lease: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        for (int i = 1; i < argc; i++)
                if (streq(argv[i], "wait")) {
                        puts("waiting");
                        (void) fflush(stdout);
                        while (read(STDIN_FILENO, &byte, 1) > 0)
                                ;
                } else if (streq(argv[i], "stubborn"))
                        (void) signal(SIGTERM, SIG_IGN);
                else if (streq(argv[i], "heir"))
                        (void) signal(SIGTERM, leave_heir);
                else if (i + 1 == argc)
                        return 2;
                else {
                        r = act(argv[i], argv[i + 1], m, egm_lease_count_slices(l));
                        if (r != EXIT_SUCCESS)
                                return r;
                        i++;
                }
        return EXIT_SUCCESS;
}
