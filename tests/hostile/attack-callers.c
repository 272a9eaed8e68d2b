/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/pidfd.h>

#include "attacks.h"
#include "raw.h"
#include "scene.h"

/* Callers that go, that want no answer, that answer what nobody asked, that get in each other's way. */

#define N_CLIENTS 8U
/* The bus lets nobody wait for more answers than that at once. */
#define N_CALLS 128U
#define WAIT_USEC (UINT64_C(3600) * USEC_PER_SEC)

static uint32_t waiting_max(void) {
        return bed_get_u32(scene_bus(), EGM_PATH, EGM_MANAGER_INTERFACE, "WaitingMax");
}

static uint32_t count_waiting(void) {
        sd_bus_message *m;
        uint32_t n = 0;

        assert_true(sd_bus_get_property(scene_bus(), EGM_BUS_NAME, EGM_PATH, EGM_MANAGER_INTERFACE,
                                        "Waiting", NULL, &m, "a(uusttt)") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(uusttt)") > 0);
        while (sd_bus_message_skip(m, "(uusttt)") > 0)
                n++;
        sd_bus_message_unref(m);
        return n;
}

static bool nobody_waits(sd_bus *bus, const void *arg) {
        return count_waiting() == 0;
}

/* As many requests as may wait, and then all of them go at once. */
void attack_waiters_vanish(void) {
        Granted g = bed_acquire(scene_bus(), SCENE_VICTIM, 2 * MIB, "descriptor");

        for (unsigned round = 0; round < 2; round++) {
                sd_bus *clients[N_CLIENTS + 1];
                unsigned pending = 0;
                uint32_t n;

                for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                        clients[i] = scene_client();
                        for (unsigned k = 0; k < N_CALLS; k++) {
                                sd_bus_message *m = scene_acquire_call(
                                                clients[i], SCENE_VICTIM_SIZE - k * SCENE_GRANULE,
                                                k % 2 ? "descriptor" : "persistent", WAIT_USEC);

                                scene_send(clients[i], m, &pending);
                        }
                        assert_true(sd_bus_flush(clients[i]) >= 0);
                }
                do
                        n = count_waiting();
                while (n < MIN(waiting_max(), N_CLIENTS * N_CALLS));
                /* Half of them by name, the others in the middle of what they say. */
                for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                        if (i % 2 == 0)
                                sd_bus_close(clients[i]);
                        else
                                (void) sd_bus_flush(clients[i]);
                        sd_bus_close(clients[i]);
                        sd_bus_unref(clients[i]);
                }
                bed_wait(scene_bus(), nobody_waits, NULL, "those that have gone to be forgotten");
        }
        bed_close(&g.memory);
        bed_close(&g.lifetime);
}

/* Bytes that nobody gets, of whom each has a limit of its own: the last is answered when the first is. */
void attack_waiters_time_out(void) {
        Granted g = bed_acquire(scene_bus(), SCENE_VICTIM, 2 * MIB, "descriptor");
        sd_bus *clients[N_CLIENTS];
        unsigned pending[N_CLIENTS] = {};

        for (size_t i = 0; i < N_CLIENTS; i++)
                clients[i] = scene_client();
        for (unsigned k = 0; k < N_CALLS; k++)
                for (size_t i = 0; i < N_CLIENTS; i++) {
                        scene_send(clients[i],
                                   scene_acquire_call(clients[i],
                                                      SCENE_VICTIM_SIZE - k * SCENE_GRANULE,
                                                      "descriptor", USEC_PER_SEC),
                                   pending + i);
                        assert_true(sd_bus_flush(clients[i]) >= 0);
                }
        for (size_t i = 0; i < N_CLIENTS; i++) {
                scene_collect(clients[i], pending + i);
                sd_bus_flush_close_unref(clients[i]);
        }
        bed_close(&g.memory);
        bed_close(&g.lifetime);
}

