/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "fd-util.h"
#include "log.h"
#include "provider.h"
#include "retired-list.h"

/* What may be added to the list between two calls before a third is needed. */
#define LIST_SLACK 64U
#define LIST_CALLS_MAX 16U

uint64_t provider_granule(void) {
        return MAX((uint64_t) sysconf(_SC_PAGESIZE), 64 * KIB);
}

int provider_init(Provider *p, const ProviderVTable *vtable, const char *name, const char *path,
                  uint64_t size) {
        _cleanup_free_ char *n = NULL, *f = NULL;

        assert(p);
        assert(vtable);
        assert(name);
        assert(path);

        if (size < provider_granule() || size > INT64_MAX)
                return -ERANGE;
        n = strdup(name);
        f = strdup(path);
        if (!n || !f)
                return -ENOMEM;
        *p = (Provider){
                        .vtable = vtable,
                        .name = TAKE_PTR(n),
                        .path = TAKE_PTR(f),
                        .size = size,
                        .granule = provider_granule(),
                        .fd = -EBADF,
        };
        return 0;
}

Provider *provider_free(Provider *p) {
        if (!p)
                return NULL;
        provider_close(p);
        if (p->vtable->free)
                p->vtable->free(p);
        free(p->name);
        free(p->path);
        return mfree(p);
}

void provider_close(Provider *p) {
        assert(p);

        p->fd = safe_close(p->fd);
        p->offsets = p->has_list = p->exports = false;
        p->rdev = p->dev = 0;
        p->ino = 0;
}

static int provider_list_call(Provider *p, void *buffer) {
        int r = p->vtable->list_call(p, buffer);

        /* One driver forwards what copy_to_user() left over. */
        return r > 0 ? -EFAULT : r;
}

/* Some drivers let a second opener in and give him a file without anything behind it, whose mmap
 * some of them don't survive: the kernel crashes. So the ioctl has the first word, and without
 * it a read-only page. */
static int provider_check_usable(Provider *p) {
        RetiredListHeader header = {.argsz = sizeof(header)};
        size_t page = (size_t) sysconf(_SC_PAGESIZE);
        void *m;
        int r;

        r = provider_list_call(p, &header);
        if (r == -EINVAL)
                return -EBUSY;
        p->has_list = r >= 0;
        if (r != -ENOTTY)
                return r;

        m = p->vtable->mmap(p, 0, page, PROT_READ);
        if (m == MAP_FAILED)
                return errno == EINVAL ? -EBUSY : -errno;
        (void) munmap(m, page);
        return 0;
}

static int provider_set_file(Provider *p, int fd) {
        struct stat st;
        int r;

        p->fd = fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        r = p->vtable->check_file(p, &st);
        if (r < 0)
                return r;
        r = provider_check_usable(p);
        if (r < 0)
                return r;
        p->exports = provider_probe_exports(p);
        p->rdev = S_ISCHR(st.st_mode) ? st.st_rdev : 0;
        p->dev = st.st_dev;
        p->ino = st.st_ino;
        return 0;
}

int provider_open(Provider *p) {
        int fd = -EBADF, r;

        assert(p);
        assert(p->fd < 0);

        r = p->vtable->open_file(p, &fd);
        if (r < 0)
                return r;
        r = provider_set_file(p, fd);
        if (r < 0)
                provider_close(p);
        return r;
}

int provider_adopt(Provider *p, int fd, bool offsets) {
        int r;

        assert(p);
        assert(p->fd < 0);
        assert(fd >= 0);

        r = provider_set_file(p, fd);
        if (r < 0) {
                provider_close(p);
                return r;
        }
        p->offsets = offsets;
        return 0;
}

int provider_identify(Provider *p, struct stat *ret) {
        assert(p);
        assert(ret);

        return p->vtable->identify ? p->vtable->identify(p, ret) : -ENOENT;
}

/* The node itself, without opening the device. */
static int provider_find_node(const Provider *p, int *ret_fd, struct stat *ret) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!p->vtable->has_node)
                return -EOPNOTSUPP;
        fd = open(p->path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (fstat(fd, ret) < 0)
                return -errno;
        r = p->vtable->check_file((Provider *) p, ret);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int provider_give_node(Provider *p, uid_t uid, uid_t *ret_before) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st = {};
        int r;

        assert(p);

        r = provider_find_node(p, &fd, &st);
        if (r < 0)
                return r;
        if (st.st_uid != uid && fchownat(fd, "", uid, (gid_t) -1, AT_EMPTY_PATH) < 0)
                return -errno;
        if (ret_before)
                *ret_before = st.st_uid;
        return 0;
}

