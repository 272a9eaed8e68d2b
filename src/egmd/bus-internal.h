/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the bus's own files share. */

#include <bsd/sys/queue.h>
#include <systemd/sd-bus.h>

#include "bus.h"
#include "egm-error.h"
#include "egm-names.h"

typedef struct Peer Peer;
typedef struct PendingAcquire PendingAcquire;
typedef struct PolkitQuery PolkitQuery;
typedef struct ObjectsCall ObjectsCall;
typedef struct Answer Answer;

struct Bus {
        Manager *manager;
        sd_bus *bus;
        sd_event_source *flush_source; /* sends what changed, not more often than FLUSH_USEC */
        uint64_t last_flush_usec;
        bool sockets_changed;
        bool devices_changed;
        TAILQ_HEAD(, Peer) peers;
        TAILQ_HEAD(, PendingAcquire) pending;
        TAILQ_HEAD(, PolkitQuery) queries; /* calls that polkit is asked about, and what it said */
        unsigned n_queries;
        uint64_t last_query;
        sd_event_source *pause_source; /* stops reading calls */
        sd_event_source *queue_source; /* until the bus has taken what we said */
        sd_event_source *stuck_source; /* which it never will */
        sd_bus_message **held_back;    /* calls that were read nonetheless */
        size_t n_held_back;
        /* Calls that ask for all objects; the first is being answered. */
        TAILQ_HEAD(, ObjectsCall) objects;
        sd_event_source *objects_source;
        sd_bus_message **held; /* signals that are sent behind that answer */
        size_t n_held, room_held;
        sd_event_source *readers_source; /* asks again what they have read */
        uint64_t readers_usec;           /* in so long */
        sd_bus_slot *own_stats;          /* the question whether all have taken their descriptors */
        uint64_t owed_at_most;    /* by all peers; less if some have read since it was added up */
        unsigned fds_since_swept; /* sent since that was asked last */
        unsigned n_sweeps;        /* that told nothing, one after the other */
        bool is_blind;            /* the bus does not say */
        gid_t group;              /* whose members may acquire; (gid_t) -1: no such group */
};

/* ---- bus-peer.c: who calls ---- */

struct Peer {
        Bus *bus;
        char *name; /* unique; never used again by the bus */
        sd_bus_slot *query;
        bool known;
        uid_t uid;
        pid_t pid;
        char *unit;  /* that its process runs in, or NULL */
        char *slice; /* that the unit is in, or NULL */
        QuotaParty *party;
        unsigned n_calls; /* of this name, that wait for their answer */
        /* Bytes that it has been answered and is not known to have read; those of them the bus has been asked about; and
         * those that are being put together. */
        uint64_t unread, asked, coming;
        /* The same of descriptors: at most so many; and how many since the bus was asked about it, and about all. */
        unsigned unread_fds, fds_since_asked, fds_since_swept;
        TAILQ_HEAD(, Answer) answers; /* with descriptors, that wait until it has taken others */
        size_t n_answers;
        sd_bus_slot *stats;
        sd_bus_message **held; /* calls that wait until it has read */
        size_t n_held;
        gid_t *gids;
        size_t n_gids;
        sd_bus_message **waiting; /* calls that came before the answer */
        size_t n_waiting;
        TAILQ_ENTRY(Peer) link;
};

/* 1: *ret is the caller; 0: asked, the message will be dispatched again; negative: refused, error is set. */
int bus_peer_get(Bus *b, sd_bus_message *m, Peer **ret, sd_bus_error *reterr);
/* NULL: not asked for yet. */
Peer *bus_peer_find(Bus *b, const char *name);
bool bus_peer_is_root(const Peer *p);
/* A call that is answered later counts, until it is. Negative: there are too many of them. */
int bus_begin_call(Peer *p, EgmError *reterr);
void bus_end_call(Peer *p);
bool bus_peer_may_acquire(const Bus *b, const Peer *p);
bool bus_peer_owns(const Peer *p, const Lease *l);
/* May it have that process map what is enforced? One has room for so many leases, and nobody shall fill another's. */
int bus_peer_check_process(const Peer *p, bool enforced, int pidfd, EgmError *reterr);
/* Whether the bus itself said that, or we on its behalf; and not somebody who answers what we asked the bus. */
bool bus_says(sd_bus_message *m);
int bus_peers_watch(Bus *b); /* hears of peers that go */
void bus_peers_stop(Bus *b); /* who has not been answered will not be */
void bus_peers_free(Bus *b);

/* ---- bus-bounds.c: what callers can make us keep ---- */

int bus_bounds_watch(Bus *b);
void bus_bounds_free(Bus *b);
/* To wait until the bus has taken everything could be for ever. */
bool bus_is_stuck(const Bus *b);
/* As fds_are_scarce(). If that is nobody's fault who could still do something about it, we leave. */
bool bus_fds_are_scarce(Bus *b);

/* ---- bus-readers.c: callers that do not read ---- */

