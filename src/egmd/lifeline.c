/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "lifeline.h"
#include "pidfd.h"

/* Before everything else: who is judged by the leases that it has must not have one that has ended already, as happens to a start
 * that finds many ends at once. */
#define LIFELINE_PRIORITY SD_EVENT_PRIORITY_IMPORTANT

typedef struct Bound {
        Lifeline *lifeline;
        sd_event_source *source;
        int pidfd;
        LifelineName name;
} Bound;

struct Lifeline {
        const LifelineOps *ops;
        void *userdata;
        sd_event *event;
        sd_event_source *source;
        int fd;
        LifelineName name;
        LifelineNames *names; /* NULL: it is not listed */
        bool closed;
        Bound **bound; /* by pointer: event sources keep their addresses */
        unsigned n_bound;
};

static int name_order(const LifelineName *n, bool bound, uint64_t name) {
        if (n->bound != bound)
                return n->bound < bound ? -1 : 1;
        return n->name < name ? -1 : n->name > name;
}

/* One process may be bound to many. */
static int name_compare(const LifelineName *a, const LifelineName *b) {
        int c = name_order(a, b->bound, b->name);

        return c != 0 ? c : ((uintptr_t) a > (uintptr_t) b) - ((uintptr_t) a < (uintptr_t) b);
}

RB_GENERATE_INTERNAL(LifelineNames, LifelineName, by_name, name_compare, _unused_ static)

static Bound *bound_free(Bound *b) {
        if (!b)
                return NULL;
        b->source = sd_event_source_disable_unref(b->source);
        b->pidfd = safe_close(b->pidfd);
        return mfree(b);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Bound *, bound_free)

static void enlist(Lifeline *l, LifelineName *n) {
        if (l->names)
                (void) RB_INSERT(LifelineNames, l->names, n);
}

static void unlist(Lifeline *l, LifelineName *n) {
        if (l->names)
                (void) RB_REMOVE(LifelineNames, l->names, n);
}

static void drop_bound(Lifeline *l, unsigned i) {
        unlist(l, &l->bound[i]->name);
        bound_free(l->bound[i]);
        l->bound[i] = l->bound[--l->n_bound];
}

Lifeline *lifeline_free(Lifeline *l) {
        if (!l)
                return NULL;
        while (l->n_bound > 0)
                drop_bound(l, l->n_bound - 1);
        free(l->bound);
        unlist(l, &l->name);
        l->source = sd_event_source_disable_unref(l->source);
        l->fd = safe_close(l->fd);
        sd_event_unref(l->event);
        return mfree(l);
}

bool lifeline_hung_up(const Lifeline *l) {
        assert(l);
        return poll(&(struct pollfd){.fd = l->fd}, 1, 0) > 0;
}

static int on_hangup(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Lifeline *l = userdata;

        /* Asked again: what epoll saw may be older than a reopen in the same turn of the loop. */
        if (!lifeline_hung_up(l))
                return 0;
        l->source = sd_event_source_disable_unref(l->source);
        l->closed = true;
        l->ops->closed(l, l->userdata);
        return 0;
}

/* No events asked for: hang-up is always reported, and what a holder may write into the pipe is nothing to us. By edge: of
 * thousands that hang up at once each is then reported once, and not again with each that is dispatched. */
static int lifeline_watch(Lifeline *l) {
        int r;

        r = sd_event_add_io(l->event, &l->source, l->fd, EPOLLET, on_hangup, l);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(l->source, "lifetime");
        (void) sd_event_source_set_priority(l->source, LIFELINE_PRIORITY);
        l->closed = false;
        return 0;
}

