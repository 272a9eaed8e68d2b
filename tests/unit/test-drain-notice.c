/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "drain-notice.h"
#include "fd-util.h"
#include "manager.h"
#include "run-until.h"

#define SEC USEC_PER_SEC

/* After a minute, then once an hour. */
static void test_due(void **state) {
        Lease l = {.drains_since = 1000 * SEC};
        unsigned n = 0;

        for (uint64_t now = 1000 * SEC; now < (1000 + 60) * SEC; now += SEC / 2)
                assert_false(drain_notice_is_due(&l, now, 60 * SEC));
        assert_true(drain_notice_is_due(&l, (1000 + 60) * SEC, 60 * SEC));
        for (uint64_t now = (1000 + 60) * SEC; now < (1000 + 60 + 3600) * SEC; now += SEC / 2)
                assert_false(drain_notice_is_due(&l, now, 60 * SEC));
        for (uint64_t now = (1000 + 60 + 3600) * SEC; now < (1000 + 4 * 3600) * SEC; now += SEC / 2)
                n += drain_notice_is_due(&l, now, 60 * SEC);
        assert_int_equal(n, 3);
        /* Nobody looked for long: once is enough. */
        l = (Lease){.drains_since = SEC};
        assert_true(drain_notice_is_due(&l, 100 * SEC, SEC));
        assert_true(drain_notice_is_due(&l, 10000 * SEC, SEC));
        assert_false(drain_notice_is_due(&l, 10001 * SEC, SEC));
        l = (Lease){.drains_since = 1000 * SEC};
        assert_false(drain_notice_is_due(&l, 10 * SEC, SEC));
        l.drains_since = 0;
        assert_false(drain_notice_is_due(&l, 10000 * SEC, SEC));
}

static void expect_text(const Lease *l, const char *expected) {
        _cleanup_free_ char *text = NULL;

        assert_int_equal(drain_notice_text(l, 90 * SEC, &text), 0);
        assert_string_equal(text, expected);
}

static void test_text(void **state) {
        Lease *l;

        assert_int_equal(lease_new(7, 3, &l), 0);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(lease_set_slice(l, i, i == 1 ? "egm5" : "egm4", NULL, 0,
                                                 (i + 1) * GIB),
                                 0);
                l->slices[i].phase = i == 0 ? SLICE_SCRUBBING : SLICE_DRAINING;
        }
        l->label = strdup("vm1");
        assert_non_null(l->label);
        l->drains_since = 30 * SEC;
        expect_text(l,
                    "Lease 7 (vm1): 2G of egm5, 3G of egm4 are not free 60 s after its end: that "
                    "nobody has it cannot be made sure of");
        l->slices[2].is_stuck = true;
        expect_text(l,
                    "Lease 7 (vm1): 2G of egm5, 3G of egm4 are not free 60 s after its end: what "
                    "is over cannot be written down");
        assert_int_equal(lease_add_blocker(l, 42, 1, "qemu", ""), 1);
        expect_text(l,
                    "Lease 7 (vm1): 2G of egm5, 3G of egm4 are not free 60 s after its end: held "
                    "up by pid 42 (qemu); \"egmctl release --kill 7\" ends who does");
        lease_clear_blockers(l);
        assert_int_equal(lease_add_blocker(l, 43, 1, "qemu", "vm1.scope"), 1);
        assert_int_equal(lease_add_blocker(l, 44, 1, "virtiofsd", "vm1.scope"), 1);
        expect_text(l,
                    "Lease 7 (vm1): 2G of egm5, 3G of egm4 are not free 60 s after its end: held "
                    "up by pid 43 (qemu) of vm1.scope and 1 more; \"egmctl release --kill 7\" "
                    "ends who does");
        lease_free(l);
}

/* ---- A process that holds it up, and the log ---- */

typedef struct Bed {
        sd_event *event;
        Config *config;
        Manager *manager;
        Region *region;
        int log, saved;
} Bed;

static bool is_clean(const Region *r) {
        return r->state == REGION_READY && !r->scrubs &&
               extent_map_bytes(r->map, EXTENT_FREE) == extent_map_size(r->map);
}

