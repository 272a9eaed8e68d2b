/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "fd-util.h"
#include "inject.h"

/* The highest number that a leased descriptor gets: the kernel makes a table as long as that. */
#define FD_LIMIT 65536U
/* What a program may still open before it gets to the leased descriptors' numbers. */
#define FD_OTHERS 64U

/* ---- Object ---- */

static void inject_free(egm_inject *i) {
        for (size_t k = 0; k < i->n_slices; k++) {
                safe_close(i->slices[k].fd);
                free(i->slices[k].path);
                free(i->slices[k].pages);
        }
        free(i->slices);
        safe_close(i->lifetime_fd);
        safe_close(i->listener);
        free(i->call);
        free(i->lease);
        free(i->message);
        free(i);
}

DEFINE_REF_UNREF(egm_inject, inject_free)

unsigned inject_first_fd(egm_inject *i, const InjectSlice *s) {
        return i->begin + (unsigned) (s - i->slices) * INJECT_FDS_MAX;
}

int inject_slice_of(egm_inject *i, int fd) {
        unsigned k;

        if (fd < 0 || (unsigned) fd < i->begin)
                return -ENOENT;
        k = ((unsigned) fd - i->begin) / INJECT_FDS_MAX;
        return k < i->n_slices ? (int) k : -ENOENT;
}

int inject_say(egm_inject *i, int r, const char *format, ...) {
        va_list ap;

        i->message = mfree(i->message);
        va_start(ap, format);
        if (vasprintf(&i->message, format, ap) < 0)
                i->message = NULL;
        va_end(ap);
        return r;
}

static void build(egm_inject *i) {
        InjectFilter f = {
                        .begin = i->begin,
                        .end = i->begin + (unsigned) i->n_slices * INJECT_FDS_MAX,
                        .narrow = i->narrow,
        };

        for (size_t k = 0; k < i->n_slices; k++) {
                f.shift |= i->slices[k].range.shift != INJECT_SHIFT_NO;
                /* What is there would be opened instead. */
                f.read_only |= faccessat(AT_FDCWD, i->slices[k].path, F_OK, AT_SYMLINK_NOFOLLOW) ==
                               0;
        }
        i->n_filter = inject_filter_build(&f, i->filter);
}

static int choose_numbers(egm_inject *i) {
        uint64_t n = i->n_slices * INJECT_FDS_MAX, limit;
        struct rlimit rl;

        /* At the end of what the program can have: numbers are given from the start, so that hardly any other of its
         * descriptors gets one of these. */
        if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
                return -errno;
        limit = MIN((uint64_t) rl.rlim_cur, (uint64_t) FD_LIMIT);
        if (limit < n + FD_OTHERS)
                return -EMFILE;
        i->begin = (unsigned) (limit - n);
        return 0;
}

static int add_slice(egm_inject *i, egm_lease *l, size_t k) {
        const LeaseSlice *from = l->slices + k;
        InjectSlice *s = i->slices + k;

        if (from->fd < 0)
                return -EBADF;
        if (!from->retired_known)
                return -ENODATA;
        s->range = (InjectRange){from->offset, from->size, INJECT_SHIFT_NO};
        s->fd = fd_copy(from->fd);
        if (s->fd < 0)
                return s->fd;
        if (fstat(s->fd, &s->file) < 0)
                return -errno;
        if (asprintf(&s->path, "/run/egm/lease-%s/slice-%zu", l->id, k) < 0) {
                s->path = NULL;
                return -ENOMEM;
        }
        return inject_list_pages(from->retired, from->n_retired, from->size,
                                 (uint64_t) sysconf(_SC_PAGESIZE), &s->pages, &s->n_pages);
}

