/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include "../unit/test.h"

#include "inject-filter.h"

/* The filter's program, run by the book. */

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#else
#define NATIVE AUDIT_ARCH_AARCH64
#endif

#define ALLOW SECCOMP_RET_ALLOW
#define NOTIFY SECCOMP_RET_USER_NOTIF

static uint32_t run(const struct sock_filter *code, size_t n, const struct seccomp_data *d) {
        uint32_t a = 0;

        for (size_t pc = 0; pc < n; pc++) {
                const struct sock_filter *f = code + pc;
                bool yes;

                switch (f->code) {
                case BPF_LD | BPF_W | BPF_ABS:
                        assert_true(f->k % 4 == 0 && f->k < sizeof(*d));
                        memcpy(&a, (const char *) d + f->k, sizeof(a));
                        continue;
                case BPF_ALU | BPF_AND | BPF_K:
                        a &= f->k;
                        continue;
                case BPF_RET | BPF_K:
                        return f->k;
                case BPF_JMP | BPF_JEQ | BPF_K:
                        yes = a == f->k;
                        break;
                case BPF_JMP | BPF_JGE | BPF_K:
                        yes = a >= f->k;
                        break;
                case BPF_JMP | BPF_JSET | BPF_K:
                        yes = a & f->k;
                        break;
                default:
                        fail_msg("instruction %zu is unknown: %#x", pc, f->code);
                        return 0;
                }
                pc += yes ? f->jt : f->jf;
        }
        fail_msg("it runs past its end");
        return 0;
}

static const InjectFilter plain = {.begin = 1000, .end = 1016};
static const InjectFilter narrow = {.begin = 1000, .end = 1016, .narrow = true};
static const InjectFilter reading = {.begin = 1000, .end = 1016, .read_only = true};
static const InjectFilter moving = {.begin = 1000, .end = 1016, .shift = true};

#define O_LARGE 0100000 /* what open64() adds on some machines */

static const struct {
        const InjectFilter *filter;
        uint32_t action;
        int nr;
        uint64_t args[6];
} table[] = {
                /* Opens: for reading and writing. */
                {&plain, NOTIFY, SYS_openat, {0, 0, O_RDWR}},
                {&plain, NOTIFY, SYS_openat, {0, 0, O_RDWR | O_CLOEXEC}},
                {&plain, NOTIFY, SYS_openat, {0, 0, O_RDWR | O_CREAT | O_EXCL | O_LARGE | O_SYNC}},
                {&plain, NOTIFY, SYS_openat, {0, 0, UINT64_C(0xffffffff00000000) | O_RDWR}},
                {&plain, ALLOW, SYS_openat, {0, 0, O_RDONLY}},
                {&plain, ALLOW, SYS_openat, {0, 0, O_WRONLY | O_CREAT}},
                {&plain, ALLOW, SYS_openat, {0, 0, O_RDWR | O_PATH}},
                {&plain, ALLOW, SYS_openat, {0, 0, O_RDWR | O_TMPFILE}},
                {&plain, ALLOW, SYS_openat, {O_RDWR, O_RDWR, 0, O_RDWR}},
                {&narrow, NOTIFY, SYS_openat, {0, 0, O_RDWR}},
                {&narrow, NOTIFY, SYS_openat, {0, 0, O_RDWR | O_CREAT}},
                {&narrow, ALLOW, SYS_openat, {0, 0, O_RDWR | O_CLOEXEC}},
                {&reading, NOTIFY, SYS_openat, {0, 0, O_RDONLY}},
                {&reading, NOTIFY, SYS_openat, {0, 0, O_RDWR}},
                {&reading, ALLOW, SYS_openat, {0, 0, O_RDONLY | O_CLOEXEC}},
                {&reading, ALLOW, SYS_openat, {0, 0, O_RDONLY | O_DIRECTORY}},
                {&reading, ALLOW, SYS_openat, {0, 0, O_WRONLY}},
                {&plain, NOTIFY, SYS_openat2, {0}},
#ifdef SYS_open
                {&plain, NOTIFY, SYS_open, {0, O_RDWR}},
                {&plain, ALLOW, SYS_open, {0, O_RDONLY, O_RDWR}},
                {&narrow, ALLOW, SYS_open, {0, O_RDWR | O_CLOEXEC}},
#endif
                /* The descriptors' own numbers, all of them, and no others. */
                {&plain, NOTIFY, SYS_mmap, {0, 0, 0, 0, 1000}},
                {&plain, NOTIFY, SYS_mmap, {0, 0, 0, 0, 1015}},
                {&plain, ALLOW, SYS_mmap, {0, 0, 0, 0, 999}},
                {&plain, ALLOW, SYS_mmap, {0, 0, 0, 0, 1016}},
                {&plain, ALLOW, SYS_mmap, {0, 0, 0, 0, (uint32_t) -1}},
                {&plain, ALLOW, SYS_mmap, {1000, 1000, 1000, 1000, (uint64_t) -1, 1000}},
                {&plain, NOTIFY, SYS_mmap, {0, 0, 0, 0, UINT64_C(0x7fffffff000003e8)}},
                {&plain, NOTIFY, SYS_dup, {1000}},
                {&plain, ALLOW, SYS_dup, {5}},
                {&plain, NOTIFY, SYS_dup3, {1000, 5}},
                {&plain, ALLOW, SYS_dup3, {5, 1000}},
                {&plain, NOTIFY, SYS_lseek, {1000}},
                {&plain, NOTIFY, SYS_ftruncate, {1000}},
                {&plain, NOTIFY, SYS_fallocate, {1000}},
                {&plain, ALLOW, SYS_fallocate, {5}},
#ifdef SYS_dup2
                {&plain, NOTIFY, SYS_dup2, {1000, 5}},
#endif
                {&plain, NOTIFY, SYS_fcntl, {1000, F_DUPFD, 0}},
                {&plain, NOTIFY, SYS_fcntl, {1000, F_DUPFD_CLOEXEC, 0}},
                {&plain, ALLOW, SYS_fcntl, {999, F_DUPFD_CLOEXEC, 1000}},
                {&plain, ALLOW, SYS_fcntl, {1000, F_SETFD, FD_CLOEXEC}},
                {&plain, NOTIFY, SYS_ioctl, {1000, 0x4564}},
                {&plain, ALLOW, SYS_ioctl, {999, 0x4564}},
                {&plain, ALLOW, SYS_ioctl, {1000, 0x4565}},
                {&plain, ALLOW, SYS_ioctl, {1000, 0xae80}},
                {&plain, ALLOW, SYS_ioctl, {5, 0x3b8f}},
                {&moving, NOTIFY, SYS_ioctl, {5, 0x3b8f}},
                {&moving, NOTIFY, SYS_ioctl, {1000, 0x4564}},
                {&moving, ALLOW, SYS_ioctl, {5, 0x3b85}},
                /* What a VM does all day. */
                {&plain, ALLOW, SYS_read, {1000}},
                {&plain, ALLOW, SYS_close, {1000}},
                {&plain, ALLOW, SYS_sendmsg, {1000}},
                {&plain, ALLOW, SYS_munmap, {0}},
                {&plain, ALLOW, SYS_execve, {0}},
};

