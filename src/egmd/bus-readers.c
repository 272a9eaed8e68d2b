/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "bus-internal.h"
#include "log.h"

/* Callers that do not read.
 *
 * dbus-daemon keeps what a client does not read, and counts it as the sender's: at 127 MiB it takes nothing from him any
 * more, and nobody is answered. So nobody gets more than a share of that without reading. What a caller has been
 * answered is counted, roughly, and when that is much, his calls wait until the bus says that he has read it. It knows
 * how much it keeps for whom; no caller has to do anything for that, and none can lie about it.
 *
 * The bus lets a connection have 128 calls without an answer, so those that wait are few. */

/* Most answers have less. */
#define ANSWER_SIZE (2 * KIB)
/* What one lease adds to the longer ones. */
#define LEASE_SIZE 64U
#define LEASE_OBJECT_SIZE (1 * KIB)

/* Of one connection, of one user's; and of everybody's but root's, for what is longer. */
#define CONNECTION_MAX (256 * KIB)
#define USER_MAX (16 * MIB)
#define ALL_MAX (64 * MIB)
#define HELD_MAX 256U
/* In vain, until each is asked. */
#define SWEEPS 3U
/* How soon the bus is asked again: later and later, for as long as nobody reads. */
#define AGAIN_MIN_USEC (10 * USEC_PER_MSEC)
#define AGAIN_MAX_USEC (320 * USEC_PER_MSEC)

static uint64_t owed(const Peer *p) {
        return p->unread + p->coming;
}

/* With hundreds of connections it takes longer to add them up than a call should; and most of the time all together are
 * far below what one user may have. */
static bool is_over(const Peer *p, bool is_long) {
        uint64_t user = 0, all = 0, sum = 0;
        const Peer *q;

        if (owed(p) >= CONNECTION_MAX || p->n_answers > 0)
                return true;
        if (p->bus->owed_at_most < MIN(USER_MAX, ALL_MAX))
                return false;
        TAILQ_FOREACH (q, &p->bus->peers, link) {
                if (q->uid == p->uid)
                        user += owed(q);
                if (q->uid != 0)
                        all += owed(q);
                sum += owed(q);
        }
        p->bus->owed_at_most = sum;
        return user >= USER_MAX || (is_long && p->uid != 0 && all >= ALL_MAX);
}

/* ---- what the bus says ---- */

/* Of one connection: what it has not read, and what others have not taken of it. */
typedef struct Stats {
        uint32_t bytes, fds, fds_from;
} Stats;

static int read_stats(sd_bus_message *m, Stats *ret) {
        Stats o = *ret;
        bool any = false;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key;

                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0 && streq(key, "OutgoingBytes")) {
                        r = sd_bus_message_read(m, "v", "u", &o.bytes);
                        any = true;
                } else if (r >= 0 && streq(key, "OutgoingFDs"))
                        r = sd_bus_message_read(m, "v", "u", &o.fds);
                else if (r >= 0 && streq(key, "IncomingFDs"))
                        r = sd_bus_message_read(m, "v", "u", &o.fds_from);
                else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        *ret = o;
        return any ? 0 : -ENODATA;
}

static void take_up(Bus *b) {
        Peer *p;

        TAILQ_FOREACH (p, &b->peers, link)
                bus_answers_send(p);
        TAILQ_FOREACH (p, &b->peers, link) {
                if (p->n_held == 0 || (!b->is_blind && is_over(p, false)))
                        continue;
                /* Those that are still too many come back here, in their order. */
                for (size_t i = 0; i < p->n_held; i++) {
                        int r = sd_bus_enqueue_for_read(b->bus, p->held[i]);

                        if (r < 0)
                                (void) log_warning_errno(r, "Failed to take up a call again: %m");
                        sd_bus_message_unref(p->held[i]);
                }
                p->n_held = 0;
                b->readers_usec = 0;
        }
}

