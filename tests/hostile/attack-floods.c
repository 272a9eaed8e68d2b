/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <unistd.h>

#include "attacks.h"
#include "scene.h"

/* What is long to answer, asked often; and what is asked by those who never read the answer. */

#define N_LEASES 1000U
#define N_CLIENTS 8U
#define N_CALLS 120U

static Granted leases[N_LEASES];

void attack_fill(void) {
        for (unsigned i = 0; i < N_LEASES; i++)
                leases[i] = scene_acquire(scene_bus(), SCENE_GRANULE, "descriptor");
}

void attack_drop(void) {
        for (unsigned i = 0; i < N_LEASES; i++) {
                bed_close(&leases[i].memory);
                bed_close(&leases[i].lifetime);
        }
}

static sd_bus_message *managed_objects(sd_bus *b) {
        return bed_call_new(b, EGM_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
}

static sd_bus_message *one_of_many(sd_bus *b, unsigned i) {
        sd_bus_message *m;

        switch (i % 8) {
        case 0:
                return bed_call_new(b, EGM_PATH, "org.freedesktop.DBus.Introspectable",
                                    "Introspect");
        case 1:
                return bed_call_new(b, EGM_LEASE_PATH, "org.freedesktop.DBus.Introspectable",
                                    "Introspect");
        case 2:
                return bed_call_new(b, EGM_PATH, EGM_MANAGER_INTERFACE, "Nothing");
        case 3:
                m = bed_call_new(b, EGM_PATH, "org.freedesktop.DBus.Properties", "Get");
                assert_true(sd_bus_message_append(m, "ss", EGM_MANAGER_INTERFACE, "Sockets") >= 0);
                return m;
        case 4:
                m = bed_call_new(b, leases[i % N_LEASES].path, "org.freedesktop.DBus.Properties",
                                 "GetAll");
                assert_true(sd_bus_message_append(m, "s", EGM_LEASE_INTERFACE) >= 0);
                return m;
        case 5:
                m = bed_call_new(b, EGM_REGION_PATH "/" SCENE_VICTIM,
                                 "org.freedesktop.DBus.Properties", "Get");
                assert_true(sd_bus_message_append(m, "ss", EGM_REGION_INTERFACE, "Extents") >= 0);
                return m;
        case 6:
                m = bed_call_new(b, EGM_PATH, "org.freedesktop.DBus.Properties", "Set");
                assert_true(sd_bus_message_append(m, "ssv", EGM_MANAGER_INTERFACE, "LeaseCount",
                                                  "u", 0) >= 0);
                return m;
        default:
                return managed_objects(b);
        }
}

void attack_floods(void) {
        sd_bus *clients[N_CLIENTS];
        unsigned pending[N_CLIENTS] = {};

        for (size_t i = 0; i < N_CLIENTS; i++)
                clients[i] = scene_client();
        for (unsigned round = 0; round < 1; round++) {
                for (unsigned k = 0; k < N_CALLS; k++)
                        for (size_t i = 0; i < N_CLIENTS; i++)
                                scene_send(clients[i], one_of_many(clients[i], k + (unsigned) i),
                                           pending + i);
                for (size_t i = 0; i < N_CLIENTS; i++)
                        scene_collect(clients[i], pending + i);
        }
        for (size_t i = 0; i < N_CLIENTS; i++)
                sd_bus_flush_close_unref(clients[i]);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return 0;
}

/* As many rules as the bus lets a client have, all of which match what egmd tells; and those who have them do not listen. */
void attack_matches(void) {
        sd_bus *clients[4];

        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                clients[i] = scene_client();
                for (unsigned k = 0; k < 500; k++) {
                        char rule[128];

                        (void) snprintf(rule, sizeof(rule),
                                        "type='signal',sender='" EGM_BUS_NAME "',arg%u='x%u'",
                                        k % 64, k);
                        assert_true(sd_bus_add_match_async(
                                                    clients[i], NULL,
                                                    k == 0 ? "type='signal',sender='" EGM_BUS_NAME
                                                             "'"
                                                           : rule,
                                                    on_signal, NULL, NULL) >= 0);
                }
                assert_true(sd_bus_flush(clients[i]) >= 0);
        }
        for (unsigned i = 0; i < 100; i++) {
                Granted g = scene_acquire(scene_bus(), SCENE_GRANULE, "descriptor");

                bed_close(&g.memory);
                bed_close(&g.lifetime);
        }
        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                sd_bus_close(clients[i]);
                sd_bus_unref(clients[i]);
        }
}