static void test_table(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                struct sock_filter code[INJECT_FILTER_MAX];
                struct seccomp_data d = {.nr = table[i].nr, .arch = NATIVE};
                uint32_t action;

                for (size_t k = 0; k < ELEMENTSOF(table[i].args); k++)
                        d.args[k] = table[i].args[k];
                action = run(code, inject_filter_build(table[i].filter, code), &d);
                if (action != table[i].action)
                        fail_msg("line %zu: call %d: %#x, not %#x", i, d.nr, action,
                                 table[i].action);
        }
}

/* Numbers of other kinds of programs mean other calls. */
static void test_other_abi(void **state) {
        struct sock_filter code[INJECT_FILTER_MAX];
        size_t n = inject_filter_build(&plain, code);

        for (int nr = 0; nr < 600; nr++) {
                struct seccomp_data d = {.nr = nr,
                                         .arch = AUDIT_ARCH_I386,
                                         .args = {1000, 1000, O_RDWR, 1000, 1000, 1000}};

                assert_int_equal(run(code, n, &d), ALLOW);
#if defined(__x86_64__)
                d.nr |= 0x40000000;
                d.arch = NATIVE;
                assert_int_equal(run(code, n, &d), ALLOW);
#endif
        }
}

/* Whatever is asked for fits, and ends. */
static void test_size(void **state) {
        const InjectFilter all = {.begin = 65024,
                                  .end = 65536,
                                  .read_only = true,
                                  .narrow = true,
                                  .shift = true};
        struct sock_filter code[INJECT_FILTER_MAX];

        assert_true(inject_filter_is_known());
        assert_true(inject_filter_build(&all, code) < INJECT_FILTER_MAX);
        for (int nr = 0; nr < 600; nr++)
                (void) run(code, inject_filter_build(&all, code),
                           &(struct seccomp_data){.nr = nr, .arch = NATIVE});
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_table),
                        cmocka_unit_test(test_other_abi),
                        cmocka_unit_test(test_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
