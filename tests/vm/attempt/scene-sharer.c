/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "attempt.h"

/* A process that shares the actor's memory and was there before the lease: it may map nothing itself, but what it forks has what
 * the actor maps. */

#define STACK (64 * KIB)
#define FILLERS 4U
#define FILL 2000U /* mappings of each, which take a while to list */
#define INSISTENCE 5U
#define LOW 3U
#define HIGH 32000U

typedef struct Chain {
        atomic_bool go; /* the actor has mapped it */
        atomic_bool begun, over;
        atomic_int worst; /* a Seen that is not SEEN_OWN */
        pid_t pids[2]; /* that take turns, so that one is always behind who counts up and one before */
} Chain;

/* In memory that children have in common, too. */
static Chain *chain;
static void *mapped;

static void chain_new(void) {
        chain = mmap(NULL, sizeof(*chain), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                     0);
        if (chain == MAP_FAILED)
                _exit(EXIT_FAILURE);
        atomic_store(&chain->worst, SEEN_OWN);
}

/* No library in between: it has no idea of whose memory this is. */
static pid_t fork_as(pid_t pid) {
        struct clone_args args = {
                        .exit_signal = SIGCHLD,
                        .set_tid = pid > 0 ? (uintptr_t) &pid : 0,
                        .set_tid_size = pid > 0 ? 1 : 0,
        };

        return (pid_t) syscall(SYS_clone3, &args, sizeof(args));
}

static pid_t fork_next(unsigned turn) {
        pid_t pid;

        do
                pid = fork_as(chain->pids[turn % 2]);
        while (pid < 0 && !atomic_load(&chain->over));
        return pid;
}

/* Each lives no longer than it takes to make its heir. */
static _Noreturn void live_on(void) {
        for (unsigned turn = 0;; turn++) {
                int r = look_at(mapped, PAGE);

                if (r != SEEN_OWN)
                        atomic_store(&chain->worst, r);
                atomic_store(&chain->begun, true);
                if (atomic_load(&chain->over) || fork_next(turn) != 0)
                        syscall(SYS_exit_group, 0);
        }
}

static int share(void *userdata) {
        while (!atomic_load(&chain->go))
                (void) syscall(SYS_sched_yield);
        if (fork_next(1) == 0)
                live_on();
        syscall(SYS_exit, 0);
        return 0;
}

static bool is_free(pid_t pid) {
        return kill(pid, 0) < 0 && errno == ESRCH;
}

/* Who may choose the numbers of what he forks, does. */
static void choose_numbers(void) {
        pid_t pid;

        chain->pids[0] = LOW;
        chain->pids[1] = HIGH;
        for (unsigned i = 0; i < 2; i++)
                while (!is_free(chain->pids[i]))
                        chain->pids[i]++;
        pid = fork_as(chain->pids[0]);
        if (pid == 0)
                _exit(EXIT_SUCCESS);
        if (pid < 0)
                chain->pids[0] = chain->pids[1] = 0;
}

static void fill(void) {
        uint8_t *room = mmap(NULL, FILL * PAGE, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        for (unsigned i = 0; room != MAP_FAILED && i < FILL; i += 2)
                (void) mprotect(room + i * PAGE, PAGE, PROT_READ);
        for (;;)
                (void) pause();
}

static void prepare_sharer(Actor *a) {
        uint8_t *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              0);

        chain_new();
        for (unsigned i = 0; i < FILLERS; i++)
                if (fork() == 0) {
                        /* The stage waits for the last one that has it. */
                        (void) close(a->control);
                        fill();
                }
        /* Those that have gone shall be, and orphans come to us: numbers are free again. */
        (void) signal(SIGCHLD, SIG_IGN);
        if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                _exit(EXIT_FAILURE);
        choose_numbers();
        if (stack == MAP_FAILED || clone(share, stack + STACK, CLONE_VM | SIGCHLD, NULL) < 0)
                _exit(EXIT_FAILURE);
}

static void play_sharer(Actor *a) {
        int r = -ETIMEDOUT;

        mapped = map_own(a);
        atomic_store(&chain->go, true);
        while (!atomic_load(&chain->begun))
                (void) sched_yield();
        (void) munmap(mapped, a->own.size);
        ask_or_die(a, REQUEST_RELEASE, NULL);
        /* Each is some looks, which are as many chances not to be seen. */
        for (unsigned i = 0; i < INSISTENCE && r < 0; i++)
                r = ask(a, REQUEST_LEND_HELD, NULL);
        if (r >= 0)
                for (unsigned i = 0; i < 1000 && atomic_load(&chain->worst) == SEEN_OWN; i++)
                        (void) sched_yield();
        atomic_store(&chain->over, true);
        report(a, "mapping-handed-on-by-sharer", r < 0 ? SEEN_HELD_UP : atomic_load(&chain->worst));
}

const Scene scene_sharer = {.name = "sharer", .prepare = prepare_sharer, .play = play_sharer};
