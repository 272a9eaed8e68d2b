/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "../unit/test.h"

#include "guest.h"

/* Guests for tests. */

#define SLICE(region_name, offset_, size_, region_size_, node_) \
        { \
                .region = region_name, .path = "/dev/" region_name, .offset = (offset_), \
                .size = (size_), .region_size = (region_size_), .node = (node_), .fd = -1 \
        }

#define GPU(address_, slice_) \
        { .address = (address_), .slice = (slice_) }

static inline Guest *make(GuestInput *in, const GuestSlice *slices, size_t n_slices,
                          const GuestGpu *gpus, size_t n_gpus) {
        static const NodeDistances nothing;
        Guest *g;

        in->lease = "7";
        in->slices = slices;
        in->n_slices = n_slices;
        in->gpus = gpus;
        in->n_gpus = n_gpus;
        in->distances = in->distances ?: &nothing;
        assert_int_equal(guest_new(in, &g, NULL), 0);
        return g;
}
