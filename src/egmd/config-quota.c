/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "config.h"
#include "size.h"

#define NAME_MAX_BYTES 255U
#define PERCENT_MAX 100U

static int parse_percent(const char *value, uint64_t *ret) {
        char number[8] = "";
        size_t n = strlen(value);

        if (n < 2 || n > sizeof(number) || value[n - 1] != '%')
                return -EINVAL;
        memcpy(number, value, n - 1);
        return parse_uint64(number, ret) < 0 || *ret > PERCENT_MAX ? -EINVAL : 0;
}

int config_parse_quota(const char *value, bool bytes, bool may_percent, QuotaLimit *ret) {
        QuotaLimit l = {.kind = QUOTA_INFINITY};

        assert(value);
        assert(ret);

        if (may_percent && parse_percent(value, &l.value) >= 0)
                l.kind = QUOTA_PERCENT;
        else if (!streq(value, "infinity")) {
                l.kind = QUOTA_ABSOLUTE;
                if ((bytes ? parse_size : parse_uint64)(value, &l.value) < 0)
                        return -EINVAL;
        }
        *ret = l;
        return 0;
}

/* Of units and slices: with the type at the end, or a pattern; else it would never fit. */
static bool name_is_valid(QuotaScope scope, const char *name) {
        size_t n = strlen(name);

        for (const char *s = name; *s; s++)
                if (*s <= ' ' || *s > '~')
                        return false;
        if (n == 0 || n > NAME_MAX_BYTES)
                return false;
        return scope == QUOTA_USER || strpbrk(name, ".*?[");
}

int config_add_rule(Config *c, QuotaScope scope, const char *name, size_t *ret) {
        QuotaRules *rules = &c->quota;
        uint64_t uid;
        QuotaRule *t;

        assert(c);
        assert(name);
        assert(ret);

        if (!name_is_valid(scope, name))
                return -EINVAL;
        for (size_t i = 0; i < rules->n_rules; i++)
                if (rules->rules[i].scope == scope && streq(rules->rules[i].glob, name)) {
                        *ret = i;
                        return 0;
                }
        if (rules->n_rules >= CONFIG_RULES_MAX)
                return -E2BIG;
        t = reallocarray(rules->rules, rules->n_rules + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        rules->rules = t;
        t += rules->n_rules;
        *t = (QuotaRule){.scope = scope, .uid = (uid_t) -1, .glob = strdup(name)};
        if (!t->glob)
                return -ENOMEM;
        if (scope == QUOTA_USER && parse_uint64(name, &uid) >= 0 && uid < UINT32_MAX)
                t->uid = (uid_t) uid;
        *ret = rules->n_rules++;
        return 0;
}
