/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdarg.h>
#include <strings.h>

#include "config-setting.h"
#include "index-list.h"
#include "provider.h"
#include "size.h"
#include "sysfs-egm.h"

#define BLANK " \t\r"

/* A setting: reads value into dest. -EINVAL: not allowed, the warning says what is. */
typedef int (*setting_parse_t)(ConfigParser *p, const char *value, void *dest);

typedef struct Setting {
        ConfigSection section;
        const char *key;
        const char *allowed;
        setting_parse_t parse;
        size_t offset, size; /* in Config, ConfigRegion or QuotaRule */
} Setting;

/* ---- Warnings ---- */

ConfigShown config_show(const char *s) {
        ConfigShown shown = {};
        size_t n = strlen(s);

        for (size_t i = 0; i < MIN(n, (size_t) CONFIG_SHOWN_MAX); i++)
                shown.text[i] = s[i] >= ' ' && s[i] <= '~' ? s[i] : '?';
        if (n > CONFIG_SHOWN_MAX)
                (void) strcat(shown.text, "...");
        return shown;
}

void config_warn(ConfigParser *p, const char *format, ...) {
        char words[512], message[1024];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(words, sizeof(words), format, ap);
        va_end(ap);
        (void) snprintf(message, sizeof(message), "%.400s:%u: %s", p->name, p->line, words);
        p->warning(message, p->userdata);
}

/* ---- Values ---- */

static int parse_boolean(ConfigParser *p, const char *value, void *dest) {
        static const char *const words[] = {"no", "yes", "false", "true", "off",
                                            "on", "0",   "1",     "n",    "y"};

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcasecmp(value, words[i]) == 0) {
                        *(bool *) dest = i % 2;
                        return 0;
                }
        return -EINVAL;
}

static int parse_mode(ConfigParser *p, const char *value, void *dest) {
        RegionMode m = region_mode_from_string(value);

        if (m < 0)
                return -EINVAL;
        *(RegionMode *) dest = m;
        return 0;
}

static int parse_verify(ConfigParser *p, const char *value, void *dest) {
        ConfigVerify v = config_verify_from_string(value);

        if (v < 0)
                return -EINVAL;
        *(ConfigVerify *) dest = v;
        return 0;
}

static int parse_overreach(ConfigParser *p, const char *value, void *dest) {
        OverreachAction a = overreach_action_from_string(value);

        if (a < 0)
                return -EINVAL;
        *(OverreachAction *) dest = a;
        return 0;
}

static int parse_enforcement(ConfigParser *p, const char *value, void *dest) {
        EnforcementMode a = enforcement_mode_from_string(value);

        if (a < 0)
                return -EINVAL;
        *(EnforcementMode *) dest = a;
        return 0;
}

static int parse_align(ConfigParser *p, const char *value, void *dest) {
        uint64_t align;

        if (parse_size(value, &align) < 0 || !is_pow2(align) || align < provider_granule() ||
            align > CONFIG_ALIGN_MAX)
                return -EINVAL;
        *(uint64_t *) dest = align;
        return 0;
}

/* "infinity" is UINT64_MAX. */
static int parse_limit(ConfigParser *p, const char *value, void *dest) {
        uint64_t size;

        if (streq(value, "infinity"))
                size = UINT64_MAX;
        else if (parse_size(value, &size) < 0 || size == 0)
                return -EINVAL;
        *(uint64_t *) dest = size;
        return 0;
}

static int parse_quota_bytes(ConfigParser *p, const char *value, void *dest) {
        return config_parse_quota(value, true, true, dest);
}

static int parse_quota_share(ConfigParser *p, const char *value, void *dest) {
        return config_parse_quota(value, false, true, dest);
}

static int parse_quota_count(ConfigParser *p, const char *value, void *dest) {
        return config_parse_quota(value, false, false, dest);
}

static int parse_number(const char *value, uint64_t min, uint64_t max, void *dest) {
        uint64_t v;

        if (parse_uint64(value, &v) < 0 || v < min || v > max)
                return -EINVAL;
        *(uint64_t *) dest = v;
        return 0;
}

