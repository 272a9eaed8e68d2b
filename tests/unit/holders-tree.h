/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "test.h"
#include <limits.h>

#include "holders.h"

/* A /proc of our own making, with one idle process, number 1. */

#define DEVICE_SIZE (1 * MIB)

extern char root[];
extern HolderDevice devices[2]; /* /dev/full, by its number; a file, by its inode */

int tree_setup(void **state);
int tree_teardown(void **state);

/* Directories on the way are made. */
void path_of(char buf[static PATH_MAX], const char *name);
void put(const char *name, const char *content);
void put_link(const char *name, const char *target);
void take_away(const char *name);

/* As in stat. */
#define STAT_FORMAT "%u (%s) %c 1 1 1 0 -1 %u 0 0 0 0 0 0 0 0 20 0 %u 0 %u 0 0\n"
void put_process(unsigned pid, const char *comm, char state, unsigned flags, unsigned threads,
                 unsigned start);
/* One that lives and has nothing. */
void put_idle(unsigned pid);
/* One that has the first device open. */
void put_holder(unsigned pid);

HolderScan tree_scan(void);
int scan(HolderList *ret);
void expect_error(int error);
/* The pids that hold something, in order; ends with 0. */
void expect_pids(const pid_t *pids);
#define EXPECT_PIDS(...) expect_pids((const pid_t[]){__VA_ARGS__ __VA_OPT__(, ) 0})
