/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "egm-names.h"
#include "test.h"

/* A client of a live daemon on the bus of $EGM_TEST_BUS. Waits are for signals: a condition is looked at again when one
 * arrives, and a few times a second, as not everything is signalled. A deadline ends the test. */

#define BED_DEADLINE_USEC (120 * USEC_PER_SEC)

typedef struct Granted {
        char path[64];
        int lifetime;
        int memory; /* of the first slice */
        char region[16];
        uint64_t offset;
        uint64_t size;
        size_t n_slices;
} Granted;

#define GRANTED_NULL ((Granted){.lifetime = -EBADF, .memory = -EBADF})

sd_bus *bed_connect(void);
/* As another user, with one more group; for root. */
sd_bus *bed_connect_as(uid_t uid, gid_t group);
sd_bus *
bed_new(void); /* connects, waits for the daemon and for all memory to be free, hears all its signals */

typedef bool (*bed_condition_t)(sd_bus *bus, const void *arg);
void bed_wait(sd_bus *bus, bed_condition_t condition, const void *arg, const char *what);
bool bed_all_free(sd_bus *bus, const void *arg);

uint64_t bed_get_u64(sd_bus *bus, const char *path, const char *interface, const char *name);
uint32_t bed_get_u32(sd_bus *bus, const char *path, const char *interface, const char *name);
/* 0 or what the call answered, a negative errno. */
int bed_get_string(sd_bus *bus, const char *path, const char *interface, const char *name,
                   char **ret);

/* Extents of both regions, leases, those that wait; makes sure of I5 (states sum up, extents tile the region) as well. */
char *bed_snapshot(sd_bus *bus);

sd_bus_message *bed_call_new(sd_bus *bus, const char *path, const char *interface,
                             const char *method);
void bed_read_granted(sd_bus_message *reply, Granted *ret);
/* One slice of that size in a region, further slices and options left out. */
Granted bed_acquire(sd_bus *bus, const char *region, uint64_t size, const char *lifetime);
void bed_close(int *fd);
/* Field 22 of /proc/PID/stat; 0: no such process. */
uint64_t bed_start_time(pid_t pid);