static int parse_threads(ConfigParser *p, const char *value, void *dest) {
        return parse_number(value, 0, CONFIG_THREADS_MAX, dest);
}

static int parse_leases_max(ConfigParser *p, const char *value, void *dest) {
        return parse_number(value, 1, CONFIG_LEASES_MAX, dest);
}

static int parse_waiting_max(ConfigParser *p, const char *value, void *dest) {
        return parse_number(value, 0, CONFIG_WAITING_MAX, dest);
}

/* "90", "1min 30s": as systemd writes spans, from a second to a day. */
static int parse_span(ConfigParser *p, const char *value, void *dest) {
        static const struct {
                const char *unit;
                uint64_t usec;
        } units[] = {
                        {"", USEC_PER_SEC},         {"s", USEC_PER_SEC},
                        {"sec", USEC_PER_SEC},      {"ms", USEC_PER_MSEC},
                        {"m", 60 * USEC_PER_SEC},   {"min", 60 * USEC_PER_SEC},
                        {"h", 3600 * USEC_PER_SEC}, {"hr", 3600 * USEC_PER_SEC},
        };
        uint64_t sum = 0;

        while (*value) {
                size_t digits = strspn(value, "0123456789"), letters, unit;
                char number[24] = "";
                uint64_t v;

                if (digits == 0 || digits >= sizeof(number))
                        return -EINVAL;
                memcpy(number, value, digits);
                value += digits;
                value += strspn(value, BLANK);
                letters = strspn(value, "abcdefghijklmnopqrstuvwxyz");
                for (unit = 0; unit < ELEMENTSOF(units); unit++)
                        if (strlen(units[unit].unit) == letters &&
                            strncmp(units[unit].unit, value, letters) == 0)
                                break;
                if (unit == ELEMENTSOF(units) || parse_uint64(number, &v) < 0 ||
                    __builtin_mul_overflow(v, units[unit].usec, &v) ||
                    __builtin_add_overflow(sum, v, &sum))
                        return -EINVAL;
                value += letters;
                value += strspn(value, BLANK);
        }
        if (sum < USEC_PER_SEC || sum > 24 * 3600 * USEC_PER_SEC)
                return -EINVAL;
        *(uint64_t *) dest = sum;
        return 0;
}

/* Each one adds to what there is. dest: scrub_cpus, and n_scrub_cpus in the same Config. */
static int parse_cpus(ConfigParser *p, const char *value, void *dest) {
        _cleanup_free_ char *text = NULL;
        unsigned *list;
        size_t n;
        int r;

        text = malloc(strlen(value) + 1 + p->config->n_scrub_cpus * 12);
        if (!text)
                return -ENOMEM;
        (void) strcpy(text, value);
        /* Blanks part as commas do. */
        for (char *s = text; *s; s++)
                if (strchr(BLANK, *s))
                        *s = ',';
        for (char *from = text, *to = text;; from++) {
                if (*from == ',' && (from[1] == ',' || from[1] == '\0'))
                        continue;
                *to++ = *from;
                if (!*from)
                        break;
        }
        for (size_t i = 0; i < p->config->n_scrub_cpus; i++)
                (void) sprintf(text + strlen(text), ",%u", p->config->scrub_cpus[i]);
        r = parse_index_list(text, CONFIG_CPU_MAX, &list, &n);
        if (r < 0)
                return r == -ENOMEM ? r : -EINVAL;
        free(p->config->scrub_cpus);
        p->config->scrub_cpus = list;
        p->config->n_scrub_cpus = n;
        return 0;
}

/* Each one adds; a wrong name costs only itself. */
static int parse_low_regions(ConfigParser *p, const char *value, void *dest) {
        _cleanup_free_ char *copy = strdup(value);
        char *rest = copy, *word;
        bool *allowed = dest;

        if (!copy)
                return -ENOMEM;
        while ((word = strsep(&rest, "," BLANK))) {
                int pxm;

                if (!*word)
                        continue;
                if (sysfs_egm_parse_name(word, &pxm) < 0 || pxm < 0 ||
                    (unsigned) pxm >= CONFIG_LOW_REGIONS)
                        config_warn(p, "AllowLowRegions=: '%s' is none of egm0 to egm%u, ignored",
                                    config_show(word).text, CONFIG_LOW_REGIONS - 1);
                else
                        allowed[pxm] = true;
        }
        return 0;
}

