/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <time.h>

#include "egmctl.h"
#include "fd-util.h"
#include "process.h"
#include "text.h"

/* release: alone it tells the daemon and leaves. With --wait it stays until the leases are gone; with --kill it ends who
 * holds them up, which only those who may signal these processes can do: the daemon never kills anybody. */

/* One that holds a lease up, by what the daemon said of it. */
typedef struct Victim {
        uint32_t pid;
        uint64_t start_time;
        int pidfd;
        uint64_t kill_at_usec; /* its grace ends */
        bool killed;
        bool spared; /* it must not be ended, or not by us; said already */
} Victim;

typedef struct Release {
        const Options *o;
        egm_connection *connection;
        const char **ids; /* of leases that are not gone yet */
        size_t n_ids;
        Victim *victims;
        size_t n_victims;
        uint64_t now_usec;
        bool daemon_left;
        int status;
} Release;

static void release_done(Release *r) {
        for (size_t i = 0; i < r->n_victims; i++)
                (void) safe_close(r->victims[i].pidfd);
        free(r->victims);
        free(r->ids);
}

static uint64_t monotonic_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

static uint64_t later(uint64_t now_usec, uint64_t usec) {
        uint64_t t;

        return __builtin_add_overflow(now_usec, usec, &t) ? UINT64_MAX : t;
}

/* ---- Who holds a lease up ---- */

/* One line to say what is done to whom. */
static void report(egm_lease_info *l, const char *what, uint32_t pid, const char *command,
                   const char *unit) {
        _cleanup_free_ char *line = NULL;

        if (asprintf(&line, "Lease %s: %s pid %" PRIu32 " (%s%s%s)", egm_lease_info_get_id(l), what,
                     pid, command, *unit ? ", " : "", unit) < 0)
                return;
        text_make_printable(line);
        puts(line);
        (void) fflush(stdout);
}

static void complain_spared(egm_lease_info *l, uint32_t pid, const char *command, const char *unit,
                            const char *why) {
        complain("Lease %s goes on draining: pid %" PRIu32 " (%s%s%s) holds it up: %s",
                 egm_lease_info_get_id(l), pid, command, *unit ? ", " : "", unit, why);
}

/* Why a process is not ended whatever it holds; NULL: it may be. */
static const char *protected(uint32_t pid, const char *command, const char *unit) {
        if (pid <= 1 || pid > INT32_MAX)
                return "that is the system itself";
        if (pid == (uint32_t) getpid())
                return "that is this program";
        /* The daemon never names itself, but there may be another one. */
        if (streq(command, "egmd") || streq(unit, "egmd.service"))
                return "that is egmd";
        return NULL;
}

static Victim *find_victim(const Release *r, uint32_t pid, uint64_t start_time) {
        for (size_t i = 0; i < r->n_victims; i++)
                if (r->victims[i].pid == pid && r->victims[i].start_time == start_time)
                        return r->victims + i;
        return NULL;
}

