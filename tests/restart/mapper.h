/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* A process that maps memory, and has no descriptor of anything. */

typedef struct Mapper {
        pid_t pid;
        int pidfd;
        int commands, answers;
} Mapper;

#define MAPPER_NULL ((Mapper){.pidfd = -EBADF, .commands = -EBADF, .answers = -EBADF})
#define MAPPER_MAPS_MAX 4U

typedef struct MapperPart {
        int fd;
        uint64_t offset, size;
        unsigned char pattern;
} MapperPart;

int mapper_start(const MapperPart *parts, size_t n, Mapper *ret);
/* Is every byte as it was? 1, 0 or a negative errno. */
int mapper_check(const Mapper *m);
/* Ends it, and waits for that. */
void mapper_stop(Mapper *m);
