/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"

/* Placeholders in the arguments of a command: {lease}, and for slice N (from 0) {N.path}, {N.fd}, {N.dmabuf}, {N.offset},
 * {N.size}, {N.region}. Any other brace is just a brace, so that JSON, awk and shell scripts pass; a backslash right before a
 * placeholder makes it one of those, and goes away. Pure. */

typedef struct PlaceholderSlice {
        const char *region;
        int fd;
        uint64_t offset;
        uint64_t size;
        const char *path; /* NULL: the descriptor's */
        int dmabuf;
} PlaceholderSlice;

typedef struct PlaceholderValues {
        const char *lease;
        const PlaceholderSlice *slices; /* NULL: only check */
        size_t n_slices;
        bool dmabufs; /* there are some */
} PlaceholderValues;

/* -EINVAL with words: what looks like one ({N.word}) but is unknown, or a slice that there is not. ret may be NULL. */
int placeholder_expand(const char *text, const PlaceholderValues *v, char **ret, EgmError *reterr);
/* Is {slice.word} in the text? */
bool placeholder_is_used(const char *text, size_t slice, const char *word);
