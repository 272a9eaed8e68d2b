/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What egmd asks polkit, and what it makes of the answers: polkit is played here, and so are its callers. */

#include "bed.h"

#include <fcntl.h>
#include <signal.h>
#include <systemd/sd-event.h>

#include "fd-util.h"
#include "size.h"

#define NOBODY 65534U
#define OTHER 1U
#define GROUP 60777U /* see meson.build */
#define SIZE (2 * MIB)
#define QUERIES_MAX 128U
#define QUERIES_PER_UID_MAX 16U
#define POLKIT "org.freedesktop.PolicyKit1"

static sd_bus *bus; /* root's */
static sd_event *event;
static sd_bus *polkit, *nobody;

/* ---- polkit ---- */

typedef struct Question {
        sd_bus_message *m;
        const char *kind, *subject, *action, *id;
        uint32_t flags;
        char details[256];
} Question;

static Question questions[2 * QUERIES_MAX];
static size_t n_questions, n_cancelled;
static char cancelled[64]; /* the latest */

static int on_polkit(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *id, *key, *value;
        Question *q;

        if (sd_bus_message_is_method_call(m, POLKIT ".Authority", "CancelCheckAuthorization") > 0) {
                assert_true(sd_bus_message_read(m, "s", &id) > 0);
                (void) snprintf(cancelled, sizeof(cancelled), "%s", id);
                n_cancelled++;
                return 1;
        }
        if (sd_bus_message_is_method_call(m, POLKIT ".Authority", "CheckAuthorization") <= 0)
                return 0;
        assert_true(n_questions < ELEMENTSOF(questions));
        q = questions + n_questions++;
        *q = (Question){.m = sd_bus_message_ref(m)};
        assert_string_equal(sd_bus_message_get_path(m), "/org/freedesktop/PolicyKit1/Authority");
        assert_true(sd_bus_message_enter_container(m, 'r', "sa{sv}") > 0);
        assert_true(sd_bus_message_read(m, "s", &q->kind) > 0);
        assert_true(sd_bus_message_read(m, "a{sv}", 1, &key, "s", &q->subject) > 0);
        assert_string_equal(key, "name");
        assert_true(sd_bus_message_exit_container(m) >= 0);
        assert_true(sd_bus_message_read(m, "s", &q->action) > 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{ss}") > 0);
        while (sd_bus_message_read(m, "{ss}", &key, &value) > 0)
                (void) snprintf(q->details + strlen(q->details),
                                sizeof(q->details) - strlen(q->details), "%s=%s ", key, value);
        assert_true(sd_bus_message_exit_container(m) >= 0);
        assert_true(sd_bus_message_read(m, "us", &q->flags, &q->id) > 0);
        return 1;
}

static void polkit_comes(void) {
        polkit = bed_connect();
        assert_true(sd_bus_add_filter(polkit, NULL, on_polkit, NULL) >= 0);
        assert_true(sd_bus_request_name(polkit, POLKIT, 0) >= 0);
        assert_true(sd_bus_attach_event(polkit, event, 0) >= 0);
}

static void forget_questions(void) {
        for (size_t i = 0; i < n_questions; i++)
                sd_bus_message_unref(questions[i].m);
        n_questions = n_cancelled = 0;
        cancelled[0] = 0;
}

static void polkit_goes(void) {
        forget_questions();
        polkit = sd_bus_flush_close_unref(polkit);
}

static void answer(const Question *q, bool yes, bool challenge) {
        assert_true(sd_bus_reply_method_return(q->m, "(bba{ss})", (int) yes, (int) challenge, 0) >=
                    0);
        assert_true(sd_bus_flush(polkit) >= 0);
}

/* ---- Callers ---- */

typedef struct Call {
        sd_bus_slot *slot;
        bool done;
        char error[128], text[256]; /* empty: it went well */
        sd_bus_message *reply;
} Call;

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Call *c = userdata;

        assert_false(c->done);
        c->done = true;
        if (e) {
                (void) snprintf(c->error, sizeof(c->error), "%s", e->name);
                (void) snprintf(c->text, sizeof(c->text), "%s", e->message);
        } else
                c->reply = sd_bus_message_ref(m);
        return 0;
}

