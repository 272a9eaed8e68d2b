/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/* All that the daemon says of itself on the bus at one moment. */

#define PICTURE_SLICES_MAX 16U
#define PICTURE_LEASES_MAX 64U
#define PICTURE_REGIONS_MAX 4U

typedef struct PictureSlice {
        char region[16];
        uint64_t offset, size;
} PictureSlice;

typedef struct PictureLease {
        char path[64];
        char label[64];
        char state[16];
        bool persistent;
        uint32_t holder_pid;
        PictureSlice slices[PICTURE_SLICES_MAX];
        size_t n_slices;
} PictureLease;

typedef struct PictureRegion {
        char name[16];
        char state[16];
        bool schedulable;
        uint64_t size, free, leased, draining, dirty, scrubbing, retired;
} PictureRegion;

typedef struct Picture {
        PictureLease leases[PICTURE_LEASES_MAX];
        size_t n_leases;
        PictureRegion regions[PICTURE_REGIONS_MAX];
        size_t n_regions;
} Picture;

/* m: what GetManagedObjects() answered. */
int picture_read(sd_bus_message *m, Picture *ret);
const PictureLease *picture_find_lease(const Picture *p, const char *path);
const PictureRegion *picture_find_region(const Picture *p, const char *name);
/* For people. */
void picture_print(const Picture *p, FILE *f);
