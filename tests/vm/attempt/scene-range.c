/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/mman.h>

#include "attempt.h"

/* Where and how much: the numbers given to mmap(). */

#define TWO_63 (UINT64_C(1) << 63)
#define TIB (UINT64_C(1) << 40)

static void play_range(Actor *a) {
        int fd = a->own.fd;
        uint64_t offset = a->own.offset, size = a->own.size, end = offset + size;

        report(a, "own-whole", look(fd, offset, size));
        report(a, "own-first-page", look(fd, offset, PAGE));
        report(a, "own-last-page", look(fd, end - PAGE, PAGE));
        report(a, "own-odd-length", look(fd, offset, size - 1));

        report(a, "page-before", look(fd, offset - PAGE, PAGE));
        report(a, "page-after", look(fd, end, PAGE));
        report(a, "page-too-many", look(fd, offset, size + PAGE));
        report(a, "byte-too-long", look(fd, offset, size + 1));
        report(a, "byte-too-long-at-last-page", look(fd, end - PAGE, PAGE + 1));
        report(a, "begins-before", look(fd, offset - PAGE, size));
        report(a, "around-it", look(fd, offset - PAGE, size + 2 * PAGE));
        report(a, "region-start", look(fd, 0, PAGE));
        report(a, "region-whole", look(fd, 0, REGION_SIZE));
        report(a, "past-region-end", look(fd, REGION_SIZE, PAGE));

        report(a, "length-0", look(fd, offset, 0));
        report(a, "length-max", look_part(fd, offset, UINT64_MAX, PAGE));
        report(a, "length-2^63", look_part(fd, offset, TWO_63, PAGE));
        report(a, "length-wraps", look_part(fd, offset, -offset, PAGE));
        report(a, "length-wraps-into-it", look_part(fd, offset, PAGE - offset, PAGE));
        report(a, "offset-max", look(fd, ~(PAGE - 1), PAGE));
        report(a, "offset-max-length-wraps", look(fd, ~(PAGE - 1), 2 * PAGE));
        report(a, "offset-2^63", look(fd, TWO_63, PAGE));
        report(a, "offset-2^63-and-own", look(fd, TWO_63 + offset, PAGE));
        report(a, "offset-2^40-and-before", look(fd, TIB + offset - PAGE, PAGE));
        report(a, "offset-odd", look(fd, offset + 1, PAGE));
}

const Scene scene_range = {.name = "range", .play = play_range};

/* A new mapping over an old one: what is seen there afterwards, if the new one is refused, is the old one's. */
static int look_fixed(Actor *a, uint64_t offset) {
        void *old = map_own(a), *p;
        int r;

        p = mmap(old, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, a->own.fd, (off_t) offset);
        r = p == MAP_FAILED ? -errno : look_at(p, PAGE);
        if (p == MAP_FAILED && look_at(old, a->own.size) != SEEN_OWN)
                r = SEEN_STRANGE;
        (void) munmap(old, a->own.size);
        return r;
}

/* First without the right to touch it. */
static int look_later(Actor *a, uint64_t offset, int first, int later) {
        void *p = mmap(NULL, PAGE, first, MAP_SHARED, a->own.fd, (off_t) offset);
        int r;

        if (p == MAP_FAILED)
                return -errno;
        r = mprotect(p, PAGE, later) < 0 ? -errno : look_at(p, PAGE);
        (void) munmap(p, PAGE);
        return r;
}

static void play_flags(Actor *a) {
        int fd = a->own.fd;
        uint64_t offset = a->own.offset, before = offset - PAGE;

        report(a, "private-own", look_with(fd, offset, PAGE, PROT_READ, MAP_PRIVATE));
        report(a, "private-before", look_with(fd, before, PAGE, PROT_READ, MAP_PRIVATE));
        report(a, "validated-own", look_with(fd, offset, PAGE, PROT_READ, MAP_SHARED_VALIDATE));
        report(a, "validated-before", look_with(fd, before, PAGE, PROT_READ, MAP_SHARED_VALIDATE));
        report(a, "populated-before",
               look_with(fd, before, PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE));
        report(a, "fixed-own", look_fixed(a, offset));
        report(a, "fixed-before", look_fixed(a, before));
        report(a, "fixed-region-start", look_fixed(a, 0));
        report(a, "read-only-own", look_with(fd, offset, PAGE, PROT_READ, MAP_SHARED));
        report(a, "read-only-before", look_with(fd, before, PAGE, PROT_READ, MAP_SHARED));
        report(a, "read-only-own-then-write",
               look_later(a, offset, PROT_READ, PROT_READ | PROT_WRITE));
        report(a, "read-only-before-then-write",
               look_later(a, before, PROT_READ, PROT_READ | PROT_WRITE));
        report(a, "no-access-own-then-read", look_later(a, offset, PROT_NONE, PROT_READ));
        report(a, "no-access-before-then-read", look_later(a, before, PROT_NONE, PROT_READ));
}

const Scene scene_flags = {.name = "flags", .play = play_flags};
