/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* How long to wait before try number n (from 0): doubles from min up to max. */
static inline uint64_t backoff_usec(uint64_t min, uint64_t max, unsigned n) {
        for (; n > 0 && min < max; n--)
                min *= 2;
        return min < max ? min : max;
}
