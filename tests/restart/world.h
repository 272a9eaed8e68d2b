/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fault-plan.h"
#include "keeper.h"
#include "picture.h"

/* A daemon under a keeper, on the bus of $EGM_TEST_BUS, that something goes wrong with, and a client that was told this and
 * that. Whatever is not as it must be ends the test program, with all that is known. */

#define WORLD_GRANULE (64 * KIB)
#define WORLD_REGION_SIZE (16 * WORLD_GRANULE)
#define WORLD_SLICES_MAX 3U
#define WORLD_KNOWN_MAX 8U

/* A lease that the client knows of. */
typedef struct Known {
        char label[32];
        bool persistent;
        bool held;   /* the client was told that it has it, and did nothing to end it */
        bool ended;  /* the client was told that it has ended */
        bool parked; /* a process still maps some of it: nobody else's */
        char path[64];
        int lifetime;
        struct {
                PictureSlice at;
                int fd;
                unsigned char *map; /* NULL: let go of */
                bool mapped;        /* by another process */
        } slices[WORLD_SLICES_MAX];
        size_t n_slices;
} Known;

typedef struct World {
        Keeper *keeper;
        sd_bus *bus;
        FaultPage *page;
        FaultPlan plan;
        uint32_t hits_excused;
        unsigned n_starts;
        Known *known[WORLD_KNOWN_MAX];
        size_t n_known;
        int schedulable; /* of egm5, as the client was told; -1: not known */
        const char *step;
} World;

#define world_expect(w, condition, ...) \
        do { \
                if (!(condition)) \
                        world_fail(w, __FILE__, __LINE__, __VA_ARGS__); \
        } while (0)
_Noreturn void world_fail(World *w, const char *file, int line, const char *format, ...)
                _printf_(4, 5);

typedef enum Answer {
        ANSWER_OK,
        ANSWER_REFUSED, /* the error is in *ret_error */
        ANSWER_NONE, /* it died meanwhile, and runs again: whether it did anything is not known */
} Answer;

/* m is consumed; ret_reply may be NULL. */
Answer world_call(World *w, sd_bus_message *m, sd_bus_message **ret_reply, sd_bus_error *ret_error);
/* True when something went wrong on purpose since the last time: a refusal is not the daemon's fault. */
bool world_excuse(World *w);

/* Starts the daemon, once more when it was kept from starting. */
void world_start(World *w);
/* It ended, or is about to: starts it again and makes sure that all that was known is there. */
void world_revive(World *w);
/* SIGTERM, which it must obey. */
void world_stop(World *w);
/* That, and a start. */
void world_restart(World *w);

void world_look(World *w, Picture *ret);
/* Until nothing goes on by itself any more: all that nobody has is free, and there are no other leases. */
void world_settle(World *w);
/* What was said stands: leases, their bytes, sums. */
void world_check(World *w);

void world_know(World *w, Known *k);
/* Leaves the mappings as they are. */
void world_forget(World *w, Known *k);
