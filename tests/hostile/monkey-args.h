/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/* Arguments at random, most of them such as make sense. */

void monkey_seed(uint64_t seed);
uint64_t monkey_random(uint64_t n); /* below n */
bool monkey_one_in(uint64_t n);

/* Paths of leases that were granted, for arguments and calls. */
void monkey_remember(const char *path);
const char *monkey_path(void);
const char *monkey_word(void);

void monkey_args_open(void);
void monkey_args_close(void);
/* Appends values of these types. */
int monkey_append(sd_bus_message *m, const char *types);
/* Any types at all. */
int monkey_append_any(sd_bus_message *m);
