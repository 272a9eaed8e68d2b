/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fd-util.h"
#include "sigbus.h"

#define PAGES 8U

/* PAGES pages of which `bad` (and all behind it) have no file behind them. */
static char *map_with_hole(size_t bad) {
        _cleanup_close_ int fd = memfd_create("test", MFD_CLOEXEC);
        size_t page = (size_t) getpagesize();
        char *p;

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t) (bad * page)), 0);
        p = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(p != MAP_FAILED);
        return p;
}

typedef struct Touch {
        char *at;
        size_t size;
        volatile size_t done;
} Touch;

static void touch(void *userdata) {
        Touch *t = userdata;
        size_t page = (size_t) getpagesize();

        for (size_t i = 0; i < t->size; i += page) {
                *(volatile char *) (t->at + i) = 1;
                t->done = i + page;
        }
}

static void wipe(void *userdata) {
        Touch *t = userdata;

        memset(t->at, 0xff, t->size);
}

static void test_good_memory(void **state) {
        size_t size = PAGES * (size_t) getpagesize();
        Touch t = {map_with_hole(PAGES), size};
        void *at = &t;

        assert_int_equal(sigbus_guard_run(touch, &t, t.at, size, &at), 0);
        assert_ptr_equal(at, &t); /* untouched */
        assert_int_equal(t.done, size);
        munmap(t.at, size);
}

/* Many times over: the mask and the stack are as before after each jump. */
static void test_bad_memory(void **state) {
        size_t page = (size_t) getpagesize(), size = PAGES * page;
        Touch t = {map_with_hole(5), size};
        sigset_t before, after;

        assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
        for (unsigned i = 0; i < 100; i++) {
                void *at = NULL;

                t.done = 0;
                assert_int_equal(sigbus_guard_run(touch, &t, t.at, size, &at), 1);
                assert_ptr_equal(at, t.at + 5 * page);
                assert_int_equal(t.done, 5 * page);

                assert_int_equal(sigbus_guard_run(wipe, &t, t.at, size, &at), 1);
                assert_true((char *) at >= t.at + 5 * page && (char *) at < t.at + size);
                assert_int_equal(sigbus_guard_run(touch, &t, t.at, size, NULL), 1);
        }
        assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
        for (int sig = 1; sig < NSIG; sig++)
                assert_int_equal(sigismember(&before, sig), sigismember(&after, sig));
        munmap(t.at, size);
}

static void *thread(void *userdata) {
        size_t page = (size_t) getpagesize(), bad = *(size_t *) userdata, failed = 0;
        Touch t = {map_with_hole(bad), PAGES * page};

        for (unsigned i = 0; i < 1000; i++) {
                void *at = NULL;
                int r = sigbus_guard_run(touch, &t, t.at, t.size, &at);

                failed += bad == PAGES ? r != 0 : r != 1 || at != t.at + bad * page;
        }
        munmap(t.at, PAGES * page);
        return (void *) failed;
}

static void test_threads(void **state) {
        static size_t bad[] = {0, 3, 7, PAGES};
        pthread_t threads[ELEMENTSOF(bad)];

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(pthread_create(threads + i, NULL, thread, bad + i), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                void *failed = NULL;

                assert_int_equal(pthread_join(threads[i], &failed), 0);
                assert_null(failed);
        }
}

/* A signal as the kernel would make it: only to oneself may one send such a thing. */
static void send_as_kernel(int code, void *address) {
        siginfo_t info = {.si_signo = SIGBUS, .si_code = code};

        info.si_addr = address;
        assert(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS, &info) == 0);
}

static char *fake_range;

static void send_warning(void *userdata) {
        send_as_kernel(BUS_MCEERR_AO, fake_range);
        *(int *) userdata = 1;
}

