/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-played-bus EGMD: what egmd keeps of its callers, to the last of it; and that what the bus says is said by the bus. */

#include "played-bus.h"

#define NOBODY ":65534.1"
#define OTHER ":65534.2"
#define ROOT ":0.3"

#define WAITING_MAX 256U
#define HELD_MAX 256U
#define OBJECTS_MAX 16U
/* 2 KiB are reckoned for each answer, and 256 KiB may be unread of one connection, 16 MiB of one user's. */
#define UNREAD_MAX 128U
#define CONNECTIONS_MAX 64U
/* Of 250 leases, for which 1 KiB each is reckoned, and some more beforehand. */
#define LONG_ANSWERS_MAX 62U
/* Of everybody's, 64 MiB. */
#define USERS_MAX 4U

/* With two descriptors each. */
#define ANSWERS_FREE 16U
#define ANSWERS_MAX 4U
#define N_REOPENS 16U
#define ALL_ANSWERS_MAX 30U

#define PROPERTIES "org.freedesktop.DBus.Properties"
#define OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
#define INTROSPECTABLE "org.freedesktop.DBus.Introspectable"

static const char *egmd;

static int setup(void **state) {
        played_start(egmd);
        return 0;
}

static int teardown(void **state) {
        played_stop();
        return 0;
}

static void is_error(const Asked *a, const char *name, const char *text) {
        assert_true(a->done);
        assert_string_equal(a->error, name ?: "");
        if (text && !strstr(a->text, text))
                fail_msg("'%s' does not say '%s'", a->text, text);
}

static sd_bus_message *acquire(void) {
        sd_bus_message *m = played_call(EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          (uint64_t) (64 * KIB), "Align", "t",
                                          (uint64_t) (64 * KIB), "Lifetime", "s",
                                          "persistent") >= 0);
        return m;
}

/* ---- who says so ---- */

/* Somebody is who the bus says he is, not who he says. */
static void test_forged_credentials(void **state) {
        Asked a = {}, b = {}, c = {};

        played_set(CREDENTIALS_FORGED, READING_ALL);
        played_send(NOBODY, acquire(), &a);
        played_collect(&a, 1);
        is_error(&a, SD_BUS_ERROR_ACCESS_DENIED, "does not tell who you are");
        /* That was not remembered. */
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_send(NOBODY, acquire(), &b);
        played_collect(&b, 1);
        is_error(&b, SD_BUS_ERROR_ACCESS_DENIED, "uid 65534");
        played_send(ROOT, acquire(), &c);
        played_collect(&c, 1);
        is_error(&c, NULL, NULL);
}

static void test_nobody_calls(void **state) {
        Asked a = {};

        played_send(NULL, acquire(), &a);
        played_collect(&a, 1);
        is_error(&a, SD_BUS_ERROR_ACCESS_DENIED, "without a sender");
}

/* ---- who is not known yet ---- */

static void test_not_known_yet(void **state) {
        static Asked a[WAITING_MAX + 3], b;
        unsigned last = 0;

        played_set(CREDENTIALS_LATER, READING_ALL);
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                played_send_read(NOBODY, a + i);
        /* Those that are too many are answered, and nothing else is. */
        played_collect(a + WAITING_MAX, ELEMENTSOF(a) - WAITING_MAX);
        for (size_t i = WAITING_MAX; i < ELEMENTSOF(a); i++)
                is_error(a + i, SD_BUS_ERROR_LIMITS_EXCEEDED,
                         "256 calls wait already; the limit is 256");
        assert_int_equal(played_count_done(a, WAITING_MAX), 0);
        /* Others are not kept up by him. */
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_send_read(OTHER, &b);
        played_collect(&b, 1);
        assert_int_equal(played_count_done(a, WAITING_MAX), 0);
        played_tell();
        played_collect(a, WAITING_MAX);
        for (size_t i = 0; i < WAITING_MAX; i++) {
                is_error(a + i, NULL, NULL);
                assert_true(a[i].at > last);
                last = a[i].at;
        }
}

