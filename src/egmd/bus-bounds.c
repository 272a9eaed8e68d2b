/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <inttypes.h>

#include "bus-internal.h"
#include "fd-util.h"
#include "lifeline.h"
#include "log.h"

/* What callers can make us keep. */

/* ---- what the bus does not take ----
 *
 * What we say and the bus does not take stays with us. It does not take it while it is busy, and while a client that does not
 * read its answers fills what the bus keeps of ours for it; and an answer can have a megabyte. So when that gets
 * long, no call is read any more until the bus has taken most of it: callers then wait in the bus, which has limits for
 * each of them. */

#define QUEUED_MAX 64U
#define QUEUED_LOW 8U
/* dbus-daemon takes no more from us when it keeps 127 MiB of ours for clients that do not read: then nobody is answered
 * any more. What it counts is the connection's, so a new one is free of that; and who has filled his part gets nothing there. */
#define STUCK_USEC (10 * USEC_PER_SEC)

static size_t queued(Bus *b) {
        uint64_t n;

        return sd_bus_get_n_queued_write(b->bus, &n) < 0 ? 0 : n;
}

static int go_on(Bus *b) {
        int r;

        b->queue_source = sd_event_source_disable_unref(b->queue_source);
        b->stuck_source = sd_event_source_disable_unref(b->stuck_source);
        r = sd_bus_attach_event(b->bus, b->manager->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        for (size_t i = 0; i < b->n_held_back; i++) {
                r = sd_bus_enqueue_for_read(b->bus, b->held_back[i]);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to take up a call again: %m");
                sd_bus_message_unref(b->held_back[i]);
        }
        b->n_held_back = 0;
        return 0;
}

/* Writes what it can. It also reads one message, which on_message() below keeps for later. */
static int on_writable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Bus *b = userdata;
        int r;

        r = sd_bus_process(b->bus, NULL);
        if (r >= 0 && queued(b) <= QUEUED_LOW)
                r = go_on(b);
        else if (r >= 0)
                r = sd_event_source_set_time_relative(b->stuck_source, STUCK_USEC);
        if (r < 0) {
                (void) log_error_errno(r, "The connection to the bus is lost; leaving: %m");
                return sd_event_exit(b->manager->event, EXIT_FAILURE);
        }
        return 0;
}

static int on_stuck(sd_event_source *s, uint64_t usec, void *userdata) {
        Bus *b = userdata;

        log_error("The bus has taken nothing from us for %" PRIu64
                  "s, as clients do not read what it has for them: leaving, to be started again",
                  (uint64_t) (STUCK_USEC / USEC_PER_SEC));
        return sd_event_exit(b->manager->event, EXIT_FAILURE);
}

static int on_pause(sd_event_source *s, void *userdata) {
        Bus *b = userdata;
        int fd, r;

        fd = sd_bus_get_fd(b->bus);
        if (fd < 0 || b->queue_source || queued(b) <= QUEUED_MAX)
                return 0;
        r = sd_bus_detach_event(b->bus);
        if (r >= 0)
                r = sd_event_add_io(b->manager->event, &b->queue_source, fd, EPOLLOUT, on_writable,
                                    b);
        if (r >= 0)
                r = sd_event_add_time_relative(b->manager->event, &b->stuck_source, CLOCK_MONOTONIC,
                                               STUCK_USEC, 0, on_stuck, b);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to wait until the bus takes what we say: %m");
                return sd_event_exit(b->manager->event, EXIT_FAILURE);
        }
        (void) sd_event_source_set_description(b->queue_source, "bus-queue");
        log_debug("The bus is slow to take what we say: no more calls until then");
        return 0;
}

static int hold_back(Bus *b, sd_bus_message *m) {
        sd_bus_message **t;

        t = realloc(b->held_back, (b->n_held_back + 1) * sizeof(*t));
        if (!t)
                return -ENOMEM;
        b->held_back = t;
        t[b->n_held_back++] = sd_bus_message_ref(m);
        return 1;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Bus *b = userdata;
        uint8_t type;

        if (queued(b) > QUEUED_MAX && !b->queue_source)
                (void) sd_event_source_set_enabled(b->pause_source, SD_EVENT_ONESHOT);
        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        return b->queue_source ? hold_back(b, m) : bus_reader_admit(b, m, reterr);
}

bool bus_is_stuck(const Bus *b) {
        return b->queue_source;
}

int bus_bounds_watch(Bus *b) {
        int r;

        r = sd_event_add_defer(b->manager->event, &b->pause_source, on_pause, b);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(b->pause_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        /* Before whatever else the loop has to do: with each turn there is one more answer. */
        r = sd_event_source_set_priority(b->pause_source, SD_EVENT_PRIORITY_IMPORTANT);
        if (r < 0)
                return r;
        return sd_bus_add_filter(b->bus, NULL, on_message, b);
}

void bus_bounds_free(Bus *b) {
        for (size_t i = 0; i < b->n_held_back; i++)
                sd_bus_message_unref(b->held_back[i]);
        b->held_back = mfree(b->held_back);
        b->n_held_back = 0;
        b->queue_source = sd_event_source_disable_unref(b->queue_source);
        b->stuck_source = sd_event_source_disable_unref(b->stuck_source);
        b->pause_source = sd_event_source_disable_unref(b->pause_source);
}

/* ---- descriptors ----
 *
 * A message that the bus lets through and libsystemd does not (a path of more than 64 KiB, say) is dropped there, and what
 * came with it is lost, but open (seen in 252). The bus policy lets one descriptor come with a message; should those
 * be the end of ours nonetheless, only a new start gets them back. It finds every lease again. */

#define FDS_OF_OUR_OWN 64U
#define FDS_OF_MESSAGE 16U

static size_t explained(const Bus *b) {
        const Manager *m = b->manager;
        size_t n = FDS_OF_OUR_OWN + 4 * m->n_regions + m->n_waiters;
        size_t messages = b->n_held_back + b->n_queries;
        const Peer *p;
        Lease *l;

        RB_FOREACH (l, LeaseTree, (LeaseTree *) &m->leases)
                n += 1 + lifeline_bound(l->lifeline);
        TAILQ_FOREACH (p, &b->peers, link)
                messages += p->n_waiting + p->n_held + p->n_answers;
        return n + FDS_OF_MESSAGE * messages;
}

static size_t count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        size_t n = 0;

        if (!d)
                return 0;
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n;
}

bool bus_fds_are_scarce(Bus *b) {
        size_t n;

        if (!fds_are_scarce())
                return false;
        n = count_fds();
        if (n > 2 * explained(b)) {
                log_error("%zu descriptors are open, and nobody knows of more than %zu: leaving, "
                          "to be "
                          "started again without them",
                          n, explained(b));
                (void) sd_event_exit(b->manager->event, EXIT_FAILURE);
        }
        return true;
}