#define EGMD(member) offsetof(Config, member), sizeof(((Config *) NULL)->member)
#define REGION(member) offsetof(ConfigRegion, member), sizeof(((ConfigRegion *) NULL)->member)
#define QUOTA(member) offsetof(QuotaRule, member), sizeof(((QuotaRule *) NULL)->member)
#define QUOTA_BYTES_WORDS "bytes (K, M, G, T), 0% to 100%, or infinity"
#define QUOTA_SHARE_WORDS "a number, 0% to 100%, or infinity"
#define QUOTA_COUNT_WORDS "a number or infinity"
#define MODES "auto, shared, whole or observe"
#define BOOLEANS "yes or no"

static const Setting settings[] = {
                {CONFIG_SECTION_EGMD, "Mode", MODES, parse_mode, EGMD(mode)},
                {CONFIG_SECTION_EGMD, "AllowLowRegions", "", parse_low_regions, EGMD(low_regions)},
                {CONFIG_SECTION_EGMD, "EgmOffsetAllowed", BOOLEANS, parse_boolean,
                 EGMD(egm_offset_allowed)},
                {CONFIG_SECTION_EGMD, "DefaultAlign", "a power of two from the granule (64K) to 1G",
                 parse_align, EGMD(default_align)},
                {CONFIG_SECTION_EGMD, "PollRetiredSec", "1s to 24h", parse_span,
                 EGMD(poll_retired_usec)},
                {CONFIG_SECTION_EGMD, "ScrubThreads", "0 (by itself) to 256", parse_threads,
                 EGMD(scrub_threads)},
                {CONFIG_SECTION_EGMD, "ScrubBandwidth", "bytes per second (K, M, G, T) or infinity",
                 parse_limit, EGMD(scrub_bandwidth)},
                {CONFIG_SECTION_EGMD, "ScrubCPUs", "a list like 0-3,7 of numbers up to 8191",
                 parse_cpus, EGMD(scrub_cpus)},
                {CONFIG_SECTION_EGMD, "Verify", "sample, whole or off", parse_verify, EGMD(verify)},
                {CONFIG_SECTION_EGMD, "Enforcement", "auto or off", parse_enforcement,
                 EGMD(enforcement)},
                {CONFIG_SECTION_EGMD, "RequireEnforcement", BOOLEANS, parse_boolean,
                 EGMD(require_enforcement)},
                {CONFIG_SECTION_EGMD, "DmabufAllowed", BOOLEANS, parse_boolean,
                 EGMD(dmabuf_allowed)},
                {CONFIG_SECTION_EGMD, "OverreachAction", "log or kill", parse_overreach,
                 EGMD(overreach)},
                {CONFIG_SECTION_EGMD, "OverreachPollSec", "1s to 24h", parse_span,
                 EGMD(overreach_poll_usec)},
                {CONFIG_SECTION_EGMD, "DrainNoticeSec", "1s to 24h", parse_span,
                 EGMD(drain_notice_usec)},
                {CONFIG_SECTION_EGMD, "LeasesMax", "1 to 16384", parse_leases_max,
                 EGMD(leases_max)},
                {CONFIG_SECTION_EGMD, "WaitingMax", "0 to 1024", parse_waiting_max,
                 EGMD(waiting_max)},
                {CONFIG_SECTION_EGMD, "BytesMaxPerUid", QUOTA_BYTES_WORDS, parse_quota_bytes,
                 EGMD(quota.per_uid[QUOTA_BYTES])},
                {CONFIG_SECTION_EGMD, "LeasesMaxPerUid", QUOTA_SHARE_WORDS, parse_quota_share,
                 EGMD(quota.per_uid[QUOTA_LEASES])},
                {CONFIG_SECTION_EGMD, "SlicesMaxPerUid", QUOTA_COUNT_WORDS, parse_quota_count,
                 EGMD(quota.per_uid[QUOTA_SLICES])},
                {CONFIG_SECTION_EGMD, "WaitingMaxPerUid", QUOTA_SHARE_WORDS, parse_quota_share,
                 EGMD(quota.per_uid[QUOTA_WAITING])},
                {CONFIG_SECTION_EGMD, "CallsMaxPerUid", QUOTA_COUNT_WORDS, parse_quota_count,
                 EGMD(quota.per_uid[QUOTA_CALLS])},
                {CONFIG_SECTION_QUOTA, "BytesMax", QUOTA_BYTES_WORDS, parse_quota_bytes,
                 QUOTA(limits[QUOTA_BYTES])},
                {CONFIG_SECTION_QUOTA, "LeasesMax", QUOTA_SHARE_WORDS, parse_quota_share,
                 QUOTA(limits[QUOTA_LEASES])},
                {CONFIG_SECTION_QUOTA, "SlicesMax", QUOTA_COUNT_WORDS, parse_quota_count,
                 QUOTA(limits[QUOTA_SLICES])},
                {CONFIG_SECTION_QUOTA, "WaitingMax", QUOTA_SHARE_WORDS, parse_quota_share,
                 QUOTA(limits[QUOTA_WAITING])},
                {CONFIG_SECTION_QUOTA, "CallsMax", QUOTA_COUNT_WORDS, parse_quota_count,
                 QUOTA(limits[QUOTA_CALLS])},
                {CONFIG_SECTION_REGION, "Mode", MODES, parse_mode, REGION(mode)},
};

