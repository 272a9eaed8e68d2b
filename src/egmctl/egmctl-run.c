/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "egmctl.h"
#include "fd-util.h"
#include "placeholder.h"
#include "spawn.h"
#include "text.h"

/* The lease with what the command gets of it. */
typedef struct Run {
        const Options *o;
        egm_connection *connection;
        egm_lease *lease;
        egm_inject *inject; /* NULL: the command opens nothing of ours by path */
        InjectLease inject_lease;
        char *id;
        int lifetime_fd; /* ours, so that the lease outlives a command that closes what it does not know */
        PlaceholderSlice *slices;
        size_t n_slices;
        char **argv;
        char **environment;
        int *dmabufs; /* of the slices; NULL: none are wanted */
        int *fds;     /* to be inherited */
        size_t n_fds;
} Run;

static char **strv_free(char **v) {
        for (char **p = v; p && *p; p++)
                free(*p);
        return mfree(v);
}

/* They are the command's. */
static void close_dmabufs(Run *run) {
        for (size_t i = 0; run->dmabufs && i < run->n_slices; i++)
                run->dmabufs[i] = safe_close(run->dmabufs[i]);
        run->dmabufs = mfree(run->dmabufs);
}

static void run_done(Run *run) {
        close_dmabufs(run);
        strv_free(run->argv);
        strv_free(run->environment);
        free(run->slices);
        free(run->fds);
        free(run->id);
        egm_inject_unref(run->inject);
        egm_lease_unref(run->lease);
        egm_connection_unref(run->connection);
        safe_close(run->lifetime_fd);
}

/* Before anything is taken: are the placeholders ones that will have a value? */
static int check_arguments(const Options *o, size_t n_slices, int n_args, char **args) {
        const PlaceholderValues values = {.n_slices = n_slices, .dmabufs = o->dmabuf};

        for (int i = 0; i < n_args; i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                int r = placeholder_expand(args[i], &values, NULL, &e);

                if (r == -ENOMEM)
                        return complain_oom();
                if (r < 0) {
                        complain("%s", e.message ?: "Bad placeholder");
                        return STATUS_USAGE;
                }
        }
        return STATUS_OK;
}

static int export_dmabufs(Run *run) {
        int *fds, r;

        run->n_slices = egm_lease_count_slices(run->lease);
        if (!run->o->dmabuf)
                return STATUS_OK;
        fds = calloc(run->n_slices, sizeof(*fds));
        if (!fds)
                return complain_oom();
        r = egm_lease_export_dmabuf(run->lease, fds);
        if (r < 0) {
                free(fds);
                return complain_call(run->connection, r, "Failed to export dma-bufs of lease %s",
                                     egm_lease_get_id(run->lease));
        }
        run->dmabufs = fds;
        return STATUS_OK;
}

static int describe_slices(Run *run) {
        size_t n = run->n_slices;

        run->slices = calloc(n, sizeof(*run->slices));
        run->fds = calloc(2 * n + 1, sizeof(*run->fds));
        if (!run->slices || !run->fds)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                PlaceholderSlice *s = run->slices + i;

                (void) egm_lease_get_slice(run->lease, i, &s->region, &s->fd, &s->offset, &s->size);
                s->path = egm_inject_get_path(run->inject, i);
                run->fds[run->n_fds++] = s->fd;
                if (!run->dmabufs)
                        continue;
                s->dmabuf = run->dmabufs[i];
                run->fds[run->n_fds++] = s->dmabuf;
        }
        run->fds[run->n_fds++] = run->lifetime_fd;
        return 0;
}