static void call_send(Call *c, sd_bus *b, sd_bus_message *m) {
        *c = (Call){};
        assert_true(sd_bus_call_async(b, &c->slot, m, on_reply, c, UINT64_MAX) >= 0);
        sd_bus_message_unref(m);
        assert_true(sd_bus_flush(b) >= 0);
}

static void call_done(Call *c) {
        c->slot = sd_bus_slot_unref(c->slot);
        c->reply = sd_bus_message_unref(c->reply);
}

static void wait_for(bool (*condition)(const void *arg), const void *arg, const char *what) {
        uint64_t now, end;

        assert_true(sd_event_now(event, CLOCK_MONOTONIC, &end) >= 0);
        for (end += BED_DEADLINE_USEC; !condition(arg);) {
                assert_true(sd_event_run(event, USEC_PER_SEC) >= 0);
                assert_true(sd_event_now(event, CLOCK_MONOTONIC, &now) >= 0);
                if (now >= end)
                        fail_msg("waited in vain for %s", what);
        }
}

static bool is_done(const void *arg) {
        return ((const Call *) arg)->done;
}

static bool asked(const void *arg) {
        return n_questions >= *(const size_t *) arg;
}

static const Question *wait_question(size_t n) {
        wait_for(asked, &n, "a question");
        assert_int_equal(n_questions, n);
        return questions + n - 1;
}

/* NULL: it must have gone well. */
static void expect(Call *c, const char *error, const char *text) {
        wait_for(is_done, c, "an answer");
        if (!error && c->error[0])
                fail_msg("%s: %s", c->error, c->text);
        assert_string_equal(c->error, error ?: "");
        if (text && !strstr(c->text, text))
                fail_msg("'%s', not '%s'", c->text, text);
}

static sd_bus_message *acquire(sd_bus *b, uint64_t size, const char *lifetime) {
        sd_bus_message *m = bed_call_new(b, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 1, "Size", "t",
                                          size, "Lifetime", "s", lifetime) >= 0);
        return m;
}

static sd_bus_message *manage(sd_bus *b, int on) {
        sd_bus_message *m = bed_call_new(b, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE,
                                         "SetSchedulable");

        assert_true(sd_bus_message_append(m, "b", on) >= 0);
        return m;
}

static sd_bus_message *release(sd_bus *b, const char *path) {
        sd_bus_message *m = bed_call_new(b, path, EGM_LEASE_INTERFACE, "Release");

        assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        return m;
}

static void release_as_root(const char *path) {
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
}

static Granted give_to(uid_t uid) {
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        sd_bus_message *reply;
        Granted g;

        assert_true(sd_bus_message_append(m, "a{sv}", 3, "Slices", "aa{sv}", 1, 1, "Size", "t",
                                          SIZE, "Lifetime", "s", "persistent", "OwnerUid", "u",
                                          (uint32_t) uid) >= 0);
        assert_true(sd_bus_call(bus, m, 0, NULL, &reply) >= 0);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        bed_close(&g.lifetime);
        bed_close(&g.memory);
        return g;
}

static bool schedulable(void) {
        int on;

        assert_true(sd_bus_get_property_trivial(bus, EGM_BUS_NAME, EGM_REGION_PATH "/egm4",
                                                EGM_REGION_INTERFACE, "Schedulable", NULL, 'b',
                                                &on) >= 0);
        return on;
}

static int setup(void **state) {
        bus = bed_new();
        assert_true(sd_event_new(&event) >= 0);
        nobody = bed_connect_as(NOBODY, NOBODY);
        assert_true(sd_bus_attach_event(nobody, event, 0) >= 0);
        return 0;
}

static int teardown(void **state) {
        nobody = sd_bus_flush_close_unref(nobody);
        bus = sd_bus_flush_close_unref(bus);
        event = sd_event_unref(event);
        return 0;
}

static int each_setup(void **state) {
        polkit_comes();
        return 0;
}

