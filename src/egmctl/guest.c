/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "guest.h"
#include "size.h"
#include "string-table.h"

/* What Grace hosts say and what is published for their guests, where the host at hand says nothing. */
#define DISTANCE_SAME_PLACE 11U /* not 10: that is for one node alone */
#define DISTANCE_SOCKETS 40U
#define DISTANCE_GPU 80U
#define DISTANCE_GPUS 40U
#define DISTANCE_REACHABLE_MAX 254U

static const char *const memmap_type_table[_MEMMAP_TYPE_MAX] = {
                [MEMMAP_NORMAL] = "normal",
                [MEMMAP_SPM] = "spm",
                [MEMMAP_RESERVED] = "reserved",
};
DEFINE_STRING_TABLE(memmap_type, MemmapType)

const char *guest_node_kind_to_string(GuestNodeKind k) {
        static const char *const table[_GUEST_NODE_KIND_MAX] = {
                        [GUEST_NODE_CPU] = "cpu",
                        [GUEST_NODE_INITIATOR] = "initiator",
                        [GUEST_NODE_MEMORY] = "memory",
        };

        return k >= 0 && k < _GUEST_NODE_KIND_MAX ? table[k] : NULL;
}

Guest *guest_free(Guest *g) {
        if (!g)
                return NULL;
        free(g->nodes);
        free(g->slice_nodes);
        free(g->distances);
        return mfree(g);
}

/* On the same node of the host; where that is not known, in the same region. */
static bool same_place(const GuestSlice *a, const GuestSlice *b) {
        if (a->node >= 0 && b->node >= 0)
                return a->node == b->node;
        return streq(a->region, b->region);
}

static bool is_first_of_place(const GuestInput *in, size_t slice) {
        for (size_t i = 0; i < slice; i++)
                if (same_place(in->slices + i, in->slices + slice))
                        return false;
        return true;
}

static int count(Guest *g, EgmError *reterr) {
        const GuestInput *in = g->in;
        size_t n;

        for (size_t i = 0; i < in->n_slices; i++)
                if (__builtin_add_overflow(g->size, in->slices[i].size, &g->size))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "The lease's slices add up to more than 2^64 bytes");
        n = in->n_slices + in->n_gpus * GUEST_INITIATORS_PER_GPU;
        if (n > GUEST_NODES_MAX)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%zu slices and %zu GPUs make %zu nodes; a guest has at most "
                                     "%u",
                                     in->n_slices, in->n_gpus, n, GUEST_NODES_MAX);
        g->nodes = calloc(n, sizeof(*g->nodes));
        g->distances = calloc(n, n);
        g->slice_nodes = calloc(in->n_slices, sizeof(*g->slice_nodes));
        return g->nodes && g->distances && g->slice_nodes ? 0 : -ENOMEM;
}

static void add_memory_node(Guest *g, GuestNodeKind kind, size_t slice) {
        g->slice_nodes[slice] = g->n_nodes;
        g->nodes[g->n_nodes++] = (GuestNode){.kind = kind, .slice = slice, .gpu = SIZE_MAX};
        g->n_memory++;
}

static void add_nodes(Guest *g) {
        const GuestInput *in = g->in;

        for (size_t i = 0; i < in->n_slices; i++)
                if (is_first_of_place(in, i))
                        add_memory_node(g, GUEST_NODE_CPU, i);
        for (size_t i = 0; i < in->n_gpus; i++)
                for (size_t k = 0; k < GUEST_INITIATORS_PER_GPU; k++)
                        g->nodes[g->n_nodes++] = (GuestNode){
                                        .kind = GUEST_NODE_INITIATOR,
                                        .slice = in->gpus[i].slice,
                                        .gpu = i,
                        };
        for (size_t i = 0; i < in->n_slices; i++)
                if (!is_first_of_place(in, i))
                        add_memory_node(g, GUEST_NODE_MEMORY, i);
}

