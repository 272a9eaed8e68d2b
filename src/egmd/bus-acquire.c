/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bus-internal.h"
#include "fd-util.h"
#include "log.h"

/* AcquireLease: a call may be answered much later, and its caller may go meanwhile. */

struct PendingAcquire {
        Bus *bus;
        Peer *peer;           /* outlives the call: see bus_acquire_forget() */
        sd_bus_message *call; /* while it waits: who is to be answered, no more */
        Waiter *waiter;       /* NULL while it is being decided */
        TAILQ_ENTRY(PendingAcquire) link;
};

static PendingAcquire *pending_free(PendingAcquire *p) {
        if (!p)
                return NULL;
        TAILQ_REMOVE(&p->bus->pending, p, link);
        bus_end_call(p->peer);
        sd_bus_message_unref(p->call);
        return mfree(p);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(PendingAcquire *, pending_free)

int bus_append_slices(sd_bus_message *m, const Lease *l) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "(shtt)");
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_slices; i++) {
                const Slice *s = l->slices + i;
                const Region *region = s->region;

                r = sd_bus_message_append(m, "(shtt)", s->region_name, region->provider->fd,
                                          s->offset, s->size);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(m);
}

/* ---- Did the answer find its caller? ----
 *
 * A caller that goes before it is answered never learns of its lease. The descriptors in the answer go with it, and so does
 * what lives by them; a persistent lease would stay, and nobody would know of it. So the bus is asked whether the caller
 * is there, in the message before the answer: the bus takes our messages in their order, and a caller that is gone by then
 * is gone when the answer comes. (The other way round a caller that took the answer and left would look the
 * same.) One that goes behind the question, with the answer under way to it, looks like one that has read it. */

typedef struct Delivery {
        Bus *bus;
        uint64_t lease; /* by its id: it may end meanwhile */
} Delivery;

static int on_caller(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const Delivery *d = userdata;
        Lease *l;
        int there, r;

        /* Not knowing is no reason to end it. */
        r = bus_says(m) ? -sd_bus_message_get_errno(m) : -EPERM;
        if (r >= 0)
                r = sd_bus_message_read_basic(m, 'b', &there);
        if (r < 0) {
                (void) log_debug_errno(r, "Failed to find out whether a caller is there: %m");
                return 0;
        }
        l = there ? NULL : manager_find_lease(d->bus->manager, d->lease);
        if (l)
                manager_release(d->bus->manager, l, "its caller was gone before the answer");
        return 0;
}

static int ask_for_caller(Bus *b, const char *name, uint64_t lease) {
        _cleanup_free_ Delivery *d = malloc(sizeof(*d));
        sd_bus_slot *slot = NULL;
        int r;

        if (!d)
                return -ENOMEM;
        *d = (Delivery){.bus = b, .lease = lease};
        r = sd_bus_call_method_async(b->bus, &slot, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                     "org.freedesktop.DBus", "NameHasOwner", on_caller, d, "s",
                                     name);
        if (r < 0)
                return r;
        (void) sd_bus_slot_set_destroy_callback(slot, free);
        TAKE_PTR(d);
        (void) sd_bus_slot_set_floating(slot, true);
        sd_bus_slot_unref(slot);
        return 0;
}

static int send_lease(Peer *peer, sd_bus_message *call, const Lease *l, int lifetime_fd) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = bus_lease_path(l, &path);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_return(call, &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "oh", path, lifetime_fd);
        if (r < 0)
                return r;
        r = bus_append_slices(reply, l);
        if (r < 0)
                return r;
        return bus_answer(peer, reply, 1 + (unsigned) l->n_slices,
                          l->lifetime == LEASE_LIFETIME_PERSISTENT ? ask_for_caller : NULL, l->id);
}

static void acquire_done(int error, const EgmError *e, Lease *l, int lifetime_fd, void *userdata) {
        _cleanup_(pending_freep) PendingAcquire *p = userdata;
        int r;

        if (error < 0) {
                _cleanup_(sd_bus_error_free) sd_bus_error be = SD_BUS_ERROR_NULL;

                if (e->kind == EGM_ERROR_LIMITS_EXCEEDED)
                        (void) bus_fds_are_scarce(p->bus);
                (void) bus_refuse(&be, error, e);
                r = sd_bus_reply_method_error(p->call, &be);
                if (r < 0)
                        (void) log_debug_errno(r, "Failed to answer a request: %m");
                return;
        }
        r = send_lease(p->peer, p->call, l, lifetime_fd);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to hand lease %" PRIu64 " over: %m", l->id);
                (void) manager_release(p->bus->manager, l, "it could not be handed over");
                (void) sd_bus_reply_method_errno(p->call, r, NULL);
        }
}

/* A request that waits may wait for long. What came with it, wanted or not (16 descriptors, say), must not be kept for that. */
static int copy_call(sd_bus_message *call, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint64_t cookie;
        int r;

        r = sd_bus_message_get_cookie(call, &cookie);
        if (r < 0)
                return r;
        r = sd_bus_message_new_method_call(sd_bus_message_get_bus(call), &m, NULL, EGM_PATH,
                                           EGM_MANAGER_INTERFACE, "AcquireLease");
        if (r < 0)
                return r;
        r = sd_bus_message_set_sender(m, sd_bus_message_get_sender(call));
        if (r < 0)
                return r;
        r = sd_bus_message_seal(m, cookie, 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

/* Only root acts for others. */
static int check_users(const AcquireRequest *q, const Peer *peer, sd_bus_error *reterr) {
        if (peer->uid == 0)
                return 0;
        if (q->delegate && q->delegate_uid != peer->uid)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                         "Delegate: uid %u may have a region handed over to itself "
                                         "only, and not to uid %u",
                                         (unsigned) peer->uid, (unsigned) q->delegate_uid);
        if (q->uid != (uid_t) -1 && q->uid != peer->uid)
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                         "OwnerUid: uid %u may acquire leases for itself only, and "
                                         "not for uid %u",
                                         (unsigned) peer->uid, (unsigned) q->uid);
        return 0;
}

