/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fd-store.h"
#include "region.h"
#include "state.h"

/* Finds again, after a restart, what was there before it: three witnesses (records, stored descriptors, devices) and a rule for each
 * disagreement, always to the safe side. docs/restart.md has the rules. All of this happens before anybody can reach
 * us on the bus. */

typedef struct Restore {
        StateContent content;
        FdStore *store;
        int error; /* something could not be taken up: better not to begin at all */
} Restore;

/* Leases first, without their memory. -EPROTONOSUPPORT: the records are of a newer version; nothing was touched. The manager
 * keeps the state directory open; restore is the caller's, and used until restore_end(). */
int restore_begin(Manager *m, const char *directory, Restore *ret);
/* Then each region as it is discovered: 1: it is what it was, its leases have their memory back, and provider is its (also when
 * that failed half-way: see error); 0: to be opened, by provider, which may have the open file already. */
int restore_region(Region *r, Provider *provider);
/* At last, what nobody claimed: leases without their device are lost, descriptors without a region closed. */
int restore_end(Manager *m);
void restore_done(Restore *r);
#define _cleanup_restore_ _cleanup_(restore_done)
