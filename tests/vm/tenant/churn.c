/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "memory.h"
#include "size.h"

/* One tenant after the other, while egmd comes and goes:
 *
 *     egm-churn LABEL REGION SIZE      until it is told to end on standard input
 *
 * Each insists that all of its memory is zero, fills it, and leaves: by closing all, or by Release, after which nobody may
 * touch the bytes for as long as they are mapped. Prints "zero TENANTS", and before it how often what was refused; or
 * "wrong: ..." and fails. */

#define ERRNOS 4096

typedef struct Churn {
        egm_connection *connection;
        egm_watch *watch;
        uint64_t tenants;
        unsigned refused[ERRNOS];
} Churn;

static void churn_done(Churn *c) {
        egm_watch_unref(c->watch);
        egm_connection_unref(c->connection);
}

/* They are there to wake us. */
static void on_event(egm_connection *c, egm_event *e, void *userdata) {
}

/* Nothing may be granted while egmd is away or comes back. What no restart excuses is an error. */
static int wait_after(Churn *c, int r) {
        if (r == -EINVAL || r == -EACCES || r == -EPERM || r == -EBADMSG || r == -ENOMEM ||
            -r >= ERRNOS) {
                const char *message = egm_connection_get_error_message(c->connection);

                printf("wrong: refused: %s: %s\n", strerror(-r), message ?: "");
                return r;
        }
        c->refused[-r]++;
        r = egm_connection_wait(c->connection, USEC_PER_SEC);
        return r < 0 ? r : egm_connection_dispatch(c->connection);
}

static int live(Churn *c, egm_lease *lease, const char *label) {
        _cleanup_(memory_unmap) Memory m = {};
        int r;

        /* Where leases are enforced egmd has to let us in first, and may be away by then. */
        r = memory_map(&m, lease, label);
        if (r < 0)
                return wait_after(c, r);
        r = memory_check_zero(&m);
        if (r >= 0)
                r = memory_fill(&m);
        if (r < 0)
                return r;
        if (c->tenants++ % 2 == 0)
                return 0;
        /* If egmd is not there, the descriptors are closed in any case. */
        (void) egm_lease_release(lease);
        return memory_check_pattern(&m);
}

static int run(Churn *c, const char *label, const char *region, uint64_t size) {
        int r;

        r = be_humble();
        if (r >= 0)
                r = signals_expect_none();
        if (r >= 0)
                r = egm_connection_new(NULL, &c->connection);
        if (r >= 0)
                r = egm_watch_new(c->connection, on_event, NULL, &c->watch);
        while (r >= 0 && !told_to_end(0)) {
                _cleanup_(egm_lease_unrefp) egm_lease *lease = NULL;

                r = acquire_slice(c->connection, label, region, size, false, &lease);
                r = r < 0 ? wait_after(c, r) : live(c, lease, label);
                if (r >= 0)
                        r = signals_check();
        }
        return r;
}

int main(int argc, char *argv[]) {
        _cleanup_(churn_done) Churn c = {};
        uint64_t size;
        int r;

        if (argc != 4 || parse_size(argv[3], &size) < 0) {
                fprintf(stderr, "Usage: egm-churn LABEL REGION SIZE\n");
                return 2;
        }
        r = run(&c, argv[1], argv[2], size);
        for (int i = 0; i < ERRNOS; i++)
                if (c.refused[i] > 0)
                        printf("refused %u times: %s\n", c.refused[i], strerrorname_np(i) ?: "?");
        if (r < 0) {
                printf("wrong: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        printf("zero %" PRIu64 "\n", c.tenants);
        return EXIT_SUCCESS;
}
