/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "bus-internal.h"
#include "log.h"

/* What our own rule does not allow, polkit may. The call is held meanwhile and dispatched once more with the answer, so that
 * everything is looked at again: a lease may have ended, a region or the caller gone. An answer is good for that one
 * dispatch. */

#define POLKIT_NAME "org.freedesktop.PolicyKit1"
#define POLKIT_PATH "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_USER_INTERACTION 1U

#define QUERIES_MAX 128U
#define QUERIES_PER_UID_MAX 16U
/* How many times longer than a program somebody may take who types a password. */
#define INTERACTIVE_FACTOR 5U

typedef enum Verdict {
        VERDICT_WAITING,
        VERDICT_YES,
        VERDICT_NO,
        VERDICT_CHALLENGE, /* yes, if somebody may be asked to authenticate */
        VERDICT_ABSENT,    /* no polkit on this bus */
        VERDICT_FAILED,
} Verdict;

struct PolkitQuery {
        Bus *bus;
        Peer *peer; /* outlives it: see bus_polkit_forget() */
        sd_bus_message *call;
        sd_bus_slot *slot; /* of the question; NULL: answered */
        uint64_t number;
        PolkitAction action;
        uid_t uid;
        Verdict verdict;
        char *failure; /* what polkit, or the bus, said */
        TAILQ_ENTRY(PolkitQuery) link;
};

static const char *const action_table[_POLKIT_ACTION_MAX] = {
                [POLKIT_ACQUIRE] = "org.nvidia.Egm1.acquire",
                [POLKIT_ACQUIRE_PERSISTENT] = "org.nvidia.Egm1.acquire-persistent",
                [POLKIT_RELEASE_OWN] = "org.nvidia.Egm1.release-own",
                [POLKIT_RELEASE_ANY] = "org.nvidia.Egm1.release-any",
                [POLKIT_MANAGE] = "org.nvidia.Egm1.manage",
};

static char *cancellation_id(char buf[static 32], const PolkitQuery *q) {
        (void) snprintf(buf, 32, "egmd-%" PRIu64, q->number);
        return buf;
}

/* Takes a dialog off somebody's screen, for one. */
static int cancel(const PolkitQuery *q) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        char id[32];
        int r;

        r = sd_bus_message_new_method_call(q->bus->bus, &m, POLKIT_NAME, POLKIT_PATH,
                                           POLKIT_INTERFACE, "CancelCheckAuthorization");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", cancellation_id(id, q));
        if (r < 0)
                return r;
        (void) sd_bus_message_set_expect_reply(m, false);
        (void) sd_bus_message_set_auto_start(m, false);
        return sd_bus_send(q->bus->bus, m, NULL);
}

static PolkitQuery *query_free(PolkitQuery *q) {
        if (!q)
                return NULL;
        if (q->number > 0) {
                TAILQ_REMOVE(&q->bus->queries, q, link);
                q->bus->n_queries--;
        }
        bus_end_call(q->peer);
        if (q->slot)
                (void) cancel(q);
        sd_bus_slot_unref(q->slot);
        sd_bus_message_unref(q->call);
        free(q->failure);
        return mfree(q);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(PolkitQuery *, query_free)

/* ---- The answer ---- */

static bool means_absent(const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN,
                                      SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                      "org.freedesktop.systemd1.NoSuchUnit",
                                      "org.freedesktop.systemd1.UnitMasked");
}

static Verdict read_verdict(PolkitQuery *q, sd_bus_message *m) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int authorized, challenge, r;

        if (e) {
                if (means_absent(e))
                        return VERDICT_ABSENT;
                /* Too late for us: whatever it still does about it is in vain. */
                (void) cancel(q);
                (void) free_and_strdup(&q->failure, e->message);
                return VERDICT_FAILED;
        }
        r = sd_bus_message_enter_container(m, 'r', "bba{ss}");
        if (r > 0)
                r = sd_bus_message_read(m, "bb", &authorized, &challenge);
        if (r <= 0) {
                (void) free_and_strdup(&q->failure, "its answer makes no sense");
                return VERDICT_FAILED;
        }
        return authorized ? VERDICT_YES : challenge ? VERDICT_CHALLENGE : VERDICT_NO;
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        PolkitQuery *q = userdata;
        int r;

        q->slot = sd_bus_slot_unref(q->slot);
        q->verdict = read_verdict(q, m);
        if (q->verdict == VERDICT_FAILED)
                log_warning("polkit does not say whether uid %u has %s: %s", (unsigned) q->uid,
                            action_table[q->action], q->failure ?: "no reason given");
        r = sd_bus_enqueue_for_read(q->bus->bus, q->call);
        if (r < 0) {
                (void) sd_bus_reply_method_errno(q->call, r, NULL);
                query_free(q);
        }
        return 0;
}

/* ---- The question ---- */

