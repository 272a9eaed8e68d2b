/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include <fnmatch.h>

#include "quota.h"
#include "refusal.h"

#define SELF 990U

static QuotaAmounts bytes(uint64_t n) {
        return (QuotaAmounts){.of = {[QUOTA_BYTES] = n}};
}

static QuotaAmounts lease(uint64_t n) {
        return (QuotaAmounts){.of = {n, 1, 1}};
}

static Quota *make(const QuotaRules *rules) {
        Quota *q;

        assert_int_equal(quota_new(rules, SELF, &q), 0);
        quota_set_totals(q, &(QuotaAmounts){.of = {1001, 10, 0, 7, 0}});
        return q;
}

static QuotaParty *party(Quota *q, uid_t uid, const char *unit, const char *slice) {
        QuotaParty *p;

        assert_int_equal(quota_party_new(q, uid, unit, slice, &p), 0);
        return p;
}

static uint64_t max_of(Quota *q, QuotaScope scope, uid_t uid, const char *name, QuotaResource i) {
        for (const QuotaAccount *a = quota_next(q, NULL); a; a = quota_next(q, a)) {
                QuotaView v;

                quota_view(a, &v);
                if (v.scope == scope && v.uid == uid && streq(v.name, name))
                        return v.max.of[i];
        }
        fail_msg("no account of %s %u%s", quota_scope_to_string(scope), (unsigned) uid, name);
        return 0;
}

/* Who is limited, and by which rule. */
static void test_limits(void **state) {
        QuotaRule list[] = {
                        {QUOTA_USER, 1000, NULL, {{QUOTA_INFINITY, 0}}},
                        {QUOTA_USER, 0, NULL, {{QUOTA_ABSOLUTE, 5}}},
                        {QUOTA_UNIT, 0, (char *) "*", {{QUOTA_ABSOLUTE, 70}, {QUOTA_ABSOLUTE, 3}}},
                        {QUOTA_UNIT, 0, (char *) "vm-*.service", {{QUOTA_PERCENT, 10}}},
                        {QUOTA_SLICE, 0, (char *) "tenant-a.slice", {{QUOTA_ABSOLUTE, 60}}},
        };
        const QuotaRules rules = {
                        .per_uid = {{QUOTA_PERCENT, 50}, {QUOTA_PERCENT, 25}, {QUOTA_ABSOLUTE, 4}},
                        .rules = list,
                        .n_rules = ELEMENTSOF(list)};
        Quota *q = make(&rules);
        QuotaParty *parties[] = {
                        party(q, 1001, "vm-1.service", "tenant-a-b.slice"),
                        party(q, 1000, "x.service", "system.slice"),
                        party(q, 0, NULL, NULL),
                        party(q, SELF, "", ""),
        };

        /* Rounded up. */
        assert_int_equal(max_of(q, QUOTA_USER, 1001, "", QUOTA_BYTES), 501);
        assert_int_equal(max_of(q, QUOTA_USER, 1001, "", QUOTA_LEASES), 3);
        assert_int_equal(max_of(q, QUOTA_USER, 1001, "", QUOTA_SLICES), 4);
        assert_true(max_of(q, QUOTA_USER, 1001, "", QUOTA_CALLS) == UINT64_MAX);
        assert_true(max_of(q, QUOTA_USER, 1000, "", QUOTA_BYTES) == UINT64_MAX);
        assert_int_equal(max_of(q, QUOTA_USER, 1000, "", QUOTA_LEASES), 3);
        assert_int_equal(max_of(q, QUOTA_USER, 0, "", QUOTA_BYTES), 5);
        assert_true(max_of(q, QUOTA_USER, 0, "", QUOTA_LEASES) == UINT64_MAX);
        assert_true(max_of(q, QUOTA_USER, SELF, "", QUOTA_BYTES) == UINT64_MAX);
        /* The last one that fits and says it. */
        assert_int_equal(max_of(q, QUOTA_UNIT, 0, "vm-1.service", QUOTA_BYTES), 101);
        assert_int_equal(max_of(q, QUOTA_UNIT, 0, "vm-1.service", QUOTA_LEASES), 3);
        assert_int_equal(max_of(q, QUOTA_UNIT, 0, "x.service", QUOTA_BYTES), 70);
        assert_int_equal(max_of(q, QUOTA_SLICE, 0, "tenant-a.slice", QUOTA_BYTES), 60);
        assert_true(max_of(q, QUOTA_SLICE, 0, "tenant-a-b.slice", QUOTA_BYTES) == UINT64_MAX);
        assert_true(max_of(q, QUOTA_SLICE, 0, "tenant.slice", QUOTA_BYTES) == UINT64_MAX);
        /* Percents follow what there is; nothing of much is much. */
        quota_set_totals(q, &(QuotaAmounts){.of = {UINT64_MAX - 1, 0}});
        assert_true(max_of(q, QUOTA_USER, 1001, "", QUOTA_BYTES) == UINT64_MAX / 2);
        assert_int_equal(max_of(q, QUOTA_USER, 1001, "", QUOTA_LEASES), 0);
        for (size_t i = 0; i < ELEMENTSOF(parties); i++)
                quota_party_unref(parties[i]);
        assert_null(quota_next(q, NULL));
        quota_free(q);
}

