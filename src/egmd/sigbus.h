/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Touching memory that may be broken. Bad memory, and a page that its file no longer backs,
 * answer an access with SIGBUS in the thread that made it; without this that is the end of the
 * daemon. */

/* Installs the handler unless it is in place. SIGBUS that belongs to no guard goes where it went
 * before (by default: the process dies), except for early warnings of bad memory that nobody has
 * touched (BUS_MCEERR_AO): they are no fault of ours to die from, and may hit any thread while a
 * window is mapped. So the daemon calls this at its start. */
int sigbus_init(void);

/* Calls fn(userdata) in this thread. Returns 0 when it came to its end; 1 when a SIGBUS for an
 * address in [range, range + size) cut it short: *ret_address is that address, or NULL when the CPU
 * did not tell which (it was in the range, as nothing else can fail so). The access did not happen;
 * what fn did before it did. NULL, SIZE_MAX is every address.
 *
 * fn is left by siglongjmp(): it may touch the range, its own variables and *userdata (where
 * progress that is to outlive the jump belongs in volatile or atomic members), and call
 * memset()/memcpy() and the like, but nothing that locks, allocates or opens. Guards don't nest.
 * The thread must not block SIGBUS. It costs one short system call: fine for a chunk, not for a
 * word. -errno only when the handler could not be installed. */
int sigbus_guard_run(void (*fn)(void *userdata), void *userdata, void *range, size_t size,
                     void **ret_address);

/* The same without the system call, for whoever called sigbus_init() itself a moment ago (the
 * scrubber's threads do with each window). */
int sigbus_guard_run_ready(void (*fn)(void *userdata), void *userdata, void *range, size_t size,
                           void **ret_address);
