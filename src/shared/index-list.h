/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* The kernel's way to write sets of CPUs and nodes: "0-3,7". Sorted, each once; the caller's to free (NULL if empty).
 * -EINVAL: not such a list, or a range that runs backwards; -ERANGE: a number above max. */
int parse_index_list(const char *text, unsigned max, unsigned **ret, size_t *ret_n);