/* "a-b-c.slice" is in "a-b.slice" is in "a.slice". */
static void test_slices(void **state) {
        static const struct {
                const char *slice, *accounts;
        } table[] = {
                        {"a.slice", "a.slice "},
                        {"a-b-c.slice", "a-b-c.slice a-b.slice a.slice "},
                        {"a\\x2db.slice", "a\\x2db.slice "},
                        {"user-1000.slice", "user-1000.slice user.slice "},
                        {"-.slice", ""},
                        {"", ""},
        };
        const QuotaRules rules = {};
        Quota *q = make(&rules);

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                QuotaParty *p = party(q, 1, "u.service", table[i].slice);
                char names[256] = "";

                for (const QuotaAccount *a = quota_next(q, NULL); a; a = quota_next(q, a)) {
                        QuotaView v;

                        quota_view(a, &v);
                        assert_true(quota_party_has(p, a));
                        if (v.scope == QUOTA_SLICE) {
                                (void) strcat(names, v.name);
                                (void) strcat(names, " ");
                        }
                }
                assert_string_equal(names, table[i].accounts);
                assert_string_equal(quota_party_unit(p), "u.service");
                assert_string_equal(quota_party_slice(p) ?: "",
                                    *table[i].accounts ? table[i].slice : "");
                quota_party_unref(p);
        }
        quota_free(q);
}

/* A refusal names the limit, its value, what is in use, and whose it is. */
static void test_words(void **state) {
        QuotaRule list[] = {
                        {QUOTA_UNIT, 0, (char *) "vm.service", {{QUOTA_ABSOLUTE, 30 * GIB}}},
                        {QUOTA_SLICE, 0, (char *) "a.slice", {{}, {QUOTA_ABSOLUTE, 1}}},
        };
        const QuotaRules rules = {
                        .per_uid = {{QUOTA_ABSOLUTE, 64 * GIB}}, .rules = list, .n_rules = 2};
        Quota *q = make(&rules);
        QuotaParty *p = party(q, 1000, "vm.service", NULL), *s = party(q, 1001, NULL, "a-b.slice"),
                   *plain = party(q, 1000, NULL, NULL);
        QuotaAmounts a = lease(20 * GIB), more = lease(45 * GIB), wait = bytes(1 * GIB);
        EgmError e = EGM_ERROR_NULL;

        assert_int_equal(quota_check(p, &a, &e), 0);
        quota_charge(p, &a);
        assert_int_equal(quota_check(p, &a, &e), -EDQUOT);
        assert_int_equal(e.kind, EGM_ERROR_QUOTA_EXCEEDED);
        assert_message(&e, (const char *[]){"BytesMax of unit vm.service is 30G: 20G in use, "
                                            "20G more asked for",
                                            NULL});
        egm_error_done(&e);
        assert_true(quota_may_ever(p, &a));
        assert_false(quota_may_ever(p, &more));
        assert_int_equal(quota_check(plain, &more, &e), -EDQUOT);
        assert_message(&e,
                       (const char *[]){"BytesMax of uid 1000 is 64G: 20G in use, 45G more", NULL});
        egm_error_done(&e);
        quota_begin_turn(q);
        quota_reserve(plain, &wait);
        more = lease(44 * GIB);
        assert_int_equal(quota_check(plain, &more, &e), -EDQUOT);
        assert_message(&e, (const char *[]){"is 64G: 20G in use, 1G for requests that wait, 44G "
                                            "more asked for",
                                            NULL});
        egm_error_done(&e);
        quota_begin_turn(q);
        assert_int_equal(quota_check(plain, &more, NULL), 0);
        quota_charge(s, &a);
        assert_int_equal(quota_check(s, &a, &e), -EDQUOT);
        assert_message(&e,
                       (const char *[]){"LeasesMax of slice a.slice is 1: 1 in use, 1 more", NULL});
        egm_error_done(&e);
        quota_return(s, &a);
        quota_return(p, &a);
        quota_party_unref(s);
        quota_party_unref(p);
        quota_party_unref(plain);
        quota_free(q);
}

