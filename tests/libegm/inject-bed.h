/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <fcntl.h>

#include "../unit/test.h"

#include "egm.h"
#include "fake-egmd.h"
#include "fd-util.h"

/* For tests of injection: leases of the fake daemon, and children that do what VMMs do. */

extern Fake fake;

#define PATH0 "/run/egm/lease-7/slice-0"
#define PATH1 "/run/egm/lease-7/slice-1"
#define OFFSET (1 * MIB) /* of slice 0 */
#define SIZE (2 * MIB)

/* In a child, which ends if it is not so. */
#define MUST(condition) \
        do { \
                if (!(condition)) { \
                        fprintf(stderr, "line %d: %s (%m)\n", __LINE__, #condition); \
                        _exit(1); \
                } \
        } while (false)
#define MUST_FAIL(expression, error) \
        do { \
                errno = 0; \
                MUST((long) (expression) == -1 && errno == (error)); \
        } while (false)

typedef struct Bed {
        egm_connection *connection;
        egm_lease *lease;
        egm_inject *inject;
        bool plain_filter;
} Bed;

void bed_start(Bed *bed, bool two_slices, bool shift);
void bed_end(Bed *bed);

typedef void (*program_t)(void);

/* A child that runs the program under the filter; the listener is ours. */
pid_t bed_fork(Bed *bed, program_t program);
void bed_reap(pid_t pid);
/* All of a program's life. What is said about it must hold these words, NULL at their end (NULL: nothing is said).
 * Returns how many calls were answered. */
unsigned bed_run(Bed *bed, program_t program, const char *const *words);

void check_memory(uint64_t offset, char byte);
/* In a child: shared, for reading and writing. */
char *map(int fd, uint64_t offset, uint64_t size);
unsigned count_fds(void);

/* main() of these tests. */
int bed_main(const struct CMUnitTest *tests, size_t n);
