/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <limits.h>

#include "state.h"

/* A state directory of its own for each test. */

extern char state_dir[64];

int state_dir_setup(void **state);
int state_dir_teardown(void **state);
#define STATE_DIR_TEST(name) \
        cmocka_unit_test_setup_teardown(name, state_dir_setup, state_dir_teardown)

char *state_dir_path(const char *name, char ret[static PATH_MAX]);
#define PATH(name) state_dir_path((name), (char[PATH_MAX]){})

/* All names, sorted, each with a blank behind it. */
char *state_dir_names(void);
void state_dir_assert(const char *expected_names);

void state_dir_put(const char *name, const char *text);
void state_dir_put_fixture(unsigned format, const char *name);
char *state_dir_get(const char *name);

/* With RECORD_BOOT for a boot. */
State *state_dir_open(void);
int state_dir_save_lease(State *s, uint64_t id, const char *label);
