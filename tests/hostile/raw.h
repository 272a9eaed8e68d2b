/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A connection to $EGM_TEST_BUS without a library: for messages that no library sends. Whatever fails ends the test. */

#define RAW_FDS_MAX 16U /* the bus takes no more with one message */
#define RAW_NO_REPLY 0x1U

typedef struct RawCall {
        const char *path, *interface, *member;
        uint8_t flags;
        /* AcquireLease's arguments; region NULL: none at all. */
        const char *region;
        uint64_t size, wait_usec;
        const char *lifetime;
        /* Descriptors that no argument speaks of. */
        const int *fds;
        unsigned n_fds;
} RawCall;

/* Greets the bus. */
int raw_connect(void);
/* False: the bus has closed the connection. */
bool raw_send(int fd, uint32_t serial, const RawCall *call);
