/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <signal.h>
#include <sys/wait.h>

/* The daemon comes and goes. */

#define START_DEADLINE_USEC (60 * USEC_PER_SEC)
#define STOP_DEADLINE_USEC (2 * USEC_PER_SEC)

void walk_start_daemon(Walk *w) {
        bool late[WALK_REGIONS];
        int r;

        for (size_t i = 0; i < WALK_REGIONS; i++)
                late[i] = w->regions[i].late;
        walk_check(w, walk_config_write(w->config_path, late, 0) >= 0);
        r = keeper_start(w->keeper, START_DEADLINE_USEC);
        if (r != 0)
                walk_fail(w, "the daemon did not start: %s",
                          r < 0 ? strerror(-r) : "it ended before it was ready");
        w->may_find = true;
}

void walk_stop_daemon(Walk *w) {
        int status, r;

        walk_check(w, keeper_signal(w->keeper, SIGTERM) >= 0);
        r = keeper_wait(w->keeper, STOP_DEADLINE_USEC, &status);
        if (r < 0)
                walk_fail(w, "the daemon has not left after 2 s: %s", strerror(-r));
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                walk_fail(w, "the daemon left with status %#x", (unsigned) status);
}
