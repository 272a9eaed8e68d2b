/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-monkey EGMD: calls every method and reads and writes every property that introspection tells of, with random arguments,
 * for $EGM_TEST_SECONDS. Nothing that is answered is unknown to the contract, and when all is given back all is as it was.
 * $EGM_TEST_SEED does the same again, as far as the daemon's answers come in the same order. */

#include <inttypes.h>
#include <time.h>

#include "fd-util.h"
#include "monkey-args.h"
#include "scene.h"
#include "size.h"

#define IN_FLIGHT_MAX 24U
#define KEPT_MAX 48U
#define MEMBERS_MAX 128U
#define N_CLIENTS 3U
#define STRANGER 65534U
#define PATIENCE_SEC 240

typedef struct Member {
        char interface[64], name[64], types[64]; /* types: a method's; a property's */
        bool property;
} Member;

static const char *egmd;
static Member members[MEMBERS_MAX];
static size_t n_members;
static unsigned answered[MEMBERS_MAX];
static int kept[KEPT_MAX];
static unsigned in_flight, n_calls, n_done, n_refused, n_dmabufs;

/* ---- what there is to call ---- */

static bool attribute(const char *tag, const char *name, char *ret, size_t size) {
        const char *end = strchr(tag, '>'), *at = strstr(tag, name);

        if (!at || at > end)
                return false;
        at += strlen(name);
        (void) snprintf(ret, size, "%.*s", (int) strcspn(at, "\""), at);
        return true;
}

static void add_member(const char *interface, const char *tag, bool property) {
        Member *m = members + n_members;

        assert_true(n_members < MEMBERS_MAX);
        *m = (Member){.property = property};
        (void) snprintf(m->interface, sizeof(m->interface), "%s", interface);
        assert_true(attribute(tag, "name=\"", m->name, sizeof(m->name)));
        if (property)
                assert_true(attribute(tag, "type=\"", m->types, sizeof(m->types)));
        for (size_t i = 0; i < n_members; i++)
                if (streq(members[i].interface, m->interface) && streq(members[i].name, m->name))
                        return;
        n_members++;
}

static void add_argument(const char *tag) {
        char direction[8] = "in", type[32];
        Member *m = members + n_members - 1;

        (void) attribute(tag, "direction=\"", direction, sizeof(direction));
        if (!streq(direction, "in") || m->property ||
            !attribute(tag, "type=\"", type, sizeof(type)))
                return;
        (void) snprintf(m->types + strlen(m->types), sizeof(m->types) - strlen(m->types), "%s",
                        type);
}

static void introspect(const char *path) {
        sd_bus_message *reply = NULL;
        bool in_method = false;
        char interface[64] = "";
        const char *xml;
        size_t before;

        assert_true(sd_bus_call_method(scene_bus(), EGM_BUS_NAME, path,
                                       "org.freedesktop.DBus.Introspectable", "Introspect", NULL,
                                       &reply, "") >= 0);
        assert_true(sd_bus_message_read(reply, "s", &xml) > 0);
        for (const char *at = strchr(xml, '<'); at; at = strchr(at + 1, '<')) {
                if (strncmp(at, "<interface ", 11) == 0)
                        (void) attribute(at, "name=\"", interface, sizeof(interface));
                else if (strncmp(at, "<method ", 8) == 0 || strncmp(at, "<property ", 10) == 0) {
                        before = n_members;
                        add_member(interface, at, at[1] == 'p');
                        in_method = at[1] == 'm' && n_members > before;
                } else if (strncmp(at, "<arg ", 5) == 0 && in_method)
                        add_argument(at);
                else if (strncmp(at, "<signal ", 8) == 0 || strncmp(at, "</method", 8) == 0)
                        in_method = false;
        }
        sd_bus_message_unref(reply);
}

/* ---- calls ---- */

static void keep(int fd) {
        int *slot = kept + monkey_random(KEPT_MAX);

        bed_close(slot);
        *slot = fd_copy(fd);
}

/* A dma-buf holds its lease up for as long as it is kept. */
static void take_dmabufs(sd_bus_message *m) {
        int fd;

        assert_true(sd_bus_message_enter_container(m, 'a', "(sh)") > 0);
        while (sd_bus_message_read(m, "(sh)", NULL, &fd) > 0) {
                n_dmabufs++;
                if (monkey_one_in(4))
                        keep(fd);
        }
}

