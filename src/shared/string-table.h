/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Enum <-> string from one table `NAME_table[]`. Enums have _MAX and _INVALID = -EINVAL, so that the
 * enum carries its own parse error. */
#define DEFINE_STRING_TABLE(name, type) \
        const char *name##_to_string(type i) { \
                if (i < 0 || (size_t) i >= ELEMENTSOF(name##_table)) \
                        return NULL; \
                return name##_table[i]; \
        } \
        type name##_from_string(const char *s) { \
                for (size_t i = 0; s && i < ELEMENTSOF(name##_table); i++) \
                        if (streq_ptr(name##_table[i], s)) \
                                return (type) i; \
                return (type) -EINVAL; \
        }
