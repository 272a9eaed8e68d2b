/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bsd/sys/tree.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>

#include "quota.h"
#include "size.h"
#include "string-table.h"

#define NAME_SHOWN_MAX 128

static const char *const quota_resource_table[_QUOTA_RESOURCE_MAX] = {
                [QUOTA_BYTES] = "Bytes",     [QUOTA_LEASES] = "Leases", [QUOTA_SLICES] = "Slices",
                [QUOTA_WAITING] = "Waiting", [QUOTA_CALLS] = "Calls",
};
DEFINE_STRING_TABLE(quota_resource, QuotaResource)

static const char *const quota_scope_table[_QUOTA_SCOPE_MAX] = {
                [QUOTA_USER] = "user",
                [QUOTA_UNIT] = "unit",
                [QUOTA_SLICE] = "slice",
};
DEFINE_STRING_TABLE(quota_scope, QuotaScope)

struct QuotaAccount {
        Quota *quota;
        QuotaScope scope;
        uid_t uid;  /* of a user, else 0 */
        char *name; /* of others, else "" */
        size_t n_ref;
        QuotaLimit limits[_QUOTA_RESOURCE_MAX]; /* none of them not set */
        QuotaAmounts used;
        QuotaAmounts reserved; /* in that turn */
        uint64_t turn;
        RB_ENTRY(QuotaAccount) by_name;
};

typedef RB_HEAD(AccountTree, QuotaAccount) AccountTree;

struct Quota {
        const QuotaRules *rules;
        uid_t self;
        QuotaAmounts totals;
        AccountTree accounts;
        uint64_t turn;
};

struct QuotaParty {
        size_t n_ref;
        uid_t uid;
        const QuotaAccount *unit, *slice; /* borrowed from accounts, or NULL */
        size_t n;
        QuotaAccount *accounts[]; /* the user's first */
};

static int account_compare(const QuotaAccount *a, const QuotaAccount *b) {
        if (a->scope != b->scope)
                return a->scope < b->scope ? -1 : 1;
        if (a->uid != b->uid)
                return a->uid < b->uid ? -1 : 1;
        return strcmp(a->name, b->name);
}

RB_PROTOTYPE(AccountTree, QuotaAccount, by_name, account_compare)
RB_GENERATE(AccountTree, QuotaAccount, by_name, account_compare)

int quota_new(const QuotaRules *rules, uid_t self, Quota **ret) {
        Quota *q;

        assert(rules);
        assert(ret);

        q = malloc(sizeof(*q));
        if (!q)
                return -ENOMEM;
        *q = (Quota){.rules = rules, .self = self};
        RB_INIT(&q->accounts);
        *ret = q;
        return 0;
}

Quota *quota_free(Quota *q) {
        assert(!q || RB_EMPTY(&q->accounts));
        return mfree(q);
}

void quota_set_totals(Quota *q, const QuotaAmounts *totals) {
        assert(q);
        assert(totals);

        q->totals = *totals;
}

/* ---- Limits ---- */

static bool rule_fits(const QuotaRule *rule, const QuotaAccount *a) {
        if (rule->scope != a->scope)
                return false;
        return a->scope == QUOTA_USER ? rule->uid == a->uid
                                      : fnmatch(rule->glob, a->name, FNM_NOESCAPE) == 0;
}

static void find_limits(QuotaAccount *a) {
        const QuotaRules *rules = a->quota->rules;
        bool limited = a->scope == QUOTA_USER && a->uid != 0 && a->uid != a->quota->self;

        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                a->limits[i] = (QuotaLimit){.kind = QUOTA_INFINITY};
                if (limited && rules->per_uid[i].kind != QUOTA_NOT_SET)
                        a->limits[i] = rules->per_uid[i];
                for (size_t k = 0; k < rules->n_rules; k++)
                        if (rules->rules[k].limits[i].kind != QUOTA_NOT_SET &&
                            rule_fits(rules->rules + k, a))
                                a->limits[i] = rules->rules[k].limits[i];
        }
}

static uint64_t limit_of(const QuotaAccount *a, QuotaResource i) {
        const QuotaLimit *l = a->limits + i;
        uint64_t total = a->quota->totals.of[i], whole, rest;

        if (l->kind == QUOTA_INFINITY)
                return UINT64_MAX;
        if (l->kind == QUOTA_ABSOLUTE)
                return l->value;
        assert(l->kind == QUOTA_PERCENT);
        assert(l->value <= 100);
        whole = total / 100 * l->value;
        rest = total % 100 * l->value;
        return whole + (rest + 99) / 100;
}

/* ---- Accounts ---- */