int provider_step_aside(Provider *p) {
        struct stat st = {};
        int fd = -EBADF, r;

        assert(p);

        r = provider_find_node(p, &fd, &st);
        if (r < 0)
                return r;
        provider_close(p);
        p->fd = fd;
        p->rdev = st.st_rdev;
        p->dev = st.st_dev;
        p->ino = st.st_ino;
        return 0;
}

static void log_odd_list(Provider *p, const RetiredReply *reply) {
        if (reply->foreign == 0 && reply->odd == 0)
                return;
        if (atomic_exchange(&p->odd_list_logged, true))
                return;
        log_notice("%s: of %zu retired pages that the driver lists, %zu are outside the region "
                   "(passed over) "
                   "and %zu have an odd size",
                   p->name, reply->count, reply->foreign, reply->odd);
}

/* The room for the next call, or 0 when this answer is the last word. *shrunk is the number of
 * entries of the last answer that was cut, perhaps: said twice, with ever more room, it is the
 * truth. */
static int next_room(const RetiredReply *reply, size_t room, size_t *shrunk, size_t *ret) {
        size_t most = retired_list_size((RETIRED_LIST_SIZE_MAX - sizeof(RetiredListHeader)) /
                                        sizeof(RetiredListEntry));
        size_t slack = LIST_SLACK * sizeof(RetiredListEntry);

        switch (reply->verdict) {
        case RETIRED_COMPLETE:
                *ret = 0;
                return 0;
        case RETIRED_SHRUNK:
                if (*shrunk == reply->count) {
                        *ret = 0;
                        return 0;
                }
                *shrunk = reply->count;
                *ret = MIN(room + slack, most);
                return 0;
        case RETIRED_FULL:
                if (room == most)
                        return -E2BIG;
                *ret = MIN(2 * room - sizeof(RetiredListHeader), most);
                return 0;
        case RETIRED_GROWN:
                *ret = MIN(reply->need + slack, most);
                return *ret > room ? 0 : -E2BIG;
        }
        assert(false);
        return -EINVAL;
}

int provider_retired(Provider *p, Ranges *ret) {
        _cleanup_free_ RetiredListHeader *buffer = NULL;
        size_t room = sizeof(*buffer), shrunk = SIZE_MAX;
        RetiredReply reply;
        int r;

        assert(p);
        assert(ret);

        if (p->fd < 0)
                return -EBADF;
        if (!p->has_list) {
                *ret = (Ranges){};
                return 0;
        }
        for (unsigned i = 0; i < LIST_CALLS_MAX; i++) {
                _cleanup_ranges_ Ranges list = {};

                free(buffer);
                buffer = calloc(1, room);
                if (!buffer)
                        return -ENOMEM;
                buffer->argsz = (uint32_t) room;
                r = provider_list_call(p, buffer);
                if (r < 0)
                        return r == -ENOTTY ? -EBADMSG : r; /* it was there before */
                r = retired_list_parse(buffer, room, p->size, p->granule, &list, &reply);
                if (r < 0)
                        return r;
                log_odd_list(p, &reply);
                r = next_room(&reply, room, &shrunk, &room);
                if (r < 0)
                        return r;
                if (room == 0) {
                        *ret = TAKE_GENERIC(list, Ranges, (Ranges){});
                        return 0;
                }
        }
        return -EAGAIN;
}

int provider_map(Provider *p, uint64_t offset, size_t size, bool writable, Window *ret) {
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE), start, end;
        char *base;

        assert(p);
        assert(ret);

        if (p->fd < 0)
                return -EBADF;
        if (size == 0 || __builtin_add_overflow(offset, size, &end) || end > p->size)
                return -ERANGE;
        start = p->offsets ? align_down(offset, page) : 0;
        base = p->vtable->mmap(p, start, end - start, PROT_READ | (writable ? PROT_WRITE : 0));
        if (base == MAP_FAILED)
                return -errno;
        *ret = (Window){
                        .address = base + (offset - start),
                        .size = size,
                        .base = base,
                        .base_size = end - start,
        };
        return 0;
}

void provider_unmap(Provider *p, Window *w) {
        assert(p);
        assert(w);

        if (w->base)
                (void) munmap(w->base, w->base_size);
        *w = (Window){};
}
