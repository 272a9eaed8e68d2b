/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "../unit/test.h"

#include "egm.h"
#include "fake-egmd.h"
#include "fd-util.h"

/* For tests of leases: the fake daemon, and what it grants. */

extern Fake fake;

egm_connection *connect_fake(void);
/* With nothing left to dispatch from its beginning. */
egm_connection *connect_ready(void);
/* What the fake grants when nothing else is said. */
egm_request *new_request(void);
egm_lease *acquire(egm_connection *c);
unsigned count_fds(void);
/* Whether nobody holds the lifetime descriptor any more; waits for it if that is expected. */
bool lifetime_ended(int timeout_msec);

/* main() of these tests. */
int lease_bed_main(const struct CMUnitTest *tests, size_t n);