static int append_question(sd_bus_message *m, const PolkitQuery *q, const char *const *details) {
        int interactive = sd_bus_message_get_allow_interactive_authorization(q->call);
        char id[32];
        int r;

        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(q->call), action_table[q->action]);
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "{ss}");
        for (size_t i = 0; details && details[i] && r >= 0; i += 2)
                r = sd_bus_message_append(m, "{ss}", details[i], details[i + 1]);
        if (r < 0)
                return r;
        r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        return sd_bus_message_append(m, "us", interactive > 0 ? ALLOW_USER_INTERACTION : 0U,
                                     cancellation_id(id, q));
}

static int ask(PolkitQuery *q, const char *const *details) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        sd_bus *bus = q->bus->bus;
        uint64_t usec;
        int r;

        r = sd_bus_message_new_method_call(bus, &m, POLKIT_NAME, POLKIT_PATH, POLKIT_INTERFACE,
                                           "CheckAuthorization");
        if (r < 0)
                return r;
        r = append_question(m, q, details);
        if (r < 0)
                return r;
        r = sd_bus_get_method_call_timeout(bus, &usec);
        if (r < 0)
                return r;
        if (sd_bus_message_get_allow_interactive_authorization(q->call) > 0 &&
            __builtin_mul_overflow(usec, INTERACTIVE_FACTOR, &usec))
                usec = UINT64_MAX;
        return sd_bus_call_async(bus, &q->slot, m, on_answer, q, usec);
}

static int check_limits(const Bus *b, uid_t uid, sd_bus_error *reterr) {
        const PolkitQuery *q;
        unsigned n = 0;

        TAILQ_FOREACH (q, &b->queries, link)
                n += q->uid == uid;
        if (n >= QUERIES_PER_UID_MAX)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                         "%u calls of uid %u wait for polkit already; the limit is "
                                         "%u",
                                         n, (unsigned) uid, QUERIES_PER_UID_MAX);
        if (b->n_queries >= QUERIES_MAX)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                         "%u calls wait for polkit already; the limit is %u",
                                         b->n_queries, QUERIES_MAX);
        return 0;
}

static int query_new(Peer *peer, sd_bus_message *call, PolkitAction action,
                     const char *const *details, sd_bus_error *reterr) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_(query_freep) PolkitQuery *q = NULL;
        Bus *b = peer->bus;
        int r;

        r = bus_begin_call(peer, &e);
        if (r < 0)
                return bus_refuse(reterr, r, &e);
        q = malloc(sizeof(*q));
        if (!q) {
                bus_end_call(peer);
                return -ENOMEM;
        }
        *q = (PolkitQuery){
                        .bus = b,
                        .peer = peer,
                        .call = sd_bus_message_ref(call),
                        .number = ++b->last_query,
                        .action = action,
                        .uid = peer->uid,
        };
        TAILQ_INSERT_TAIL(&b->queries, q, link);
        b->n_queries++;
        r = ask(q, details);
        if (r < 0)
                return r;
        TAKE_PTR(q);
        return 0;
}

static PolkitQuery *find_query(Bus *b, const sd_bus_message *call) {
        PolkitQuery *q;

        TAILQ_FOREACH (q, &b->queries, link)
                if (q->call == call)
                        return q;
        return NULL;
}

static int conclude(const PolkitQuery *q, sd_bus_error *reterr) {
        switch (q->verdict) {
        case VERDICT_YES:
                return 1;
        case VERDICT_ABSENT:
                /* Without polkit what is one's own is one's own. */
                return q->action == POLKIT_RELEASE_OWN ? 1 : -EACCES;
        case VERDICT_CHALLENGE:
                /* Whoever could be asked has been. */
                if (sd_bus_message_get_allow_interactive_authorization(q->call) > 0)
                        return -EACCES;
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                         "polkit wants somebody to authenticate for %s, and the "
                                         "call does not allow to ask",
                                         action_table[q->action]);
        case VERDICT_FAILED:
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                         "polkit does not say whether uid %u has %s: %s",
                                         (unsigned) q->uid, action_table[q->action],
                                         q->failure ?: "no reason given");
        default:
                return -EACCES;
        }
}

int bus_polkit_check(Peer *peer, sd_bus_message *call, PolkitAction action,
                     const char *const *details, sd_bus_error *reterr) {
        Bus *b = peer->bus;
        PolkitQuery *q;
        int r;

        assert(action >= 0 && action < _POLKIT_ACTION_MAX);

        q = find_query(b, call);
        if (q && q->action == action) {
                if (q->verdict == VERDICT_WAITING)
                        return 0;
                r = conclude(q, reterr);
                query_free(q);
                return r;
        }
        /* An answer to another question is none to this one. */
        query_free(q);
        r = check_limits(b, peer->uid, reterr);
        if (r < 0)
                return r;
        return query_new(peer, call, action, details, reterr);
}

void bus_polkit_drop(Bus *b, const sd_bus_message *call) {
        query_free(find_query(b, call));
}

void bus_polkit_forget(Bus *b, const char *sender) {
        PolkitQuery *q, *next;

        for (q = TAILQ_FIRST(&b->queries); q; q = next) {
                next = TAILQ_NEXT(q, link);
                if (!sender || streq_ptr(sd_bus_message_get_sender(q->call), sender))
                        query_free(q);
        }
}
