/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "provider.h"
#include "sim-memory.h"

/* Regions without hardware: a memfd that behaves like the driver's device, in the versions that
 * differ, and fails where it is told to. The memory lives at least as long as the provider, whatever is
 * opened and closed; a descriptor from before a restart can be adopted. */

typedef enum SimVariant {
        SIM_VARIANT_K2, /* mmap ignores offset and length; list: as R2, and duplicates */
        SIM_VARIANT_R2, /* mmap uses 40 bits of the offset; list: one page for 64 KiB, unordered */
        SIM_VARIANT_S3, /* list: every page, unordered */
        SIM_VARIANT_S4, /* list: every page, ascending */
        SIM_VARIANT_D, /* as R2, and exports dma-bufs: stand-ins, files of their own without any of the memory */
        _SIM_VARIANT_MAX,
        _SIM_VARIANT_INVALID = -EINVAL,
} SimVariant;

const char *sim_variant_to_string(SimVariant v);
SimVariant sim_variant_from_string(const char *s);

/* What the list ioctl does instead of answering. */
typedef enum SimListFault {
        SIM_LIST_OK,
        SIM_LIST_COUNT,   /* count says more than argsz has room for */
        SIM_LIST_HUGE,    /* argsz asks for 4 GiB */
        SIM_LIST_TINY,    /* argsz smaller than the header */
        SIM_LIST_GROWING, /* never says enough is enough */
        SIM_LIST_WILD,    /* the truth, among wrapped and foreign entries and ones of size 0 */
        SIM_LIST_FAULT,   /* returns the positive number of bytes that it could not copy */
        SIM_LIST_NONE,    /* no such ioctl */
        _SIM_LIST_FAULT_MAX,
        _SIM_LIST_FAULT_INVALID = -EINVAL,
} SimListFault;

const char *sim_list_fault_to_string(SimListFault f);
SimListFault sim_list_fault_from_string(const char *s);

typedef struct SimFaults {
        int open_errno;  /* > 0: open fails with it */
        char *open_gate; /* a FIFO: open waits until somebody opens its other end */
        bool held;       /* somebody else has it: EBUSY, or with K2 a useless file */
        bool useless;    /* open works, ioctl and mmap are EINVAL */
        SimListFault list;
        uint64_t mmap_fail_at; /* the k-th mmap, from 1, gives ENOMEM */
        Ranges bad;            /* pages whose access is SIGBUS; on no list */
} SimFaults;

typedef struct SimRegion {
        char *name;
        uint64_t size;
        uint64_t instance; /* another one when the device went and came back, as its directory in sysfs would be */
        int node;
        int socket;
        SimVariant variant;
        char **gpus; /* addresses, sorted */
        size_t n_gpus;
        Ranges retired; /* multiples of 64 KiB, as firmware has it */
        SimFaults faults;
} SimRegion;

/* An empty one. */
#define SIM_REGION_INIT ((SimRegion){.node = -1, .socket = -1, .variant = SIM_VARIANT_S4})
void sim_region_done(SimRegion *s);

/* Copies what it needs of s. */
int sim_region_provider(const SimRegion *s, Provider **ret);
/* Before it is opened: the memory is that of a device that was there before. */
void sim_provider_set_memory(Provider *p, SimMemory *memory);

/* The rest is for tests, on providers of this kind only. */
/* Memory goes bad while in use: it is listed from now on (I3). Any thread. */
int sim_provider_retire(Provider *p, uint64_t offset, uint64_t size);
/* It goes bad without a word: SIGBUS in what is mapped from now on. Any thread. */
int sim_provider_break(Provider *p, uint64_t offset, uint64_t size);
/* To change, while nothing else uses the provider. */
SimFaults *sim_provider_faults(Provider *p);
