/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "config.h"
#include "discovery.h"
#include "drain.h"
#include "enforce.h"
#include "lease.h"
#include "lifeline.h"
#include "region.h"
#include "scrubber.h"
#include "simulation.h"
#include "state.h"
#include "topology.h"
#include "waiter.h"
#include "watcher.h"

/* The domain: regions, leases and what happens to them, on one event loop, without a bus. */

#define MANAGER_REGIONS_MAX 64U
#define LEASE_LABEL_MAX 128U

/* Who shows all this to the world. Every member is called after the change; NULL table: nobody. */
typedef struct ManagerObserver {
        void (*region_added)(Region *r, void *userdata);
        void (*region_changed)(Region *r, void *userdata);
        void (*lease_added)(Lease *l, void *userdata);
        void (*lease_changed)(Lease *l, void *userdata);
        void (*lease_removed)(Lease *l, void *userdata);
        void (*lease_retired)(Lease *l, const char *region, const Ranges *pages, void *userdata);
        /* A process maps what it was not lent; ended: it does not any more, by our hand. */
        void (*overreach)(Region *r, const char *kind, const Ranges *bytes, bool ended,
                          void *userdata);
        void (*devices_changed)(Manager *m, void *userdata);
} ManagerObserver;

/* A PCI device that carries EGM itself: reported, never opened. */
typedef struct UnsupportedDevice {
        char *address;
        uint64_t size;
} UnsupportedDevice;

typedef struct ManagerCounters {
        uint64_t granted;
        uint64_t refused;
        uint64_t ended;
        uint64_t scrubbed_bytes;
        uint64_t bad_pages;
        uint64_t overreaches;
} ManagerCounters;

typedef struct SocketCapacity {
        int socket;
        uint64_t size, free, leased, retired;
} SocketCapacity;

struct Manager {
        sd_event *event;
        const Config *config; /* borrowed */
        Quota *quota;
        sd_event_source *room_source; /* serves who waits for room in a quota */
        Topology *topology;
        Scrubber *scrubber;
        cpu_set_t *scrub_cpus; /* that it may use; NULL: its own choice */
        Discovery *discovery;
        Simulation *simulation; /* instead of it */
        Enforce *enforce;       /* NULL: holders are trusted */
        char *lax;              /* words, why */
        bool pins_missed;       /* and that has been said */
        Drain *drain;
        Watcher *watcher;
        sd_event_source *poll_source;
        State *state;            /* NULL: nothing is remembered */
        struct Restore *restore; /* while starting; borrowed */

        Region **regions; /* sorted by name; owned */
        size_t n_regions;
        LeaseTree leases;        /* owned */
        LeaseList with_dmabufs;  /* those of them that have any */
        LifelineNames lifelines; /* theirs */
        unsigned n_leases;       /* without the hidden */
        uint64_t next_lease_id;
        uint64_t recorded_lease_id; /* numbers below it may be used: the record says so */
        SliceList over;             /* done with; their leases have not been told of it */
        sd_event_source *over_source;
        WaiterList waiters;
        unsigned n_waiters;
        Waiter *serve_next; /* where the next turn of serving them begins; NULL: at the first */
        sd_event_source *serve_source;
        bool serving;
        bool serve_again; /* something has changed since they were looked at */

        UnsupportedDevice *unsupported;
        size_t n_unsupported;
        ManagerCounters counters;

        const ManagerObserver *observer;
        void *observer_userdata;

        bool ignore_inaccessible; /* unprivileged simulation: processes we may not look at don't count */
        bool stopping;
};

/* config must live as long. */
int manager_new(sd_event *event, const Config *config, Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(Manager *, manager_free)

/* Where to remember; consumes state. */
void manager_set_state(Manager *m, State *state);
void manager_set_observer(Manager *m, const ManagerObserver *observer, void *userdata);

/* Real devices from udev. */
int manager_start_discovery(Manager *m);
/* Simulated ones; logs. */
int manager_start_simulation(Manager *m, const char *what, uint64_t scale);
/* One that was not there before. */
int manager_add_region(Manager *m, const RegionInfo *info);

Region *manager_find_region(const Manager *m, const char *name);
Lease *manager_find_lease(const Manager *m, uint64_t id);
/* Totals by socket, sorted; the caller's to free. */
int manager_capacity(const Manager *m, SocketCapacity **ret, size_t *ret_n);
uint64_t manager_now_usec(const Manager *m); /* CLOCK_REALTIME */

/* A lease comes into being: first what keeps it, then its record, then the lease itself, its slices taken in the maps. */
int manager_lifeline_new(Manager *m, Lease *l, int *ret_fd);
/* The same around a read end from before a restart; consumes fd, also on failure. */
int manager_lifeline_adopt(Manager *m, Lease *l, int fd);
void manager_add_lease(Manager *m, Lease *l);

/* Fails, with nothing changed, where it cannot be written down. */
int manager_release(Manager *m, Lease *l, const char *why);
int manager_bind(Manager *m, Lease *l, int pidfd, EgmError *reterr);
/* Lets it map the lease, but does not tie the lease to it. */
int manager_admit(Manager *m, Lease *l, int pidfd, EgmError *reterr);
int manager_reopen(Manager *m, Lease *l, int *ret_lifetime_fd, EgmError *reterr);
/* What keeps it changed: ends it when nothing does. */
void manager_check_lease(Manager *m, Lease *l);

/* A lease that was there before us, or a hidden one. */
void manager_insert_lease(Manager *m, Lease *l);

/* A slice has nobody left who could touch it. On error it goes on draining; logged. */
int manager_slice_drained(Manager *m, Slice *s);
/* [offset, offset + size) of a region is zero (or retired) now. */
void manager_range_clean(Manager *m, Region *r, uint64_t offset, uint64_t size);
/* A region's device has gone. */
void manager_region_lost(Manager *m, Region *r);

/* News for the observer. */
void manager_region_changed(Manager *m, Region *r);
void manager_lease_changed(Manager *m, Lease *l);
void manager_lease_retired(Manager *m, Lease *l, const char *region, const Ranges *pages);
