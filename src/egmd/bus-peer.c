/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "accounts.h"
#include "bus-internal.h"
#include "fd-util.h"
#include "holders.h"
#include "log.h"
#include "pidfd.h"

/* The bus is asked once who a peer is; the answer holds until the name goes, and a unique name never comes back. */

#define PEER_WAITING_MAX 256U
/* Of all together, when descriptors are scarce: who has just come may be here to give something back. */
#define SCARCE_WAITING_MAX 8U
/* For who has no limit as a user. */
#define PEER_CALLS_MAX 2048U

static Peer *peer_free(Peer *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n_waiting; i++)
                sd_bus_message_unref(p->waiting[i]);
        free(p->waiting);
        bus_answers_free(p);
        bus_reader_done(p);
        sd_bus_slot_unref(p->query);
        free(p->gids);
        assert(p->n_calls == 0);
        quota_party_unref(p->party);
        free(p->unit);
        free(p->slice);
        free(p->name);
        return mfree(p);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Peer *, peer_free)

void bus_peers_stop(Bus *b) {
        Peer *p;

        TAILQ_FOREACH (p, &b->peers, link)
                bus_answers_forget(p);
}

void bus_peers_free(Bus *b) {
        Peer *p;

        while ((p = TAILQ_FIRST(&b->peers))) {
                TAILQ_REMOVE(&b->peers, p, link);
                peer_free(p);
        }
}

Peer *bus_peer_find(Bus *b, const char *name) {
        Peer *p;

        TAILQ_FOREACH (p, &b->peers, link)
                if (streq(p->name, name)) {
                        /* Who calls once calls again, and a getter asks for each property. */
                        TAILQ_REMOVE(&b->peers, p, link);
                        TAILQ_INSERT_HEAD(&b->peers, p, link);
                        return p;
                }
        return NULL;
}

static void forget_peer(Peer *p) {
        TAILQ_REMOVE(&p->bus->peers, p, link);
        peer_free(p);
}

bool bus_says(sd_bus_message *m) {
        return streq_ptr(sd_bus_message_get_sender(m), "org.freedesktop.DBus") ||
               streq_ptr(sd_bus_message_get_sender(m), "org.freedesktop.DBus.Local");
}

static int on_gone(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *old, *new;
        Bus *b = userdata;
        Peer *p;

        if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || *new)
                return 0;
        p = bus_peer_find(b, name);
        if (!p)
                return 0;
        bus_polkit_forget(b, name);
        bus_objects_forget(b, name);
        bus_answers_forget(p);
        bus_acquire_forget(b, name);
        forget_peer(p);
        return 0;
}

/* One match for all: a rule for each peer would run into the bus' limit, and that costs the connection. */
int bus_peers_watch(Bus *b) {
        return sd_bus_add_match_async(
                        b->bus, NULL,
                        "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                        "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                        on_gone, NULL, b);
}

static int read_gids(Peer *p, sd_bus_message *m) {
        const uint32_t *list;
        size_t size;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "au");
        if (r < 0)
                return r;
        r = sd_bus_message_read_array(m, 'u', (const void **) &list, &size);
        if (r < 0)
                return r;
        free(p->gids);
        p->n_gids = 0;
        p->gids = calloc(size / sizeof(*list) + 1, sizeof(*p->gids));
        if (!p->gids)
                return -ENOMEM;
        for (size_t i = 0; i < size / sizeof(*list); i++)
                p->gids[p->n_gids++] = list[i];
        return sd_bus_message_exit_container(m);
}

static int read_credentials(Peer *p, sd_bus_message *m) {
        bool have_uid = false;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;
                uint32_t u;

                r = sd_bus_message_read(m, "s", &key);
                if (r < 0)
                        return r;
                if (streq(key, "UnixUserID")) {
                        r = sd_bus_message_read(m, "v", "u", &u);
                        p->uid = u;
                        have_uid = true;
                } else if (streq(key, "ProcessID")) {
                        r = sd_bus_message_read(m, "v", "u", &u);
                        p->pid = (pid_t) u;
                } else if (streq(key, "UnixGroupIDs"))
                        r = read_gids(p, m);
                else
                        r = sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return have_uid ? 0 : -ENODATA;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Peer *p = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int r;

        r = e ? -sd_bus_error_get_errno(e) : bus_says(m) ? read_credentials(p, m) : -EPERM;
        if (r >= 0 && p->pid > 0)
                (void) pid_get_unit(p->pid, &p->unit, &p->slice);
        if (r >= 0)
                r = quota_party_new(p->bus->manager->quota, p->uid, p->unit, p->slice, &p->party);
        p->known = r >= 0;
        if (!p->known)
                (void) log_debug_errno(r, "Failed to find out who %s is: %m", p->name);
        for (size_t i = 0; i < p->n_waiting; i++) {
                if (p->known)
                        r = sd_bus_enqueue_for_read(p->bus->bus, p->waiting[i]);
                else
                        r = sd_bus_reply_method_errorf(p->waiting[i], SD_BUS_ERROR_ACCESS_DENIED,
                                                       "The bus does not tell who you are");
                if (r < 0)
                        (void) log_debug_errno(r, "Failed to take up a call again: %m");
                sd_bus_message_unref(p->waiting[i]);
        }
        p->n_waiting = 0;
        /* It has gone already: nothing would tell of that any more. */
        if (!p->known)
                forget_peer(p);
        return 0;
}

