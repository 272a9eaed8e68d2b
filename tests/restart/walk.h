/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "egm-names.h"
#include "keeper.h"
#include "macro.h"

/* A random walk over everything that clients, processes, the service manager and crashes can do to a daemon, and an oracle that
 * knows from the outside what must be true after each step. This header is what its parts share: what is simulated, who
 * holds what, what was said to clients. */

#define WALK_REGIONS 3U
#define WALK_CHILDREN 10U
#define WALK_SLOTS 32U
#define WALK_LEASES 96U
#define WALK_SLICES 24U
#define WALK_ASKED 3U
#define WALK_BOUND 8U
#define WALK_WAITERS 6U
#define WALK_GRANULE (64 * KIB)
/* Threads that scrub run when nobody else does, and what failed is tried again after up to 30 s. */
#define WALK_DEADLINE_USEC (120 * USEC_PER_SEC)

typedef struct WalkSpan {
        uint64_t offset;
        uint64_t size;
} WalkSpan;

/* What the simulation is told: see walk-config.c. */
typedef struct WalkRegionConfig {
        const char *name;
        const char *variant;
        uint64_t size;
        bool whole_only;
        WalkSpan retired[4]; /* listed by the driver from the start */
        WalkSpan bad;        /* found by scrubbing it; one page */
        WalkSpan late;       /* one unit that a restart may find retired */
} WalkRegionConfig;

extern const WalkRegionConfig walk_regions[WALK_REGIONS];

static inline bool walk_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
        return a < b + b_size && b < a + a_size;
}

/* Is a page in there one that nobody can scrub? */
bool walk_config_unscrubbable(unsigned region, uint64_t offset);

/* ---- processes ---- */

typedef enum WalkSlotKind {
        WALK_SLOT_NONE,
        WALK_SLOT_LIFETIME,
        WALK_SLOT_MEMORY,
        WALK_SLOT_MAP,
} WalkSlotKind;

/* What a child has. Slots are descriptors or mappings; a mapping is one run of bytes of one slice. */
typedef struct WalkSlot {
        WalkSlotKind kind;
        unsigned lease; /* the lease it came with: its serial */
        unsigned region;
        unsigned generation; /* which memory that is: a region that lost its own gets another */
        uint64_t offset;
        uint64_t size;
        bool private;
        bool filled; /* its pattern was written through it or before it */
} WalkSlot;

typedef struct WalkChild {
        pid_t pid; /* 0: none */
        int pidfd;
        int socket;
        bool reaped_by_us; /* our own child, not a child's */
        WalkSlot slots[WALK_SLOTS];
} WalkChild;

/* ---- leases, as their holders know them ---- */

typedef struct WalkSlice {
        unsigned region;
        unsigned generation;
        uint64_t offset;
        uint64_t size;
        bool lost;
        bool perhaps_done; /* when it was lost it may have been given back already: then it is not lost */
        bool owned;        /* when last at rest: the books had it for the lease */
        bool was_unblocked; /* since the lease ended there was a moment when nobody could touch it */
} WalkSlice;

typedef struct WalkLease {
        bool used;
        unsigned serial;
        uint64_t id;
        char path[64];
        char label[24];
        WalkSlice slices[WALK_SLICES];
        size_t n_slices;
        bool persistent;
        bool include_retired;
        bool filled;
        bool told_lost; /* the bus said so */
        bool released;
        bool release_unsure; /* asked for, never answered */
        bool ended;          /* there was a moment when nothing kept it */
        bool unclaimed;      /* the daemon's own, for what a restart could not account for */
        pid_t bound[WALK_BOUND];
        size_t n_bound;
} WalkLease;

typedef struct WalkWaiter {
        sd_bus *bus; /* NULL: free */
        char label[24];
        unsigned serial;
        unsigned region;
        uint64_t size;
        uint64_t align;
        bool whole;
        uint64_t asked_usec, wait_usec;
        uint64_t order;
        bool answered;
        sd_bus_message *reply;
} WalkWaiter;

typedef struct WalkRegion {
        unsigned generation;
        unsigned rested; /* the generation when last at rest */
        bool schedulable;
        bool late;    /* its late pages are retired by now */
        bool gone;    /* the device */
        bool unheard; /* so it was when the daemon started: that knows nothing of it */
        unsigned instance;
        uint64_t size;
        bool has_memory; /* the daemon had it open: if it returns, who holds this holds that up */
        unsigned memory; /* the generation of it */
        bool spoiled;    /* its record was lost: what offsets do had to be guessed */
} WalkRegion;

/* Writes the file for --simulate=. fail_mmap: the k-th mmap of the daemon's fails; 0: none. */
int walk_config_write(const char *path, const WalkRegion regions[static WALK_REGIONS],
                      uint64_t fail_mmap);

