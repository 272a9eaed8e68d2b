/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>

#include "sigbus.h"

/* ThreadSanitizer calls handlers with all signals blocked, whatever their mask: there the jump has to
 * put the mask back, or the next fault would be the last. */
#ifdef __SANITIZE_THREAD__
#define JUMP_RESTORES_MASK 1
#else
#define JUMP_RESTORES_MASK 0
#endif

typedef struct Guard {
        sigjmp_buf jump;
        uintptr_t start;
        size_t size;
        void *address;
} Guard;

static _Thread_local Guard *volatile current;
static struct sigaction previous;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_unguarded(int sig, siginfo_t *info, void *context) {
        if (previous.sa_flags & SA_SIGINFO) {
                previous.sa_sigaction(sig, info, context);
                return;
        }
        if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
                previous.sa_handler(sig);
                return;
        }
        if (previous.sa_handler == SIG_IGN && info->si_code <= 0)
                return;

        /* A fault comes again as soon as we return, and a core dump then shows where; a signal
         * that was sent does not, so send it on. */
        (void) signal(SIGBUS, SIG_DFL);
        if (info->si_code <= 0)
                (void) raise(SIGBUS);
}

static void on_sigbus(int sig, siginfo_t *info, void *context) {
        Guard *g = current;
        int saved = errno;

        if (info->si_code == BUS_MCEERR_AO)
                return;

        /* si_addr means something only when the kernel raised it (si_code > 0). On arm64 it is
         * NULL for an abort whose address register was not valid. */
        if (g && info->si_code > 0 &&
            (!info->si_addr || (uintptr_t) info->si_addr - g->start < g->size)) {
                g->address = info->si_addr;
                errno = saved;
                siglongjmp(g->jump, 1);
        }
        on_unguarded(sig, info, context);
        errno = saved;
}

static bool is_ours(const struct sigaction *a) {
        return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == on_sigbus;
}

int sigbus_init(void) {
        /* SA_NODEFER: the mask is the same inside the handler, so leaving it by a jump need not
         * restore it. */
        struct sigaction old,
                        action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
        int r = 0;

        /* Looked up each time and not done once: a library that installs its own would cost us
         * the daemon. */
        if (sigaction(SIGBUS, NULL, &old) < 0)
                return -errno;
        if (is_ours(&old))
                return 0;

        (void) sigemptyset(&action.sa_mask);
        (void) pthread_mutex_lock(&install_lock);
        if (sigaction(SIGBUS, NULL, &old) < 0)
                r = -errno;
        else if (!is_ours(&old)) {
                /* Known before ours can run. */
                previous = old;
                if (sigaction(SIGBUS, &action, NULL) < 0)
                        r = -errno;
        }
        (void) pthread_mutex_unlock(&install_lock);
        return r;
}

int sigbus_guard_run_ready(void (*fn)(void *userdata), void *userdata, void *range, size_t size,
                           void **ret_address) {
        Guard g = {.start = (uintptr_t) range, .size = size};

        assert(fn);
        assert(!current);

        if (sigsetjmp(g.jump, JUMP_RESTORES_MASK) != 0) {
                current = NULL;
                if (ret_address)
                        *ret_address = g.address;
                return 1;
        }
        current = &g;
        atomic_signal_fence(memory_order_seq_cst);
        fn(userdata);
        atomic_signal_fence(memory_order_seq_cst);
        current = NULL;
        return 0;
}

int sigbus_guard_run(void (*fn)(void *userdata), void *userdata, void *range, size_t size,
                     void **ret_address) {
        int r;

        r = sigbus_init();
        if (r < 0)
                return r;
        return sigbus_guard_run_ready(fn, userdata, range, size, ret_address);
}
