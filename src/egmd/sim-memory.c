/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/mman.h>

#include "fd-util.h"
#include "sim-memory.h"

struct SimMemory {
        unsigned n_refs;
        int fd;
};

int sim_memory_new(SimMemory **ret) {
        SimMemory *m;

        assert(ret);

        m = malloc(sizeof(*m));
        if (!m)
                return -ENOMEM;
        *m = (SimMemory){.n_refs = 1, .fd = -EBADF};
        *ret = m;
        return 0;
}

SimMemory *sim_memory_ref(SimMemory *m) {
        assert(m);
        assert(m->n_refs > 0);

        m->n_refs++;
        return m;
}

SimMemory *sim_memory_unref(SimMemory *m) {
        if (!m)
                return NULL;
        assert(m->n_refs > 0);
        if (--m->n_refs > 0)
                return NULL;
        safe_close(m->fd);
        return mfree(m);
}

int sim_memory_fd(const SimMemory *m) {
        assert(m);
        return m->fd;
}

/* The seals stand for what cannot be done to a device either. */
static int make_file(const char *name, uint64_t size, int *ret) {
        _cleanup_close_ int fd = -EBADF;

        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t) size) < 0)
                return -errno;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        *ret = TAKE_FD(fd);
        return 0;
}

int sim_memory_clear(SimMemory *m, const char *name, uint64_t size) {
        struct stat st;
        int fd = -EBADF, r;

        assert(m);
        assert(name);

        if (m->fd >= 0 && fstat(m->fd, &st) >= 0 && (uint64_t) st.st_size == size)
                return fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                 (off_t) size) < 0
                                       ? -errno
                                       : 0;
        r = make_file(name, size, &fd);
        if (r < 0)
                return r;
        safe_close(m->fd);
        m->fd = fd;
        return 0;
}

void sim_memory_adopt(SimMemory *m, int fd) {
        assert(m);
        assert(fd >= 0);

        if (m->fd < 0)
                m->fd = fd_copy(fd);
}
