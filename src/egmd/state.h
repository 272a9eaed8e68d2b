/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "state-record.h"

/* The state directory: a file per region, replaced as a whole, the leases' records in a table, and the FIFOs that are their
 * lifetimes. No fsync: it is memory, and dies with the leases at the next boot. */

typedef struct State State;

typedef struct StateContent {
        DaemonRecord daemon; /* boot NULL: there was none, or it was damaged */
        LeaseRecord *leases; /* sorted by id */
        size_t n_leases;
        RegionRecord *regions; /* sorted by name */
        size_t n_regions;
        bool other_boot;  /* there were records of another boot: forgotten and removed */
        size_t n_damaged; /* files moved aside */
} StateContent;

void state_content_done(StateContent *c);
#define _cleanup_state_content_ _cleanup_(state_content_done)

/* Opens the directory (which exists) and takes its lock. -EBUSY: another daemon has it; -ENOTDIR…; -EPERM: somebody but us
 * and root may write to it. boot NULL: the kernel's boot id. */
int state_open(const char *path, const char *boot, State **ret);
State *state_free(State *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(State *, state_free)

const char *state_boot(const State *s);

/* Reads everything there is, and must have before anything is written into a table that is there. Damaged files are moved aside and logged, temporary ones removed, records of another boot
 * removed; other names are left alone. -EPROTONOSUPPORT: a file of a newer format, logged with its name, its format
 * and ours: nothing was touched, not even what is damaged. */
int state_load(State *s, StateContent *ret);

/* The old record or the new one is there, whatever happens. The record's boot is ours when NULL. */
int state_save_daemon(State *s, const DaemonRecord *r);
int state_save_region(State *s, const RegionRecord *r);
int state_save_lease(State *s, const LeaseRecord *r);
/* What is not there is forgotten already. */
int state_forget_region(State *s, const char *name);
/* That nothing new may be lent of it: of whatever device has that name, now or later. */
int state_close_region(State *s, const char *name, bool closed);
int state_region_is_closed(State *s, const char *name);
/* The record and the FIFO, the record first. */
int state_forget_lease(State *s, uint64_t id);

/* A new lifetime: its read end (ours) and the holder's end, opened for reading and writing, so that the holder sees nothing
 * of a time without us. Both close-on-exec and non-blocking. -EEXIST: there is one of that number. */
int state_make_lifetime(State *s, uint64_t id, int *ret_fd, int *ret_holder_fd);
/* The read end again, after a restart: hung up when nobody has the other end. -ENOENT: it is gone; -EBADMSG: not a FIFO. */
int state_open_lifetime(State *s, uint64_t id, int *ret_fd);
/* What has a lifetime's name and is none becomes NAME.damaged. */
int state_put_lifetime_aside(State *s, uint64_t id);
/* Removes FIFOs of leases that are not among these (sorted). */
int state_tidy_lifetimes(State *s, const uint64_t *ids, size_t n);
/* The file system that the FIFOs are on: how /proc shows them. */
dev_t state_dev(const State *s);
