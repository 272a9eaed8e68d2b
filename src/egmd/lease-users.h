/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lease.h"

/* Who has a region's memory, in a few words for a refusal: those with the most of it,
 * "lease 7 "vm1" (uid 1000, vm1.scope, 64G), lease 9 (uid 1001, 2G) and 3 more". Labels and units only where the one who asks
 * may know them: of his own leases, and of all for root. An empty string: nobody. */
int lease_users(const LeaseTree *leases, const void *region, uid_t asker, char **ret);