/* ---- Settings ---- */

/* "Key=" takes back what was said. */
static int reset(ConfigParser *p, const Setting *s, void *dest) {
        _cleanup_(config_freep) Config *defaults = NULL;
        int r;

        if (s->section == CONFIG_SECTION_REGION) {
                p->config->regions[p->region].has_mode = false;
                return 0;
        }
        if (s->section == CONFIG_SECTION_QUOTA) {
                *(QuotaLimit *) dest = (QuotaLimit){.kind = QUOTA_NOT_SET};
                return 0;
        }
        r = config_new(&defaults);
        if (r < 0)
                return r;
        if (s->parse == parse_cpus) {
                free(p->config->scrub_cpus);
                p->config->n_scrub_cpus = 0;
        }
        memcpy(dest, (const char *) defaults + s->offset, s->size);
        return 0;
}

/* Who meant something else than what is assumed for a region by itself may have meant to keep us off it. */
static void distrust(ConfigParser *p, const Setting *s, void *dest, const char *value) {
        *(RegionMode *) dest = REGION_MODE_OBSERVE;
        if (s->section == CONFIG_SECTION_REGION) {
                p->config->regions[p->region].has_mode = true;
                config_warn(p, "Mode=%s: allowed are %s; %s is only observed",
                            config_show(value).text, s->allowed,
                            p->config->regions[p->region].name);
        } else
                config_warn(p,
                            "Mode=%s: allowed are %s; regions without a mode of their own are only "
                            "observed",
                            config_show(value).text, s->allowed);
}

static int apply(ConfigParser *p, const Setting *s, const char *value) {
        char *base = s->section == CONFIG_SECTION_REGION ? (char *) (p->config->regions + p->region)
                     : s->section == CONFIG_SECTION_QUOTA
                                     ? (char *) (p->config->quota.rules + p->rule)
                                     : (char *) p->config;
        void *dest = base + s->offset;
        int r;

        if (!*value)
                return reset(p, s, dest);
        r = s->parse(p, value, dest);
        if (r == -EINVAL) {
                if (s->parse == parse_mode)
                        distrust(p, s, dest, value);
                else
                        config_warn(p, "%s=%s: allowed is %s; ignored", s->key,
                                    config_show(value).text, s->allowed);
                return 0;
        }
        if (r >= 0 && s->section == CONFIG_SECTION_REGION)
                p->config->regions[p->region].has_mode = true;
        return r;
}

int config_setting_set(ConfigParser *p, const char *key, const char *value) {
        assert(p);
        assert(key);
        assert(value);

        for (size_t i = 0; i < ELEMENTSOF(settings); i++)
                if (settings[i].section == p->section && streq(settings[i].key, key))
                        return apply(p, settings + i, value);
        return -ENOENT;
}
