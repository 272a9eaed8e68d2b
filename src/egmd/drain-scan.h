/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "drain.h"
#include "enforce.h"
#include "holders.h"
#include "manager.h"
#include "worker.h"

/* What a drain looks for, and what was found tells of a slice. What follows from that the drain decides (drain.c). */

/* One look at /proc: the worker's own while it runs. */
typedef struct DrainScan {
        Drain *drain; /* NULL: nobody waits for the outcome */
        Worker *worker;
        uint64_t turn;
        HolderDevice *devices;
        Region **regions; /* same order; only compared, never followed, once the scan is over; NULL for a dma-buf */
        uint64_t *dmabuf_of; /* same order: the lease whose dma-buf it is, or 0 */
        size_t n;
        pid_t *pids; /* NULL: everybody */
        size_t n_pids;
        bool ignore_inaccessible;
        dev_t pipe_dev;
        ProcStill *still;
        Enforce *enforce;             /* the manager's, or NULL */
        EnforceLook look;             /* its flights: also those before a look at /proc */
        EnforceFlight *flights_after; /* and after it */
        size_t n_flights_after;
        bool flights_known; /* then nobody maps what is enforced and revoked; who has can be seen */
        bool quick;         /* the kernel listed the mappings: /proc was only asked who they are */
        uint64_t started;
        HolderList found;
        bool *entitled; /* each of them to a descriptor of his region */
        bool held;      /* somebody holds something up */
} DrainScan;

DrainScan *drain_scan_free(DrainScan *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(DrainScan *, drain_scan_free)

/* 1: in some of them something drains. All are listed: what is looked for is the same from scan to scan then, and who had
 * none of it before need not be looked at again. */
int drain_scan_list_devices(DrainScan *s, const Manager *m);
/* Only bearers can have mapped it, so the kernel's list of mappings tells all. */
bool drain_scan_is_listed_by_kernel(const Slice *s);
/* Everything that drains is such that the kernel's list tells all; and something does. */
bool drain_scan_can_be_quick(const Manager *m);
/* The worker's part. */
int drain_scan_work(void *userdata);

/* Who may have the descriptor, for each that was found. Without memory to find out, nobody. */
void drain_scan_find_entitled(DrainScan *scan, const Manager *m);
bool drain_scan_looked_at(const DrainScan *scan, const Region *r);
/* Its descriptors are of no use to anybody: what is mapped is mapped, and nothing is added. */
bool drain_scan_is_shut(const DrainScan *scan, const Slice *s);
/* Does anybody (pid: this process) map some of it, as the kernel lists it? */
bool drain_scan_is_mapped(const DrainScan *scan, const Slice *s, pid_t pid);
/* Did somebody pass the gate before it was shut who has no mapping yet? Or was somebody forked during the look, perhaps with a mapping
 * of one that was gone before it was looked at? */
bool drain_scan_is_awaited(const DrainScan *scan, const Slice *s);
/* Does the i-th that was found hold that slice up? */
bool drain_scan_holds_up(const DrainScan *scan, size_t i, const Slice *s);
/* Who holds one lease up may have let go of another: nobody shall be asked to leave, or be ended, for what he no longer has. */
bool drain_scan_names_are_right(const DrainScan *scan, const Lease *l);
