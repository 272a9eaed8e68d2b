/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "ranges.h"

/* Who maps a region or has it open, as /proc tells. Blocking; meant for a worker thread. */

typedef struct HolderDevice {
        dev_t rdev; /* char device number; 0: recognise by dev + ino (sim) */
        dev_t dev;  /* of the inode the daemon has open */
        ino_t ino;
        uint64_t size;
} HolderDevice;

/* One process and one device. */
typedef struct Holder {
        size_t device; /* index into the devices asked for */
        pid_t pid;
        uint64_t start_time; /* field 22 of /proc/PID/stat: with the pid it names a process for this boot */
        uid_t uid;
        char *comm;
        char *unit;  /* systemd unit from its cgroup, or NULL */
        bool has_fd; /* a descriptor of the device is open in it */
        bool maps;
        Ranges mapped; /* what it maps, in bytes of the region; private maps count as everything */
        ino_t *pipes; /* inodes of the pipes it has open, sorted: lifetime descriptors among them */
        size_t n_pipes;
} Holder;

typedef struct HolderList {
        Holder *items;
        size_t n;
} HolderList;

void holder_list_done(HolderList *l);
#define _cleanup_holder_list_ _cleanup_(holder_list_done)

typedef struct HolderScan {
        const char *proc; /* NULL: "/proc" */
        const HolderDevice *devices;
        size_t n_devices;
        const pid_t *pids; /* only these; NULL: every process */
        size_t n_pids;
        pid_t self;         /* left out: ourselves (0: getpid()) */
        bool skip_init_fds; /* pid 1's descriptors don't count: the service manager's descriptor store */
        bool want_pipes;
} HolderScan;

/* Lists every process (but self) that has a device open or mapped. Processes that vanish during the scan are no
 * holders; those born during it are found: the scan is repeated until a pass meets no process that it has not seen.
 * A process that cannot be looked at (EACCES) makes the whole scan fail with -EACCES: not knowing is not free. */
int holders_scan(const HolderScan *scan, HolderList *ret);

/* "pid 4711 (qemu-system-aar, machine-qemu.scope)" */
int holder_describe(const Holder *h, char **ret);
