/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "ranges.h"

/* A region's memory behind one open file: the real driver in all its versions, or memfds that behave like it.
 *
 * A provider is used by one thread at a time for open/adopt/probe (a worker), afterwards map/unmap and
 * retired may be called from several threads at once. */

typedef struct Provider Provider;

typedef struct Window {
        void *address; /* of the byte at the offset asked for */
        size_t size;   /* the size asked for */
        void *base;    /* what munmap() wants; private to the provider */
        size_t base_size;
} Window;

typedef struct ProviderVTable {
        const char *name; /* "nvgrace-egm", "sim" */
        int (*open_file)(Provider *p, int *ret_fd);
        /* One call of the retired-page list ioctl on p->fd: 0 or -errno, like ioctl(2). */
        int (*list_call)(Provider *p, void *buffer);
        void *(*mmap)(Provider *p, uint64_t offset, size_t size, int prot);
        void (*free)(Provider *p);
} ProviderVTable;

struct Provider {
        const ProviderVTable *vtable;
        char *name;       /* "egm4" */
        char *path;       /* "/dev/egm4" */
        uint64_t size;    /* bytes, as sysfs says */
        uint64_t granule; /* the larger of page size and 64 KiB */
        int fd;           /* -EBADF until open */
        bool offsets;     /* mmap offsets are honoured; proven by the probe */
        bool has_list;    /* the list ioctl exists */
        /* How to recognise the open file's mappings and descriptors in /proc. */
        dev_t rdev; /* of a char device, 0 for sim */
        dev_t dev;
        ino_t ino;
};

Provider *provider_free(Provider *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Provider *, provider_free)

/* Blocking, up to minutes: opens, makes sure the file is usable, proves offsets. For a worker thread.
 * -EBUSY: somebody else holds the region (open refused, or the file is useless); -EINTR; other errnos as
 * the kernel gives them. On success fd, offsets, has_list, rdev, dev, ino are set. idle: nobody else can
 * have it mapped, so probing may write. */
int provider_open(Provider *p);
/* The same with a descriptor from before a restart; consumes fd, also on failure. offsets is what was proven
 * then: the region is not idle, nothing is written. */
int provider_adopt(Provider *p, int fd, bool offsets);
void provider_close(Provider *p);

/* The retired pages: rounded out to the granule (at least 64 KiB), clipped to the region, sorted, merged.
 * Empty where the driver has no list. -ENOTTY never gets out. */
int provider_retired(Provider *p, Ranges *ret);

/* Maps [offset, offset + size), never past p->size (-ERANGE). Where offsets are ignored it maps from 0 and
 * gives the address inside: dear, see docs/architecture.md. */
int provider_map(Provider *p, uint64_t offset, size_t size, bool writable, Window *ret);
void provider_unmap(Provider *p, Window *w);

/* nvgrace-egm: devnode "/dev/egm4". */
int provider_nvgrace_new(const char *name, const char *path, uint64_t size, Provider **ret);