/* What one waits for is kept from his own later requests, and from nobody else's. */
static void test_turns(void **state) {
        QuotaRule rule = {QUOTA_SLICE, 0, (char *) "s.slice", {{QUOTA_ABSOLUTE, 100}}};
        const QuotaRules rules = {.per_uid = {{QUOTA_ABSOLUTE, 50}}, .rules = &rule, .n_rules = 1};
        Quota *q = make(&rules);
        QuotaParty *a = party(q, 1, NULL, "s.slice"), *other = party(q, 1, "x.service", NULL),
                   *b = party(q, 2, NULL, "s.slice");
        QuotaAmounts held = bytes(40), large = bytes(20), small = bytes(5), most = bytes(50);

        quota_charge(a, &held);
        quota_begin_turn(q);
        assert_int_equal(quota_check(a, &large, NULL), -EDQUOT);
        assert_int_equal(quota_check(a, &small, NULL), 0);
        quota_reserve(a, &large);
        assert_int_equal(quota_check(a, &small, NULL), -EDQUOT);
        /* It is the user's, from wherever he asks. */
        assert_int_equal(quota_check(other, &small, NULL), -EDQUOT);
        assert_int_equal(quota_check(b, &most, NULL), 0);
        quota_begin_turn(q);
        assert_int_equal(quota_check(a, &small, NULL), 0);
        /* Reserved is not had, whatever it is. */
        quota_reserve(a, &(QuotaAmounts){.of = {UINT64_MAX}});
        quota_reserve(a, &large);
        assert_int_equal(quota_check(a, &small, NULL), -EDQUOT);
        quota_return(a, &held);
        quota_party_unref(a);
        quota_party_unref(other);
        quota_party_unref(b);
        quota_free(q);
}

/* A limit that was lowered takes nothing back, and what does not touch it goes on. */
static void test_lowered(void **state) {
        const QuotaRules rules = {
                        .per_uid = {{QUOTA_PERCENT, 50}, [QUOTA_CALLS] = {QUOTA_ABSOLUTE, 1}}};
        Quota *q = make(&rules);
        QuotaParty *p = party(q, 1, NULL, NULL);
        QuotaAmounts a = bytes(500), call = {.of = {[QUOTA_CALLS] = 1}}, huge = bytes(UINT64_MAX);

        quota_charge(p, &a);
        quota_set_totals(q, &(QuotaAmounts){.of = {100}});
        assert_int_equal(quota_check(p, &call, NULL), 0);
        assert_int_equal(quota_check(p, &(QuotaAmounts){.of = {1}}, NULL), -EDQUOT);
        assert_int_equal(quota_check(p, &huge, NULL), -EDQUOT);
        quota_return(p, &a);
        assert_int_equal(quota_check(p, &(QuotaAmounts){.of = {50}}, NULL), 0);
        quota_party_unref(p);
        quota_free(q);
}

/* ---- Against an oracle that keeps a list and adds up ---- */

#define BOOKINGS 64
#define UIDS 5
#define UNITS 4
#define SLICES 5

static const char *const units[UNITS] = {NULL, "a.service", "b.service", "vm-1.scope"};
static const char *const slices[SLICES] = {NULL, "t.slice", "t-a.slice", "t-a-x.slice", "u.slice"};

