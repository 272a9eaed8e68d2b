/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "region.h"

/* Stepping aside for who takes a whole region by path (libvirt, KubeVirt, Kata): the node is given to a user, and our
 * open file closed, since the driver lets nobody in beside it. The kernel clears the region as it is opened; we still do
 * not believe it. */

/* Of a region that a lease has all of. -EOPNOTSUPP: it has no node (simulated). On failure nothing has changed. */
int region_delegate(Region *r, uid_t uid);
/* As it was before a restart: not opened, since somebody else may have it. Consumes provider on success. */
int region_delegated_before(Region *r, Provider *provider);
/* The node is ours again; who has it open keeps that. */
void region_take_back(Region *r);
/* And nobody has it open any more: opens it, dirty all over. */
void region_take_over(Region *r);
