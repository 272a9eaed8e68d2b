/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "format.h"

/* The options of `egmctl format`. */

/* --gpu=ADDRESS[=ID] */
typedef struct GpuOption {
        char *address;
        char *id; /* NULL: not said */
        bool used;
} GpuOption;

/* --memmap-type=SLICE:TYPE */
typedef struct MemmapOption {
        size_t slice;
        MemmapType type;
} MemmapOption;

typedef struct FormatOption {
        bool has_consumer;
        Consumer consumer;
        GpuOption *gpus;
        size_t n_gpus;
        bool no_gpus;
        uint64_t cpus;
        int *fds;
        size_t n_fds;
        MemmapOption *memmaps;
        size_t n_memmaps;
        bool allow_offset;
        bool one_line;
        const char *node_directory; /* borrowed, NULL: the host's */
} FormatOption;

void format_option_done(FormatOption *f);

/* key without dashes; value may be NULL for what takes none, and must live as long as f. -EINVAL with words. */
int format_option_set(FormatOption *f, const char *key, const char *value, EgmError *reterr);
int format_option_check(const FormatOption *f, EgmError *reterr);
