/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A client that measures calls to egmd and to the bare service beside it.
 *     bench-calls ADDRESS turns ROUNDS CALLS WHO...       AcquireLease and Release, contenders taking turns
 *     bench-calls ADDRESS clients ROUNDS CALLS N WHO...   N connections with one call each under way
 *     bench-calls ADDRESS fill N                          N persistent leases
 *     bench-calls ADDRESS drop                            releases all of them
 *     bench-calls ADDRESS reclaim ROUNDS REGION SIZE WAIT from Release to free; WAIT 1: somebody waits for it
 *     bench-calls ADDRESS churn REGION SIZE               takes and gives back until its input ends
 *     bench-calls ADDRESS ping                            until its input ends
 * WHO: egmd, bare. */

#include <inttypes.h>
#include <poll.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "bench.h"
#include "egm-names.h"
#include "fd-util.h"

#define BARE_NAME "org.nvidia.EgmBare1"
#define SLICE (64 * KIB)
#define CALL_TIMEOUT (120 * USEC_PER_SEC)
#define WAIT_USEC (120 * USEC_PER_SEC)

typedef struct Taken {
        char path[64];
        int lifetime;
} Taken;

static const char *address;

static const char *service_of(const char *who) {
        if (streq(who, "egmd"))
                return EGM_BUS_NAME;
        if (streq(who, "bare"))
                return BARE_NAME;
        errx(EXIT_FAILURE, "nobody is called %s", who);
}

static sd_bus *connect_bus(void) {
        const char *name;
        sd_bus *bus;

        bench_check(sd_bus_new(&bus), "sd_bus_new");
        bench_check(sd_bus_set_address(bus, address), "address");
        bench_check(sd_bus_set_bus_client(bus, true), "client");
        bench_check(sd_bus_negotiate_fds(bus, true), "descriptors");
        bench_check(sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT), "timeout");
        bench_check(sd_bus_start(bus), "connecting");
        /* Waits for the bus to say hello: the number of those it has not greeted yet is limited. */
        bench_check(sd_bus_get_unique_name(bus, &name), "hello");
        return bus;
}

static sd_bus_message *acquire_message(sd_bus *bus, const char *service, const char *region,
                                       uint64_t size, const char *lifetime, uint64_t wait_usec) {
        sd_bus_message *m;

        bench_check(sd_bus_message_new_method_call(bus, &m, service, EGM_PATH,
                                                   EGM_MANAGER_INTERFACE, "AcquireLease"),
                    "message");
        bench_check(sd_bus_message_append(m, "a{sv}", 4, "Slices", "aa{sv}", 1, 3, "Size", "t",
                                          size, "Region", "s", region, "Align", "t",
                                          (uint64_t) SLICE, "Label", "s", "bench", "Lifetime", "s",
                                          lifetime, "WaitUSec", "t", wait_usec),
                    "arguments");
        return m;
}

static void read_taken(sd_bus_message *reply, Taken *ret) {
        const char *path;
        int fd;

        bench_check(sd_bus_message_read(reply, "oh", &path, &fd), "reply");
        (void) snprintf(ret->path, sizeof(ret->path), "%s", path);
        ret->lifetime = fd_copy(fd);
        bench_check(ret->lifetime, "lifetime descriptor");
}

static void must_not_fail(int r, const sd_bus_error *e, const char *what) {
        if (r < 0)
                errx(EXIT_FAILURE, "%s: %s: %s", what, e->name, e->message);
}

static uint64_t acquire(sd_bus *bus, const char *service, const char *region, uint64_t size,
                        const char *lifetime, Taken *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        uint64_t t = bench_now();

        m = acquire_message(bus, service, region, size, lifetime, 0);
        must_not_fail(sd_bus_call(bus, m, 0, &e, &reply), &e, "AcquireLease");
        t = bench_now() - t;
        read_taken(reply, ret);
        return t;
}

static uint64_t release(sd_bus *bus, const char *service, Taken *taken) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        uint64_t t = bench_now();

        must_not_fail(sd_bus_call_method(bus, service, taken->path, EGM_LEASE_INTERFACE, "Release",
                                         &e, &reply, "a{sv}", 0),
                      &e, "Release");
        t = bench_now() - t;
        taken->lifetime = safe_close(taken->lifetime);
        return t;
}

