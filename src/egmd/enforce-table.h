/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the daemon and its programs in the kernel (enforce.bpf.c) share: the values of their maps. A later egmd finds them
 * pinned: a change of any size makes it begin anew. */

#include <linux/types.h>

/* Leases that one process can be admitted to. */
#define ENFORCE_NUMBERS_MAX 64
/* No request has more slices (EGM_SLICES_MAX). */
#define ENFORCE_SLICES_MAX 15
#define ENFORCE_LEASES_MAX 65536
#define ENFORCE_DEVICES_MAX 256

/* Everything of every device: egmd itself. Not inherited. */
#define ENFORCE_BEARER_ALL 1U

/* With it a number is no right, but whoever bears it may come to have mappings of who has: he shares memory with him since before that
 * one was admitted. Whoever looks for mappings of the number looks at him, too. */
#define ENFORCE_NUMBER_BARE (1ULL << 63)

typedef struct EnforceBearer {
        __u64 flags;
        __u64 moves; /* of mappings, where the kernel does not count changes of memory */
        __u64 numbers[ENFORCE_NUMBERS_MAX]; /* up to the first 0 */
} EnforceBearer;

/* Who is being given a number. The programs find out the rest. */
typedef struct EnforceAdmission {
        __u64 pid; /* 0: nobody */
        __u64 number;
        __u64 memory; /* the process's; 0: not found */
        __u64 users;  /* how often that is in use */
        __u64 marked; /* processes that were given it now */
        __u64 full;   /* processes that bear too many already */
        __u64 failed; /* processes for which there was no memory */
} EnforceAdmission;

typedef struct EnforceSlice {
        __u64 rdev; /* as the kernel has it: major << 20 | minor */
        __u64 start;
        __u64 end;
} EnforceSlice;

/* For a while nothing kept others off its bytes. */
#define ENFORCE_LEASE_EXPOSED 1U

typedef struct EnforceLease {
        __u64 number; /* never used twice while a bearer may have it */
        __u64 looks;  /* the programs' own */
        __u32 flags;
        __u32 n;
        EnforceSlice slices[ENFORCE_SLICES_MAX];
} EnforceLease;

/* A process that bears a number; under way: one of its threads may be between its right to map and the mapping, or between its
 * mappings and their copy in a child. */
typedef struct EnforceFlight {
        __u64 number;
        __u64 pid;
        __u64 started;
        __u64 under_way;
} EnforceFlight;

/* One process that bears a number, and the state of its memory: another one after every change of what it maps. */
typedef struct EnforceWatch {
        __u64 number;
        __u64 pid;
        __u64 memory;  /* which it is */
        __u64 changes; /* how often it has changed */
        __u64 counted; /* 0: nobody counts that */
} EnforceWatch;

/* What a process maps of a gated device. */
typedef struct EnforceMapping {
        __u64 rdev;
        __u64 start;
        __u64 end; /* UINT64_MAX: where it leads is not known */
        __u64 pid;
} EnforceMapping;