/* Nobody waits until egmd knows who that is. */
static void test_log_level(void **state) {
        Asked a = {}, b = {}, c = {};
        sd_bus_message *m;

        played_send_read(OTHER, &a);
        played_collect(&a, 1);
        played_set(CREDENTIALS_LATER, READING_ALL);
        for (size_t i = 0; i < 2; i++) {
                a = b = (Asked){};
                m = played_call("/org/freedesktop/LogControl1", PROPERTIES, "Set");
                assert_true(sd_bus_message_append(m, "ssv", "org.freedesktop.LogControl1",
                                                  "LogLevel", "s", "err") >= 0);
                played_send(i == 0 ? NOBODY : ROOT, m, &a);
                played_send_read(OTHER, &b);
                played_collect(&b, 1);
                assert_false(a.done);
                played_tell();
                played_collect(&a, 1);
                if (i == 0)
                        is_error(&a, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
                else
                        is_error(&a, NULL, NULL);
        }
        /* Read by everybody. */
        played_set(CREDENTIALS_TOLD, READING_ALL);
        m = played_call("/org/freedesktop/LogControl1", PROPERTIES, "GetAll");
        assert_true(sd_bus_message_append(m, "s", "org.freedesktop.LogControl1") >= 0);
        played_send(NOBODY, m, &c);
        played_collect(&c, 1);
        is_error(&c, NULL, NULL);
}

/* ---- who does not read ---- */

static void test_not_read(void **state) {
        static Asked a[UNREAD_MAX + HELD_MAX + 2], other;
        size_t n = ELEMENTSOF(a) - 2;
        unsigned last = 0;

        played_set(CREDENTIALS_TOLD, READING_NONE);
        /* Until it is known who that is, others are too many. */
        played_send_read(NOBODY, a);
        played_collect(a, 1);
        for (size_t i = 1; i < n; i++)
                played_send_read(NOBODY, a + i);
        played_settle();
        assert_int_equal(played_count_done(a, n), UNREAD_MAX);
        assert_int_equal(played_count_done(a, UNREAD_MAX), UNREAD_MAX);
        for (size_t i = n; i < ELEMENTSOF(a); i++)
                played_send_read(NOBODY, a + i);
        played_collect(a + n, 2);
        is_error(a + n, SD_BUS_ERROR_LIMITS_EXCEEDED, "256 calls of " NOBODY " wait");
        /* His other connections are not he. */
        played_send_read(OTHER, &other);
        played_collect(&other, 1);
        is_error(&other, NULL, NULL);
        /* And now he reads: all of it, in its order. */
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_collect(a, n);
        for (size_t i = 0; i < n; i++) {
                is_error(a + i, NULL, NULL);
                assert_true(a[i].at > last);
                last = a[i].at;
        }
}

/* On as many connections as he likes. */
static void test_not_read_by_user(void **state) {
        static Asked a[CONNECTIONS_MAX][UNREAD_MAX], more, other;
        char name[32];

        played_set(CREDENTIALS_TOLD, READING_NONE);
        for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
                (void) snprintf(name, sizeof(name), ":65533.%u", i);
                for (size_t k = 0; k < UNREAD_MAX; k++)
                        played_send_read(name, a[i] + k);
                played_collect(a[i], UNREAD_MAX);
        }
        played_send_read(":65533.1000", &more);
        played_settle();
        assert_false(more.done);
        played_send_read(":65532.1", &other);
        played_collect(&other, 1);
        is_error(&other, NULL, NULL);
        /* Nobody is told by others what he has read. */
        played_set(CREDENTIALS_TOLD, READING_FORGED);
        played_await_stats();
        played_settle();
        assert_false(more.done);
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_collect(&more, 1);
        is_error(&more, NULL, NULL);
}

/* Of so many users that it is too much together: what is long to answer waits, for all but root. */
static void test_not_read_by_many(void **state) {
        static Asked a[UNREAD_MAX], lease, shorter, longer, roots;
        char name[32];

        played_set(CREDENTIALS_TOLD, READING_NONE);
        for (unsigned i = 0; i < USERS_MAX * CONNECTIONS_MAX; i++) {
                (void) snprintf(name, sizeof(name), ":%u.%u", 60001 + i / CONNECTIONS_MAX, i);
                memset(a, 0, sizeof(a));
                for (size_t k = 0; k < UNREAD_MAX; k++)
                        played_send_read(name, a + k);
                played_collect(a, UNREAD_MAX);
        }
        /* Without a lease nothing is long. */
        played_send(ROOT, acquire(), &lease);
        played_collect(&lease, 1);
        is_error(&lease, NULL, NULL);
        played_send(NOBODY, played_call(EGM_LEASE_PATH, INTROSPECTABLE, "Introspect"), &longer);
        played_send(ROOT, played_call(EGM_LEASE_PATH, INTROSPECTABLE, "Introspect"), &roots);
        played_send_read(OTHER, &shorter);
        played_collect(&roots, 1);
        played_collect(&shorter, 1);
        is_error(&roots, NULL, NULL);
        is_error(&shorter, NULL, NULL);
        played_settle();
        assert_false(longer.done);
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_collect(&longer, 1);
        is_error(&longer, NULL, NULL);
}