static uint64_t get_u64(sd_bus *bus, const char *path, const char *interface, const char *name,
                        char type) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        uint64_t v = 0;

        must_not_fail(sd_bus_get_property_trivial(bus, EGM_BUS_NAME, path, interface, name, &e,
                                                  type, &v),
                      &e, name);
        return v;
}

/* Outside of what is measured. */
static void wait_for_leases(sd_bus *bus, uint64_t n) {
        uint64_t deadline = bench_now() + 120 * NSEC_PER_SEC;

        while (get_u64(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount", 'u') > n) {
                if (bench_now() > deadline)
                        errx(EXIT_FAILURE, "leases do not go");
                (void) poll(NULL, 0, 2);
        }
}

static uint64_t *times_new(size_t n) {
        uint64_t *t = calloc(n, sizeof(*t));

        if (!t)
                err(EXIT_FAILURE, "memory");
        return t;
}

static void turn(sd_bus *bus, const char *who, size_t n, Taken *taken, uint64_t *t) {
        const char *service = service_of(who);
        uint64_t before = 0;

        if (streq(who, "egmd"))
                before = get_u64(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount", 'u');
        for (size_t i = 0; i < n; i++)
                t[i] = acquire(bus, service, "egm4", SLICE, "descriptor", taken + i);
        bench_print_times(who, "acquire", t, n);
        for (size_t i = 0; i < n; i++)
                t[i] = release(bus, service, taken + i);
        bench_print_times(who, "release", t, n);
        if (streq(who, "egmd"))
                wait_for_leases(bus, before);
}

static void cmd_turns(char *argv[]) {
        size_t rounds = bench_number(argv[0]), n = bench_number(argv[1]), n_who = 0;
        sd_bus *bus = connect_bus();
        uint64_t *t = times_new(n);
        Taken *taken = calloc(n, sizeof(*taken));

        while (argv[2 + n_who])
                n_who++;
        if (!taken || n_who == 0)
                errx(EXIT_FAILURE, "bad arguments");
        for (size_t i = 0; i < rounds; i++)
                for (size_t k = 0; k < n_who; k++)
                        turn(bus, argv[2 + (i + k) % n_who], n, taken, t);
        free(taken);
        free(t);
        sd_bus_flush_close_unref(bus);
}

/* ---- many at once ---- */

typedef struct Crowd {
        sd_event *event;
        const char *service;
        size_t left, under_way, done;
        Taken *taken;
} Crowd;

typedef struct Member {
        Crowd *crowd;
        sd_bus *bus;
} Member;

static void member_call(Member *c);

static int on_granted(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Member *c = userdata;
        Crowd *crowd = c->crowd;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        if (e)
                errx(EXIT_FAILURE, "AcquireLease: %s: %s", e->name, e->message);
        read_taken(m, crowd->taken + crowd->done++);
        crowd->under_way--;
        if (crowd->left > 0)
                member_call(c);
        return 0;
}

static void member_call(Member *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        c->crowd->left--;
        c->crowd->under_way++;
        m = acquire_message(c->bus, c->crowd->service, "egm4", SLICE, "descriptor", 0);
        bench_check(sd_bus_call_async(c->bus, NULL, m, on_granted, c, 0), "call");
}

static void crowd_run(sd_bus *bus, const char *who, Member *members, size_t n, size_t calls,
                      Crowd *crowd) {
        uint64_t t;

        crowd->service = service_of(who);
        crowd->left = calls;
        crowd->done = 0;
        bench_check(sd_event_new(&crowd->event), "event loop");
        for (size_t i = 0; i < n; i++)
                bench_check(sd_bus_attach_event(members[i].bus, crowd->event, 0), "attaching");
        t = bench_now();
        for (size_t i = 0; i < n && crowd->left > 0; i++)
                member_call(members + i);
        /* sd_event_exit() would close the connections. */
        while (crowd->under_way > 0)
                bench_check(sd_event_run(crowd->event, UINT64_MAX), "loop");
        t = bench_now() - t;
        printf("{\"who\": \"%s\", \"what\": \"clients\", \"rate\": %.1f}\n", who,
               (double) calls * 1e9 / (double) t);
        (void) fflush(stdout);
        for (size_t i = 0; i < n; i++)
                (void) sd_bus_detach_event(members[i].bus);
        crowd->event = sd_event_unref(crowd->event);
        for (size_t i = 0; i < calls; i++)
                (void) release(bus, crowd->service, crowd->taken + i);
        if (streq(who, "egmd"))
                wait_for_leases(bus, 0);
}

static void cmd_clients(char *argv[]) {
        size_t rounds = bench_number(argv[0]), calls = bench_number(argv[1]);
        size_t n = bench_number(argv[2]), n_who = 0;
        Crowd crowd = {.taken = calloc(calls, sizeof(*crowd.taken))};
        Member *members = calloc(n, sizeof(*members));
        sd_bus *bus = connect_bus();

        while (argv[3 + n_who])
                n_who++;
        if (!members || !crowd.taken || n_who == 0)
                errx(EXIT_FAILURE, "bad arguments");
        for (size_t i = 0; i < n; i++)
                members[i] = (Member){.crowd = &crowd, .bus = connect_bus()};
        for (size_t i = 0; i < rounds; i++)
                for (size_t k = 0; k < n_who; k++)
                        crowd_run(bus, argv[3 + (i + k) % n_who], members, n, calls, &crowd);
        for (size_t i = 0; i < n; i++)
                sd_bus_flush_close_unref(members[i].bus);
        free(members);
        free(crowd.taken);
        sd_bus_flush_close_unref(bus);
}

/* ---- many leases ---- */

static void cmd_fill(char *argv[]) {
        size_t n = bench_number(argv[0]);
        sd_bus *bus = connect_bus();

        for (size_t i = 0; i < n; i++) {
                Taken taken;

                (void) acquire(bus, EGM_BUS_NAME, "egm4", SLICE, "persistent", &taken);
                (void) safe_close(taken.lifetime);
        }
        sd_bus_flush_close_unref(bus);
}

static void drop_one(sd_bus *bus, const char *path) {
        if (strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) != 0)
                return;
        /* One that was on its way out already refuses. */
        (void) sd_bus_call_method(bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, "Release", NULL,
                                  NULL, "a{sv}", 0);
}

static void cmd_drop(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus *bus = connect_bus();
        const char *path;

        must_not_fail(sd_bus_call_method(bus, EGM_BUS_NAME, EGM_PATH,
                                         "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
                                         &e, &m, NULL),
                      &e, "GetManagedObjects");
        bench_check(sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}"), "reply");
        while (sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}") > 0) {
                bench_check(sd_bus_message_read(m, "o", &path), "reply");
                drop_one(bus, path);
                bench_check(sd_bus_message_skip(m, "a{sa{sv}}"), "reply");
                bench_check(sd_bus_message_exit_container(m), "reply");
        }
        wait_for_leases(bus, 0);
        sd_bus_flush_close_unref(bus);
}

