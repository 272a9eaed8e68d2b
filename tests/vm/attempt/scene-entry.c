/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/mman.h>
#include <sys/syscall.h>

#include "attempt.h"

/* Other ways into the kernel: those of 32-bit programs, which any program has. */

#define NR32_IOCTL 54
#define NR32_OLD_MMAP 90
#define NR32_MMAP2 192
#define NR32_REMAP_FILE_PAGES 257
#define NR_X32 0x40000000

/* The old gate: numbers and arguments as on i386. */
static int32_t int80(uint32_t number, const uint32_t arguments[static 6]) {
        register const uint32_t *r8 __asm__("r8") = arguments;
        uint64_t rax = number;

        __asm__ volatile("sub $128, %%rsp\n\t" /* what is below the stack may be in use */
                         "push %%rbp\n\t"
                         "mov 0(%%r8), %%ebx\n\t"
                         "mov 4(%%r8), %%ecx\n\t"
                         "mov 8(%%r8), %%edx\n\t"
                         "mov 12(%%r8), %%esi\n\t"
                         "mov 16(%%r8), %%edi\n\t"
                         "mov 20(%%r8), %%ebp\n\t"
                         "int $0x80\n\t"
                         "pop %%rbp\n\t"
                         "add $128, %%rsp"
                         : "+a"(rax), "+r"(r8)
                         :
                         : "rbx", "rcx", "rdx", "rsi", "rdi", "r9", "r10", "r11", "memory", "cc");
        return (int32_t) rax;
}

/* An errno, or an address in the lower half of what 32 bits reach. */
static int look_32(int32_t r, uint64_t size) {
        void *p = (void *) (uintptr_t) (uint32_t) r;
        int seen;

        if (r < 0 && r > -4096)
                return r;
        seen = look_at(p, size);
        (void) munmap(p, size);
        return seen;
}

static int look_mmap2(const Actor *a, uint64_t offset, uint64_t size) {
        const uint32_t arguments[6] = {
                        0,          (uint32_t) size,      PROT_READ,
                        MAP_SHARED, (uint32_t) a->own.fd, (uint32_t) (offset / PAGE)};

        return look_32(int80(NR32_MMAP2, arguments), size);
}

static int look_old_mmap(const Actor *a, uint64_t offset) {
        uint32_t *where = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        int r;

        if (where == MAP_FAILED)
                return -errno;
        memcpy(where,
               (const uint32_t[6]){0, PAGE, PROT_READ, MAP_SHARED, (uint32_t) a->own.fd,
                                   (uint32_t) offset},
               6 * sizeof(uint32_t));
        r = look_32(int80(NR32_OLD_MMAP, (const uint32_t[6]){(uint32_t) (uintptr_t) where}), PAGE);
        (void) munmap(where, PAGE);
        return r;
}

static int look_remapped_32(const Actor *a, uint64_t offset) {
        void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_32BIT, a->own.fd,
                       (off_t) a->own.offset);
        int32_t r;

        if (p == MAP_FAILED)
                return -errno;
        r = int80(NR32_REMAP_FILE_PAGES, (const uint32_t[6]){(uint32_t) (uintptr_t) p, PAGE, 0,
                                                             (uint32_t) (offset / PAGE)});
        r = r < 0 ? r : look_at(p, PAGE);
        (void) munmap(p, PAGE);
        return r;
}

static int look_exported_32(const Actor *a, uint64_t offset) {
        Export *e = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        _cleanup_close_ int fd = -EBADF;

        if (e == MAP_FAILED)
                return -errno;
        *e = export_of(offset);
        fd = int80(NR32_IOCTL, (const uint32_t[6]){(uint32_t) a->own.fd, COMMAND_EXPORT,
                                                   (uint32_t) (uintptr_t) e});
        (void) munmap(e, PAGE);
        return fd < 0 ? fd : look(fd, 0, PAGE);
}

static int look_x32(const Actor *a, uint64_t offset) {
        void *p = (void *) syscall(NR_X32 + SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, a->own.fd,
                                   offset);
        int r;

        if (p == MAP_FAILED)
                return -errno;
        r = look_at(p, PAGE);
        (void) munmap(p, PAGE);
        return r;
}

static void play_entry(Actor *a) {
        uint64_t own = a->own.offset, before = own - PAGE;

        report(a, "int80-mmap2-own", look_mmap2(a, own, PAGE));
        report(a, "int80-mmap2-before", look_mmap2(a, before, PAGE));
        report(a, "int80-mmap2-too-long", look_mmap2(a, own, a->own.size + PAGE));
        report(a, "int80-old-mmap-own", look_old_mmap(a, own));
        report(a, "int80-old-mmap-before", look_old_mmap(a, before));
        report(a, "int80-remap-file-pages-before", look_remapped_32(a, before));
        report(a, "int80-command-export", look_exported_32(a, before));
        report(a, "x32-mmap-own", look_x32(a, own));
        report(a, "x32-mmap-before", look_x32(a, before));
}

const Scene scene_entry = {.name = "entry", .play = play_entry};
