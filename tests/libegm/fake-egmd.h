/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A daemon that says what a test tells it to: also what egmd never says. It runs in a thread of its own and
 * looks at the fields when a call comes in; a test sets them before its call. */

#include <pthread.h>
#include <systemd/sd-bus.h>

#include "macro.h"

typedef enum FakeFd {
        FAKE_LIFETIME, /* writing end of a pipe whose other end is fake.lifetime_fd */
        FAKE_MEMORY,   /* fake.memory_fd, for reading and writing */
        FAKE_MEMORY_RDONLY,
        FAKE_DEVICE, /* a character device */
        FAKE_PIPE,
        FAKE_DIRECTORY,
} FakeFd;

typedef struct FakeSlice {
        const char *region;
        FakeFd fd;
        uint64_t offset;
        uint64_t size;
} FakeSlice;

#define FAKE_SLICES_MAX 4

typedef struct Fake {
        pthread_t thread;
        sd_bus *bus;
        char *address;

        /* Every call fails with this if set. */
        const char *error_name;
        const char *error_message;

        /* AcquireLease, Reopen */
        bool mute;              /* no answer at all */
        const char *signature;  /* an empty answer of another kind: "" or "s" */
        const char *lease_path; /* default: /org/nvidia/Egm1/lease/7 */
        FakeFd lifetime;
        FakeSlice slices[FAKE_SLICES_MAX];
        size_t n_slices;
        bool retired_fails;
        bool mute_bind; /* no answer to Bind */

        /* What came in */
        char *request;    /* AcquireLease's options as text */
        bool interactive; /* that call allowed to ask somebody to authenticate */
        char *released;   /* path */
        char *admitted;   /* as bound */
        char *bound;      /* path; "pid" must have been a pidfd of the test itself */
        unsigned n_released;

        int memory_fd;
        int lifetime_fd; /* end of file once the lease's lifetime descriptor has no copies left */

        /* GetAll and GetManagedObjects: spoil one property */
        const char *wrong_type; /* this property comes as a double */
        const char *left_out;
        const char *name; /* of the region, whatever was asked for */
} Fake;

#define FAKE_MEMORY_SIZE (8 * MIB)

int fake_start(const char *address, Fake *f);
void fake_stop(Fake *f);
/* Forget what the test before set up. */
void fake_reset(Fake *f);
/* Makes it send the signals of a short life. */
void fake_send_signals(Fake *f);