static void ask_for_objects(sd_bus *b, unsigned n_calls) {
        for (unsigned k = 0; k < n_calls; k++) {
                sd_bus_message *m = managed_objects(b);
                uint64_t cookie;

                /* Who does not ask for the cookie wants no answer. */
                assert_true(sd_bus_send(b, m, &cookie) >= 0);
                sd_bus_message_unref(m);
        }
        assert_true(sd_bus_flush(b) >= 0);
}

static sd_bus *never_reads(unsigned n_calls) {
        sd_bus *b = scene_client();

        ask_for_objects(b, n_calls);
        return b;
}

static void leave(sd_bus *b) {
        sd_bus_close(b);
        sd_bus_unref(b);
}

/* Each of these answers has more than half a megabyte. All together are less than the bus keeps of one sender's. */
void attack_never_reads(void) {
        sd_bus *clients[] = {never_reads(N_CALLS / 2), never_reads(N_CALLS / 2)};

        for (unsigned i = 0; i < 50; i++) {
                Granted g = scene_acquire(scene_bus(), SCENE_GRANULE, "descriptor");

                bed_close(&g.memory);
                bed_close(&g.lifetime);
        }
        for (size_t i = 0; i < ELEMENTSOF(clients); i++)
                leave(clients[i]);
}

/* ---- descriptors that are not taken ---- */

#define N_REOPENS 100U
#define N_FILLINGS 1000U
#define STRANGER 65534U

/* Says so much to it that what comes behind waits in the bus. */
static void fill(sd_bus *from, sd_bus *to) {
        static char text[1024];
        const char *name;

        memset(text, 'x', sizeof(text) - 1);
        assert_true(sd_bus_get_unique_name(to, &name) >= 0);
        for (unsigned i = 0; i < N_FILLINGS; i++) {
                sd_bus_message *m;

                assert_true(sd_bus_message_new_signal(from, &m, "/", "a.b", "C") >= 0);
                assert_true(sd_bus_message_set_destination(m, name) >= 0);
                assert_true(sd_bus_message_append(m, "s", text) >= 0);
                assert_true(sd_bus_send(from, m, NULL) >= 0);
                sd_bus_message_unref(m);
        }
        assert_true(sd_bus_flush(from) >= 0);
}

/* As nobody, where we can be somebody else: what a user leaves unread is his. */
static sd_bus *stranger(void) {
        bool root = geteuid() == 0;
        sd_bus *b;

        if (root)
                assert_int_equal(seteuid(STRANGER), 0);
        b = scene_client();
        if (root)
                assert_int_equal(seteuid(0), 0);
        return b;
}

static Granted lend_to_stranger(void) {
        sd_bus_message *m = bed_call_new(scene_bus(), EGM_PATH, EGM_MANAGER_INTERFACE,
                                         "AcquireLease"),
                       *reply;
        Granted g;

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          (uint64_t) (2 * MIB), "Region", "s", SCENE_VICTIM,
                                          "OwnerUid", "u",
                                          geteuid() == 0 ? STRANGER : geteuid()) >= 0);
        assert_true(sd_bus_call(scene_bus(), m, 0, NULL, &reply) >= 0);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        return g;
}

