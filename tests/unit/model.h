/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "placement.h"
#include "size.h"

/* A region as an array of granules, each with what can be said of it. Too slow and too plain to be
 * wrong: what the extent map and placement are held against. Sizes and offsets are in granules. */

#define MODEL_GRANULE (64 * KIB)

typedef struct Cell {
        ExtentState state;
        uint32_t owner;
        uint32_t content; /* whose bytes are in it; 0: zeros */
} Cell;

typedef struct Model {
        Cell *cells;
        size_t n;
        size_t count[_EXTENT_STATE_MAX];
        /* Prefix sums for the last model_look(): granules before the index that… */
        size_t *blocked; /* …cannot be lent */
        size_t *free;    /* …are free */
} Model;

typedef enum ModelOp {
        MODEL_BEGIN_SCRUB,
        MODEL_END_SCRUB,
        MODEL_FAIL_SCRUB,
        MODEL_SOIL,
        MODEL_LEASE,
        MODEL_LEASE_RETIRED,
        MODEL_CANCEL,
        MODEL_ADOPT,
        MODEL_DRAIN,
        MODEL_RECLAIM,
        MODEL_RETIRE,
        _MODEL_OP_MAX,
} ModelOp;

int model_new(size_t n, Model **ret);
Model *model_free(Model *m);

/* 0, or -ESTALE and nothing changed. */
int model_apply(Model *m, ModelOp op, size_t offset, size_t size, uint32_t owner);
/* The holder writes all over what it was lent. */
void model_write(Model *m, size_t offset, size_t size, uint32_t owner);
size_t model_owned(const Model *m);
/* The length of the run of granules in the same state, with the same owner, that holds this one. */
size_t model_run(const Model *m, size_t at, size_t *ret_offset);

/* Prepares the following for lending with or without retired granules. */
void model_look(Model *m, bool include_retired);
size_t model_lendable(const Model *m);
/* May a slice lie here? */
bool model_fits_at(const Model *m, size_t offset, size_t size);
/* First and last place for a slice. */
bool model_first_fit(const Model *m, size_t size, size_t align, size_t *ret_offset);
bool model_last_fit(const Model *m, size_t size, size_t align, size_t *ret_offset);
bool model_has_retired(const Model *m, size_t offset, size_t size);

/* Where a slice could go in a region, worked out granule by granule. */
typedef struct ModelVerdict {
        int r; /* 0, -ENOLINK, -ENOTUNIQ, -EAGAIN, -ENOSPC, -EXFULL as in placement-internal.h */
        bool retired;
        size_t rest; /* of the best place */
        size_t size, align;
} ModelVerdict;

bool model_matches(const SliceRequest *s, const PlacementRegion *p);
/* Leaves the model prepared as by model_look(). */
ModelVerdict model_judge(Model *m, const SliceRequest *s, const PlacementRegion *p);
