/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What outlives egmd in the kernel hangs on names in a file system of its own. No dots: the kernel has none of them. */

#define ENFORCE_PIN_DIRECTORY "/sys/fs/bpf/egm"
#define ENFORCE_PIN_NEXT "next"

typedef struct EnforcePin {
        const char *name;
        const char *path;
} EnforcePin;

/* Maps, then links. */
#define ENFORCE_N_PINS 11U
extern const EnforcePin enforce_pins[ENFORCE_N_PINS];

/* The directory, made when it is not there: ours alone. */
int enforce_pins_open(int *ret_fd);
/* 1: all are there. */
int enforce_pins_complete(int dir);