typedef struct Booking {
        QuotaParty *party;
        size_t uid, unit, slice;
        QuotaAmounts a;
} Booking;

typedef struct Oracle {
        QuotaRule rules[12];
        QuotaRules config;
        QuotaAmounts totals;
        Booking list[BOOKINGS];  /* party NULL: none */
        Booking ahead[BOOKINGS]; /* in this turn */
        size_t n_ahead;
} Oracle;

static uint64_t seed;

static uint64_t below(uint64_t n) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (seed >> 33) % n;
}

static QuotaLimit random_limit(void) {
        QuotaLimitKind kind = (QuotaLimitKind) below(4);

        return (QuotaLimit){kind, kind == QUOTA_ABSOLUTE ? below(120) : below(101)};
}

static void random_config(Oracle *o) {
        *o = (Oracle){};
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                o->config.per_uid[i] = random_limit();
                o->totals.of[i] = below(300);
        }
        o->config.rules = o->rules;
        o->config.n_rules = below(ELEMENTSOF(o->rules) + 1);
        for (size_t k = 0; k < o->config.n_rules; k++) {
                static const char *const globs[] = {"*", "t*", "a.service", "t-a*.slice", "[ab].*"};

                o->rules[k] = (QuotaRule){.scope = (QuotaScope) below(_QUOTA_SCOPE_MAX),
                                          .uid = (uid_t) below(UIDS),
                                          .glob = (char *) globs[below(ELEMENTSOF(globs))]};
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                        o->rules[k].limits[i] = random_limit();
        }
}

/* Is inner that slice, or somewhere in it? */
static bool is_in(const char *inner, const char *slice) {
        size_t n = strlen(slice) - strlen(".slice");

        return inner && (streq(inner, slice) || (strncmp(inner, slice, n) == 0 && inner[n] == '-'));
}

static bool touches(const Booking *b, QuotaScope scope, size_t uid, const char *name) {
        if (scope == QUOTA_USER)
                return b->uid == uid;
        if (scope == QUOTA_UNIT)
                return streq_ptr(units[b->unit], name);
        return is_in(slices[b->slice], name);
}

static uint64_t naive_max(const Oracle *o, QuotaScope scope, size_t uid, const char *name, int i) {
        QuotaLimit l = {};

        /* From the last: the first that says something. */
        for (size_t k = o->config.n_rules; k-- > 0 && l.kind == QUOTA_NOT_SET;)
                if (o->rules[k].scope == scope &&
                    (scope == QUOTA_USER ? o->rules[k].uid == uid
                                         : fnmatch(o->rules[k].glob, name, 0) == 0))
                        l = o->rules[k].limits[i];
        if (l.kind == QUOTA_NOT_SET && scope == QUOTA_USER && uid != 0)
                l = o->config.per_uid[i];
        if (l.kind == QUOTA_NOT_SET || l.kind == QUOTA_INFINITY)
                return UINT64_MAX;
        return l.kind == QUOTA_ABSOLUTE ? l.value : (o->totals.of[i] * l.value + 99) / 100;
}

static uint64_t naive_used(const Oracle *o, QuotaScope scope, size_t uid, const char *name, int i) {
        uint64_t sum = 0;

        for (size_t k = 0; k < BOOKINGS; k++)
                if (o->list[k].party && touches(o->list + k, scope, uid, name))
                        sum += o->list[k].a.of[i];
        return sum;
}

static bool naive_fits_one(const Oracle *o, QuotaScope scope, size_t uid, const char *name,
                           const QuotaAmounts *want, bool ever) {
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                uint64_t sum = want->of[i];

                if (sum == 0)
                        continue;
                for (size_t k = 0; k < o->n_ahead && scope == QUOTA_USER && !ever; k++)
                        sum += o->ahead[k].uid == uid ? o->ahead[k].a.of[i] : 0;
                if (!ever)
                        sum += naive_used(o, scope, uid, name, i);
                if (sum > naive_max(o, scope, uid, name, i))
                        return false;
        }
        return true;
}