/* What the bus answered. 1: that it does not know now; once more, when it matters. */
static int take_stats(Bus *b, sd_bus_message *m, Stats *ret) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int r;

        /* Somebody else said that. */
        if (!bus_says(m))
                return 1;
        if (!e)
                r = read_stats(m, ret);
        else if (sd_bus_error_has_name(e, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                r = 0;
        else
                r = -sd_bus_error_get_errno(e);
        if (r == -ETIMEDOUT || r == -ENOMEM)
                return 1;
        if (r < 0) {
                /* dbus-broker has other ways, and needs none of this. */
                (void) log_info_errno(r, "The bus does not say who reads his answers, so nobody "
                                         "is made to wait for that: %m");
                b->is_blind = true;
        }
        return 0;
}

static int on_stats(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Peer *p = userdata;
        Stats left = {};

        p->stats = sd_bus_slot_unref(p->stats);
        if (take_stats(p->bus, m, &left) > 0)
                left = (Stats){.bytes = UINT32_MAX, .fds = UINT32_MAX};
        /* It may keep signals and what others have said, too. */
        p->unread = p->unread - p->asked + MIN(left.bytes, p->asked);
        if (left.fds < p->unread_fds)
                p->unread_fds = MIN(p->unread_fds, left.fds + p->fds_since_asked);
        take_up(p->bus);
        return 0;
}

void bus_reader_ask(Peer *p) {
        int r;

        if ((p->unread == 0 && p->unread_fds == 0) || p->stats)
                return;
        p->asked = p->unread;
        p->fds_since_asked = 0;
        r = sd_bus_call_method_async(p->bus->bus, &p->stats, "org.freedesktop.DBus",
                                     "/org/freedesktop/DBus", "org.freedesktop.DBus.Debug.Stats",
                                     "GetConnectionStats", on_stats, p, "s", p->name);
        if (r < 0)
                (void) log_debug_errno(r, "Failed to ask what %s has read: %m", p->name);
}

static int on_own_stats(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Bus *b = userdata;
        Stats own = {.fds_from = UINT32_MAX};
        bool waits = false;
        Peer *p;
        int r;

        b->own_stats = sd_bus_slot_unref(b->own_stats);
        r = take_stats(b, m, &own);
        if (r > 0)
                return 0;
        b->n_sweeps = own.fds_from == 0 ? 0 : b->n_sweeps + 1;
        TAILQ_FOREACH (p, &b->peers, link) {
                waits = waits || p->n_answers > 0;
                if (b->n_sweeps == 0)
                        p->unread_fds = MIN(p->unread_fds, p->fds_since_swept);
                else if (b->n_sweeps == SWEEPS)
                        bus_reader_ask(p);
        }
        if (b->n_sweeps == SWEEPS)
                b->n_sweeps = 0;
        else if (b->n_sweeps > 0 && waits)
                bus_readers_sweep(b);
        take_up(b);
        return 0;
}

/* One question instead of one for each peer: mostly all have taken theirs. What was sent behind the question may be in the answer, so that
 * it is asked again before each is. */
void bus_readers_sweep(Bus *b) {
        const char *name;
        Peer *p;
        int r;

        if (b->own_stats || b->is_blind)
                return;
        TAILQ_FOREACH (p, &b->peers, link)
                p->fds_since_swept = 0;
        b->fds_since_swept = 0;
        r = sd_bus_get_unique_name(b->bus, &name);
        if (r >= 0)
                r = sd_bus_call_method_async(b->bus, &b->own_stats, "org.freedesktop.DBus",
                                             "/org/freedesktop/DBus",
                                             "org.freedesktop.DBus.Debug.Stats",
                                             "GetConnectionStats", on_own_stats, b, "s", name);
        if (r < 0)
                (void) log_debug_errno(r, "Failed to ask what has been taken: %m");
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata);

static int arm(Bus *b) {
        int r;

        b->readers_usec = MAX(2 * b->readers_usec, AGAIN_MIN_USEC);
        b->readers_usec = MIN(b->readers_usec, AGAIN_MAX_USEC);
        if (!b->readers_source)
                return sd_event_add_time_relative(b->manager->event, &b->readers_source,
                                                  CLOCK_MONOTONIC, b->readers_usec, USEC_PER_MSEC,
                                                  on_again, b);
        r = sd_event_source_set_time_relative(b->readers_source, b->readers_usec);
        return r < 0 ? r : sd_event_source_set_enabled(b->readers_source, SD_EVENT_ONESHOT);
}

/* While anybody waits: whoever reads now makes room, and nothing tells of it. */
static int ask_again(Bus *b) {
        Peer *p;

        TAILQ_FOREACH (p, &b->peers, link)
                bus_reader_ask(p);
        return arm(b);
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata) {
        Bus *b = userdata;
        const Peer *p;

        /* Those may have room that others have left behind. */
        take_up(b);
        TAILQ_FOREACH (p, &b->peers, link)
                if (p->n_held > 0 || p->n_answers > 0)
                        return ask_again(b);
        return 0;
}

/* ---- calls ---- */

static bool is_armed(const Bus *b) {
        int enabled;

        return b->readers_source && sd_event_source_get_enabled(b->readers_source, &enabled) > 0;
}

int bus_readers_wait(Bus *b) {
        bus_readers_sweep(b);
        return is_armed(b) ? 0 : arm(b);
}

static int hold(Peer *p, sd_bus_message *m, sd_bus_error *reterr) {
        Bus *b = p->bus;
        sd_bus_message **t;
        int r;

        if (p->n_held >= HELD_MAX || bus_fds_are_scarce(b))
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                         "%zu calls of %s wait until it has read its answers",
                                         p->n_held, p->name);
        t = realloc(p->held, (p->n_held + 1) * sizeof(*t));
        if (!t)
                return -ENOMEM;
        p->held = t;
        t[p->n_held++] = sd_bus_message_ref(m);
        if (owed(p) >= CONNECTION_MAX)
                bus_reader_ask(p);
        r = is_armed(b) ? 0 : ask_again(b);
        return r < 0 ? r : 1;
}

