/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "region-info.h"

/* Regions and their GPUs through libudev and sysfs, in all dialects of the driver.
 *
 * The drivers create files and links after the "add" event, and let GPUs join a region without
 * any event: after everything that happens to egm, PCI or auxiliary devices, all regions are
 * read again a few times, later and later. */

typedef enum DiscoveryEvent {
        DISCOVERY_ADDED,
        DISCOVERY_CHANGED, /* same device, other facts */
        DISCOVERY_REMOVED, /* info is the last known */
        /* A PCI device that itself has an egm_size: a region inside its VFIO device, as was
         * proposed for the kernel. Not for egmd to open; info has its address as name, no
         * devnode, and its size. Again whenever they change. */
        DISCOVERY_PCI_EGM,
        DISCOVERY_PCI_EGM_REMOVED,
} DiscoveryEvent;

typedef struct Discovery Discovery;

/* info is borrowed for the call. The handler must not free the discovery, which is NULL where regions are simulated. */
typedef void (*discovery_handler_t)(Discovery *d, DiscoveryEvent event, const RegionInfo *info,
                                    void *userdata);

int discovery_new(sd_event *event, discovery_handler_t handler, void *userdata, Discovery **ret);
/* Monitor first, then enumerate, so that nothing falls between; calls the handler for what is
 * there. */
int discovery_start(Discovery *d);
Discovery *discovery_free(Discovery *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Discovery *, discovery_free)

/* For tests: when to read again, each counted from the one before; at least one, borrowed. */
void discovery_set_delays(Discovery *d, const uint64_t *usec, size_t n);
/* For tests: no read is due. */
bool discovery_is_settled(const Discovery *d);
