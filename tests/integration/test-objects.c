/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* GetManagedObjects with many leases, answered in turns while leases come, change and go: who follows the answer and the signals around
 * it, in the order in which they arrive, ends up with what there is. */

#include "bed.h"

#include <sys/mman.h>

#include "fd-util.h"
#include "run-until.h"
#include "size.h"

#define N_LEASES 1600
#define N_HELD 40 /* released in the middle of it, and held up */
#define N_GONE 40 /* released in the middle of it */
#define N_ASKED 12
#define GRANULE (64 * KIB)
#define ROUNDS 2

/* A follower's view: the states of leases by number, "" for those that are not there. */
typedef struct View {
        char states[4 * N_LEASES][12];
        unsigned told;           /* answers */
        unsigned before, behind; /* signals */
} View;

static sd_bus *bus, *other;

static char *slot_of(View *v, const char *path) {
        unsigned long id;
        char *end;

        if (strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) != 0)
                return NULL;
        id = strtoul(path + strlen(EGM_LEASE_PATH "/"), &end, 10);
        assert_true(id < ELEMENTSOF(v->states) && !*end);
        return v->states[id];
}

/* From a{sv}: State, where it is among them. */
static void read_state(sd_bus_message *m, char *state) {
        const char *name, *value;

        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(m, "s", &name) > 0);
                if (state && streq(name, "State")) {
                        assert_true(sd_bus_message_read(m, "v", "s", &value) > 0);
                        (void) snprintf(state, 12, "%s", value);
                } else
                        assert_true(sd_bus_message_skip(m, "v") >= 0);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
        assert_true(sd_bus_message_exit_container(m) >= 0);
}

static void read_interfaces(sd_bus_message *m, char *state) {
        const char *interface;

        assert_true(sd_bus_message_enter_container(m, 'a', "{sa{sv}}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sa{sv}") > 0) {
                assert_true(sd_bus_message_read(m, "s", &interface) > 0);
                /* None that every object has. */
                assert_true(streq(interface, EGM_LEASE_INTERFACE) ||
                            streq(interface, EGM_REGION_INTERFACE));
                read_state(m, streq(interface, EGM_LEASE_INTERFACE) ? state : NULL);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
        assert_true(sd_bus_message_exit_container(m) >= 0);
}

static void read_objects(sd_bus_message *m, View *v) {
        const char *path;

        memset(v->states, 0, sizeof(v->states));
        assert_true(sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}") > 0) {
                char *state;

                assert_true(sd_bus_message_read(m, "o", &path) > 0);
                state = slot_of(v, path);
                if (state)
                        assert_string_equal(state, ""); /* nothing twice */
                read_interfaces(m, state);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
        assert_true(sd_bus_message_exit_container(m) >= 0);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *path;
        View *v = userdata;
        char *state;

        ++*(v->told ? &v->behind : &v->before);
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged") >
            0) {
                const char *interface;

                state = slot_of(v, sd_bus_message_get_path(m));
                assert_true(sd_bus_message_read(m, "s", &interface) > 0);
                read_state(m, state && *state ? state : NULL);
                return 0;
        }
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", NULL) <= 0)
                return 0;
        assert_true(sd_bus_message_read(m, "o", &path) > 0);
        state = slot_of(v, path);
        if (streq(sd_bus_message_get_member(m), "InterfacesAdded"))
                read_interfaces(m, state);
        else {
                const char *interface;

                assert_true(sd_bus_message_read(m, "as", 1, &interface) > 0);
                assert_true(streq(interface, EGM_LEASE_INTERFACE) ||
                            streq(interface, EGM_REGION_INTERFACE));
                if (state)
                        *state = '\0';
        }
        return 0;
}

static int on_objects(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        View *v = userdata;

        assert_false(sd_bus_message_is_method_error(m, NULL));
        read_objects(m, v);
        v->told++;
        return 0;
}

static void call_objects(sd_bus *b, View *v) {
        sd_bus_message *m = bed_call_new(b, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                         "GetManagedObjects");

        assert_true(sd_bus_call_async(b, NULL, m, on_objects, v, BED_DEADLINE_USEC) >= 0);
        sd_bus_message_unref(m);
}

static void get_objects(View *v) {
        sd_bus_message *m = bed_call_new(other, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                         "GetManagedObjects"),
                       *reply;

        assert_true(sd_bus_call(other, m, BED_DEADLINE_USEC, NULL, &reply) >= 0);
        read_objects(reply, v);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
}

static void send_release(sd_bus *b, const char *path) {
        sd_bus_message *m = bed_call_new(b, path, EGM_LEASE_INTERFACE, "Release");

        assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        assert_true(sd_bus_send(b, m, NULL) >= 0);
        sd_bus_message_unref(m);
}

static bool views_agree(const View *a, const View *b) {
        for (size_t i = 0; i < ELEMENTSOF(a->states); i++)
                if (!streq(a->states[i], b->states[i]))
                        return false;
        return true;
}

static Granted leases[N_LEASES];

