/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Looks at /proc that say what the test wants: who is told of, and who is ended. The process is a real one. */

#include "test.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "holders.h"
#include "manager.h"
#include "pidfd.h"
#include "run-until.h"

#define G ((uint64_t) 64 * KIB)
#define LENT 4U /* granules, from 0: lease 1 */
#define GRANULES 16U
#define INO 4711

/* What a look sees, and what happens right before it. */
typedef enum What {
        NOBODY,
        NEAT,     /* maps lease 1 */
        GREEDY,   /* and the granule behind it */
        SHORT,    /* half of that granule */
        PRIVATE,  /* privately */
        STRANGER, /* greedy, but it started at another time */
        FAILURE,
        DRAINED,    /* greedy; the granule was lent meanwhile, and drained */
        LENT_SINCE, /* greedy; it is lent by now */
        ENFORCED,   /* greedy; the kernel sees to it by now */
        OTHER_NODE, /* greedy; the region is of another device by now */
        GONE,       /* greedy; the region went away */
} What;

typedef struct Bed {
        Manager manager;
        Region region, *regions[1];
        Provider provider;
        Config *config;
        Slice slice;
        const What *script;
        size_t n_script;
        uint64_t start_time;
        pid_t pid;
        atomic_size_t n_scans, n_ended;
        unsigned n_signals;
} Bed;

static Bed bed;

int __wrap_pidfd_signal(int fd, int sig);
int __wrap_pidfd_signal(int fd, int sig) {
        pid_t pid;

        assert_int_equal(pidfd_get_pid(fd, &pid), 0);
        assert_int_equal(pid, bed.pid);
        assert_int_equal(sig, SIGKILL);
        bed.n_signals++;
        return 0;
}

static void before(What what) {
        switch (what) {
        case DRAINED:
                watcher_slice_drained(bed.manager.watcher, &bed.slice);
                break;
        case LENT_SINCE:
                assert_int_equal(extent_map_lease(bed.region.map, LENT * G, G, 2, false), 0);
                break;
        case ENFORCED:
                bed.region.enforced = true;
                break;
        case OTHER_NODE:
                bed.provider.ino++;
                break;
        case GONE:
                bed.region.state = REGION_GONE;
                break;
        default:
                break;
        }
}

/* While this runs the event loop waits for it. */
static int look(const HolderScan *scan, HolderList *ret) {
        size_t n = atomic_fetch_add(&bed.n_scans, 1);
        What what = n < bed.n_script ? bed.script[n] : NOBODY;
        Holder *h;

        assert_int_equal(scan->n_devices, 1);
        assert_int_equal(scan->devices[0].rdev, 0);
        before(what);
        *ret = (HolderList){};
        if (what == FAILURE)
                return -EAGAIN;
        if (what == NOBODY)
                return 0;
        h = calloc(1, sizeof(*h));
        assert_non_null(h);
        *h = (Holder){.pid = bed.pid,
                      .start_time = bed.start_time + (what == STRANGER),
                      .comm = strdup("greedy"),
                      .maps = true,
                      .vague = what == PRIVATE};
        assert_int_equal(ranges_add(&h->mapped, 0,
                                    what == NEAT    ? LENT * G
                                    : what == SHORT ? LENT * G + G / 2
                                                    : (LENT + 1) * G),
                         0);
        *ret = (HolderList){.items = h, .n = 1};
        return 0;
}

int __wrap_holders_scan(const HolderScan *scan, HolderList *ret);
int __wrap_holders_scan(const HolderScan *scan, HolderList *ret) {
        int r = look(scan, ret);

        atomic_fetch_add(&bed.n_ended, 1);
        return r;
}

static pid_t child_new(void) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) pause();
                _exit(0);
        }
        return pid;
}

