/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Things that happen while the scan is under way. The stat of process 60 is a FIFO: whoever fills it knows that
 * the scan has listed the processes and is at this one now, and makes the world change before it goes on. */

#include "holders-tree.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fd-util.h"

#define PASSES_MAX 16U

typedef struct Script {
        HolderScan scan;
        pthread_t thread;
        atomic_bool done;
        int last_reader; /* wakes the script up to see that the scan is done */
        int result;
        HolderList list;
        unsigned n; /* looks at process 60 */
} Script;

/* The n-th look at process 60, n from 1: changes what it wants, and says how 60 looks. */
typedef void (*step_t)(unsigned n, char *state, unsigned *start);

static void make_fifo(void) {
        char path[PATH_MAX];

        path_of(path, "60/stat");
        (void) unlink(path);
        assert_int_equal(mkfifo(path, 0600), 0);
}

static void *scan_thread(void *p) {
        char path[PATH_MAX];
        Script *s = p;

        s->result = holders_scan(&s->scan, &s->list);
        atomic_store(&s->done, true);
        path_of(path, "60/stat");
        s->last_reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (s->last_reader < 0)
                abort();
        return NULL;
}

/* Scans, with process 60 as scripted. */
static void play_scan(Script *s, HolderScan scan_args, step_t step) {
        *s = (Script){.scan = scan_args};
        make_fifo();
        assert_int_equal(pthread_create(&s->thread, NULL, scan_thread, s), 0);
        for (;;) {
                _cleanup_close_ int fd = -EBADF;
                char path[PATH_MAX], text[256], state = 'S';
                unsigned start = 100;

                path_of(path, "60/stat");
                fd = open(path, O_WRONLY | O_CLOEXEC); /* waits for a reader */
                assert_true(fd >= 0);
                if (atomic_load(&s->done))
                        break;
                make_fifo(); /* the next reader's; this one is still at the old one */
                step(++s->n, &state, &start);
                (void) snprintf(text, sizeof(text), STAT_FORMAT, 60U, "scripted", state, 0U, 1U,
                                start);
                assert_int_equal(write_all(fd, text, strlen(text)), 0);
        }
        assert_int_equal(pthread_join(s->thread, NULL), 0);
        (void) safe_close(s->last_reader);
}

static void play(Script *s, step_t step) {
        play_scan(s, tree_scan(), step);
}

/* Nobody but that process (0: nobody) holds anything. */
static void expect_found(Script *s, pid_t pid) {
        assert_int_equal(s->result, 0);
        assert_int_equal(s->list.n, pid != 0);
        if (pid != 0)
                assert_int_equal(s->list.items[0].pid, pid);
        holder_list_done(&s->list);
}

static void step_nothing(unsigned n, char *state, unsigned *start) {
}

static void test_nothing_moves(void **state) {
        Script s;

        put_holder(60);
        put_idle(61);
        put_process(62, "zombie", 'Z', 0, 1, 100);
        put_process(63, "kworker", 'S', 0x00200040, 1, 100);
        play(&s, step_nothing);
        expect_found(&s, 60);
        assert_int_equal(s.n, 2);
}

static void step_others_end(unsigned n, char *state, unsigned *start) {
        if (n != 2)
                return;
        for (unsigned pid = 61; pid < 75; pid++) {
                char name[16];

                (void) snprintf(name, sizeof(name), "%u", pid);
                take_away(name);
        }
}

/* Those who had nothing had nothing to pass on. */
static void test_others_end(void **state) {
        Script s;

        put_idle(60);
        for (unsigned pid = 61; pid < 75; pid++)
                put_idle(pid);
        play(&s, step_others_end);
        expect_found(&s, 0);
        assert_int_equal(s.n, 2);
}

static void step_born(unsigned n, char *state, unsigned *start) {
        if (n == 1)
                put_holder(5);
}

static void test_born(void **state) {
        Script s;

        put_idle(60);
        play(&s, step_born);
        expect_found(&s, 5);
        assert_int_equal(s.n, 3); /* a new holder is news */
}

/* The holder passes it on to a process that this pass meets no more, and ends. */
static void step_passed_on(unsigned n, char *state, unsigned *start) {
        if (n == 2)
                put_holder(5);
        if (n >= 2)
                *state = 'Z';
}

static void test_passed_on_by_a_holder(void **state) {
        Script s;

        put_holder(60);
        play(&s, step_passed_on);
        expect_found(&s, 5);
}

/* The same by a process that is gone before it could be looked at. */
static void step_in_between(unsigned n, char *state, unsigned *start) {
        char path[PATH_MAX];

        path_of(path, "70");
        if (n == 1)
                assert_int_equal(mkdir(path, 0755), 0);
        if (n == 2) {
                put_holder(5);
                assert_int_equal(rmdir(path), 0);
        }
}

