/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "attacks.h"
#include "kinds.h"
#include "scene.h"

/* Who may map a lease, and who keeps it: asked with what is no process, too often, by those who may not, and all at once. What is
 * enforced here is nothing; which processes may then be admitted is tests/unit/test-bus-peer.c's. */

#define OWNER 65534U
#define STRANGER 1U
#define N_CLIENTS 8U
#define N_LEASES 100U
#define N_CHILDREN 32U
#define N_ROUNDS 20U
#define BOUND_MAX 8U

static sd_bus_message *let_in(sd_bus *b, const Granted *g, const char *method, int fd) {
        sd_bus_message *m = bed_call_new(b, g->path, EGM_LEASE_INTERFACE, method);

        assert_true(sd_bus_message_append(m, "h", fd) >= 0);
        return m;
}

static void expect_error(sd_bus *b, sd_bus_message *m, const char *name, const char *text) {
        sd_bus_error e = SD_BUS_ERROR_NULL;

        if (sd_bus_call(b, m, 0, &e, NULL) >= 0)
                fail_msg("granted, and not %s", name);
        assert_string_equal(e.name, name);
        if (text && !strstr(e.message, text))
                fail_msg("'%s' does not say '%s'", e.message, text);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
}

static Granted lease_of(uint32_t uid) {
        sd_bus_message *m = bed_call_new(scene_bus(), EGM_PATH, EGM_MANAGER_INTERFACE,
                                         "AcquireLease"),
                       *reply;
        Granted g;

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          (uint64_t) (2 * MIB), "Region", "s", SCENE_VICTIM,
                                          "OwnerUid", "u", uid) >= 0);
        assert_true(sd_bus_call(scene_bus(), m, 0, NULL, &reply) >= 0);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        return g;
}

static void end_lease(Granted *g) {
        assert_true(sd_bus_call_method(scene_bus(), EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE,
                                       "Release", NULL, NULL, "a{sv}", 0) >= 0);
        bed_close(&g->memory);
        bed_close(&g->lifetime);
}

/* What is no process is refused to the owner and to root alike. Who is neither learns nothing of what he holds. */
void attack_admit_kinds(void) {
        static const char *const methods[] = {"Admit", "Bind"};
        bool root = geteuid() == 0;
        Granted g = lease_of(root ? OWNER : geteuid());
        sd_bus *owner = root ? bed_connect_as(OWNER, OWNER) : bed_connect();
        sd_bus *stranger = root ? bed_connect_as(STRANGER, STRANGER) : NULL;
        Kinds k;

        kinds_open(&k, &g);
        for (size_t i = 0; i < k.n; i++)
                for (size_t j = 0; j < ELEMENTSOF(methods); j++) {
                        int fd = k.list[i].fd;

                        kinds_expect(scene_bus(), let_in(scene_bus(), &g, methods[j], fd),
                                     k.list + i, methods[j]);
                        kinds_expect(owner, let_in(owner, &g, methods[j], fd), k.list + i,
                                     methods[j]);
                        if (stranger)
                                expect_error(stranger, let_in(stranger, &g, methods[j], fd),
                                             EGM_ERROR_PREFIX "NotHolder", "belongs to uid");
                }
        sd_bus_flush_close_unref(stranger);
        sd_bus_flush_close_unref(owner);
        end_lease(&g);
        kinds_close(&k);
}

static void open_children(pid_t pids[N_CHILDREN], int fds[N_CHILDREN]) {
        for (size_t i = 0; i < N_CHILDREN; i++) {
                pids[i] = kinds_child(0, true);
                fds[i] = pidfd_open(pids[i], 0);
                assert_true(fds[i] >= 0);
        }
}

static void close_children(const pid_t pids[N_CHILDREN], const int fds[N_CHILDREN]) {
        for (size_t i = 0; i < N_CHILDREN; i++) {
                (void) close(fds[i]);
                if (pids[i] > 0)
                        kinds_end_child(pids[i]);
        }
}

/* As often as the bus lets anybody ask, one lease and many, one process and many: egmd keeps nothing of it. Of those that are bound it
 * keeps a few, and says how many. */
