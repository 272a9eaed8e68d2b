/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "format.h"

/* Everything, for launchers that have words of their own. Keys as in the other JSON of egmctl. */

static int add_string(json_object *o, const char *key, const char *value) {
        return json_add(o, key, json_object_new_string(value));
}

static int add_number(json_object *o, const char *key, uint64_t value) {
        return json_add(o, key, json_object_new_uint64(value));
}

static int add_int(json_object *o, const char *key, int value) {
        return json_add(o, key, json_object_new_int(value));
}

static json_object *slice_to_json(const Guest *g, size_t i) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const GuestSlice *s = g->in->slices + i;

        if (add_string(o, "region", s->region) < 0 || add_string(o, "path", s->path) < 0 ||
            add_int(o, "fd", s->fd) < 0 || add_number(o, "offset", s->offset) < 0 ||
            add_number(o, "size", s->size) < 0 ||
            add_number(o, "align", guest_slice_align(s)) < 0 ||
            add_int(o, "host_node", s->node) < 0 || add_number(o, "node", g->slice_nodes[i]) < 0 ||
            add_string(o, "memmap_type", memmap_type_to_string(s->memmap_type)) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *gpu_to_json(const Guest *g, size_t i) {
        _cleanup_json_ json_object *o = json_object_new_object(),
                                   *initiators = json_object_new_array();
        _cleanup_free_ char *id = NULL;

        if (format_gpu_id(g, i, "dev", &id) < 0)
                return NULL;
        for (size_t k = 0; k < GUEST_INITIATORS_PER_GPU; k++)
                if (json_append(initiators, json_object_new_uint64(guest_gpu_initiator(g, i) + k)) <
                    0)
                        return NULL;
        if (add_string(o, "address", g->in->gpus[i].address) < 0 || add_string(o, "id", id) < 0 ||
            add_number(o, "slice", g->in->gpus[i].slice) < 0 ||
            add_number(o, "memory_node", guest_gpu_memory(g, i)) < 0 ||
            json_add(o, "initiator_nodes", TAKE_PTR(initiators)) < 0 ||
            json_add(o, "egm", json_object_new_boolean(guest_gpu_has_egm(g, i))) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *node_to_json(const Guest *g, size_t i) {
        _cleanup_json_ json_object *o = json_object_new_object(),
                                   *distances = json_object_new_array();
        const GuestNode *n = g->nodes + i;
        bool memory = guest_node_has_memory(n);

        for (size_t k = 0; k < g->n_nodes; k++)
                if (json_append(distances, json_object_new_uint64(guest_distance(g, i, k))) < 0)
                        return NULL;
        if (add_number(o, "node", i) < 0 ||
            add_string(o, "kind", guest_node_kind_to_string(n->kind)) < 0 ||
            add_number(o, memory ? "slice" : "gpu", memory ? n->slice : n->gpu) < 0 ||
            add_number(o, "size", memory ? g->in->slices[n->slice].size : 0) < 0 ||
            add_number(o, "cpu_first", n->cpu_first) < 0 || add_number(o, "cpus", n->n_cpus) < 0 ||
            json_add(o, "distances", TAKE_PTR(distances)) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *list(const Guest *g, size_t n, json_object *(*item)(const Guest *g, size_t i)) {
        _cleanup_json_ json_object *a = json_object_new_array();

        for (size_t i = 0; i < n; i++)
                if (json_append(a, item(g, i)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

int format_guest_json(const Guest *g, Format *f) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (add_string(o, "lease", g->in->lease) < 0 || add_number(o, "size", g->size) < 0 ||
            json_add(o, "slices", list(g, g->in->n_slices, slice_to_json)) < 0 ||
            json_add(o, "gpus", list(g, g->in->n_gpus, gpu_to_json)) < 0 ||
            json_add(o, "nodes", list(g, g->n_nodes, node_to_json)) < 0)
                return -ENOMEM;
        f->json = TAKE_PTR(o);
        return 0;
}
