/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What happens while polkit thinks: leases end, callers and polkit go, others ask for the same, egmd leaves. */

#include "polkit-bed.h"

#include <signal.h>
#include <sys/mman.h>

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

/* It has ended, but somebody maps it: there it still is, and has no second end. */
static void test_drains_meanwhile(void **state) {
        Granted g = bed_acquire(bus, "egm4", SIZE, "persistent");
        void *p = mmap(NULL, g.size, PROT_READ, MAP_SHARED, g.memory, (off_t) g.offset);
        Call c;

        assert_true(p != MAP_FAILED);
        call_send(&c, nobody, release(nobody, g.path));
        (void) wait_question(1);
        release_as_root(g.path);
        answer(questions, true, false);
        expect(&c, EGM_ERROR_PREFIX "Draining", "has been released");
        call_done(&c);
        assert_int_equal(munmap(p, g.size), 0);
        bed_close(&g.memory);
        bed_close(&g.lifetime);
}

/* Of two that ask for the end of one lease each has its own answer, whichever comes first. */
static void test_two_ask(void **state) {
        sd_bus *other = bed_connect_as(OTHER, OTHER);
        Call c, d;

        assert_true(sd_bus_attach_event(other, event, 0) >= 0);
        for (size_t i = 0; i < 4; i++) {
                bool owner_first = i % 2, owner_may = i / 2;
                Granted mine = give_to(NOBODY);
                const Question *owners, *others;

                call_send(owner_first ? &c : &d, owner_first ? nobody : other,
                          release(owner_first ? nobody : other, mine.path));
                (void) wait_question(2 * i + 1);
                call_send(owner_first ? &d : &c, owner_first ? other : nobody,
                          release(owner_first ? other : nobody, mine.path));
                (void) wait_question(2 * i + 2);
                owners = questions + 2 * i + !owner_first;
                others = questions + 2 * i + owner_first;
                assert_string_equal(owners->action, "org.nvidia.Egm1.release-own");
                assert_string_equal(others->action, "org.nvidia.Egm1.release-any");
                /* The no first: it must not count for the other one. */
                answer(owner_may ? others : owners, false, false);
                if (owner_may)
                        expect(&d, EGM_ERROR_PREFIX "NotHolder", "uid 65534");
                else
                        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "polkit keeps uid 65534");
                assert_false(owner_may ? c.done : d.done);
                assert_int_equal(bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount"),
                                 1);
                answer(owner_may ? owners : others, true, false);
                expect(owner_may ? &c : &d, NULL, NULL);
                call_done(&c);
                call_done(&d);
                bed_wait(bus, bed_all_free, NULL, "the lease to be over");
        }
        sd_bus_flush_close_unref(other);
}

/* All that a caller has asked for goes with him, and nothing of others' of the same user. */
static void test_caller_of_many_goes(void **state) {
        sd_bus *gone = bed_connect_as(NOBODY, NOBODY);
        Granted mine = give_to(NOBODY);
        const size_t n = 8;
        Call c;

        call_send(&c, nobody, manage(nobody, false));
        (void) wait_question(1);
        for (size_t i = 0; i < n; i++) {
                sd_bus_message *m = i % 2 ? acquire(gone, SIZE, "persistent")
                                          : release(gone, mine.path);

                assert_true(sd_bus_send(gone, m, &(uint64_t){0}) >= 0);
                sd_bus_message_unref(m);
        }
        assert_true(sd_bus_flush(gone) >= 0);
        (void) wait_question(n + 1);
        sd_bus_flush_close_unref(gone);
        wait_for(was_cancelled, &n, "the questions to be cancelled");
        assert_false(c.done);
        for (size_t i = 0; i < n; i++)
                answer(questions + 1 + i, true, false);
        answer(questions, false, false);
        expect(&c, SD_BUS_ERROR_ACCESS_DENIED, "Only root");
        call_done(&c);
        assert_int_equal(n_cancelled, n);
        assert_int_equal(bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount"), 1);
        release_as_root(mine.path);
}

/* As many as it may be asked at once by one user, and it dies; who comes after it does not know of them. */
static void test_polkit_dies(void **state) {
        static Call calls[QUERIES_PER_UID_MAX], more;
        Granted mine = give_to(NOBODY);

        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                call_send(calls + i, nobody,
                          i % 2 ? release(nobody, mine.path) : manage(nobody, false));
        (void) wait_question(ELEMENTSOF(calls));
        polkit_goes();
        polkit_comes();
        for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
                expect(calls + i, SD_BUS_ERROR_ACCESS_DENIED, "polkit does not say");
                call_done(calls + i);
        }
        assert_true(schedulable());
        call_send(&more, nobody, release(nobody, mine.path));
        (void) wait_question(1);
        answer(questions, true, false);
        expect(&more, NULL, NULL);
        call_done(&more);
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
                        cmocka_unit_test_setup_teardown(test_meanwhile, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_drains_meanwhile, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup_teardown(test_two_ask, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_caller_goes, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup_teardown(test_caller_of_many_goes, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup_teardown(test_fails, each_setup, each_teardown),
                        cmocka_unit_test_setup_teardown(test_polkit_dies, each_setup,
                                                        each_teardown),
                        cmocka_unit_test_setup(test_daemon_leaves, each_setup),
        };
        const struct CMUnitTest silence[] = {
                        cmocka_unit_test_setup_teardown(test_silence, each_setup, each_teardown),
        };

        return getenv("EGM_TEST_BUS_TIMEOUT") ? cmocka_run_group_tests(silence, setup, teardown)
                                              : cmocka_run_group_tests(tests, setup, teardown);
}
