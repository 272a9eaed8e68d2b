/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <linux/ioctl.h>

#include "macro.h"

/* What the drivers that export dma-bufs take (ioctl 101), in their own form. */

typedef struct DmabufRange {
        uint64_t offset; /* of the region; both multiples of the page size */
        uint64_t length;
} DmabufRange;

typedef struct DmabufExport {
        uint32_t argsz;
        uint32_t flags; /* 0 */
        uint32_t nr_ranges;
        uint32_t open_flags; /* of the dma-buf's descriptor */
        DmabufRange ranges[];
} DmabufExport;

#define EGM_EXPORT_DMABUF _IOWR('E', 101, DmabufExport)
