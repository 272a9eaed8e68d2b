/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <dirent.h>

#include "state-record-internal.h"
#include "state-table.h"
#include "state.h"

/* The directory and the names in it. */

#define STATE_DAEMON_FILE "egmd.json"

/* The longest is ".region-NAME.closed.tmp". */
#define STATE_FILE_NAME_MAX (STATE_NAME_MAX + 32U)

struct State {
        char *path; /* for messages only */
        char *boot;
        int dir_fd;
        int lock_fd;
        dev_t dev;
        Table table;
};

typedef enum StateFileKind {
        STATE_FILE_FOREIGN,
        STATE_FILE_DAEMON,
        STATE_FILE_REGION,
        STATE_FILE_CLOSED,
        STATE_FILE_LEASE,
        STATE_FILE_LIFETIME,
        STATE_FILE_TEMPORARY,
} StateFileKind;

void state_lease_file(char ret[static STATE_FILE_NAME_MAX], uint64_t id, const char *suffix);
void state_region_file(char ret[static STATE_FILE_NAME_MAX], const char *name);

int state_open_dir(State *s, DIR **ret);
/* 1: the next file that is not foreign, its name good until the next call; 0: there are no more. */
int state_next_file(DIR *d, StateFileKind *ret_kind, const char **ret_name);

static inline void closedirp(DIR **d) {
        if (*d)
                (void) closedir(*d);
}
#define _cleanup_closedir_ _cleanup_(closedirp)

/* The old file or the new one is there, whatever happens. */
int state_write(State *s, const char *name, const char *text, size_t size);
/* What is not there is fine. */
int state_unlink(State *s, const char *name);