static void lend(uint32_t uid, Asked *a) {
        sd_bus_message *m = played_call(EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 3, "Slices", "aa{sv}", 1, 1, "Size", "t",
                                          (uint64_t) (64 * KIB), "Lifetime", "s", "persistent",
                                          "OwnerUid", "u", uid) >= 0);
        played_send(ROOT, m, a);
        played_collect(a, 1);
        is_error(a, NULL, NULL);
}

static void reopen(const char *who, const Asked *lease, Asked *a) {
        played_send(who, played_call(lease->path, EGM_LEASE_INTERFACE, "Reopen"), a);
}

/* Two descriptors come with each: while there are 32 under way nobody waits. Then 8 may be on one connection, 16 of one user's, 60 of
 * all. The bus would take nothing more with 64. */
static void test_fds_not_taken(void **state) {
        static Asked mine, a[N_REOPENS], b[N_REOPENS], c, d, e;

        lend(65534, &mine);
        played_settle();
        played_set(CREDENTIALS_TOLD, READING_NONE);
        for (size_t i = 0; i < N_REOPENS; i++)
                reopen(NOBODY, &mine, a + i);
        for (size_t i = 0; i < N_REOPENS; i++)
                reopen(OTHER, &mine, b + i);
        played_settle();
        /* Root's before count, too, of which the bus was not asked. */
        assert_in_range(played_count_done(a, N_REOPENS), ANSWERS_MAX + 1, ANSWERS_FREE);
        assert_int_equal(played_count_done(b, N_REOPENS), 0);
        reopen(":65534.3", &mine, &c);
        /* What has none is answered, to who does not wait for others. */
        played_send_read(":65534.4", &d);
        played_collect(&d, 1);
        /* Who waits for some is kept nothing more of. */
        played_send_read(NOBODY, &e);
        played_settle();
        assert_false(c.done);
        assert_false(e.done);
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_collect(&e, 1);
        played_collect(a, N_REOPENS);
        played_collect(b, N_REOPENS);
        played_collect(&c, 1);
        for (size_t i = 0; i < N_REOPENS; i++) {
                is_error(a + i, NULL, NULL);
                is_error(b + i, NULL, NULL);
        }
        is_error(&c, NULL, NULL);
}

static void test_fds_not_taken_by_many(void **state) {
        static Asked leases[5], a[ELEMENTSOF(leases)][2][N_REOPENS], roots;
        const size_t n_all = ELEMENTSOF(leases) * 2 * N_REOPENS;
        size_t n;

        for (size_t u = 0; u < ELEMENTSOF(leases); u++)
                lend(60001 + (uint32_t) u, leases + u);
        played_settle();
        played_set(CREDENTIALS_TOLD, READING_NONE);
        for (size_t u = 0; u < ELEMENTSOF(leases); u++)
                for (unsigned k = 0; k < 2; k++)
                        for (size_t i = 0; i < N_REOPENS; i++) {
                                char name[32];

                                (void) snprintf(name, sizeof(name), ":%u.%u", 60001 + (unsigned) u,
                                                k);
                                reopen(name, leases + u, a[u][k] + i);
                        }
        played_settle();
        n = played_count_done(a[0][0], n_all);
        /* Root's, which the bus was not asked about since, count as well. */
        assert_true(n > ALL_ANSWERS_MAX - 2 * ANSWERS_MAX && n <= ALL_ANSWERS_MAX);
        reopen(ROOT, leases, &roots);
        played_settle();
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_collect(a[0][0], n_all);
        played_collect(&roots, 1);
        is_error(&roots, NULL, NULL);
}

/* What was lent to who has gone since ends: nobody has heard of it. */
static void test_fds_never_taken(void **state) {
        static Asked a[ANSWERS_FREE + ANSWERS_MAX], b;
        size_t n, n_there = 0;

        played_set(CREDENTIALS_TOLD, READING_NONE);
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                played_send(":0.7", acquire(), a + i);
        played_settle();
        n = played_count_done(a, ELEMENTSOF(a));
        assert_in_range(n, ANSWERS_MAX + 1, ANSWERS_FREE);
        played_gone(":0.7");
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_settle();
        assert_int_equal(played_count_done(a, ELEMENTSOF(a)), n);
        for (unsigned id = 1; id < 100; id++) {
                char path[64];

                (void) snprintf(path, sizeof(path), EGM_LEASE_PATH "/%u", id);
                b = (Asked){};
                played_send(ROOT, played_call(path, EGM_LEASE_INTERFACE, "Reopen"), &b);
                played_collect(&b, 1);
                n_there += !b.error[0];
        }
        assert_int_equal(n_there, n);
}

