/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "holders.h"
#include "manager.h"

/* Who has a region's descriptor by right. A descriptor reaches all of the region, so who has one holds up everything that drains
 * there, unless he has a lease of the region that is alive: then he is trusted to keep to it (isolation is cooperative).
 * What proves a lease:
 *
 *   - its lifetime descriptor: the daemon gave it out with the memory's, and nobody has it but by way of the holder;
 *   - being bound to it, by pid and start time;
 *   - mapping it. That proves less: anybody with a descriptor can map any lease. But it is all that a VMM shows whose lease
 *     is persistent, or kept by somebody else's copy, as is a backend that VMs of several owners share; without
 *     it these would hold up the region for as long as they run. So a process counts by its mappings only if each byte of
 *     them is a lease's. One byte elsewhere shows that it does not keep to leases. Bytes that still drain are neither: it
 *     holds them up by mapping them, and others' memory is none of that.
 *
 * What it would do next no proof can tell: a process that keeps a descriptor and maps a lease that is not its own
 * passes. That is what enforcement is for. */

bool claims_allow(const Manager *m, const Region *r, const Holder *h);