static int add_slices(egm_inject *i, egm_lease *l) {
        i->slices = calloc(l->n_slices, sizeof(*i->slices));
        if (!i->slices)
                return -ENOMEM;
        i->n_slices = l->n_slices;
        for (size_t k = 0; k < i->n_slices; k++)
                i->slices[k].fd = -EBADF;
        for (size_t k = 0; k < i->n_slices; k++) {
                int r = add_slice(i, l, k);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int make_buffers(egm_inject *i) {
        struct seccomp_notif_sizes sizes;

        if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
                return errno == EINVAL || errno == ENOSYS ? -EOPNOTSUPP : -errno;
        i->call_size = MAX(sizes.seccomp_notif, sizeof(*i->call));
        i->call = calloc(1, i->call_size);
        return i->call ? 0 : -ENOMEM;
}

/* Nothing that a program has there by itself, which is the sign of an int, or nothing. */
static int choose_mark(egm_inject *i) {
        uint32_t mark;

        do
                if (getrandom(&mark, sizeof(mark), 0) != (ssize_t) sizeof(mark))
                        return -errno;
        while (mark == 0 || mark == UINT32_MAX);
        i->mark = mark;
        return 0;
}

static int fill(egm_inject *i, egm_lease *l) {
        int r;

        if (l->lifetime_fd < 0)
                return -EBADF;
        i->lifetime_fd = fd_copy(l->lifetime_fd);
        if (i->lifetime_fd < 0)
                return i->lifetime_fd;
        i->lease = strdup(l->id);
        if (!i->lease)
                return -ENOMEM;
        r = add_slices(i, l);
        if (r >= 0)
                r = choose_numbers(i);
        if (r >= 0)
                r = choose_mark(i);
        if (r >= 0)
                r = make_buffers(i);
        return r;
}

_public_ int egm_inject_new(egm_lease *l, egm_inject **ret) {
        _cleanup_egm_(inject) egm_inject *i = NULL;
        int r;

        if (!l || !ret)
                return -EINVAL;
        if (l->origin != getpid())
                return -ECHILD;
        if (!inject_filter_is_known())
                return -EOPNOTSUPP;
        i = calloc(1, sizeof(*i));
        if (!i)
                return -ENOMEM;
        i->n_ref = 1;
        i->origin = getpid();
        i->lifetime_fd = i->listener = -EBADF;
        r = fill(i, l);
        if (r < 0)
                return r;
        build(i);
        *ret = TAKE_PTR(i);
        return 0;
}

/* ---- What it does ---- */

static InjectSlice *get_slice(egm_inject *i, size_t slice) {
        return i && slice < i->n_slices ? i->slices + slice : NULL;
}

/* Once the program is installed somewhere it is too late. */
static int begin_change(egm_inject *i) {
        if (i->origin != getpid())
                return -ECHILD;
        return i->listener >= 0 ? -EBUSY : 0;
}

_public_ int egm_inject_set_path(egm_inject *i, size_t slice, const char *path) {
        InjectSlice *s = get_slice(i, slice);
        int r;

        if (!s || !inject_path_is_good(path))
                return -EINVAL;
        r = begin_change(i);
        if (r < 0)
                return r;
        for (size_t k = 0; k < i->n_slices; k++)
                if (k != slice && streq(i->slices[k].path, path))
                        return -EEXIST;
        r = free_and_strdup(&s->path, path);
        if (r >= 0)
                build(i);
        return r;
}

_public_ const char *egm_inject_get_path(egm_inject *i, size_t slice) {
        const InjectSlice *s = get_slice(i, slice);

        return s ? s->path : NULL;
}

_public_ int egm_inject_set_shift(egm_inject *i, size_t slice, int shift) {
        InjectSlice *s = get_slice(i, slice);
        int r;

        if (!s)
                return -EINVAL;
        r = begin_change(i);
        if (r < 0)
                return r;
        s->range.shift = s->range.offset == 0 || shift == 0 ? INJECT_SHIFT_NO
                         : shift > 0                        ? INJECT_SHIFT_YES
                                                            : INJECT_SHIFT_AUTO;
        build(i);
        return 0;
}

_public_ int egm_inject_set_narrow(egm_inject *i, int narrow) {
        int r;

        if (!i)
                return -EINVAL;
        r = begin_change(i);
        if (r < 0)
                return r;
        i->narrow = narrow;
        build(i);
        return 0;
}

_public_ int egm_inject_set_callback(egm_inject *i, egm_inject_callback callback, void *userdata) {
        if (!i)
                return -EINVAL;
        i->callback = callback;
        i->userdata = userdata;
        return 0;
}

_public_ int egm_inject_get_filter(egm_inject *i, const struct sock_filter **ret, size_t *ret_n) {
        if (!i || !ret || !ret_n)
                return -EINVAL;
        *ret = i->filter;
        *ret_n = i->n_filter;
        return 0;
}

/* In a child, perhaps of a process with threads: nothing but system calls. */
_public_ int egm_inject_install(egm_inject *i) {
        static const unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
        struct sock_fprog program;
        long fd;

        if (!i)
                return -EINVAL;
        program = (struct sock_fprog){(unsigned short) i->n_filter, i->filter};
        for (int pass = 0; pass < 2; pass++) {
                /* Since 5.19: signals do not interrupt a call that is being answered. */
                fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                             flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
                if (fd < 0 && errno == EINVAL)
                        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
                if (fd >= 0 || errno != EACCES || pass > 0)
                        break;
                /* For who is not root: what it starts must not be more than it is. */
                if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                        return -errno;
        }
        return fd < 0 ? -errno : (int) fd;
}

/* ---- Answering ---- */

static int begin_use(egm_inject *i) {
        if (!i)
                return -EINVAL;
        if (i->origin != getpid())
                return -ECHILD;
        return 0;
}

_public_ int egm_inject_set_listener(egm_inject *i, int fd) {
        uint64_t none = 0;
        int r = begin_use(i);

        if (r < 0)
                return r;
        if (fd < 0)
                return -EINVAL;
        if (i->listener >= 0)
                return -EBUSY;
        /* -EINVAL: not what we asked; -ENOENT: a listener that has no such call waiting. */
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &none) >= 0 || errno != ENOENT)
                return -EBADF;
        r = fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (r < 0)
                return -errno;
        i->listener = fd;
        return 0;
}