static void bed_begin(OverreachAction action) {
        Lease *l;
        int fd;

        bed = (Bed){.pid = child_new()};
        assert_int_equal(pidfd_new(bed.pid, &fd), 0);
        assert_int_equal(pidfd_get_start_time(fd, &bed.start_time), 0);
        (void) close(fd);
        assert_int_equal(config_new(&bed.config), 0);
        bed.config->overreach = action;
        bed.config->overreach_poll_usec = USEC_PER_MSEC;
        bed.provider = (Provider){.fd = 0, .offsets = true, .size = GRANULES * G, .ino = INO};
        bed.region = (Region){.manager = &bed.manager,
                              .name = (char *) "egm4",
                              .provider = &bed.provider,
                              .state = REGION_READY};
        assert_int_equal(extent_map_new(GRANULES * G, G, &bed.region.map), 0);
        assert_int_equal(extent_map_begin_scrub(bed.region.map, 0, GRANULES * G), 0);
        assert_int_equal(extent_map_end_scrub(bed.region.map, 0, GRANULES * G, true), 0);
        assert_int_equal(extent_map_lease(bed.region.map, 0, LENT * G, 1, false), 0);
        bed.slice = (Slice){.region = &bed.region, .offset = LENT * G, .size = G};
        bed.regions[0] = &bed.region;
        bed.manager = (Manager){.config = bed.config, .regions = bed.regions, .n_regions = 1};
        RB_INIT(&bed.manager.leases);
        assert_int_equal(lease_new(1, 1, &l), 0);
        l->lifetime_open = true;
        RB_INSERT(LeaseTree, &bed.manager.leases, l);
        assert_true(sd_event_new(&bed.manager.event) >= 0);
        assert_int_equal(watcher_new(&bed.manager, &bed.manager.watcher), 0);
}

static void bed_end(void) {
        Lease *l = RB_ROOT(&bed.manager.leases);

        bed.region.enforced = true;
        while (atomic_load(&bed.n_ended) < atomic_load(&bed.n_scans))
                assert_true(sd_event_run(bed.manager.event, USEC_PER_SEC) >= 0);
        watcher_free(bed.manager.watcher);
        sd_event_unref(bed.manager.event);
        RB_REMOVE(LeaseTree, &bed.manager.leases, l);
        lease_free(l);
        extent_map_free(bed.region.map);
        config_free(bed.config);
        assert_int_equal(kill(bed.pid, SIGKILL), 0);
        assert_int_equal(waitpid(bed.pid, NULL, 0), bed.pid);
}

#define SCRIPT(...) \
        ((const What[]){__VA_ARGS__}), sizeof((const What[]){__VA_ARGS__}) / sizeof(What)

/* All looks of it, and what came of them: the next one has begun, or there is none. */
static void play(const What *script, size_t n, size_t n_scans) {
        bed.script = script;
        bed.n_script = n;
        run_loop_until(bed.manager.event, atomic_load(&bed.n_scans) >= n_scans);
}

static unsigned n_findings(void) {
        unsigned n = 0;

        for (const Finding *f = watcher_next(bed.manager.watcher, &bed.region, NULL); f;
             f = watcher_next(bed.manager.watcher, &bed.region, f))
                n++;
        return n;
}

static void one(OverreachAction action, const What *script, size_t n, uint64_t told,
                unsigned signals) {
        bed_begin(action);
        play(script, n, n + 1);
        assert_int_equal(bed.manager.counters.overreaches, told);
        assert_int_equal(bed.n_signals, signals);
        bed_end();
}