/* ---- memory coming back ---- */

static void wait_for_free(sd_bus *bus, const char *path, uint64_t size) {
        while (get_u64(bus, path, EGM_REGION_INTERFACE, "Free", 't') < size)
                (void) poll(NULL, 0, 1);
}

static int on_waited(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        if (e)
                errx(EXIT_FAILURE, "AcquireLease: %s: %s", e->name, e->message);
        read_taken(m, userdata);
        return 0;
}

/* Takes all of a region, gives one slice back and times until it is lent to who waits for it, or free. */
static uint64_t reclaim_once(sd_bus *bus, const char *region, const char *path, uint64_t size,
                             bool wait) {
        uint64_t n = get_u64(bus, path, EGM_REGION_INTERFACE, "Size", 't') / size, t;
        Taken *taken = calloc(n, sizeof(*taken)), waited = {.lifetime = -EBADF};

        if (!taken || n == 0)
                errx(EXIT_FAILURE, "bad size");
        wait_for_free(bus, path, n * size);
        for (size_t i = 0; i < n; i++)
                (void) acquire(bus, EGM_BUS_NAME, region, size, "descriptor", taken + i);
        if (wait) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

                m = acquire_message(bus, EGM_BUS_NAME, region, size, "descriptor", WAIT_USEC);
                bench_check(sd_bus_call_async(bus, NULL, m, on_waited, &waited, 0), "call");
        }
        t = bench_now();
        (void) release(bus, EGM_BUS_NAME, taken + n / 2);
        if (!wait)
                wait_for_free(bus, path, size);
        while (wait && waited.lifetime < 0) {
                int r = sd_bus_process(bus, NULL);

                bench_check(r, "bus");
                if (r == 0)
                        bench_check(sd_bus_wait(bus, UINT64_MAX), "bus");
        }
        t = bench_now() - t;
        if (wait)
                (void) release(bus, EGM_BUS_NAME, &waited);
        for (size_t i = 0; i < n; i++)
                if (i != n / 2)
                        (void) release(bus, EGM_BUS_NAME, taken + i);
        wait_for_leases(bus, 0);
        free(taken);
        return t;
}

