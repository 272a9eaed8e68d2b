/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/filter.h>

#include "macro.h"

/* The seccomp program that shows a supervisor the few calls it has to answer. Pure. */

/* EGM_RETIRED_PAGES_LIST of the driver, _IO('E', 100). */
#define INJECT_IOCTL_RETIRED 0x4564U
/* IOMMU_IOAS_MAP_FILE of iommufd, _IO(';', 0x8f). */
#define INJECT_IOCTL_MAP_FILE 0x3b8fU

typedef struct InjectFilter {
        /* The numbers that leased descriptors get, [begin, end): calls on them are seen, on others not. */
        unsigned begin;
        unsigned end;
        /* Also opens for reading only. */
        bool read_only;
        /* No opens with O_CLOEXEC: QEMU opens its RAM without, and all else with it. */
        bool narrow;
        /* Also what hands the descriptor's own offsets to the IOMMU, which is wrong for those that are moved. */
        bool shift;
} InjectFilter;

#define INJECT_FILTER_MAX 128

/* Whether it is written for this kind of machine. */
bool inject_filter_is_known(void);
/* Returns the number of instructions. */
size_t inject_filter_build(const InjectFilter *f, struct sock_filter ret[static INJECT_FILTER_MAX]);
