/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "stage.h"

#define ACTOR_SECONDS 1200U

static const Who whos[] = {{"root", 0}, {"nobody", 65534}};

static const char *const seen_table[_SEEN_MAX] = {
                [SEEN_NOTHING] = "nothing", [SEEN_ZERO] = "zeros",      [SEEN_OWN] = "own",
                [SEEN_OTHER] = "other",     [SEEN_STRANGE] = "strange", [SEEN_HELD_UP] = "held-up",
                [SEEN_KILLED] = "killed",
};

/* ---- the actor's side ---- */

static int become(const Who *who) {
        if (who->uid == 0)
                return 0;
        if (setgroups(0, NULL) < 0 || setresgid(who->uid, who->uid, who->uid) < 0 ||
            setresuid(who->uid, who->uid, who->uid) < 0)
                return -errno;
        /* Else its own /proc/self is root's. */
        return prctl(PR_SET_DUMPABLE, 1) < 0 ? -errno : 0;
}

static _Noreturn void actor_live(const Stage *s, int control) {
        Actor a = {.control = keep_only(control),
                   .neighbour = s->before.pid,
                   .neighbours = s->before.range,
                   .neighbours_map = s->before.map,
                   .neighbours_lease = egm_lease_get_id(s->before.lease)};

        (void) alarm(ACTOR_SECONDS);
        (void) setpgid(0, 0);
        if (become(s->who) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                _exit(EXIT_FAILURE);
        if (s->scene->prepare)
                s->scene->prepare(&a);
        ask_or_die(&a, REQUEST_START, &a.own);
        if (!s->scene->unbound && mark(a.own.fd, a.own.offset, a.own.size, WRITER_ACTOR) < 0)
                _exit(EXIT_FAILURE);
        s->scene->play(&a);
        _exit(EXIT_SUCCESS);
}

/* ---- what it asks for ---- */

static int lend_to_actor(Stage *s, const char *region, uint64_t size, bool bound, egm_lease **lease,
                         Range *range) {
        Wish wish = {.region = region,
                     .size = size,
                     .holder = bound ? s->actor : 0,
                     .wait_usec = WAIT_USEC};
        int r;

        r = stage_lend(s, &wish, lease);
        return r < 0 ? r : lease_take_range(*lease, range);
}

static int release(egm_lease **l) {
        int r = *l ? egm_lease_release(*l) : -ENOENT;

        *l = egm_lease_unref(*l);
        return r;
}

static int do_start(Stage *s, Message *m) {
        return lend_to_actor(s, "egm4", s->scene->size ?: SLICE, !s->scene->unbound, &s->lease,
                             &m->range);
}

static int do_again(Stage *s, Message *m) {
        tenant_stop(&s->next);
        return do_start(s, m);
}

static int do_release(Stage *s, Message *m) {
        return release(&s->lease);
}

static int do_lend(Stage *s, Message *m) {
        return tenant_start(s, &s->next, WRITER_NEXT, s->gated ? WAIT_USEC : WAIT_IN_VAIN_USEC);
}

static int do_lend_held(Stage *s, Message *m) {
        return tenant_start(s, &s->next, WRITER_NEXT, WAIT_IN_VAIN_USEC);
}

static int do_bind(Stage *s, Message *m) {
        return egm_lease_bind(s->lease, m->range.fd);
}

static int do_second(Stage *s, Message *m) {
        return lend_to_actor(s, "egm4", SLICE - s->scene->size, true, &s->second, &m->range);
}

static int do_elsewhere(Stage *s, Message *m) {
        return lend_to_actor(s, "egm5", SLICE, true, &s->second, &m->range);
}

static int do_stranger(Stage *s, Message *m) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(to_status(become(s->who) < 0 ? -ENOTRECOVERABLE
                                                   : look(m->range.fd, m->range.offset,
                                                          m->range.size)));
        return pid < 0 ? -errno : wait_for(pid);
}

static int do_delegate(Stage *s, Message *m) {
        Wish wish = {.region = "egm5", .delegate = s->who->uid, .wait_usec = WAIT_USEC};

        return stage_lend(s, &wish, &s->delegated);
}

/* Nobody's at all: whoever sees something of it saw what was somebody else's. */
static int do_delegate_held(Stage *s, Message *m) {
        Wish wish = {.region = "egm5", .delegate = 12345, .wait_usec = WAIT_IN_VAIN_USEC};

        return stage_lend(s, &wish, &s->delegated);
}

static int do_release_second(Stage *s, Message *m) {
        return release(&s->second);
}

static int do_take_back(Stage *s, Message *m) {
        int r = release(&s->delegated);

        return r < 0 ? r : stage_wait_free(s, "egm5", REGION_SIZE);
}

static int do_kill(Stage *s, Message *m) {
        return egmd_kill();
}

static int do_stop(Stage *s, Message *m) {
        return egmd_systemctl("stop");
}

static int do_restart(Stage *s, Message *m) {
        Message begun = {};
        int r, status;
        pid_t pid;

        r = egmd_systemctl_start("restart", &pid);
        if (r >= 0)
                r = message_send(s->control, &begun, -EBADF);
        if (r < 0)
                return r;
        return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -EIO;
}