static void cmd_reclaim(char *argv[]) {
        size_t rounds = bench_number(argv[0]);
        uint64_t size = bench_number(argv[2]);
        sd_bus *bus = connect_bus();
        char path[64];

        (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/%s", argv[1]);
        for (size_t i = 0; i < rounds; i++) {
                printf("{\"who\": \"egmd\", \"what\": \"reclaim\", \"ms\": %.3f}\n",
                       (double) reclaim_once(bus, argv[1], path, size, streq(argv[3], "1")) / 1e6);
                (void) fflush(stdout);
        }
        sd_bus_flush_close_unref(bus);
}

static bool input_ended(int timeout) {
        return poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, timeout) > 0;
}

static void cmd_churn(char *argv[]) {
        uint64_t size = bench_number(argv[1]);
        sd_bus *bus = connect_bus();
        char path[64];

        (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/%s", argv[0]);
        while (!input_ended(0)) {
                Taken taken;

                (void) acquire(bus, EGM_BUS_NAME, argv[0], size, "descriptor", &taken);
                (void) release(bus, EGM_BUS_NAME, &taken);
                /* Polled rarely: this is not what is measured. */
                while (get_u64(bus, path, EGM_REGION_INTERFACE, "Free", 't') < size &&
                       !input_ended(20))
                        ;
        }
        sd_bus_flush_close_unref(bus);
}

static void cmd_ping(void) {
        uint64_t *t = times_new(1000000), max = 0;
        sd_bus *bus = connect_bus();
        size_t n = 0;

        do {
                uint64_t start = bench_now();
                sd_bus_error e = SD_BUS_ERROR_NULL;

                must_not_fail(sd_bus_call_method(bus, EGM_BUS_NAME, EGM_PATH,
                                                 "org.freedesktop.DBus.Peer", "Ping", &e, NULL,
                                                 NULL),
                              &e, "Ping");
                start = bench_now() - start;
                max = MAX(max, start);
                if (n < 1000000)
                        t[n++] = start;
        } while (!input_ended(1));
        bench_print_times("egmd", "ping", t, n);
        free(t);
        sd_bus_flush_close_unref(bus);
}

int main(int argc, char *argv[]) {
        static const struct {
                const char *name;
                int args;
        } commands[] = {{"turns", 3},   {"clients", 4}, {"fill", 1}, {"drop", 0},
                        {"reclaim", 4}, {"churn", 2},   {"ping", 0}};
        size_t i = 0;

        while (argc > 2 && i < ELEMENTSOF(commands) && !streq(commands[i].name, argv[2]))
                i++;
        if (argc < 3 || i == ELEMENTSOF(commands) || argc - 3 < commands[i].args)
                errx(EXIT_FAILURE, "see the head of bench-calls.c");
        address = argv[1];
        argv += 3;
        switch (i) {
        case 0:
                cmd_turns(argv);
                break;
        case 1:
                cmd_clients(argv);
                break;
        case 2:
                cmd_fill(argv);
                break;
        case 3:
                cmd_drop();
                break;
        case 4:
                cmd_reclaim(argv);
                break;
        case 5:
                cmd_churn(argv);
                break;
        default:
                cmd_ping();
        }
        return EXIT_SUCCESS;
}
