/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "probe.h"

/* Dma-bufs, for a module that was loaded with dmabuf_mmap=N. */

#define EGM_EXPORT_DMABUF 0xc0104565U
#define A (8 * MIB)
#define B (2 * MIB)

typedef struct ExportRange {
        uint64_t offset;
        uint64_t length;
} ExportRange;

typedef struct Export {
        uint32_t argsz;
        uint32_t flags;
        uint32_t nr_ranges;
        uint32_t open_flags;
        ExportRange ranges[3];
} Export;

static int export(int fd, const Export *e) {
        int r = ioctl(fd, EGM_EXPORT_DMABUF, e);

        return r < 0 ? -errno : r;
}

static int export_one(int fd, uint64_t offset, uint64_t length) {
        const Export e = {.nr_ranges = 1, .open_flags = O_RDWR, .ranges = {{offset, length}}};

        return export(fd, &e);
}

/* argsz is never looked at. */
static void check_refusals(Probe *p, int fd) {
        const Export with_flags = {.flags = 1, .nr_ranges = 1, .ranges = {{0, PAGE}}},
                     second_bad = {.nr_ranges = 2, .ranges = {{0, PAGE}, {PAGE / 2, PAGE}}},
                     too_much = {.nr_ranges = 3,
                                 .ranges = {{0, UINT64_C(1) << 63}, {0, UINT64_C(1) << 63}}};

        probe_check_errno(p, export(fd, NULL), EFAULT, "no buffer");
        probe_check_errno(p, export(fd, &(Export){}), EINVAL, "no range");
        probe_check_errno(p, export(fd, &with_flags), EINVAL, "flags");
        probe_check_errno(p, export_one(fd, 0, 0), EINVAL, "nothing");
        probe_check_errno(p, export_one(fd, PAGE / 2, PAGE), EINVAL, "half a page off");
        probe_check_errno(p, export_one(fd, 0, PAGE / 2), EINVAL, "half a page");
        probe_check_errno(p, export(fd, &second_bad), EINVAL, "a good range and a bad one");
        probe_check_errno(p, export(fd, &too_much), EINVAL, "more than there is");
        probe_check_errno(p, export_one(fd, p->size, PAGE), EINVAL, "behind the end");
        probe_check_errno(p, export_one(fd, p->size - PAGE, 2 * PAGE), EINVAL, "past the end");
        probe_check_errno(p, export_one(fd, UINT64_C(0xFFFFFFFFFFFF0000), 64 * KIB), EOVERFLOW,
                          "an end that no number can hold");
        probe_check(p, probe_state(p, "exports") == 0, "none of these left one");
}

static uint64_t *map_word(int fd, uint64_t offset) {
        return probe_map(fd, offset, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
}

/* Two ranges, the later one first: what is written through the one is read through the other. */
static void check_content(Probe *p, int device, int dmabuf) {
        static const struct {
                uint64_t device, dmabuf;
        } same[] = {{A, 0}, {A + 3 * PAGE, 3 * PAGE}, {B, 4 * PAGE}, {B + PAGE, 5 * PAGE}};

        probe_check_errno(p, probe_try_map(dmabuf, 0, PAGE, PROT_READ, MAP_SHARED), EINVAL,
                          "the driver lets no CPU map it");
        (void) probe_set("dmabuf_mmap", "Y");
        for (size_t i = 0; i < ELEMENTSOF(same); i++) {
                uint64_t *a = map_word(device, same[i].device),
                         *b = map_word(dmabuf, same[i].dmabuf);

                if (!probe_check(p, a != MAP_FAILED && b != MAP_FAILED, "pair %zu", i))
                        continue;
                *a = i + 1;
                probe_check(p, *b == i + 1, "is the same");
                (void) munmap(a, PAGE);
                (void) munmap(b, PAGE);
        }
        probe_check_errno(p, probe_try_map(dmabuf, 6 * PAGE, PAGE, PROT_READ, MAP_SHARED), EINVAL,
                          "nothing is behind its end");
        probe_check_errno(p, probe_try_map(dmabuf, 0, 7 * PAGE, PROT_READ, MAP_SHARED), EINVAL,
                          "nor a page past it");
}

static ino_t inode_of(int fd) {
        struct stat st;

        return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

/* It is no file of the device's: that is free while it is open, and cleared under it. */
static void check_life(Probe *p, int *device, int dmabuf) {
        _cleanup_close_ int twin = -EBADF;
        uint64_t *word;

        twin = export_one(*device, A, 4 * PAGE);
        probe_check(p, twin >= 0 && inode_of(twin) != inode_of(dmabuf), "the same once more");
        probe_check(p, probe_state(p, "exports") == 2, "both count");
        *device = safe_close(*device);
        probe_check(p, probe_state(p, "opens") == 0, "they keep no file open");
        word = map_word(dmabuf, 0);
        if (!probe_check(p, word != MAP_FAILED && *word == 1, "and keep their bytes"))
                return;
        *device = probe_open(p, O_RDWR);
        probe_check(p, *device >= 0 && *word == 0, "until the device is opened");
        (void) munmap(word, PAGE);
}

void probe_export_rules(Probe *p) {
        const Export two = {.nr_ranges = 2,
                            .open_flags = O_RDWR | O_CLOEXEC,
                            .ranges = {{A, 4 * PAGE}, {B, 2 * PAGE}}};
        _cleanup_close_ int device = -EBADF, dmabuf = -EBADF;

        device = probe_open(p, O_RDWR);
        if (!probe_check_errno(p, device, 0, "open"))
                return;
        if (p->variant != VARIANT_D) {
                probe_check_errno(p, export(device, &two), EINVAL, "it exports nothing");
                return;
        }
        check_refusals(p, device);
        dmabuf = export(device, &two);
        if (!probe_check_errno(p, dmabuf, 0, "two ranges"))
                return;
        probe_check(p, lseek(dmabuf, 0, SEEK_END) == 6 * PAGE, "has their size");
        probe_check(p, fcntl(dmabuf, F_GETFD) == FD_CLOEXEC, "has the flags");
        check_content(p, device, dmabuf);
        check_life(p, &device, dmabuf);
        device = safe_close(device);
        probe_check_errno(p, probe_present(p, false), 0, "the device goes");
        probe_check_errno(p, probe_try_map(dmabuf, 0, PAGE, PROT_READ, MAP_SHARED), ENODEV,
                          "it leads nowhere");
}
