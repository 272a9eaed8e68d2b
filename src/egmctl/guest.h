/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"
#include "node-distance.h"

/* The guest that a lease makes: which NUMA nodes it has, what each of them is, how far they are from each other. What
 * every VMM is told, whatever its words. Pure. */

/* One for each instance that a GPU can be divided into; the guest's driver looks for all of them. */
#define GUEST_INITIATORS_PER_GPU 8U
/* QEMU's limit. */
#define GUEST_NODES_MAX 128U

typedef enum MemmapType {
        MEMMAP_NORMAL,
        MEMMAP_SPM, /* memory for one purpose, not for the guest kernel's own use */
        MEMMAP_RESERVED,
        _MEMMAP_TYPE_MAX,
        _MEMMAP_TYPE_INVALID = -EINVAL,
} MemmapType;

const char *memmap_type_to_string(MemmapType t);
MemmapType memmap_type_from_string(const char *s);

/* A slice of the lease and what is known of its region. Strings are borrowed. */
typedef struct GuestSlice {
        const char *region;
        const char *path; /* what the VMM opens */
        uint64_t offset;
        uint64_t size;
        uint64_t region_size;
        int node; /* the host's, -1: not known */
        int fd;   /* that the VMM inherits, -1: none */
        MemmapType memmap_type;
} GuestSlice;

/* A GPU that the guest gets. */
typedef struct GuestGpu {
        const char *address; /* "0009:01:00.0" */
        const char *id;      /* what the guest's device is called, NULL: by the VMM's custom */
        size_t slice;        /* the first of its region */
} GuestGpu;

typedef struct GuestInput {
        const char *lease;
        const GuestSlice *slices;
        size_t n_slices;
        const GuestGpu *gpus; /* in the order of the slices */
        size_t n_gpus;
        size_t n_regions_of_host;
        size_t n_gpus_of_regions; /* of the regions that the lease is in */
        uint64_t cpus;       /* virtual ones, to be spread over the nodes; 0: not ours to spread */
        bool offset_allowed; /* a GPU accepts memory from the middle of a region as EGM */
        const NodeDistances *distances;
} GuestInput;

typedef enum GuestNodeKind {
        GUEST_NODE_CPU,       /* processors and memory */
        GUEST_NODE_INITIATOR, /* a place for a GPU's own memory, empty */
        GUEST_NODE_MEMORY,    /* memory alone: a further slice of a place that has a node already */
        _GUEST_NODE_KIND_MAX,
        _GUEST_NODE_KIND_INVALID = -EINVAL,
} GuestNodeKind;

const char *guest_node_kind_to_string(GuestNodeKind k);

/* Its number is its index. */
typedef struct GuestNode {
        GuestNodeKind kind;
        size_t slice; /* an initiator: that of its GPU */
        size_t gpu;   /* of an initiator */
        uint64_t cpu_first, n_cpus;
} GuestNode;

typedef struct Guest {
        const GuestInput *in; /* borrowed */
        uint64_t size;        /* of all slices */
        GuestNode *nodes; /* in the order that guests need: processors, initiators, memory alone */
        size_t n_nodes;
        size_t *slice_nodes; /* by slice: the number of its node */
        size_t n_memory;     /* nodes with memory */
        uint8_t *distances;  /* n_nodes * n_nodes */
        bool distances_assumed;
} Guest;

/* -EINVAL with words: such a guest cannot be. */
int guest_new(const GuestInput *in, Guest **ret, EgmError *reterr);
Guest *guest_free(Guest *g);
DEFINE_TRIVIAL_CLEANUP_FUNC(Guest *, guest_free)

static inline unsigned guest_distance(const Guest *g, size_t from, size_t to) {
        return g->distances[from * g->n_nodes + to];
}
static inline bool guest_node_has_memory(const GuestNode *n) {
        return n->kind != GUEST_NODE_INITIATOR;
}
/* The first of a GPU's. */
size_t guest_gpu_initiator(const Guest *g, size_t gpu);
/* The node of the memory that is to be told to a GPU as EGM. */
size_t guest_gpu_memory(const Guest *g, size_t gpu);
/* May it be told? A GPU is only known to accept EGM that starts where its region starts. */
bool guest_gpu_has_egm(const Guest *g, size_t gpu);
/* The first slice that starts elsewhere and has a GPU; SIZE_MAX: none. */
size_t guest_find_offset(const Guest *g);
/* The alignment of a mapping with which the largest pages of the guest's second stage can be used. */
uint64_t guest_slice_align(const GuestSlice *s);