static int expand_arguments(Run *run, int n_args, char **args) {
        const PlaceholderValues values = {
                        .lease = run->id,
                        .slices = run->slices,
                        .n_slices = run->n_slices,
                        .dmabufs = run->dmabufs,
        };

        run->argv = calloc((size_t) n_args + 1, sizeof(*run->argv));
        if (!run->argv)
                return -ENOMEM;
        for (int i = 0; i < n_args; i++) {
                int r = placeholder_expand(args[i], &values, run->argv + i, NULL);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* See egm_lease_new_from_environment(). */
static int make_environment(Run *run) {
        _cleanup_free_ char *slices = NULL, *dmabufs = NULL;
        size_t size;
        FILE *f;

        f = open_memstream(&slices, &size);
        if (!f)
                return -ENOMEM;
        for (size_t i = 0; i < run->n_slices; i++)
                fprintf(f, "%s%d:%s:%" PRIu64 ":%" PRIu64, i == 0 ? "" : " ", run->slices[i].fd,
                        run->slices[i].region, run->slices[i].offset, run->slices[i].size);
        if (memstream_close(f, &slices) < 0)
                return -ENOMEM;
        f = open_memstream(&dmabufs, &size);
        if (!f)
                return -ENOMEM;
        for (size_t i = 0; run->dmabufs && i < run->n_slices; i++)
                fprintf(f, "%s%d", i == 0 ? "" : " ", run->slices[i].dmabuf);
        if (memstream_close(f, &dmabufs) < 0)
                return -ENOMEM;
        run->environment = calloc(5, sizeof(*run->environment));
        if (!run->environment || asprintf(run->environment, "EGM_LEASE=%s", run->id) < 0 ||
            asprintf(run->environment + 1, "EGM_LIFETIME_FD=%d", run->lifetime_fd) < 0 ||
            asprintf(run->environment + 2, "EGM_SLICES=%s", slices) < 0 ||
            (run->dmabufs && asprintf(run->environment + 3, "EGM_DMABUFS=%s", dmabufs) < 0))
                return -ENOMEM;
        return 0;
}

static int prepare(Run *run, int n_args, char **args) {
        int r;

        run->id = strdup(egm_lease_get_id(run->lease));
        if (!run->id)
                return -ENOMEM;
        run->lifetime_fd = egm_lease_take_lifetime_fd(run->lease);
        r = describe_slices(run);
        if (r >= 0)
                r = expand_arguments(run, n_args, args);
        return r < 0 ? r : make_environment(run);
}

/* ---- The command's life ---- */

/* A signal from the terminal went to the whole foreground group: the command has it already, if it is still in ours. */
static bool child_has_it(const struct signalfd_siginfo *si, pid_t child) {
        return si->ssi_code == SI_KERNEL && getpgid(child) == getpgrp();
}

static void forward_signal(int signal_fd, const Spawned *child) {
        struct signalfd_siginfo si;

        if (read(signal_fd, &si, sizeof(si)) != (ssize_t) sizeof(si))
                return;
        if (!child_has_it(&si, child->pid))
                (void) spawned_kill(child, (int) si.ssi_signo);
}

/* Until the command has ended. */
static int serve(const Run *run, const Spawned *child, int signal_fd) {
        int inject_fd = run->inject ? egm_inject_get_fd(run->inject) : -EBADF;

        for (;;) {
                struct pollfd p[] = {
                                {.fd = child->pidfd, .events = POLLIN},
                                {.fd = signal_fd, .events = POLLIN},
                                {.fd = inject_fd, .events = POLLIN},
                };

                if (poll(p, ELEMENTSOF(p), -1) < 0 && errno != EINTR)
                        return -errno;
                if (p[0].revents != 0)
                        return 0;
                if (p[1].revents != 0)
                        forward_signal(signal_fd, child);
                if (p[2].revents != 0 && !inject_serve(run->inject))
                        inject_fd = -EBADF;
        }
}

/* The command's exit status, as a shell would say it. */
static int wait_for(Run *run, const Spawned *child, int signal_fd) {
        siginfo_t si = {};
        int r;

        r = serve(run, child, signal_fd);
        if (r < 0)
                return complain_call(NULL, r, "Failed to wait for the command");
        if (waitid(P_PID, (id_t) child->pid, &si, WEXITED) < 0)
                return complain_call(NULL, -errno, "Failed to wait for the command");
        if (run->inject && si.si_code == CLD_EXITED && si.si_status != 0)
                inject_explain(run->inject, run->argv[0]);
        /* It has the memory, too. */
        run->inject = egm_inject_unref(run->inject);
        return si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
}

/* Days may have passed: not on the connection of then. What goes wrong here is said, but does not hide how the command
 * ended: without our descriptor the lease ends as well, when the last process of the command is gone. */
static void release(const Run *run) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        int r;

        r = egm_connection_new(run->o->bus, &c);
        if (r >= 0)
                r = egm_release(c, run->id);
        /* Somebody else has ended it before: that is as good, whether it is gone or still on its way. */
        if (r < 0 && r != -ENOENT &&
            egm_error_kind_from_name(egm_connection_get_error_name(c)) != EGM_ERROR_DRAINING)
                (void) complain_call(c, r, "Failed to release lease %s", run->id);
}

static int install(void *userdata) {
        return egm_inject_install(userdata);
}

/* What the process opens from here on is shown to us. */
static int prepare_inject(Run *run, Spawned *child) {
        int fd, r;

        r = spawned_prepare(child, &fd);
        if (r == -EBUSY) {
                complain("A seccomp supervisor watches us already, perhaps another egmctl run: one "
                         "lease can have several slices (--no-inject does without)");
                return STATUS_FAILED;
        }
        if (r >= 0) {
                r = egm_inject_set_listener(run->inject, fd);
                if (r < 0)
                        safe_close(fd);
        }
        run->inject_lease = (InjectLease){run->o->bus, run->id};
        if (r >= 0)
                r = inject_watch(run->inject, &run->inject_lease);
        if (r < 0)
                return complain_call(NULL, r, "Failed to watch what the command opens");
        return STATUS_OK;
}

/* Ties the lease to the process that waits to become the command, and lets it. */
static int bind_and_start(Run *run, Spawned *child) {
        int r;

        r = egm_lease_bind(run->lease, child->pidfd);
        if (r < 0)
                return complain_call(run->connection, r, "Failed to bind lease %s to the command",
                                     run->id);
        if (run->inject) {
                r = prepare_inject(run, child);
                if (r != STATUS_OK)
                        return r;
        }
        r = spawned_start(child);
        if (r < 0) {
                (void) complain_call(NULL, r, "Failed to execute %s", run->argv[0]);
                return r == -ENOENT ? STATUS_NO_COMMAND : STATUS_CANNOT_EXECUTE;
        }
        return STATUS_OK;
}

static int spawn_and_wait(Run *run, int signal_fd, const SpawnSignals *signals) {
        const SpawnWhat what = {
                        .argv = run->argv,
                        .environment = run->environment,
                        .fds = run->fds,
                        .n_fds = run->n_fds,
                        .prepare = install,
                        .userdata = run->inject,
        };
        _cleanup_(spawned_done) Spawned child = SPAWNED_NULL;
        int r;

        r = spawn(&what, signals, &child);
        if (r < 0)
                return complain_call(NULL, r, "Failed to start the command");
        r = bind_and_start(run, &child);
        if (r != STATUS_OK)
                return r;
        /* From here on nothing of the memory is ours but what is to be handed out, and nothing is to be said to the
         * daemon. */
        run->lease = egm_lease_unref(run->lease);
        run->connection = egm_connection_unref(run->connection);
        close_dmabufs(run);
        return wait_for(run, &child, signal_fd);
}

static int run_command(Run *run, int n_args, char **args) {
        _cleanup_close_ int signal_fd = -EBADF;
        SpawnSignals signals;
        int r;

        r = export_dmabufs(run);
        if (r != STATUS_OK)
                return r;
        r = prepare(run, n_args, args);
        if (r < 0)
                return complain_oom();
        signal_fd = spawn_block_signals(&signals);
        if (signal_fd < 0)
                return complain_call(NULL, signal_fd, "Failed to wait for signals");
        return spawn_and_wait(run, signal_fd, &signals);
}

static char *default_label(const char *command) {
        const char *slash = strrchr(command, '/');
        char *label = strndup(slash ? slash + 1 : command, 64);

        if (label)
                text_make_printable(label);
        return label;
}

static int run_acquired(Run *run, int n_args, char **args) {
        _cleanup_free_ char *label = NULL;
        int r, status;

        r = check_arguments(run->o, run->o->n_slices, n_args, args);
        if (r != STATUS_OK)
                return r;
        label = default_label(args[0]);
        if (!label)
                return complain_oom();
        r = connect_bus(run->o, &run->connection);
        if (r != STATUS_OK)
                return r;
        r = acquire(run->o, run->connection, label, &run->lease);
        if (r != STATUS_OK)
                return r;
        status = inject_new(run->o, run->lease, n_args, args, &run->inject);
        if (status == STATUS_OK)
                status = run_command(run, n_args, args);
        else
                (void) egm_lease_release(run->lease);
        if (run->id)
                release(run);
        return status;
}

/* On a lease that somebody else keeps: whatever comes of the command, it is not ours to release. */
static int run_attached(Run *run, int n_args, char **args) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        size_t n_slices;
        int r;

        r = connect_bus(run->o, &run->connection);
        if (r != STATUS_OK)
                return r;
        r = egm_reopen(run->connection, run->o->lease, &run->lease);
        if (r < 0)
                return complain_call(run->connection, r, "Failed to take lease %s", run->o->lease);
        n_slices = egm_lease_count_slices(run->lease);
        r = inject_option_check(&run->o->inject, n_slices, &e);
        if (r < 0) {
                complain("%s", e.message ?: "Bad option");
                return STATUS_USAGE;
        }
        r = check_arguments(run->o, n_slices, n_args, args);
        if (r == STATUS_OK)
                r = inject_new(run->o, run->lease, n_args, args, &run->inject);
        return r == STATUS_OK ? run_command(run, n_args, args) : r;
}

int verb_run(const Options *o, int n_args, char **args) {
        _cleanup_(run_done) Run run = {.o = o, .lifetime_fd = -EBADF};

        return o->lease ? run_attached(&run, n_args, args) : run_acquired(&run, n_args, args);
}