static void test_passed_on_by_one_never_seen(void **state) {
        Script s;

        put_idle(60);
        play(&s, step_in_between);
        expect_found(&s, 5);
}

/* And by a new one that was looked at when it had passed it on already, and has ended since. */
static void step_new_ends(unsigned n, char *state, unsigned *start) {
        if (n >= 2)
                *start = 200;
        if (n == 3)
                put_holder(5);
        if (n >= 3)
                *state = 'Z';
}

static void test_passed_on_by_a_new_one_that_ends(void **state) {
        Script s;

        put_idle(60);
        play(&s, step_new_ends);
        expect_found(&s, 5);
}

/* The number comes to mean another process, which has nothing. */
static void step_reused(unsigned n, char *state, unsigned *start) {
        if (n == 2)
                take_away("60/fd/3");
        if (n >= 2)
                *start = 200;
}

static void test_number_reused(void **state) {
        Script s;

        put_holder(60);
        play(&s, step_reused);
        expect_found(&s, 0);
}

static void step_reused_by_holder(unsigned n, char *state, unsigned *start) {
        if (n == 2)
                put_link("60/fd/3", "/dev/full");
        if (n >= 2)
                *start = 200;
}

static void test_number_reused_by_a_holder(void **state) {
        Script s;

        put_idle(60);
        play(&s, step_reused_by_holder);
        assert_int_equal(s.result, 0);
        assert_int_equal(s.list.n, 1);
        assert_true(s.list.items[0].start_time == 200);
        expect_found(&s, 60);
}

/* What it has adds up: it may go back and forth. */
static void step_changes(unsigned n, char *state, unsigned *start) {
        if (n != 2)
                return;
        take_away("60/fd/3");
        put("60/maps", "3000-4000 rw-s 00002000 00:05 4711 /x\n");
}

static void test_changed_meanwhile(void **state) {
        const Holder *h;
        Script s;

        devices[0].dev = makedev(0, 5);
        devices[0].ino = 4711;
        put_holder(60);
        put("60/maps", "1000-2000 rw-s 00000000 00:05 4711 /x\n");
        play(&s, step_changes);
        assert_int_equal(s.result, 0);
        assert_int_equal(s.list.n, 1);
        h = s.list.items;
        assert_true(h->has_fd && h->maps);
        assert_int_equal(h->mapped.n, 2);
        assert_true(ranges_bytes(&h->mapped) == 0x2000);
        expect_found(&s, 60);
}

/* Short-lived processes are everywhere: they cost two passes more, and no more. */
static void test_strangers(void **state) {
        char path[PATH_MAX];
        Script s;

        put_holder(60);
        path_of(path, "70"); /* always just gone */
        assert_int_equal(mkdir(path, 0755), 0);
        play(&s, step_nothing);
        expect_found(&s, 60);
        assert_int_equal(s.n, 4);
}

/* Each time another one has it. */
static void step_hops(unsigned n, char *state, unsigned *start) {
        *start = n;
}

static void test_never_quiet(void **state) {
        Script s;

        put_holder(60);
        play(&s, step_hops);
        assert_int_equal(s.result, -EAGAIN);
        assert_int_equal(s.list.n, 0);
        assert_int_equal(s.n, PASSES_MAX);
}

/* A new holder starts the count anew. */
static void step_late(unsigned n, char *state, unsigned *start) {
        if (n == 3)
                put_holder(5);
}

static void test_late_among_strangers(void **state) {
        char path[PATH_MAX];
        Script s;

        put_idle(60);
        path_of(path, "70");
        assert_int_equal(mkdir(path, 0755), 0);
        play(&s, step_late);
        expect_found(&s, 5);
        assert_int_equal(s.n, 7);
}

/* Asked for by number, one that is not there is nothing to go by. */
static void test_listed_and_gone(void **state) {
        HolderScan args = tree_scan();
        pid_t pids[] = {60, 70};
        Script s;

        put_holder(60);
        put_holder(61);
        args.pids = pids;
        args.n_pids = ELEMENTSOF(pids);
        play_scan(&s, args, step_nothing);
        expect_found(&s, 60);
        assert_int_equal(s.n, 2);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup_teardown(test_nothing_moves, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_others_end, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_born, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_passed_on_by_a_holder, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_passed_on_by_one_never_seen,
                                                        tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_passed_on_by_a_new_one_that_ends,
                                                        tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_number_reused, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_number_reused_by_a_holder, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_changed_meanwhile, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_strangers, tree_setup, tree_teardown),
                        cmocka_unit_test_setup_teardown(test_late_among_strangers, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_never_quiet, tree_setup,
                                                        tree_teardown),
                        cmocka_unit_test_setup_teardown(test_listed_and_gone, tree_setup,
                                                        tree_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