/* In figures, or "whole": that is no number which a rule could take for a small one. */
static void describe_bytes(const AcquireRequest *q, char buf[static 32]) {
        (void) snprintf(buf, 32, "%" PRIu64, acquire_request_bytes(q));
        for (size_t i = 0; i < q->n_slices; i++)
                if (q->slices[i].whole)
                        (void) snprintf(buf, 32, "whole");
}

/* 1: it may; 0: polkit is asked, the call comes again; negative: refused. */
static int check_may_acquire(sd_bus_message *m, const AcquireRequest *q, Peer *peer,
                             sd_bus_error *reterr) {
        bool persistent = q->lifetime == LEASE_LIFETIME_PERSISTENT;
        char bytes[32];
        int r;

        if (bus_peer_may_acquire(peer->bus, peer))
                return 1;
        describe_bytes(q, bytes);
        r = bus_polkit_check(peer, m, persistent ? POLKIT_ACQUIRE_PERSISTENT : POLKIT_ACQUIRE,
                             (const char *const[]){"bytes", bytes, NULL}, reterr);
        if (r != -EACCES || sd_bus_error_is_set(reterr))
                return r;
        return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                 "Only root and members of the group " EGM_GROUP
                                 " may acquire leases, and uid %u is neither",
                                 (unsigned) peer->uid);
}

/* 1: it may be, and says by whom; 0: it comes again; negative: refused. */
static int check_request(sd_bus_message *m, AcquireRequest *q, Peer *peer, sd_bus_error *reterr) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        int r;

        r = check_users(q, peer, reterr);
        if (r >= 0)
                r = check_may_acquire(m, q, peer, reterr);
        if (r <= 0)
                return r;
        if (q->holder >= 0) {
                r = bus_peer_check_process(peer, peer->bus->manager->enforce, q->holder, &e);
                if (r < 0)
                        return bus_refuse(reterr, r, &e);
        }
        if (q->uid == (uid_t) -1)
                q->uid = peer->uid;
        q->pid = peer->pid;
        if (free_and_strdup(&q->unit, peer->unit) < 0 ||
            free_and_strdup(&q->unit_slice, peer->slice) < 0)
                return -ENOMEM;
        return 1;
}

static int pending_new(sd_bus_message *m, Peer *peer, PendingAcquire **ret, sd_bus_error *reterr) {
        _cleanup_free_ PendingAcquire *p = malloc(sizeof(*p));
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Bus *b = peer->bus;
        int r;

        if (!p)
                return -ENOMEM;
        r = bus_begin_call(peer, &e);
        if (r < 0) {
                b->manager->counters.refused++;
                return bus_refuse(reterr, r, &e);
        }
        *p = (PendingAcquire){.bus = b, .peer = peer, .call = sd_bus_message_ref(m)};
        TAILQ_INSERT_TAIL(&b->pending, p, link);
        *ret = TAKE_PTR(p);
        return 1;
}

static int pending_wait(PendingAcquire *p, Waiter *waiter) {
        sd_bus_message *call;
        int r;

        r = copy_call(p->call, &call);
        if (r < 0) {
                pending_free(p);
                waiter_cancel(waiter);
                return r;
        }
        sd_bus_message_unref(p->call);
        p->call = call;
        p->waiter = waiter;
        return 1;
}

int bus_method_acquire(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Bus *b = userdata;
        AcquireRequest q;
        PendingAcquire *p = NULL;
        Waiter *waiter;
        Peer *peer;
        int r;

        /* A lease that nobody would be told of. */
        if (!sd_bus_message_get_expect_reply(m)) {
                b->manager->counters.refused++;
                return 1;
        }
        r = bus_peer_get(b, m, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_acquire(m, &q, &e);
        if (r < 0) {
                b->manager->counters.refused++;
                return bus_refuse(reterr, r, &e);
        }
        r = check_request(m, &q, peer, reterr);
        if (r > 0)
                r = pending_new(m, peer, &p, reterr);
        if (r <= 0) {
                acquire_request_done(&q);
                return r < 0 ? r : 1;
        }
        /* p is gone when this returns, unless there is a waiter. */
        manager_acquire(b->manager, &q, acquire_done, p, &waiter);
        return waiter ? pending_wait(p, waiter) : 1;
}

void bus_acquire_forget(Bus *b, const char *sender) {
        PendingAcquire *p, *next;
        bool any = false;

        for (p = TAILQ_FIRST(&b->pending); p; p = next) {
                Waiter *w = p->waiter;

                next = TAILQ_NEXT(p, link);
                if (!w || (sender && !streq_ptr(sd_bus_message_get_sender(p->call), sender)))
                        continue;
                pending_free(p);
                waiter_cancel(w);
                any = true;
        }
        /* Once: those who go may have waited by the hundred, ahead of hundreds. */
        if (any)
                manager_serve_waiters(b->manager);
}
