/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "properties.h"

struct quota {
        char *scope;
        uint32_t uid;
        char *name;
        uint64_t bytes_used, bytes_max;
        uint64_t leases_used, leases_max;
        uint64_t slices_used, slices_max;
        uint64_t waiting_used, waiting_max;
        uint64_t calls_used, calls_max;
};

struct egm_quotas {
        unsigned n_ref;
        struct quota *items;
        size_t n;
};

static const Property properties[] = {
                PROPERTY(quota, "Scope", "s", scope),
                PROPERTY(quota, "Uid", "u", uid),
                PROPERTY(quota, "Name", "s", name),
                PROPERTY(quota, "BytesUsed", "t", bytes_used),
                PROPERTY(quota, "BytesMax", "t", bytes_max),
                PROPERTY(quota, "LeasesUsed", "t", leases_used),
                PROPERTY(quota, "LeasesMax", "t", leases_max),
                PROPERTY(quota, "SlicesUsed", "t", slices_used),
                PROPERTY(quota, "SlicesMax", "t", slices_max),
                PROPERTY(quota, "WaitingUsed", "t", waiting_used),
                PROPERTY(quota, "WaitingMax", "t", waiting_max),
                PROPERTY(quota, "CallsUsed", "t", calls_used),
                PROPERTY(quota, "CallsMax", "t", calls_max),
};

static void quotas_free(egm_quotas *q) {
        for (size_t i = 0; i < q->n; i++)
                properties_done(properties, ELEMENTSOF(properties), q->items + i);
        free(q->items);
        free(q);
}

DEFINE_REF_UNREF(egm_quotas, quotas_free)

static int read_quotas(sd_bus_message *m, egm_quotas *q) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "a{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                struct quota *t = reallocarray(q->items, q->n + 1, sizeof(*t));

                if (!t)
                        return -ENOMEM;
                q->items = t;
                t += q->n++;
                /* What the daemon does not limit, it need not tell. */
                *t = (struct quota){.uid = UINT32_MAX,
                                    .bytes_max = UINT64_MAX,
                                    .leases_max = UINT64_MAX,
                                    .slices_max = UINT64_MAX,
                                    .waiting_max = UINT64_MAX,
                                    .calls_max = UINT64_MAX};
                r = properties_read(m, properties, ELEMENTSOF(properties), t);
                if (r < 0)
                        return r;
        }
        return r;
}

_public_ int egm_get_quotas(egm_connection *c, uint32_t uid, egm_quotas **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_egm_(quotas) egm_quotas *q = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!ret)
                return -EINVAL;
        q = calloc(1, sizeof(*q));
        if (!q)
                return -ENOMEM;
        q->n_ref = 1;
        r = connection_new_call(c, EGM_PATH, EGM_MANAGER_INTERFACE, "GetQuotas", &m);
        if (r < 0)
                return r;
        r = uid == UINT32_MAX ? sd_bus_message_append(m, "a{sv}", 0)
                              : sd_bus_message_append(m, "a{sv}", 1, "Uid", "u", uid);
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, &reply);
        if (r < 0)
                return r;
        r = read_quotas(reply, q);
        if (r < 0)
                return bad_message(r);
        *ret = TAKE_PTR(q);
        return 0;
}

_public_ size_t egm_quotas_count(egm_quotas *q) {
        return q ? q->n : 0;
}

_public_ int egm_quotas_get(egm_quotas *q, size_t i, const char **ret_scope, uint32_t *ret_uid,
                            const char **ret_name) {
        if (!q || i >= q->n)
                return -EINVAL;
        if (ret_scope)
                *ret_scope = q->items[i].scope ?: "";
        if (ret_uid)
                *ret_uid = q->items[i].uid;
        if (ret_name)
                *ret_name = q->items[i].name ?: "";
        return 0;
}

_public_ int egm_quotas_get_amount(egm_quotas *q, size_t i, const char *what, uint64_t *ret_used,
                                   uint64_t *ret_max) {
        const struct quota *t;

        if (!q || i >= q->n || !what)
                return -EINVAL;
        t = q->items + i;
        {
                const struct {
                        const char *what;
                        uint64_t used, max;
                } table[] = {
                                {"bytes", t->bytes_used, t->bytes_max},
                                {"leases", t->leases_used, t->leases_max},
                                {"slices", t->slices_used, t->slices_max},
                                {"waiting", t->waiting_used, t->waiting_max},
                                {"calls", t->calls_used, t->calls_max},
                };

                for (size_t k = 0; k < ELEMENTSOF(table); k++) {
                        if (!streq(table[k].what, what))
                                continue;
                        if (ret_used)
                                *ret_used = table[k].used;
                        if (ret_max)
                                *ret_max = table[k].max;
                        return 0;
                }
        }
        return -EINVAL;
}