/* Thousands of calls whose callers are gone before, while and after they are answered. */
void attack_callers_vanish(void) {
        for (unsigned i = 0; i < 600; i++) {
                sd_bus *b = scene_client();
                unsigned pending = 0;

                for (unsigned k = 0; k < 4; k++)
                        scene_send(b, scene_acquire_call(b, 4 * SCENE_GRANULE, "descriptor", 0),
                                   &pending);
                if (i % 3 == 0)
                        (void) sd_bus_flush(b);
                if (i % 3 == 1)
                        (void) sd_bus_process(b, NULL);
                sd_bus_close(b);
                sd_bus_unref(b);
        }
}

/* Who wants no answer gets no lease: nobody would know of it. */
void attack_no_reply(void) {
        static const RawCall calls[] = {
                        {.lifetime = "persistent"},
                        {.lifetime = "descriptor"},
                        {.lifetime = "persistent", .wait_usec = WAIT_USEC},
        };
        int fd = raw_connect();
        uint32_t serial = 2;
        unsigned pending = 0;
        sd_bus *b;

        for (unsigned i = 0; i < 500; i++)
                for (size_t k = 0; k < ELEMENTSOF(calls); k++) {
                        RawCall c = calls[k];

                        c.path = EGM_PATH;
                        c.interface = EGM_MANAGER_INTERFACE;
                        c.member = "AcquireLease";
                        c.region = SCENE_VICTIM;
                        c.size = 16 * SCENE_GRANULE;
                        /* NO_REPLY_EXPECTED, with and without NO_AUTO_START and ALLOW_INTERACTIVE_AUTHORIZATION */
                        c.flags = (uint8_t) (RAW_NO_REPLY | (i % 4) << 1);
                        assert_true(raw_send(fd, serial++, &c));
                }
        (void) close(fd);
        /* The flags alone do no harm. */
        b = scene_client();
        for (unsigned i = 0; i < 50; i++) {
                sd_bus_message *m = scene_acquire_call(b, SCENE_VICTIM_SIZE * 2, "descriptor", 0);

                assert_true(sd_bus_message_set_auto_start(m, i % 2) >= 0);
                assert_true(sd_bus_message_set_allow_interactive_authorization(m, i % 3 == 0) >= 0);
                scene_send(b, m, &pending);
        }
        scene_collect(b, &pending);
        sd_bus_flush_close_unref(b);
}

/* Names come and go; what egmd knows of them must go, too. */
void attack_names(void) {
        for (unsigned i = 0; i < 1500; i++) {
                sd_bus *b = scene_client();
                unsigned pending = 0;

                scene_send(b, scene_acquire_call(b, SCENE_GRANULE + 1, "descriptor", 0), &pending);
                scene_collect(b, &pending);
                sd_bus_close(b);
                sd_bus_unref(b);
        }
}

/* ---- answers that nobody asked for ---- */

static char *name_of_daemon(void) {
        const char *name;
        sd_bus_creds *c;
        char *copy;

        assert_true(sd_bus_get_name_creds(scene_bus(), EGM_BUS_NAME, SD_BUS_CREDS_UNIQUE_NAME,
                                          &c) >= 0);
        assert_true(sd_bus_creds_get_unique_name(c, &name) >= 0);
        copy = strdup(name);
        assert_non_null(copy);
        sd_bus_creds_unref(c);
        return copy;
}

/* What egmd would have asked with that number. */
static sd_bus_message *asked_by_daemon(sd_bus *b, const char *daemon, uint64_t cookie) {
        sd_bus_message *m;

        assert_true(sd_bus_message_new_method_call(b, &m, NULL, "/", "a.b", "c") >= 0);
        assert_true(sd_bus_message_set_sender(m, daemon) >= 0);
        assert_true(sd_bus_message_seal(m, cookie, 0) >= 0);
        return m;
}

