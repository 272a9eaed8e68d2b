/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fd-util.h"

/* The driver's side of the processes that hold leases. It knows what each of them has. */

#define HOLDER_SOCKET 99
#define ANSWER_DEADLINE_SEC 60

static void make_sockets(Walk *w, int ret[static 2]) {
        const struct timeval deadline = {.tv_sec = ANSWER_DEADLINE_SEC};

        walk_check(w, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) == 0);
        walk_check(w,
                   setsockopt(ret[0], SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)) == 0);
}

static WalkChild *free_child(Walk *w) {
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                if (w->children[i].pid == 0)
                        return w->children + i;
        return NULL;
}

static WalkChild *child_set(Walk *w, WalkChild *c, pid_t pid, int socket) {
        c->pid = pid;
        c->socket = socket;
        c->pidfd = pidfd_open(pid, 0);
        walk_check(w, c->pidfd >= 0);
        return c;
}

WalkChild *walk_child_new(Walk *w) {
        WalkChild *c = free_child(w);
        int sockets[2];
        pid_t pid;

        if (!c)
                return NULL;
        make_sockets(w, sockets);
        (void) fflush(NULL);
        pid = fork();
        walk_check(w, pid >= 0);
        if (pid == 0) {
                /* Of what the driver has, nothing but the socket. */
                if (dup2(sockets[1], HOLDER_SOCKET) < 0 ||
                    close_range(3, HOLDER_SOCKET - 1, 0) < 0 ||
                    close_range(HOLDER_SOCKET + 1, ~0U, 0) < 0)
                        _exit(1);
                walk_holder_run(HOLDER_SOCKET, w->self);
        }
        (void) close(sockets[1]);
        *c = (WalkChild){};
        (void) child_set(w, c, pid, sockets[0]);
        /* Until then it has copies of everything. */
        (void) walk_child_call(w, c, &(WalkCommand){.order = WALK_ORDER_HELLO}, -EBADF, NULL);
        return c;
}

WalkChild *walk_child_pick(Walk *w) {
        size_t from = walk_random(w, WALK_CHILDREN);

        for (size_t i = 0; i < WALK_CHILDREN; i++) {
                WalkChild *c = w->children + (from + i) % WALK_CHILDREN;

                if (c->pid > 0)
                        return c;
        }
        return NULL;
}

WalkSlot *walk_child_free_slot(WalkChild *c) {
        for (size_t i = 0; i < WALK_SLOTS; i++)
                if (c->slots[i].kind == WALK_SLOT_NONE)
                        return c->slots + i;
        return NULL;
}

static unsigned slot_number(const WalkChild *c, const WalkSlot *s) {
        return (unsigned) (s - c->slots);
}

WalkAnswer walk_child_call(Walk *w, WalkChild *c, const WalkCommand *command, int fd, int *ret_fd) {
        WalkAnswer a = {};
        int got, r;

        r = walk_send(c->socket, command, sizeof(*command), fd);
        if (r < 0)
                walk_fail(w, "pid %i takes no orders: %s", (int) c->pid, strerror(-r));
        r = walk_receive(c->socket, &a, sizeof(a), &got);
        if (r < 0)
                walk_fail(w, "pid %i did not answer order %i: %s", (int) c->pid,
                          (int) command->order, strerror(-r));
        if (ret_fd)
                *ret_fd = got;
        else
                safe_close(got);
        return a;
}

static void child_do(Walk *w, WalkChild *c, const WalkCommand *command, int fd) {
        WalkAnswer a = walk_child_call(w, c, command, fd, NULL);

        if (a.r < 0)
                walk_fail(w, "pid %i: order %i failed: %s", (int) c->pid, (int) command->order,
                          strerror(-a.r));
}

void walk_child_give(Walk *w, WalkChild *c, const WalkSlot *what, int fd) {
        WalkSlot *s = walk_child_free_slot(c);

        walk_check(w, s);
        child_do(w, c, &(WalkCommand){.order = WALK_ORDER_TAKE, .slot = slot_number(c, s)}, fd);
        *s = *what;
}

WalkSlot *walk_child_map(Walk *w, WalkChild *c, const WalkSlot *memory, const WalkSlice *slice,
                         bool private) {
        WalkSlot *s = walk_child_free_slot(c);

        if (!s)
                return NULL;
        child_do(w, c,
                 &(WalkCommand){.order = WALK_ORDER_MAP,
                                .slot = slot_number(c, s),
                                .from = slot_number(c, memory),
                                .private = private,
                                .offset = slice->offset,
                                .size = slice->size},
                 -EBADF);
        *s = *memory;
        s->kind = WALK_SLOT_MAP;
        s->offset = slice->offset;
        s->size = slice->size;
        s->private = private;
        return s;
}

void walk_child_close(Walk *w, WalkChild *c, WalkSlot *slot) {
        child_do(w, c, &(WalkCommand){.order = WALK_ORDER_CLOSE, .slot = slot_number(c, slot)},
                 -EBADF);
        *slot = (WalkSlot){};
}

void walk_child_unmap(Walk *w, WalkChild *c, WalkSlot *slot, uint64_t keep_offset,
                      uint64_t keep_size) {
        child_do(w, c,
                 &(WalkCommand){.order = WALK_ORDER_UNMAP,
                                .slot = slot_number(c, slot),
                                .offset = keep_offset,
                                .size = keep_size},
                 -EBADF);
        if (keep_size == 0)
                *slot = (WalkSlot){};
        else {
                slot->offset = keep_offset;
                slot->size = keep_size;
        }
}

