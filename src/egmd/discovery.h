/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* Regions and their GPUs through libudev and sysfs, in all dialects of the driver. */

typedef struct GpuInfo {
        char *address; /* "0008:01:00.0" */
        char *driver;  /* "nvgrace-gpu-vfio-pci", or NULL when unbound */
        int node;      /* -1: none */
} GpuInfo;

typedef struct RegionInfo {
        char *name;    /* "egm4" */
        char *devnode; /* "/dev/egm4" */
        char *syspath;
        dev_t devnum;
        uint64_t size;      /* 0: absent, zero or not a number yet; see size_problem */
        char *size_problem; /* words for the log and for a region that cannot be used; NULL when fine */
        GpuInfo *gpus;      /* sorted by address */
        size_t n_gpus;
        int node;            /* -1: not known */
        int socket;          /* -1: not known */
        const char *dialect; /* static: "gpu_devices file", "links", "aux links", "no GPU list" */
} RegionInfo;

RegionInfo *region_info_free(RegionInfo *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(RegionInfo *, region_info_free)

typedef enum DiscoveryEvent {
        DISCOVERY_ADDED,
        DISCOVERY_CHANGED, /* same device, other facts */
        DISCOVERY_REMOVED, /* info is the last known */
} DiscoveryEvent;

typedef struct Discovery Discovery;

/* info is borrowed for the call. */
typedef void (*discovery_handler_t)(Discovery *d, DiscoveryEvent event, const RegionInfo *info,
                                    void *userdata);

int discovery_new(sd_event *event, discovery_handler_t handler, void *userdata, Discovery **ret);
/* Monitor first, then enumerate, so that nothing falls between; calls the handler for what is there. */
int discovery_start(Discovery *d);
Discovery *discovery_free(Discovery *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Discovery *, discovery_free)
