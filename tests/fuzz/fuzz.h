/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A fuzz target, by the name that libFuzzer and its like look for. It aborts where something is wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like assert(), in every build. */
#define FUZZ_CHECK(e) \
        do { \
                if (!(e)) { \
                        fprintf(stderr, "%s:%i: %s\n", __FILE__, __LINE__, #e); \
                        abort(); \
                } \
        } while (0)