/* The bus keeps 64 descriptors of one sender's, and then takes nothing from him any more. */
void attack_fds_not_taken(void) {
        Granted lent[3];
        sd_bus *clients[ELEMENTSOF(lent)], *accomplice = scene_client();

        for (size_t i = 0; i < ELEMENTSOF(lent); i++) {
                clients[i] = stranger();
                lent[i] = lend_to_stranger();
                fill(accomplice, clients[i]);
                for (unsigned k = 0; k < N_REOPENS; k++) {
                        sd_bus_message *m = bed_call_new(clients[i], lent[i].path,
                                                         EGM_LEASE_INTERFACE, "Reopen");
                        uint64_t cookie;

                        assert_true(sd_bus_send(clients[i], m, &cookie) >= 0);
                        sd_bus_message_unref(m);
                }
                assert_true(sd_bus_flush(clients[i]) >= 0);
        }
        /* It is there for others all the while, also for what has descriptors. */
        for (unsigned k = 0; k < 40; k++) {
                Granted g = scene_acquire(scene_bus(), SCENE_GRANULE, "descriptor");

                bed_close(&g.memory);
                bed_close(&g.lifetime);
        }
        sd_bus_flush_close_unref(accomplice);
        for (size_t i = 0; i < ELEMENTSOF(lent); i++) {
                leave(clients[i]);
                bed_close(&lent[i].memory);
                bed_close(&lent[i].lifetime);
        }
}

/* ---- more than the bus keeps of one sender's ---- */

#define N_GREEDY 6U
#define N_GREEDY_CALLS 40U
#define N_MODEST 220U
#define PATIENT_USEC (120 * USEC_PER_SEC)
#define IMPATIENT_USEC (10 * USEC_PER_SEC)
#define N_ROUNDS 12U

static sd_bus *hostile[N_GREEDY + N_MODEST];

/* Whoever asks behind them, and is answered, knows that they were. */
static bool ask_behind(uint64_t patience) {
        sd_bus_message *m = managed_objects(scene_bus());
        int r = sd_bus_call(scene_bus(), m, patience, NULL, NULL);

        sd_bus_message_unref(m);
        return r >= 0;
}

/* As much as is 140 MB for a few that ask again and again, and for many that ask once. */
static void greet_hostile(void) {
        for (size_t i = 0; i < ELEMENTSOF(hostile); i++)
                hostile[i] = stranger();
        for (size_t i = 0; i < N_MODEST; i++)
                ask_for_objects(hostile[N_GREEDY + i], 1);
}

static void ask_greedily(void) {
        for (size_t i = 0; i < N_GREEDY; i++)
                ask_for_objects(hostile[i], 8);
}

static void unread_end(void) {
        for (size_t i = 0; i < ELEMENTSOF(hostile); i++)
                leave(hostile[i]);
}

/* Nobody else notices, and once they are gone or read, everything is as before. */
void attack_greedy(void) {
        unsigned pending = 0;

        greet_hostile();
        assert_true(ask_behind(PATIENT_USEC));
        for (unsigned k = 0; k < N_GREEDY_CALLS; k += 8) {
                ask_greedily();
                assert_true(ask_behind(PATIENT_USEC));
        }
        /* One of them reads: it gets all that it has asked for. */
        for (unsigned k = 0; k < 8; k++)
                scene_send(hostile[0], managed_objects(hostile[0]), &pending);
        for (size_t i = 1; i < ELEMENTSOF(hostile); i++)
                leave(hostile[i]);
        scene_collect(hostile[0], &pending);
        leave(hostile[0]);
}

/* On a bus that does not say who reads: egmd must find out that nothing it says is taken any more, and leave; and the next
 * one must be able to work while those who do not read are still there. */
void attack_block_the_bus(void) {
        sd_bus *flooders[N_ROUNDS];
        unsigned n = 0;

        attack_fill();
        greet_hostile();
        /* Late is not blocked, so they go on asking. It notices once there is more than a little that it cannot say. */
        for (unsigned k = 0; k < 2 * N_ROUNDS && n < N_ROUNDS && scene_runs(); k++) {
                ask_greedily();
                if (!ask_behind(IMPATIENT_USEC) && scene_runs())
                        flooders[n++] = never_reads(N_CALLS);
        }
        scene_await_end();
        scene_revive();
        for (unsigned i = 0; i < N_LEASES; i += 99) {
                char *state;

                assert_true(bed_get_string(scene_bus(), leases[i].path, EGM_LEASE_INTERFACE,
                                           "State", &state) >= 0);
                assert_string_equal(state, "active");
                free(state);
        }
        attack_drop();
        scene_attack("floods.blocked", attack_no_reply);
        unread_end();
        while (n > 0)
                leave(flooders[--n]);
}
