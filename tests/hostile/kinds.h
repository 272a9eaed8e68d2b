/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "bed.h"

/* Descriptors that somebody may take, or give out, for a process. */

typedef struct Kind {
        const char *name;
        int fd;
        bool right; /* a process that may be named */
} Kind;

#define KINDS_MAX 40U

typedef struct Kinds {
        Kind list[KINDS_MAX];
        size_t n;
        pid_t zombie, foreign, elsewhere;
} Kinds;

/* The lease's own descriptors are among them. */
void kinds_open(Kinds *k, const Granted *g);
void kinds_close(Kinds *k);
/* Told by name, or done; which of both is known beforehand. */
void kinds_expect(sd_bus *bus, sd_bus_message *m, const Kind *kind, const char *method);

/* A child of that user's (0: ours); it is there until it is killed, or has gone at once. */
pid_t kinds_child(uid_t uid, bool stays);
void kinds_end_child(pid_t pid);