int lifeline_adopt(sd_event *event, const LifelineOps *ops, void *userdata, int fd,
                   Lifeline **ret) {
        _cleanup_(lifeline_freep) Lifeline *l = NULL;
        _cleanup_close_ int owned = fd;
        struct stat st;
        int r;

        assert(event);
        assert(ops);
        assert(fd >= 0);
        assert(ret);

        if (fstat(owned, &st) < 0)
                return -errno;
        if (!S_ISFIFO(st.st_mode))
                return -EBADF;
        l = malloc(sizeof(*l));
        if (!l)
                return -ENOMEM;
        *l = (Lifeline){
                        .ops = ops,
                        .userdata = userdata,
                        .event = sd_event_ref(event),
                        .fd = TAKE_FD(owned),
                        .name = {.name = st.st_ino, .userdata = userdata},
        };
        r = lifeline_watch(l);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

int lifeline_new(sd_event *event, const LifelineOps *ops, void *userdata, Lifeline **ret,
                 int *ret_fd) {
        _cleanup_(lifeline_freep) Lifeline *l = NULL;
        _cleanup_close_ int wfd = -EBADF;
        int fds[2], r;

        assert(ret);
        assert(ret_fd);

        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        wfd = fds[1];
        r = lifeline_adopt(event, ops, userdata, fds[0], &l);
        if (r < 0)
                return r;
        r = lifeline_reopen(l, ret_fd);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

int lifeline_reopen(Lifeline *l, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        char path[64];
        int r;

        assert(l);
        assert(ret_fd);

        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", l->fd);
        /* For reading too: so its holder sees no difference while nobody is at our end. */
        fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        if (l->closed) {
                r = lifeline_watch(l);
                if (r < 0)
                        return r;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int on_exit_of_bound(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Bound *b = userdata;
        Lifeline *l = b->lifeline;
        pid_t pid = (pid_t) b->name.name;
        unsigned i = 0;

        while (l->bound[i] != b)
                i++;
        drop_bound(l, i);
        l->ops->unbound(l, pid, l->userdata);
        return 0;
}

void lifeline_unbind(Lifeline *l, pid_t pid) {
        assert(l);

        /* The last: one that had that pid before it, and is dead, may not have been noticed yet. */
        for (unsigned i = l->n_bound; i-- > 0;)
                if (lifeline_pid(l, i) == pid) {
                        drop_bound(l, i);
                        return;
                }
}

int lifeline_bind(Lifeline *l, int pidfd, pid_t *ret_pid) {
        _cleanup_(bound_freep) Bound *b = NULL;
        Bound **t;
        pid_t pid;
        int r;

        assert(l);

        r = pidfd_get_pid(pidfd, &pid);
        if (r < 0)
                return r;
        if (ret_pid)
                *ret_pid = pid;
        /* While a process lives its pid is nobody else's. */
        for (unsigned i = 0; i < l->n_bound; i++)
                if (lifeline_pid(l, i) == pid && pidfd_is_dead(l->bound[i]->pidfd) == 0)
                        return 0;
        if (l->n_bound >= LIFELINE_BOUND_MAX)
                return -E2BIG;
        t = realloc(l->bound, (l->n_bound + 1) * sizeof(*t));
        if (!t)
                return -ENOMEM;
        l->bound = t;
        b = malloc(sizeof(*b));
        if (!b)
                return -ENOMEM;
        *b = (Bound){
                        .lifeline = l,
                        .pidfd = fd_copy(pidfd),
                        .name = {.bound = true, .name = (uint64_t) pid, .userdata = l->userdata},
        };
        if (b->pidfd < 0)
                return b->pidfd;
        /* Not known where /proc hides it from us. */
        if (pidfd_get_start_time(pidfd, &b->name.started) < 0)
                b->name.started = 0;
        r = sd_event_add_io(l->event, &b->source, b->pidfd, EPOLLIN | EPOLLET, on_exit_of_bound, b);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(b->source, "bound-process");
        (void) sd_event_source_set_priority(b->source, LIFELINE_PRIORITY);
        enlist(l, &b->name);
        l->bound[l->n_bound++] = TAKE_PTR(b);
        return 1;
}

unsigned lifeline_bound(const Lifeline *l) {
        return l ? l->n_bound : 0;
}

pid_t lifeline_pid(const Lifeline *l, unsigned i) {
        assert(i < l->n_bound);
        return (pid_t) l->bound[i]->name.name;
}

int lifeline_pidfd(const Lifeline *l, unsigned i) {
        assert(i < l->n_bound);
        return l->bound[i]->pidfd;
}

uint64_t lifeline_start_time(const Lifeline *l, unsigned i) {
        assert(i < l->n_bound);
        return l->bound[i]->name.started;
}

int lifeline_fd(const Lifeline *l) {
        return l->fd;
}

ino_t lifeline_inode(const Lifeline *l) {
        return (ino_t) l->name.name;
}

void lifeline_list(Lifeline *l, LifelineNames *names) {
        assert(l);
        assert(!l->names);
        assert(names);

        l->names = names;
        enlist(l, &l->name);
        for (unsigned i = 0; i < l->n_bound; i++)
                enlist(l, &l->bound[i]->name);
}

const LifelineName *lifeline_names_first(const LifelineNames *names, bool bound, uint64_t name) {
        const LifelineName *found = NULL;

        assert(names);

        for (const LifelineName *n = RB_ROOT(names); n;) {
                int c = name_order(n, bound, name);

                if (c == 0)
                        found = n;
                n = c < 0 ? RB_RIGHT(n, by_name) : RB_LEFT(n, by_name);
        }
        return found;
}

const LifelineName *lifeline_names_next(const LifelineName *n) {
        const LifelineName *next;

        assert(n);

        next = RB_NEXT(LifelineNames, NULL, (LifelineName *) n);
        return next && name_order(next, n->bound, n->name) == 0 ? next : NULL;
}