static void compare(Walk *w, WalkChild *c, const WalkSlot *slot, WalkOrder order) {
        WalkCommand command = {.order = order,
                               .slot = slot_number(c, slot),
                               .region = slot->region,
                               .lease = slot->lease};
        WalkAnswer a = walk_child_call(w, c, &command, -EBADF, NULL);

        if (a.r < 0)
                walk_fail(w,
                          "I2: pid %i maps %#" PRIx64 "+%#" PRIx64
                          " of %s with lease serial %u: at %#" PRIx64 " is %#" PRIx64 ", not %s",
                          (int) c->pid, slot->offset, slot->size, walk_regions[slot->region].name,
                          slot->lease, a.at, a.found,
                          order == WALK_ORDER_ZERO ? "zero" : "what its holder wrote");
}

void walk_child_zero(Walk *w, WalkChild *c, const WalkSlot *slot) {
        compare(w, c, slot, WALK_ORDER_ZERO);
}

void walk_child_fill(Walk *w, WalkChild *c, WalkSlot *slot) {
        child_do(w, c,
                 &(WalkCommand){.order = WALK_ORDER_FILL,
                                .slot = slot_number(c, slot),
                                .region = slot->region,
                                .lease = slot->lease},
                 -EBADF);
        slot->filled = true;
}

/* Its own active lease it may map any time, to look. Not who would be known by nothing else: a look that the daemon happens
 * to see would make a difference. */
static void check_by_descriptor(Walk *w, WalkChild *c, const WalkSlot *memory) {
        WalkLease *l = walk_lease_find(w, memory->lease);
        WalkSlot *m;

        if (!l || l->ended || !l->filled)
                return;
        for (size_t i = 0; i < l->n_slices; i++) {
                if (l->slices[i].region != memory->region ||
                    l->slices[i].generation != memory->generation ||
                    !walk_child_has_active_lease(w, c, l->slices + i))
                        continue;
                m = walk_child_map(w, c, memory, l->slices + i, false);
                if (!m)
                        return;
                compare(w, c, m, WALK_ORDER_CHECK);
                walk_child_unmap(w, c, m, 0, 0);
        }
}

void walk_children_check(Walk *w) {
        for (size_t i = 0; i < WALK_CHILDREN; i++) {
                WalkChild *c = w->children + i;

                for (size_t k = 0; k < WALK_SLOTS && c->pid > 0; k++) {
                        const WalkSlot *s = c->slots + k;

                        if (s->kind == WALK_SLOT_MAP && s->filled)
                                compare(w, c, s, WALK_ORDER_CHECK);
                        else if (s->kind == WALK_SLOT_MEMORY)
                                check_by_descriptor(w, c, s);
                }
        }
}

WalkChild *walk_child_fork(Walk *w, WalkChild *c) {
        WalkChild *n = free_child(w);
        int sockets[2];
        WalkAnswer a;

        if (!n)
                return NULL;
        make_sockets(w, sockets);
        a = walk_child_call(w, c, &(WalkCommand){.order = WALK_ORDER_FORK}, sockets[1], NULL);
        (void) close(sockets[1]);
        walk_check(w, a.r >= 0 && a.pid > 0);
        *n = (WalkChild){};
        memcpy(n->slots, c->slots, sizeof(n->slots));
        (void) child_set(w, n, a.pid, sockets[0]);
        (void) walk_child_call(w, n, &(WalkCommand){.order = WALK_ORDER_HELLO}, -EBADF, NULL);
        return n;
}

/* Descriptors stay, mappings go. */
void walk_child_exec(Walk *w, WalkChild *c) {
        child_do(w, c, &(WalkCommand){.order = WALK_ORDER_EXEC}, -EBADF);
        for (size_t k = 0; k < WALK_SLOTS; k++)
                if (c->slots[k].kind == WALK_SLOT_MAP)
                        c->slots[k] = (WalkSlot){};
}

void walk_child_end(Walk *w, WalkChild *c, bool by_kill) {
        const WalkCommand leave = {.order = WALK_ORDER_EXIT};
        struct pollfd pfd = {.fd = c->pidfd, .events = POLLIN};
        pid_t pid = c->pid;

        assert(pid > 0);

        if (by_kill)
                walk_check(w, kill(pid, SIGKILL) == 0);
        else
                walk_check(w, walk_send(c->socket, &leave, sizeof(leave), -EBADF) == 0);
        walk_check(w, poll(&pfd, 1, ANSWER_DEADLINE_SEC * 1000) == 1);
        /* Another holder's child is nobody's zombie. */
        walk_check(w, waitpid(pid, NULL, 0) == pid || errno == ECHILD);
        c->pidfd = safe_close(c->pidfd);
        c->socket = safe_close(c->socket);
        *c = (WalkChild){};
        walk_model_child_gone(w, pid);
}

const char *walk_child_text(const Walk *w, const WalkChild *c) {
        static char text[1024];
        size_t n;

        n = (size_t) snprintf(text, sizeof(text), "pid %i:", (int) c->pid);
        for (size_t k = 0; k < WALK_SLOTS && n < sizeof(text) - 80; k++) {
                const WalkSlot *s = c->slots + k;

                if (s->kind == WALK_SLOT_LIFETIME)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, " lifetime(%u)",
                                               s->lease);
                else if (s->kind == WALK_SLOT_MEMORY)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, " %s.%u(%u)",
                                               walk_regions[s->region].name, s->generation,
                                               s->lease);
                else if (s->kind == WALK_SLOT_MAP)
                        n += (size_t) snprintf(text + n, sizeof(text) - n,
                                               " %smap(%u: %s.%u %#" PRIx64 "+%#" PRIx64 ")",
                                               s->private ? "private " : "", s->lease,
                                               walk_regions[s->region].name, s->generation,
                                               s->offset, s->size);
        }
        return text;
}
