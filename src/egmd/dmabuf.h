/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/* Dma-bufs of a lease's memory, for importers like iommufd that cannot take it by its mapping. Nobody can take one back: see
 * docs/security.md. */

/* A request that asks for them, as the configuration has it. */
int dmabuf_check_request(const Manager *m, const AcquireRequest *q, EgmError *reterr);

/* One for each slice, without its retired pages, in order; fds has room for l->n_slices. What they are recognised by is in the lease's
 * record when this returns, so that the lease drains until nobody has them open, whatever happens to us. */
int dmabuf_export(Manager *m, Lease *l, int *ret_fds, EgmError *reterr);

/* Those that may lead to a region that we have no hold of: it went, or nobody kept its descriptor while we were away, which a dma-buf
 * does not. Before it is opened nobody may have one of them open. */
int dmabuf_list_lost(const Manager *m, const char *region, LeaseDmabuf **ret, size_t *ret_n);
/* Nobody has. */
void dmabuf_forget_lost(Manager *m, const char *region);
