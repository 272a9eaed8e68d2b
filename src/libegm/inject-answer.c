/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/syscall.h>

#include "inject.h"

static const InjectAnswer leave_it = {.kind = INJECT_CONTINUE};

static InjectAnswer refuse(int r) {
        return (InjectAnswer){.kind = INJECT_VALUE, .value = r};
}

/* ---- Opens ---- */

typedef struct OpenCall {
        int dir_fd;
        uint64_t path;
        uint64_t flags;
} OpenCall;

static int read_open(const Peer *peer, const struct seccomp_data *d, OpenCall *ret) {
        struct open_how how;
        int r;

#ifdef SYS_open
        if (d->nr == SYS_open) {
                *ret = (OpenCall){AT_FDCWD, d->args[0], (uint32_t) d->args[1]};
                return 0;
        }
#endif
        *ret = (OpenCall){(int) d->args[0], d->args[1], (uint32_t) d->args[2]};
        if (d->nr != SYS_openat2)
                return 0;
        r = peer_read(peer, d->args[2], &how, sizeof(how));
        if (r >= 0)
                ret->flags = how.flags;
        return r;
}

static int find_slice(egm_inject *i, const Peer *peer, const OpenCall *call, InjectSlice **ret) {
        _cleanup_free_ char *said = NULL;
        char path[PATH_MAX];
        int r;

        r = peer_read_string(peer, call->path, path, sizeof(path));
        if (r < 0)
                return r;
        r = peer_resolve(peer, call->dir_fd, path, &said);
        if (r < 0)
                return r;
        for (size_t k = 0; k < i->n_slices; k++)
                if (inject_path_matches(i->slices[k].path, said)) {
                        *ret = i->slices + k;
                        return 0;
                }
        return -ENOENT;
}

/* egmd closes the other end of the pipe, or removes the FIFO, when it has forgotten the lease; one that still drains is only
 * known to whoever asks egmd. */
static bool lease_is_gone(egm_inject *i) {
        struct pollfd p = {.fd = i->lifetime_fd};
        struct stat st;

        return (poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP))) ||
               (fstat(i->lifetime_fd, &st) >= 0 && st.st_nlink == 0);
}

static int may_have(egm_inject *i, const InjectSlice *s) {
        int r = 0;

        if (lease_is_gone(i))
                r = -ENODEV;
        else if (i->callback)
                r = i->callback(i, (size_t) (s - i->slices), i->userdata);
        if (r == -ENODEV)
                (void) inject_say(i, r, "Lease %s has ended: its memory is not to be had any more",
                                  i->lease);
        else if (r < 0)
                (void) inject_say(i, r, "%s is not handed out: %s", s->path, strerror(-r));
        return r;
}

static InjectAnswer give(egm_inject *i, const Peer *peer, const InjectSlice *s, int at_least,
                         int flags) {
        unsigned first = inject_first_fd(i, s);
        int r;

        r = may_have(i, s);
        if (r < 0)
                return refuse(r);
        for (unsigned n = first; n < first + INJECT_FDS_MAX; n++)
                if ((int) n >= at_least && peer_fd_is(peer, (int) n, &s->file) == -EBADF)
                        return (InjectAnswer){INJECT_FD, (int) n, s, flags};
        return refuse(inject_say(i, -EMFILE, "%s is open %d times in process %d; that is the limit",
                                 s->path, INJECT_FDS_MAX, peer->tid));
}

