/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "fd-util.h"
#include "macro.h"

/* Attempts at memory that is somebody else's. A scene has one actor, who is lent a slice and tries things with it, as root and
 * as nobody; what each attempt came to is printed, and judged by the table in docs/security-attempts.md. */

#define PAGE UINT64_C(4096) /* the VM's kernel has no other */
#define SLICE (2 * MIB)
#define REGION_SIZE (3 * SLICE)
#define DEADLINE_MS 240000

/* What somebody sees who got through; otherwise there is an errno. */
typedef enum Seen {
        SEEN_NOTHING, /* it worked, and shows nothing of any region */
        SEEN_ZERO,
        SEEN_OWN,
        SEEN_OTHER,   /* another tenant's bytes: what must not be */
        SEEN_STRANGE, /* neither this nor that */
        SEEN_HELD_UP, /* the range is not lent again for as long as one has it */
        SEEN_KILLED,
        _SEEN_MAX,
} Seen;

/* Who wrote at the head of every page. */
typedef enum Writer {
        WRITER_BEFORE = 1, /* the tenant of the slice before the actor's */
        WRITER_AFTER,
        WRITER_ACTOR,
        WRITER_NEXT, /* who was lent the actor's slice after him */
} Writer;

/* A slice of a region, as a tenant has it. */
typedef struct Range {
        int fd;
        uint64_t offset;
        uint64_t size;
} Range;

typedef struct Actor {
        Range own;
        int control; /* to the stage */
        /* The tenant before. */
        pid_t neighbour;
        Range neighbours;     /* fd: its number in that process */
        void *neighbours_map; /* in that process */
        const char *neighbours_lease;
} Actor;

typedef struct Scene {
        const char *name;
        uint64_t size;             /* of the slice; 0: SLICE */
        bool unbound;              /* the actor's lease is bound to nobody */
        void (*prepare)(Actor *a); /* before there is a lease, so that nothing is inherited */
        void (*play)(Actor *a);
} Scene;

/* What some drivers make a dma-buf of, of whatever range. */
typedef struct Export {
        uint32_t argsz, flags, nr_ranges, open_flags;
        uint64_t offset, length;
} Export;

#define COMMAND_EXPORT 0xc0104565U

/* ---- actor.c ---- */

/* Maps, looks, unmaps: a Seen or -errno. */
int look(int fd, uint64_t offset, uint64_t size);
int look_with(int fd, uint64_t offset, uint64_t size, int prot, int flags);
int look_at(const void *p, uint64_t size);
/* As long as `size` says it is, though no more than so much is looked at. */
int look_part(int fd, uint64_t offset, uint64_t size, uint64_t looked_at);
int look_own(const Actor *a);
int look_before(const Actor *a);
void *map_own(const Actor *a);
Export export_of(uint64_t offset);
/* Writes to all pages. */
int mark(int fd, uint64_t offset, uint64_t size, Writer writer);
bool is_marked(const void *p, uint64_t size, Writer writer);

/* A Seen or -errno as an exit status, and back. */
int to_status(int r);
int from_status(int status);
int wait_for(pid_t pid);
/* In a child: what f gave. */
typedef int (*attempt_t)(const Actor *a);
int in_child(const Actor *a, attempt_t f);

/* Says how it ended. */
void report(const Actor *a, const char *name, int r);

/* What the stage does for the actor. */
typedef enum Request {
        REQUEST_REPORT,
        REQUEST_START,         /* the actor is prepared */
        REQUEST_RELEASE,       /* the actor's lease */
        REQUEST_LEND,          /* the actor's slice, to somebody else */
        REQUEST_LEND_HELD,     /* the same while it is mapped */
        REQUEST_AGAIN,         /* takes it from that one, and lends it to the actor anew */
        REQUEST_BIND,          /* the actor's lease, to a pidfd */
        REQUEST_SECOND,        /* another lease, bound to the actor: the rest of his hole */
        REQUEST_ELSEWHERE,     /* the same in the other region */
        REQUEST_STRANGER,      /* somebody who has nothing is sent a descriptor, and looks */
        REQUEST_DELEGATE,      /* the other region, by path */
        REQUEST_DELEGATE_HELD, /* the same while somebody may have it open */
        REQUEST_RELEASE_SECOND,
        REQUEST_TAKE_BACK,
        REQUEST_KILL, /* egmd, which is not started again */
        REQUEST_STOP,
        REQUEST_RESTART, /* answered twice: when it has begun, and when it is over */
        _REQUEST_MAX,
} Request;

typedef struct Message {
        Request request;
        int r;
        char name[64];
        Range range;
        pid_t pid;
        void *map;
} Message;

int message_send(int socket, const Message *m, int fd);
/* The descriptor is in m->range.fd, or -EBADF. -EPIPE: the other side is gone. */
int message_receive(int socket, Message *m);
/* Asks and waits for the answer: its r. The range is the question's and the answer's. */
int ask(const Actor *a, Request request, Range *range);
void ask_or_die(const Actor *a, Request request, Range *range);

/* Another process that maps for us, forked now. */
typedef struct Puppet {
        pid_t pid;
        int socket;
} Puppet;

int puppet_start(Puppet *p);
int puppet_look(const Puppet *p, int fd, uint64_t offset, uint64_t size);
void puppet_stop(Puppet *p);
/* What it does: for who is forked in another way. */
void puppet_serve(int socket);

/* ---- stage.c ---- */

/* With a gate, descriptors alone hold nothing up; that is waited for. */
int stage_play(const Scene *const *scenes, size_t n, bool gated);

extern const Scene scene_range;
extern const Scene scene_flags;
extern const Scene scene_descriptor;
extern const Scene scene_second;
extern const Scene scene_node;
extern const Scene scene_unbound;
extern const Scene scene_remap;
extern const Scene scene_advice;
extern const Scene scene_entry;
extern const Scene scene_command;
extern const Scene scene_trace;
extern const Scene scene_trace_unbound;
extern const Scene scene_process;
extern const Scene scene_thread;
extern const Scene scene_reuse;
extern const Scene scene_others;
extern const Scene scene_uring;
extern const Scene scene_release;
extern const Scene scene_lend_again;
extern const Scene scene_race;
extern const Scene scene_insist;
extern const Scene scene_hide_moving;
extern const Scene scene_hide_forking;
extern const Scene scene_sharer;
extern const Scene scene_ask;
extern const Scene scene_delegate_held;
extern const Scene scene_delegate;
extern const Scene scene_daemon;
