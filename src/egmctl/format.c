/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>

#include "fd-util.h"
#include "format.h"
#include "size.h"
#include "string-table.h"

static const char *const consumer_table[_CONSUMER_MAX] = {
                [CONSUMER_QEMU] = "qemu",
                [CONSUMER_QEMU_NVIDIA] = "qemu-nvidia",
                [CONSUMER_LIBVIRT] = "libvirt",
                [CONSUMER_CROSVM] = "crosvm",
                [CONSUMER_CLOUD_HYPERVISOR] = "cloud-hypervisor",
                [CONSUMER_KUBEVIRT] = "kubevirt",
                [CONSUMER_KATA] = "kata",
                [CONSUMER_JSON] = "json",
};
DEFINE_STRING_TABLE(consumer, Consumer)

bool consumer_has_distances(Consumer c) {
        return c != CONSUMER_CROSVM && c != CONSUMER_KUBEVIRT && c != CONSUMER_KATA;
}

void format_done(Format *f) {
        for (size_t i = 0; i < f->n_args; i++)
                free(f->args[i]);
        free(f->args);
        free(f->text);
        free(f->note);
        (void) json_object_put(f->json);
        *f = (Format){};
}

static int format_for(const Guest *g, Consumer c, Format *f, EgmError *reterr) {
        switch (c) {
        case CONSUMER_QEMU:
                return format_guest_qemu(g, false, f);
        case CONSUMER_QEMU_NVIDIA:
                return format_guest_qemu(g, true, f);
        case CONSUMER_LIBVIRT:
                return format_guest_libvirt(g, f, reterr);
        case CONSUMER_CROSVM:
                return format_guest_crosvm(g, f, reterr);
        case CONSUMER_CLOUD_HYPERVISOR:
                return format_guest_cloud_hypervisor(g, f, reterr);
        case CONSUMER_KUBEVIRT:
                return format_guest_kubevirt(g, f, reterr);
        case CONSUMER_KATA:
                return format_guest_kata(g, f, reterr);
        default:
                assert(c == CONSUMER_JSON);
                return format_guest_json(g, f);
        }
}

int format_guest(const Guest *g, Consumer c, Format *ret, EgmError *reterr) {
        _cleanup_format_ Format f = {};
        int r;

        r = format_for(g, c, &f, reterr);
        if (r < 0)
                return r;
        *ret = f;
        f = (Format){};
        return 0;
}

int format_arg(Format *f, const char *format, ...) {
        char **t, *arg;
        va_list ap;
        int r;

        t = reallocarray(f->args, f->n_args + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        f->args = t;
        va_start(ap, format);
        r = vasprintf(&arg, format, ap);
        va_end(ap);
        if (r < 0)
                return -ENOMEM;
        f->args[f->n_args++] = arg;
        return 0;
}

int format_note(Format *f, const char *format, ...) {
        va_list ap;
        int r;

        if (f->note)
                return 0;
        va_start(ap, format);
        r = vasprintf(&f->note, format, ap);
        va_end(ap);
        if (r < 0) {
                f->note = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* ---- Printing ---- */

static bool is_plain(const char *s) {
        if (!*s)
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr("%+,-./:=@_", *s))
                        return false;
        return true;
}

static void quote(FILE *f, const char *s) {
        if (is_plain(s)) {
                fputs(s, f);
                return;
        }
        fputc('\'', f);
        for (; *s; s++)
                if (*s == '\'')
                        fputs("'\\''", f);
                else
                        fputc(*s, f);
        fputc('\'', f);
}

int format_quote_args(const Format *f, char **ret) {
        char *text = NULL;
        size_t size;
        FILE *m = open_memstream(&text, &size);

        if (!m)
                return -ENOMEM;
        for (size_t i = 0; i < f->n_args; i++) {
                if (i > 0)
                        fputc(' ', m);
                quote(m, f->args[i]);
        }
        if (memstream_close(m, &text) < 0)
                return -ENOMEM;
        *ret = text;
        return 0;
}

int format_to_json(Format *f, json_object **ret) {
        _cleanup_json_ json_object *array = NULL;

        if (!f->args) {
                *ret = TAKE_PTR(f->json);
                return 0;
        }
        array = json_object_new_array();
        for (size_t i = 0; i < f->n_args; i++)
                if (json_append(array, json_object_new_string(f->args[i])) < 0)
                        return -ENOMEM;
        *ret = TAKE_PTR(array);
        return 0;
}

char *format_exact(char buf[static FORMAT_EXACT_MAX], uint64_t bytes) {
        if (bytes % MIB == 0)
                (void) snprintf(buf, FORMAT_EXACT_MAX, "%" PRIu64 "M", bytes / MIB);
        else if (bytes % KIB == 0)
                (void) snprintf(buf, FORMAT_EXACT_MAX, "%" PRIu64 "K", bytes / KIB);
        else
                (void) snprintf(buf, FORMAT_EXACT_MAX, "%" PRIu64, bytes);
        return buf;
}

int format_gpu_id(const Guest *g, size_t gpu, const char *prefix, char **ret) {
        const char *id = g->in->gpus[gpu].id;
        int r;

        r = id ? asprintf(ret, "%s", id) : asprintf(ret, "%s%zu", prefix, gpu);
        return r < 0 ? -ENOMEM : 0;
}

/* ---- What consumers need ---- */

int format_require_gpus(const Guest *g, const char *who, EgmError *reterr) {
        for (size_t i = 0; i < g->in->n_slices; i++) {
                bool any = false;

                for (size_t k = 0; k < g->in->n_gpus; k++)
                        any = any || streq(g->in->slices[g->in->gpus[k].slice].region,
                                           g->in->slices[i].region);
                if (!any)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "%s knows EGM only as memory of a GPU, and no GPU of "
                                             "%s is given to the VM",
                                             who, g->in->slices[i].region);
        }
        return 0;
}

int format_require_start(const Guest *g, const char *who, EgmError *reterr) {
        for (size_t i = 0; i < g->in->n_slices; i++)
                if (g->in->slices[i].offset != 0)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Slice %zu starts %s into %s, and %s can only map a "
                                             "region from its start",
                                             i, FORMAT_EXACT(g->in->slices[i].offset),
                                             g->in->slices[i].region, who);
        return 0;
}

int format_require_one_slice_each(const Guest *g, const char *who, EgmError *reterr) {
        for (size_t i = 0; i < g->in->n_slices; i++)
                for (size_t k = 0; k < i; k++)
                        if (streq(g->in->slices[i].region, g->in->slices[k].region))
                                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                                     "Slices %zu and %zu are both of %s, and %s "
                                                     "takes one piece of a region",
                                                     k, i, g->in->slices[i].region, who);
        return 0;
}

int format_require_mib(const Guest *g, const char *who, EgmError *reterr) {
        for (size_t i = 0; i < g->in->n_slices; i++)
                if (g->in->slices[i].size % MIB != 0)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "%s counts memory in MiB, and slice %zu has %s", who,
                                             i, FORMAT_EXACT(g->in->slices[i].size));
        return 0;
}

int format_require_normal(const Guest *g, const char *who, EgmError *reterr) {
        for (size_t i = 0; i < g->in->n_slices; i++)
                if (g->in->slices[i].memmap_type != MEMMAP_NORMAL)
                        return egm_error_set(
                                        reterr, EGM_ERROR_INVALID_ARGS,
                                        "%s has no word for memory of type '%s' (slice %zu)", who,
                                        memmap_type_to_string(g->in->slices[i].memmap_type), i);
        return 0;
}
