/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "egm-error.h"
#include "macro.h"

/* What users, systemd units and slices may have at once, and what they have. Pure: amounts come in, refusals come out; who
 * has what, and when it is over, is the manager's to know. Everything is found by name in trees, and nothing is walked. */

typedef enum QuotaResource {
        QUOTA_BYTES,   /* of leases, until the last of them can be lent again */
        QUOTA_LEASES,  /* until they are gone */
        QUOTA_SLICES,  /* of leases, as their bytes */
        QUOTA_WAITING, /* requests in the queue */
        QUOTA_CALLS,   /* that are not answered yet */
        _QUOTA_RESOURCE_MAX,
        _QUOTA_RESOURCE_INVALID = -EINVAL,
} QuotaResource;

/* As settings name them, in front of "Max": "Bytes", "Leases"... */
const char *quota_resource_to_string(QuotaResource r);
QuotaResource quota_resource_from_string(const char *s);

typedef enum QuotaScope {
        QUOTA_USER,
        QUOTA_UNIT,
        QUOTA_SLICE,
        _QUOTA_SCOPE_MAX,
        _QUOTA_SCOPE_INVALID = -EINVAL,
} QuotaScope;

const char *quota_scope_to_string(QuotaScope s);
QuotaScope quota_scope_from_string(const char *s);

typedef struct QuotaAmounts {
        uint64_t of[_QUOTA_RESOURCE_MAX];
} QuotaAmounts;

/* ---- Rules ---- */

typedef enum QuotaLimitKind {
        QUOTA_NOT_SET, /* here; another rule may */
        QUOTA_ABSOLUTE,
        QUOTA_PERCENT, /* of what the host has, rounded up */
        QUOTA_INFINITY,
} QuotaLimitKind;

typedef struct QuotaLimit {
        QuotaLimitKind kind;
        uint64_t value;
} QuotaLimit;

/* For one user, or all units or slices whose name fits. */
typedef struct QuotaRule {
        QuotaScope scope;
        uid_t uid;
        char *glob;
        QuotaLimit limits[_QUOTA_RESOURCE_MAX];
} QuotaRule;

/* Of the rules that fit and set a limit, the last counts. Where none does, a user has what users have, except that root and
 * who we run as are not limited; units and slices are not either. */
typedef struct QuotaRules {
        QuotaLimit per_uid[_QUOTA_RESOURCE_MAX];
        QuotaRule *rules;
        size_t n_rules;
} QuotaRules;

/* ---- Accounts ---- */

typedef struct Quota Quota;
typedef struct QuotaAccount QuotaAccount;
/* On whose accounts something goes: a user's, a unit's, and those of the slice that it is in and of all around that. */
typedef struct QuotaParty QuotaParty;

/* rules must live as long. self: not limited, like root. */
int quota_new(const QuotaRules *rules, uid_t self, Quota **ret);
/* All parties must be gone. */
Quota *quota_free(Quota *q);
DEFINE_TRIVIAL_CLEANUP_FUNC(Quota *, quota_free)

/* What percents are of. */
void quota_set_totals(Quota *q, const QuotaAmounts *totals);

/* unit, slice: may be NULL or "". */
int quota_party_new(Quota *q, uid_t uid, const char *unit, const char *slice, QuotaParty **ret);
QuotaParty *quota_party_ref(QuotaParty *p);
QuotaParty *quota_party_unref(QuotaParty *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(QuotaParty *, quota_party_unref)
uid_t quota_party_uid(const QuotaParty *p);
const char *quota_party_unit(const QuotaParty *p);  /* NULL: in none */
const char *quota_party_slice(const QuotaParty *p); /* NULL: in none; the innermost */

/* Books it, whatever the limits; and takes it off again. */
void quota_charge(QuotaParty *p, const QuotaAmounts *a);
void quota_return(QuotaParty *p, const QuotaAmounts *a);

/* May it be booked, too? -EDQUOT, and a sentence that names the limit, its value, what is in use and whose it is. */
int quota_check(const QuotaParty *p, const QuotaAmounts *want, EgmError *reterr);
/* Could it ever, with nothing else booked? */
bool quota_may_ever(const QuotaParty *p, const QuotaAmounts *want);

/* What a user waits for is not for his later requests, as long as the turn lasts that is begun here: one walk along the
 * queue. Other users of the same unit or slice need not wait for his turn. */
void quota_begin_turn(Quota *q);
void quota_reserve(QuotaParty *p, const QuotaAmounts *want);

/* ---- Looking ---- */

typedef struct QuotaView {
        QuotaScope scope;
        uid_t uid;        /* of a user */
        const char *name; /* of a unit or slice */
        QuotaAmounts used;
        QuotaAmounts max; /* UINT64_MAX: not limited */
} QuotaView;

/* All accounts: users by uid, then units and slices by name. NULL: the first; NULL at the end. */
const QuotaAccount *quota_next(const Quota *q, const QuotaAccount *a);
void quota_view(const QuotaAccount *a, QuotaView *ret);
bool quota_party_has(const QuotaParty *p, const QuotaAccount *a);
