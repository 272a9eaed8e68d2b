/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "holders.h"
#include "proc-parse.h"

/* Looks at one process after the other for what it has of the devices. */

typedef struct ProcLook ProcLook;

/* Of one device in the process looked at. */
typedef struct ProcFound {
        bool has_fd;
        int fd; /* while has_fd */
        bool maps;
        bool vague; /* some mapping does not tell where it is, and counts as everything */
        Ranges mapped;
} ProcFound;

int proc_look_new(const HolderScan *scan, ProcLook **ret);
ProcLook *proc_look_free(ProcLook *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(ProcLook *, proc_look_free)

/* The directory that processes are looked up in. */
int proc_look_root(const ProcLook *l);
/* Whether it shows processes under the numbers by which we know them. */
bool proc_look_is_ours(const ProcLook *l);

/* Takes a process in view. Everything asked afterwards is of this very process, even when its number comes to
 * mean another: its directory stays with it. -ESRCH: there is none of that number. */
int proc_look_open(ProcLook *l, pid_t pid, ProcStat *ret);
/* Reads the process's stat again; -ESRCH: it is gone. */
int proc_look_stat(ProcLook *l, ProcStat *ret);

/* Looks through its descriptors (unless told not to) and mappings. 1 when it has any device. What it has closed or unmapped, or
 * ceased to be, in the middle of this, it does not have. */
int proc_look_devices(ProcLook *l, const ProcStat *stat, bool fds);
const ProcFound *proc_look_found(const ProcLook *l, size_t device);
/* Sorted, for want_pipes. */
const ino_t *proc_look_pipes(const ProcLook *l, size_t *ret_n);

/* Effective user, and systemd unit or NULL. */
int proc_look_owner(ProcLook *l, uid_t *ret_uid, char **ret_unit);
