/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "guest.h"
#include "json-util.h"

/* A lease in the words of those who start VMs with it. Pure. */

typedef enum Consumer {
        CONSUMER_QEMU,
        CONSUMER_QEMU_NVIDIA,
        CONSUMER_LIBVIRT,
        CONSUMER_CROSVM,
        CONSUMER_CLOUD_HYPERVISOR,
        CONSUMER_KUBEVIRT,
        CONSUMER_KATA,
        CONSUMER_JSON,
        _CONSUMER_MAX,
        _CONSUMER_INVALID = -EINVAL,
} Consumer;

const char *consumer_to_string(Consumer c);
Consumer consumer_from_string(const char *s);
/* Is it told how far nodes are from each other? */
bool consumer_has_distances(Consumer c);

/* One of args, text and json. */
typedef struct Format {
        char **args; /* of a command line */
        size_t n_args;
        char *text; /* XML */
        json_object *json;
        char *note; /* what the reader should know of it, NULL: nothing */
} Format;

void format_done(Format *f);
#define _cleanup_format_ _cleanup_(format_done)

/* -EINVAL with words: this consumer cannot be told of such a lease, and why. */
int format_guest(const Guest *g, Consumer c, Format *ret, EgmError *reterr);

/* As one line that a shell splits into args again. */
int format_quote_args(const Format *f, char **ret);
/* Args as a list of strings, or what is JSON anyhow. *ret is NULL where JSON makes no sense (XML). */
int format_to_json(Format *f, json_object **ret);

/* ---- For the consumers' own files ---- */

int format_guest_qemu(const Guest *g, bool egm, Format *f);
int format_guest_libvirt(const Guest *g, Format *f, EgmError *reterr);
int format_guest_crosvm(const Guest *g, Format *f, EgmError *reterr);
int format_guest_cloud_hypervisor(const Guest *g, Format *f, EgmError *reterr);
int format_guest_kubevirt(const Guest *g, Format *f, EgmError *reterr);
int format_guest_kata(const Guest *g, Format *f, EgmError *reterr);
int format_guest_json(const Guest *g, Format *f);

/* One more argument. */
int format_arg(Format *f, const char *format, ...) _printf_(2, 3);
/* The first one stays. */
int format_note(Format *f, const char *format, ...) _printf_(2, 3);

/* "98304M", exactly; for those who read binary suffixes. */
#define FORMAT_EXACT_MAX 24
char *format_exact(char buf[static FORMAT_EXACT_MAX], uint64_t bytes);
#define FORMAT_EXACT(bytes) format_exact((char[FORMAT_EXACT_MAX]){}, (bytes))

/* The same conditions of several. */
int format_require_gpus(const Guest *g, const char *who, EgmError *reterr);
int format_require_start(const Guest *g, const char *who, EgmError *reterr);
int format_require_one_slice_each(const Guest *g, const char *who, EgmError *reterr);
int format_require_mib(const Guest *g, const char *who, EgmError *reterr);
int format_require_normal(const Guest *g, const char *who, EgmError *reterr);

/* What a GPU's device is called: its id, or prefix and number. */
int format_gpu_id(const Guest *g, size_t gpu, const char *prefix, char **ret);
