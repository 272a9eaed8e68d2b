/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Writing zeros, and looking for them, as fast as the architecture allows. Pure. */

/* How zero_span() writes, for the log: "streaming stores (SSE2)", "memset (DC ZVA)", "memset". */
const char *zero_technique(void);

/* Overwrites exactly [p, p + size), in no particular order. The bytes are zero for everybody once
 * zero_fence() was called by the same thread. */
void zero_span(void *p, size_t size);
void zero_fence(void);

/* Whether all of [p, p + size) is zero. */
bool zero_check(const void *p, size_t size);