static unsigned count_lines(const Bed *b, const char *words) {
        static char text[65536];
        ssize_t n = pread(b->log, text, sizeof(text) - 1, 0);
        unsigned found = 0;

        assert_true(n >= 0);
        text[n] = '\0';
        for (const char *at = text; (at = strstr(at, words)); at++)
                found++;
        return found;
}

static void on_outcome(int r, const EgmError *e, Lease *l, int lifetime_fd, void *userdata) {
        assert_int_equal(r, 0);
        *(Lease **) userdata = l;
}

static Lease *acquire(Bed *b) {
        AcquireRequest q = {.n_slices = 1, .holder = -EBADF, .uid = geteuid()};
        Lease *l = NULL;
        Waiter *w;

        q.lifetime = LEASE_LIFETIME_PERSISTENT;
        q.label = strdup("vm1");
        q.slices = calloc(1, sizeof(*q.slices));
        assert_true(q.label && q.slices);
        *q.slices = (SliceRequest){.size = 2 * MIB, .node = EGM_NODE_ANY, .socket = 0};
        manager_acquire(b->manager, &q, on_outcome, &l, &w);
        assert_null(w);
        assert_non_null(l);
        return l;
}

/* Has what it inherits open, as a copy of the region's descriptor would be. */
static pid_t fork_holder(void) {
        pid_t pid = fork();

        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) pause();
                _exit(0);
        }
        assert_true(pid > 0);
        return pid;
}

static void start(Bed *b, uint64_t notice_usec) {
        *b = (Bed){.log = memfd_create("log", MFD_CLOEXEC)};
        assert_true(b->log >= 0);
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(config_new(&b->config), 0);
        b->config->drain_notice_usec = notice_usec;
        assert_int_equal(manager_new(b->event, b->config, &b->manager), 0);
        b->manager->ignore_inaccessible = true;
        assert_int_equal(manager_start_simulation(b->manager, "gb200", 16384), 0);
        b->region = manager_find_region(b->manager, "egm4");
        assert_non_null(b->region);
        run_loop_until(b->event, is_clean(b->region));
        b->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(b->saved >= 0);
        assert_true(dup2(b->log, STDERR_FILENO) >= 0);
}

static void stop(Bed *b) {
        assert_true(dup2(b->saved, STDERR_FILENO) >= 0);
        (void) close(b->saved);
        (void) close(b->log);
        manager_free(b->manager);
        config_free(b->config);
        sd_event_unref(b->event);
}

static void test_held_up(void **state) {
        pid_t holder;
        char begin[64], end[64];
        Lease *l;
        Bed b;

        /* Due at the first look again, and then not for some twenty seconds. */
        start(&b, 300 * USEC_PER_MSEC);
        l = acquire(&b);
        holder = fork_holder();
        (void) snprintf(begin, sizeof(begin), "Lease %" PRIu64 " (vm1): 2M of egm4 are not free ",
                        l->id);
        (void) snprintf(end, sizeof(end), " after its end: held up by pid %i (", (int) holder);
        assert_int_equal(manager_release(b.manager, l, "test"), 0);
        run_loop_until(b.event, count_lines(&b, "after its end") > 0);
        assert_int_equal(count_lines(&b, "after its end"), 1);
        assert_int_equal(count_lines(&b, begin), 1);
        assert_int_equal(count_lines(&b, end), 1);
        assert_int_equal(kill(holder, SIGKILL), 0);
        assert_int_equal(waitpid(holder, NULL, 0), holder);
        run_loop_until(b.event, is_clean(b.region));
        assert_int_equal(count_lines(&b, "after its end"), 1);
        stop(&b);
}

/* What comes back at once is not worth a word. */
static void test_not_held_up(void **state) {
        Bed b;

        start(&b, 60 * SEC);
        assert_int_equal(manager_release(b.manager, acquire(&b), "test"), 0);
        run_loop_until(b.event, is_clean(b.region));
        assert_int_equal(count_lines(&b, "after its end"), 0);
        stop(&b);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_due),
                        cmocka_unit_test(test_text),
                        cmocka_unit_test(test_held_up),
                        cmocka_unit_test(test_not_held_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
