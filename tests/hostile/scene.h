/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bed.h"

/* An egmd that is attacked, and a client of it that is not to notice. The regions: egm4 is the client's, egm5 the attackers'. */

#define SCENE_VICTIM "egm5"
#define SCENE_VICTIM_SIZE (128 * MIB)
#define SCENE_GRANULE (64 * KIB)

/* Starts it under a service manager's stand-in, with so many descriptors (0: as many as we have), and connects. */
void scene_start(const char *egmd, unsigned nofile);
/* Killed, started again: the same leases, extents and counts. */
void scene_restart(void);
/* It must leave when it is told to, and well: sanitizers speak at the end. */
void scene_end(void);
/* A test's teardown: tells what egmd said if the test did not get to its end. */
int scene_abandon(void **state);

sd_bus *scene_bus(void); /* an observer's, hears all signals */
pid_t scene_pid(void);
/* For attacks that it does not survive: whether it is there still; starts it again. */
bool scene_runs(void);
void scene_revive(void);
void scene_await_end(void);
bool scene_said(const char *text); /* in its log */
unsigned scene_count_fds(void);    /* egmd's, and some that are always there */

/* Runs that while a well-behaved client goes on. Then: it was answered, always; egmd is the same process, with the same
 * descriptors, the regions as they were, nobody waits, and its memory is within bounds. */
void scene_attack(const char *name, void (*run)(void));

/* The same by hand: memory, and descriptors as before. */
void scene_check(const char *name, uint64_t usec);
void scene_wait_for_fds(const char *name, unsigned n);

/* Attackers. A client that has said hello. */
sd_bus *scene_client(void);
/* Reads and drops what comes, until so many calls that were sent with scene_drop_reply() are answered. */
void scene_send(sd_bus *bus, sd_bus_message *m, unsigned *pending);
void scene_collect(sd_bus *bus, const unsigned *pending);
/* Errors that no contract knows end the test: they are counted on behalf of scene_send(). */
bool scene_error_is_known(const char *name);
/* From the attackers' region, at any granule. */
Granted scene_acquire(sd_bus *bus, uint64_t size, const char *lifetime);
sd_bus_message *scene_acquire_call(sd_bus *bus, uint64_t size, const char *lifetime,
                                   uint64_t wait_usec);

/* The well-behaved client's process: what main() does when it is called with that as its first argument. */
#define SCENE_GOOD_CLIENT "--good-client"
int scene_good_client(int stop_fd, int stats_fd);