static int each_teardown(void **state) {
        polkit_goes();
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
        assert_true(schedulable());
        return 0;
}

/* ---- Tests ---- */

static void test_absent(void **state) {
        Granted mine = give_to(NOBODY), roots = give_to(0);
        Call c;

        polkit_goes();
        call_send(&c, nobody, manage(nobody, false));
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
        call_done(&c);
        call_send(&c, nobody, acquire(nobody, SIZE, "descriptor"));
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "group egm");
        call_done(&c);
        call_send(&c, nobody, acquire(nobody, SIZE, "persistent"));
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "group egm");
        call_done(&c);
        call_send(&c, nobody, release(nobody, roots.path));
        expect(&c, EGM_ERROR_PREFIX "NotHolder", "belongs to uid 0, and you are uid 65534");
        call_done(&c);
        call_send(&c, nobody, release(nobody, mine.path));
        expect(&c, NULL, NULL);
        call_done(&c);
        release_as_root(roots.path);
        polkit_comes();
}

static void check_question(const Question *q, const char *action, const char *details) {
        const char *name;

        assert_true(sd_bus_get_unique_name(nobody, &name) >= 0);
        assert_string_equal(q->kind, "system-bus-name");
        assert_string_equal(q->subject, name);
        assert_string_equal(q->action, action);
        assert_string_equal(q->details, details);
        assert_int_equal(q->flags, 0);
}

static void test_yes(void **state) {
        Granted roots = give_to(0), g;
        char details[64];
        sd_bus_message *m;
        Call c;

        call_send(&c, nobody, acquire(nobody, SIZE, "descriptor"));
        check_question(wait_question(1), "org.nvidia.Egm1.acquire", "bytes=2097152 ");
        /* Nothing of it yet, and nobody else waits. */
        assert_false(c.done);
        assert_int_equal(bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount"), 1);
        answer(questions, true, false);
        expect(&c, NULL, NULL);
        bed_read_granted(c.reply, &g);
        call_done(&c);
        assert_int_equal(bed_get_u32(bus, g.path, EGM_LEASE_INTERFACE, "OwnerUid"), NOBODY);
        bed_close(&g.lifetime);
        bed_close(&g.memory);

        call_send(&c, nobody, acquire(nobody, SIZE, "persistent"));
        check_question(wait_question(2), "org.nvidia.Egm1.acquire-persistent", "bytes=2097152 ");
        answer(questions + 1, true, false);
        expect(&c, NULL, NULL);
        bed_read_granted(c.reply, &g);
        call_done(&c);
        bed_close(&g.lifetime);
        bed_close(&g.memory);

        call_send(&c, nobody, release(nobody, g.path));
        (void) snprintf(details, sizeof(details), "lease=%s owner=65534 ",
                        strrchr(g.path, '/') + 1);
        check_question(wait_question(3), "org.nvidia.Egm1.release-own", details);
        answer(questions + 2, true, false);
        expect(&c, NULL, NULL);
        call_done(&c);

        call_send(&c, nobody, release(nobody, roots.path));
        (void) snprintf(details, sizeof(details), "lease=%s owner=0 ",
                        strrchr(roots.path, '/') + 1);
        check_question(wait_question(4), "org.nvidia.Egm1.release-any", details);
        answer(questions + 3, true, false);
        expect(&c, NULL, NULL);
        call_done(&c);

        m = bed_call_new(nobody, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        assert_true(sd_bus_message_append(m, "a{sv}", 1, "Slices", "aa{sv}", 2, 1, "Size", "t",
                                          SIZE, 1, "Whole", "b", 1) >= 0);
        call_send(&c, nobody, m);
        check_question(wait_question(5), "org.nvidia.Egm1.acquire", "bytes=whole ");
        answer(questions + 4, false, false);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "group egm");
        call_done(&c);

        for (int on = 0; on < 2; on++) {
                call_send(&c, nobody, manage(nobody, on));
                /* Every call is asked about. */
                check_question(wait_question(6 + (size_t) on), "org.nvidia.Egm1.manage",
                               "region=egm4 ");
                assert_int_equal(schedulable(), !on);
                answer(questions + 5 + on, true, false);
                expect(&c, NULL, NULL);
                call_done(&c);
                assert_int_equal(schedulable(), on);
        }
}

/* What is whose, as everybody sees it. */
static void test_no(void **state) {
        Granted mine = give_to(NOBODY), roots = give_to(0);
        const struct {
                sd_bus_message *m;
                const char *error, *text;
        } table[] = {
                        {acquire(nobody, SIZE, "descriptor"), SD_BUS_ERROR_ACCESS_DENIED,
                         "group egm"},
                        {acquire(nobody, SIZE, "persistent"), SD_BUS_ERROR_ACCESS_DENIED,
                         "group egm"},
                        {manage(nobody, false), SD_BUS_ERROR_ACCESS_DENIED, "Only root"},
                        {release(nobody, roots.path), EGM_ERROR_PREFIX "NotHolder", "uid 0"},
                        {release(nobody, mine.path), SD_BUS_ERROR_ACCESS_DENIED, "polkit keeps"},
        };
        char *before = bed_snapshot(bus), *after;
        Call c;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                call_send(&c, nobody, table[i].m);
                (void) wait_question(i + 1);
                answer(questions + i, false, false);
                expect(&c, table[i].error, table[i].text);
                call_done(&c);
        }
        after = bed_snapshot(bus);
        assert_string_equal(after, before);
        free(before);
        free(after);
        release_as_root(mine.path);
        release_as_root(roots.path);
}