static InjectAnswer answer_open(egm_inject *i, Peer *peer, const struct seccomp_data *d) {
        InjectSlice *s;
        OpenCall call;
        int r;

        r = peer_open_memory(peer);
        if (r < 0) {
                if (!i->blind && r != -ENOENT)
                        (void) inject_say(i, r, "Cannot look at what process %d opens: %s",
                                          peer->tid, strerror(-r));
                i->blind = true;
                return leave_it;
        }
        /* What cannot be read is no path of ours. */
        if (read_open(peer, d, &call) < 0 || find_slice(i, peer, &call, &s) < 0 ||
            (call.flags & O_PATH))
                return leave_it;
        if ((call.flags & O_ACCMODE) != O_RDWR)
                return refuse(inject_say(i, -EACCES,
                                         "%s was opened for %s only; it is memory, to be opened "
                                         "for reading and writing",
                                         s->path,
                                         (call.flags & O_ACCMODE) == O_RDONLY ? "reading"
                                                                              : "writing"));
        if (call.flags & O_DIRECTORY)
                return refuse(-ENOTDIR);
        if ((call.flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
                /* Not EEXIST: QEMU takes that for a race, and tries for ever. */
                return refuse(inject_say(i, -EACCES,
                                         "%s was to be created; it is memory, to be opened for "
                                         "reading and writing",
                                         s->path));
        /* Whatever the program starts must not keep the memory. */
        return give(i, peer, s, 0, O_CLOEXEC);
}

/* ---- Calls on leased descriptors ---- */

static InjectAnswer answer_retired(const InjectSlice *s, Peer *peer, uint64_t address) {
        struct {
                uint32_t argsz;
                uint32_t count;
        } header;
        uint64_t size = sizeof(header) + s->n_pages * sizeof(*s->pages);
        int r;

        r = peer_open_memory(peer);
        if (r >= 0)
                r = peer_read(peer, address, &header, sizeof(header));
        if (r < 0)
                return refuse(r);
        if (header.argsz < sizeof(header))
                return refuse(-EINVAL);
        /* As the driver: a buffer that is too short is no error, and gets nothing but the size. */
        if (header.argsz < size) {
                header.argsz = (uint32_t) size;
                header.count = 0;
        } else {
                header.count = (uint32_t) s->n_pages;
                if (s->n_pages > 0)
                        r = peer_write(peer, address + sizeof(header), s->pages,
                                       s->n_pages * sizeof(*s->pages));
        }
        if (r >= 0)
                r = peer_write(peer, address, &header, sizeof(header));
        return refuse(r);
}

static InjectAnswer refuse_map(egm_inject *i, const InjectSlice *s, const InjectRange *r,
                               InjectMapVerdict verdict, const struct seccomp_data *d) {
        unsigned long long from = d->args[5], length = d->args[1];

        if (verdict == INJECT_MAP_PRIVATE)
                return refuse(inject_say(i, -EINVAL,
                                         "%s was mapped privately: what is written would not be in "
                                         "the lease's memory (QEMU needs share=on)",
                                         s->path));
        if (verdict == INJECT_MAP_UNCLEAR)
                return refuse(inject_say(i, -EINVAL,
                                         "Bytes %llu+%llu of %s: it is not clear whether they "
                                         "count from the start of the lease, at %" PRIu64
                                         ", or of the region",
                                         from, length, s->path, r->offset));
        return refuse(inject_say(i, -EINVAL,
                                 "Bytes %llu+%llu of %s are outside of the lease, which is %" PRIu64
                                 "+%" PRIu64,
                                 from, length, s->path,
                                 r->shift == INJECT_SHIFT_YES ? 0 : r->offset, r->size));
}

static InjectAnswer move_map(egm_inject *i, InjectSlice *s, const Peer *peer,
                             const struct seccomp_notif *call, uint64_t offset) {
        int r;

        r = peer_restart_mmap(peer, i->listener, call,
                              (uint32_t) call->data.args[4] | i->mark << 32, offset);
        if (r < 0)
                return refuse(inject_say(i, -EPERM,
                                         "Cannot map %s where the lease is, in process %d: %s",
                                         s->path, peer->tid, strerror(-r)));
        s->range.shift = INJECT_SHIFT_YES;
        return (InjectAnswer){.kind = INJECT_NONE};
}

/* A call that is moved comes back, perhaps more than once: signals may make it start over. */
static InjectAnswer answer_map(egm_inject *i, InjectSlice *s, const Peer *peer,
                               const struct seccomp_notif *call) {
        const struct seccomp_data *d = &call->data;
        bool moved = d->args[4] >> 32 == i->mark;
        const InjectRange range = {s->range.offset, s->range.size,
                                   moved ? INJECT_SHIFT_NO : s->range.shift};
        InjectMapVerdict verdict;
        uint64_t offset;

        verdict = inject_judge_map(&range, d->args[1], d->args[3], d->args[5],
                                   (uint64_t) sysconf(_SC_PAGESIZE), &offset);
        switch (verdict) {
        case INJECT_MAP_MOVE:
                return move_map(i, s, peer, call, offset);
        case INJECT_MAP_HERE:
                if (range.shift == INJECT_SHIFT_AUTO)
                        s->range.shift = INJECT_SHIFT_NO;
                return leave_it;
        case INJECT_MAP_KERNEL:
                return leave_it;
        default:
                return refuse_map(i, s, &range, verdict, d);
        }
}

/* IOMMU_IOAS_MAP_FILE: nobody can move what devices are given. Without it, as on older kernels, they get it by address. */
static InjectAnswer answer_map_file(egm_inject *i, Peer *peer, const struct seccomp_data *d) {
        struct {
                uint32_t size, flags, ioas;
                int32_t fd;
        } head;
        int r;

        r = peer_open_memory(peer);
        if (r >= 0)
                r = peer_read(peer, d->args[2], &head, sizeof(head));
        if (r < 0)
                return refuse(r);
        r = inject_slice_of(i, head.fd);
        if (r < 0 || i->slices[r].range.shift == INJECT_SHIFT_NO ||
            peer_fd_is(peer, head.fd, &i->slices[r].file) <= 0)
                return leave_it;
        return refuse(-ENOTTY);
}

static InjectAnswer answer_dup(egm_inject *i, const InjectSlice *s, const Peer *peer,
                               const struct seccomp_data *d) {
        int first = (int) inject_first_fd(i, s), to = (int) d->args[1];

        if (d->nr == SYS_dup)
                return give(i, peer, s, 0, 0);
        if (d->nr == SYS_fcntl)
                return give(i, peer, s, (int) d->args[2], to == F_DUPFD_CLOEXEC ? O_CLOEXEC : 0);
        /* Calls on a number that is not one of ours would not be seen. */
        if (s->range.shift == INJECT_SHIFT_NO || (to >= first && to < first + INJECT_FDS_MAX))
                return leave_it;
        return refuse(inject_say(i, -EPERM,
                                 "Process %d wants the memory of %s as descriptor %d, where its "
                                 "mappings could not be moved to the lease's offset",
                                 peer->tid, s->path, to));
}

/* As the driver's device; simulated memory is a file, that all tenants share. */
static int answer_as_device(int nr) {
        switch (nr) {
        case SYS_lseek:
                return -ESPIPE;
        case SYS_ftruncate:
                return -EINVAL;
        default:
                assert(nr == SYS_fallocate);
                return -ENODEV;
        }
}

static InjectAnswer answer_fd(egm_inject *i, Peer *peer, const struct seccomp_notif *call) {
        const struct seccomp_data *d = &call->data;
        int fd = (int) d->args[d->nr == SYS_mmap ? 4 : 0], r;
        InjectSlice *s;

        if (d->nr == SYS_ioctl && (uint32_t) d->args[1] == INJECT_IOCTL_MAP_FILE)
                return answer_map_file(i, peer, d);
        r = inject_slice_of(i, fd);
        if (r < 0)
                return leave_it;
        s = i->slices + r;
        r = peer_fd_is(peer, fd, &s->file);
        if (r == 0 || r == -EBADF)
                return leave_it; /* something else that got the number */
        if (r < 0)
                return refuse(inject_say(i, -EPERM,
                                         "Cannot look at descriptor %d of process %d: %s", fd,
                                         peer->tid, strerror(-r)));
        switch (d->nr) {
        case SYS_mmap:
                return answer_map(i, s, peer, call);
        case SYS_ioctl:
                return answer_retired(s, peer, d->args[2]);
        case SYS_lseek:
        case SYS_ftruncate:
        case SYS_fallocate:
                return refuse(answer_as_device(d->nr));
        default:
                return answer_dup(i, s, peer, d);
        }
}

InjectAnswer inject_answer(egm_inject *i, Peer *peer, const struct seccomp_notif *call) {
        switch (call->data.nr) {
#ifdef SYS_open
        case SYS_open:
#endif
        case SYS_openat:
        case SYS_openat2:
                return answer_open(i, peer, &call->data);
        default:
                return answer_fd(i, peer, call);
        }
}