static void take(Granted *g) {
        sd_bus_message *m = bed_call_new(other, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease"),
                       *reply;

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          GRANULE, "Align", "t", GRANULE, "WaitUSec", "t",
                                          BED_DEADLINE_USEC) >= 0);
        assert_true(sd_bus_call(other, m, 0, NULL, &reply) >= 0);
        bed_read_granted(reply, g);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        if (g >= leases + ROUNDS * (N_HELD + N_GONE))
                bed_close(&g->memory);
}

/* What happens to some while the answer is being put together: all calls are under way when the daemon reads the
 * first. */
static void one_round(Granted *some, View *followed, View *now) {
        void *held[N_HELD];
        time_t end;

        for (size_t i = 0; i < N_HELD; i++) {
                held[i] = mmap(NULL, GRANULE, PROT_READ, MAP_SHARED, some[i].memory,
                               (off_t) some[i].offset);
                assert_true(held[i] != MAP_FAILED);
        }
        followed->told = 0;
        followed->before = followed->behind = 0;
        /* One would be there before much has happened. Each tells all anew, so the last one must not be wrong. */
        for (size_t i = 0; i < N_ASKED; i++)
                call_objects(bus, followed);
        for (size_t i = 0; i < N_HELD + N_GONE; i++)
                send_release(bus, some[i].path);
        end = patience_end();
        do {
                while (sd_bus_process(bus, NULL) > 0)
                        ;
                assert_false(patience_is_over(end));
                get_objects(now);
                while (sd_bus_process(bus, NULL) > 0)
                        ;
        } while (followed->told < N_ASKED || !views_agree(followed, now) ||
                 *slot_of(now, some[N_HELD].path));
        for (size_t i = 0; i < N_HELD; i++)
                assert_string_equal(slot_of(followed, some[i].path), "draining");
        for (size_t i = 0; i < N_HELD; i++)
                assert_int_equal(munmap(held[i], GRANULE), 0);
        for (size_t i = 0; i < N_HELD + N_GONE; i++) {
                bed_close(&some[i].lifetime);
                bed_close(&some[i].memory);
                take(some + i);
        }
}

static void test_followed(void **state) {
        View *followed = calloc(1, sizeof(*followed)), *now = calloc(1, sizeof(*now));
        sd_bus_slot *slot;

        assert_non_null(followed);
        assert_non_null(now);
        assert_true(sd_bus_add_match(bus, &slot, "type='signal',sender='" EGM_BUS_NAME "'",
                                     on_signal, followed) >= 0);
        for (size_t i = 0; i < N_LEASES; i++)
                take(leases + i);
        /* The daemon knows who asks, and those that change are the first in the answer. */
        call_objects(bus, followed);
        while (!followed->told)
                assert_true(sd_bus_process(bus, NULL) > 0 ||
                            sd_bus_wait(bus, BED_DEADLINE_USEC) > 0);
        for (size_t i = 0; i < ROUNDS; i++)
                one_round(leases + i * (N_HELD + N_GONE), followed, now);
        for (size_t i = 0; i < N_LEASES; i++) {
                bed_close(&leases[i].lifetime);
                bed_close(&leases[i].memory);
        }
        bed_wait(bus, bed_all_free, NULL, "all memory to be free");
        sd_bus_slot_unref(slot);
        free(followed);
        free(now);
}

/* So many at once are answered, one after another, and not more. */
static void test_many_calls(void **state) {
        enum { N = 40 };
        sd_bus_message *m;
        unsigned n_good = 0, n_bad = 0;
        uint64_t cookies[N];

        for (size_t i = 0; i < 300; i++)
                take(leases + i);
        for (size_t i = 0; i < N; i++) {
                m = bed_call_new(other, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                 "GetManagedObjects");
                assert_true(sd_bus_send(other, m, cookies + i) >= 0);
                sd_bus_message_unref(m);
        }
        while (n_good + n_bad < N) {
                int r = sd_bus_process(other, &m);

                assert_true(r >= 0);
                if (r == 0) {
                        assert_true(sd_bus_wait(other, BED_DEADLINE_USEC) > 0);
                        continue;
                }
                if (!m)
                        continue;
                if (sd_bus_message_is_method_error(m, SD_BUS_ERROR_LIMITS_EXCEEDED) > 0)
                        n_bad++;
                else if (sd_bus_message_is_method_error(m, NULL) == 0) {
                        uint8_t type;

                        assert_true(sd_bus_message_get_type(m, &type) >= 0);
                        n_good += type == SD_BUS_MESSAGE_METHOD_RETURN;
                }
                sd_bus_message_unref(m);
        }
        assert_true(n_good >= 16);
        for (size_t i = 0; i < 300; i++) {
                bed_close(&leases[i].lifetime);
                bed_close(&leases[i].memory);
        }
        bed_wait(bus, bed_all_free, NULL, "all memory to be free");
}

static int setup(void **state) {
        bus = bed_new();
        other = bed_connect();
        return 0;
}

static int teardown(void **state) {
        other = sd_bus_flush_close_unref(other);
        bus = sd_bus_flush_close_unref(bus);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_followed),
                        cmocka_unit_test(test_many_calls),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
