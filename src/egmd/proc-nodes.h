/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Which device is behind a mapped file, remembered by the file's identity in maps: a whole system maps the same few
 * hundred files over and over. */

#define PROC_NODE_NONE (-1)

typedef struct ProcNodes ProcNodes;

int proc_nodes_new(ProcNodes **ret);
ProcNodes *proc_nodes_free(ProcNodes *n);
DEFINE_TRIVIAL_CLEANUP_FUNC(ProcNodes *, proc_nodes_free)

bool proc_nodes_find(ProcNodes *n, const char *identity, size_t size, int *ret_device);
/* Remembers, unless it was known already or there is too much to remember. */
int proc_nodes_add(ProcNodes *n, const char *identity, size_t size, int device);
