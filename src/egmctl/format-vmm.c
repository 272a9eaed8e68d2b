/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "fd-util.h"
#include "format.h"

/* The VMMs made of the rust-vmm crates' kind of parts: crosvm and Cloud Hypervisor. */

/* Where crosvm puts the memory of an arm64 guest, in one piece. */
#define CROSVM_MEMORY_START (UINT64_C(2) * GIB)

/* It has no NUMA nodes: the slices lie one behind the other. */
int format_guest_crosvm(const Guest *g, Format *f, EgmError *reterr) {
        uint64_t address = CROSVM_MEMORY_START;
        int r;

        r = format_require_normal(g, "crosvm", reterr);
        if (r >= 0)
                r = format_require_mib(g, "crosvm", reterr);
        if (r < 0)
                return r;
        if (g->in->cpus > 0 &&
            (format_arg(f, "--cpus") < 0 || format_arg(f, "%" PRIu64, g->in->cpus) < 0))
                return -ENOMEM;
        if (format_arg(f, "--mem") < 0 || format_arg(f, "%" PRIu64, g->size / MIB) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < g->in->n_slices; i++) {
                const GuestSlice *s = g->in->slices + i;

                if (strchr(s->path, ','))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "crosvm takes no path with a comma: %s", s->path);
                if (format_arg(f, "--file-backed-mapping") < 0 ||
                    format_arg(f,
                               "addr=0x%" PRIx64 ",size=0x%" PRIx64 ",path=%s,offset=0x%" PRIx64
                               ",rw=true,ram=true",
                               address, s->size, s->path, s->offset) < 0)
                        return -ENOMEM;
                address += s->size; /* their sum was checked, and is far below what addresses can say */
        }
        return 0;
}

static void put_distances(FILE *m, const Guest *g, size_t node) {
        bool any = false;

        for (size_t i = 0; i < g->n_nodes; i++)
                if (i != node) {
                        fprintf(m, "%s%zu@%u", any ? "," : ",distances=[", i,
                                guest_distance(g, node, i));
                        any = true;
                }
        if (any)
                fputc(']', m);
}

static int put_node(FILE *m, const Guest *g, size_t i) {
        const GuestNode *n = g->nodes + i;
        _cleanup_free_ char *id = NULL;

        fprintf(m, "guest_numa_id=%zu", i);
        if (n->n_cpus > 0)
                fprintf(m, ",cpus=[%" PRIu64 "-%" PRIu64 "]", n->cpu_first,
                        n->cpu_first + n->n_cpus - 1);
        if (guest_node_has_memory(n))
                fprintf(m, ",memory_zones=[m%zu]", n->slice);
        else {
                if (format_gpu_id(g, n->gpu, "dev", &id) < 0)
                        return -ENOMEM;
                fprintf(m, ",device_id=%s", id);
        }
        put_distances(m, g, i);
        return 0;
}

static int add_node(const Guest *g, Format *f, size_t i) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *m = open_memstream(&text, &size);
        int r;

        if (!m)
                return -ENOMEM;
        r = put_node(m, g, i);
        if (memstream_close(m, &text) < 0 || r < 0)
                return -ENOMEM;
        return format_arg(f, "%s", text);
}

/* An option that has several values takes them all at once. */
int format_guest_cloud_hypervisor(const Guest *g, Format *f, EgmError *reterr) {
        int r;

        r = format_require_normal(g, "Cloud Hypervisor", reterr);
        if (r >= 0)
                r = format_require_start(g, "Cloud Hypervisor", reterr);
        if (r < 0)
                return r;
        if (g->in->cpus > 0 &&
            (format_arg(f, "--cpus") < 0 || format_arg(f, "boot=%" PRIu64, g->in->cpus) < 0))
                return -ENOMEM;
        if (format_arg(f, "--memory") < 0 || format_arg(f, "size=0") < 0 ||
            format_arg(f, "--memory-zone") < 0)
                return -ENOMEM;
        for (size_t i = 0; i < g->in->n_slices; i++) {
                const GuestSlice *s = g->in->slices + i;

                if (strchr(s->path, ','))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Cloud Hypervisor takes no path with a comma: %s",
                                             s->path);
                if (format_arg(f, "id=m%zu,size=%s,file=%s,shared=on", i, FORMAT_EXACT(s->size),
                               s->path) < 0)
                        return -ENOMEM;
        }
        if (format_arg(f, "--numa") < 0)
                return -ENOMEM;
        for (size_t i = 0; i < g->n_nodes; i++)
                if (add_node(g, f, i) < 0)
                        return -ENOMEM;
        return 0;
}
