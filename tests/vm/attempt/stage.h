/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "attempt.h"
#include "egm.h"

/* What is there while an actor tries: two tenants with a slice between them, the actor's lease, and egmd, which the stage
 * talks to and restarts for him. It runs as root and is bound to nothing. */

#define WAIT_USEC (240 * USEC_PER_SEC)
/* Long enough to see that nothing is lent. */
#define WAIT_IN_VAIN_USEC (2 * USEC_PER_SEC)

typedef struct Who {
        const char *name;
        uid_t uid;
} Who;

typedef struct Tenant {
        Writer writer;
        pid_t pid;
        int socket;
        egm_lease *lease;
        Range range; /* fd: its number in that process */
        void *map;   /* in that process */
} Tenant;

typedef struct Stage {
        egm_connection *connection;
        egm_watch *watch;
        bool gated; /* what is expected: it only decides how long to wait for it */
        Tenant before, after, next;
        const Who *who;
        const Scene *scene;
        pid_t actor;
        int control;
        egm_lease *lease, *second, *delegated;
} Stage;

/* ---- stage-lease.c ---- */

typedef struct Wish {
        const char *region;
        uint64_t size; /* 0: all of it */
        pid_t holder;  /* 0: none */
        uid_t delegate;
        uint64_t wait_usec;
} Wish;

int stage_lend(Stage *s, const Wish *wish, egm_lease **ret);
/* Takes the lease's descriptor out of it. */
int lease_take_range(egm_lease *l, Range *ret);
/* Waits until the region has so much free, and the rest lent. */
int stage_wait_free(Stage *s, const char *region, uint64_t size);

/* For a child of the stage: closes all but this one, which it returns under its new number. */
int keep_only(int fd);

int tenant_start(Stage *s, Tenant *t, Writer writer, uint64_t wait_usec);
/* Whether all that it wrote is as it was. */
bool tenant_is_intact(Tenant *t);
void tenant_stop(Tenant *t);

/* ---- stage-egmd.c ---- */

int egmd_kill(void);
int egmd_systemctl(const char *verb);
int egmd_systemctl_start(const char *verb, pid_t *ret);