static void test_warnings_are_survived(void **state) {
        int done = 0;

        fake_range = map_with_hole(1);
        assert_int_equal(sigbus_init(), 0);
        send_as_kernel(BUS_MCEERR_AO, fake_range);
        assert_int_equal(sigbus_guard_run(send_warning, &done, fake_range, 4096, NULL), 0);
        assert_int_equal(done, 1);
        munmap(fake_range, PAGES * (size_t) getpagesize());
}

static void send_nowhere(void *userdata) {
        send_as_kernel(BUS_OBJERR, NULL);
        *(int *) userdata = 1;
}

static void test_unknown_address(void **state) {
        int done = 0;
        void *at = &done;

        fake_range = map_with_hole(1);
        assert_int_equal(sigbus_guard_run(send_nowhere, &done, fake_range, 4096, &at), 1);
        assert_null(at);
        assert_int_equal(done, 0);
        munmap(fake_range, PAGES * (size_t) getpagesize());
}

/* What must kill the process, or go to whoever was there before, is tried in a process of its
 * own. */
static void send_kill(void *userdata) {
        (void) kill(getpid(), SIGBUS);
}

/* What stands where the address would be may look like one of ours. */
static void send_queued(void *userdata) {
        send_as_kernel(SI_QUEUE, fake_range);
}

static void on_previous(int sig, siginfo_t *info, void *context) {
        _exit(info->si_addr == fake_range ? 42 : 43);
}

static int child(const char *how) {
        const struct sigaction action = {.sa_sigaction = on_previous, .sa_flags = SA_SIGINFO};
        const struct rlimit none = {};
        size_t page = (size_t) getpagesize();
        Touch t = {map_with_hole(0), page};
        char *elsewhere = map_with_hole(PAGES);

        (void) setrlimit(RLIMIT_CORE, &none);
        (void) signal(SIGBUS, SIG_DFL);
        fake_range = t.at;
        if (streq(how, "outside"))
                (void) sigbus_guard_run(touch, &t, elsewhere, page, NULL);
        else if (streq(how, "behind")) /* the first byte behind the range */
                (void) sigbus_guard_run(touch, &t, t.at - page, page, NULL);
        else if (streq(how, "after")) {
                (void) sigbus_guard_run(touch, &t, t.at, page, NULL);
                touch(&t);
        } else if (streq(how, "kill"))
                (void) sigbus_guard_run(send_kill, NULL, elsewhere, page, NULL);
        else if (streq(how, "queue"))
                (void) sigbus_guard_run(send_queued, NULL, t.at, page, NULL);
        else if (streq(how, "chain")) {
                (void) sigaction(SIGBUS, &action, NULL);
                if (sigbus_guard_run(touch, &t, t.at, page, NULL) == 1)
                        touch(&t);
        } else if (streq(how, "ignored")) { /* may be ignored when sent, never when it is a fault */
                (void) signal(SIGBUS, SIG_IGN);
                (void) sigbus_init();
                (void) kill(getpid(), SIGBUS);
                touch(&t);
        }
        return 0;
}

static void test_unguarded(void **state) {
        static const char *const how[] = {"outside", "behind",  "after", "kill",
                                          "queue",   "ignored", "chain"};

        for (size_t i = 0; i < ELEMENTSOF(how); i++) {
                pid_t pid = fork();
                int status;

                assert_true(pid >= 0);
                if (pid == 0) {
                        (void) execl("/proc/self/exe", "test-sigbus", how[i], NULL);
                        _exit(127);
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                if (streq(how[i], "chain")) {
                        assert_true(WIFEXITED(status));
                        assert_int_equal(WEXITSTATUS(status), 42);
                } else {
                        assert_true(WIFSIGNALED(status));
                        assert_int_equal(WTERMSIG(status), SIGBUS);
                }
        }
}

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_good_memory),
                        cmocka_unit_test(test_bad_memory),
                        cmocka_unit_test(test_threads),
                        cmocka_unit_test(test_warnings_are_survived),
                        cmocka_unit_test(test_unknown_address),
                        cmocka_unit_test(test_unguarded),
        };

        if (argc > 1)
                return child(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