static bool naive_fits(const Oracle *o, const Booking *b, bool ever) {
        if (!naive_fits_one(o, QUOTA_USER, b->uid, "", &b->a, ever))
                return false;
        if (units[b->unit] && !naive_fits_one(o, QUOTA_UNIT, 0, units[b->unit], &b->a, ever))
                return false;
        for (size_t s = 1; s < SLICES; s++)
                if (is_in(slices[b->slice], slices[s]) &&
                    !naive_fits_one(o, QUOTA_SLICE, 0, slices[s], &b->a, ever))
                        return false;
        return true;
}

static void compare(const Oracle *o, Quota *q) {
        for (const QuotaAccount *a = quota_next(q, NULL); a; a = quota_next(q, a)) {
                bool mine = false;
                QuotaView v;

                quota_view(a, &v);
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                        assert_int_equal(v.used.of[i], naive_used(o, v.scope, v.uid, v.name, i));
                        assert_true(v.max.of[i] == naive_max(o, v.scope, v.uid, v.name, i));
                }
                for (size_t k = 0; k < BOOKINGS; k++)
                        mine = mine ||
                               (o->list[k].party && touches(o->list + k, v.scope, v.uid, v.name));
                for (size_t k = 0; k < o->n_ahead; k++)
                        mine = mine || touches(o->ahead + k, v.scope, v.uid, v.name);
                assert_true(mine); /* none outlives its last booking */
        }
}

static void end_turn(Oracle *o) {
        while (o->n_ahead > 0)
                quota_party_unref(o->ahead[--o->n_ahead].party);
}

static Booking random_booking(Quota *q) {
        Booking b = {.uid = below(UIDS), .unit = below(UNITS), .slice = below(SLICES)};

        b.party = party(q, (uid_t) b.uid, units[b.unit], slices[b.slice]);
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++)
                b.a.of[i] = below(3) == 0 ? 0 : below(60);
        return b;
}

static void test_random(void **state) {
        unsigned n_fit = 0, n_refused = 0, n_ahead = 0;

        for (unsigned round = 0; round < 60; round++) {
                Oracle o;
                Quota *q;

                seed = round;
                random_config(&o);
                assert_int_equal(quota_new(&o.config, UINT32_MAX - 1, &q), 0);
                quota_set_totals(q, &o.totals);
                for (unsigned step = 0; step < 300; step++) {
                        Booking *slot = o.list + below(BOOKINGS), b;

                        if (below(16) == 0) {
                                quota_begin_turn(q);
                                end_turn(&o);
                        }
                        if (below(32) == 0) {
                                o.totals.of[below(_QUOTA_RESOURCE_MAX)] = below(300);
                                quota_set_totals(q, &o.totals);
                        }
                        if (slot->party) {
                                quota_return(slot->party, &slot->a);
                                slot->party = quota_party_unref(slot->party);
                                compare(&o, q);
                                continue;
                        }
                        b = random_booking(q);
                        assert_int_equal(quota_may_ever(b.party, &b.a), naive_fits(&o, &b, true));
                        if (naive_fits(&o, &b, false)) {
                                assert_int_equal(quota_check(b.party, &b.a, NULL), 0);
                                n_fit++;
                        } else {
                                assert_int_equal(quota_check(b.party, &b.a, NULL), -EDQUOT);
                                n_refused++;
                                /* Some wait, and some are there already, as after a restart. */
                                if (below(2) == 0 && o.n_ahead < BOOKINGS) {
                                        quota_reserve(b.party, &b.a);
                                        o.ahead[o.n_ahead++] = b;
                                        n_ahead++;
                                        continue;
                                }
                        }
                        quota_charge(b.party, &b.a);
                        *slot = b;
                        compare(&o, q);
                }
                end_turn(&o);
                for (size_t k = 0; k < BOOKINGS; k++)
                        if (o.list[k].party) {
                                quota_return(o.list[k].party, &o.list[k].a);
                                quota_party_unref(o.list[k].party);
                        }
                assert_null(quota_next(q, NULL));
                quota_free(q);
        }
        assert_true(n_fit > 1000 && n_refused > 1000 && n_ahead > 300);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_limits),  cmocka_unit_test(test_slices),
                        cmocka_unit_test(test_words),   cmocka_unit_test(test_turns),
                        cmocka_unit_test(test_lowered), cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
