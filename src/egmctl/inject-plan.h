/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"

/* Whether and how `run` answers its command's opens. Pure. */

typedef enum InjectMode {
        INJECT_AUTO,
        INJECT_ON,
        INJECT_OFF,
        _INJECT_MODE_MAX,
        _INJECT_MODE_INVALID = -EINVAL,
} InjectMode;

const char *inject_mode_to_string(InjectMode mode);
InjectMode inject_mode_from_string(const char *s);

typedef struct InjectOption {
        InjectMode mode;
        bool has_shift;
        InjectMode shift; /* INJECT_AUTO: the command shows it */
        const char **as;  /* borrowed strings; the path of slice 0, 1… */
        size_t n_as;
} InjectOption;

void inject_option_done(InjectOption *o);
/* "inject", "no-inject" (value NULL), "shift", "as". -EINVAL with words, or -ENOMEM. */
int inject_option_set(InjectOption *o, const char *key, const char *value, EgmError *reterr);
/* That they go together, and with so many slices. */
int inject_option_check(const InjectOption *o, size_t n_slices, EgmError *reterr);

/* What the command and its arguments, their placeholders not yet filled in, say. */
bool inject_is_wanted(const InjectOption *o, size_t n_slices, int n_args, char **args);
/* Is the first VMM among them, perhaps behind who starts it, one that opens its RAM without O_CLOEXEC, and all else with? */
bool inject_is_narrow(int n_args, char **args);
/* What egm_inject_set_shift() takes. */
int inject_shift(const InjectOption *o, size_t slice, int n_args, char **args);
/* The argument that says that the command passes its memory on to processes that know of no shift, or NULL. */
const char *inject_shares_memory(int n_args, char **args);
