/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <pwd.h>

#include "describe.h"
#include "egmctl.h"
#include "size.h"
#include "text-table.h"

/* status --quota: who may have what, and has it. */

static const char *const amounts[] = {"bytes", "leases", "slices", "waiting", "calls"};

/* A user by his name, if he has one. */
static const char *owner_name(char buf[static 16], const char *scope, uint32_t uid,
                              const char *name) {
        const struct passwd *user;

        if (!streq(scope, "user"))
                return name;
        user = getpwuid(uid);
        if (user)
                return user->pw_name;
        (void) snprintf(buf, 16, "%" PRIu32, uid);
        return buf;
}

static int add_amount(TextTable *t, const char *what, uint64_t amount) {
        if (amount == UINT64_MAX)
                return text_table_add(t, "%s", "infinity");
        return streq(what, "bytes") ? text_table_add(t, "%s", FORMAT_SIZE(amount))
                                    : text_table_add(t, "%" PRIu64, amount);
}

static int add_quota(TextTable *t, egm_quotas *q, size_t i) {
        const char *scope, *name;
        uint64_t used, max;
        char buf[16];
        uint32_t uid;
        int r = 0;

        if (egm_quotas_get(q, i, &scope, &uid, &name) < 0)
                return 0;
        name = owner_name(buf, scope, uid, name);
        for (size_t k = 0; k < ELEMENTSOF(amounts) && r >= 0; k++) {
                (void) egm_quotas_get_amount(q, i, amounts[k], &used, &max);
                if (text_table_add(t, "%s", scope) < 0 || text_table_add(t, "%s", name) < 0 ||
                    text_table_add(t, "%s", amounts[k]) < 0 || add_amount(t, amounts[k], used) < 0)
                        return -ENOMEM;
                r = add_amount(t, amounts[k], max);
        }
        return r;
}

static int print_quotas(egm_quotas *q, bool legend) {
        static const TextColumn columns[] = {
                        {"SCOPE", false}, {"NAME", false}, {"WHAT", false},
                        {"USED", true},   {"MAX", true},
        };
        _cleanup_(text_table_freep) TextTable *t = NULL;
        int r;

        r = text_table_new(columns, ELEMENTSOF(columns), &t);
        for (size_t i = 0; r >= 0 && i < egm_quotas_count(q); i++)
                r = add_quota(t, q, i);
        if (r < 0)
                return r;
        text_table_print(t, stdout, legend);
        return 0;
}

static json_object *amount_to_json(uint64_t used, uint64_t max) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (json_add(o, "used", json_object_new_uint64(used)) < 0)
                return NULL;
        /* null: not limited. */
        if (max == UINT64_MAX ? json_object_object_add(o, "max", NULL) < 0
                              : json_add(o, "max", json_object_new_uint64(max)) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static json_object *quota_to_json(egm_quotas *q, size_t i) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *scope, *name;
        uint64_t used, max;
        char buf[16];
        uint32_t uid;

        (void) egm_quotas_get(q, i, &scope, &uid, &name);
        if (json_add(o, "scope", json_object_new_string(scope)) < 0 ||
            json_add(o, "name", json_object_new_string(owner_name(buf, scope, uid, name))) < 0 ||
            (streq(scope, "user") && json_add(o, "uid", json_object_new_uint64(uid)) < 0))
                return NULL;
        for (size_t k = 0; k < ELEMENTSOF(amounts); k++) {
                (void) egm_quotas_get_amount(q, i, amounts[k], &used, &max);
                if (json_add(o, amounts[k], amount_to_json(used, max)) < 0)
                        return NULL;
        }
        return TAKE_PTR(o);
}

static json_object *quotas_to_json(egm_quotas *q) {
        _cleanup_json_ json_object *a = json_object_new_array();

        for (size_t i = 0; i < egm_quotas_count(q); i++)
                if (json_append(a, quota_to_json(q, i)) < 0)
                        return NULL;
        return TAKE_PTR(a);
}

int show_quotas(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(quotas) egm_quotas *q = NULL;
        uint64_t uid = UINT32_MAX;
        int r;

        if (n_args > 1) {
                complain("'status --quota' takes one user, not '%s' as well", args[1]);
                return STATUS_USAGE;
        }
        if (n_args == 1) {
                const struct passwd *user = getpwnam(args[0]);

                if (!user && (parse_uint64(args[0], &uid) < 0 || uid >= UINT32_MAX)) {
                        complain("'%s' is neither a user's name nor a uid", args[0]);
                        return STATUS_USAGE;
                }
                if (user)
                        uid = user->pw_uid;
        }
        r = connect_bus(o, &c);
        if (r != 0)
                return r;
        r = egm_get_quotas(c, (uint32_t) uid, &q);
        if (r < 0)
                return complain_call(c, r, "Failed to show quotas");
        r = o->json != JSON_OFF ? print_json(quotas_to_json(q), o->json)
                                : print_quotas(q, !o->no_legend);
        return r < 0 ? complain_oom() : STATUS_OK;
}
