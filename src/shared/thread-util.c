/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "thread-util.h"

#include <signal.h>

int thread_start(void *(*fn)(void *), void *userdata, pthread_t *ret) {
        sigset_t all, old;
        int r;

        (void) sigfillset(&all);
        (void) sigdelset(&all, SIGBUS);
        (void) sigdelset(&all, SIGSEGV);
        r = -pthread_sigmask(SIG_BLOCK, &all, &old);
        if (r < 0)
                return r;
        r = -pthread_create(ret, NULL, fn, userdata);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        return r;
}
