/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "egm-error.h"
#include "enforce-table.h"
#include "macro.h"

/* Enforced leases: programs in the kernel (enforce.bpf.c) refuse every mapping of a gated device that is not inside a lease
 * which the mapping process bears. They are pinned and go on without us. This is their table, and the rules that hold
 * for every change of it; how it gets into the kernel is the backend's.
 *
 * Gates, the proof and flights may be used by worker threads; everything else is the event loop's. */

typedef struct Enforce Enforce;

typedef struct EnforceOps {
        int (*set_device)(void *u, __u32 rdev, bool gated);
        int (*set_lease)(void *u, const EnforceLease *l);
        int (*get_lease)(void *u, __u64 number, EnforceLease *ret); /* -ENOENT */
        int (*drop_lease)(void *u, __u64 number);                   /* -ENOENT */
        /* The one behind *after (NULL: the first), in any order. -ENOENT: there is none. */
        int (*next_lease)(void *u, const __u64 *after, __u64 *ret);
        int (*get_bearer)(void *u, int pidfd, EnforceBearer *ret); /* -ENOENT */
        int (*set_bearer)(void *u, int pidfd, const EnforceBearer *b);
        /* Gives a->pid the number, and of everybody else, if he is to be asked, those who share its memory a bare one. Goes on with what
         * *a says. */
        int (*admit)(void *u, EnforceAdmission *a, bool everybody);
        int (*get_highest)(void *u, __u64 *ret);
        int (*set_highest)(void *u, __u64 number);
        int (*flights)(void *u, EnforceFlight **ret, size_t *ret_n);
        int (*watches)(void *u, EnforceWatch **ret, size_t *ret_n);
        int (*mappings)(void *u, EnforceMapping **ret, size_t *ret_n);
        /* 1: somebody had taken the pins away, and they are back. */
        int (*check)(void *u);
        void (*free)(void *u);
} EnforceOps;

/* continued: the programs have been at work without a break since the table was made. Consumes userdata on success. */
int enforce_new(const EnforceOps *ops, void *userdata, bool continued, Enforce **ret);
Enforce *enforce_free(Enforce *e);
DEFINE_TRIVIAL_CLEANUP_FUNC(Enforce *, enforce_free)

/* Loads the programs, or takes over those that are there; from then on we may map everything. *ret_why (also the caller's to free)
 * says what is missing when this fails. */
int enforce_load(Enforce **ret, char **ret_why);
/* Takes what is there out of the kernel, whoever put it there. 1: something was. */
int enforce_remove_pins(void);

bool enforce_is_continued(const Enforce *e);
__u64 enforce_rdev(dev_t devnum);

/* From here on only bearers map it. Before the device is opened. */
int enforce_close_gate(Enforce *e, dev_t devnum);
int enforce_open_gate(Enforce *e, dev_t devnum);

/* Makes the table say this of the lease, all at once. */
int enforce_set_lease(Enforce *e, const EnforceLease *l);
/* Ends every right to it. It is an error only if a right may remain. */
int enforce_revoke(Enforce *e, __u64 number);
/* -ENOENT: not in the table. */
int enforce_get_lease(Enforce *e, __u64 number, EnforceLease *ret);
/* Takes out all that keep() does not know. Returns how many. */
typedef bool (*enforce_keep_t)(__u64 number, void *userdata);
int enforce_keep_only(Enforce *e, enforce_keep_t keep, void *userdata);
/* Above every number that was ever in the table. */
__u64 enforce_next_number(Enforce *e);

/* Admits a process, its threads and what it forks and executes from now on. matters() says which numbers may not be forgotten
 * yet; others make room when it bears too many. 1: admitted; 0: it was before; -EUSERS: full; -ESRCH: it is gone. */
typedef enum EnforceMatter {
        ENFORCE_MATTERS_NOT,
        ENFORCE_MATTERS,
        ENFORCE_ANY_MATTERS, /* of all such numbers one has to stay, for that it has any */
} EnforceMatter;
typedef EnforceMatter (*enforce_matters_t)(__u64 number, void *userdata);
int enforce_admit(Enforce *e, int pidfd, __u64 number, enforce_matters_t matters, void *userdata);

/* Who may have passed the gate without his mapping being there yet; the caller's to free. What is revoked before the call, and not
 * listed, has all its mappings. */
int enforce_flights(Enforce *e, EnforceFlight **ret, size_t *ret_n);

/* For enforce-look. */
int enforce_watches(Enforce *e, EnforceWatch **ret, size_t *ret_n);
int enforce_mappings(Enforce *e, EnforceMapping **ret, size_t *ret_n);

/* Who maps what of gated devices, and whose mappings may be missing in that: flights as above, and bearers whose memory changed
 * while we looked. What is revoked before the call, and neither listed nor in flight, no bearer maps. An error says nothing;
 * -EOPNOTSUPP: the kernel does not offer it. */
typedef struct EnforceLook {
        EnforceMapping *mappings;
        EnforceFlight *flights;
        size_t n_mappings, n_flights;
} EnforceLook;

void enforce_look_done(EnforceLook *l);
int enforce_look(Enforce *e, EnforceLook *ret);
/* The processes of its mappings; never NULL, the caller's to free. */
int enforce_look_pids(const EnforceLook *l, pid_t **ret, size_t *ret_n);

/* See the operation. */
int enforce_check(Enforce *e);

/* Tries on an open device whose gate is closed, with a child that is refused, admitted and refused again. Nothing is read or
 * written. 1: it holds; 0: it does not, and *ret_why says what; an error says nothing about it. */
int enforce_prove(Enforce *e, int fd, dev_t devnum, uint64_t granule, char **ret_why);

/* For enforce-prove: no lease comes to have it. */
#define ENFORCE_NUMBER_PROOF (1ULL << 62)