/* Says to be the bus: that we are root, that nobody has gone, that the connection is lost. */
void attack_forgery(void) {
        char *daemon = name_of_daemon();

        for (unsigned round = 0; round < 4; round++) {
                sd_bus *b = scene_client();

                for (uint64_t cookie = 1; cookie < 3000; cookie++) {
                        sd_bus_message *call = asked_by_daemon(b, daemon, cookie), *m = NULL;

                        if (cookie % 2)
                                assert_true(sd_bus_message_new_method_errorf(
                                                            call, &m,
                                                            SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                                            "gone") >= 0);
                        else {
                                assert_true(sd_bus_message_new_method_return(call, &m) >= 0);
                                assert_true(sd_bus_message_append(m, "a{sv}", 1, "UnixUserID", "u",
                                                                  0) >= 0);
                        }
                        assert_true(sd_bus_send(b, m, NULL) >= 0);
                        sd_bus_message_unref(m);
                        sd_bus_message_unref(call);
                }
                for (unsigned i = 0; i < 200; i++) {
                        (void) sd_bus_emit_signal(b, "/org/freedesktop/DBus",
                                                  "org.freedesktop.DBus", "NameOwnerChanged", "sss",
                                                  ":1.1", ":1.1", "");
                        (void) sd_bus_emit_signal(b, "/", "org.freedesktop.DBus.Loca",
                                                  "Disconnected", "");
                }
                for (unsigned i = 0; i < 200; i++) {
                        sd_bus_message *m;

                        assert_true(sd_bus_message_new_signal(b, &m, "/org/freedesktop/DBus",
                                                              "org.freedesktop.DBus",
                                                              "NameOwnerChanged") >= 0);
                        assert_true(sd_bus_message_set_destination(m, daemon) >= 0);
                        assert_true(sd_bus_message_append(m, "sss", daemon, daemon, "") >= 0);
                        assert_true(sd_bus_send(b, m, NULL) >= 0);
                        sd_bus_message_unref(m);
                }
                assert_true(sd_bus_flush(b) >= 0);
                sd_bus_flush_close_unref(b);
        }
        free(daemon);
}

/* ---- in each other's way ---- */

static bool none_left(sd_bus *bus, const void *arg) {
        return bed_get_u64(bus, EGM_REGION_PATH "/" SCENE_VICTIM, EGM_REGION_INTERFACE, "Free") ==
               SCENE_VICTIM_SIZE;
}

static void send_one_of(sd_bus *b, const Granted *g, int self, unsigned what, unsigned *pending) {
        static const char *const methods[] = {"Bind", "Reopen", "Release"};
        sd_bus_message *m;

        if (what == 3) {
                scene_send(b, scene_acquire_call(b, SCENE_GRANULE, "descriptor", 0), pending);
                return;
        }
        m = bed_call_new(b, g->path, EGM_LEASE_INTERFACE, methods[what]);
        if (what == 0)
                assert_true(sd_bus_message_append(m, "h", self) >= 0);
        if (what == 2)
                assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        scene_send(b, m, pending);
}

/* All methods of one lease at once, from many sides, while its descriptors are closed: each is done or refused by name. */
void attack_races(void) {
        sd_bus *clients[N_CLIENTS];
        unsigned pending[N_CLIENTS] = {};
        unsigned random = 1;
        int self = pidfd_open(getpid(), 0);

        assert_true(self >= 0);
        for (size_t i = 0; i < N_CLIENTS; i++)
                clients[i] = scene_client();
        for (unsigned round = 0; round < 60; round++) {
                Granted g = scene_acquire(scene_bus(), SCENE_GRANULE,
                                          round % 2 ? "descriptor" : "persistent");

                for (unsigned k = 0; k < 8; k++)
                        for (size_t i = 0; i < N_CLIENTS; i++) {
                                random = random * 1103515245U + 12345U;
                                send_one_of(clients[i], &g, self,
                                            (random >> 16) % (k < 2 ? 2U : 4U), pending + i);
                        }
                bed_close(&g.memory);
                bed_close(&g.lifetime);
                send_one_of(clients[0], &g, self, 2, pending);
                for (size_t i = 0; i < N_CLIENTS; i++)
                        scene_collect(clients[i], pending + i);
                /* Not to run out of memory to grant. */
                if (round % 20 == 19)
                        bed_wait(scene_bus(), none_left, NULL, "the leases to end");
        }
        for (size_t i = 0; i < N_CLIENTS; i++)
                sd_bus_flush_close_unref(clients[i]);
        (void) close(self);
}
