/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* What a test and the library that it has preloaded into the daemon (fault-shim.c) tell each other: one shared page, a file
 * named by $EGM_FAULT_PAGE. Calls are counted by class; the plan's class at the plan's number fails, or the process is
 * killed there. A call that is not made is not counted again after a restart: one plan strikes once. */

#define FAULT_PAGE_SIZE 4096

typedef enum FaultClass {
        FAULT_KILL,           /* any call whose effect others can see */
        FAULT_SPACE,          /* what takes memory of a file system */
        FAULT_IO,             /* what reads or changes files */
        FAULT_FILES,          /* what takes a descriptor, in the main thread */
        FAULT_FILES_WORKERS,  /* in any other */
        FAULT_MEMORY,         /* what takes memory, in the main thread */
        FAULT_MEMORY_WORKERS, /* in any other */
        FAULT_SEND,           /* what sends on a socket */
        _FAULT_CLASS_MAX,
} FaultClass;

typedef struct FaultPage {
        atomic_uint_fast64_t counts[_FAULT_CLASS_MAX];

        /* The plan: set before the process starts. */
        uint32_t on;    /* a FaultClass */
        uint64_t first; /* 1: the first call; 0: none */
        uint64_t n;     /* so many in a row */
        int32_t error;  /* what they fail with; 0: kill */
        uint32_t after; /* kill behind the call instead of before it */

        atomic_uint_fast32_t hit; /* how often it struck */
        char call[32];            /* where */
        uint32_t in_frail;        /* in a library that may crash of it */
} FaultPage;