/* Of an answer. What it is of GetManagedObjects is counted when that begins. */
static uint64_t estimate(Bus *b, sd_bus_message *m) {
        const char *interface = sd_bus_message_get_interface(m), *path = sd_bus_message_get_path(m);

        if (!sd_bus_message_get_expect_reply(m))
                return 0;
        if (interface && strncmp(interface, "org.nvidia.", strlen("org.nvidia.")) == 0)
                return ANSWER_SIZE;
        if (path && strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) == 0)
                return ANSWER_SIZE;
        return ANSWER_SIZE + LEASE_SIZE * (uint64_t) b->manager->n_leases;
}

int bus_reader_admit(Bus *b, sd_bus_message *m, sd_bus_error *reterr) {
        uint64_t size;
        Peer *p;
        int r;

        if (b->is_blind || !sd_bus_message_get_sender(m))
                return 0;
        r = bus_peer_get(b, m, &p, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        size = estimate(b, m);
        if (p->n_held > 0 || (size > 0 && is_over(p, size > ANSWER_SIZE)))
                return hold(p, m, reterr);
        p->unread += size;
        b->owed_at_most += size;
        return 0;
}

uint64_t bus_reader_begin(Bus *b, const char *name) {
        uint64_t size = LEASE_OBJECT_SIZE * (uint64_t) b->manager->n_leases;
        Peer *p = name ? bus_peer_find(b, name) : NULL;

        if (p) {
                p->coming += size;
                b->owed_at_most += size;
        }
        return size;
}

void bus_reader_end(Bus *b, const char *name, uint64_t size) {
        Peer *p = name ? bus_peer_find(b, name) : NULL;

        if (!p)
                return;
        /* It may have been met only since. */
        p->coming -= MIN(size, p->coming);
        p->unread += size;
        b->owed_at_most += size;
        if (p->n_held > 0)
                bus_reader_ask(p);
}

void bus_reader_done(Peer *p) {
        for (size_t i = 0; i < p->n_held; i++)
                sd_bus_message_unref(p->held[i]);
        p->held = mfree(p->held);
        p->n_held = 0;
        p->stats = sd_bus_slot_unref(p->stats);
}
