/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Callers that are gone before they could take the answer: nothing of what they were granted stays. */

#include "bed.h"

#include <fcntl.h>
#include <signal.h>

#include "fd-util.h"
#include "run-until.h"
#include "size.h"

#define ROUNDS 300
#define N_CALLERS 8
#define SIZE (2 * MIB)

static sd_bus *bus;

static int setup(void **state) {
        bus = bed_new();
        return 0;
}

static int teardown(void **state) {
        bus = sd_bus_flush_close_unref(bus);
        return 0;
}

static sd_bus_message *acquire_call(sd_bus *b, uint64_t size, const char *lifetime) {
        sd_bus_message *m = bed_call_new(b, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 1, "Size", "t",
                                          size, "Lifetime", "s", lifetime) >= 0);
        return m;
}

static void send_acquire(sd_bus *b, const char *lifetime) {
        sd_bus_message *m = acquire_call(b, SIZE, lifetime);

        assert_true(sd_bus_send(b, m, &(uint64_t){0}) >= 0);
        sd_bus_message_unref(m);
}

/* One that the daemon knows already, so that it grants at once and does not hear first that the caller has gone. */
static sd_bus *known_client(void) {
        sd_bus *b = bed_connect();
        sd_bus_message *m = acquire_call(b, 0, "descriptor");

        assert_true(sd_bus_call(b, m, 0, NULL, NULL) < 0);
        sd_bus_message_unref(m);
        return b;
}

static uint64_t granted(void) {
        return bed_get_u64(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "Granted");
}

/* Callers that leave at once, known or not: they may be gone before the daemon reads the call, or as it answers. */
static void test_leaves_at_once(void **state) {
        uint64_t before = granted();

        for (unsigned i = 0; i < ROUNDS; i++) {
                sd_bus *b = i % 4 == 0 ? bed_connect() : known_client();

                send_acquire(b, "descriptor");
                sd_bus_flush_close_unref(b);
                /* Not to run out of memory to grant. */
                if (i % 8 == 7)
                        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
        }
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
        /* Or nothing was tried. */
        assert_true(granted() - before >= ROUNDS / 4);
}

static pid_t daemon_pid(void) {
        uint64_t pid;

        assert_int_equal(parse_uint64(getenv("EGM_TEST_DAEMON_PID"), &pid), 0);
        return (pid_t) pid;
}

static int go_on(void **state) {
        return kill(daemon_pid(), SIGCONT);
}

/* Nothing tells of it. */
static void stop_daemon(void) {
        char path[64], *text, at = 0;

        assert_int_equal(kill(daemon_pid(), SIGSTOP), 0);
        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) daemon_pid());
        for (time_t end = patience_end(); at != 'T';) {
                assert_false(patience_is_over(end));
                assert_int_equal(read_full_file_at(AT_FDCWD, path, 4096, &text, NULL), 0);
                at = strrchr(text, ')')[2];
                free(text);
        }
}

static bool has_owner(const char *name) {
        return sd_bus_get_name_creds(bus, name, 0, NULL) >= 0;
}

/* The daemon finds their calls when all of them have long gone. */
static void gone_before(const char *lifetime) {
        uint64_t before = granted();

        for (unsigned i = 0; i < ROUNDS / N_CALLERS; i++) {
                char names[N_CALLERS][32];
                sd_bus *clients[N_CALLERS];

                for (size_t k = 0; k < N_CALLERS; k++) {
                        const char *name;

                        clients[k] = known_client();
                        assert_true(sd_bus_get_unique_name(clients[k], &name) >= 0);
                        (void) snprintf(names[k], sizeof(names[k]), "%s", name);
                }
                stop_daemon();
                for (size_t k = 0; k < N_CALLERS; k++) {
                        send_acquire(clients[k], lifetime);
                        sd_bus_flush_close_unref(clients[k]);
                }
                for (size_t k = 0; k < N_CALLERS; k++)
                        while (has_owner(names[k]))
                                ;
                assert_int_equal(go_on(NULL), 0);
                bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
        }
        assert_int_equal(granted() - before, ROUNDS / N_CALLERS * N_CALLERS);
}

static void test_gone_before(void **state) {
        gone_before("descriptor");
}

static void test_gone_before_persistent(void **state) {
        gone_before("persistent");
}

/* Who takes the answer and leaves then has a lease that stays. */
static void test_taken(void **state) {
        for (unsigned i = 0; i < 20; i++) {
                sd_bus *b = bed_connect();
                Granted g = bed_acquire(b, "egm4", SIZE, "persistent");
                char *state_now;

                sd_bus_flush_close_unref(b);
                bed_close(&g.lifetime);
                bed_close(&g.memory);
                /* The daemon heard of it before this: the bus keeps the order. */
                assert_true(bed_get_string(bus, g.path, EGM_LEASE_INTERFACE, "State", &state_now) >=
                            0);
                assert_string_equal(state_now, "active");
                free(state_now);
                assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, g.path, EGM_LEASE_INTERFACE,
                                               "Release", NULL, NULL, "a{sv}", 0) >= 0);
        }
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_leaves_at_once),
                        cmocka_unit_test_teardown(test_gone_before, go_on),
                        cmocka_unit_test_teardown(test_gone_before_persistent, go_on),
                        cmocka_unit_test(test_taken),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