/* 0: go on; 1: it comes again; negative: refused. */
int bus_reader_admit(Bus *b, sd_bus_message *m, sd_bus_error *reterr);
/* A GetManagedObjects is being answered; its size, roughly. And: it has been. */
uint64_t bus_reader_begin(Bus *b, const char *name);
void bus_reader_end(Bus *b, const char *name, uint64_t size);
void bus_reader_done(Peer *p);
/* Asks the bus what it has read; whether all have taken their descriptors; the latter, and then again and again what they have read, until
 * nobody waits for that. */
void bus_reader_ask(Peer *p);
void bus_readers_sweep(Bus *b);
int bus_readers_wait(Bus *b);

/* ---- bus-answers.c: answers with descriptors ---- */

typedef int (*answer_sent_t)(Bus *b, const char *name, uint64_t lease);

/* Now, or when it has taken enough of those before it. before (or NULL) is called first then, for a lease that ends if the answer
 * cannot be given any more. */
int bus_answer(Peer *p, sd_bus_message *m, unsigned n_fds, answer_sent_t before, uint64_t lease);
void bus_answers_send(Peer *p);
/* It has gone, or we go: leases that nobody has heard of end. */
void bus_answers_forget(Peer *p);
void bus_answers_free(Peer *p);

/* ---- bus-polkit.c: what polkit allows beyond that ---- */

typedef enum PolkitAction {
        POLKIT_ACQUIRE,
        POLKIT_ACQUIRE_PERSISTENT,
        POLKIT_RELEASE_OWN,
        POLKIT_RELEASE_ANY,
        POLKIT_MANAGE,
        _POLKIT_ACTION_MAX,
        _POLKIT_ACTION_INVALID = -EINVAL,
} PolkitAction;

/* 1: allowed; 0: asked, the call will be dispatched again; negative: refused. reterr is left alone by a plain no
 * (-EACCES): the caller knows better what its own rule is. details: pairs for polkit's rules, NULL-terminated. */
int bus_polkit_check(Peer *peer, sd_bus_message *call, PolkitAction action,
                     const char *const *details, sd_bus_error *reterr);
/* The call is dispatched again, but what it was about has gone. */
void bus_polkit_drop(Bus *b, const sd_bus_message *call);
/* The caller has gone; NULL: all of them. */
void bus_polkit_forget(Bus *b, const char *sender);

/* ---- bus-privacy.c: who may read what ---- */

int bus_privacy_add(Bus *b);
/* May whoever reads this message read what is that user's own? (uid_t) -1: nobody's but root's. */
bool bus_may_read(Bus *b, sd_bus_message *reply, uid_t owner);

/* ---- bus-options.c: a{sv} -> requests ---- */

int bus_read_acquire(sd_bus_message *m, AcquireRequest *ret, EgmError *reterr);
/* (uid_t) -1: any. */
int bus_read_quotas(sd_bus_message *m, uid_t *ret, EgmError *reterr);
int bus_read_no_options(sd_bus_message *m, EgmError *reterr);

/* ---- bus-acquire.c ---- */

int bus_method_acquire(sd_bus_message *m, void *userdata, sd_bus_error *reterr);
/* Ends what a client that has gone still waits for. */
void bus_acquire_forget(Bus *b, const char *sender);
int bus_append_slices(sd_bus_message *m, const Lease *l);

/* ---- bus-quota.c ---- */

int bus_method_get_quotas(sd_bus_message *m, void *userdata, sd_bus_error *reterr);

/* ---- bus-objects.c: what there is, and what comes and goes ---- */

/* Its properties all have getters. */
typedef struct BusObject {
        const char *path;
        const char *interface;
        const sd_bus_vtable *vtable;
        void *userdata;
} BusObject;

int bus_objects_add(
                Bus *b); /* before bus_privacy_add(): what is added last looks at a call first */
void bus_objects_free(Bus *b);
/* The caller has gone. */
void bus_objects_forget(Bus *b, const char *sender);
int bus_object_added(Bus *b, const BusObject *o);
int bus_object_removed(Bus *b, const BusObject *o);
/* names end with NULL; those that are announced without a value are named only. */
int bus_object_changed(Bus *b, const BusObject *o, const char *const *names);
/* Now, or behind an answer that may hold what it is about. */
int bus_signal_send(Bus *b, sd_bus_message *m);
bool bus_signals_are_held(const Bus *b);

/* ---- one per object ---- */

extern const sd_bus_vtable bus_manager_vtable[];
extern const sd_bus_vtable bus_region_vtable[];
extern const sd_bus_vtable bus_lease_vtable[];
int bus_lease_path(const Lease *l, char **ret);
int bus_region_path(const Region *r, char **ret);
/* *ret borrows *ret_path, which is the caller's to free. */
int bus_lease_object(Lease *l, char **ret_path, BusObject *ret);
int bus_region_object(Region *r, char **ret_path, BusObject *ret);
int bus_region_find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                    void **ret, sd_bus_error *reterr);
int bus_lease_find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                   sd_bus_error *reterr);
int bus_region_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                         sd_bus_error *reterr);
int bus_lease_enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                        sd_bus_error *reterr);
/* The Bus behind a fallback object's message. */
Bus *bus_of(Manager *m);

/* Refusal or fault -> D-Bus error; returns what a handler returns. */
int bus_refuse(sd_bus_error *reterr, int r, const EgmError *e);
