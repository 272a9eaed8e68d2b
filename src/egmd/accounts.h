/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "acquire.h"
#include "quota.h"

/* What is on whose account (quota.h), and for how long.
 *
 * A lease counts for its owner, and for the unit and the slices of the process that acquired it. Its bytes and slices leave the
 * accounts one by one, when they can be lent again (or are lost), and the lease itself when it is gone: what drains or
 * is scrubbed is not to be had for anybody, and whoever made it so shall not get more meanwhile. What a restart found
 * unaccounted for is nobody's. */

int accounts_new(Manager *m);
void accounts_free(Manager *m);

/* Before anything else looks at a request: whose it is. */
int accounts_open(Manager *m, AcquireRequest *q);
QuotaAmounts accounts_request(const AcquireRequest *q);
/* May it be granted? -EDQUOT. */
int accounts_check(const AcquireRequest *q, EgmError *reterr);
/* The same of what was found for it: how large a whole region is, is not known before. */
int accounts_check_placed(const AcquireRequest *q, const Placed *placed, EgmError *reterr);
/* Could it be, if everything of theirs ended? */
bool accounts_may_ever(const AcquireRequest *q);
/* A walk along the queue begins: quota_begin_turn(). */
void accounts_begin_turn(Manager *m);

/* A request enters the queue, unless too many of theirs are in it: -EDQUOT; and leaves it. */
int accounts_begin_wait(const AcquireRequest *q, EgmError *reterr);
void accounts_end_wait(const AcquireRequest *q);

/* Calls that are not answered yet. */
int accounts_begin_call(Manager *m, QuotaParty *p, EgmError *reterr);
void accounts_end_call(QuotaParty *p);

/* It has its party; its slices that are over are not counted. */
void accounts_add_lease(Lease *l);
/* Its bytes can be lent again, or are lost. */
void accounts_slice_over(Slice *s);
void accounts_lease_over(Lease *l);

/* All of them, what percents are of up to date. */
Quota *accounts_quota(Manager *m);
