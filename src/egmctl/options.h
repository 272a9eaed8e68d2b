/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "format-option.h"
#include "inject-plan.h"
#include "slice-option.h"

/* The command line. */

typedef enum JsonMode {
        JSON_OFF,
        JSON_SHORT,
        JSON_PRETTY,
} JsonMode;

/* Options that only some verbs have. */
typedef enum OptionGroup {
        OPTIONS_ACQUIRE = 1 << 0,    /* --slice, --size, --label, --dmabuf, --wait… */
        OPTIONS_PERSISTENT = 1 << 1, /* --persistent, --delegate, --owner */
        OPTIONS_PROPERTY = 1 << 2,   /* --property, --value */
        OPTIONS_FORMAT = 1 << 3,     /* --for, --gpu, --cpus… */
        OPTIONS_RELEASE = 1 << 4,    /* --kill, --kill-after, --wait */
        OPTIONS_INJECT = 1 << 5,     /* --inject, --as, --shift, --lease */
        OPTIONS_STATUS = 1 << 6,     /* --quota */
} OptionGroup;

typedef struct Options {
        JsonMode json;
        bool no_legend;
        bool no_ask_password;
        bool help, version;
        const char *bus; /* NULL: the system bus */

        SliceOption *slices;
        size_t n_slices;
        SliceOption single; /* from --size, --gpu…; moved to slices at the end */
        bool has_single;
        const char *label;
        uint64_t wait_usec;
        bool dmabuf; /* run: COMMAND gets them, too */
        bool persistent;
        bool has_delegate;
        uid_t delegate;
        bool has_owner;
        uid_t owner;

        bool kill;
        bool wait; /* given at all: with release it needs no value */
        bool has_kill_after;
        uint64_t kill_after_usec;

        char **properties; /* borrowed */
        size_t n_properties;
        bool value;

        bool quota;

        const char *lease; /* run: this one, and none is acquired */

        FormatOption format;
        InjectOption inject;
} Options;

void options_done(Options *o);
#define _cleanup_options_ _cleanup_(options_done)

/* Options in front of the verb: stops at the first argument that is none. *ret_n: how many arguments (without the
 * program) are used up. -EINVAL with words. */
int options_parse_global(Options *o, int argc, char **argv, int *ret_n, EgmError *reterr);
/* Those behind a verb, which has these groups. stop: at the first argument that is none (a command follows); otherwise options
 * may stand anywhere, and arguments are moved to the end. argv[0] is the verb. */
int options_parse_verb(Options *o, int argc, char **argv, unsigned groups, bool stop, int *ret_n,
                       EgmError *reterr);