static int account_get(Quota *q, QuotaScope scope, uid_t uid, const char *name, size_t length,
                       QuotaAccount **ret) {
        _cleanup_free_ char *copy = strndup(name, length);
        QuotaAccount *a, key = {.scope = scope, .uid = uid, .name = copy};

        if (!copy)
                return -ENOMEM;
        a = RB_FIND(AccountTree, &q->accounts, &key);
        if (!a) {
                a = malloc(sizeof(*a));
                if (!a)
                        return -ENOMEM;
                *a = (QuotaAccount){.quota = q, .scope = scope, .uid = uid, .name = TAKE_PTR(copy)};
                find_limits(a);
                RB_INSERT(AccountTree, &q->accounts, a);
        }
        a->n_ref++;
        *ret = a;
        return 0;
}

static void account_unref(QuotaAccount *a) {
        assert(a->n_ref > 0);

        if (--a->n_ref > 0)
                return;
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                assert(a->used.of[i] == 0);
        RB_REMOVE(AccountTree, &a->quota->accounts, a);
        free(a->name);
        free(a);
}

/* ---- Parties ---- */

/* "a-b.slice" is in "a.slice": 2 of them. */
static size_t count_slices(const char *slice) {
        size_t n = 1;

        if (!slice)
                return 0;
        for (const char *s = strchr(slice, '-'); s; s = strchr(s + 1, '-'))
                if (s > slice && s[1] != '\0')
                        n++;
        return n;
}

static int add_account(Quota *q, QuotaParty *p, QuotaScope scope, const char *name, size_t length) {
        int r = account_get(q, scope, 0, name, length, p->accounts + p->n);

        if (r >= 0)
                p->n++;
        return r;
}

/* From the outermost in. */
static int add_slices(Quota *q, QuotaParty *p, const char *slice) {
        int r;

        for (const char *s = strchr(slice, '-'); s; s = strchr(s + 1, '-')) {
                char outer[NAME_MAX + 1];

                if (s == slice || s[1] == '\0')
                        continue;
                (void) snprintf(outer, sizeof(outer), "%.*s.slice", (int) (s - slice), slice);
                r = add_account(q, p, QUOTA_SLICE, outer, strlen(outer));
                if (r < 0)
                        return r;
        }
        r = add_account(q, p, QUOTA_SLICE, slice, strlen(slice));
        if (r >= 0)
                p->slice = p->accounts[p->n - 1];
        return r;
}

int quota_party_new(Quota *q, uid_t uid, const char *unit, const char *slice, QuotaParty **ret) {
        _cleanup_(quota_party_unrefp) QuotaParty *p = NULL;
        int r;

        assert(q);
        assert(ret);

        unit = unit && *unit ? unit : NULL;
        /* The one around all is the host; "-" is a name that nests nothing. */
        slice = slice && *slice && *slice != '-' && strlen(slice) <= NAME_MAX ? slice : NULL;
        p = calloc(1, sizeof(*p) + (2 + count_slices(slice)) * sizeof(*p->accounts));
        if (!p)
                return -ENOMEM;
        p->n_ref = 1;
        p->uid = uid;
        r = account_get(q, QUOTA_USER, uid, "", 0, p->accounts);
        if (r < 0)
                return r;
        p->n = 1;
        if (unit) {
                r = add_account(q, p, QUOTA_UNIT, unit, strlen(unit));
                if (r < 0)
                        return r;
                p->unit = p->accounts[p->n - 1];
        }
        if (slice) {
                r = add_slices(q, p, slice);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(p);
        return 0;
}

QuotaParty *quota_party_ref(QuotaParty *p) {
        if (p)
                p->n_ref++;
        return p;
}

QuotaParty *quota_party_unref(QuotaParty *p) {
        if (!p)
                return NULL;
        assert(p->n_ref > 0);
        if (--p->n_ref > 0)
                return NULL;
        for (size_t i = 0; i < p->n; i++)
                account_unref(p->accounts[i]);
        return mfree(p);
}

uid_t quota_party_uid(const QuotaParty *p) {
        assert(p);
        return p->uid;
}

const char *quota_party_unit(const QuotaParty *p) {
        assert(p);
        return p->unit ? p->unit->name : NULL;
}

const char *quota_party_slice(const QuotaParty *p) {
        assert(p);
        return p->slice ? p->slice->name : NULL;
}

/* ---- Booking ---- */

void quota_charge(QuotaParty *p, const QuotaAmounts *a) {
        assert(p);
        assert(a);

        for (size_t k = 0; k < p->n; k++)
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                        uint64_t *used = p->accounts[k]->used.of + i;
                        bool over = __builtin_add_overflow(*used, a->of[i], used);

                        /* More than all memory there can be. */
                        assert(!over);
                }
}

