/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "attempt.h"

/* What a mapping can be turned into. */

/* Moved, grown or copied: what is seen of it then. */
static int look_remapped(const Actor *a, uint64_t old_size, uint64_t new_size, int flags) {
        void *p = map_own(a), *q;
        int r;

        q = mremap(p, old_size, new_size, flags);
        r = q == MAP_FAILED ? -errno : look_at(q, new_size);
        if (q != MAP_FAILED && q != p)
                (void) munmap(q, new_size);
        (void) munmap(p, a->own.size);
        return r;
}

/* To an address of our own choosing. */
static int look_moved(const Actor *a) {
        uint64_t size = a->own.size;
        void *p = map_own(a), *q;
        void *room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int r;

        q = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, room);
        r = q == MAP_FAILED ? -errno : look_at(q, size);
        (void) munmap(q == MAP_FAILED ? p : q, size);
        return r;
}

static int look_pages(const Actor *a, uint64_t size, uint64_t offset) {
        void *p = map_own(a);
        int r;

        r = syscall(SYS_remap_file_pages, p, size, 0, offset / PAGE, 0) < 0 ? -errno
                                                                            : look_at(p, size);
        (void) munmap(p, a->own.size);
        return r;
}

static void play_remap(Actor *a) {
        uint64_t size = a->own.size, offset = a->own.offset;

        report(a, "mremap-grow", look_remapped(a, size, size + PAGE, MREMAP_MAYMOVE));
        report(a, "mremap-grow-last-page", look_remapped(a, PAGE, size + PAGE, MREMAP_MAYMOVE));
        report(a, "mremap-old-size-0", look_remapped(a, 0, size, MREMAP_MAYMOVE));
        report(a, "mremap-keep-old",
               look_remapped(a, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
        report(a, "mremap-shrink", look_remapped(a, size, PAGE, MREMAP_MAYMOVE));
        report(a, "mremap-move", look_moved(a));
        report(a, "remap-file-pages-own", look_pages(a, PAGE, offset + PAGE));
        report(a, "remap-file-pages-same", look_pages(a, size, offset));
        report(a, "remap-file-pages-before", look_pages(a, PAGE, offset - PAGE));
        report(a, "remap-file-pages-region-start", look_pages(a, size, 0));
}

const Scene scene_remap = {.name = "remap", .play = play_remap};

static int look_advised(const Actor *a, int advice) {
        void *p = map_own(a);
        int r;

        r = madvise(p, a->own.size, advice) < 0 ? -errno : look_at(p, a->own.size);
        (void) munmap(p, a->own.size);
        return r;
}

/* The child has no mapping then, and makes one. */
static int look_not_inherited(const Actor *a) {
        void *p = map_own(a);
        int r;

        r = madvise(p, a->own.size, MADV_DONTFORK) < 0 ? -errno : in_child(a, look_own);
        (void) munmap(p, a->own.size);
        return r;
}

static int register_fault(const Actor *a) {
        _cleanup_close_ int fd = (int) syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register r = {.mode = UFFDIO_REGISTER_MODE_MISSING};
        void *p;

        if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
                return -errno;
        p = map_own(a);
        r.range = (struct uffdio_range){.start = (uintptr_t) p, .len = a->own.size};
        return ioctl(fd, UFFDIO_REGISTER, &r) < 0 ? -errno : look_at(p, a->own.size);
}

static void play_advice(Actor *a) {
        report(a, "advice-dontneed", look_advised(a, MADV_DONTNEED));
        report(a, "advice-free", look_advised(a, MADV_FREE));
        report(a, "advice-remove", look_advised(a, MADV_REMOVE));
        report(a, "advice-pageout", look_advised(a, MADV_PAGEOUT));
        report(a, "advice-populate", look_advised(a, MADV_POPULATE_WRITE));
        report(a, "advice-dontfork", look_not_inherited(a));
        report(a, "userfaultfd", in_child(a, register_fault));
}

const Scene scene_advice = {.name = "advice", .play = play_advice};