static void take(sd_bus_message *m) {
        const char *path;
        int fd;

        if (sd_bus_message_has_signature(m, "a(sh)")) {
                take_dmabufs(m);
                return;
        }
        if (!sd_bus_message_has_signature(m, "oha(shtt)"))
                return;
        assert_true(sd_bus_message_read(m, "oh", &path, &fd) > 0);
        monkey_remember(path);
        if (monkey_one_in(2))
                keep(fd);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        const Member *member = userdata;

        in_flight--;
        if (member)
                answered[member - members]++;
        if (!e) {
                n_done++;
                take(m);
                return 0;
        }
        n_refused++;
        if (!scene_error_is_known(e->name) && strncmp(e->name, "org.freedesktop.DBus.Error.",
                                                      strlen("org.freedesktop.DBus.Error.")) != 0)
                fail_msg("%s.%s: %s: %s", member ? member->interface : "",
                         member ? member->name : "", e->name, e->message);
        if (!e->message || !*e->message)
                fail_msg("%s without a word", e->name);
        return 0;
}

static const char *path_for(const Member *m) {
        if (monkey_one_in(8))
                return monkey_path();
        if (streq(m->interface, EGM_REGION_INTERFACE))
                return monkey_one_in(2) ? EGM_REGION_PATH "/egm4" : EGM_REGION_PATH "/egm5";
        if (streq(m->interface, EGM_MANAGER_INTERFACE) ||
            streq(m->interface, "org.freedesktop.DBus.ObjectManager"))
                return EGM_PATH;
        if (streq(m->interface, "org.freedesktop.LogControl1"))
                return "/org/freedesktop/LogControl1";
        return monkey_path();
}