static void test_two_looks(void **state) {
        one(OVERREACH_KILL, SCRIPT(GREEDY, GREEDY), 1, 1);
        one(OVERREACH_LOG, SCRIPT(GREEDY, GREEDY), 1, 0);
        one(OVERREACH_KILL, SCRIPT(PRIVATE, PRIVATE), 1, 0);
        one(OVERREACH_KILL, SCRIPT(NEAT, NEAT), 0, 0);
        /* One look proves nothing. */
        one(OVERREACH_KILL, SCRIPT(GREEDY, NOBODY), 0, 0);
        one(OVERREACH_KILL, SCRIPT(GREEDY, NEAT), 0, 0);
        one(OVERREACH_KILL, SCRIPT(GREEDY, FAILURE), 0, 0);
        one(OVERREACH_KILL, SCRIPT(GREEDY, STRANGER), 0, 0);
        one(OVERREACH_KILL, SCRIPT(FAILURE, GREEDY, NEAT), 0, 0);
        /* Seen once more after that it is a first look again. */
        one(OVERREACH_KILL, SCRIPT(GREEDY, NEAT, GREEDY, NEAT), 0, 0);
        /* Nor do two that don't agree. */
        one(OVERREACH_KILL, SCRIPT(GREEDY, PRIVATE), 0, 0);
        one(OVERREACH_KILL, SCRIPT(PRIVATE, GREEDY), 0, 0);
        /* Another process by the time that it is to be named for good: no second look. */
        one(OVERREACH_KILL, SCRIPT(STRANGER, NEAT, NEAT), 0, 0);
        one(OVERREACH_KILL, SCRIPT(STRANGER, STRANGER, STRANGER), 0, 0);
}

/* The books have changed between the two. */
static void test_meanwhile(void **state) {
        one(OVERREACH_KILL, SCRIPT(GREEDY, DRAINED), 0, 0);
        one(OVERREACH_KILL, SCRIPT(GREEDY, LENT_SINCE), 0, 0);
        one(OVERREACH_KILL, SCRIPT(GREEDY, OTHER_NODE), 0, 0);
}

static void no_more_looks(What what) {
        const What script[] = {GREEDY, what};

        bed_begin(OVERREACH_KILL);
        play(script, ELEMENTSOF(script), ELEMENTSOF(script));
        /* Behind what it makes of the books, which are the bed's again then. */
        run_loop_until(bed.manager.event, atomic_load(&bed.n_ended) >= ELEMENTSOF(script));
        for (unsigned i = 0; i < 5; i++)
                assert_true(sd_event_run(bed.manager.event, USEC_PER_SEC) >= 0);
        assert_int_equal(bed.manager.counters.overreaches, 0);
        assert_int_equal(bed.n_signals, 0);
        bed_end();
}

static void test_no_longer_watched(void **state) {
        no_more_looks(ENFORCED);
        no_more_looks(GONE);
}

/* Once for what it maps, once more for what it maps then; and shown as long as it does. */
static void test_once(void **state) {
        bed_begin(OVERREACH_LOG);
        play(SCRIPT(SHORT, SHORT, SHORT, SHORT, GREEDY, GREEDY, GREEDY, SHORT, NEAT, NEAT), 10);
        assert_int_equal(bed.manager.counters.overreaches, 2);
        assert_int_equal(n_findings(), 0);
        bed_end();

        bed_begin(OVERREACH_LOG);
        play(SCRIPT(GREEDY, GREEDY, SHORT, SHORT, SHORT), 5);
        assert_int_equal(bed.manager.counters.overreaches, 1);
        assert_int_equal(n_findings(), 1);
        bed_end();
}

/* Nothing is looked at where nothing is to be seen. */
static void test_idle(void **state) {
        for (unsigned k = 0; k < 6; k++) {
                bed_begin(OVERREACH_KILL);
                if (k == 0)
                        assert_int_equal(extent_map_cancel(bed.region.map, 0, LENT * G, 1), 0);
                bed.region.enforced = k == 1;
                bed.provider.offsets = k != 2;
                if (k == 3)
                        bed.region.state = REGION_DELEGATED;
                if (k == 4)
                        bed.region.mode = REGION_MODE_OBSERVE;
                if (k == 5)
                        bed.provider.fd = -EBADF;
                for (unsigned i = 0; i < 5; i++)
                        assert_true(sd_event_run(bed.manager.event, USEC_PER_SEC) >= 0);
                assert_int_equal(atomic_load(&bed.n_scans), 0);
                bed_end();
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_two_looks),
                        cmocka_unit_test(test_meanwhile),
                        cmocka_unit_test(test_no_longer_watched),

                        cmocka_unit_test(test_once),
                        cmocka_unit_test(test_idle),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
