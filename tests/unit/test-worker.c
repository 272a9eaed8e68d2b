/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>

#include "fd-util.h"
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

/* ---- when it begins ---- */

typedef struct Late {
        Job job;
        int began[2]; /* its work writes a byte */
        int go[2];    /* and waits for one */
} Late;

/* By the name that it is given: a sanitizer has threads of its own. */
static unsigned count_late(void) {
        DIR *d = opendir("/proc/self/task");
        unsigned n = 0;

        assert_non_null(d);
        for (const struct dirent *e; (e = readdir(d));) {
                _cleanup_close_ int fd = -EBADF;
                char path[NAME_MAX + sizeof("/comm")], name[16] = {};

                (void) snprintf(path, sizeof(path), "%s/comm", e->d_name);
                fd = openat(dirfd(d), path, O_RDONLY | O_CLOEXEC);
                n += fd >= 0 && read(fd, name, sizeof(name) - 1) > 0 && streq(name, "late\n");
        }
        (void) closedir(d);
        return n;
}

static int wait_and_work(void *userdata) {
        Late *l = userdata;
        char c;

        if (write(l->began[1], "", 1) != 1 || read(l->go[0], &c, 1) != 1)
                return -EPIPE;
        return work(&l->job);
}

static void late_done(int r, void *userdata) {
        Late *l = userdata;

        done(r, &l->job);
}

static int on_turn(sd_event_source *s, void *userdata) {
        Late *l = userdata;
        struct pollfd began = {.fd = l->began[0], .events = POLLIN};

        assert_int_equal(worker_start(l->job.event, "late", wait_and_work, late_done, l, NULL), 0);
        assert_int_equal(poll(&began, 1, 60 * 1000), 1);
        assert_int_equal(write(l->go[1], "", 1), 1);
        return 0;
}

static void late_open(Late *l) {
        *l = (Late){};
        assert_true(sd_event_new(&l->job.event) >= 0);
        assert_int_equal(pipe2(l->began, O_CLOEXEC), 0);
        assert_int_equal(pipe2(l->go, O_CLOEXEC), 0);
}

static void late_close(Late *l) {
        for (unsigned i = 0; i < 2; i++) {
                (void) close(l->began[i]);
                (void) close(l->go[i]);
        }
        sd_event_unref(l->job.event);
}

/* The first one: no other test's thread is still about to end. */
static void test_begins_with_the_loop(void **state) {
        Late l;

        late_open(&l);
        assert_int_equal(worker_start(l.job.event, "late", wait_and_work, late_done, &l, NULL), 0);
        assert_int_equal(count_late(), 0);
        assert_true(sd_event_run(l.job.event, 0) > 0);
        assert_int_equal(count_late(), 1);
        assert_int_equal(l.job.done, 0);
        assert_int_equal(write(l.go[1], "", 1), 1);
        assert_int_equal(sd_event_loop(l.job.event), 0);
        assert_int_equal(l.job.result, -EIO);
        late_close(&l);
}

static void test_begins_at_once_in_the_loop(void **state) {
        Late l;

        late_open(&l);
        assert_true(sd_event_add_defer(l.job.event, NULL, on_turn, &l) >= 0);
        assert_int_equal(sd_event_loop(l.job.event), 0);
        assert_int_equal(l.job.done, 1);
        late_close(&l);
}

/* Nor is it heard of again. */
static void test_given_up_before_it_begins(void **state) {
        Worker *w;
        Late l;

        late_open(&l);
        assert_int_equal(worker_start(l.job.event, "late", wait_and_work, late_done, &l, &w), 0);
        worker_abandon(w);
        assert_int_equal(sd_event_run(l.job.event, 0), 0);
        assert_int_equal(l.job.done, 0);
        late_close(&l);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_begins_with_the_loop),
                        cmocka_unit_test(test_begins_at_once_in_the_loop),
                        cmocka_unit_test(test_given_up_before_it_begins),
                        cmocka_unit_test(test_result_comes_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
