/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "fuzz-input.h"
#include "inject.h"

/* What a program under injection may call: a number, arguments, and its memory (which is ours here). A descriptor is given
 * only to who opened a path of the lease, for reading and writing; a mapping of it is left to the kernel only inside the
 * lease. */

#define BEGIN 200U
#define SLICES 2U
#define MEMORY_SIZE (4 * KIB)

static const int calls[] = {SYS_openat,    SYS_openat2,   SYS_mmap, SYS_ioctl, SYS_lseek,
                            SYS_ftruncate, SYS_fallocate, SYS_dup,  SYS_dup3,  SYS_fcntl};

typedef struct Bed {
        egm_inject inject;
        InjectSlice slices[SLICES];
        char *memory; /* its end is followed by nothing */
        uint64_t page;
} Bed;

static int open_slice(void) {
        int fd = memfd_create("slice", MFD_CLOEXEC);

        FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t) MIB) == 0);
        return fd;
}

static InjectPage retired[] = {{0, 4 * KIB}, {64 * KIB, 4 * KIB}};

static Bed *bed_get(void) {
        static Bed bed;
        int fds[2], nothing;

        if (bed.memory)
                return &bed;
        bed.page = (uint64_t) sysconf(_SC_PAGESIZE);
        FUZZ_CHECK(pipe2(fds, O_CLOEXEC) == 0); /* the other end is egmd's */
        bed.inject = (egm_inject){
                        .n_ref = 1,
                        .origin = getpid(),
                        .lease = (char[]){"7"},
                        .lifetime_fd = fds[1],
                        .slices = bed.slices,
                        .n_slices = SLICES,
                        .begin = BEGIN,
                        .listener = -EBADF,
                        .mark = 0x1234567,
        };
        for (unsigned i = 0; i < SLICES; i++) {
                InjectSlice *s = bed.slices + i;

                s->fd = open_slice();
                FUZZ_CHECK(fstat(s->fd, &s->file) == 0);
                /* The first of its numbers is taken. */
                FUZZ_CHECK(dup2(s->fd, (int) (BEGIN + i * INJECT_FDS_MAX)) >= 0);
                s->pages = retired;
                s->n_pages = ELEMENTSOF(retired);
        }
        bed.slices[0].path = strdup("/run/egm/lease-7/slice-0");
        bed.slices[1].path = strdup("/dev/egm4");
        FUZZ_CHECK(bed.slices[0].path && bed.slices[1].path);
        bed.memory = mmap(NULL, MEMORY_SIZE + bed.page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        FUZZ_CHECK(bed.memory != MAP_FAILED);
        /* Past the end of a file: what may only not be touched can still be read by /proc/PID/mem. */
        nothing = memfd_create("nothing", MFD_CLOEXEC);
        FUZZ_CHECK(nothing >= 0 && mmap(bed.memory + MEMORY_SIZE, bed.page, PROT_READ,
                                        MAP_SHARED | MAP_FIXED, nothing, 0) != MAP_FAILED);
        return &bed;
}

/* What is written goes there as well: nothing else of ours may be hit. */
static uint64_t take_address(const Bed *bed, FuzzInput *in) {
        uint16_t at = (uint16_t) (fuzz_take_byte(in) << 8 | fuzz_take_byte(in));

        return at == UINT16_MAX ? UINT64_MAX
                                : (uint64_t) (uintptr_t) bed->memory + at % MEMORY_SIZE;
}

static uint64_t take_fd(FuzzInput *in) {
        uint8_t b = fuzz_take_byte(in);

        return b % 4 == 3 ? fuzz_take_number(in) : BEGIN + b % (2 * SLICES) * INJECT_FDS_MAX / 2;
}

/* Pages around the slice's, or anything. */
static uint64_t take_bytes(const Bed *bed, FuzzInput *in) {
        uint8_t b = fuzz_take_byte(in);

        return b == UINT8_MAX ? fuzz_take_number(in) : (uint64_t) b * bed->page / 2;
}

static void take_call(const Bed *bed, FuzzInput *in, struct seccomp_notif *call) {
        static const uint64_t requests[] = {INJECT_IOCTL_RETIRED, INJECT_IOCTL_MAP_FILE, 0};
        static const uint64_t commands[] = {F_DUPFD, F_DUPFD_CLOEXEC};
        struct seccomp_data *d = &call->data;

        call->pid = (uint32_t) getpid();
        d->nr = calls[fuzz_take_byte(in) % ELEMENTSOF(calls)];
        d->args[0] = take_fd(in);
        switch (d->nr) {
        case SYS_openat:
        case SYS_openat2:
                d->args[0] = fuzz_take_byte(in) % 2 ? (uint64_t) AT_FDCWD : d->args[0];
                d->args[1] = take_address(bed, in);
                d->args[2] = d->nr == SYS_openat ? fuzz_take_number(in) : take_address(bed, in);
                break;
        case SYS_mmap:
                d->args[4] = d->args[0] | (fuzz_take_byte(in) % 2 ? bed->inject.mark << 32 : 0);
                d->args[0] = 0;
                d->args[1] = take_bytes(bed, in);
                d->args[3] = fuzz_take_byte(in);
                d->args[5] = take_bytes(bed, in);
                break;
        case SYS_ioctl:
                d->args[1] = requests[fuzz_take_byte(in) % ELEMENTSOF(requests)];
                d->args[2] = take_address(bed, in);
                break;
        case SYS_fcntl:
                d->args[1] = commands[fuzz_take_byte(in) % ELEMENTSOF(commands)];
                d->args[2] = fuzz_take_byte(in);
                break;
        default:
                d->args[1] = take_fd(in);
        }
}

static const InjectSlice *slice_opened(const Bed *bed, const char *memory,
                                       const struct seccomp_data *d) {
        const char *path = memory + (d->args[1] - (uintptr_t) bed->memory);
        uint64_t flags = d->args[2];

        if (d->nr == SYS_openat2)
                memcpy(&flags, memory + (d->args[2] - (uintptr_t) bed->memory), sizeof(flags));
        if (*path != '/' || (flags & O_ACCMODE) != O_RDWR || (flags & (O_PATH | O_DIRECTORY)))
                return NULL;
        for (unsigned i = 0; i < SLICES; i++)
                if (inject_path_matches(bed->slices[i].path, path))
                        return bed->slices + i;
        return NULL;
}

static void check_given(const Bed *bed, const char *memory, const InjectAnswer *a,
                        const struct seccomp_data *d) {
        size_t k = (size_t) (a->slice - bed->slices);
        struct stat st;

        FUZZ_CHECK(k < SLICES);
        FUZZ_CHECK(a->value > (int) (BEGIN + k * INJECT_FDS_MAX));
        FUZZ_CHECK(a->value < (int) (BEGIN + (k + 1) * INJECT_FDS_MAX));
        FUZZ_CHECK(a->fd_flags == 0 || a->fd_flags == O_CLOEXEC);
        if (d->nr == SYS_openat || d->nr == SYS_openat2)
                FUZZ_CHECK(slice_opened(bed, memory, d) == a->slice);
        else {
                FUZZ_CHECK(d->nr == SYS_dup || d->nr == SYS_fcntl);
                FUZZ_CHECK(fstat((int) d->args[0], &st) == 0 && st.st_ino == a->slice->file.st_ino);
        }
}

static void check_mapped(const Bed *bed, const struct seccomp_data *d) {
        uint64_t length = d->args[1], offset = d->args[5], end;
        unsigned fd = (unsigned) d->args[4];
        const InjectRange *range;
        struct stat st;

        if (fd < BEGIN || fd >= BEGIN + SLICES * INJECT_FDS_MAX || fstat((int) fd, &st) < 0 ||
            length == 0 || (d->args[3] & MAP_ANONYMOUS) || offset % bed->page != 0)
                return;
        range = &bed->slices[(fd - BEGIN) / INJECT_FDS_MAX].range;
        FUZZ_CHECK((d->args[3] & 0x0f) == MAP_SHARED || (d->args[3] & 0x0f) == MAP_SHARED_VALIDATE);
        FUZZ_CHECK(!__builtin_add_overflow(offset, length, &end));
        FUZZ_CHECK(offset >= range->offset && end <= range->offset + range->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Bed *bed = bed_get();
        FuzzInput in = {data, size};
        struct seccomp_notif call = {};
        Peer peer = {getpid(), -EBADF};
        char before[MEMORY_SIZE];
        InjectAnswer a;

        for (unsigned i = 0; i < SLICES; i++) {
                uint8_t b = fuzz_take_byte(&in);

                bed->slices[i].range = (InjectRange){b / 3 % 8 * bed->page,
                                                     (1 + b / 24) * bed->page, b % 3};
                /* As egm_inject_set_shift() has it. */
                if (bed->slices[i].range.offset == 0)
                        bed->slices[i].range.shift = INJECT_SHIFT_NO;
        }
        take_call(bed, &in, &call);
        /* At the very end of what there is. */
        memset(bed->memory, 0, MEMORY_SIZE);
        if (in.left > 0)
                memcpy(bed->memory + MEMORY_SIZE - MIN(in.left, MEMORY_SIZE), in.at,
                       MIN(in.left, MEMORY_SIZE));
        memcpy(before, bed->memory, MEMORY_SIZE);
        a = inject_answer(&bed->inject, &peer, &call);
        if (a.kind == INJECT_FD)
                check_given(bed, before, &a, &call.data);
        if (a.kind == INJECT_CONTINUE && call.data.nr == SYS_mmap)
                check_mapped(bed, &call.data);
        FUZZ_CHECK(a.kind != INJECT_VALUE || (a.value <= 0 && a.value > -4096));
        /* Only the list of retired pages is ever written. */
        if (call.data.nr != SYS_ioctl)
                FUZZ_CHECK(memcmp(before, bed->memory, MEMORY_SIZE) == 0);
        bed->inject.message = mfree(bed->inject.message);
        peer_done(&peer);
        return 0;
}
