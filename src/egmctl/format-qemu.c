/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "format.h"

/* QEMU, and NVIDIA's with acpi-egm-memory. The machine, processors and PCI devices are not ours to say; of the latter we only
 * use the names. */

/* In QEMU's options a comma in a value is written twice. */
static char *escape(const char *s) {
        char *text = malloc(2 * strlen(s) + 1), *p = text;

        if (!text)
                return NULL;
        for (; *s; s++) {
                if (*s == ',')
                        *p++ = ',';
                *p++ = *s;
        }
        *p = '\0';
        return text;
}

/* No preallocation: the driver maps everything at once anyhow, and touching each page only finds the bad ones. No offset where it
 * is none: QEMU knows that property since 8.1. */
static int add_backend(Format *f, const GuestSlice *s, size_t i) {
        _cleanup_free_ char *path = escape(s->path);
        char offset[FORMAT_EXACT_MAX + 16] = "";

        if (!path || format_arg(f, "-object") < 0)
                return -ENOMEM;
        if (s->offset > 0)
                (void) snprintf(offset, sizeof(offset), "offset=%s,", FORMAT_EXACT(s->offset));
        return format_arg(f,
                          "memory-backend-file,id=m%zu,size=%s,mem-path=%s,%salign=%s,share=on,"
                          "prealloc=off",
                          i, FORMAT_EXACT(s->size), path, offset,
                          FORMAT_EXACT(guest_slice_align(s)));
}

static int add_node(const Guest *g, Format *f, size_t i) {
        const GuestNode *n = g->nodes + i;
        char cpus[64] = "", type[32] = "";

        if (format_arg(f, "-numa") < 0)
                return -ENOMEM;
        if (!guest_node_has_memory(n))
                return format_arg(f, "node,nodeid=%zu", i);
        if (n->n_cpus == 1)
                (void) snprintf(cpus, sizeof(cpus), "cpus=%" PRIu64 ",", n->cpu_first);
        else if (n->n_cpus > 1)
                (void) snprintf(cpus, sizeof(cpus), "cpus=%" PRIu64 "-%" PRIu64 ",", n->cpu_first,
                                n->cpu_first + n->n_cpus - 1);
        if (g->in->slices[n->slice].memmap_type != MEMMAP_NORMAL)
                (void) snprintf(type, sizeof(type), ",memmap-type=%s",
                                memmap_type_to_string(g->in->slices[n->slice].memmap_type));
        return format_arg(f, "node,nodeid=%zu,%smemdev=m%zu%s", i, cpus, n->slice, type);
}

static int add_gpu(const Guest *g, Format *f, size_t i) {
        _cleanup_free_ char *id = NULL;
        size_t first = guest_gpu_initiator(g, i);

        if (format_gpu_id(g, i, "dev", &id) < 0)
                return -ENOMEM;
        for (size_t k = 0; k < GUEST_INITIATORS_PER_GPU; k++)
                if (format_arg(f, "-object") < 0 ||
                    format_arg(f, "acpi-generic-initiator,id=gi%zu,pci-dev=%s,node=%zu",
                               i * GUEST_INITIATORS_PER_GPU + k, id, first + k) < 0)
                        return -ENOMEM;
        return 0;
}

static int add_egm(const Guest *g, Format *f, size_t i) {
        _cleanup_free_ char *id = NULL;

        if (!guest_gpu_has_egm(g, i))
                return 0;
        if (format_gpu_id(g, i, "dev", &id) < 0)
                return -ENOMEM;
        if (format_arg(f, "-object") < 0)
                return -ENOMEM;
        return format_arg(f, "acpi-egm-memory,id=egm%zu,pci-dev=%s,node=%zu", i, id,
                          guest_gpu_memory(g, i));
}

static bool is_symmetric(const Guest *g) {
        for (size_t a = 0; a < g->n_nodes; a++)
                for (size_t b = 0; b < a; b++)
                        if (guest_distance(g, a, b) != guest_distance(g, b, a))
                                return false;
        return true;
}

/* QEMU takes one direction for both, or needs all of them. */
static int add_distances(const Guest *g, Format *f) {
        bool both = !is_symmetric(g);

        for (size_t a = 0; a < g->n_nodes; a++)
                for (size_t b = both ? 0 : a + 1; b < g->n_nodes; b++) {
                        if (a == b)
                                continue;
                        if (format_arg(f, "-numa") < 0 ||
                            format_arg(f, "dist,src=%zu,dst=%zu,val=%u", a, b,
                                       guest_distance(g, a, b)) < 0)
                                return -ENOMEM;
                }
        return 0;
}

int format_guest_qemu(const Guest *g, bool egm, Format *f) {
        size_t slice = guest_find_offset(g);
        int r = 0;

        if (format_arg(f, "-m") < 0 || format_arg(f, "%s", FORMAT_EXACT(g->size)) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < g->in->n_slices && r >= 0; i++)
                r = add_backend(f, g->in->slices + i, i);
        for (size_t i = 0; i < g->n_nodes && r >= 0; i++)
                r = add_node(g, f, i);
        for (size_t i = 0; i < g->in->n_gpus && r >= 0; i++)
                r = add_gpu(g, f, i);
        for (size_t i = 0; egm && i < g->in->n_gpus && r >= 0; i++)
                r = add_egm(g, f, i);
        if (r >= 0)
                r = add_distances(g, f);
        if (r >= 0 && egm && slice != SIZE_MAX && !g->in->offset_allowed)
                r = format_note(f,
                                "acpi-egm-memory left out: slice %zu starts %s into %s, and GPUs "
                                "are "
                                "only known to accept a region from its start (see egmctl(1), "
                                "--allow-offset)",
                                slice, FORMAT_EXACT(g->in->slices[slice].offset),
                                g->in->slices[slice].region);
        return r;
}