/* Where the bus does not say who reads, nobody is kept waiting for it; and those that were are not forgotten. */
static void test_not_told(void **state) {
        static Asked a[UNREAD_MAX + HELD_MAX];

        played_set(CREDENTIALS_TOLD, READING_NONE);
        played_send_read(NOBODY, a);
        played_collect(a, 1);
        for (size_t i = 1; i < ELEMENTSOF(a); i++)
                played_send_read(NOBODY, a + i);
        played_settle();
        assert_int_equal(played_count_done(a, ELEMENTSOF(a)), UNREAD_MAX);
        played_set(CREDENTIALS_TOLD, READING_UNTOLD);
        played_collect(a, ELEMENTSOF(a));
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                is_error(a + i, NULL, NULL);
}

/* ---- what is long to answer ---- */

static void ask_for_objects(Asked *a, size_t n) {
        memset(a, 0, n * sizeof(*a));
        for (size_t i = 0; i < n; i++)
                played_send(NOBODY, played_call(EGM_PATH, OBJECT_MANAGER, "GetManagedObjects"),
                            a + i);
}

static void test_objects(void **state) {
        static Asked leases[1000], a[4 * OBJECTS_MAX], other;
        size_t refused = 0;

        for (size_t i = 0; i < ELEMENTSOF(leases); i++) {
                played_send(ROOT, acquire(), leases + i);
                played_collect(leases + i, 1);
                is_error(leases + i, NULL, NULL);
        }
        /* Who gets one has enough to read, and the others wait in the bus' queue. */
        ask_for_objects(a, ELEMENTSOF(a));
        played_collect(a, ELEMENTSOF(a));
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                is_error(a + i, NULL, NULL);

        played_be_silent();
        played_stop_daemon();
        ask_for_objects(a, ELEMENTSOF(a));
        played_continue_daemon();
        played_send(OTHER, played_call(EGM_PATH, OBJECT_MANAGER, "GetManagedObjects"), &other);
        played_collect(a, ELEMENTSOF(a));
        played_collect(&other, 1);
        is_error(&other, NULL, NULL);
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                if (a[i].error[0]) {
                        is_error(a + i, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                 "16 such calls of yours are being answered; the limit is 16");
                        refused++;
                }
        assert_true(refused > 0 && refused <= ELEMENTSOF(a) - OBJECTS_MAX);
}

/* One of them is what a connection may have unread. */
static void test_objects_not_read_by_user(void **state) {
        static Asked leases[250], a, more, other;
        char name[32];

        for (size_t i = 0; i < ELEMENTSOF(leases); i++) {
                played_send(ROOT, acquire(), leases + i);
                played_collect(leases + i, 1);
                is_error(leases + i, NULL, NULL);
        }
        played_set(CREDENTIALS_TOLD, READING_NONE);
        for (unsigned i = 0; i <= LONG_ANSWERS_MAX; i++) {
                (void) snprintf(name, sizeof(name), ":65533.%u", i);
                a = (Asked){};
                played_send(name, played_call(EGM_PATH, OBJECT_MANAGER, "GetManagedObjects"), &a);
                if (i == LONG_ANSWERS_MAX)
                        break;
                played_collect(&a, 1);
                is_error(&a, NULL, NULL);
        }
        played_send_read(":65533.1000", &more);
        played_send_read(":65532.1", &other);
        played_collect(&other, 1);
        is_error(&other, NULL, NULL);
        played_settle();
        assert_false(a.done);
        assert_false(more.done);
        played_set(CREDENTIALS_TOLD, READING_ALL);
        played_collect(&a, 1);
        played_collect(&more, 1);
        is_error(&a, NULL, NULL);
        is_error(&more, NULL, NULL);
}

/* ---- a bus that does not take what is said ---- */

static void test_not_taken(void **state) {
        Asked a = {};

        played_be_silent();
        /* Then egmd takes nothing either. */
        assert_true(played_stuff());
        played_send_read(ROOT, &a);
        played_collect(&a, 1);
        is_error(&a, NULL, NULL);
        played_settle();
}

int main(int argc, char *argv[]) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                        CASE(test_forged_credentials),
                        CASE(test_nobody_calls),
                        CASE(test_not_known_yet),
                        CASE(test_log_level),
                        CASE(test_not_read),
                        CASE(test_not_read_by_user),
                        CASE(test_not_read_by_many),
                        CASE(test_not_told),
                        CASE(test_fds_not_taken),
                        CASE(test_fds_not_taken_by_many),
                        CASE(test_fds_never_taken),
                        CASE(test_objects),
                        CASE(test_objects_not_read_by_user),
                        CASE(test_not_taken),
        };

        if (argc != 2)
                return EXIT_FAILURE;
        egmd = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
