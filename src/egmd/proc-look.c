/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "fd-util.h"
#include "proc-dir.h"
#include "proc-look.h"
#include "proc-nodes.h"
#include "size.h"

#define TEXT_MAX 4096U
#define PREFIX_MAX 32U /* "task/4294967295/" */
#define NAME_LENGTH_MAX 64U
#define MAPS_BUFFER (64 * KIB)
/* How often mappings are read again because they changed while we looked. */
#define MAPS_TRIES 4U

struct ProcLook {
        const HolderScan *scan;
        bool by_number;   /* some device is known by its number, so other nodes may lead to it */
        bool can_compare; /* the root shows our own PID namespace */
        dev_t pipe_dev;
        int root;
        int dir; /* of the process in view */
        pid_t pid;
        ProcNodes *nodes;
        char *maps;       /* MAPS_BUFFER bytes */
        ProcFound *found; /* one for each device */
        ino_t *pipes;
        size_t n_pipes, allocated_pipes;
};

static int proc_error(int e) {
        if (e == ENOENT)
                return -ESRCH;
        return e == EPERM ? -EACCES : -e;
}

/* The beginning of a file, NUL-terminated. The rest is never asked for: lists of groups can be long. */
static ssize_t read_text(int dir, const char *path, char buf[static TEXT_MAX]) {
        _cleanup_close_ int fd = -EBADF;
        size_t n = 0;

        fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return proc_error(errno);
        while (n < TEXT_MAX - 1) {
                ssize_t k = read(fd, buf + n, TEXT_MAX - 1 - n);

                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return proc_error(errno);
                }
                if (k == 0)
                        break;
                n += (size_t) k;
        }
        buf[n] = '\0';
        return (ssize_t) n;
}

static int read_pipe_dev(dev_t *ret) {
        int fds[2], r;
        struct stat st;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        r = fstat(fds[0], &st) < 0 ? -errno : 0;
        (void) safe_close(fds[0]);
        (void) safe_close(fds[1]);
        if (r >= 0)
                *ret = st.st_dev;
        return r;
}

/* Does the root call us what we call ourselves? */
static bool root_is_ours(int root) {
        char link[32];
        ssize_t n = readlinkat(root, "self", link, sizeof(link) - 1);
        int pid;

        if (n < 0)
                return false;
        link[n] = '\0';
        return parse_int(link, &pid) >= 0 && pid == getpid();
}

ProcLook *proc_look_free(ProcLook *l) {
        if (!l)
                return NULL;
        for (size_t i = 0; l->found && i < l->scan->n_devices; i++)
                ranges_done(&l->found[i].mapped);
        free(l->found);
        free(l->pipes);
        free(l->maps);
        proc_nodes_free(l->nodes);
        l->dir = safe_close(l->dir);
        l->root = safe_close(l->root);
        return mfree(l);
}

