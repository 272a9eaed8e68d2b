/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <libudev.h>

#include "region-info.h"

/* Reads sysfs, always afresh: a udev_device remembers what it once read. */

/* One region. known (may be NULL) is what it was at the last read: a read that finds no GPU
 * where there were some keeps them and sets *ret_gpus_kept (a device on its way out has an empty
 * list), unless accept_none is set. -ENODEV: not there (any more). -ENOTTY: its device node is
 * none or not its own; ret_problem says how. */
int region_info_read(struct udev *udev, const char *syspath, const RegionInfo *known,
                     bool accept_none, RegionInfo **ret, bool *ret_gpus_kept,
                     char **reterr_problem);

/* One PCI device that has an egm_size attribute itself; -ENOENT if it has none. */
int region_info_read_pci(const char *syspath, RegionInfo **ret);
