/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "egm-names.h"
#include "test.h"

/* The bus that egmd is on, played: it says who calls, who reads, and that others answer what only the bus may. Callers' names are
 * ":UID.NUMBER". */

typedef enum Credentials {
        CREDENTIALS_TOLD,
        CREDENTIALS_LATER,  /* kept until played_tell() */
        CREDENTIALS_FORGED, /* a caller answers instead, that he is root */
} Credentials;

typedef enum Reading {
        READING_ALL,    /* everybody reads everything at once */
        READING_NONE,   /* nobody anything */
        READING_UNTOLD, /* the bus knows nothing of it */
        READING_FORGED, /* a caller answers instead, that he has read all */
} Reading;

void played_start(const char *egmd);
void played_stop(void);
void played_set(Credentials c, Reading r);
void played_tell(void);

typedef struct Asked {
        bool done;
        char error[96], text[256], path[64];
        unsigned at; /* the how manieth answer */
} Asked;

/* A call by somebody (NULL: by nobody); consumes m. */
sd_bus_message *played_call(const char *path, const char *interface, const char *member);
void played_send(const char *sender, sd_bus_message *m, Asked *a);
void played_send_read(const char *sender, Asked *a); /* something short */
void played_collect(const Asked *a, size_t n);
/* Until egmd has looked at everything that was said before. */
void played_settle(void);
/* Until the bus was asked once more what somebody has read, and has answered. */
void played_await_stats(void);
size_t played_count_done(const Asked *a, size_t n);
/* In between, what is said waits: egmd finds all of it at once. */
void played_stop_daemon(void);
void played_continue_daemon(void);
/* That caller has gone. */
void played_gone(const char *name);
/* Says what it can, and hears nothing, until egmd takes no more of it. False: egmd takes all. */
bool played_stuff(void);
/* From here on egmd knows that it is not told who reads. */
void played_be_silent(void);