int proc_look_new(const HolderScan *scan, ProcLook **ret) {
        _cleanup_(proc_look_freep) ProcLook *l = NULL;
        int r;

        assert(scan);
        assert(scan->n_devices <= INT_MAX);
        assert(ret);

        l = malloc(sizeof(*l));
        if (!l)
                return -ENOMEM;
        *l = (ProcLook){.scan = scan, .root = -EBADF, .dir = -EBADF};
        l->found = calloc(scan->n_devices + 1, sizeof(*l->found));
        l->maps = malloc(MAPS_BUFFER);
        if (!l->found || !l->maps)
                return -ENOMEM;
        r = proc_nodes_new(&l->nodes);
        if (r < 0)
                return r;
        for (size_t i = 0; i < scan->n_devices; i++)
                l->by_number = l->by_number || scan->devices[i].rdev != 0;
        l->pipe_dev = scan->pipe_dev;
        if (scan->want_pipes && l->pipe_dev == 0) {
                r = read_pipe_dev(&l->pipe_dev);
                if (r < 0)
                        return r;
        }
        l->root = open(scan->proc ?: "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (l->root < 0)
                return -errno;
        l->can_compare = !scan->proc && root_is_ours(l->root);
        *ret = TAKE_PTR(l);
        return 0;
}

int proc_look_root(const ProcLook *l) {
        assert(l);
        return l->root;
}

bool proc_look_is_ours(const ProcLook *l) {
        assert(l);
        return l->can_compare;
}

int proc_look_stat(ProcLook *l, ProcStat *ret) {
        char text[TEXT_MAX];
        ssize_t n;

        assert(l);
        assert(l->dir >= 0);

        n = read_text(l->dir, "stat", text);
        if (n < 0)
                return (int) n;
        return proc_stat_parse(text, (size_t) n, ret);
}

int proc_look_open(ProcLook *l, pid_t pid, ProcStat *ret) {
        char name[NAME_LENGTH_MAX];

        assert(l);
        assert(pid > 0);

        l->dir = safe_close(l->dir);
        (void) snprintf(name, sizeof(name), "%i", pid);
        l->dir = openat(l->root, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (l->dir < 0)
                return proc_error(errno);
        l->pid = pid;
        return proc_look_stat(l, ret);
}

/* 1 and what a link of /proc leads to, 0 when its file system keeps that from us. Whoever runs a file
 * system in user space could make us wait, so none is asked: what the kernel knows must do. Ours does not fail, for
 * the nodes of devices and memfds are in memory. */
static int stat_target(int dir, const char *link, struct statx *ret) {
        const int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;

        if (statx(dir, link, flags, STATX_TYPE | STATX_INO, ret) >= 0)
                return 1;
        switch (errno) {
        case ENOENT:
        case ESRCH:
        case ENOMEM:
                return proc_error(errno);
        case EACCES:
        case EPERM:
                /* Either we may not look at the process, or FUSE keeps its user's files from us. The latter
                 * lets those pass who want to know nothing. */
                if (statx(dir, link, flags, 0, ret) >= 0)
                        return (ret->stx_mask & STATX_TYPE) != 0;
                return proc_error(errno);
        default:
                return 0;
        }
}

static int device_of(const HolderScan *scan, const struct statx *st) {
        dev_t rdev = makedev(st->stx_rdev_major, st->stx_rdev_minor);
        dev_t dev = makedev(st->stx_dev_major, st->stx_dev_minor);

        for (size_t i = 0; i < scan->n_devices; i++) {
                const HolderDevice *d = scan->devices + i;

                if (d->rdev != 0 ? S_ISCHR(st->stx_mode) && rdev == d->rdev
                                 : dev == d->dev && st->stx_ino == d->ino)
                        return (int) i;
        }
        return PROC_NODE_NONE;
}

static int add_pipe(ProcLook *l, ino_t ino) {
        if (l->n_pipes == l->allocated_pipes) {
                size_t n = l->allocated_pipes * 2 + 16;
                ino_t *t = reallocarray(l->pipes, n, sizeof(*t));

                if (!t)
                        return -ENOMEM;
                l->pipes = t;
                l->allocated_pipes = n;
        }
        l->pipes[l->n_pipes++] = ino;
        return 0;
}

/* O_PATH needs no permission for the file, and nothing can be mapped through it. */
static int is_path_only(ProcLook *l, const char *prefix, unsigned fd) {
        char name[NAME_LENGTH_MAX], text[TEXT_MAX];
        int flags, r;
        ssize_t n;

        (void) snprintf(name, sizeof(name), "%sfdinfo/%u", prefix, fd);
        n = read_text(l->dir, name, text);
        if (n == -ESRCH)
                return 0; /* it was there a moment ago */
        if (n < 0)
                return (int) n;
        r = proc_fdinfo_parse_flags(text, (size_t) n, &flags);
        if (r < 0)
                return r;
        return (flags & O_PATH) != 0;
}

static int look_fd(ProcLook *l, const char *prefix, int dir, unsigned fd) {
        char name[NAME_LENGTH_MAX];
        struct statx st;
        int device, r;

        (void) snprintf(name, sizeof(name), "%u", fd);
        r = stat_target(dir, name, &st);
        if (r <= 0)
                return r == -ESRCH ? 0 : r;
        if (l->scan->want_pipes && S_ISFIFO(st.stx_mode) &&
            makedev(st.stx_dev_major, st.stx_dev_minor) == l->pipe_dev)
                return add_pipe(l, st.stx_ino);

        device = device_of(l->scan, &st);
        if (device < 0 || l->found[device].has_fd)
                return 0;
        r = is_path_only(l, prefix, fd);
        if (r < 0)
                return r;
        l->found[device].has_fd = r == 0;
        l->found[device].fd = (int) fd;
        return 0;
}

static int look_fds(ProcLook *l, const char *prefix) {
        _cleanup_proc_dir_ ProcDir d = {.fd = -EBADF};
        char name[NAME_LENGTH_MAX];
        unsigned fd;
        int r;

        (void) snprintf(name, sizeof(name), "%sfd", prefix);
        r = proc_dir_open(&d, l->dir, name);
        if (r < 0) {
                r = proc_error(-r);
                return r == -ESRCH ? 0 : r;
        }
        for (;;) {
                r = proc_dir_next(&d, &fd);
                if (r == 0)
                        return 0;
                if (r < 0) {
                        r = proc_error(-r);
                        return r == -ESRCH ? 0 : r;
                }
                r = look_fd(l, prefix, d.fd, fd);
                if (r < 0)
                        return r;
        }
}

/* Where the mapping itself cannot be asked: the name it was opened by, if that still leads to the same node. Names
 * are looked up in /dev only: elsewhere anybody could make us wait. */
static int device_by_path(ProcLook *l, const MapsLine *m, int *ret) {
        static const char dev[] = "/dev/";
        _cleanup_free_ char *path = NULL;
        struct statx st;
        int r;

        *ret = PROC_NODE_NONE;
        if (m->path_size < strlen(dev) || memcmp(m->path, dev, strlen(dev)) != 0)
                return 0;
        r = maps_path_unescape(m->path, m->path_size, &path);
        if (r < 0)
                return r;
        if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
                  STATX_TYPE | STATX_INO, &st) < 0)
                return errno == ENOMEM ? -ENOMEM : 0;
        if (makedev(st.stx_dev_major, st.stx_dev_minor) == m->dev && st.stx_ino == m->ino)
                *ret = device_of(l->scan, &st);
        return 0;
}

