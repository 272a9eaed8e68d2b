/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "egm-names.h"
#include "fd-util.h"
#include "properties.h"

static void lease_free(egm_lease *l) {
        for (size_t i = 0; i < l->n_slices; i++) {
                safe_close(l->slices[i].fd);
                free(l->slices[i].region);
                free(l->slices[i].retired);
        }
        free(l->slices);
        safe_close(l->lifetime_fd);
        free(l->path);
        egm_connection_unref(l->connection);
        free(l);
}

DEFINE_REF_UNREF(egm_lease, lease_free)

int lease_new(egm_connection *c, const char *path, egm_lease **ret) {
        _cleanup_egm_(lease) egm_lease *l = NULL;

        l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->n_ref = 1;
        l->origin = getpid();
        l->lifetime_fd = -EBADF;
        l->connection = egm_connection_ref(c);
        l->path = strdup(path);
        if (!l->path)
                return -ENOMEM;
        l->id = name_from_path(EGM_LEASE_PATH, l->path);
        if (!l->id)
                return -EBADMSG;
        *ret = TAKE_PTR(l);
        return 0;
}

int lease_add_slice(egm_lease *l, const char *region, int fd, uint64_t offset, uint64_t size) {
        _cleanup_close_ int copy = fd;
        _cleanup_free_ char *name = NULL;
        LeaseSlice *t;

        name = strdup(region);
        if (!name)
                return -ENOMEM;
        t = reallocarray(l->slices, l->n_slices + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        l->slices = t;
        l->slices[l->n_slices++] = (LeaseSlice){
                        .region = TAKE_PTR(name),
                        .fd = TAKE_FD(copy),
                        .offset = offset,
                        .size = size,
        };
        return 0;
}

/* ---- What the daemon says ---- */

int lease_read_descriptors(egm_lease *l, sd_bus_message *m) {
        int fd, r;

        r = sd_bus_message_read_basic(m, 'h', &fd);
        if (r < 0)
                return r;
        l->lifetime_fd = fd_copy(fd);
        if (l->lifetime_fd < 0)
                return l->lifetime_fd;
        r = sd_bus_message_enter_container(m, 'a', "(shtt)");
        if (r < 0)
                return r;
        for (;;) {
                uint64_t offset, size;
                const char *region;

                r = sd_bus_message_read(m, "(shtt)", &region, &fd, &offset, &size);
                if (r <= 0)
                        break;
                fd = fd_copy(fd);
                if (fd < 0)
                        return fd;
                r = lease_add_slice(l, region, fd, offset, size);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static bool slice_fd_is_good(const LeaseSlice *s) {
        struct stat st;
        int flags;

        if (fstat(s->fd, &st) < 0)
                return false;
        /* A simulated region is a file; past its end there is only SIGBUS. */
        if (S_ISREG(st.st_mode) && (uint64_t) st.st_size < s->offset + s->size)
                return false;
        if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
                return false;
        flags = fcntl(s->fd, F_GETFL);
        if (flags < 0)
                return false;
        /* Of a region that was handed over by path: the node alone. */
        return flags & O_PATH ? S_ISCHR(st.st_mode) : (flags & O_ACCMODE) == O_RDWR;
}

static bool slice_is_good(const LeaseSlice *s) {
        uint64_t end, page = (uint64_t) sysconf(_SC_PAGESIZE);

        return name_is_valid(s->region) && s->size > 0 &&
               !__builtin_add_overflow(s->offset, s->size, &end) && end <= INT64_MAX &&
               s->offset % page == 0 && s->size % page == 0 && slice_fd_is_good(s);
}

static bool slices_overlap(const LeaseSlice *a, const LeaseSlice *b) {
        return streq(a->region, b->region) && a->offset < b->offset + b->size &&
               b->offset < a->offset + a->size;
}

static bool slice_is_as_asked(const LeaseSlice *s, const RequestSlice *q) {
        return (q->whole || s->size == q->size) && (!q->region || streq(s->region, q->region));
}

int lease_check(egm_lease *l, egm_request *request) {
        struct stat st;

        if (l->n_slices == 0 || (request && request->n_slices != l->n_slices))
                return -EBADMSG;
        if (fstat(l->lifetime_fd, &st) < 0 || (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)))
                return -EBADMSG;
        for (size_t i = 0; i < l->n_slices; i++) {
                if (!slice_is_good(l->slices + i))
                        return -EBADMSG;
                if (request && !slice_is_as_asked(l->slices + i, request->slices + i))
                        return -EBADMSG;
                for (size_t j = 0; j < i; j++)
                        if (slices_overlap(l->slices + i, l->slices + j))
                                return -EBADMSG;
        }
        return 0;
}

static int slice_set_retired(LeaseSlice *s, const Table *t) {
        _cleanup_free_ uint64_t *ranges = NULL;
        size_t n = 0;

        ranges = calloc(t->n_rows + 1, 2 * sizeof(*ranges));
        if (!ranges)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_rows; i++) {
                uint64_t offset = table_number(t, i, 1), size = table_number(t, i, 2);
                uint64_t begin, end;

                if (__builtin_add_overflow(offset, size, &end))
                        return -EBADMSG;
                begin = MAX(offset, s->offset);
                end = MIN(end, s->offset + s->size);
                if (!streq(table_string(t, i, 0), s->region) || begin >= end)
                        continue;
                ranges[2 * n] = begin - s->offset;
                ranges[2 * n + 1] = end - begin;
                n++;
        }
        free(s->retired);
        s->retired = TAKE_PTR(ranges);
        s->n_retired = n;
        s->retired_known = true;
        return 0;
}

int lease_read_retired(egm_lease *l, sd_bus_message *m) {
        _cleanup_(table_done) Table t = {};
        int r;

        r = sd_bus_message_enter_container(m, 'v', "a(stt)");
        if (r < 0)
                return bad_message(r);
        r = table_read(m, "stt", &t);
        if (r < 0)
                return bad_message(r);
        for (size_t i = 0; i < l->n_slices; i++) {
                r = slice_set_retired(l->slices + i, &t);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- Getters ---- */

_public_ const char *egm_lease_get_id(egm_lease *l) {
        return l ? l->id : NULL;
}

_public_ const char *egm_lease_get_path(egm_lease *l) {
        return l ? l->path : NULL;
}

_public_ int egm_lease_get_lifetime_fd(egm_lease *l) {
        return l ? l->lifetime_fd : -EINVAL;
}

_public_ int egm_lease_take_lifetime_fd(egm_lease *l) {
        return l ? TAKE_FD(l->lifetime_fd) : -EINVAL;
}

_public_ size_t egm_lease_count_slices(egm_lease *l) {
        return l ? l->n_slices : 0;
}

_public_ int egm_lease_get_slice(egm_lease *l, size_t slice, const char **ret_region, int *ret_fd,
                                 uint64_t *ret_offset, uint64_t *ret_size) {
        const LeaseSlice *s;

        if (!l || slice >= l->n_slices)
                return -EINVAL;
        s = l->slices + slice;
        if (ret_region)
                *ret_region = s->region;
        if (ret_fd)
                *ret_fd = s->fd;
        if (ret_offset)
                *ret_offset = s->offset;
        if (ret_size)
                *ret_size = s->size;
        return 0;
}

_public_ int egm_lease_take_slice_fd(egm_lease *l, size_t slice) {
        return l && slice < l->n_slices ? TAKE_FD(l->slices[slice].fd) : -EINVAL;
}

_public_ int egm_lease_count_retired_ranges(egm_lease *l, size_t slice) {
        if (!l || slice >= l->n_slices)
                return -EINVAL;
        return l->slices[slice].retired_known ? (int) l->slices[slice].n_retired : -ENODATA;
}

_public_ int egm_lease_get_retired_range(egm_lease *l, size_t slice, size_t i, uint64_t *ret_offset,
                                         uint64_t *ret_size) {
        const LeaseSlice *s;

        if (!l || slice >= l->n_slices)
                return -EINVAL;
        s = l->slices + slice;
        if (i >= s->n_retired)
                return -EINVAL;
        if (ret_offset)
                *ret_offset = s->retired[2 * i];
        if (ret_size)
                *ret_size = s->retired[2 * i + 1];
        return 0;
}

/* ---- Mapping ---- */

/* Nobody has refused it: there was nobody. Where systemd was to start the daemon, it says so. */
static bool is_away(const egm_lease *l, int r) {
        const char *name = egm_connection_get_error_name(l->connection);

        return r == -EHOSTUNREACH || r == -ENOTCONN || r == -ECONNRESET || r == -ETIMEDOUT ||
               (name && strncmp(name, "org.freedesktop.systemd1.", 25) == 0);
}

/* Where the kernel keeps holders to their leases, a process has to be admitted first. Whether it has to be is found out by
 * trying: most need not, or are already. */
static void *map_slice(egm_lease *l, const LeaseSlice *s, uint64_t offset, size_t size, int prot,
                       int flags) {
        _cleanup_close_ int pidfd = -EBADF;
        void *p;
        int r;

        /* lease_check() made sure that the sum is below 2^63. */
        p = mmap(NULL, size, prot, flags, s->fd, (off_t) (s->offset + offset));
        if (p != MAP_FAILED || errno != EACCES || !l->connection)
                return p;
        pidfd = pidfd_open(getpid(), 0);
        r = pidfd < 0 ? -errno : egm_lease_admit(l, pidfd);
        if (r < 0) {
                /* What may be otherwise in a moment is told from what will not. */
                errno = is_away(l, r) ? EHOSTUNREACH : EACCES;
                return MAP_FAILED;
        }
        return mmap(NULL, size, prot, flags, s->fd, (off_t) (s->offset + offset));
}

_public_ int egm_lease_map(egm_lease *l, size_t slice, uint64_t offset, uint64_t size, int prot,
                           int flags, void **ret) {
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
        const LeaseSlice *s;
        void *p;

        if (!l || slice >= l->n_slices || !ret)
                return -EINVAL;
        if (l->origin != getpid())
                return -ECHILD;
        if ((prot & ~(PROT_READ | PROT_WRITE)) != 0 || prot == PROT_NONE)
                return -EINVAL;
        if ((flags & ~(MAP_SHARED | MAP_POPULATE)) != 0)
                return -EINVAL;
        if (size == 0 || size % page != 0 || offset % page != 0)
                return -EINVAL;
        s = l->slices + slice;
        if (offset > s->size || size > s->size - offset)
                return -ERANGE;
        if (size > SIZE_MAX)
                return -EOVERFLOW;
        if (s->fd < 0)
                return -EBADF;
        p = map_slice(l, s, offset, (size_t) size, prot, MAP_SHARED | flags);
        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}