/* Evenly; the first nodes get what is left over. */
static int spread_cpus(Guest *g, EgmError *reterr) {
        uint64_t next = 0;
        size_t n = 0;

        if (g->in->cpus == 0)
                return 0;
        while (n < g->n_nodes && g->nodes[n].kind == GUEST_NODE_CPU)
                n++;
        if (g->in->cpus < n)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%" PRIu64 " CPUs for %zu nodes: at least one each",
                                     g->in->cpus, n);
        for (size_t i = 0; i < n; i++) {
                g->nodes[i].cpu_first = next;
                g->nodes[i].n_cpus = g->in->cpus / n + (i < g->in->cpus % n);
                next += g->nodes[i].n_cpus;
        }
        return 0;
}

/* Between the places of two nodes' memory. */
static unsigned place_distance(Guest *g, const GuestSlice *from, const GuestSlice *to) {
        unsigned d;

        if (same_place(from, to))
                return DISTANCE_SAME_PLACE;
        d = node_distances_get(g->in->distances, from->node, to->node);
        if (d > 0)
                return d;
        g->distances_assumed = true;
        return DISTANCE_SOCKETS;
}

static unsigned node_distance(Guest *g, size_t a, size_t b) {
        const GuestNode *from = g->nodes + a, *to = g->nodes + b;
        const GuestSlice *slices = g->in->slices;
        unsigned d;

        if (a == b)
                return NODE_DISTANCE_LOCAL;
        if (from->kind == GUEST_NODE_INITIATOR && to->kind == GUEST_NODE_INITIATOR)
                return from->gpu == to->gpu ? DISTANCE_SAME_PLACE : DISTANCE_GPUS;
        if (guest_node_has_memory(from) && guest_node_has_memory(to))
                return place_distance(g, slices + from->slice, slices + to->slice);
        /* A GPU is behind its socket. */
        if (same_place(slices + from->slice, slices + to->slice))
                return DISTANCE_GPU;
        d = place_distance(g, slices + from->slice, slices + to->slice);
        return d > DISTANCE_REACHABLE_MAX ? d : MIN(DISTANCE_GPU + d, DISTANCE_REACHABLE_MAX);
}

int guest_new(const GuestInput *in, Guest **ret, EgmError *reterr) {
        _cleanup_(guest_freep) Guest *g = NULL;
        int r;

        assert(in);
        assert(in->n_slices > 0);
        assert(ret);

        g = calloc(1, sizeof(*g));
        if (!g)
                return -ENOMEM;
        g->in = in;
        r = count(g, reterr);
        if (r < 0)
                return r;
        add_nodes(g);
        r = spread_cpus(g, reterr);
        if (r < 0)
                return r;
        for (size_t a = 0; a < g->n_nodes; a++)
                for (size_t b = 0; b < g->n_nodes; b++)
                        g->distances[a * g->n_nodes + b] = (uint8_t) node_distance(g, a, b);
        *ret = TAKE_PTR(g);
        return 0;
}

size_t guest_gpu_initiator(const Guest *g, size_t gpu) {
        size_t i = 0;

        while (g->nodes[i].kind != GUEST_NODE_INITIATOR || g->nodes[i].gpu != gpu)
                i++;
        return i;
}

size_t guest_gpu_memory(const Guest *g, size_t gpu) {
        return g->slice_nodes[g->in->gpus[gpu].slice];
}

bool guest_gpu_has_egm(const Guest *g, size_t gpu) {
        return g->in->offset_allowed || g->in->slices[g->in->gpus[gpu].slice].offset == 0;
}

size_t guest_find_offset(const Guest *g) {
        for (size_t i = 0; i < g->in->n_gpus; i++)
                if (g->in->slices[g->in->gpus[i].slice].offset != 0)
                        return g->in->gpus[i].slice;
        return SIZE_MAX;
}

uint64_t guest_slice_align(const GuestSlice *s) {
        static const uint64_t sizes[] = {GIB, 512 * MIB, 2 * MIB};

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                if (s->offset % sizes[i] == 0 && s->size >= sizes[i])
                        return sizes[i];
        return 64 * KIB;
}