/* -EAGAIN: the mapping has changed meanwhile; never on the last try. */
static int device_of_mapping(ProcLook *l, const MapsLine *m, bool last_try, int *ret) {
        char name[NAME_LENGTH_MAX];
        struct statx st;
        int r;

        for (size_t i = 0; i < l->scan->n_devices; i++)
                if (m->dev == l->scan->devices[i].dev && m->ino == l->scan->devices[i].ino) {
                        *ret = (int) i;
                        return 0;
                }
        *ret = PROC_NODE_NONE;
        if (!l->by_number || proc_nodes_find(l->nodes, m->identity, m->identity_size, ret))
                return 0;

        (void) snprintf(name, sizeof(name), "map_files/%" PRIx64 "-%" PRIx64, m->start, m->end);
        r = stat_target(l->dir, name, &st);
        if (r >= 0) {
                if (r > 0)
                        *ret = device_of(l->scan, &st);
                return proc_nodes_add(l->nodes, m->identity, m->identity_size, *ret);
        }
        if (r == -ESRCH && !last_try)
                return -EAGAIN;
        /* Without privilege, of a process whose first thread has ended, or of one that won't hold still. */
        return r == -ESRCH || r == -EACCES ? device_by_path(l, m, ret) : r;
}

static int add_mapping(ProcLook *l, const MapsLine *m, int device) {
        const HolderDevice *d = l->scan->devices + device;
        ProcFound *f = l->found + device;
        uint64_t end;

        f->maps = true;
        /* A private mapping shows a physical address as its offset. Of a device, one past its end was not
         * refused as it should have been, so where it leads is not known; a memfd has nothing there. */
        if (!m->shared || !d->offsets ||
            __builtin_add_overflow(m->offset, m->end - m->start, &end) ||
            (end > d->size && d->rdev != 0)) {
                f->vague = true;
                return ranges_add(&f->mapped, 0, d->size);
        }
        end = MIN(end, d->size);
        return end > m->offset ? ranges_add(&f->mapped, m->offset, end - m->offset) : 0;
}

static int look_mapping(ProcLook *l, const char *line, size_t size, bool last_try) {
        int device, r;
        MapsLine m;

        r = maps_line_parse(line, size, &m);
        if (r < 0)
                return r;
        if (m.dev == 0 && m.ino == 0)
                return 0;
        r = device_of_mapping(l, &m, last_try, &device);
        if (r < 0 || device < 0)
                return r;
        return add_mapping(l, &m, device);
}

typedef struct MapsReader {
        bool last_try;
        bool any;    /* there were mappings */
        bool cut;    /* the buffer begins inside a line that was looked at */
        size_t have; /* bytes in the buffer */
} MapsReader;

/* Looks at the whole lines in the buffer and keeps the rest. Of a path that does not fit, which may be longer
 * than PATH_MAX, the beginning will do. */
static int look_lines(ProcLook *l, MapsReader *m) {
        const char *at = l->maps, *end = at + m->have;
        int r;

        while (at < end) {
                const char *newline = memchr(at, '\n', (size_t) (end - at));
                const char *stop = newline ?: end;

                if (!newline && !m->cut && (at > l->maps || m->have < MAPS_BUFFER))
                        break;
                if (!m->cut) {
                        m->any = true;
                        r = look_mapping(l, at, (size_t) (stop - at), m->last_try);
                        if (r < 0)
                                return r;
                }
                m->cut = !newline;
                at = newline ? newline + 1 : end;
        }
        m->have = (size_t) (end - at);
        memmove(l->maps, at, m->have);
        return 0;
}

static int read_maps(ProcLook *l, const char *path, bool last_try) {
        _cleanup_close_ int fd = -EBADF;
        MapsReader m = {.last_try = last_try};
        int r;

        fd = openat(l->dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0) {
                r = proc_error(errno);
                return r == -ESRCH ? 0 : r;
        }
        for (;;) {
                ssize_t n = read(fd, l->maps + m.have, MAPS_BUFFER - m.have);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno != ESRCH)
                        return proc_error(errno);
                if (n <= 0)
                        break;
                m.have += (size_t) n;
                r = look_lines(l, &m);
                if (r < 0)
                        return r;
        }
        if (m.have > 0) /* a line that never ended */
                return -EBADMSG;
        return m.any;
}

