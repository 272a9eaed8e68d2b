/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "ranges.h"

/* A region's memory behind one open file: the real driver in all its versions, or memfds that
 * behave like it.
 *
 * A provider is used by one thread at a time for open/probe/adopt/close (a worker), in between
 * map/unmap and retired may be called from several threads at once. */

typedef struct Provider Provider;

typedef struct Window {
        void *address; /* of the byte at the offset asked for */
        size_t size;   /* the size asked for */
        void *base;    /* what munmap() wants; private to the provider */
        size_t base_size;
} Window;

typedef struct ProviderVTable {
        const char *name; /* "nvgrace-egm", "sim" */
        bool has_node;    /* the path is a device node's */
        int (*open_file)(Provider *p, int *ret_fd);
        /* How the files of whoever has the device can be told, without opening it. -ENOENT: not at all, or nobody
         * can have it; NULL: the same. */
        int (*identify)(Provider *p, struct stat *ret);
        /* 0 when an open file can be this region's: type, device number. */
        int (*check_file)(Provider *p, const struct stat *st);
        /* One call of the retired-page list ioctl on p->fd: what ioctl(2) returns, or -errno. */
        int (*list_call)(Provider *p, void *buffer);
        /* One call of the ioctl that exports a dma-buf (dmabuf-export.h): what ioctl(2) returns, or -errno. NULL: there is none. */
        int (*export_call)(Provider *p, void *buffer);
        /* mmap(2) of p->fd, shared; MAP_FAILED and errno. */
        void *(*mmap)(Provider *p, uint64_t offset, size_t size, int prot);
        void (*free)(Provider *p); /* what the implementation added; may be NULL */
} ProviderVTable;

/* Implementations begin with one of these, from malloc(). */
struct Provider {
        const ProviderVTable *vtable;
        char *name;       /* "egm4" */
        char *path;       /* "/dev/egm4" */
        uint64_t size;    /* bytes, as sysfs says */
        uint64_t granule; /* provider_granule() */
        int fd;           /* -EBADF until open */
        bool offsets;     /* mmap offsets are honoured; proven by the probe */
        bool has_list;    /* the list ioctl exists */
        bool exports;     /* dma-bufs */
        /* How to recognise the open file's mappings and descriptors in /proc. */
        dev_t rdev; /* of a char device, 0 for sim */
        dev_t dev;
        ino_t ino;

        _Atomic bool odd_list_logged;
};

/* The larger of the page size and 64 KiB, the unit in which firmware retires memory. */
uint64_t provider_granule(void);

/* For implementations: fills an empty p. size must be in [granule, INT64_MAX], else -ERANGE. */
int provider_init(Provider *p, const ProviderVTable *vtable, const char *name, const char *path,
                  uint64_t size);
/* Closes as well. */
Provider *provider_free(Provider *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Provider *, provider_free)

/* Blocking, up to minutes: opens and makes sure that the file is usable; writes nothing. For a
 * worker thread. -EBUSY: somebody else holds the region (open refused, or the file is useless);
 * -EINTR; -ENODEV: not the device that it should be; other errnos as the kernel gives them. On
 * success fd, has_list, exports, rdev, dev, ino are set, and offsets is false until provider_probe() has
 * proven it. */
int provider_open(Provider *p);
/* Proves whether mmap offsets work, by writing to a few pages (and putting back what was there):
 * only while nobody else can have the region open or mapped. That provider_open() went well does
 * not say so: drivers S2 and S3 let a second opener in without a sign, so look for holders in
 * between. Not being able to prove it is no error, it leaves offsets false; an error is what
 * says nothing about offsets (-ENOMEM…). */
int provider_probe(Provider *p);
/* Instead of both: a descriptor from before a restart; consumes fd, also on failure. offsets is
 * what was proven then: the region is not idle, nothing is written. */
int provider_adopt(Provider *p, int fd, bool offsets);
void provider_close(Provider *p);
/* Without opening it: the type, number and inode by which anybody's open files of the device are recognised. -ENOENT: there is
 * nothing that could be open; -ENODEV: the path leads to something else. */
int provider_identify(Provider *p, struct stat *ret);
/* Gives the node to a user, who can open it then; its mode stays. *ret_before (may be NULL): whose it was. -EOPNOTSUPP: there is no
 * node; -ENODEV: it is another device's by now. */
int provider_give_node(Provider *p, uid_t uid, uid_t *ret_before);
/* Closes the file, so that somebody else can open the device, and keeps a descriptor of the node alone (O_PATH) instead: nothing can be
 * mapped or asked through it, but the device is still recognised. Not necessarily open before. On failure nothing has changed. */
int provider_step_aside(Provider *p);

/* The retired pages: rounded out to the granule, clipped to the region, sorted, merged. Empty
 * where the driver has no list. -ENOTTY never gets out. -EBADMSG: the driver's answer makes no
 * sense, -E2BIG: it is too large to be true, -EAGAIN: it did not stop growing. */
int provider_retired(Provider *p, Ranges *ret);

/* Maps [offset, offset + size), never past p->size (-ERANGE). Where offsets are ignored it maps
 * from 0 and gives the address inside: dear, see docs/architecture.md. */
int provider_map(Provider *p, uint64_t offset, size_t size, bool writable, Window *ret);
void provider_unmap(Provider *p, Window *w);

/* For provider_open() and provider_adopt(): changes nothing. */
bool provider_probe_exports(Provider *p);
/* A dma-buf of exactly these ranges (some), which are inside the region. -EOPNOTSUPP: its driver has none. */
int provider_export(Provider *p, const Ranges *what, int *ret_fd);

/* nvgrace-egm: path "/dev/egm4", a char device with that number. */
int provider_nvgrace_new(const char *name, const char *path, dev_t devnum, uint64_t size,
                         Provider **ret);