static int fill_property(sd_bus_message *m, const Member *member, bool set) {
        int r = sd_bus_message_append(m, "ss", member->interface,
                                      monkey_one_in(20) ? monkey_word() : member->name);

        if (r < 0 || !set)
                return r;
        r = sd_bus_message_open_container(m, 'v', member->types);
        if (r >= 0)
                r = monkey_append(m, member->types);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static void call_one(sd_bus *bus) {
        Member *member = members + monkey_random(n_members);
        const char *properties = "org.freedesktop.DBus.Properties";
        bool set = monkey_one_in(3);
        sd_bus_message *m;
        int r;

        /* Half of the calls are for what changes something. */
        if (monkey_one_in(2))
                while (member->property || strncmp(member->interface, "org.nvidia", 10) != 0)
                        member = members + monkey_random(n_members);
        if (member->property)
                m = bed_call_new(bus, path_for(member), properties, set ? "Set" : "Get");
        else
                m = bed_call_new(bus, path_for(member), member->interface, member->name);
        if (member->property)
                r = fill_property(m, member, set);
        else
                r = monkey_one_in(6) ? monkey_append_any(m) : monkey_append(m, member->types);
        /* What cannot be said is not sent: a descriptor too many, a path that is none. */
        if (r >= 0)
                r = sd_bus_call_async(bus, NULL, m, on_reply, member, BED_DEADLINE_USEC);
        sd_bus_message_unref(m);
        if (r < 0)
                return;
        n_calls++;
        in_flight++;
}

static void collect(sd_bus **clients, unsigned leave) {
        while (in_flight > leave) {
                bool any = false;

                for (size_t i = 0; i < N_CLIENTS; i++) {
                        int r = sd_bus_process(clients[i], NULL);

                        if (r < 0)
                                fail_msg("a client was thrown out: %s", strerror(-r));
                        any = any || r > 0;
                }
                for (size_t i = 0; i < N_CLIENTS && !any; i++)
                        assert_true(sd_bus_wait(clients[i], 1000) >= 0);
        }
}

/* ---- and all back ---- */

static void release_all(void) {
        sd_bus_message *reply = NULL;
        const char *xml, *at;

        assert_true(sd_bus_call_method(scene_bus(), EGM_BUS_NAME, EGM_LEASE_PATH,
                                       "org.freedesktop.DBus.Introspectable", "Introspect", NULL,
                                       &reply, "") >= 0);
        assert_true(sd_bus_message_read(reply, "s", &xml) > 0);
        for (at = strstr(xml, "<node name=\""); at; at = strstr(at + 1, "<node name=\"")) {
                char id[32], path[128];

                assert_true(attribute(at, "name=\"", id, sizeof(id)));
                (void) snprintf(path, sizeof(path), EGM_LEASE_PATH "/%s", id);
                /* Some have ended meanwhile. */
                (void) sd_bus_call_method(scene_bus(), EGM_BUS_NAME, path, EGM_LEASE_INTERFACE,
                                          "Release", NULL, NULL, "a{sv}", 0);
        }
        sd_bus_message_unref(reply);
}

static void put_back(void) {
        for (size_t i = 0; i < KEPT_MAX; i++)
                bed_close(kept + i);
        monkey_args_close();
        release_all();
        for (unsigned i = 4; i <= 5; i++) {
                char path[64];

                (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/egm%u", i);
                assert_true(sd_bus_call_method(scene_bus(), EGM_BUS_NAME, path,
                                               EGM_REGION_INTERFACE, "SetSchedulable", NULL, NULL,
                                               "b", 1) >= 0);
        }
        assert_true(sd_bus_set_property(scene_bus(), EGM_BUS_NAME, "/org/freedesktop/LogControl1",
                                        "org.freedesktop.LogControl1", "LogLevel", NULL, "s",
                                        "info") >= 0);
        bed_wait(scene_bus(), bed_all_free, NULL, "all memory to be free");
}

static uint64_t environment(const char *name, uint64_t otherwise) {
        const char *e = getenv(name);
        uint64_t v;

        return e && parse_uint64(e, &v) >= 0 ? v : otherwise;
}

static void look_around(void) {
        Granted g = bed_acquire(scene_bus(), "egm5", 2 * MIB, "descriptor");

        introspect(EGM_PATH);
        introspect(EGM_REGION_PATH "/egm4");
        introspect(g.path);
        introspect("/org/freedesktop/LogControl1");
        bed_close(&g.memory);
        bed_close(&g.lifetime);
        bed_wait(scene_bus(), bed_all_free, NULL, "all memory to be free");
}

static bool all_answered(void) {
        for (size_t i = 0; i < n_members; i++)
                if (answered[i] == 0)
                        return false;
        return true;
}

static void test_monkey(void **state) {
        uint64_t seconds = environment("EGM_TEST_SECONDS", 10);
        uint64_t seed = environment("EGM_TEST_SEED",
                                    (uint64_t) time(NULL) << 16 ^ (uint64_t) getpid());
        sd_bus *clients[N_CLIENTS];
        char *before, *after;
        unsigned fds;
        time_t end;

        (void) printf("EGM_TEST_SEED=%" PRIu64 " EGM_TEST_SECONDS=%" PRIu64 "\n", seed, seconds);
        (void) fflush(stdout);
        monkey_seed(seed);
        scene_start(egmd, 0);
        look_around();
        before = bed_snapshot(scene_bus());
        fds = scene_count_fds();
        for (size_t i = 0; i < KEPT_MAX; i++)
                kept[i] = -EBADF;
        monkey_args_open();
        for (size_t i = 0; i < N_CLIENTS; i++)
                clients[i] = i == 1 && geteuid() == 0 ? bed_connect_as(STRANGER, STRANGER)
                                                      : scene_client();
        /* On a busy machine chance takes longer to come to everything. */
        end = time(NULL) + (time_t) seconds;
        while (time(NULL) < end ||
               (seconds >= 10 && !all_answered() && time(NULL) < end + PATIENCE_SEC)) {
                call_one(clients[monkey_random(N_CLIENTS)]);
                collect(clients, IN_FLIGHT_MAX);
        }
        collect(clients, 0);
        for (size_t i = 0; i < N_CLIENTS; i++)
                sd_bus_flush_close_unref(clients[i]);
        put_back();
        after = bed_snapshot(scene_bus());
        assert_string_equal(before, after);
        free(before);
        free(after);
        scene_wait_for_fds("monkey", fds);
        (void) printf("%u calls of %zu members: %u done, %u refused; %u dma-bufs\n", n_calls,
                      n_members, n_done, n_refused, n_dmabufs);
        scene_check("monkey", seconds * USEC_PER_SEC);
        assert_true(n_done > 0 && n_refused > 0);
        for (size_t i = 0; i < n_members; i++)
                if (answered[i] == 0 && seconds >= 10)
                        fail_msg("%s.%s was never called", members[i].interface, members[i].name);
        scene_end();
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_teardown(test_monkey, scene_abandon),
        };

        if (argc != 2)
                return EXIT_FAILURE;
        egmd = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
