/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>

#include "dmabuf-export.h"
#include "fd-util.h"
#include "provider.h"

/* Does the driver export dma-bufs? Asked for a range whose end no number can hold: the one driver known to export says EOVERFLOW, all
 * others know no such call, and nothing has changed in either. Any other answer is not one to build on. */
bool provider_probe_exports(Provider *p) {
        union {
                DmabufExport head;
                char room[sizeof(DmabufExport) + sizeof(DmabufRange)];
        } call = {.head = {.argsz = sizeof(call), .nr_ranges = 1}};

        assert(p);
        assert(p->fd >= 0);

        call.head.ranges[0] = (DmabufRange){UINT64_C(0xFFFFFFFFFFFF0000), 64 * KIB};
        return p->vtable->export_call && p->vtable->export_call(p, &call.head) == -EOVERFLOW;
}

int provider_export(Provider *p, const Ranges *what, int *ret_fd) {
        _cleanup_free_ DmabufExport *call = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t size, n = 0;

        assert(p);
        assert(what);
        assert(what->n > 0);
        assert(ret_fd);

        if (p->fd < 0)
                return -EBADF;
        if (!p->exports)
                return -EOPNOTSUPP;
        size = sizeof(*call) + what->n * sizeof(call->ranges[0]);
        if (size > UINT32_MAX)
                return -E2BIG;
        call = calloc(1, size);
        if (!call)
                return -ENOMEM;
        *call = (DmabufExport){.argsz = (uint32_t) size,
                               .nr_ranges = (uint32_t) what->n,
                               .open_flags = O_RDWR | O_CLOEXEC};
        RANGES_FOREACH (i, what) {
                assert(i->offset < p->size && i->size <= p->size - i->offset);
                call->ranges[n++] = (DmabufRange){i->offset, i->size};
        }
        fd = p->vtable->export_call(p, call);
        if (fd < 0)
                return fd;
        /* More than asked for would be somebody else's memory. */
        if (lseek(fd, 0, SEEK_END) != (off_t) ranges_bytes(what))
                return -EBADMSG;
        *ret_fd = TAKE_FD(fd);
        return 0;
}
