/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "fd-util.h"
#include "memory.h"
#include "size.h"

/* Keeps a lease over restarts of egmd: fills it with a pattern and looks at every byte of it again and again.
 *
 *     egm-tenant KIND LABEL REGION SIZE      until it is told to end on standard input
 *         whole        the lifetime, the region's descriptor and the mapping in one process
 *         split        one process has nothing but the lifetime, another nothing but the mapping
 *         bound        the lifetime is closed: the lease hangs on the process, which has the others
 *         persistent   writes, and goes: nobody has anything
 *     egm-tenant reopen LABEL ID             looks at what `persistent` wrote, and releases it
 *
 * Prints "filled ID REGION:OFFSET:SIZE", "lost" when the bus says so, and "intact ROUNDS" at its end; or "wrong: ..." and
 * fails: a byte has changed, a signal came, the lifetime's other end is gone. Never asks the daemon for anything between. */

typedef struct Tenant {
        const char *label;
        egm_connection *connection;
        egm_lease *lease;
        egm_watch *watch;
        char *id;
        int lifetime_fd;
        Memory memory;
} Tenant;

static void tenant_done(Tenant *t) {
        memory_unmap(&t->memory);
        free(t->id);
        safe_close(t->lifetime_fd);
        egm_watch_unref(t->watch);
        egm_lease_unref(t->lease);
        egm_connection_unref(t->connection);
}

static int say(const char *text) {
        return puts(text) < 0 || fflush(stdout) != 0 ? -EIO : 0;
}

/* Names what failed, as nobody can see it from outside. */
static int failed(Tenant *t, int r, const char *what) {
        const char *message =
                        t->connection ? egm_connection_get_error_message(t->connection) : NULL;

        printf("wrong: %s: %s%s%s\n", what, strerror(-r), message ? ": " : "", message ?: "");
        (void) fflush(stdout);
        return r;
}

static void on_event(egm_connection *c, egm_event *e, void *userdata) {
        _cleanup_(egm_lease_info_unrefp) egm_lease_info *info = NULL;
        Tenant *t = userdata;

        if (egm_event_get_type(e) == EGM_EVENT_LEASE_CHANGED &&
            streq(egm_event_get_name(e), t->id) && egm_get_lease_info(c, t->id, &info) >= 0 &&
            streq_ptr(egm_lease_info_get_state(info), "lost"))
                (void) say("lost");
}

static int acquire(Tenant *t, const char *region, uint64_t size, bool persistent) {
        int r;

        r = acquire_slice(t->connection, t->label, region, size, persistent, &t->lease);
        if (r < 0)
                return failed(t, r, "acquire");
        t->id = strdup(egm_lease_get_id(t->lease));
        if (!t->id)
                return -ENOMEM;
        t->lifetime_fd = egm_lease_take_lifetime_fd(t->lease);
        r = memory_map(&t->memory, t->lease, t->label);
        if (r < 0)
                return failed(t, r, "map");
        r = memory_check_zero(&t->memory);
        return r < 0 ? r : memory_fill(&t->memory);
}

static int say_filled(const Tenant *t) {
        printf("filled %s %s\n", t->id, t->memory.place);
        return fflush(stdout) == 0 ? 0 : -EIO;
}

/* Nobody tells how egmd is: the descriptor itself must stay as if it were always there. */
static int check_lifetime(Tenant *t) {
        struct pollfd p = {.fd = t->lifetime_fd};

        if (t->lifetime_fd >= 0 && poll(&p, 1, 0) != 0)
                return failed(t, -EPIPE, "the lifetime's descriptor has an event");
        return 0;
}

static int look(Tenant *t) {
        int r;

        r = memory_check_pattern(&t->memory);
        if (r >= 0)
                r = signals_check();
        if (r >= 0)
                r = check_lifetime(t);
        if (r >= 0 && t->watch)
                r = egm_connection_dispatch(t->connection);
        return r;
}

