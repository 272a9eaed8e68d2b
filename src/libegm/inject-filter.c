/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "inject-filter.h"

/* Written by hand: it is short, it must be there before fork() (libseccomp 2.5 can only write it to a file, or load it, which
 * allocates), and the library gets no dependency for it. */

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define OTHER_ABI 0x40000000U /* x32 */
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#define NATIVE_ARCH 0 /* never met: nothing is seen, so nothing is answered */
#endif

/* Flags, commands and descriptors are ints: the upper half of the register says nothing. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lower half comes first");
#define ARG(n) ((uint32_t) offsetof(struct seccomp_data, args[n]))

typedef struct Program {
        struct sock_filter *code;
        size_t n;
} Program;

static void put(Program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf) {
        assert(p->n < INJECT_FILTER_MAX);
        p->code[p->n++] = (struct sock_filter) BPF_JUMP(code, k, jt, jf);
}

static void load(Program *p, uint32_t offset) {
        put(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void leave(Program *p, uint32_t action) {
        put(p, BPF_RET | BPF_K, action, 0, 0);
}

/* What stands between these two is for this value only, and must leave. */
static size_t begin_case(Program *p, uint32_t value) {
        put(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0);
        return p->n;
}

static void end_case(Program *p, size_t begin) {
        assert(p->n > begin && p->n - begin <= UINT8_MAX);
        p->code[begin - 1].jf = (uint8_t) (p->n - begin);
}

static void leave_by_fd(Program *p, const InjectFilter *f, unsigned arg) {
        load(p, ARG(arg));
        put(p, BPF_JMP | BPF_JGE | BPF_K, f->begin, 0, 2);
        put(p, BPF_JMP | BPF_JGE | BPF_K, f->end, 1, 0);
        leave(p, SECCOMP_RET_USER_NOTIF);
        leave(p, SECCOMP_RET_ALLOW);
}

static void case_fd(Program *p, const InjectFilter *f, uint32_t nr, unsigned arg) {
        size_t begin = begin_case(p, nr);

        leave_by_fd(p, f, arg);
        end_case(p, begin);
}

static void notify_flags(Program *p, unsigned arg, uint32_t mask, uint32_t flags) {
        size_t begin;

        load(p, ARG(arg));
        put(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
        begin = begin_case(p, flags);
        leave(p, SECCOMP_RET_USER_NOTIF);
        end_case(p, begin);
}

static void case_open(Program *p, const InjectFilter *f, uint32_t nr, unsigned arg) {
        static const uint32_t mask = O_ACCMODE | O_PATH | O_DIRECTORY;
        size_t begin = begin_case(p, nr);

        notify_flags(p, arg, mask | (f->narrow ? O_CLOEXEC : 0), O_RDWR);
        if (f->read_only)
                notify_flags(p, arg, mask | O_CLOEXEC, O_RDONLY);
        leave(p, SECCOMP_RET_ALLOW);
        end_case(p, begin);
}

static void case_ioctl(Program *p, const InjectFilter *f) {
        size_t begin = begin_case(p, SYS_ioctl), inner;

        load(p, ARG(1));
        inner = begin_case(p, INJECT_IOCTL_RETIRED);
        leave_by_fd(p, f, 0);
        end_case(p, inner);
        if (f->shift) {
                inner = begin_case(p, INJECT_IOCTL_MAP_FILE);
                leave(p, SECCOMP_RET_USER_NOTIF);
                end_case(p, inner);
        }
        leave(p, SECCOMP_RET_ALLOW);
        end_case(p, begin);
}

static void case_fcntl(Program *p, const InjectFilter *f) {
        static const uint32_t commands[] = {F_DUPFD, F_DUPFD_CLOEXEC};
        size_t begin = begin_case(p, SYS_fcntl);

        load(p, ARG(1));
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                size_t inner = begin_case(p, commands[i]);

                leave_by_fd(p, f, 0);
                end_case(p, inner);
        }
        leave(p, SECCOMP_RET_ALLOW);
        end_case(p, begin);
}

bool inject_filter_is_known(void) {
        return NATIVE_ARCH != 0;
}

size_t inject_filter_build(const InjectFilter *f,
                           struct sock_filter ret[static INJECT_FILTER_MAX]) {
        Program p = {.code = ret};
        size_t begin;

        assert(f->begin < f->end);
        load(&p, offsetof(struct seccomp_data, arch));
        put(&p, BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
        leave(&p, SECCOMP_RET_ALLOW);
        load(&p, offsetof(struct seccomp_data, nr));
#ifdef OTHER_ABI
        put(&p, BPF_JMP | BPF_JSET | BPF_K, OTHER_ABI, 0, 1);
        leave(&p, SECCOMP_RET_ALLOW);
#endif
        /* First what VMMs do all the time. */
        case_ioctl(&p, f);
        case_fcntl(&p, f);
        case_open(&p, f, SYS_openat, 2);
#ifdef SYS_open
        case_open(&p, f, SYS_open, 1);
#endif
        /* Its flags are in memory. Rare, and who uses it does without when there is nobody to answer (ENOSYS). */
        begin = begin_case(&p, SYS_openat2);
        leave(&p, SECCOMP_RET_USER_NOTIF);
        end_case(&p, begin);
        case_fd(&p, f, SYS_mmap, 4);
        case_fd(&p, f, SYS_dup, 0);
#ifdef SYS_dup2
        case_fd(&p, f, SYS_dup2, 0);
#endif
        case_fd(&p, f, SYS_dup3, 0);
        case_fd(&p, f, SYS_lseek, 0);
        case_fd(&p, f, SYS_ftruncate, 0);
        case_fd(&p, f, SYS_fallocate, 0);
        leave(&p, SECCOMP_RET_ALLOW);
        return p.n;
}
