/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* The linker sends the daemon's calloc() here (-Wl,--wrap=calloc): after so many calls there is no
 * memory left. -1: always some. */
static int calloc_left = -1;
static unsigned calloc_calls;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size) {
        calloc_calls++;
        if (calloc_left == 0)
                return NULL;
        if (calloc_left > 0)
                calloc_left--;
        return __real_calloc(n, size);
}
