/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "stage.h"

static int request_new(const Wish *wish, int pidfd, egm_request **ret) {
        _cleanup_(egm_request_unrefp) egm_request *request = NULL;
        int r;

        r = egm_request_new(&request);
        if (r >= 0)
                r = wish->size > 0 ? egm_request_add_slice(request, wish->size)
                                   : egm_request_add_whole_slice(request);
        if (r >= 0)
                r = egm_request_set_slice_region(request, 0, wish->region);
        if (r >= 0 && wish->size > 0 && wish->size < SLICE)
                r = egm_request_set_slice_align(request, 0, wish->size);
        if (r >= 0 && pidfd >= 0)
                r = egm_request_set_holder(request, pidfd);
        if (r >= 0 && wish->size == 0)
                r = egm_request_set_delegate(request, wish->delegate);
        if (r >= 0)
                r = egm_request_set_wait(request, wish->wait_usec);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(request);
        return 0;
}

int stage_lend(Stage *s, const Wish *wish, egm_lease **ret) {
        _cleanup_(egm_request_unrefp) egm_request *request = NULL;
        _cleanup_close_ int pidfd = -EBADF;
        int r;

        if (wish->holder > 0) {
                pidfd = (int) syscall(SYS_pidfd_open, wish->holder, 0);
                if (pidfd < 0)
                        return -errno;
        }
        r = request_new(wish, pidfd, &request);
        if (r < 0)
                return r;
        r = egm_acquire(s->connection, request, ret);
        if (r < 0 && r != -ETIMEDOUT && r != -ENOSPC)
                printf("# %s: %s\n", wish->region,
                       egm_connection_get_error_message(s->connection) ?: strerror(-r));
        return r;
}

int lease_take_range(egm_lease *l, Range *ret) {
        Range range;
        int r;

        r = egm_lease_get_slice(l, 0, NULL, NULL, &range.offset, &range.size);
        if (r < 0)
                return r;
        range.fd = egm_lease_take_slice_fd(l, 0);
        if (range.fd < 0)
                return range.fd;
        *ret = range;
        return 0;
}

static bool region_has_free(Stage *s, const char *name, uint64_t size) {
        _cleanup_(egm_region_unrefp) egm_region *region = NULL;

        return egm_get_region(s->connection, name, &region) >= 0 &&
               streq(egm_region_get_state(region), "ready") &&
               egm_region_get_free(region) == size &&
               egm_region_get_free(region) + egm_region_get_leased(region) ==
                               egm_region_get_size(region);
}

/* Watched, so every change wakes us. */
int stage_wait_free(Stage *s, const char *region, uint64_t size) {
        time_t end = time(NULL) + DEADLINE_MS / 1000;

        while (!region_has_free(s, region, size)) {
                if (time(NULL) > end) {
                        printf("# %s never has %llu bytes free\n", region,
                               (unsigned long long) size);
                        return -ETIMEDOUT;
                }
                (void) egm_connection_wait(s->connection, USEC_PER_SEC);
                (void) egm_connection_dispatch(s->connection);
        }
        return 0;
}

/* What the stage has open keeps leases alive: its children are not to have it. */
int keep_only(int fd) {
        if (dup3(fd, 3, O_CLOEXEC) < 0 && errno != EINVAL)
                _exit(EXIT_FAILURE);
        (void) close_range(4, ~0U, 0);
        return 3;
}

/* ---- tenants ---- */

/* Gets its range, writes, and says where it has it; then answers whether it is as it was. */
static _Noreturn void tenant_live(int socket, Writer writer) {
        Message m = {};
        void *p;

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        socket = keep_only(socket);
        if (message_receive(socket, &m) < 0 ||
            mark(m.range.fd, m.range.offset, m.range.size, writer) < 0)
                _exit(EXIT_FAILURE);
        p = mmap(NULL, m.range.size, PROT_READ, MAP_SHARED, m.range.fd, (off_t) m.range.offset);
        if (p == MAP_FAILED)
                _exit(EXIT_FAILURE);
        m.map = p;
        m.name[0] = (char) m.range.fd;
        do
                m.r = is_marked(p, m.range.size, writer);
        while (message_send(socket, &m, -EBADF) >= 0 && message_receive(socket, &m) >= 0);
        _exit(EXIT_SUCCESS);
}

static int tenant_fork(Tenant *t, Writer writer) {
        int sockets[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        *t = (Tenant){.writer = writer, .socket = sockets[0]};
        t->pid = fork();
        if (t->pid == 0)
                tenant_live(sockets[1], writer);
        (void) close(sockets[1]);
        return t->pid < 0 ? -ENOMEM : 0;
}

int tenant_start(Stage *s, Tenant *t, Writer writer, uint64_t wait_usec) {
        Wish wish = {.region = "egm4", .size = SLICE, .wait_usec = wait_usec};
        Message m = {};
        int r;

        r = tenant_fork(t, writer);
        if (r < 0)
                return r;
        wish.holder = t->pid;
        r = stage_lend(s, &wish, &t->lease);
        if (r >= 0)
                r = lease_take_range(t->lease, &t->range);
        if (r >= 0) {
                m.range = t->range;
                r = message_send(t->socket, &m, t->range.fd);
                safe_close(t->range.fd);
        }
        if (r >= 0)
                r = message_receive(t->socket, &m);
        if (r < 0) {
                tenant_stop(t);
                return r;
        }
        t->map = m.map;
        t->range.fd = m.name[0];
        return 0;
}

bool tenant_is_intact(Tenant *t) {
        Message m = {};

        return message_send(t->socket, &m, -EBADF) >= 0 && message_receive(t->socket, &m) >= 0 &&
               m.r > 0;
}

void tenant_stop(Tenant *t) {
        if (t->pid > 0) {
                (void) kill(t->pid, SIGKILL);
                (void) waitpid(t->pid, NULL, 0);
                safe_close(t->socket);
        }
        egm_lease_unref(t->lease);
        *t = (Tenant){};
}
