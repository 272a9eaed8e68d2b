/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "accounts.h"
#include "bus-internal.h"

/* GetQuotas: what the caller may have and has, root: what everybody does. */

static int append_quota(sd_bus_message *reply, const QuotaAccount *a) {
        QuotaView v;
        int r;

        quota_view(a, &v);
        r = sd_bus_message_open_container(reply, 'a', "{sv}");
        if (r < 0)
                return r;
        r = sd_bus_message_append(reply, "{sv}", "Scope", "s", quota_scope_to_string(v.scope));
        if (r < 0)
                return r;
        r = v.scope == QUOTA_USER
                            ? sd_bus_message_append(reply, "{sv}", "Uid", "u", (uint32_t) v.uid)
                            : sd_bus_message_append(reply, "{sv}", "Name", "s", v.name);
        for (int i = 0; i < _QUOTA_RESOURCE_MAX && r >= 0; i++) {
                const char *what = quota_resource_to_string(i);
                char used[32], max[32];

                (void) snprintf(used, sizeof(used), "%sUsed", what);
                (void) snprintf(max, sizeof(max), "%sMax", what);
                r = sd_bus_message_append(reply, "{sv}", used, "t", v.used.of[i]);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "{sv}", max, "t", v.max.of[i]);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* Of one user, or all that the caller may see. */
static int append_quotas(sd_bus_message *reply, Manager *m, const Peer *peer, uid_t uid) {
        const Quota *q = accounts_quota(m);
        int r;

        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        if (r < 0)
                return r;
        for (const QuotaAccount *a = quota_next(q, NULL); a; a = quota_next(q, a)) {
                QuotaView v;

                quota_view(a, &v);
                if (uid != (uid_t) -1 ? v.scope != QUOTA_USER || v.uid != uid
                                      : !bus_peer_is_root(peer) && !quota_party_has(peer->party, a))
                        continue;
                r = append_quota(reply, a);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(reply);
}

int bus_method_get_quotas(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(quota_party_unrefp) QuotaParty *party = NULL;
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Bus *b = userdata;
        Peer *peer;
        uid_t uid;
        int r;

        r = bus_peer_get(b, m, &peer, reterr);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_quotas(m, &uid, &e);
        if (r < 0)
                return bus_refuse(reterr, r, &e);
        if (uid != (uid_t) -1 && uid != peer->uid && !bus_peer_is_root(peer))
                return sd_bus_error_setf(reterr, SD_BUS_ERROR_ACCESS_DENIED,
                                         "Uid: uid %u may see its own quota only, and not uid %u's",
                                         (unsigned) peer->uid, (unsigned) uid);
        if (uid != (uid_t) -1) {
                /* There is an account of somebody who has nothing as well. */
                r = quota_party_new(b->manager->quota, uid, NULL, NULL, &party);
                if (r < 0)
                        return r;
        }
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_quotas(reply, b->manager, peer, uid);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}
