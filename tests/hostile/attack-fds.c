/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <time.h>

#include "attacks.h"
#include "fd-util.h"
#include "kinds.h"
#include "raw.h"
#include "scene.h"

/* Descriptors: many, where none are wanted, and of the wrong kind. */

#define N_CLIENTS 16U
#define N_CALLS 100U
#define WAIT_USEC (UINT64_C(3600) * USEC_PER_SEC)

static void open_many(int ret[RAW_FDS_MAX]) {
        for (unsigned i = 0; i < RAW_FDS_MAX; i++) {
                ret[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
                assert_true(ret[i] >= 0);
        }
}

static void close_many(const int fds[RAW_FDS_MAX]) {
        for (unsigned i = 0; i < RAW_FDS_MAX; i++)
                (void) close(fds[i]);
}

/* With every kind of call there is: to methods that take none, that are not there, and that are nobody's. */
void attack_fds_unused(void) {
        static const RawCall calls[] = {
                        {.path = EGM_PATH,
                         .interface = EGM_MANAGER_INTERFACE,
                         .member = "AcquireLease"},
                        {.path = EGM_PATH, .interface = EGM_MANAGER_INTERFACE, .member = "Nothing"},
                        {.path = EGM_PATH,
                         .interface = "org.freedesktop.DBus.Peer",
                         .member = "Ping"},
                        {.path = EGM_LEASE_PATH "/1",
                         .interface = EGM_LEASE_INTERFACE,
                         .member = "Bind"},
                        {.path = EGM_LEASE_PATH "/1",
                         .interface = EGM_LEASE_INTERFACE,
                         .member = "Reopen"},
                        {.path = EGM_PATH,
                         .interface = EGM_MANAGER_INTERFACE,
                         .member = "AcquireLease",
                         .region = SCENE_VICTIM,
                         .size = SCENE_GRANULE},
                        {.path = EGM_PATH,
                         .interface = EGM_MANAGER_INTERFACE,
                         .member = "AcquireLease",
                         .region = "egm9",
                         .size = SCENE_GRANULE},
        };
        int fds[RAW_FDS_MAX];

        open_many(fds);
        for (unsigned i = 0; i < N_CLIENTS; i++) {
                int fd = raw_connect();
                uint32_t serial = 2;

                /* The bus may have enough of it. */
                for (unsigned k = 0; k < N_CALLS; k++) {
                        RawCall c = calls[k % ELEMENTSOF(calls)];

                        c.fds = fds;
                        c.n_fds = RAW_FDS_MAX;
                        c.flags = k % 2 ? RAW_NO_REPLY : 0;
                        if (!raw_send(fd, serial++, &c))
                                break;
                }
                (void) close(fd);
        }
        close_many(fds);
}

/* What the bus lets through and the library that egmd uses does not: it drops such a message, and loses what came with it. */
static void send_dropped(unsigned n_calls, unsigned n_fds) {
        static char path[100000];
        int fds[RAW_FDS_MAX], fd = raw_connect();
        uint32_t serial = 2;

        open_many(fds);
        memset(path, 'x', sizeof(path) - 1);
        memcpy(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/"));
        for (unsigned i = 0; i < n_calls; i++) {
                const RawCall c = {.path = path,
                                   .interface = EGM_MANAGER_INTERFACE,
                                   .member = "AcquireLease",
                                   .flags = RAW_NO_REPLY,
                                   .fds = fds,
                                   .n_fds = n_fds};

                if (raw_send(fd, serial++, &c))
                        continue;
                (void) close(fd);
                fd = raw_connect();
        }
        (void) close(fd);
        close_many(fds);
}

/* The bus does not let that through. */
void attack_fds_dropped(void) {
        send_dropped(200, 2);
        send_dropped(200, RAW_FDS_MAX);
        /* Without any there is nothing to lose. */
        send_dropped(200, 0);
}

/* That it must let through. In the end egmd gives up; what comes after it has its descriptors again. */
void attack_fds_lost(void) {
        Granted g = bed_acquire(scene_bus(), SCENE_VICTIM, 2 * MIB, "descriptor");
        pid_t pid = scene_pid();
        char *state;

        for (time_t end = time(NULL) + 60; scene_runs(); assert_true(time(NULL) < end)) {
                sd_bus_message *m = scene_acquire_call(scene_bus(), SCENE_GRANULE, "descriptor", 0);

                send_dropped(40, 1);
                (void) sd_bus_call(scene_bus(), m, 0, NULL, NULL);
                sd_bus_message_unref(m);
        }
        assert_true(scene_said("nobody knows of more than"));
        scene_revive();
        assert_int_not_equal(scene_pid(), pid);
        assert_true(bed_get_string(scene_bus(), g.path, EGM_LEASE_INTERFACE, "State", &state) >= 0);
        assert_string_equal(state, "active");
        free(state);
        bed_close(&g.memory);
        bed_close(&g.lifetime);
        bed_wait(scene_bus(), bed_all_free, NULL, "all memory to be free");
}

static uint32_t count_waiting(void) {
        sd_bus_message *m;
        uint32_t n = 0;

        /* The bus may have too much for egmd just now. */
        while (sd_bus_get_property(scene_bus(), EGM_BUS_NAME, EGM_PATH, EGM_MANAGER_INTERFACE,
                                   "Waiting", NULL, &m, "a(uusttt)") < 0)
                assert_int_equal(kill(scene_pid(), 0), 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "(uusttt)") > 0);
        while (sd_bus_message_skip(m, "(uusttt)") > 0)
                n++;
        sd_bus_message_unref(m);
        return n;
}

static bool nobody_waits(sd_bus *bus, const void *arg) {
        return count_waiting() == 0;
}

/* Requests that wait, each with a descriptor that no argument speaks of: they must not be kept for as long as it waits. */
void attack_fds_waiting(void) {
        const RawCall c = {.path = EGM_PATH,
                           .interface = EGM_MANAGER_INTERFACE,
                           .member = "AcquireLease",
                           .region = SCENE_VICTIM,
                           .size = SCENE_VICTIM_SIZE,
                           .wait_usec = WAIT_USEC,
                           .n_fds = 1};
        Granted g = bed_acquire(scene_bus(), SCENE_VICTIM, 2 * MIB, "descriptor");
        unsigned before = scene_count_fds(), after, n;
        int fds[RAW_FDS_MAX], clients[N_CLIENTS];

        open_many(fds);
        for (unsigned i = 0; i < N_CLIENTS; i++) {
                RawCall with_fds = c;

                with_fds.fds = fds;
                clients[i] = raw_connect();
                /* The bus may have enough of it. */
                for (uint32_t k = 0; k < 20; k++)
                        if (!raw_send(clients[i], k + 2, &with_fds))
                                break;
        }
        /* The bus forwards 64 descriptors at once, and answers the rest itself. */
        for (time_t end = time(NULL) + 60;;) {
                n = count_waiting();
                after = scene_count_fds();
                /* Calls on their way hold some as well. */
                if (n >= 64 && after <= before + n / 2)
                        break;
                if (time(NULL) > end)
                        fail_msg("%u requests wait, and egmd has kept %u descriptors of them", n,
                                 after - before);
        }
        for (unsigned i = 0; i < N_CLIENTS; i++)
                (void) close(clients[i]);
        close_many(fds);
        bed_wait(scene_bus(), nobody_waits, NULL, "those that have gone to be forgotten");
        bed_close(&g.memory);
        bed_close(&g.lifetime);
}

/* ---- of the wrong kind ---- */

void attack_holder_kinds(void) {
        Granted g = bed_acquire(scene_bus(), SCENE_VICTIM, 2 * MIB, "descriptor");
        Kinds k;

        kinds_open(&k, &g);
        for (size_t i = 0; i < k.n; i++) {
                sd_bus_message *m = bed_call_new(scene_bus(), EGM_PATH, EGM_MANAGER_INTERFACE,
                                                 "AcquireLease");

                /* Those that are granted must end with what they were bound to, so they are not bound to what stays. */
                if (k.list[i].right) {
                        sd_bus_message_unref(m);
                        continue;
                }
                assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 1, "Size",
                                                  "t", (uint64_t) (2 * MIB), "Holder", "h",
                                                  k.list[i].fd) >= 0);
                kinds_expect(scene_bus(), m, k.list + i, "Holder");
        }
        kinds_close(&k);
        bed_close(&g.memory);
        bed_close(&g.lifetime);
}

