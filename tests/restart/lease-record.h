/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A lease's record in a state directory, wherever it is: in a slot of the table or in a file of its own. NULL: there is none. */
char *lease_record_get(const char *directory, uint64_t id);
/* In the same place: that text instead. -ENOENT: there is none. Room in a slot is for 1023 bytes. */
int lease_record_put(const char *directory, uint64_t id, const char *text);
/* No trace of it is left. */
int lease_record_remove(const char *directory, uint64_t id);
/* Records in the table, of whatever lease. */
size_t lease_record_count_slots(const char *directory);