static int keep(Tenant *t) {
        uint64_t rounds = 0;
        bool end;
        int r;

        do {
                clock_t before = clock();

                r = look(t);
                if (r < 0)
                        return r;
                rounds++;
                /* An emulated CPU that spins takes from the others: a third of it will do. */
                end = told_to_end((int) (2 * (clock() - before) * 1000 / CLOCKS_PER_SEC) + 1);
        } while (!end);
        r = look(t);
        if (r < 0)
                return r;
        printf("intact %" PRIu64 "\n", rounds + 1);
        return fflush(stdout) == 0 ? 0 : -EIO;
}

/* Everything but the mapping, or but the lifetime. */
static void drop_descriptors(Tenant *t) {
        safe_close(egm_lease_take_slice_fd(t->lease, 0));
        t->lease = egm_lease_unref(t->lease);
        t->connection = egm_connection_unref(t->connection);
}

static int keep_split(Tenant *t) {
        int status;
        pid_t pid;

        pid = fork();
        if (pid < 0)
                return -errno;
        drop_descriptors(t);
        if (pid == 0) {
                (void) prctl(PR_SET_NAME, "egm-mapper");
                t->lifetime_fd = safe_close(t->lifetime_fd);
                _exit(keep(t) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
        }
        memory_unmap(&t->memory);
        if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return failed(t, -ECHILD, "the process with the mapping");
        return signals_check();
}

static int keep_bound(Tenant *t) {
        _cleanup_close_ int pidfd = -EBADF;
        int r;

        pidfd = (int) syscall(SYS_pidfd_open, getpid(), 0);
        if (pidfd < 0)
                return -errno;
        r = egm_lease_bind(t->lease, pidfd);
        if (r < 0)
                return failed(t, r, "bind");
        t->lifetime_fd = safe_close(t->lifetime_fd);
        return keep(t);
}

static int reopen(Tenant *t, const char *id) {
        int r;

        r = egm_reopen(t->connection, id, &t->lease);
        if (r < 0)
                return failed(t, r, "reopen");
        r = memory_map(&t->memory, t->lease, t->label);
        if (r < 0)
                return failed(t, r, "map");
        r = memory_check_pattern(&t->memory);
        if (r < 0)
                return r;
        memory_unmap(&t->memory);
        r = egm_lease_release(t->lease);
        if (r < 0)
                return failed(t, r, "release");
        return say("intact 1");
}

static int run(Tenant *t, const char *kind, const char *region, uint64_t size) {
        int r;

        r = be_humble();
        if (r >= 0)
                r = signals_expect_none();
        if (r >= 0)
                r = egm_connection_new(NULL, &t->connection);
        if (r < 0)
                return failed(t, r, "start");
        if (streq(kind, "reopen"))
                return reopen(t, region);
        r = acquire(t, region, size, streq(kind, "persistent"));
        if (r < 0)
                return r;
        /* Whoever hears that it has filled its memory may take the device away at once. */
        if (streq(kind, "whole")) {
                r = egm_watch_new(t->connection, on_event, t, &t->watch);
                if (r < 0)
                        return failed(t, r, "watch");
        }
        r = say_filled(t);
        if (r < 0 || streq(kind, "persistent"))
                return r;
        if (streq(kind, "split"))
                return keep_split(t);
        return streq(kind, "bound") ? keep_bound(t) : keep(t);
}

int main(int argc, char *argv[]) {
        _cleanup_(tenant_done) Tenant t = {.lifetime_fd = -EBADF};
        uint64_t size = 0;

        if (argc < 4 ||
            (!streq(argv[1], "reopen") && (argc != 5 || parse_size(argv[4], &size) < 0))) {
                fprintf(stderr, "Usage: egm-tenant KIND LABEL REGION SIZE\n");
                return 2;
        }
        t.label = argv[2];
        return run(&t, argv[1], argv[3], size) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
