/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <bsd/sys/queue.h>

#include "acquire.h"

/* Requests that wait their turn. */

typedef struct Region Region;
typedef TAILQ_HEAD(WaiterList, Waiter) WaiterList; /* in the order they came */

/* The one who asked has gone. done() is not called, and those behind it are not served. */
void waiter_cancel(Waiter *w);

/* Something became free, or ready: serves who waits, in order. */
void manager_serve_waiters(Manager *m);
/* Nobody will be served any more. */
void manager_drop_waiters(Manager *m);
bool manager_has_waiters(const Manager *m);
/* Does somebody wait for bytes of it? Who waits for room on his own account does not. */
bool manager_wants(const Manager *m, const Region *r);

const AcquireRequest *waiter_request(const Waiter *w);
uint64_t waiter_since_usec(const Waiter *w);
uint64_t waiter_deadline_usec(const Waiter *w);
Waiter *waiter_next(const Manager *m, const Waiter *w); /* NULL: the first */