static int (*const requests[_REQUEST_MAX])(Stage *s, Message *m) = {
                [REQUEST_START] = do_start,
                [REQUEST_RELEASE] = do_release,
                [REQUEST_LEND] = do_lend,
                [REQUEST_LEND_HELD] = do_lend_held,
                [REQUEST_AGAIN] = do_again,
                [REQUEST_BIND] = do_bind,
                [REQUEST_SECOND] = do_second,
                [REQUEST_ELSEWHERE] = do_elsewhere,
                [REQUEST_STRANGER] = do_stranger,
                [REQUEST_DELEGATE] = do_delegate,
                [REQUEST_TAKE_BACK] = do_take_back,
                [REQUEST_DELEGATE_HELD] = do_delegate_held,
                [REQUEST_RELEASE_SECOND] = do_release_second,
                [REQUEST_KILL] = do_kill,
                [REQUEST_STOP] = do_stop,
                [REQUEST_RESTART] = do_restart,
};

static void print_outcome(const Stage *s, const char *name, int r) {
        printf("%s %s %s\n", name, s->who->name, r < 0 ? strerrorname_np(-r) : seen_table[r]);
        (void) fflush(stdout);
}

static void serve(Stage *s) {
        Message m;

        while (message_receive(s->control, &m) >= 0) {
                int fd = m.range.fd;

                if (m.request == REQUEST_REPORT) {
                        print_outcome(s, m.name, m.r);
                        continue;
                }
                m.r = requests[m.request](s, &m);
                if (m.range.fd == fd)
                        m.range.fd = -EBADF;
                safe_close(fd);
                if (m.r < 0)
                        printf("# %s: request %u: %s\n", s->scene->name, m.request, strerror(-m.r));
                (void) message_send(s->control, &m, m.range.fd);
                safe_close(m.range.fd);
        }
}

/* ---- one scene ---- */

/* What the actor forked is in his process group, and ours once its parent has gone. */
static int end_actor(Stage *s) {
        int status;

        if (waitpid(s->actor, &status, 0) < 0)
                return -errno;
        (void) kill(-s->actor, SIGKILL);
        while (waitpid(-s->actor, NULL, 0) > 0)
                ;
        if (status == 0)
                return 0;
        printf("# %s: the actor ended with status %#x\n", s->scene->name, (unsigned) status);
        return -EIO;
}

static int play_scene(Stage *s) {
        int sockets[2], r, k;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
                return -errno;
        (void) fflush(stdout);
        s->actor = fork();
        if (s->actor < 0)
                return -errno;
        if (s->actor == 0) {
                (void) close(sockets[0]);
                actor_live(s, sockets[1]);
        }
        (void) close(sockets[1]);
        s->control = sockets[0];
        serve(s);
        r = end_actor(s);
        s->control = safe_close(s->control);

        tenant_stop(&s->next);
        s->lease = egm_lease_unref(s->lease);
        s->second = egm_lease_unref(s->second);
        s->delegated = egm_lease_unref(s->delegated);
        k = stage_wait_free(s, "egm4", SLICE);
        if (k >= 0)
                k = stage_wait_free(s, "egm5", REGION_SIZE);
        return r < 0 ? r : k;
}

/* ---- all of it ---- */

static void on_event(egm_connection *c, egm_event *e, void *userdata) {
}

/* The actor's slice is the hole between the two: there is no other place for one. */
static int set_up(Stage *s) {
        Tenant plug = {};
        int r;

        r = egm_connection_new(NULL, &s->connection);
        if (r >= 0)
                r = egm_watch_new(s->connection, on_event, NULL, &s->watch);
        if (r >= 0)
                r = stage_wait_free(s, "egm4", REGION_SIZE);
        if (r >= 0)
                r = stage_wait_free(s, "egm5", REGION_SIZE);
        if (r >= 0)
                r = tenant_start(s, &s->before, WRITER_BEFORE, 0);
        if (r >= 0)
                r = tenant_start(s, &plug, WRITER_NEXT, 0);
        if (r >= 0)
                r = tenant_start(s, &s->after, WRITER_AFTER, 0);
        tenant_stop(&plug);
        if (r >= 0)
                r = stage_wait_free(s, "egm4", SLICE);
        if (r >= 0 && (s->before.range.offset != 0 || s->after.range.offset != 2 * SLICE))
                r = -ENOTRECOVERABLE;
        return r;
}

static void tear_down(Stage *s) {
        tenant_stop(&s->before);
        tenant_stop(&s->after);
        egm_watch_unref(s->watch);
        egm_connection_unref(s->connection);
}

int stage_play(const Scene *const *scenes, size_t n, bool gated) {
        _cleanup_(tear_down) Stage s = {.gated = gated};
        int r, ret = 0;

        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                return -errno;
        r = set_up(&s);
        if (r < 0) {
                printf("# the stage cannot be set up: %s\n", strerror(-r));
                return r;
        }
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < ELEMENTSOF(whos); k++) {
                        s.scene = scenes[i];
                        s.who = &whos[k];
                        r = play_scene(&s);
                        if (r < 0)
                                ret = r;
                }
        if (!tenant_is_intact(&s.before) || !tenant_is_intact(&s.after)) {
                (void) puts("# a tenant's bytes have changed");
                ret = -EIO;
        }
        return ret;
}
