/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Preloaded into egmd: how long its event loop is away from epoll, turn by turn. Time in which the thread was ready but
 * the kernel ran somebody else is taken off: what is measured is the daemon, and not the machine's load. The counters
 * are in a file, $EGM_BENCH_LOOP, for others to map. */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef struct LoopWatch {
        _Atomic uint64_t turns;
        _Atomic uint64_t longest; /* ns; whoever reads it may set it to 0 */
        _Atomic uint64_t over;    /* turns of more than 10 ms */
} LoopWatch;

#define LIMIT_NSEC 10000000U

static LoopWatch *watch;
static int schedstat = -1;
static uint64_t woken_at, waited_at;

static uint64_t now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
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
        uint64_t busy, delay;

        if (woken_at == 0)
                return;
        busy = now() - woken_at;
        delay = run_delay() - waited_at;
        busy -= busy < delay ? busy : delay;
        (void) atomic_fetch_add(&watch->turns, 1);
        if (busy > atomic_load(&watch->longest))
                atomic_store(&watch->longest, busy);
        if (busy > LIMIT_NSEC)
                (void) atomic_fetch_add(&watch->over, 1);
}

static void after_wait(void) {
        waited_at = run_delay();
        woken_at = now();
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