static int peer_new(Bus *b, const char *name, Peer **ret) {
        _cleanup_(peer_freep) Peer *p = NULL;
        int r;

        p = malloc(sizeof(*p));
        if (!p)
                return -ENOMEM;
        *p = (Peer){.bus = b, .uid = (uid_t) -1, .name = strdup(name)};
        TAILQ_INIT(&p->answers);
        if (!p->name)
                return -ENOMEM;
        r = sd_bus_call_method_async(b->bus, &p->query, "org.freedesktop.DBus",
                                     "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                     "GetConnectionCredentials", on_credentials, p, "s", name);
        if (r < 0)
                return r;
        TAILQ_INSERT_HEAD(&b->peers, p, link);
        *ret = TAKE_PTR(p);
        return 0;
}

static size_t count_waiting(const Bus *b) {
        const Peer *p;
        size_t n = 0;

        TAILQ_FOREACH (p, &b->peers, link)
                n += p->n_waiting;
        return n;
}

int bus_peer_get(Bus *b, sd_bus_message *m, Peer **ret, sd_bus_error *reterr) {
        const char *sender = sd_bus_message_get_sender(m);
        sd_bus_message **t;
        Peer *p;
        int r;

        if (!sender)
                return sd_bus_error_set(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                        "A call without a sender");
        p = bus_peer_find(b, sender);
        if (!p) {
                r = peer_new(b, sender, &p);
                if (r < 0)
                        return r;
        }
        if (p->known) {
                *ret = p;
                return 1;
        }
        if (p->n_waiting >= PEER_WAITING_MAX)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                         "%zu calls wait already; the limit is %u", p->n_waiting,
                                         PEER_WAITING_MAX);
        if (bus_fds_are_scarce(b) && count_waiting(b) >= SCARCE_WAITING_MAX)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                         "egmd has too few descriptors left to keep more than %u "
                                         "calls",
                                         SCARCE_WAITING_MAX);
        t = realloc(p->waiting, (p->n_waiting + 1) * sizeof(*t));
        if (!t)
                return -ENOMEM;
        p->waiting = t;
        t[p->n_waiting++] = sd_bus_message_ref(m);
        return 0;
}

bool bus_peer_is_root(const Peer *p) {
        return p->uid == 0 || p->uid == geteuid();
}

int bus_begin_call(Peer *p, EgmError *reterr) {
        int r;

        if (p->n_calls >= PEER_CALLS_MAX)
                return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                     "%u calls of %s wait for their answers; the limit is %u",
                                     p->n_calls, p->name, PEER_CALLS_MAX);
        r = accounts_begin_call(p->bus->manager, p->party, reterr);
        if (r >= 0)
                p->n_calls++;
        return r;
}

void bus_end_call(Peer *p) {
        assert(p->n_calls > 0);
        p->n_calls--;
        accounts_end_call(p->party);
}

bool bus_peer_may_acquire(const Bus *b, const Peer *p) {
        if (bus_peer_is_root(p))
                return true;
        for (size_t i = 0; i < p->n_gids && b->group != (gid_t) -1; i++)
                if (p->gids[i] == b->group)
                        return true;
        return false;
}

/* A program that runs as somebody else in part is not his alone. The caller himself has shown who he is: but by a number that may be
 * another process' by now, so one of the ids must be his. */
int bus_peer_check_process(const Peer *p, bool enforced, int pidfd, EgmError *reterr) {
        uid_t uids[PIDFD_UIDS];
        size_t n = 0;
        pid_t pid;
        int r;

        if (!enforced || p->uid == 0)
                return 0;
        r = pidfd_get_pid(pidfd, &pid);
        if (r < 0)
                return 0; /* what it is not, others will say */
        r = pidfd_get_uids(pidfd, uids);
        for (size_t i = 0; i < PIDFD_UIDS && r >= 0; i++)
                n += uids[i] == p->uid;
        if (n == PIDFD_UIDS || (n > 0 && pid == p->pid))
                return 0;
        return egm_error_set(reterr, EGM_ERROR_ACCESS_DENIED,
                             "Process %i is not all uid %u's: only root may have it map a lease "
                             "that is enforced",
                             (int) pid, (unsigned) p->uid);
}

bool bus_peer_owns(const Peer *p, const Lease *l) {
        return bus_peer_is_root(p) || p->uid == l->owner_uid;
}
