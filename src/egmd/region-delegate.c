/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "confine.h"
#include "fd-store.h"
#include "log.h"
#include "manager.h"
#include "records.h"
#include "region-delegate.h"
#include "region-open.h"

static void set_delegated(Region *r) {
        region_set_state(r, REGION_DELEGATED, "handed over by path: a lease has all of it");
}

int region_delegate(Region *r, uid_t uid) {
        int k;

        assert(r);
        assert(r->state == REGION_READY);
        assert(!r->scrubs);

        k = provider_give_node(r->provider, uid, &r->node_owner);
        if (k < 0)
                return k;
        k = provider_step_aside(r->provider);
        if (k < 0) {
                (void) provider_give_node(r->provider, r->node_owner, NULL);
                return k;
        }
        confine_let_region_go(r);
        unstore_region(r);
        /* Where one may have the device open at a time, whom it is handed to would be refused for as long as it is stored. */
        k = fd_store_settle();
        if (k < 0)
                (void) log_warning_errno(k, "%s: the service manager may still have it open: %m",
                                         r->name);
        log_info("%s: its node is uid %u's now", r->name, (unsigned) uid);
        set_delegated(r);
        return 0;
}

int region_delegated_before(Region *r, Provider *p) {
        Ranges none = {};
        int k;

        assert(r);

        k = provider_step_aside(p);
        if (k < 0)
                return k;
        confine_let_region_go(r);
        k = region_set_map(r, p, &none);
        if (k < 0)
                return k;
        set_delegated(r);
        return 0;
}

void region_take_back(Region *r) {
        int k;

        assert(r);

        if (r->state != REGION_DELEGATED)
                return;
        k = provider_give_node(r->provider, r->node_owner, NULL);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to take its node back: %m", r->name);
        confine_shut_region(r);
}

void region_take_over(Region *r) {
        int k;

        assert(r);
        assert(r->state == REGION_DELEGATED);

        provider_close(r->provider);
        r->n_tries = 0;
        k = region_open_start(r, NULL);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to open it again: %m", r->name);
}
