/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "enforce.h"
#include "lease.h"
#include "provider.h"
#include "region.h"

/* The manager's leases and regions, as the kernel's table has them. Where the kernel is of no help, everything here does
 * nothing, and leases are "cooperative". */

typedef struct Manager Manager;

/* Before anything is mapped. Logs what the kernel lacks, and goes on without. */
void confine_begin(Manager *m);
/* Instead: nothing is to be enforced, for that reason. */
void confine_decline(Manager *m, const char *why);
/* What an earlier start left in the kernel goes. */
void confine_remove(void);
/* At the end: stays for the leases that are out, and goes where there are none. */
void confine_end(Manager *m);
/* Every now and then. */
void confine_check(Manager *m);
/* Why isolation is not more, in words; NULL: it is not known yet, or there is nothing to say. */
const char *confine_reason(const Region *r);

/* ---- regions ---- */

/* Closes the gate of a region whose file is open, and proves that it is closed. False: it is open, and *ret_why (the
 * caller's to free) says why. p must be nobody's but ours, or its gate have been closed. Also for worker threads. */
bool confine_region(Enforce *e, const Provider *p, dev_t devnum, char **ret_why);
void confine_set_region(Region *r, bool enforced, char *why); /* consumes why */
/* Nobody shall map it any more. Whether that holds is proven when it is opened. */
void confine_shut_region(Region *r);
/* Others shall use it by its path. */
void confine_let_region_go(Region *r);

/* ---- leases ---- */

/* Its rights come into being, nobody bears them yet. On failure there are none. */
int confine_lease(Manager *m, Lease *l);
/* What it still has of its slices, after one was lost. */
void confine_shrink(Manager *m, Lease *l);
/* Nobody may map any of it from now on. Where that fails, logged, its drain waits for it. */
void confine_revoke(Manager *m, Lease *l);
/* Of one that has ended: nobody has had a right to it since. Otherwise tries to end what it has left, and what somebody saw before
 * says nothing. */
bool confine_is_over(Manager *m, Lease *l);
/* Lets a process map it; where it is not enforced, it can. */
int confine_admit(Manager *m, const Lease *l, int pidfd, EgmError *reterr);
/* Does the kernel see to it, and has it ever since the lease began? */
bool confine_holds(const Lease *l);

/* ---- after a restart ---- */

/* Once the leases are known, before their regions are: who has none any more maps nothing from here on. */
int confine_restored(Manager *m);
/* Once the regions are there. */
void confine_take_up(Manager *m);
