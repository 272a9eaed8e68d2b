/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>

#include "format-option.h"
#include "size.h"
#include "suggest.h"

/* What QEMU and the kernel can count; more is a slip of the finger. */
#define CPUS_MAX 8192U

void format_option_done(FormatOption *f) {
        for (size_t i = 0; i < f->n_gpus; i++) {
                free(f->gpus[i].address);
                free(f->gpus[i].id);
        }
        free(f->gpus);
        free(f->fds);
        free(f->memmaps);
        *f = (FormatOption){};
}

static int set_consumer(FormatOption *f, const char *value, EgmError *reterr) {
        const char *names[_CONSUMER_MAX], *meant;
        Consumer c = consumer_from_string(value);

        if (c >= 0) {
                f->consumer = c;
                f->has_consumer = true;
                return 0;
        }
        for (Consumer i = 0; i < _CONSUMER_MAX; i++)
                names[i] = consumer_to_string(i);
        meant = suggest(value, names, ELEMENTSOF(names));
        if (meant)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--for= knows no '%s', did you mean '%s'?", value, meant);
        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                             "--for= knows qemu, qemu-nvidia, libvirt, crosvm, cloud-hypervisor, "
                             "kubevirt, kata and json, not '%s'",
                             value);
}

/* As QEMU wants them: no word needs quoting anywhere then. */
static bool id_is_valid(const char *s) {
        if (!isalpha((unsigned char) *s) || strlen(s) > 64)
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && !strchr("-._", *s))
                        return false;
        return true;
}

static int add_gpu(FormatOption *f, const char *value, EgmError *reterr) {
        const char *id = strchr(value, '=');
        GpuOption *t;

        if (streq(value, "none")) {
                f->no_gpus = true;
                return 0;
        }
        if (id && !id_is_valid(id + 1))
                return egm_error_set(
                                reterr, EGM_ERROR_INVALID_ARGS,
                                "'%s' is no name for a device: a letter, then letters, digits, "
                                "'-', '.' and '_'",
                                id + 1);
        t = reallocarray(f->gpus, f->n_gpus + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        f->gpus = t;
        t += f->n_gpus++;
        *t = (GpuOption){.address = strndup(value, id ? (size_t) (id - value) : strlen(value))};
        if (id)
                t->id = strdup(id + 1);
        return t->address && (t->id || !id) ? 0 : -ENOMEM;
}

static int set_cpus(FormatOption *f, const char *value, EgmError *reterr) {
        uint64_t n;

        if (parse_uint64(value, &n) < 0 || n == 0 || n > CPUS_MAX)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--cpus= is a number from 1 to %u, not '%s'", CPUS_MAX, value);
        f->cpus = n;
        return 0;
}

static int add_fd(FormatOption *f, const char *value, EgmError *reterr) {
        int *t, fd;

        if (parse_int(value, &fd) < 0 || fd < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--fd= takes numbers of descriptors, not '%s'", value);
        t = reallocarray(f->fds, f->n_fds + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        f->fds = t;
        f->fds[f->n_fds++] = fd;
        return 0;
}

static int add_fds(FormatOption *f, const char *value, EgmError *reterr) {
        _cleanup_free_ char *copy = strdup(value);
        char *p = copy, *word;
        int r;

        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&p, ","))) {
                r = add_fd(f, word, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_memmap(FormatOption *f, const char *value, EgmError *reterr) {
        _cleanup_free_ char *copy = strdup(value);
        char *type = copy, *slice = strsep(&type, ":");
        MemmapOption *t, m = {};
        uint64_t n;

        if (!copy)
                return -ENOMEM;
        m.type = type ? memmap_type_from_string(type) : _MEMMAP_TYPE_INVALID;
        if (parse_uint64(slice, &n) < 0 || n > SIZE_MAX || m.type < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--memmap-type= is a slice's number, ':' and normal, spm or "
                                     "reserved, not '%s'",
                                     value);
        m.slice = (size_t) n;
        t = reallocarray(f->memmaps, f->n_memmaps + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        f->memmaps = t;
        f->memmaps[f->n_memmaps++] = m;
        return 0;
}

int format_option_set(FormatOption *f, const char *key, const char *value, EgmError *reterr) {
        if (streq(key, "for"))
                return set_consumer(f, value, reterr);
        if (streq(key, "gpu"))
                return add_gpu(f, value, reterr);
        if (streq(key, "cpus"))
                return set_cpus(f, value, reterr);
        if (streq(key, "fd"))
                return add_fds(f, value, reterr);
        if (streq(key, "memmap-type"))
                return add_memmap(f, value, reterr);
        if (streq(key, "node-directory"))
                f->node_directory = value;
        else if (streq(key, "allow-offset"))
                f->allow_offset = true;
        else {
                assert(streq(key, "one-line"));
                f->one_line = true;
        }
        return 0;
}

int format_option_check(const FormatOption *f, EgmError *reterr) {
        if (!f->has_consumer)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Say for whom: --for=qemu, qemu-nvidia, libvirt, crosvm, "
                                     "cloud-hypervisor, kubevirt, kata or json");
        if (f->no_gpus && f->n_gpus > 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--gpu=none and other GPUs exclude each other");
        return 0;
}
