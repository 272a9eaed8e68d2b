/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"

/* What the command line says of one slice: "size=64G,gpu=0009:01:00.0". Pure. */

typedef struct SliceOption {
        bool has_size, whole, has_node, has_socket, has_align, has_retired;
        uint64_t size;
        char *region;
        char *gpu;
        int node;
        int socket;
        uint64_t align;
        bool include_retired;
} SliceOption;

void slice_option_done(SliceOption *s);
/* One key. "whole" takes no value (NULL) or yes/no. A key given twice is refused. -EINVAL with words, or -ENOMEM. */
int slice_option_set(SliceOption *s, const char *key, const char *value, EgmError *reterr);
/* "KEY=VALUE,KEY=VALUE…", and that it is complete. */
int slice_option_parse(SliceOption *s, const char *text, EgmError *reterr);
/* A size or whole, not both. */
int slice_option_check(const SliceOption *s, EgmError *reterr);
