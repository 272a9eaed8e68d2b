/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <sys/types.h>

#include "quota.h"
#include "ranges.h"

/* What one VM holds, and the rules of its life. Pure: no descriptor, no clock, no region; the manager feeds
 * in what happened and acts on what comes out.
 *
 *     active --(nothing keeps it, or Release)--> draining --(nobody can touch it)--> scrubbing --> gone
 *                                                                         lost: its region went away */

typedef enum LeaseState {
        LEASE_ACTIVE,
        LEASE_DRAINING,
        LEASE_SCRUBBING,
        LEASE_LOST,
        _LEASE_STATE_MAX,
        _LEASE_STATE_INVALID = -EINVAL,
} LeaseState;

const char *lease_state_to_string(LeaseState s);
LeaseState lease_state_from_string(const char *s);

typedef enum LeaseLifetime {
        LEASE_LIFETIME_DESCRIPTOR,
        LEASE_LIFETIME_PERSISTENT,
        _LEASE_LIFETIME_MAX,
        _LEASE_LIFETIME_INVALID = -EINVAL,
} LeaseLifetime;

const char *lease_lifetime_to_string(LeaseLifetime l);
LeaseLifetime lease_lifetime_from_string(const char *s);

/* By what a dma-buf that was handed out is recognised: the inode of its file. */
typedef struct LeaseDmabuf {
        dev_t dev;
        ino_t ino;
} LeaseDmabuf;

#define LEASE_DMABUFS_MAX 32U

typedef enum SlicePhase {
        SLICE_LEASED,
        SLICE_DRAINING,
        SLICE_SCRUBBING, /* reclaimed; some of its bytes are still dirty or being scrubbed */
        SLICE_DONE,
        SLICE_LOST,
        _SLICE_PHASE_MAX,
        _SLICE_PHASE_INVALID = -EINVAL,
} SlicePhase;

typedef struct Lease Lease;
typedef struct Lifeline Lifeline;

typedef struct Slice {
        Lease *lease;      /* back pointer to its owner */
        void *region;      /* the manager's region; NULL once lost */
        char *region_name; /* stays when the region goes */
        uint64_t offset;
        uint64_t size;
        SlicePhase phase;
        bool counted;         /* on the accounts of its lease's party */
        uint64_t drain_turn;  /* only a scan of a later turn proves that nobody touches it */
        uint64_t judged_turn; /* the last scan that was asked about it */
        bool is_over;         /* and not forgotten yet */
        bool is_stuck;        /* it could not be reclaimed, and that has been said */
        Ranges unclean;       /* while scrubbing: what is not zero again yet */
        /* In the region's list of those that drain or are being scrubbed, or in the manager's of those that are over. */
        TAILQ_ENTRY(Slice) phase_link;
} Slice;

typedef TAILQ_HEAD(SliceList, Slice) SliceList;

/* Who still could touch a draining lease. The start time (field 22 of /proc/PID/stat) makes it that process and no other
 * that gets its pid. */
typedef struct Blocker {
        pid_t pid;
        uint64_t start_time;
        char *comm;
        char *unit;
} Blocker;

struct Lease {
        struct Manager *manager; /* for the manager's callbacks; nothing on this floor looks inside */
        uint64_t id;             /* never used twice */
        bool unclaimed; /* nobody's: what a restart found unaccounted for; never recorded */
        bool hidden;    /* the same, as long as nobody is known to use it: not shown */
        char *label;
        LeaseLifetime lifetime;
        uid_t owner_uid;
        QuotaParty *party; /* whose accounts it goes on; NULL: nobody's */
        bool counted;      /* on those accounts */
        pid_t owner_pid;   /* who asked; for display only, may be gone or reused */
        char *holder_unit; /* systemd unit of the process bound to it, else of who asked */
        uint64_t created_usec;
        bool delegated; /* whole regions, handed over by path to delegate_uid */
        uid_t delegate_uid;
        bool dmabuf;          /* dma-bufs of it may be had */
        LeaseDmabuf *dmabufs; /* all that ever were */
        size_t n_dmabufs;
        bool enforced; /* the kernel lets nobody map its bytes without a right to them */
        bool gated;    /* nor some of them: who wants to map those has to be admitted */
        bool exposed;  /* but it has not all the time */
        bool revoked;  /* nobody has a right to them any more */
        Slice *slices;
        size_t n_slices;

        /* What keeps it alive. */
        bool released;
        bool lifetime_open;
        unsigned n_bound;
        Lifeline *lifeline; /* the descriptors behind the two */

        Blocker *blockers;
        size_t n_blockers;
        uint64_t judged_turn;     /* the scan that named them */
        uint64_t drains_since;    /* in microseconds of the monotonic clock; 0: it does not */
        uint64_t drain_notice_at; /* the next word about it; 0: none yet */

        RB_ENTRY(Lease) by_id;
        TAILQ_ENTRY(Lease) dmabuf_link; /* in the manager's list of those that have any */
};

typedef TAILQ_HEAD(LeaseList, Lease) LeaseList;

typedef RB_HEAD(LeaseTree, Lease) LeaseTree;
RB_PROTOTYPE(LeaseTree, Lease, by_id, lease_compare)

/* Slices are filled in by the caller: lease_set_slice() for each. */
int lease_new(uint64_t id, size_t n_slices, Lease **ret);
int lease_set_slice(Lease *l, size_t i, const char *region_name, void *region, uint64_t offset,
                    uint64_t size);
Lease *lease_free(Lease *l); /* the lifeline must be gone by then */
DEFINE_TRIVIAL_CLEANUP_FUNC(Lease *, lease_free)

/* Does anything still keep it? */
bool lease_is_kept(const Lease *l);
LeaseState lease_state(const Lease *l);
/* All slices done or lost, and nothing keeps it: the object may go. It stays while dma-bufs of what was lost may be out: somebody has
 * to know by what they are recognised. */
bool lease_is_over(const Lease *l);
/* Does any of its slices? */
bool lease_drains(const Lease *l);
/* Could dma-bufs of it lead to what a region of that name has now, without us having kept hold of it? */
bool lease_haunts(const Lease *l, const char *region_name);
/* Still owns bytes of that region (leased or draining)? NULL: of any. */
bool lease_owns_in(const Lease *l, const void *region);

void lease_clear_blockers(Lease *l);
/* Adds one, once per process. */
int lease_add_blocker(Lease *l, pid_t pid, uint64_t start_time, const char *comm, const char *unit);
