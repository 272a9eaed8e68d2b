/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* zero.c without anything around it, so that a cross compiler needs no libraries. What is written where is looked at byte
 * by byte. */

#include "zero.h"

#define ROOM 8192U
#define GUARD 0xa5

static int fail(const char *what, size_t at, size_t size) {
        printf("FAILED: %s, %zu bytes at %zu\n", what, size, at);
        return EXIT_FAILURE;
}

static bool all(const uint8_t *p, size_t size, uint8_t value) {
        for (size_t i = 0; i < size; i++)
                if (p[i] != value)
                        return false;
        return true;
}

int main(void) {
        static uint8_t room[3 * ROOM] __attribute__((aligned(64)));

        printf("%s\n", zero_technique());
        if (strncmp(zero_technique(), "memset", strlen("memset")) != 0)
                return fail("the technique is of another architecture", 0, 0);
        for (size_t at = 0; at < 80; at++)
                for (size_t size = 0; size <= ROOM; size += size < 200 ? 1 : 397) {
                        uint8_t *p = room + ROOM + at;

                        memset(room, GUARD, sizeof(room));
                        zero_span(p, size);
                        zero_fence();
                        if (!all(p, size, 0))
                                return fail("not zero", at, size);
                        if (!all(room, ROOM + at, GUARD) ||
                            !all(p + size, sizeof(room) - ROOM - at - size, GUARD))
                                return fail("beyond its range", at, size);
                        if (!zero_check(p, size) || zero_check(p, size + 1) ||
                            zero_check(p - 1, size + 1))
                                return fail("not seen as it is", at, size);
                }
        return EXIT_SUCCESS;
}
