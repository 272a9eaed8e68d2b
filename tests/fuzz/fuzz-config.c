/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "config.h"
#include "fuzz.h"

/* Whatever stands in a file: settings stay in their bounds, and warnings can be shown anywhere. */

static void on_warning(const char *message, void *userdata) {
        for (const char *s = message; *s; s++)
                FUZZ_CHECK(*s >= ' ' && *s <= '~');
}

static void check_limits(const QuotaLimit *limits) {
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                FUZZ_CHECK(limits[i].kind <= QUOTA_INFINITY);
                FUZZ_CHECK(limits[i].kind != QUOTA_PERCENT || limits[i].value <= 100);
        }
}

/* What the rules are for: they are matched with names. */
static void check_quota(const QuotaRules *rules) {
        QuotaParty *p;
        Quota *q;

        check_limits(rules->per_uid);
        for (size_t i = 0; i < rules->n_rules; i++) {
                check_limits(rules->rules[i].limits);
                FUZZ_CHECK(*rules->rules[i].glob);
        }
        FUZZ_CHECK(rules->n_rules <= CONFIG_RULES_MAX);
        FUZZ_CHECK(quota_new(rules, 0, &q) >= 0);
        FUZZ_CHECK(quota_party_new(q, 1000, "vm@1.service", "tenant-a.slice", &p) >= 0);
        (void) quota_check(p, &(QuotaAmounts){.of = {1, 1, 1, 1, 1}}, NULL);
        quota_party_unref(p);
        quota_free(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(config_freep) Config *c = NULL;

        if (config_new(&c) < 0)
                return 0;
        if (config_parse(c, (const char *) data, size, "file", on_warning, NULL) < 0)
                return 0;
        FUZZ_CHECK(region_mode_to_string(c->mode));
        FUZZ_CHECK(config_verify_to_string(c->verify));
        FUZZ_CHECK(overreach_action_to_string(c->overreach));
        FUZZ_CHECK(is_pow2(c->default_align) && c->default_align >= 64 * KIB &&
                   c->default_align <= CONFIG_ALIGN_MAX);
        FUZZ_CHECK(c->poll_retired_usec >= USEC_PER_SEC);
        FUZZ_CHECK(c->scrub_threads <= CONFIG_THREADS_MAX);
        FUZZ_CHECK(c->scrub_bandwidth > 0);
        FUZZ_CHECK(c->leases_max > 0 && c->leases_max <= CONFIG_LEASES_MAX);
        FUZZ_CHECK(c->waiting_max <= CONFIG_WAITING_MAX);
        check_quota(&c->quota);
        for (size_t i = 0; i < c->n_scrub_cpus; i++)
                FUZZ_CHECK(c->scrub_cpus[i] <= CONFIG_CPU_MAX &&
                           (i == 0 || c->scrub_cpus[i - 1] < c->scrub_cpus[i]));
        for (size_t i = 0; i < c->n_regions; i++)
                FUZZ_CHECK(region_mode_to_string(config_region_mode(c, c->regions[i].name)));
        return 0;
}
