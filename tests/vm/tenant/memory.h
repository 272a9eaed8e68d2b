/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm.h"
#include "macro.h"

/* What the tenants of the test VM's restarts have in common: one slice of a lease, mapped. */

#define DEADLINE_USEC (240 * USEC_PER_SEC)

typedef struct Memory {
        uint64_t *words;
        uint64_t size; /* in bytes */
        uint64_t seed; /* of the pattern, which tells every word of every tenant apart */
        char *place;   /* REGION:OFFSET:SIZE */
} Memory;

/* All of the lease's only slice. */
int memory_map(Memory *m, egm_lease *lease, const char *label);
void memory_unmap(Memory *m);

int memory_fill(Memory *m);
/* Every byte of it: 0, or -EIO, having said on standard output which one is something else. */
int memory_check_zero(const Memory *m);
int memory_check_pattern(const Memory *m);

/* From now on a signal is a failure: of a kind that cannot be survived, said on standard output with exit status 3;
 * any other at the next call of signals_check(). */
int signals_expect_none(void);
int signals_check(void);

/* A slice of the region, of a new lease; waits for it. */
int acquire_slice(egm_connection *c, const char *label, const char *region, uint64_t size,
                  bool persistent, egm_lease **ret);
/* Somebody wrote to our standard input, or nobody can. */
bool told_to_end(int timeout_msec);
/* What is to be tested needs the CPU more. */
int be_humble(void);
