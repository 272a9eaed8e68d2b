/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What egmd asks polkit, and what it makes of the answers: polkit is played here, and so are its callers. */

#include "polkit-bed.h"

#include <fcntl.h>

#include "fd-util.h"

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

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_absent, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_yes, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_no, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_never_asked, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup_teardown(test_challenge, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_flood, each_setup, each_teardown),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
