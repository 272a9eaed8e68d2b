/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "manager.h"
#include "test.h"

/* What the manager makes of its configuration, as far as nothing else shows it. */

typedef struct Bed {
        sd_event *event;
        Config *config;
        Manager *manager;
} Bed;

static ScrubConfig scrub; /* as the last scrubber was made */

int __real_scrubber_new(sd_event *event, const ScrubConfig *config, Scrubber **ret);
int __wrap_scrubber_new(sd_event *event, const ScrubConfig *config, Scrubber **ret);

int __wrap_scrubber_new(sd_event *event, const ScrubConfig *config, Scrubber **ret) {
        scrub = *config;
        return __real_scrubber_new(event, config, ret);
}

static void no_warning(const char *message, void *userdata) {
        fail_msg("%s", message);
}

static void bed_init(Bed *b, const char *text) {
        *b = (Bed){};
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(config_new(&b->config), 0);
        assert_int_equal(config_parse(b->config, text, strlen(text), "f", no_warning, NULL), 0);
        assert_int_equal(manager_new(b->event, b->config, &b->manager), 0);
}

static void bed_done(Bed *b) {
        manager_free(b->manager);
        config_free(b->config);
        sd_event_unref(b->event);
}

static uint64_t now_usec(void) {
        struct timespec ts;

        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

static void test_poll_interval(void **state) {
        uint64_t before, now, at, due;
        Bed b;

        before = now_usec();
        bed_init(&b, "[Egmd]\nPollRetiredSec=3s\n");
        now = now_usec();
        assert_int_equal(sd_event_source_get_time(b.manager->poll_source, &at), 0);
        assert_true(at >= before + 3 * USEC_PER_SEC && at <= now + 3 * USEC_PER_SEC);
        /* And again after each. */
        assert_int_equal(sd_event_source_set_time_relative(b.manager->poll_source, 0), 0);
        assert_int_equal(sd_event_source_get_time(b.manager->poll_source, &due), 0);
        at = due;
        while (at == due) {
                assert_true(sd_event_run(b.event, USEC_PER_SEC) > 0);
                assert_int_equal(sd_event_source_get_time(b.manager->poll_source, &at), 0);
        }
        assert_true(at >= due + 3 * USEC_PER_SEC && at <= now_usec() + 3 * USEC_PER_SEC);
        bed_done(&b);
}

static void test_scrubbing(void **state) {
        Bed b;

        bed_init(&b, "");
        assert_int_equal(scrub.threads, 0);
        assert_int_equal(scrub.bandwidth, 0);
        assert_int_equal(scrub.verify, SCRUB_VERIFY_SAMPLES);
        assert_null(scrub.cpus);
        assert_ptr_equal(scrub.topology, b.manager->topology);
        bed_done(&b);

        bed_init(&b, "[Egmd]\nScrubThreads=3\nScrubBandwidth=4G\nVerify=whole\nScrubCPUs=0,70-71,"
                     "8191\n");
        assert_int_equal(scrub.threads, 3);
        assert_true(scrub.bandwidth == 4 * GIB);
        assert_int_equal(scrub.verify, SCRUB_VERIFY_ALL);
        assert_int_equal(CPU_COUNT_S(scrub.cpus_size, scrub.cpus), 4);
        assert_true(CPU_ISSET_S(0, scrub.cpus_size, scrub.cpus));
        assert_true(CPU_ISSET_S(71, scrub.cpus_size, scrub.cpus));
        assert_true(CPU_ISSET_S(8191, scrub.cpus_size, scrub.cpus));
        bed_done(&b);

        bed_init(&b, "[Egmd]\nVerify=off\n");
        assert_int_equal(scrub.verify, SCRUB_VERIFY_SAMPLES);
        bed_done(&b);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_poll_interval),
                        cmocka_unit_test(test_scrubbing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