/* 1 when there are mappings at all: only the dead have none. */
static int look_maps(ProcLook *l, const char *prefix) {
        char path[NAME_LENGTH_MAX];
        int r = -EAGAIN;

        (void) snprintf(path, sizeof(path), "%smaps", prefix);
        for (unsigned i = 1; i <= MAPS_TRIES && r == -EAGAIN; i++)
                r = read_maps(l, path, i == MAPS_TRIES);
        return r;
}

static bool shares_files(const ProcLook *l, pid_t a, pid_t b) {
        return l->can_compare && syscall(SYS_kcmp, a, b, KCMP_FILES, 0UL, 0UL) == 0;
}

/* A thread can have a descriptor table of its own, and the first one, which the process's own
 * files show, may have ended. */
static int look_threads(ProcLook *l, bool fds, bool maps) {
        _cleanup_proc_dir_ ProcDir d = {.fd = -EBADF};
        pid_t previous = l->pid;
        unsigned tid;
        int r;

        r = proc_dir_open(&d, l->dir, "task");
        if (r < 0) {
                r = proc_error(-r);
                return r == -ESRCH ? 0 : r;
        }
        while ((r = proc_dir_next(&d, &tid)) > 0) {
                char prefix[PREFIX_MAX];

                if ((pid_t) tid == l->pid)
                        continue;
                (void) snprintf(prefix, sizeof(prefix), "task/%u/", tid);
                if (fds && !shares_files(l, l->pid, (pid_t) tid) &&
                    !(previous != l->pid && shares_files(l, previous, (pid_t) tid))) {
                        r = look_fds(l, prefix);
                        if (r < 0)
                                return r;
                        previous = (pid_t) tid;
                }
                if (maps) {
                        r = look_maps(l, prefix);
                        if (r < 0)
                                return r;
                        maps = r == 0;
                }
        }
        r = proc_error(-r);
        return r == -ESRCH ? 0 : r;
}

static int compare_inodes(const void *a, const void *b) {
        ino_t x = *(const ino_t *) a, y = *(const ino_t *) b;

        return x < y ? -1 : x > y;
}

static void sort_pipes(ProcLook *l) {
        size_t n = 0;

        if (l->n_pipes == 0)
                return;
        qsort(l->pipes, l->n_pipes, sizeof(*l->pipes), compare_inodes);
        for (size_t i = 1; i < l->n_pipes; i++)
                if (l->pipes[i] != l->pipes[n])
                        l->pipes[++n] = l->pipes[i];
        l->n_pipes = n + 1;
}

int proc_look_devices(ProcLook *l, const ProcStat *stat, bool fds) {
        bool any = false;
        int r;

        assert(l);
        assert(stat);

        l->n_pipes = 0;
        for (size_t i = 0; i < l->scan->n_devices; i++) {
                ranges_done(&l->found[i].mapped);
                l->found[i] = (ProcFound){};
        }
        if (fds) {
                r = look_fds(l, "");
                if (r < 0)
                        return r;
        }
        r = look_maps(l, "");
        if (r < 0)
                return r;
        if (stat->n_threads > 1) {
                r = look_threads(l, fds, r == 0);
                if (r < 0)
                        return r;
        }
        sort_pipes(l);
        for (size_t i = 0; i < l->scan->n_devices; i++)
                any = any || l->found[i].has_fd || l->found[i].maps;
        return any;
}

const ProcFound *proc_look_found(const ProcLook *l, size_t device) {
        assert(l);
        assert(device < l->scan->n_devices);
        return l->found + device;
}

const ino_t *proc_look_pipes(const ProcLook *l, size_t *ret_n) {
        assert(l);
        assert(ret_n);
        *ret_n = l->n_pipes;
        return l->pipes;
}

int proc_look_owner(ProcLook *l, uid_t *ret_uid, char **ret_unit) {
        _cleanup_free_ char *unit = NULL;
        char text[TEXT_MAX];
        ssize_t n;
        uid_t uid;
        int r;

        assert(l);

        n = read_text(l->dir, "status", text);
        if (n < 0)
                return (int) n;
        r = proc_status_parse_uid(text, (size_t) n, &uid);
        if (r < 0)
                return r;
        /* Who cannot be told apart by unit still has a pid: no cgroups at all is fine. */
        n = read_text(l->dir, "cgroup", text);
        if (n >= 0 && proc_cgroup_parse_unit(text, (size_t) n, &unit, NULL) == -ENOMEM)
                return -ENOMEM;
        *ret_uid = uid;
        *ret_unit = TAKE_PTR(unit);
        return 0;
}
