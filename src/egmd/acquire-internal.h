/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "waiter.h"

/* Between acquire.c, which grants or says why not, and waiter.c, which keeps those who wait and serves them in turns. */

/* ret has room for MANAGER_REGIONS_MAX. */
size_t acquire_describe_regions(Manager *m, PlacementRegion *ret);
/* Grants the request or says why not. reserved, in regions, is what those ahead of it may use. */
int acquire_try_grant(Manager *m, const AcquireRequest *q, PlacementRegion *regions, size_t n,
                      Lease **ret, int *ret_fd, EgmError *reterr);
int acquire_refuse_holder(int r, EgmError *reterr);
bool acquire_lacks_memory(EgmErrorKind kind);
/* The refusal once more, now with who has the memory: that is looked up for those only who get to read it. until: the waiter
 * whose refusal it is, NULL: one behind all of them. */
void acquire_name_users(Manager *m, const AcquireRequest *q, const Waiter *until, EgmError *e);

/* What those who wait may use is not for those behind them: of the regions, and of what their user may have. Who waits for
 * room on his own account holds nobody else up. Up to there; NULL: all of them. */
void waiters_reserve(Manager *m, const Waiter *until, PlacementRegion *regions, size_t n);
/* What could not be granted waits from here on, and the request is consumed. -ENOENT: it is refused, for the reason that e
 * gives, perhaps another one than before. */
int waiter_refuse_or_wait(Manager *m, AcquireRequest *q, EgmError *e, acquire_done_t done,
                          void *userdata, Waiter **ret);
