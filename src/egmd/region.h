/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "config.h"
#include "discovery.h"
#include "extent-map.h"
#include "lease.h"
#include "placement.h"
#include "provider.h"
#include "scrubber.h"
#include "worker.h"

/* One /dev/egmN as the daemon knows it: its memory, its facts, its state. */

typedef struct Manager Manager;
typedef struct Region Region;

typedef enum RegionState {
        REGION_OPENING,
        REGION_READY,
        REGION_HELD_ELSEWHERE,
        REGION_FAILED,
        REGION_GONE,
        REGION_DELEGATED, /* somebody else opens it, by path, for a lease of all of it */
        _REGION_STATE_MAX,
        _REGION_STATE_INVALID = -EINVAL,
} RegionState;

const char *region_state_to_string(RegionState s);
RegionState region_state_from_string(const char *s);

struct Region {
        Manager *manager;
        char *name;
        RegionInfo *info;   /* the facts discovery (or the simulation) gave */
        const char **gpus;  /* addresses out of info, NULL-terminated, for placement */
        Provider *provider; /* set while open; the opener has it before */
        ExtentMap *map;     /* NULL while the size is not known */
        Ranges retired;
        RegionState state;
        char *reason;  /* words, while not ready */
        char *held_by; /* the same with the name of who has it, for those who may know; or NULL */
        bool schedulable;
        bool retired_unknown; /* its list could not be read the last time: nothing of it is lent */
        bool simulated;
        bool lingered; /* somebody without a lease of it has it open, as the last look found, or nobody looked yet */
        bool enforced; /* nobody maps it without a right to it: its gate is closed, and that is proven */
        char *lax;        /* words, why not */
        uid_t node_owner; /* whose the node is when it is not handed over */
        RegionMode mode;
        const char *forbidden; /* static words: why its mode forbids to lend anything new; NULL: it does not */
        bool unstored; /* the service manager could not be given its descriptor: to be tried again */
        bool no_open;  /* its name says that opening may wipe host memory */

        struct RegionOpening *opening; /* the worker's, while one runs */
        struct RegionOpening *
                        orphan; /* cancelled, but still in the kernel: until it ends nobody may open */
        sd_event_source *retry;
        unsigned n_tries;

        SliceList draining;
        SliceList scrubbing;
        struct RegionScrub *scrubs; /* jobs in flight */
        sd_event_source *scrub_retry;
        unsigned n_scrub_failures;

        bool returning; /* gone, and its device is back already */
        bool changed;   /* since the bus last told so */
};

/* info is copied. */
int region_new(Manager *m, const RegionInfo *info, Region **ret);
Region *region_free(Region *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(Region *, region_free)

/* Takes it up as it was before a restart, or starts to open it, unless the facts forbid that. The manager has it in its list by
 * now. */
int region_begin(Region *r);
/* The same device, other facts. */
int region_update(Region *r, const RegionInfo *info);
/* The device has gone: closes it; its leases become lost. */
void region_vanish(Region *r);
/* A device of that name is back: opened anew, dirty and unlent. */
int region_return(Region *r, const RegionInfo *info);
/* Of a gone region: lets go of the device once no scrub uses it any more. */
void region_settle(Region *r);

/* One lease at a time, from offset 0: it has to be or it is to be. */
bool region_whole_only(const Region *r);
/* It has to be. */
bool region_ignores_offsets(const Region *r);
uint64_t region_granule(const Region *r);
uint64_t region_largest_free(const Region *r);
void region_placement(const Region *r, PlacementRegion *ret);

/* How soon a list that could not be read is asked for again. */
#define REGION_POLL_AGAIN_USEC (1 * USEC_PER_SEC)

/* Reads the retired list again; what is new is retired and its leases are told. */
void region_poll_retired(Region *r);
/* One range turned out bad. *ret_new: the bytes that were not known to be. -ENOMEM: logged; it must not be lent. */
int region_retire(Region *r, uint64_t offset, uint64_t size, uint64_t *ret_new);

/* Could it lend anything new, now or later? */
bool region_may_lend(const Region *r);

int region_set_schedulable(Region *r, bool schedulable);
const char *region_driver(const Region *r);
