/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lease.h"

/* Why is memory that was released not free? What has been held up for long is told of in the log: once, and again only rarely. */

typedef struct Manager Manager;

/* After a look that left something draining. */
void drain_notices(Manager *m);

/* Has it drained so long that it is to be told of? Then it has been. Both in microseconds. Pure. */
bool drain_notice_is_due(Lease *l, uint64_t now, uint64_t after);
/* The words. Pure. */
int drain_notice_text(const Lease *l, uint64_t now, char **ret);
