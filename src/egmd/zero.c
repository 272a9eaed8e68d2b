/* SPDX-License-Identifier: LGPL-2.1-or-later */

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "zero.h"

#define LINE 64U

#ifdef __SSE2__

/* Streaming stores neither fetch the lines that they overwrite nor leave them in the caches, which
 * belong to the guests: about twice memset's rate, and wider vectors gain nothing. SSE2 is part of
 * x86-64, so there is nothing to choose at run time. */
static void zero_lines(uint8_t *p, size_t size) {
        const __m128i zero = _mm_setzero_si128();

        for (uint8_t *end = p + size; p < end; p += LINE) {
                _mm_stream_si128((__m128i *) p, zero);
                _mm_stream_si128((__m128i *) (p + 16), zero);
                _mm_stream_si128((__m128i *) (p + 32), zero);
                _mm_stream_si128((__m128i *) (p + 48), zero);
        }
}

const char *zero_technique(void) {
        return "streaming stores (SSE2)";
}

void zero_fence(void) {
        /* No lesser ordering, such as the release of a lock, covers streaming stores. */
        _mm_sfence();
}

#else

/* Grace's cores stop allocating lines by themselves when whole lines are overwritten, and the C
 * library's memset uses the line-zeroing instruction where the kernel lets it. */
static void zero_lines(uint8_t *p, size_t size) {
        memset(p, 0, size);
}

const char *zero_technique(void) {
#ifdef __aarch64__
        uint64_t dczid;

        __asm__("mrs %0, dczid_el0" : "=r"(dczid));
        if (!(dczid & 0x10)) /* not prohibited */
                return "memset (DC ZVA)";
#endif
        return "memset";
}

void zero_fence(void) {
        __sync_synchronize();
}

#endif

void zero_span(void *p, size_t size) {
        uint8_t *start = p;
        size_t head, lines;

        assert(p || size == 0);

        head = MIN((size_t) (-(uintptr_t) start % LINE), size);
        lines = (size - head) & ~((size_t) LINE - 1);
        if (head > 0)
                memset(start, 0, head);
        zero_lines(start + head, lines);
        if (size > head + lines)
                memset(start + head + lines, 0, size - head - lines);
}

bool zero_check(const void *p, size_t size) {
        const uint8_t *b = p;
        uint64_t any = 0;

        assert(p || size == 0);

        /* Blocks of a line let the compiler use its vectors; looking between them ends a long look
         * early. */
        for (; size >= LINE && any == 0; b += LINE, size -= LINE) {
                uint64_t w[LINE / sizeof(uint64_t)];

                memcpy(w, b, LINE);
                for (size_t i = 0; i < ELEMENTSOF(w); i++)
                        any |= w[i];
        }
        for (size_t i = 0; any == 0 && i < size; i++)
                any |= b[i];
        return any == 0;
}
