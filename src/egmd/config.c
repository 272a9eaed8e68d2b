/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "config.h"
#include "placement.h"
#include "string-table.h"

static const char *const region_mode_table[_REGION_MODE_MAX] = {
                [REGION_MODE_AUTO] = "auto",
                [REGION_MODE_SHARED] = "shared",
                [REGION_MODE_WHOLE] = "whole",
                [REGION_MODE_OBSERVE] = "observe",
};
DEFINE_STRING_TABLE(region_mode, RegionMode)

static const char *const config_verify_table[_CONFIG_VERIFY_MAX] = {
                [CONFIG_VERIFY_SAMPLE] = "sample",
                [CONFIG_VERIFY_WHOLE] = "whole",
                [CONFIG_VERIFY_OFF] = "off",
};
DEFINE_STRING_TABLE(config_verify, ConfigVerify)

static const char *const overreach_action_table[_OVERREACH_ACTION_MAX] = {
                [OVERREACH_LOG] = "log",
                [OVERREACH_KILL] = "kill",
};
DEFINE_STRING_TABLE(overreach_action, OverreachAction)

static const char *const enforcement_mode_table[_ENFORCEMENT_MODE_MAX] = {
                [ENFORCEMENT_AUTO] = "auto",
                [ENFORCEMENT_OFF] = "off",
};
DEFINE_STRING_TABLE(enforcement_mode, EnforcementMode)

int config_new(Config **ret) {
        Config *c = malloc(sizeof(*c));

        if (!c)
                return -ENOMEM;
        *c = (Config){
                        .mode = REGION_MODE_AUTO,
                        .default_align = EGM_ALIGN_DEFAULT,
                        .poll_retired_usec = 30 * USEC_PER_SEC,
                        .scrub_bandwidth = UINT64_MAX,
                        .verify = CONFIG_VERIFY_SAMPLE,
                        .enforcement = ENFORCEMENT_AUTO,
                        .overreach = OVERREACH_LOG,
                        .overreach_poll_usec = 30 * USEC_PER_SEC,
                        .drain_notice_usec = 60 * USEC_PER_SEC,
                        .leases_max = CONFIG_LEASES_MAX,
                        .waiting_max = CONFIG_WAITING_MAX,
                        /* One user alone neither takes the host nor closes it to others. */
                        .quota.per_uid =
                                        {
                                                        [QUOTA_BYTES] = {QUOTA_PERCENT, 50},
                                                        [QUOTA_LEASES] = {QUOTA_PERCENT, 25},
                                                        [QUOTA_SLICES] = {QUOTA_ABSOLUTE,
                                                                          CONFIG_LEASES_MAX / 2},
                                                        [QUOTA_WAITING] = {QUOTA_PERCENT, 25},
                                                        [QUOTA_CALLS] = {QUOTA_ABSOLUTE,
                                                                         CONFIG_WAITING_MAX / 2},
                                        },
        };
        *ret = c;
        return 0;
}

Config *config_free(Config *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_regions; i++)
                free(c->regions[i].name);
        free(c->regions);
        free(c->scrub_cpus);
        for (size_t i = 0; i < c->quota.n_rules; i++)
                free(c->quota.rules[i].glob);
        free(c->quota.rules);
        return mfree(c);
}

RegionMode config_region_mode(const Config *c, const char *region) {
        if (c->unreadable)
                return REGION_MODE_OBSERVE;
        for (size_t i = 0; i < c->n_regions; i++)
                if (c->regions[i].has_mode && streq(c->regions[i].name, region))
                        return c->regions[i].mode;
        return c->mode;
}

bool config_region_allowed(const Config *c, int pxm) {
        return pxm < 0 || (unsigned) pxm >= CONFIG_LOW_REGIONS || c->low_regions[pxm];
}
