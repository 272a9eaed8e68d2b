/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fuzz.h"
#include "text.h"

/* What a fuzzer gave, piece by piece. At its end come zeros and empty strings. */
typedef struct FuzzInput {
        const uint8_t *at;
        size_t left;
} FuzzInput;

static inline uint8_t fuzz_take_byte(FuzzInput *in) {
        if (in->left == 0)
                return 0;
        in->left--;
        return *in->at++;
}

static inline uint64_t fuzz_take_number(FuzzInput *in) {
        uint64_t v = 0;

        for (unsigned i = 0; i < sizeof(v); i++)
                v |= (uint64_t) fuzz_take_byte(in) << 8 * i;
        return v;
}

/* Of length bytes at most, up to a NUL in them; the caller's. */
static inline char *fuzz_take_string(FuzzInput *in, size_t length) {
        size_t n = MIN(length, in->left);
        char *s = malloc(n + 1);

        FUZZ_CHECK(s);
        if (n > 0)
                memcpy(s, in->at, n);
        s[n] = '\0';
        in->at += n;
        in->left -= n;
        return s;
}

static inline char *fuzz_string(const uint8_t *data, size_t size) {
        return fuzz_take_string(&(FuzzInput){data, size}, size);
}

/* A refusal has words that can go anywhere; what succeeded has none. */
static inline void fuzz_check_words(bool failed, const char *words) {
        FUZZ_CHECK(failed == (words != NULL));
        if (words)
                FUZZ_CHECK(*words && text_is_printable(words));
}
