/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "proc-still.h"
#include "ranges.h"

/* Who maps a region or has it open, as /proc tells. Blocking; meant for a worker thread.
 *
 * /proc shows descriptors in tables and mappings in memory. It does not show a descriptor that is under way
 * in a socket or registered with io_uring alone, memory that outlives its process because a vhost device
 * passed on to somebody else still refers to it, or what an IOMMU maps; and who hands a descriptor on and on, faster
 * than we look, is not seen with it. A holder that is trusted with its descriptor does none of this without having one
 * that shows; for others there is enforcement (I7).
 */

typedef struct HolderDevice {
        dev_t rdev; /* char device number; 0: recognise by dev + ino (sim) */
        dev_t dev;  /* of the inode the daemon has open */
        ino_t ino;
        uint64_t size;
        bool offsets; /* mmap offsets are honoured; without, each mapping counts as everything */
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
        int fd;      /* its number in that process, as last seen; while has_fd */
        bool maps;
        bool vague;    /* some mapping of it does not tell where it is */
        Ranges mapped; /* what it maps, in bytes of the region; private maps count as everything */
        ino_t *pipes; /* inodes of the pipes it has open, sorted: lifetime descriptors among them. Only those of one
                       * file system: on his own, anybody can give a FIFO the number he likes. */
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
        pid_t self; /* left out: ourselves (0: getpid()) */
        pid_t store; /* its descriptors don't count: the service manager, which stores them for us; 0: nobody */
        bool want_pipes;
        dev_t pipe_dev;           /* of FIFOs on this file system; 0: those of pipe(2) */
        bool ignore_inaccessible; /* processes that we may not look at don't count: for simulations */
        ProcStill *still;         /* what is kept from scan to scan; NULL: nothing is */
} HolderScan;

/* Lists every process (but self) that has a device open or mapped, sorted by pid and device. A descriptor
 * opened with O_PATH is none: anybody can have one.
 *
 * A descriptor can pass from one process to another behind our back. Who inherits one is met after the one
 * he has it from, but one that is sent can go to somebody already looked at. So everything is looked
 * at again, until a pass sees no holder come or go: once, or three times in a row where others came and
 * went that nobody got to look at. -EAGAIN when holders keep coming and going. Who is gone by
 * then is none; who is listed held the device at some moment of the scan.
 *
 * A process that cannot be looked at makes the whole scan fail with -EACCES: not knowing is not free. What
 * is not in the kernel's form is -EBADMSG. */
int holders_scan(const HolderScan *scan, HolderList *ret);

/* No scan runs from the one to the other: for who has a child that would be taken for a holder. */
void holders_stop(void);
void holders_go_on(void);

/* The systemd unit that a process runs in; -ENXIO: in none. ret_slice may be NULL: the slice that the unit is in, or NULL. */
int pid_get_unit(pid_t pid, char **ret, char **ret_slice);

/* "pid 4711 (qemu-system-aar, machine-qemu.scope)" */
int holder_describe(const Holder *h, char **ret);