/* Bind and Reopen are the owner's and root's, whatever polkit thinks. */
static void test_never_asked(void **state) {
        Granted roots = give_to(0), members, g;
        sd_bus *member = bed_connect_as(NOBODY, GROUP);
        sd_bus_message *m;
        Call c;
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        call_send(&c, nobody, bed_call_new(nobody, roots.path, EGM_LEASE_INTERFACE, "Reopen"));
        expect(&c, EGM_ERROR_PREFIX "NotHolder", NULL);
        call_done(&c);
        m = bed_call_new(nobody, roots.path, EGM_LEASE_INTERFACE, "Bind");
        assert_true(sd_bus_message_append(m, "h", fd) >= 0);
        call_send(&c, nobody, m);
        expect(&c, EGM_ERROR_PREFIX "NotHolder", NULL);
        call_done(&c);
        fd = safe_close(fd);

        /* Nor is anybody asked about whom our own rule allows. */
        members = bed_acquire(member, "egm4", SIZE, "persistent");
        bed_close(&members.lifetime);
        bed_close(&members.memory);
        assert_true(sd_bus_call_method(member, EGM_BUS_NAME, members.path, EGM_LEASE_INTERFACE,
                                       "Release", NULL, NULL, "a{sv}", 0) >= 0);
        g = bed_acquire(member, "egm4", SIZE, "descriptor");
        bed_close(&g.lifetime);
        bed_close(&g.memory);
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, EGM_REGION_PATH "/egm4",
                                       EGM_REGION_INTERFACE, "SetSchedulable", NULL, NULL, "b",
                                       1) >= 0);
        release_as_root(roots.path);
        assert_int_equal(n_questions, 0);

        /* But about what it does not. */
        assert_true(sd_bus_attach_event(member, event, 0) >= 0);
        call_send(&c, member, manage(member, false));
        (void) wait_question(1);
        answer(questions, false, false);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
        call_done(&c);
        sd_bus_flush_close_unref(member);
}

static void test_challenge(void **state) {
        sd_bus_message *m;
        Call c;

        call_send(&c, nobody, manage(nobody, false));
        assert_int_equal(wait_question(1)->flags, 0);
        answer(questions, false, true);
        expect(&c, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "org.nvidia.Egm1.manage");
        call_done(&c);

        for (size_t i = 0; i < 2; i++) {
                m = manage(nobody, false);
                assert_true(sd_bus_message_set_allow_interactive_authorization(m, true) >= 0);
                call_send(&c, nobody, m);
                assert_int_equal(wait_question(i + 2)->flags, 1);
                assert_true(schedulable());
                answer(questions + 1 + i, i == 1, i == 0);
                if (i == 0)
                        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
                else
                        expect(&c, NULL, NULL);
                call_done(&c);
        }
        assert_false(schedulable());
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, EGM_REGION_PATH "/egm4",
                                       EGM_REGION_INTERFACE, "SetSchedulable", NULL, NULL, "b",
                                       1) >= 0);
}

