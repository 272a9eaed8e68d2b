/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "holders-fixture.h"
#include "manager.h"
#include "run-until.h"

/* A manager with the real provider on a device that nobody else opens: of the other tests some do. */
#define DEVICE "/dev/full"

typedef struct Bed {
        sd_event *event;
        Config *config;
        Manager *manager;
} Bed;

static void no_warning(const char *message, void *userdata) {
        fail_msg("%s", message);
}

static void bed_init(Bed *b, const char *text) {
        *b = (Bed){};
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(config_new(&b->config), 0);
        assert_int_equal(config_parse(b->config, text, strlen(text), "f", no_warning, NULL), 0);
        assert_int_equal(manager_new(b->event, b->config, &b->manager), 0);
        b->manager->ignore_inaccessible = true;
}

static void bed_done(Bed *b) {
        manager_free(b->manager);
        config_free(b->config);
        sd_event_unref(b->event);
}

static Region *add_region(Bed *b, const char *name, int pxm, const char *path) {
        RegionInfo info = {.name = (char *) name,
                           .pxm = pxm,
                           .devnode = (char *) path,
                           .syspath = (char *) "/sys/nowhere",
                           .devnum = makedev(1, 7),
                           .size = 64 * MIB,
                           .node = -1,
                           .socket = -1,
                           .dialect = "none"};

        assert_int_equal(manager_add_region(b->manager, &info), 0);
        return manager_find_region(b->manager, name);
}

/* Runs the loop until the region's reason has these words. */
static void wait_for_reason(Bed *b, Region *r, const char *words) {
        time_t end = patience_end();

        while (!r->reason || !strstr(r->reason, words)) {
                assert_true(sd_event_run(b->event, USEC_PER_SEC) >= 0);
                if (patience_is_over(end))
                        fail_msg("%s: %s, not %s", r->name, r->reason, words);
        }
}

static void look_now(Region *r) {
        assert_non_null(r->retry);
        assert_true(sd_event_source_set_time_relative(r->retry, 0) >= 0);
}

/* A child that has the device open. */
static pid_t hold(int *ret_stop) {
        int fds[2], ready[2];
        char c;
        pid_t pid;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(fds[1]);
                if (fd < 0 || write(ready[1], "x", 1) != 1)
                        _exit(1);
                _exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
        }
        (void) close(fds[0]);
        (void) close(ready[1]);
        assert_int_equal(read(ready[0], &c, 1), 1);
        (void) close(ready[0]);
        *ret_stop = fds[1];
        return pid;
}

static unsigned count_open(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++) {
                struct stat st;

                n += fstat(fd, &st) >= 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 7);
        }
        return n;
}

/* Who has it is named, and when he is gone nobody is; the device is never opened. */
static void test_observe(void **state) {
        char words[64];
        Region *r;
        pid_t pid;
        int stop;
        Bed b;

        bed_init(&b, "[Region egm5]\nMode=observe\n");
        r = add_region(&b, "egm5", 5, DEVICE);
        assert_int_equal(r->state, REGION_HELD_ELSEWHERE);
        assert_false(region_may_lend(r));
        wait_for_reason(&b, r, "observed only; nobody has it");
        pid = hold(&stop);
        (void) snprintf(words, sizeof(words), "observed only; held by pid %i ", (int) pid);
        look_now(r);
        wait_for_reason(&b, r, "observed only; held by another process");
        assert_ptr_equal(strstr(r->held_by, words), r->held_by);
        assert_int_equal(r->state, REGION_HELD_ELSEWHERE);
        assert_int_equal(count_open(), 0);
        (void) close(stop);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        look_now(r);
        wait_for_reason(&b, r, "observed only; nobody has it");
        assert_null(r->held_by);
        assert_int_equal(count_open(), 0);
        assert_int_equal(r->n_tries, 0);
        /* The device goes in the middle of a look, and comes back. */
        look_now(r);
        while (!r->opening)
                assert_true(sd_event_run(b.event, USEC_PER_SEC) >= 0);
        region_vanish(r);
        assert_int_equal(r->state, REGION_GONE);
        assert_int_equal(region_return(r, r->info), 0);
        wait_for_reason(&b, r, "observed only; nobody has it");
        bed_done(&b);
}

/* In a mode that opens, the same device is opened, and found to be none of ours. */
static void test_others_open(void **state) {
        static const char *const modes[] = {"auto", "shared", "whole"};

        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                char text[64];
                Region *r;
                Bed b;

                (void) snprintf(text, sizeof(text), "[Egmd]\nMode=%s\n", modes[i]);
                bed_init(&b, text);
                r = add_region(&b, "egm5", 5, DEVICE);
                assert_int_equal(r->state, REGION_OPENING);
                assert_true(region_may_lend(r));
                wait_for_reason(&b, r, "opening failed");
                assert_int_equal(r->state, REGION_FAILED);
                bed_done(&b);
        }
}

static void test_low_regions(void **state) {
        Region *zero, *three;
        Bed b;

        bed_init(&b, "[Egmd]\nAllowLowRegions=egm3\n");
        zero = add_region(&b, "egm0", 0, "/nowhere/egm0");
        three = add_region(&b, "egm3", 3, "/nowhere/egm3");
        assert_int_equal(zero->state, REGION_FAILED);
        assert_non_null(strstr(zero->reason, "left alone"));
        assert_false(region_may_lend(zero));
        assert_int_equal(three->state, REGION_OPENING);
        wait_for_reason(&b, three, "opening failed");
        bed_done(&b);
        /* To look at one does no harm. */
        bed_init(&b, "[Region egm0]\nMode=observe\n");
        zero = add_region(&b, "egm0", 0, DEVICE);
        wait_for_reason(&b, zero, "observed only; nobody has it");
        assert_int_equal(count_open(), 0);
        bed_done(&b);
}

static int run(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_observe),
                        cmocka_unit_test(test_others_open),
                        cmocka_unit_test(test_low_regions),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void) {
        return run_isolated(run);
}
