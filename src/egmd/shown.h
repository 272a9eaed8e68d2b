/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "holders.h"
#include "manager.h"

/* Which leases a process shows: whose lifetime descriptor it has open, or that it is bound to. */

/* Of those that are alive, the ones with bytes in the region; none where all that it shows are leases of others than its user and
 * root, who bound them to it. Sorted by number, each maybe more than once. The list is the caller's to free, the leases are not. */
int shown_by(const Manager *m, const Region *r, const Holder *h, const Lease ***ret, size_t *ret_n);
