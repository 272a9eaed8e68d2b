/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <pthread.h>

#include "worker.h"

typedef struct Job {
        sd_event *event;
        pthread_t thread;
        int done;
        int result;
} Job;

static int work(void *userdata) {
        Job *j = userdata;

        j->thread = pthread_self();
        return -EIO;
}

static void done(int r, void *userdata) {
        Job *j = userdata;

        j->done++;
        j->result = r;
        assert_int_equal(sd_event_exit(j->event, 0), 0);
}

static void test_result_comes_back(void **state) {
        Job j = {};

        assert_true(sd_event_new(&j.event) >= 0);
        assert_int_equal(worker_start(j.event, "test", work, done, &j, NULL), 0);
        assert_int_equal(j.done, 0);
        assert_int_equal(sd_event_loop(j.event), 0);
        assert_int_equal(j.done, 1);
        assert_int_equal(j.result, -EIO);
        assert_false(pthread_equal(j.thread, pthread_self()));
        sd_event_unref(j.event);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_result_comes_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
