/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Is this a kernel whose refusals can be relied on? As far as it says so itself: the proof comes on top. */

/* -EOPNOTSUPP: no, and *ret_why (the caller's to free) says what is missing. */
int enforce_kernel_suits(char **ret_why);

/* Pure. lsm: the comma-separated list of those at work. */
bool enforce_lsm_lists_bpf(const char *lsm);
/* release and version as of uname(2); preempt: of debugfs ("none (voluntary) full"), NULL: not known. Before 6.2 programs
 * of a fully preemptible kernel may find nothing where there is something. */
bool enforce_kernel_is_steady(const char *release, const char *version, const char *preempt);
