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

struct Bus {
        Manager *manager;
        sd_bus *bus;
        sd_event_source *flush_source; /* sends what changed, not more often than FLUSH_USEC */
        uint64_t last_flush_usec;
        bool sockets_changed;
        bool devices_changed;
        TAILQ_HEAD(, Peer) peers;
        TAILQ_HEAD(, PendingAcquire) pending;
        gid_t group; /* whose members may acquire; (gid_t) -1: no such group */
};

/* ---- bus-peer.c: who calls ---- */

struct Peer {
        Bus *bus;
        char *name; /* unique; never used again by the bus */
        sd_bus_slot *query;
        bool known;
        uid_t uid;
        pid_t pid;
        char *unit; /* that its process runs in, or NULL */
        gid_t *gids;
        size_t n_gids;
        sd_bus_message **waiting; /* calls that came before the answer */
        size_t n_waiting;
        TAILQ_ENTRY(Peer) link;
};

/* 1: *ret is the caller; 0: asked, the message will be dispatched again; negative: refused, error is set. */
int bus_peer_get(Bus *b, sd_bus_message *m, Peer **ret, sd_bus_error *reterr);
bool bus_peer_may_acquire(const Bus *b, const Peer *p);
bool bus_peer_owns(const Peer *p, const Lease *l);
int bus_peers_watch(Bus *b); /* hears of peers that go */
void bus_peers_free(Bus *b);

/* ---- bus-options.c: a{sv} -> requests ---- */

int bus_read_acquire(sd_bus_message *m, AcquireRequest *ret, EgmError *reterr);
int bus_read_no_options(sd_bus_message *m, EgmError *reterr);

/* ---- bus-acquire.c ---- */

int bus_method_acquire(sd_bus_message *m, void *userdata, sd_bus_error *reterr);
/* Ends what a client that has gone still waits for. */
void bus_acquire_forget(Bus *b, const char *sender);
int bus_append_slices(sd_bus_message *m, const Lease *l);

/* ---- one per object ---- */

extern const sd_bus_vtable bus_manager_vtable[];
extern const sd_bus_vtable bus_region_vtable[];
extern const sd_bus_vtable bus_lease_vtable[];
int bus_lease_path(const Lease *l, char **ret);
int bus_region_path(const Region *r, char **ret);
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