static int add_victim(Release *r, uint32_t pid, uint64_t start_time, Victim **ret) {
        Victim *t = reallocarray(r->victims, r->n_victims + 1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        r->victims = t;
        *ret = t + r->n_victims++;
        **ret = (Victim){.pid = pid, .start_time = start_time, .pidfd = -EBADF};
        return 0;
}

static int send_signal(const Victim *v, int sig) {
        return pidfd_send_signal(v->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

/* Opens it, and asks it to end. */
static int victim_terminate(Victim *v, egm_lease_info *l, const char *command, const char *unit) {
        int r = process_open((pid_t) v->pid, v->start_time, &v->pidfd);

        if (r < 0)
                return r;
        r = send_signal(v, SIGTERM);
        if (r >= 0)
                report(l, "ending", v->pid, command, unit);
        return r;
}

/* What is to be done about the i-th process that holds the lease up. 1: it is under way; 0: nothing can be done. */
static int end_holder(Release *release, egm_lease_info *l, size_t i) {
        const char *command, *unit, *why;
        uint64_t start_time;
        uint32_t pid;
        Victim *v;
        int r;

        (void) egm_lease_info_get_held_up_by(l, i, &pid, &command, &unit);
        (void) egm_lease_info_get_held_up_by_start_time(l, i, &start_time);
        v = find_victim(release, pid, start_time);
        if (!v) {
                r = add_victim(release, pid, start_time, &v);
                if (r < 0)
                        return r;
                v->kill_at_usec = later(release->now_usec, release->o->kill_after_usec);
                why = protected(pid, command, unit);
                r = why ? 0 : victim_terminate(v, l, command, unit);
        } else if (v->spared || v->killed || v->kill_at_usec > release->now_usec)
                return !v->spared;
        else {
                why = NULL;
                v->killed = true;
                r = send_signal(v, SIGKILL);
                if (r >= 0)
                        report(l, "killing", pid, command, unit);
        }
        /* Gone: the daemon will see that too. */
        if (r == -ESRCH) {
                v->killed = true;
                return 1;
        }
        if (!why && r >= 0)
                return 1;
        v->spared = true;
        complain_spared(l, pid, command, unit, why ?: strerror(-r));
        return 0;
}

static int end_holders(Release *release, egm_lease_info *l) {
        size_t n = egm_lease_info_count_held_up_by(l);
        bool any = n == 0;

        for (size_t i = 0; i < n; i++) {
                int r = end_holder(release, l, i);

                if (r < 0)
                        return r;
                any = any || r > 0;
        }
        return any ? 0 : -EPERM;
}

/* ---- Until they are gone ---- */

/* Was that because it left meanwhile? The bus has told us so before it refused the call. */
static bool daemon_left(Release *release, int error) {
        if (error == -EHOSTUNREACH || error == -ETIMEDOUT)
                while (!release->daemon_left && egm_connection_dispatch(release->connection) > 0)
                        ;
        return release->daemon_left;
}

/* 1: still there; 0: gone, or given up. */
static int look_at(Release *release, const char *id) {
        _cleanup_egm_(lease_info) egm_lease_info *l = NULL;
        int r;

        if (release->daemon_left)
                return 1;
        r = egm_get_lease_info(release->connection, id, &l);
        if (r == -ENOENT)
                return 0;
        if (r < 0 && daemon_left(release, r))
                return 1;
        if (r < 0) {
                release->status = complain_call(release->connection, r,
                                                "Failed to wait for lease %s", id);
                return 0;
        }
        r = release->o->kill ? end_holders(release, l) : 0;
        if (r == -EPERM)
                release->status = STATUS_DENIED;
        else if (r < 0)
                release->status = complain_oom();
        return r >= 0;
}

static void look_at_all(Release *release) {
        size_t n = 0;

        release->now_usec = monotonic_usec();
        for (size_t i = 0; i < release->n_ids; i++)
                if (look_at(release, release->ids[i]) > 0)
                        release->ids[n++] = release->ids[i];
        release->n_ids = n;
}

static void on_event(egm_connection *c, egm_event *e, void *userdata) {
        Release *release = userdata;

        if (egm_event_get_type(e) == EGM_EVENT_DAEMON_STOPPED)
                release->daemon_left = true;
}

/* When there is something to do even if nothing happens. */
static uint64_t next_usec(const Release *release, uint64_t until_usec) {
        for (size_t i = 0; i < release->n_victims; i++) {
                const Victim *v = release->victims + i;

                if (!v->spared && !v->killed && v->kill_at_usec > release->now_usec)
                        until_usec = MIN(until_usec, v->kill_at_usec);
        }
        return until_usec;
}

static int wait_all(Release *release) {
        uint64_t until_usec = later(monotonic_usec(),
                                    release->o->wait ? release->o->wait_usec : UINT64_MAX);

        for (;;) {
                uint64_t next;
                int r;

                look_at_all(release);
                if (release->n_ids == 0)
                        return release->status;
                if (release->daemon_left) {
                        complain("egmd left before lease %s was gone", release->ids[0]);
                        return STATUS_FAILED;
                }
                if (release->now_usec >= until_usec)
                        break;
                next = next_usec(release, until_usec);
                r = egm_connection_wait(release->connection,
                                        next == UINT64_MAX ? UINT64_MAX : next - release->now_usec);
                if (r >= 0)
                        r = egm_connection_dispatch(release->connection);
                if (r < 0 && r != -EINTR)
                        return complain_call(release->connection, r,
                                             "Lost the connection to the bus");
        }
        for (size_t i = 0; i < release->n_ids; i++)
                complain("Lease %s is still there", release->ids[i]);
        return STATUS_REFUSED;
}

int verb_release(const Options *o, int n_args, char **args) {
        _cleanup_(release_done) Release release = {.o = o};
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(watch) egm_watch *watch = NULL;
        bool waits = o->kill || o->wait;
        int r = connect_bus(o, &c);

        if (r != 0)
                return r;
        release.connection = c;
        release.ids = calloc((size_t) n_args, sizeof(*release.ids));
        if (!release.ids)
                return complain_oom();
        if (waits) {
                r = egm_watch_new(c, on_event, &release, &watch);
                if (r < 0)
                        return complain_call(c, r, "Failed to watch egmd");
        }
        /* All of them, whatever happens to one. */
        for (int i = 0; i < n_args; i++) {
                r = egm_release(c, args[i]);
                /* Released by somebody before: what remains to be done is the same. */
                if (r < 0 && !(waits && r == -EBUSY))
                        release.status = complain_call(c, r, "Failed to release lease %s", args[i]);
                else
                        release.ids[release.n_ids++] = args[i];
        }
        return waits ? wait_all(&release) : release.status;
}
