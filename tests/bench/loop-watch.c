/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Preloaded into egmd: how long its event loop is away from epoll, turn by turn. Time in which the thread was ready but
 * the kernel ran somebody else is taken off, and so is time in which the machine under ours ran somebody else: what is measured
 * is the daemon, and not the load. The counters are in a file, $EGM_BENCH_LOOP, for others to map. */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct LoopWatch {
        _Atomic uint64_t turns;
        _Atomic uint64_t longest; /* ns; whoever reads it may set it to 0 */
        _Atomic uint64_t over;    /* turns of more than 10 ms */
        _Atomic uint64_t
                        stolen; /* ns; the most that was taken off a turn for the machine under ours */
} LoopWatch;

#define LIMIT_NSEC 10000000U

static LoopWatch *watch;
static int schedstat = -1;
static uint64_t woken_at, waited_at, ran_at;
static long slept_at;

static uint64_t now(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * 1000000000U + (uint64_t) ts.tv_nsec;
}

/* How long this thread has been ready without running. */
static uint64_t run_delay(void) {
        unsigned long long ran, waited;
        char text[128];
        ssize_t n;

        n = schedstat >= 0 ? pread(schedstat, text, sizeof(text) - 1, 0) : -1;
        if (n <= 0)
                return 0;
        text[n] = '\0';
        return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

/* How often this thread has let go of the CPU by itself. */
static long sleeps(void) {
        struct rusage u;

        return getrusage(RUSAGE_THREAD, &u) < 0 ? -1 : u.ru_nvcsw;
}

__attribute__((constructor)) static void start(void) {
        const char *path = getenv("EGM_BENCH_LOOP");
        char name[64];
        void *p;
        int fd;

        if (!path)
                return;
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(LoopWatch)) < 0)
                return;
        p = mmap(NULL, sizeof(LoopWatch), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void) close(fd);
        if (p == MAP_FAILED)
                return;
        watch = p;
        (void) snprintf(name, sizeof(name), "/proc/self/task/%i/schedstat", getpid());
        schedstat = open(name, O_RDONLY | O_CLOEXEC);
}

/* Only the main thread's loop counts. */
static bool watched(void) {
        return watch && syscall(SYS_gettid) == getpid();
}

static void before_wait(void) {
        uint64_t busy, delay, ran;

        if (woken_at == 0)
                return;
        busy = now(CLOCK_MONOTONIC) - woken_at;
        ran = now(CLOCK_THREAD_CPUTIME_ID) - ran_at;
        delay = run_delay() - waited_at;
        busy -= busy < delay ? busy : delay;
        /* Who neither ran, nor waited to, nor slept, was stopped with all of his CPU. If it slept, all of it counts. */
        if (busy > ran && sleeps() == slept_at) {
                if (busy - ran > atomic_load(&watch->stolen))
                        atomic_store(&watch->stolen, busy - ran);
                busy = ran;
        }
        (void) atomic_fetch_add(&watch->turns, 1);
        if (busy > atomic_load(&watch->longest))
                atomic_store(&watch->longest, busy);
        if (busy > LIMIT_NSEC)
                (void) atomic_fetch_add(&watch->over, 1);
}

static void after_wait(void) {
        waited_at = run_delay();
        slept_at = sleeps();
        ran_at = now(CLOCK_THREAD_CPUTIME_ID);
        woken_at = now(CLOCK_MONOTONIC);
}

int epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout) {
        static int (*next)(int, struct epoll_event *, int, int);
        bool mine = watched();
        int r;

        if (!next)
                next = (int (*)(int, struct epoll_event *, int, int)) dlsym(RTLD_NEXT,
                                                                            "epoll_wait");
        if (mine)
                before_wait();
        r = next(epfd, events, maxevents, timeout);
        if (mine)
                after_wait();
        return r;
}

int epoll_pwait2(int epfd, struct epoll_event *events, int maxevents,
                 const struct timespec *timeout, const sigset_t *ss) {
        static int (*next)(int, struct epoll_event *, int, const struct timespec *,
                           const sigset_t *);
        bool mine = watched();
        int r;

        if (!next)
                next = (int (*)(int, struct epoll_event *, int, const struct timespec *,
                                const sigset_t *)) dlsym(RTLD_NEXT, "epoll_pwait2");
        if (mine)
                before_wait();
        r = next(epfd, events, maxevents, timeout, ss);
        if (mine)
                after_wait();
        return r;
}
