/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Decimal digits with an optional binary suffix K, M, G, T, P (also KiB, KB… read as binary, any
 * case). -EINVAL: not a size; -ERANGE: beyond 2^64-1. No sign, no fraction, no blanks. */
int parse_size(const char *s, uint64_t *ret);

/* "447G", "1.5G", "64K": the largest binary unit, at most one fractional digit, rounded to nearest. */
#define FORMAT_SIZE_MAX 24
char *format_size(char buf[static FORMAT_SIZE_MAX], uint64_t bytes);
#define FORMAT_SIZE(bytes) format_size((char[FORMAT_SIZE_MAX]){}, (bytes))

/* Exact non-negative decimal numbers, whole string. -EINVAL or -ERANGE. */
int parse_uint64(const char *s, uint64_t *ret);
int parse_int(const char *s, int *ret); /* with an optional leading '-' */
