/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test.h"
#include <sys/types.h>

#include "holders.h"

/* Real processes to find: children that hold devices (memfds), in a PID namespace of their own where that can
 * be had, as nobody else is around there. */

#define TIMEOUT_MSEC 60000
#define DEVICE_SIZE (1 * MIB)

extern bool isolated;
extern int memfds[2];         /* what is scanned for */
extern int init_memfd;        /* the first process has this one open, */
extern int init_mapped_memfd; /* and maps the first 64 KiB of this one */

/* Calls run() in the namespace, with the memfds made, and returns what it returns. */
int run_isolated(int (*run)(void));

typedef struct Child {
        pid_t pid;
        int to; /* the parent's end, or the child's */
        int from;
} Child;

typedef void (*child_body_t)(Child *c);

Child child_start(child_body_t body);
/* Starts it and waits until it stays. */
Child child_new(child_body_t body);
void child_end(Child *c);
void child_kill(Child *c);

void send_value(const Child *c, int value);
int receive_value(const Child *c);

/* For a child's body: "I am ready", then stay as it is until the parent is done. */
void child_stay(Child *c);
void close_devices(void);
void *map_or_abort(int fd, uint64_t offset, size_t size, int prot, int flags);

void scan_with(HolderScan scan, HolderList *ret);
void scan_memfds(HolderList *ret);
HolderDevice device_of_fd(int fd);
void expect_nobody(void);
/* Exactly one holder, of the first device, with one range mapped (or none for size 0). */
void expect_only(pid_t pid, bool has_fd, uint64_t offset, uint64_t size);
