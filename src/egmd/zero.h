/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Writing zeros, and looking for them, as fast as the architecture allows. Pure. */

typedef struct ZeroTechnique {
        const char *name;
        void (*lines)(uint8_t *p, size_t size); /* both multiples of a line */
        bool (*possible)(void);                 /* NULL: everywhere */
} ZeroTechnique;

/* Those that this machine can do, best first; NULL past the last. */
const ZeroTechnique *zero_technique_get(size_t i);
/* How zero_span() writes, for the log: the first. */
const char *zero_technique(void);

/* Overwrites exactly [p, p + size), in no particular order. The bytes are zero for everybody once
 * zero_fence() was called by the same thread. */
void zero_span(void *p, size_t size);
void zero_span_by(const ZeroTechnique *t, void *p, size_t size);
void zero_fence(void);

/* Whether all of [p, p + size) is zero. */
bool zero_check(const void *p, size_t size);
