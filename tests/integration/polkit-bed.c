/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "polkit-bed.h"

#include "fd-util.h"

sd_bus *bus;
sd_event *event;
sd_bus *polkit, *nobody;

/* ---- polkit ---- */

Question questions[2 * QUERIES_MAX];
size_t n_questions, n_cancelled;
char cancelled[64];

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

void polkit_comes(void) {
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

void polkit_goes(void) {
        forget_questions();
        polkit = sd_bus_flush_close_unref(polkit);
}

void answer(const Question *q, bool yes, bool challenge) {
        assert_true(sd_bus_reply_method_return(q->m, "(bba{ss})", (int) yes, (int) challenge, 0) >=
                    0);
        assert_true(sd_bus_flush(polkit) >= 0);
}

/* ---- Callers ---- */

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

void call_send(Call *c, sd_bus *b, sd_bus_message *m) {
        *c = (Call){};
        assert_true(sd_bus_call_async(b, &c->slot, m, on_reply, c, UINT64_MAX) >= 0);
        sd_bus_message_unref(m);
        assert_true(sd_bus_flush(b) >= 0);
}

void call_done(Call *c) {
        c->slot = sd_bus_slot_unref(c->slot);
        c->reply = sd_bus_message_unref(c->reply);
}

void wait_for(bool (*condition)(const void *arg), const void *arg, const char *what) {
        uint64_t now, end;

        assert_true(sd_event_now(event, CLOCK_MONOTONIC, &end) >= 0);
        for (end += BED_DEADLINE_USEC; !condition(arg);) {
                assert_true(sd_event_run(event, USEC_PER_SEC) >= 0);
                assert_true(sd_event_now(event, CLOCK_MONOTONIC, &now) >= 0);
                if (now >= end)
                        fail_msg("waited in vain for %s", what);
        }
}

bool is_done(const void *arg) {
        return ((const Call *) arg)->done;
}

static bool asked(const void *arg) {
        return n_questions >= *(const size_t *) arg;
}

const Question *wait_question(size_t n) {
        wait_for(asked, &n, "a question");
        assert_int_equal(n_questions, n);
        return questions + n - 1;
}

void expect(Call *c, const char *error, const char *text) {
        wait_for(is_done, c, "an answer");
        if (!error && c->error[0])
                fail_msg("%s: %s", c->error, c->text);
        assert_string_equal(c->error, error ?: "");
        if (text && !strstr(c->text, text))
                fail_msg("'%s', not '%s'", c->text, text);
}

sd_bus_message *acquire(sd_bus *b, uint64_t size, const char *lifetime) {
        sd_bus_message *m = bed_call_new(b, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 1, "Size", "t",
                                          size, "Lifetime", "s", lifetime) >= 0);
        return m;
}

sd_bus_message *manage(sd_bus *b, int on) {
        sd_bus_message *m = bed_call_new(b, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE,
                                         "SetSchedulable");

        assert_true(sd_bus_message_append(m, "b", on) >= 0);
        return m;
}

sd_bus_message *release(sd_bus *b, const char *path) {
        sd_bus_message *m = bed_call_new(b, path, EGM_LEASE_INTERFACE, "Release");

        assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        return m;
}

void release_as_root(const char *path) {
        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE, "Release",
                                       NULL, NULL, "a{sv}", 0) >= 0);
}

Granted give_to(uid_t uid) {
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

bool schedulable(void) {
        int on;

        assert_true(sd_bus_get_property_trivial(bus, EGM_BUS_NAME, EGM_REGION_PATH "/egm4",
                                                EGM_REGION_INTERFACE, "Schedulable", NULL, 'b',
                                                &on) >= 0);
        return on;
}

int setup(void **state) {
        bus = bed_new();
        assert_true(sd_event_new(&event) >= 0);
        nobody = bed_connect_as(NOBODY, NOBODY);
        assert_true(sd_bus_attach_event(nobody, event, 0) >= 0);
        return 0;
}

int teardown(void **state) {
        nobody = sd_bus_flush_close_unref(nobody);
        bus = sd_bus_flush_close_unref(bus);
        event = sd_event_unref(event);
        return 0;
}

int each_setup(void **state) {
        polkit_comes();
        return 0;
}

int each_teardown(void **state) {
        polkit_goes();
        bed_wait(bus, bed_all_free, NULL, "all memory to be free again");
        assert_true(schedulable());
        return 0;
}

bool was_cancelled(const void *arg) {
        return n_cancelled >= (arg ? *(const size_t *) arg : 1);
}
