/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "format.h"

/* KubeVirt and Kata find the regions themselves and take all there is; what they can be told is how much that is. */

static int require_whole_regions(const Guest *g, const char *who, EgmError *reterr) {
        for (size_t i = 0; i < g->in->n_slices; i++) {
                const GuestSlice *s = g->in->slices + i;

                if (s->offset != 0 || s->size != s->region_size)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "%s takes whole regions, and slice %zu has %s of the "
                                             "%s of %s",
                                             who, i, FORMAT_EXACT(s->size),
                                             FORMAT_EXACT(s->region_size), s->region);
        }
        return 0;
}

static int require_common(const Guest *g, const char *who, EgmError *reterr) {
        int r;

        r = format_require_gpus(g, who, reterr);
        if (r >= 0)
                r = format_require_normal(g, who, reterr);
        if (r >= 0)
                r = require_whole_regions(g, who, reterr);
        if (r >= 0)
                r = format_require_mib(g, who, reterr);
        return r;
}

/* One VM has all of the host's EGM and all its GPUs, and each GPU the same share. */
static int require_tray(const Guest *g, EgmError *reterr) {
        if (g->in->n_slices < g->in->n_regions_of_host)
                return egm_error_set(
                                reterr, EGM_ERROR_INVALID_ARGS,
                                "KubeVirt takes all regions of a host, and the lease has %zu of "
                                "%zu",
                                g->in->n_slices, g->in->n_regions_of_host);
        if (g->in->n_gpus < g->in->n_gpus_of_regions)
                return egm_error_set(
                                reterr, EGM_ERROR_INVALID_ARGS,
                                "KubeVirt takes all GPUs of the regions, and the VM has %zu of "
                                "%zu",
                                g->in->n_gpus, g->in->n_gpus_of_regions);
        for (size_t i = 0; i < g->in->n_slices; i++) {
                const GuestSlice *s = g->in->slices + i;
                size_t n = 0;

                for (size_t k = 0; k < g->in->n_gpus; k++)
                        n += g->in->gpus[k].slice == i;
                assert(n > 0);
                if (s->size / MIB % n != 0)
                        return egm_error_set(
                                        reterr, EGM_ERROR_INVALID_ARGS,
                                        "KubeVirt gives each GPU the same number of MiB, and %s "
                                        "does not divide by the %zu GPUs of %s",
                                        FORMAT_EXACT(s->size), n, s->region);
        }
        return 0;
}

/* {"a": {"b": value}} and the like; takes over value. */
static json_object *wrap(const char *key, json_object *value) {
        _cleanup_json_ json_object *o = json_object_new_object();

        return json_add(o, key, value) < 0 ? NULL : TAKE_PTR(o);
}

static json_object *text(const char *suffix, uint64_t number) {
        char buf[40];

        (void) snprintf(buf, sizeof(buf), "%" PRIu64 "%s", number, suffix);
        return json_object_new_string(buf);
}

/* Processors of its own, and no huge pages: the guest's memory is none of the host's. */
int format_guest_kubevirt(const Guest *g, Format *f, EgmError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object(), *cpu = json_object_new_object(),
                                   *domain = json_object_new_object();
        int r;

        r = require_common(g, "KubeVirt", reterr);
        if (r >= 0)
                r = require_tray(g, reterr);
        if (r < 0)
                return r;
        if (g->in->cpus > 0 && json_add(cpu, "cores", json_object_new_uint64(g->in->cpus)) < 0)
                return -ENOMEM;
        if (json_add(cpu, "dedicatedCpuPlacement", json_object_new_boolean(true)) < 0 ||
            json_add(domain, "cpu", TAKE_PTR(cpu)) < 0 ||
            json_add(domain, "memory", wrap("guest", text("Mi", g->size / MIB))) < 0 ||
            json_add(o, "apiVersion", json_object_new_string("kubevirt.io/v1")) < 0 ||
            json_add(o, "kind", json_object_new_string("VirtualMachineInstance")) < 0 ||
            json_add(o, "spec", wrap("domain", TAKE_PTR(domain))) < 0)
                return -ENOMEM;
        f->json = TAKE_PTR(o);
        return 0;
}

#define KATA_HYPERVISOR "io.katacontainers.config.hypervisor."

int format_guest_kata(const Guest *g, Format *f, EgmError *reterr) {
        _cleanup_json_ json_object *annotations = json_object_new_object();
        int r;

        r = require_common(g, "Kata", reterr);
        if (r < 0)
                return r;
        if (json_add(annotations, KATA_HYPERVISOR "default_memory", text("", g->size / MIB)) < 0 ||
            (g->in->cpus > 0 &&
             json_add(annotations, KATA_HYPERVISOR "default_vcpus", text("", g->in->cpus)) < 0))
                return -ENOMEM;
        f->json = wrap("metadata", wrap("annotations", TAKE_PTR(annotations)));
        return f->json ? 0 : -ENOMEM;
}