typedef struct Walk {
        Keeper *keeper;
        sd_bus *bus;
        char config_path[96];
        const char *self; /* this program, to exec again */

        WalkRegion regions[WALK_REGIONS];
        WalkChild children[WALK_CHILDREN];
        WalkLease leases[WALK_LEASES];
        WalkWaiter waiters[WALK_WAITERS];
        unsigned next_serial;
        uint64_t *ids; /* of all leases there ever were: a hash table */
        size_t n_ids, room_for_ids;
        uint64_t next_order;
        bool settled; /* nothing has happened since the daemon was seen at rest */
        bool may_go_on; /* it was at rest only if what it has begun to look at does not end otherwise */
        bool may_find; /* since the last start nobody has looked for leases that the daemon made up */
        uint64_t fail_mmap; /* which of the daemon's mappings will fail; 0: none */
        bool may_orphan;    /* a caller of a persistent lease left before the answer */
        bool remembers;     /* the daemon keeps state */
        int base_fds; /* descriptors of the daemon that are neither a region's nor a lease's; -1: not known */
        uint64_t random; /* state of the generator */

        uint64_t seed;
        uint64_t step;
        uint64_t n_restarts;
        uint64_t counts[64];
} Walk;

/* ---- chance and history: walk-log.c ---- */

uint64_t walk_random(Walk *w, uint64_t below);
static inline bool walk_chance(Walk *w, uint64_t one_in) {
        return walk_random(w, one_in) == 0;
}
uint64_t walk_now_usec(void); /* CLOCK_MONOTONIC */
/* Part of the history; the last 30 steps are shown on failure. */
void walk_note(Walk *w, const char *format, ...) _printf_(2, 3);
/* Shows how to come here again, and ends the program. */
_Noreturn void walk_fail(Walk *w, const char *format, ...) _printf_(2, 3);
#define walk_check(w, condition) \
        do { \
                if (!(condition)) \
                        walk_fail(w, "%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
        } while (0)

/* ---- children: walk-child.c (the driver's side), walk-holder.c (theirs) ---- */

/* What walk_child_call() sends. */
typedef enum WalkOrder {
        WALK_ORDER_HELLO,
        WALK_ORDER_TAKE,  /* the descriptor that comes along, into the slot */
        WALK_ORDER_GIVE,  /* a copy of the slot's descriptor */
        WALK_ORDER_CLOSE, /* the slot's descriptor */
        WALK_ORDER_MAP,   /* [offset, offset + size) of the descriptor in slot from */
        WALK_ORDER_UNMAP, /* all of it but [offset, offset + size) of the region; size 0: all */
        WALK_ORDER_ZERO,  /* the mapping is zero all over */
        WALK_ORDER_FILL,
        WALK_ORDER_CHECK, /* the pattern is there */
        WALK_ORDER_FORK,  /* the child's socket comes along */
        WALK_ORDER_EXEC,
        WALK_ORDER_EXIT,
} WalkOrder;

typedef struct WalkCommand {
        WalkOrder order;
        unsigned slot;
        unsigned from;
        unsigned region;
        unsigned lease;
        bool private;
        uint64_t offset;
        uint64_t size;
} WalkCommand;

typedef struct WalkAnswer {
        int r;
        pid_t pid;
        uint64_t at; /* where a byte is wrong, and what it is */
        uint64_t found;
} WalkAnswer;

_Noreturn void walk_holder_run(int socket, const char *self);
/* argv of a holder that executes itself again: SELF --holder SOCKET */
int walk_holder_main(int argc, char *argv[]);
int walk_send(int socket, const void *data, size_t size, int fd);
int walk_receive(int socket, void *data, size_t size, int *ret_fd);

/* A child without anything; NULL: there are enough. */
WalkChild *walk_child_new(Walk *w);
WalkChild *walk_child_pick(Walk *w); /* NULL: there is none */
WalkSlot *walk_child_free_slot(WalkChild *c);
WalkAnswer walk_child_call(Walk *w, WalkChild *c, const WalkCommand *command, int fd, int *ret_fd);
void walk_child_give(Walk *w, WalkChild *c, const WalkSlot *what, int fd);
WalkSlot *walk_child_map(Walk *w, WalkChild *c, const WalkSlot *memory, const WalkSlice *s,
                         bool private);
void walk_child_close(Walk *w, WalkChild *c, WalkSlot *slot);
void walk_child_unmap(Walk *w, WalkChild *c, WalkSlot *slot, uint64_t keep_offset,
                      uint64_t keep_size);
void walk_child_zero(Walk *w, WalkChild *c, const WalkSlot *slot);
void walk_child_fill(Walk *w, WalkChild *c, WalkSlot *slot);
/* Every byte that anybody maps, or can still map, is what its holder wrote. */
void walk_children_check(Walk *w);
WalkChild *walk_child_fork(Walk *w, WalkChild *c);
void walk_child_exec(Walk *w, WalkChild *c);
void walk_child_end(Walk *w, WalkChild *c, bool kill);
const char *walk_child_text(const Walk *w, const WalkChild *c);

/* ---- the model: walk-model.c; pure ---- */

WalkLease *walk_lease_new(Walk *w);
WalkLease *walk_lease_find(Walk *w, unsigned serial);
WalkLease *walk_lease_find_id(Walk *w, uint64_t id);
WalkLease *walk_lease_pick(Walk *w, bool ended); /* NULL: none */
void walk_lease_forget(Walk *w, WalkLease *l);
bool walk_lease_is_kept(const Walk *w, const WalkLease *l);
bool walk_lease_is_lost(const WalkLease *l);
bool walk_lease_state_is(const WalkLease *l, const char *state, const char *otherwise);
bool walk_lease_is_bound(const WalkLease *l, pid_t pid);
unsigned walk_lease_bound_alive(const Walk *w, const WalkLease *l);
/* Of the slice's region: so that having its descriptor says nothing. */
bool walk_child_has_active_lease(const Walk *w, const WalkChild *c, const WalkSlice *s);
/* Can the child touch the slice, so that it must not be given to anybody else? */
bool walk_child_blocks(const Walk *w, const WalkChild *c, const WalkSlice *s);
bool walk_slice_is_blocked(const Walk *w, const WalkSlice *s);
/* Who holds what has changed: leases end. */
void walk_model_update(Walk *w);
/* Fails when there was one of that number before. */
void walk_ids_add(Walk *w, uint64_t id);
void walk_model_child_gone(Walk *w, pid_t pid);
/* The region's memory is another from now on: what was lent of the old is lost. */
void walk_model_new_memory(Walk *w, unsigned region);
/* Would the daemon find somebody who can give it the region's descriptor? */
bool walk_model_has_party(Walk *w, unsigned region);

/* ---- the daemon from outside: walk-view.c ---- */

typedef struct ViewExtent {
        uint64_t offset;
        uint64_t size;
        char state[16];
        uint64_t lease; /* 0: nobody's */
} ViewExtent;

typedef struct ViewRegion {
        bool there;
        char state[20];
        char partitioning[16];
        uint64_t size, free, leased, draining, dirty, scrubbing, retired;
        bool schedulable;
        WalkSpan retired_ranges[16];
        size_t n_retired;
        ViewExtent *extents;
        size_t n_extents;
} ViewRegion;

typedef struct ViewLease {
        uint64_t id;
        char label[132];
        char state[16];
        char lifetime[16];
        uint32_t uid;
        WalkSlice slices[WALK_SLICES]; /* of one that is unclaimed as many as there are holes */
        size_t n_slices;
        pid_t held_up_by[WALK_CHILDREN + 4];
        size_t n_held_up_by;
} ViewLease;

typedef struct View {
        ViewRegion regions[WALK_REGIONS];
        ViewLease leases[WALK_LEASES];
        size_t n_leases;
        char waiting[WALK_WAITERS][24];
        size_t n_waiting;
        uint32_t lease_count;
} View;

sd_bus *walk_connect(Walk *w);
void walk_view_read(Walk *w, View *ret);
void walk_view_done(View *v);
const ViewLease *walk_view_lease(const View *v, uint64_t id);
/* All that a refused call must not change, as text to be freed. */
char *walk_view_text(const View *v);
bool walk_view_fits(const View *v, unsigned region, uint64_t size, uint64_t align, bool whole,
                    bool include_retired);
/* Takes in what has come on all connections; waits for more until the deadline where there was nothing. */
void walk_pump(Walk *w, uint64_t timeout_usec);

/* ---- checks: walk-check.c ---- */

/* What must be true at every moment. */
void walk_check_always(Walk *w);
/* Waits until the daemon is at rest, as the model says it must come to it. */
void walk_settle(Walk *w);

/* Says why the daemon is not at rest; returns false. */
bool walk_not_yet(const char *format, ...) _printf_(1, 2);
/* So far as descriptors and files show: walk-files.c. */
bool walk_files_are_settled(Walk *w, const View *v);

/* At rest, and nobody's wait is about to end either: nothing happens unless we do it. */
bool walk_is_calm(const Walk *w);

/* ---- devices that come and go: walk-device.c ---- */

size_t walk_n_devices(const Walk *w);
/* Somebody has what it was of: it must not be opened. */
bool walk_region_is_held(const Walk *w, unsigned region);
bool walk_region_is_used(const Walk *w, unsigned region, unsigned generation);
/* Everybody closes and unmaps it. */
void walk_region_drop(Walk *w, unsigned region, unsigned generation);
/* Gone, back, or gone and back; the daemon does not run. */
void walk_device_change_unseen(Walk *w);
void walk_op_device(Walk *w);
/* The same for one: gone (and seen to be), back (and open again, or held). */
void walk_device_vanish(Walk *w, unsigned region);
void walk_device_return(Walk *w, unsigned region, bool larger);

/* ---- what happens: walk-take.c, walk-ops.c, walk-wait.c, walk-restart.c ---- */

typedef struct WalkAsked {
        unsigned region;
        uint64_t size;
        uint64_t align;
        bool whole;
        bool include_retired;
} WalkAsked;

sd_bus_message *walk_new_request(Walk *w, sd_bus *bus, const WalkAsked *asked, size_t n,
                                 const char *label, bool persistent, int holder_fd,
                                 uint64_t wait_usec);
void walk_describe(Walk *w, const char *what, const WalkAsked *a, size_t n, bool persistent,
                   bool holder);
unsigned walk_some_region(Walk *w);
uint64_t walk_some_size(Walk *w, uint64_t max);
/* It is in the queue, or answered: its serial. wait_usec: 0: as good as for ever. */
unsigned walk_wait_for(Walk *w, const WalkAsked *asked, uint64_t wait_usec);
WalkWaiter *walk_waiter_find(Walk *w, unsigned serial); /* NULL: it waits no more */
/* Who waited for the region, and does so no more, has the answer. */
void walk_wait_answers(Walk *w, unsigned region);

/* A granted lease's fate: into the books, checked, its descriptors to a child. label: as in the request. */
void walk_granted(Walk *w, sd_bus_message *reply, WalkLease *asked);
/* One slice, which must be granted. */
WalkLease *walk_take(Walk *w, unsigned region, uint64_t size);
/* One of each of the first two regions. */
WalkLease *walk_take_two(Walk *w, uint64_t size);
/* It must not. */
void walk_take_in_vain(Walk *w, unsigned region, uint64_t size);
/* Takes the smallest there is and gives it back, by Release or by closing the lifetime. */
void walk_cycle(Walk *w, unsigned region, bool release);
void walk_bind(Walk *w, WalkLease *l, const WalkChild *c);
void walk_restart_plainly(Walk *w);
void walk_cases(Walk *w);
void walk_cycles(Walk *w, uint64_t n);
void walk_op_take(Walk *w);
void walk_op_take_too_much(Walk *w);
void walk_op_vanish(Walk *w);
void walk_release(Walk *w, WalkLease *l);
void walk_op_release(Walk *w);
void walk_op_release_again(Walk *w);
void walk_op_foreign(Walk *w);
/* argv of who is somebody else: SELF --foreign PATH METHOD TYPES */
int walk_foreign_main(const char *path, const char *method, const char *types);
void walk_op_reopen(Walk *w);
void walk_op_bind(Walk *w);
void walk_op_schedulable(Walk *w);
void walk_set_schedulable(Walk *w, size_t region, bool on);
void walk_op_pass(Walk *w);
void walk_op_close(Walk *w);
void walk_op_map(Walk *w);
void walk_op_unmap(Walk *w);
void walk_op_fork(Walk *w);
void walk_op_exec(Walk *w);
void walk_op_end(Walk *w);
void walk_op_wait(Walk *w);
void walk_op_wait_cancel(Walk *w);
void walk_op_restart(Walk *w);

void walk_waiters_answered(Walk *w);
void walk_waiter_drop(Walk *w, WalkWaiter *q);
/* The first of those that wait for a region. */
WalkWaiter *walk_waiter_first(Walk *w, unsigned region);
/* One of the things that processes do without asking the daemon. */
void walk_op_of_holders(Walk *w);

/* What a start finds beside the leases' records. */
typedef struct WalkWitnesses {
        bool stored[WALK_REGIONS];
        bool recorded[WALK_REGIONS];
        bool foreign[WALK_REGIONS]; /* under its name something else is stored as well */
} WalkWitnesses;

#define WALK_WITNESSES_COMPLETE ((WalkWitnesses){{true, true, true}, {true, true, true}, {}})

void walk_witnesses_tamper(Walk *w, WalkWitnesses *t);

/* A call that may never be answered. */
typedef struct WalkInFlight {
        sd_bus *bus;
        sd_bus_message *reply;
        unsigned released; /* the serial of the lease; 0: a request for one */
        bool persistent;
} WalkInFlight;

sd_bus_message *walk_some_request(Walk *w, sd_bus *bus, const char *label, bool persistent);
void walk_in_flight_send(Walk *w, WalkInFlight *f);
bool walk_in_flight_poll(Walk *w, WalkInFlight *f); /* answered? */
void walk_in_flight_end(Walk *w, WalkInFlight *f);
/* The daemon is about to go: nobody who waits will be served. */
void walk_waiters_lost(Walk *w);

void walk_start_daemon(Walk *w);
void walk_stop_daemon(Walk *w);