void quota_return(QuotaParty *p, const QuotaAmounts *a) {
        assert(p);
        assert(a);

        for (size_t k = 0; k < p->n; k++)
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                        uint64_t *used = p->accounts[k]->used.of + i;

                        assert(*used >= a->of[i]);
                        *used -= a->of[i];
                }
}

static uint64_t reserved_of(const QuotaAccount *a, QuotaResource i) {
        return a->turn == a->quota->turn ? a->reserved.of[i] : 0;
}

static bool has_room(const QuotaAccount *a, QuotaResource i, uint64_t want) {
        uint64_t sum;

        return !__builtin_add_overflow(a->used.of[i], reserved_of(a, i), &sum) &&
               !__builtin_add_overflow(sum, want, &sum) && sum <= limit_of(a, i);
}

#define AMOUNT_MAX 32

static const char *format_amount(char buf[static AMOUNT_MAX], QuotaResource i, uint64_t v) {
        _Static_assert(AMOUNT_MAX >= FORMAT_SIZE_MAX, "sizes fit");

        if (i == QUOTA_BYTES)
                return format_size(buf, v);
        (void) snprintf(buf, AMOUNT_MAX, "%" PRIu64, v);
        return buf;
}

static int refuse(const QuotaAccount *a, QuotaResource i, uint64_t want, EgmError *reterr) {
        char whose[NAME_SHOWN_MAX + 16], limit[AMOUNT_MAX], used[AMOUNT_MAX], more[AMOUNT_MAX],
                        ahead[AMOUNT_MAX];
        uint64_t reserved = reserved_of(a, i);

        if (a->scope == QUOTA_USER)
                (void) snprintf(whose, sizeof(whose), "uid %u", (unsigned) a->uid);
        else
                (void) snprintf(whose, sizeof(whose), "%s %.*s", quota_scope_to_string(a->scope),
                                NAME_SHOWN_MAX, a->name);
        return egm_error_set(reterr, EGM_ERROR_QUOTA_EXCEEDED,
                             "%sMax of %s is %s: %s in use%s%s%s, %s more asked for",
                             quota_resource_to_string(i), whose,
                             format_amount(limit, i, limit_of(a, i)),
                             format_amount(used, i, a->used.of[i]), reserved > 0 ? ", " : "",
                             reserved > 0 ? format_amount(ahead, i, reserved) : "",
                             reserved > 0 ? " for requests that wait" : "",
                             format_amount(more, i, want));
}

int quota_check(const QuotaParty *p, const QuotaAmounts *want, EgmError *reterr) {
        assert(p);
        assert(want);

        for (size_t k = 0; k < p->n; k++)
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                        /* Who asks for nothing more may have too much already: a limit that was lowered. */
                        if (want->of[i] > 0 && !has_room(p->accounts[k], i, want->of[i]))
                                return refuse(p->accounts[k], i, want->of[i], reterr);
        return 0;
}

bool quota_may_ever(const QuotaParty *p, const QuotaAmounts *want) {
        assert(p);
        assert(want);

        for (size_t k = 0; k < p->n; k++)
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                        if (want->of[i] > limit_of(p->accounts[k], i))
                                return false;
        return true;
}

void quota_begin_turn(Quota *q) {
        assert(q);
        q->turn++;
}

void quota_reserve(QuotaParty *p, const QuotaAmounts *want) {
        QuotaAccount *a;

        assert(p);
        assert(want);

        a = p->accounts[0];
        if (a->turn != a->quota->turn)
                a->reserved = (QuotaAmounts){};
        a->turn = a->quota->turn;
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                if (__builtin_add_overflow(a->reserved.of[i], want->of[i], a->reserved.of + i))
                        a->reserved.of[i] = UINT64_MAX;
}

/* ---- Looking ---- */

const QuotaAccount *quota_next(const Quota *q, const QuotaAccount *a) {
        assert(q);

        return a ? RB_NEXT(AccountTree, &q->accounts, (QuotaAccount *) a)
                 : RB_MIN(AccountTree, (AccountTree *) &q->accounts);
}

void quota_view(const QuotaAccount *a, QuotaView *ret) {
        assert(a);
        assert(ret);

        *ret = (QuotaView){.scope = a->scope, .uid = a->uid, .name = a->name, .used = a->used};
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                ret->max.of[i] = limit_of(a, i);
}

bool quota_party_has(const QuotaParty *p, const QuotaAccount *a) {
        assert(p);

        for (size_t k = 0; k < p->n; k++)
                if (p->accounts[k] == a)
                        return true;
        return false;
}