/* Everything is looked at again. */
static void test_meanwhile(void **state) {
        Granted roots = give_to(0), big[2];
        Call c, d;

        call_send(&c, nobody, release(nobody, roots.path));
        (void) wait_question(1);
        release_as_root(roots.path);
        bed_wait(bus, bed_all_free, NULL, "the lease to be over");
        answer(questions, true, false);
        expect(&c, EGM_ERROR_PREFIX "NoSuchLease", NULL);
        call_done(&c);

        call_send(&c, nobody, acquire(nobody, SIZE, "descriptor"));
        (void) wait_question(2);
        for (size_t i = 0; i < 2; i++) {
                const char *name = i == 0 ? "egm4" : "egm5";
                char path[64];

                (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/%s", name);
                big[i] = bed_acquire(bus, name,
                                     bed_get_u64(bus, path, EGM_REGION_INTERFACE, "LargestFree"),
                                     "descriptor");
        }
        answer(questions + 1, true, false);
        expect(&c, EGM_ERROR_PREFIX "NoCapacity", "uid 0");
        call_done(&c);
        for (size_t i = 0; i < 2; i++) {
                bed_close(&big[i].lifetime);
                bed_close(&big[i].memory);
        }
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");

        /* Two that say yes to the same lease's end. */
        roots = give_to(0);
        call_send(&c, nobody, release(nobody, roots.path));
        (void) wait_question(3);
        call_send(&d, nobody, release(nobody, roots.path));
        (void) wait_question(4);
        answer(questions + 3, true, false);
        expect(&d, NULL, NULL);
        assert_false(c.done);
        answer(questions + 2, true, false);
        wait_for(is_done, &c, "an answer");
        assert_true(streq(c.error, EGM_ERROR_PREFIX "Draining") ||
                    streq(c.error, EGM_ERROR_PREFIX "NoSuchLease"));
        call_done(&c);
        call_done(&d);
}

static bool was_cancelled(const void *arg) {
        return n_cancelled > 0;
}

static void test_caller_goes(void **state) {
        uint64_t granted = bed_get_u64(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "Granted");
        sd_bus *gone = bed_connect_as(NOBODY, NOBODY);
        sd_bus_message *m = acquire(gone, SIZE, "persistent");
        Call c;

        assert_true(sd_bus_send(gone, m, &(uint64_t){0}) >= 0);
        sd_bus_message_unref(m);
        assert_true(sd_bus_flush(gone) >= 0);
        (void) wait_question(1);
        sd_bus_flush_close_unref(gone);
        wait_for(was_cancelled, NULL, "the question to be cancelled");
        assert_string_equal(cancelled, questions[0].id);
        answer(questions, true, false);
        /* Behind it in the daemon's queue. */
        call_send(&c, nobody, manage(nobody, false));
        (void) wait_question(2);
        answer(questions + 1, false, false);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, NULL);
        call_done(&c);
        assert_int_equal(bed_get_u64(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "Granted"), granted);
        assert_int_equal(n_cancelled, 1);
}

static void test_fails(void **state) {
        Call c;

        call_send(&c, nobody, manage(nobody, false));
        assert_true(sd_bus_reply_method_errorf(wait_question(1)->m, POLKIT ".Error.Failed",
                                               "out of %s", "order") >= 0);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "polkit does not say");
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "out of order");
        call_done(&c);

        call_send(&c, nobody, manage(nobody, false));
        assert_true(sd_bus_reply_method_return(wait_question(2)->m, "bb", 1, 1) >= 0);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "makes no sense");
        call_done(&c);

        call_send(&c, nobody, manage(nobody, false));
        (void) wait_question(3);
        polkit_goes();
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "polkit does not say");
        call_done(&c);
        polkit_comes();

        /* It is asked again when it is back. Of two answers the first counts. */
        call_send(&c, nobody, manage(nobody, false));
        (void) wait_question(1);
        answer(questions, false, false);
        answer(questions, true, false);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
        call_done(&c);
}

