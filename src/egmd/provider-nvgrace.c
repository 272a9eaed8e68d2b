/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "dmabuf-export.h"
#include "fd-util.h"
#include "provider.h"

#define EGM_RETIRED_PAGES_LIST _IO('E', 100)

typedef struct NvgraceProvider {
        Provider provider;
        dev_t devnum;
} NvgraceProvider;

static int nvgrace_check_file(Provider *p, const struct stat *st) {
        const NvgraceProvider *n = CONTAINER_OF(p, NvgraceProvider, provider);

        return S_ISCHR(st->st_mode) && st->st_rdev == n->devnum ? 0 : -ENODEV;
}

static int nvgrace_open_file(Provider *p, int *ret_fd) {
        _cleanup_close_ int path_fd = -EBADF;
        char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        struct stat st;
        int fd, r;

        /* Opening wipes whatever device this is: look first, then open what was looked at. */
        path_fd = open(p->path, O_PATH | O_CLOEXEC);
        if (path_fd < 0)
                return -errno;
        if (fstat(path_fd, &st) < 0)
                return -errno;
        r = nvgrace_check_file(p, &st);
        if (r < 0)
                return r;
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", path_fd);
        fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

static int nvgrace_identify(Provider *p, struct stat *ret) {
        if (stat(p->path, ret) < 0)
                return -errno;
        return S_ISCHR(ret->st_mode) ? 0 : -ENODEV;
}

static int nvgrace_list_call(Provider *p, void *buffer) {
        int r = ioctl(p->fd, EGM_RETIRED_PAGES_LIST, buffer);

        return r < 0 ? -errno : r;
}

static int nvgrace_export_call(Provider *p, void *buffer) {
        int r = ioctl(p->fd, EGM_EXPORT_DMABUF, buffer);

        return r < 0 ? -errno : r;
}

static void *nvgrace_mmap(Provider *p, uint64_t offset, size_t size, int prot) {
        return mmap(NULL, size, prot, MAP_SHARED, p->fd, (off_t) offset);
}

static const ProviderVTable nvgrace_vtable = {
                .name = "nvgrace-egm",
                .has_node = true,
                .open_file = nvgrace_open_file,
                .identify = nvgrace_identify,
                .check_file = nvgrace_check_file,
                .list_call = nvgrace_list_call,
                .export_call = nvgrace_export_call,
                .mmap = nvgrace_mmap,
};

int provider_nvgrace_new(const char *name, const char *path, dev_t devnum, uint64_t size,
                         Provider **ret) {
        _cleanup_free_ NvgraceProvider *n = NULL;
        int r;

        assert(ret);

        n = malloc(sizeof(*n));
        if (!n)
                return -ENOMEM;
        r = provider_init(&n->provider, &nvgrace_vtable, name, path, size);
        if (r < 0)
                return r;
        n->devnum = devnum;
        *ret = &TAKE_PTR(n)->provider;
        return 0;
}