void attack_admit_floods(void) {
        static Granted leases[N_LEASES];
        unsigned pending[N_CLIENTS] = {}, fds;
        int children[N_CHILDREN];
        pid_t pids[N_CHILDREN];
        sd_bus *clients[N_CLIENTS];

        for (size_t i = 0; i < N_LEASES; i++)
                leases[i] = scene_acquire(scene_bus(), SCENE_GRANULE, "descriptor");
        for (size_t i = 0; i < N_CLIENTS; i++)
                clients[i] = scene_client();
        open_children(pids, children);
        fds = scene_count_fds();
        for (unsigned round = 0; round < N_ROUNDS; round++)
                for (size_t i = 0; i < N_CLIENTS; i++) {
                        for (unsigned k = 0; k < N_LEASES; k++)
                                scene_send(clients[i],
                                           let_in(clients[i],
                                                  leases + (round % 2 ? k : round % N_LEASES),
                                                  "Admit", children[(k + round) % N_CHILDREN]),
                                           pending + i);
                        scene_collect(clients[i], pending + i);
                }
        /* Beside what the well-behaved client has at the moment, and nobody else. */
        scene_wait_for_fds("admit.floods", fds + 8);

        for (size_t i = 0; i < BOUND_MAX; i++)
                for (unsigned again = 0; again < 2; again++)
                        assert_true(sd_bus_call_method(scene_bus(), EGM_BUS_NAME, leases[0].path,
                                                       EGM_LEASE_INTERFACE, "Bind", NULL, NULL, "h",
                                                       children[i]) >= 0);
        for (size_t i = BOUND_MAX; i < N_CHILDREN; i++)
                expect_error(scene_bus(), let_in(scene_bus(), leases, "Bind", children[i]),
                             SD_BUS_ERROR_LIMITS_EXCEEDED, "bound to 8 processes; the limit is 8");
        scene_wait_for_fds("admit.floods", fds + BOUND_MAX + 8);
        for (size_t i = 0; i < N_CLIENTS; i++)
                sd_bus_flush_close_unref(clients[i]);
        close_children(pids, children);
        for (size_t i = 0; i < N_LEASES; i++) {
                bed_close(&leases[i].memory);
                bed_close(&leases[i].lifetime);
        }
}

static bool nothing_lent(sd_bus *bus, const void *arg) {
        return bed_get_u64(bus, EGM_REGION_PATH "/" SCENE_VICTIM, EGM_REGION_INTERFACE, "Free") ==
               SCENE_VICTIM_SIZE;
}

/* By many, while the processes end that they name, the lease ends, and half of those who ask are gone before they are answered. */
void attack_admit_races(void) {
        static const char *const methods[] = {"Admit", "Bind", "Reopen", "Admit", "Release"};
        sd_bus *clients[N_CLIENTS];
        unsigned pending[N_CLIENTS] = {}, random = 1;
        int children[N_CHILDREN];
        pid_t pids[N_CHILDREN];

        for (unsigned round = 0; round < N_ROUNDS; round++) {
                Granted g = scene_acquire(scene_bus(), SCENE_GRANULE,
                                          round % 2 ? "descriptor" : "persistent");

                open_children(pids, children);
                for (size_t i = 0; i < N_CLIENTS; i++)
                        clients[i] = scene_client();
                for (unsigned k = 0; k < N_CHILDREN; k++) {
                        for (size_t i = 0; i < N_CLIENTS; i++) {
                                const char *method;
                                sd_bus_message *m;

                                random = random * 1103515245U + 12345U;
                                /* It ends behind most of it. */
                                method = methods[(random >> 16) % (k < N_CHILDREN - 4 ? 4U : 5U)];
                                m = bed_call_new(clients[i], g.path, EGM_LEASE_INTERFACE, method);
                                if (streq(method, "Release"))
                                        assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
                                else if (!streq(method, "Reopen"))
                                        assert_true(sd_bus_message_append(m, "h", children[k]) >=
                                                    0);
                                scene_send(clients[i], m, pending + i);
                                (void) sd_bus_process(clients[i], NULL);
                        }
                        if (k % 2) {
                                kinds_end_child(pids[k]);
                                pids[k] = 0;
                        }
                }
                if (round % 2 == 0)
                        scene_send(clients[0],
                                   bed_call_new(clients[0], g.path, EGM_LEASE_INTERFACE, "Reopen"),
                                   pending);
                bed_close(&g.memory);
                bed_close(&g.lifetime);
                for (size_t i = 0; i < N_CLIENTS; i++) {
                        if (i % 2) {
                                scene_collect(clients[i], pending + i);
                                sd_bus_flush(clients[i]);
                        }
                        pending[i] = 0;
                        sd_bus_close(clients[i]);
                        sd_bus_unref(clients[i]);
                }
                /* It may be over already. */
                (void) sd_bus_call_method(scene_bus(), EGM_BUS_NAME, g.path, EGM_LEASE_INTERFACE,
                                          "Release", NULL, NULL, "a{sv}", 0);
                close_children(pids, children);
        }
        bed_wait(scene_bus(), nothing_lent, NULL, "the leases to end");
}
