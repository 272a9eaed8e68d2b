/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* What sysfs says of one region, at one moment. */

typedef struct GpuInfo {
        char *address; /* "0008:01:00.0" */
        char *driver;  /* "nvgrace-gpu-vfio-pci", or NULL when unbound */
        int node;      /* where its own is not known: the region's; -1: none */
} GpuInfo;

typedef struct RegionInfo {
        char *name; /* "egm4" */
        /* The number in the name. Below 4, firmware runs without a hypervisor carveout, and the
         * region may overlap the host's own RAM: opening it (which zeroes it) needs the
         * administrator's word. -1: PCI_EGM. */
        int pxm;
        char *devnode; /* "/dev/egm4" */
        char *syspath;
        dev_t devnum;
        ino_t inode; /* of its sysfs directory: unlike devnum, another one after a removal */
        /* Once known, it stays for the device's life. A region is usable if size > 0 and there
         * is no problem; size 0 with a problem: absent, zero or no number (it may come later,
         * with DISCOVERY_CHANGED). Not rounded. */
        uint64_t size;
        char *size_problem; /* words for the log and the bus; NULL when fine */
        GpuInfo *gpus;      /* sorted by address */
        size_t n_gpus;
        int node;            /* -1: not known */
        int socket;          /* -1: not known */
        const char *dialect; /* static: where the GPUs were found, "no GPU list" if nowhere */
        char *notes;         /* oddities passed over, in words; NULL: none */
} RegionInfo;

RegionInfo *region_info_free(RegionInfo *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(RegionInfo *, region_info_free)

int region_info_copy(const RegionInfo *i, RegionInfo **ret);

/* Another note, unless memory runs out: nothing depends on them. */
void region_info_note(RegionInfo *i, const char *format, ...) _printf_(2, 3);

/* One more GPU at the end; the caller keeps the order. */
int region_info_add_gpu(RegionInfo *i, const char *address, const char *driver, int node);

/* Node and socket from the GPUs, socket from the PXM where there are none. */
void region_info_locate(RegionInfo *i);

/* What the same device was known to be outlives a read that could not tell: size, node and
 * socket do not change. */
int region_info_keep(RegionInfo *i, const RegionInfo *known);

bool region_info_same_device(const RegionInfo *a, const RegionInfo *b);
/* All facts but the notes. */
bool region_info_equal(const RegionInfo *a, const RegionInfo *b);
