/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "lease.h"

/* What the daemon writes down to find again after a restart, and its form: JSON, one object per record. Pure: no
 * file, no clock. */

/* 3 had no dma-bufs. 2 had no accounts, and a file for each lease. 1 had no slice phases, no start times of bound processes, no schedulable and no delegate: read, never written. */
#define STATE_FORMAT 4U
#define STATE_FORMAT_OLDEST 1U
/* No file of ours is longer. */
#define STATE_FILE_MAX (64 * KIB)

#define STATE_SLICES_MAX 64U
/* Bytes of a region's name or a boot's: printable ASCII, no '/'. */
#define STATE_NAME_MAX 64U
/* Bytes of a label or a unit's name: UTF-8 without control characters. */
#define STATE_TEXT_MAX 1024U

typedef struct BoundRecord {
        pid_t pid;
        uint64_t start_time; /* field 22 of /proc/PID/stat; 0: not known (format 1) */
} BoundRecord;

typedef struct SliceRecord {
        char *region;
        uint64_t offset;
        uint64_t size;
        SlicePhase phase;
} SliceRecord;

typedef struct LeaseRecord {
        char *boot;
        uint64_t id;
        char *label; /* may be NULL, like unit */
        LeaseLifetime lifetime;
        uid_t owner_uid;
        pid_t owner_pid;
        char *unit;
        uint64_t created_usec;
        bool released;
        bool delegated;
        uid_t delegate_uid; /* while delegated */
        BoundRecord *bound;
        size_t n_bound;
        SliceRecord *slices; /* at least one */
        size_t n_slices;
        char *account_unit; /* whose quota it is on, besides the owner's; may be NULL (always in format 1 and 2) */
        char *account_slice;
        bool dmabuf; /* of it dma-bufs may be had, and these were (never in formats before 4) */
        LeaseDmabuf *dmabufs;
        size_t n_dmabufs;
} LeaseRecord;

typedef struct RegionRecord {
        char *boot;
        char *name;
        dev_t rdev;  /* 0: simulated */
        ino_t inode; /* of its sysfs directory: another one after a removal; 0: simulated */
        uint64_t size;
        bool offsets;   /* proven to be honoured */
        dev_t file_dev; /* the open file's inode */
        ino_t file_ino;
        bool schedulable; /* false: an earlier version's word, see state_close_region() */
} RegionRecord;

typedef struct DaemonRecord {
        char *boot;
        uint64_t next_lease; /* no number from here on has been used */
} DaemonRecord;

void lease_record_done(LeaseRecord *r);
void region_record_done(RegionRecord *r);
void daemon_record_done(DaemonRecord *r);
#define _cleanup_lease_record_ _cleanup_(lease_record_done)
#define _cleanup_region_record_ _cleanup_(region_record_done)
#define _cleanup_daemon_record_ _cleanup_(daemon_record_done)

const char *slice_phase_to_string(SlicePhase p);
SlicePhase slice_phase_from_string(const char *s);

/* The text is the caller's to free; *ret_size without the final NUL. -EINVAL: a record that could not be read again. */
int lease_record_to_text(const LeaseRecord *r, char **ret, size_t *ret_size);
int region_record_to_text(const RegionRecord *r, char **ret, size_t *ret_size);
int daemon_record_to_text(const DaemonRecord *r, char **ret, size_t *ret_size);

/* -EBADMSG: not such a record, whole and in range (a name, a size, a number that cannot be); why in words in *ret_why
 * (the caller's; NULL where memory ran out, and on all else). -EPROTONOSUPPORT: of a newer format. *ret_format is the file's
 * format wherever it has one, else 0. Keys that we do not know are an error in our own format: nobody else writes these
 * files. *ret is empty on failure. */
int lease_record_from_text(const char *text, size_t size, LeaseRecord *ret, unsigned *ret_format,
                           char **ret_why);
int region_record_from_text(const char *text, size_t size, RegionRecord *ret, unsigned *ret_format,
                            char **ret_why);
int daemon_record_from_text(const char *text, size_t size, DaemonRecord *ret, unsigned *ret_format,
                            char **ret_why);
