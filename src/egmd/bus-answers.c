/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "log.h"

/* Answers with descriptors.
 *
 * dbus-daemon keeps 64 descriptors of one sender's that are not taken, and then reads nothing more of his: nobody is answered.
 * A caller needs no more than a full socket for that, which others can fill for him. So a few of them may be under way, of one user's
 * and of all; those beyond wait here until the bus says that some have been taken, and go with who is to have them. Root, who could stop
 * us anyway, is trusted to read: his connections do not wait for others. */

/* An answer has up to 16: one may always go to who has none under way, as long as there is room for all. */
#define FDS_OF_CONNECTION_MAX 8U
#define FDS_OF_USER_MAX 16U
#define FDS_OF_ALL_MAX 60U
/* As long as all together have so few, nobody waits. */
#define FDS_FREE 32U
/* With so many more the bus is asked: before anybody has to wait, and not for each answer. */
#define FDS_ASK 28U

struct Answer {
        sd_bus_message *m;
        unsigned n_fds;
        answer_sent_t before; /* what has to be said to the bus ahead of it */
        uint64_t lease;
        TAILQ_ENTRY(Answer) link;
};

static void answer_free(Peer *p, Answer *a) {
        TAILQ_REMOVE(&p->answers, a, link);
        p->n_answers--;
        sd_bus_message_unref(a->m);
        free(a);
}

static void count_fds(const Peer *p, unsigned *ret_user, unsigned *ret_all) {
        const Peer *q;

        *ret_user = *ret_all = 0;
        TAILQ_FOREACH (q, &p->bus->peers, link) {
                if (q->uid == p->uid)
                        *ret_user += q->unread_fds;
                *ret_all += q->unread_fds;
        }
}

static bool has_room(const Peer *p, unsigned n_fds) {
        bool few = p->unread_fds == 0 || p->unread_fds + n_fds <= FDS_OF_CONNECTION_MAX;
        unsigned user, all;

        if (p->bus->is_blind || (few && p->uid == 0))
                return true;
        count_fds(p, &user, &all);
        if (all + n_fds <= FDS_FREE)
                return true;
        if (!few)
                return false;
        if (user > 0 && user + n_fds > FDS_OF_USER_MAX)
                return false;
        return all + n_fds <= FDS_OF_ALL_MAX;
}

static int send_now(Peer *p, sd_bus_message *m, unsigned n_fds, answer_sent_t before,
                    uint64_t lease) {
        int r;

        r = before ? before(p->bus, p->name, lease) : 0;
        if (r >= 0)
                r = sd_bus_send(p->bus->bus, m, NULL);
        if (r < 0)
                return r;
        if (p->bus->is_blind)
                return 1;
        p->unread_fds += n_fds;
        p->fds_since_asked += n_fds;
        p->fds_since_swept += n_fds;
        p->bus->fds_since_swept += n_fds;
        if (p->bus->fds_since_swept >= FDS_ASK)
                bus_readers_sweep(p->bus);
        return 1;
}

int bus_answer(Peer *p, sd_bus_message *m, unsigned n_fds, answer_sent_t before, uint64_t lease) {
        Answer *a;
        int r;

        if (TAILQ_EMPTY(&p->answers) && has_room(p, n_fds))
                return send_now(p, m, n_fds, before, lease);
        a = malloc(sizeof(*a));
        if (!a)
                return -ENOMEM;
        *a = (Answer){.m = sd_bus_message_ref(m), .n_fds = n_fds, .before = before, .lease = lease};
        TAILQ_INSERT_TAIL(&p->answers, a, link);
        p->n_answers++;
        r = bus_readers_wait(p->bus);
        if (r < 0)
                answer_free(p, a);
        return r < 0 ? r : 1;
}

static void lost(Peer *p, const Answer *a, const char *why) {
        Lease *l = a->before ? manager_find_lease(p->bus->manager, a->lease) : NULL;

        if (l)
                (void) manager_release(p->bus->manager, l, why);
}

void bus_answers_send(Peer *p) {
        Answer *a;

        while ((a = TAILQ_FIRST(&p->answers)) && has_room(p, a->n_fds)) {
                int r = send_now(p, a->m, a->n_fds, a->before, a->lease);

                if (r < 0) {
                        (void) log_warning_errno(r, "Failed to hand descriptors over: %m");
                        lost(p, a, "it could not be handed over");
                }
                answer_free(p, a);
                p->bus->readers_usec = 0;
        }
}

void bus_answers_forget(Peer *p) {
        Answer *a;

        while ((a = TAILQ_FIRST(&p->answers))) {
                lost(p, a, "its caller can be answered no more");
                answer_free(p, a);
        }
}

void bus_answers_free(Peer *p) {
        Answer *a;

        while ((a = TAILQ_FIRST(&p->answers)))
                answer_free(p, a);
}