_public_ int egm_inject_get_fd(egm_inject *i) {
        int r = begin_use(i);

        return r < 0 ? r : i->listener;
}

static void send_value(egm_inject *i, int value, uint32_t flags) {
        struct seccomp_notif_resp answer = {
                        .id = i->call->id,
                        .error = value < 0 ? value : 0,
                        .val = value < 0 ? 0 : value,
                        .flags = flags,
        };

        /* -ENOENT: nobody waits for it any more. */
        (void) ioctl(i->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

/* Descriptor and answer in one step: a thread that is killed or interrupted gets both or none. */
static void send_fd(egm_inject *i, const InjectAnswer *a) {
        struct seccomp_notif_addfd add = {
                        .id = i->call->id,
                        .flags = SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND,
                        .srcfd = (uint32_t) a->slice->fd,
                        .newfd = (uint32_t) a->value,
                        .newfd_flags = (uint32_t) a->fd_flags,
        };

        if (ioctl(i->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0) {
                i->slices[a->slice - i->slices].n_opens++;
                return;
        }
        /* Interrupted before, or just now: if it starts over, it is seen again. */
        if (errno == ENOENT || errno == ESRCH)
                return;
        if (errno == EBADF)
                (void) inject_say(i, -EMFILE,
                                  "Process %u may have fewer descriptors than its launcher: %s "
                                  "cannot get number %d",
                                  i->call->pid, a->slice->path, a->value);
        else
                (void) inject_say(i, -errno, "Failed to hand the memory of %s to process %u: %s",
                                  a->slice->path, i->call->pid, strerror(errno));
        send_value(i, -EMFILE, 0);
}

static void answer_call(egm_inject *i) {
        _cleanup_(peer_done) Peer peer = {(pid_t) i->call->pid, -EBADF};
        InjectAnswer a = inject_answer(i, &peer, i->call);

        /* All that was read may have been another thread's, that got the number since. */
        if (a.kind != INJECT_NONE &&
            ioctl(i->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &i->call->id) < 0) {
                i->message = mfree(i->message);
                return;
        }
        switch (a.kind) {
        case INJECT_CONTINUE:
                /* What the program makes of its path now is the kernel's to judge: we gave nothing. */
                send_value(i, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
                break;
        case INJECT_VALUE:
                send_value(i, a.value, 0);
                break;
        case INJECT_FD:
                send_fd(i, &a);
                break;
        default:
                break;
        }
}

_public_ int egm_inject_dispatch(egm_inject *i) {
        struct pollfd p;
        int r = begin_use(i);

        if (r < 0)
                return r;
        if (i->listener < 0)
                return -ENOTCONN;
        i->message = mfree(i->message);
        p = (struct pollfd){.fd = i->listener, .events = POLLIN};
        r = poll(&p, 1, 0);
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        if (!(p.revents & POLLIN))
                return p.revents & (POLLHUP | POLLERR) ? -EPIPE : 0;
        memset(i->call, 0, i->call_size);
        if (ioctl(i->listener, SECCOMP_IOCTL_NOTIF_RECV, i->call) < 0)
                /* Killed, or interrupted, just now. */
                return errno == ENOENT || errno == EINTR ? 1 : -errno;
        answer_call(i);
        return 1;
}

_public_ const char *egm_inject_get_message(egm_inject *i) {
        return i ? i->message : NULL;
}

_public_ int egm_inject_count_opens(egm_inject *i, size_t slice) {
        const InjectSlice *s = get_slice(i, slice);

        return s ? (int) s->n_opens : -EINVAL;
}