/* ---- a daemon with few of them ---- */

#define FEW_LEASES_MAX 4096U

#define N_FRESH 24U
#define SCARCE_WAITING_MAX 8U

typedef struct Fresh {
        unsigned served, refused;
} Fresh;

static int on_fresh(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Fresh *f = userdata;

        if (!e) {
                f->served++;
                return 0;
        }
        assert_string_equal(e->name, SD_BUS_ERROR_LIMITS_EXCEEDED);
        assert_non_null(strstr(e->message, "to keep more than 8 calls"));
        f->refused++;
        return 0;
}

/* Who is not known yet is served as well, or nobody could give anything back; but not everybody at once. */
static void attack_few_fds_fresh(const Granted *g) {
        sd_bus *clients[N_FRESH], *b;
        Fresh fresh = {};

        /* It finds all of them there when it goes on. */
        assert_int_equal(kill(scene_pid(), SIGSTOP), 0);
        for (size_t i = 0; i < N_FRESH; i++) {
                sd_bus_message *m;

                clients[i] = scene_client();
                m = bed_call_new(clients[i], EGM_PATH, "org.freedesktop.DBus.Properties", "GetAll");
                assert_true(sd_bus_message_append(m, "s", EGM_MANAGER_INTERFACE) >= 0);
                assert_true(sd_bus_call_async(clients[i], NULL, m, on_fresh, &fresh, 0) >= 0);
                sd_bus_message_unref(m);
                /* The bus has passed it on. */
                assert_true(sd_bus_call_method(clients[i], "org.freedesktop.DBus",
                                               "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                               "GetId", NULL, NULL, "") >= 0);
        }
        assert_int_equal(kill(scene_pid(), SIGCONT), 0);
        for (size_t i = 0; i < N_FRESH; i++)
                while (fresh.served + fresh.refused <= i) {
                        for (size_t k = 0; k < N_FRESH; k++)
                                assert_true(sd_bus_process(clients[k], NULL) >= 0);
                        assert_true(sd_bus_wait(clients[i], 1000) >= 0);
                }
        assert_int_equal(fresh.served, SCARCE_WAITING_MAX);
        for (size_t i = 0; i < N_FRESH; i++)
                sd_bus_flush_close_unref(clients[i]);
        b = scene_client();
        assert_true(sd_bus_call_method(b, EGM_BUS_NAME, g->path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
        sd_bus_flush_close_unref(b);
}

/* Leases until egmd says that it has too few descriptors left, then bindings, then what needs many for a moment. */
void attack_few_fds(void) {
        static Granted leases[FEW_LEASES_MAX];
        sd_bus_error e = SD_BUS_ERROR_NULL;
        unsigned n = 0;
        int self;

        for (; n < FEW_LEASES_MAX; n++) {
                sd_bus_message *m = scene_acquire_call(scene_bus(), SCENE_GRANULE, "descriptor", 0);
                sd_bus_message *reply = NULL;
                int r = sd_bus_call(scene_bus(), m, 0, &e, &reply);

                sd_bus_message_unref(m);
                if (r < 0)
                        break;
                bed_read_granted(reply, leases + n);
                sd_bus_message_unref(reply);
        }
        assert_string_equal(e.name, SD_BUS_ERROR_LIMITS_EXCEEDED);
        assert_non_null(strstr(e.message, "too few descriptors left for another"));
        sd_bus_error_free(&e);
        assert_true(n > 8);
        self = pidfd_open(getpid(), 0);
        assert_true(self >= 0);
        assert_true(sd_bus_call_method(scene_bus(), EGM_BUS_NAME, leases[0].path,
                                       EGM_LEASE_INTERFACE, "Bind", &e, NULL, "h", self) < 0);
        assert_string_equal(e.name, SD_BUS_ERROR_LIMITS_EXCEEDED);
        assert_non_null(strstr(e.message, "too few descriptors left to watch"));
        sd_bus_error_free(&e);
        (void) close(self);
        n--;
        attack_few_fds_fresh(leases + n);
        bed_close(&leases[n].memory);
        bed_close(&leases[n].lifetime);
        attack_fds_unused();

        /* What was lent stays lent. */
        for (unsigned i = 0; i < n; i++) {
                char *state;

                assert_true(bed_get_string(scene_bus(), leases[i].path, EGM_LEASE_INTERFACE,
                                           "State", &state) >= 0);
                assert_string_equal(state, "active");
                free(state);
                bed_close(&leases[i].memory);
                bed_close(&leases[i].lifetime);
        }
}
