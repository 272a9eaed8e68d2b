/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "discovery.h"
#include "provider.h"

/* In the place of udev, sysfs and the driver: the regions of --simulate=. Those of a file come and go with what it says: it is read
 * again whenever it is written or replaced, and the handler is told as discovery tells it. What cannot be read changes nothing. */

typedef struct Simulation Simulation;

/* The handler is called without a discovery. */
int simulation_new(sd_event *event, discovery_handler_t handler, void *userdata, Simulation **ret);
/* Calls the handler for all there is; logs. what, scale: as for sim_config_load(). */
int simulation_start(Simulation *s, const char *what, uint64_t scale);
Simulation *simulation_free(Simulation *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Simulation *, simulation_free)

/* Is the device there, and that one? */
bool simulation_has(const Simulation *s, const char *name, ino_t inode);
/* -ENODEV: it is not there. */
int simulation_make_provider(Simulation *s, const char *name, Provider **ret);