static void test_flood(void **state) {
        static Call calls[QUERIES_MAX], more;
        sd_bus *clients[QUERIES_MAX / QUERIES_PER_UID_MAX], *late;
        char text[64];
        size_t n = 0;

        for (uid_t i = 0; i < ELEMENTSOF(clients); i++) {
                clients[i] = bed_connect_as(OTHER + i, OTHER + i);
                assert_true(sd_bus_attach_event(clients[i], event, 0) >= 0);
                for (size_t k = 0; k < QUERIES_PER_UID_MAX; k++, n++)
                        call_send(calls + n, clients[i], manage(clients[i], false));
                (void) wait_question(n);
                if (i > 0)
                        continue;
                call_send(&more, clients[i], manage(clients[i], false));
                (void) snprintf(text, sizeof(text), "%u calls of uid 1 wait", QUERIES_PER_UID_MAX);
                expect(&more, SD_BUS_ERROR_LIMITS_EXCEEDED, text);
                call_done(&more);
                /* Others are served, and asked about. */
                assert_true(schedulable());
        }
        call_send(&more, nobody, manage(nobody, false));
        (void) snprintf(text, sizeof(text), "%u calls wait", QUERIES_MAX);
        expect(&more, SD_BUS_ERROR_LIMITS_EXCEEDED, text);
        call_done(&more);
        assert_int_equal(n_questions, QUERIES_MAX);

        for (size_t i = 0; i < QUERIES_MAX; i++)
                answer(questions + i, false, false);
        for (size_t i = 0; i < QUERIES_MAX; i++) {
                expect(calls + i, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
                call_done(calls + i);
        }
        /* There is room again. */
        late = clients[0];
        call_send(&more, late, manage(late, false));
        (void) wait_question(QUERIES_MAX + 1);
        answer(questions + QUERIES_MAX, false, false);
        expect(&more, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
        call_done(&more);
        for (size_t i = 0; i < ELEMENTSOF(clients); i++)
                sd_bus_flush_close_unref(clients[i]);
}

/* Last: the daemon leaves with a call held. polkit hears of that from the bus. */
static void test_daemon_leaves(void **state) {
        uint64_t pid;
        Call c;

        call_send(&c, nobody, manage(nobody, false));
        (void) wait_question(1);
        assert_int_equal(parse_uint64(getenv("EGM_TEST_DAEMON_PID"), &pid), 0);
        assert_int_equal(kill((pid_t) pid, SIGTERM), 0);
        wait_for(is_done, &c, "an end of the call");
        assert_true(c.error[0]);
        call_done(&c);
        polkit_goes();
}

/* With a short patience (see meson.build): a polkit that says nothing. */
static void test_silence(void **state) {
        Call c;

        call_send(&c, nobody, manage(nobody, false));
        (void) wait_question(1);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "polkit does not say");
        call_done(&c);
        wait_for(was_cancelled, NULL, "the question to be cancelled");
        assert_string_equal(cancelled, questions[0].id);
        answer(questions, true, false);
        assert_true(schedulable());
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_absent, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_yes, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_no, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_never_asked, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup_teardown(test_challenge, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_meanwhile, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_caller_goes, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup_teardown(test_fails, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_flood, each_setup, each_teardown),
                        cmocka_unit_test_setup(test_daemon_leaves, each_setup),
        };
        const struct CMUnitTest silence[] = {
                        cmocka_unit_test_setup_teardown(test_silence, each_setup, each_teardown),
        };

        return getenv("EGM_TEST_BUS_TIMEOUT") ? cmocka_run_group_tests(silence, setup, teardown)
                                              : cmocka_run_group_tests(tests, setup, teardown);
}
