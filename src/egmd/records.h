/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "region.h"

/* What the manager writes down so that it is found again after a restart. Without a state directory all of
 * these do nothing. */

/* As it is now. On failure what was written before is still there. */
int record_lease(Manager *m, const Lease *l);
/* It is over, or never was. Logs what fails. */
int forget_lease(Manager *m, uint64_t id);
/* Open and usable: its facts, and its descriptor to the service manager. Logs what fails; returns what the record did. */
int record_region(Region *r);
/* That it may be lent, or may not, whatever becomes of the device. */
int record_schedulable(Region *r, bool schedulable);
/* Its descriptor is not to be kept any longer. */
void unstore_region(Region *r);
/* Its device has gone. */
void forget_region(Region *r);
/* No lease number is used before it is written that it may be. */
int record_lease_number(Manager *m, uint64_t id);
