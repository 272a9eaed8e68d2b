/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "egm-error.h"
#include "lease.h"
#include "placement.h"

/* Requests for leases: granted at once, refused, or waiting their turn (waiter.h). */

typedef struct Manager Manager;
typedef struct Waiter Waiter;

typedef struct AcquireRequest {
        SliceRequest *slices; /* own their strings */
        size_t n_slices;
        uint64_t whole_bytes; /* what the whole regions among them come to at least, of one that waits */
        char *label;
        LeaseLifetime lifetime;
        int holder;    /* pidfd or -EBADF */
        bool delegate; /* whole regions, by path, for delegate_uid to open */
        uid_t delegate_uid;
        bool dmabuf; /* dma-bufs are to be had */
        uint64_t wait_usec;
        uid_t uid; /* the lease's owner; (uid_t) -1 until it is known */
        pid_t pid;
        char *unit;        /* of that process, or NULL */
        char *unit_slice;  /* that it is in, or NULL */
        QuotaParty *party; /* made of these when the request is taken up */
} AcquireRequest;

void acquire_request_done(AcquireRequest *q);
/* Of whole regions, what is known. */
uint64_t acquire_request_bytes(const AcquireRequest *q);

/* lease and its holder's end of the lifetime pipe (borrowed for the call), or a refusal. Called exactly once, unless the
 * waiter was cancelled. */
typedef void (*acquire_done_t)(int r, const EgmError *error, Lease *lease, int lifetime_fd,
                               void *userdata);

/* Consumes the request. done() may run before this returns; then *ret_waiter is NULL. */
void manager_acquire(Manager *m, AcquireRequest *q, acquire_done_t done, void *userdata,
                     Waiter **ret_waiter);
