/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The few language helpers that every file may rely on. */

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _unused_ __attribute__((unused))
#define _public_ __attribute__((visibility("default")))
#define _malloc_ __attribute__((malloc, warn_unused_result))

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
#define MIN(a, b) \
        ({ \
                __typeof__(a) _a = (a); \
                __typeof__(b) _b = (b); \
                _a < _b ? _a : _b; \
        })
#define MAX(a, b) \
        ({ \
                __typeof__(a) _a = (a); \
                __typeof__(b) _b = (b); \
                _a > _b ? _a : _b; \
        })
#define CONTAINER_OF(ptr, type, member) ((type *) ((char *) (ptr) -offsetof(type, member)))

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define NSEC_PER_USEC UINT64_C(1000)

/* Hands a value over: the variable is empty afterwards, so its cleanup does nothing. */
#define TAKE_GENERIC(var, type, nullvalue) \
        ({ \
                type *_p = &(var); \
                type _v = *_p; \
                *_p = (nullvalue); \
                _v; \
        })
#define TAKE_PTR(ptr) TAKE_GENERIC(ptr, __typeof__(ptr), NULL)
#define TAKE_FD(fd) TAKE_GENERIC(fd, int, -EBADF)

#define DEFINE_TRIVIAL_CLEANUP_FUNC(type, func) \
        static inline void func##p(type *p) { \
                if (*p) \
                        *p = func(*p); \
        }

static inline void freep(void *p) {
        free(*(void **) p);
}
#define _cleanup_free_ _cleanup_(freep)

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

static inline bool streq_ptr(const char *a, const char *b) {
        return a && b ? streq(a, b) : a == b;
}

/* Frees and replaces a string member; NULL stays NULL. */
static inline int free_and_strdup(char **p, const char *s) {
        char *t = NULL;

        if (s) {
                t = strdup(s);
                if (!t)
                        return -ENOMEM;
        }
        free(*p);
        *p = t;
        return 0;
}

static inline void *mfree(void *p) {
        free(p);
        return NULL;
}

static inline bool is_pow2(uint64_t x) {
        return x != 0 && (x & (x - 1)) == 0;
}

static inline uint64_t align_down(uint64_t x, uint64_t align) {
        assert(is_pow2(align));
        return x & ~(align - 1);
}

/* Rounds up; false on overflow, *ret untouched then. */
static inline bool align_up_checked(uint64_t x, uint64_t align, uint64_t *ret) {
        uint64_t t;

        assert(is_pow2(align));
        if (__builtin_add_overflow(x, align - 1, &t))
                return false;
        *ret = t & ~(align - 1);
        return true;
}
