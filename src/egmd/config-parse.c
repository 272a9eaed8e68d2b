/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <strings.h>

#include "config.h"
#include "index-list.h"
#include "placement.h"
#include "provider.h"
#include "size.h"
#include "sysfs-egm.h"

#define BLANK " \t\r"
#define SHOWN_MAX 64U
#define REGIONS_MAX 1024U

typedef enum Section {
        SECTION_NONE, /* in front of the first, or one that is not known */
        SECTION_EGMD,
        SECTION_REGION,
        SECTION_QUOTA, /* of a user, a unit or a slice */
} Section;

typedef struct Parser {
        Config *config;
        const char *name;
        unsigned line; /* where the current setting begins */
        Section section;
        size_t region;
        size_t rule;
        bool told; /* that settings stand outside of a section */
        config_warning_t warning;
        void *userdata;
} Parser;

/* A setting: reads value into dest. -EINVAL: not allowed, the warning says what is. */
typedef int (*setting_parse_t)(Parser *p, const char *value, void *dest);

typedef struct Setting {
        Section section;
        const char *key;
        const char *allowed;
        setting_parse_t parse;
        size_t offset, size; /* in Config, ConfigRegion or QuotaRule */
} Setting;

/* ---- Warnings ---- */

typedef struct Shown {
        char text[SHOWN_MAX + 4];
} Shown;

/* What somebody wrote, fit for a log. */
static Shown show(const char *s) {
        Shown shown = {};
        size_t n = strlen(s);

        for (size_t i = 0; i < MIN(n, (size_t) SHOWN_MAX); i++)
                shown.text[i] = s[i] >= ' ' && s[i] <= '~' ? s[i] : '?';
        if (n > SHOWN_MAX)
                (void) strcat(shown.text, "...");
        return shown;
}

static void warn(Parser *p, const char *format, ...) _printf_(2, 3);

static void warn(Parser *p, const char *format, ...) {
        char words[512], message[1024];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(words, sizeof(words), format, ap);
        va_end(ap);
        (void) snprintf(message, sizeof(message), "%.400s:%u: %s", p->name, p->line, words);
        p->warning(message, p->userdata);
}

/* ---- Values ---- */

static int parse_boolean(Parser *p, const char *value, void *dest) {
        static const char *const words[] = {"no", "yes", "false", "true", "off",
                                            "on", "0",   "1",     "n",    "y"};

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcasecmp(value, words[i]) == 0) {
                        *(bool *) dest = i % 2;
                        return 0;
                }
        return -EINVAL;
}

static int parse_mode(Parser *p, const char *value, void *dest) {
        RegionMode m = region_mode_from_string(value);

        if (m < 0)
                return -EINVAL;
        *(RegionMode *) dest = m;
        return 0;
}

static int parse_verify(Parser *p, const char *value, void *dest) {
        ConfigVerify v = config_verify_from_string(value);

        if (v < 0)
                return -EINVAL;
        *(ConfigVerify *) dest = v;
        return 0;
}

static int parse_overreach(Parser *p, const char *value, void *dest) {
        OverreachAction a = overreach_action_from_string(value);

        if (a < 0)
                return -EINVAL;
        *(OverreachAction *) dest = a;
        return 0;
}

static int parse_enforcement(Parser *p, const char *value, void *dest) {
        EnforcementMode a = enforcement_mode_from_string(value);

        if (a < 0)
                return -EINVAL;
        *(EnforcementMode *) dest = a;
        return 0;
}

static int parse_align(Parser *p, const char *value, void *dest) {
        uint64_t align;

        if (parse_size(value, &align) < 0 || !is_pow2(align) || align < provider_granule() ||
            align > CONFIG_ALIGN_MAX)
                return -EINVAL;
        *(uint64_t *) dest = align;
        return 0;
}

/* "infinity" is UINT64_MAX. */
static int parse_limit(Parser *p, const char *value, void *dest) {
        uint64_t size;

        if (streq(value, "infinity"))
                size = UINT64_MAX;
        else if (parse_size(value, &size) < 0 || size == 0)
                return -EINVAL;
        *(uint64_t *) dest = size;
        return 0;
}

static int parse_quota_bytes(Parser *p, const char *value, void *dest) {
        return config_parse_quota(value, true, true, dest);
}

static int parse_quota_share(Parser *p, const char *value, void *dest) {
        return config_parse_quota(value, false, true, dest);
}

static int parse_quota_count(Parser *p, const char *value, void *dest) {
        return config_parse_quota(value, false, false, dest);
}

static int parse_number(const char *value, uint64_t min, uint64_t max, void *dest) {
        uint64_t v;

        if (parse_uint64(value, &v) < 0 || v < min || v > max)
                return -EINVAL;
        *(uint64_t *) dest = v;
        return 0;
}

static int parse_threads(Parser *p, const char *value, void *dest) {
        return parse_number(value, 0, CONFIG_THREADS_MAX, dest);
}

static int parse_leases_max(Parser *p, const char *value, void *dest) {
        return parse_number(value, 1, CONFIG_LEASES_MAX, dest);
}

static int parse_waiting_max(Parser *p, const char *value, void *dest) {
        return parse_number(value, 0, CONFIG_WAITING_MAX, dest);
}

/* "90", "1min 30s": as systemd writes spans, from a second to a day. */
static int parse_span(Parser *p, const char *value, void *dest) {
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
static int parse_cpus(Parser *p, const char *value, void *dest) {
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
static int parse_low_regions(Parser *p, const char *value, void *dest) {
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
                        warn(p, "AllowLowRegions=: '%s' is none of egm0 to egm%u, ignored",
                             show(word).text, CONFIG_LOW_REGIONS - 1);
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
                {SECTION_EGMD, "Mode", MODES, parse_mode, EGMD(mode)},
                {SECTION_EGMD, "AllowLowRegions", "", parse_low_regions, EGMD(low_regions)},
                {SECTION_EGMD, "EgmOffsetAllowed", BOOLEANS, parse_boolean,
                 EGMD(egm_offset_allowed)},
                {SECTION_EGMD, "DefaultAlign", "a power of two from the granule (64K) to 1G",
                 parse_align, EGMD(default_align)},
                {SECTION_EGMD, "PollRetiredSec", "1s to 24h", parse_span, EGMD(poll_retired_usec)},
                {SECTION_EGMD, "ScrubThreads", "0 (by itself) to 256", parse_threads,
                 EGMD(scrub_threads)},
                {SECTION_EGMD, "ScrubBandwidth", "bytes per second (K, M, G, T) or infinity",
                 parse_limit, EGMD(scrub_bandwidth)},
                {SECTION_EGMD, "ScrubCPUs", "a list like 0-3,7 of numbers up to 8191", parse_cpus,
                 EGMD(scrub_cpus)},
                {SECTION_EGMD, "Verify", "sample, whole or off", parse_verify, EGMD(verify)},
                {SECTION_EGMD, "Enforcement", "auto or off", parse_enforcement, EGMD(enforcement)},
                {SECTION_EGMD, "RequireEnforcement", BOOLEANS, parse_boolean,
                 EGMD(require_enforcement)},
                {SECTION_EGMD, "DmabufAllowed", BOOLEANS, parse_boolean, EGMD(dmabuf_allowed)},
                {SECTION_EGMD, "OverreachAction", "log or kill", parse_overreach, EGMD(overreach)},
                {SECTION_EGMD, "OverreachPollSec", "1s to 24h", parse_span,
                 EGMD(overreach_poll_usec)},
                {SECTION_EGMD, "LeasesMax", "1 to 16384", parse_leases_max, EGMD(leases_max)},
                {SECTION_EGMD, "WaitingMax", "0 to 1024", parse_waiting_max, EGMD(waiting_max)},
                {SECTION_EGMD, "BytesMaxPerUid", QUOTA_BYTES_WORDS, parse_quota_bytes,
                 EGMD(quota.per_uid[QUOTA_BYTES])},
                {SECTION_EGMD, "LeasesMaxPerUid", QUOTA_SHARE_WORDS, parse_quota_share,
                 EGMD(quota.per_uid[QUOTA_LEASES])},
                {SECTION_EGMD, "SlicesMaxPerUid", QUOTA_COUNT_WORDS, parse_quota_count,
                 EGMD(quota.per_uid[QUOTA_SLICES])},
                {SECTION_EGMD, "WaitingMaxPerUid", QUOTA_SHARE_WORDS, parse_quota_share,
                 EGMD(quota.per_uid[QUOTA_WAITING])},
                {SECTION_EGMD, "CallsMaxPerUid", QUOTA_COUNT_WORDS, parse_quota_count,
                 EGMD(quota.per_uid[QUOTA_CALLS])},
                {SECTION_QUOTA, "BytesMax", QUOTA_BYTES_WORDS, parse_quota_bytes,
                 QUOTA(limits[QUOTA_BYTES])},
                {SECTION_QUOTA, "LeasesMax", QUOTA_SHARE_WORDS, parse_quota_share,
                 QUOTA(limits[QUOTA_LEASES])},
                {SECTION_QUOTA, "SlicesMax", QUOTA_COUNT_WORDS, parse_quota_count,
                 QUOTA(limits[QUOTA_SLICES])},
                {SECTION_QUOTA, "WaitingMax", QUOTA_SHARE_WORDS, parse_quota_share,
                 QUOTA(limits[QUOTA_WAITING])},
                {SECTION_QUOTA, "CallsMax", QUOTA_COUNT_WORDS, parse_quota_count,
                 QUOTA(limits[QUOTA_CALLS])},
                {SECTION_REGION, "Mode", MODES, parse_mode, REGION(mode)},
};

/* ---- Settings ---- */

/* "Key=" takes back what was said. */
static int reset(Parser *p, const Setting *s, void *dest) {
        _cleanup_(config_freep) Config *defaults = NULL;
        int r;

        if (s->section == SECTION_REGION) {
                p->config->regions[p->region].has_mode = false;
                return 0;
        }
        if (s->section == SECTION_QUOTA) {
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
static void distrust(Parser *p, const Setting *s, void *dest, const char *value) {
        *(RegionMode *) dest = REGION_MODE_OBSERVE;
        if (s->section == SECTION_REGION) {
                p->config->regions[p->region].has_mode = true;
                warn(p, "Mode=%s: allowed are %s; %s is only observed", show(value).text,
                     s->allowed, p->config->regions[p->region].name);
        } else
                warn(p,
                     "Mode=%s: allowed are %s; regions without a mode of their own are only "
                     "observed",
                     show(value).text, s->allowed);
}

static int apply(Parser *p, const Setting *s, const char *value) {
        char *base = s->section == SECTION_REGION  ? (char *) (p->config->regions + p->region)
                     : s->section == SECTION_QUOTA ? (char *) (p->config->quota.rules + p->rule)
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
                        warn(p, "%s=%s: allowed is %s; ignored", s->key, show(value).text,
                             s->allowed);
                return 0;
        }
        if (r >= 0 && s->section == SECTION_REGION)
                p->config->regions[p->region].has_mode = true;
        return r;
}

static const char *section_name(const Parser *p) {
        static const char *const scopes[_QUOTA_SCOPE_MAX] = {"User", "Unit", "Slice"};

        if (p->section == SECTION_QUOTA)
                return scopes[p->config->quota.rules[p->rule].scope];
        return p->section == SECTION_EGMD ? "Egmd" : "Region";
}

static int parse_setting(Parser *p, char *line) {
        char *value = strchr(line, '='), *end;

        if (p->section == SECTION_NONE) {
                if (!p->told)
                        warn(p, "'%s' stands in no section; ignored, as what follows",
                             show(line).text);
                p->told = true;
                return 0;
        }
        if (!value || value == line) {
                warn(p, "'%s' is neither a section nor KEY=VALUE; ignored", show(line).text);
                return 0;
        }
        for (end = value; end > line && strchr(BLANK, end[-1]); end--)
                ;
        *value++ = '\0';
        *end = '\0';
        value += strspn(value, BLANK);
        for (size_t i = 0; i < ELEMENTSOF(settings); i++)
                if (settings[i].section == p->section && streq(settings[i].key, line))
                        return apply(p, settings + i, value);
        warn(p, "[%s] knows no '%s'; ignored", section_name(p), show(line).text);
        return 0;
}

/* ---- Sections ---- */

static int enter_region(Parser *p, const char *name) {
        Config *c = p->config;
        ConfigRegion *t;
        int pxm;

        if (sysfs_egm_parse_name(name, &pxm) < 0) {
                warn(p, "[Region %s]: not a region's name like egm4; ignored", show(name).text);
                return 0;
        }
        for (p->region = 0; p->region < c->n_regions; p->region++)
                if (streq(c->regions[p->region].name, name)) {
                        p->section = SECTION_REGION;
                        return 0;
                }
        if (c->n_regions >= REGIONS_MAX) {
                warn(p, "More than %u regions; ignored", REGIONS_MAX);
                return 0;
        }
        t = reallocarray(c->regions, c->n_regions + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        c->regions = t;
        t[c->n_regions] = (ConfigRegion){.name = strdup(name)};
        if (!t[c->n_regions].name)
                return -ENOMEM;
        c->n_regions++;
        p->section = SECTION_REGION;
        return 0;
}

static int enter_owner(Parser *p, QuotaScope scope, const char *name) {
        int r = config_add_rule(p->config, scope, name, &p->rule);

        if (r == -EINVAL)
                warn(p, "'%s' is no %s's name%s; ignored", show(name).text,
                     quota_scope_to_string(scope),
                     scope == QUOTA_USER ? "" : " like vm.service, or a pattern");
        else if (r == -E2BIG)
                warn(p, "More than %u users, units and slices; ignored", CONFIG_RULES_MAX);
        if (r == -EINVAL || r == -E2BIG)
                return 0;
        if (r >= 0)
                p->section = SECTION_QUOTA;
        return r;
}

static int parse_section(Parser *p, char *line) {
        static const struct {
                const char *prefix;
                QuotaScope scope;
        } owners[] = {{"User ", QUOTA_USER}, {"Unit ", QUOTA_UNIT}, {"Slice ", QUOTA_SLICE}};

        size_t n = strlen(line);

        p->section = SECTION_NONE;
        p->told = true; /* one warning for all of it */
        if (line[n - 1] != ']') {
                warn(p, "'%s' has no ']'; ignored, as what follows", show(line).text);
                return 0;
        }
        line[n - 1] = '\0';
        line++;
        if (streq(line, "Egmd")) {
                p->section = SECTION_EGMD;
                return 0;
        }
        if (strncmp(line, "Region ", 7) == 0)
                return enter_region(p, line + 7 + strspn(line + 7, BLANK));
        for (size_t i = 0; i < ELEMENTSOF(owners); i++) {
                size_t length = strlen(owners[i].prefix);

                if (strncmp(line, owners[i].prefix, length) == 0)
                        return enter_owner(p, owners[i].scope,
                                           line + length + strspn(line + length, BLANK));
        }
        /* For others' use. */
        if (strncmp(line, "X-", 2) != 0)
                warn(p,
                     "No section [%s] is known, only [Egmd], [Region], [User], [Unit] and [Slice]; "
                     "ignored",
                     show(line).text);
        return 0;
}

/* ---- Lines ---- */

static char *strip(char *s) {
        size_t n;

        s += strspn(s, BLANK);
        n = strlen(s);
        while (n > 0 && strchr(BLANK, s[n - 1]))
                s[--n] = '\0';
        return s;
}

static int parse_line(Parser *p, char *line) {
        line = strip(line);
        if (!*line)
                return 0;
        for (const char *s = line; *s; s++)
                if (iscntrl((unsigned char) *s) && *s != '\t') {
                        warn(p, "'%s' holds control characters; ignored", show(line).text);
                        return 0;
                }
        return line[0] == '[' ? parse_section(p, line) : parse_setting(p, line);
}

/* A backslash at the end: the next line goes on, in its place a blank. Comments in between are passed over. */
static int parse_text(Parser *p, char *text) {
        _cleanup_free_ char *joined = calloc(1, strlen(text) + 1);
        char *line;
        unsigned at = 0;
        size_t n = 0;
        int r;

        if (!joined)
                return -ENOMEM;
        while ((line = strsep(&text, "\n"))) {
                const char *first = line + strspn(line, BLANK);
                size_t length = strlen(line);
                bool more;

                at++;
                if (*first == '#' || *first == ';')
                        continue;
                if (length > 0 && line[length - 1] == '\r')
                        length--;
                more = length > 0 && line[length - 1] == '\\';
                if (n == 0)
                        p->line = at;
                memcpy(joined + n, line, length);
                n += length;
                if (more && text) {
                        joined[n - 1] = ' ';
                        continue;
                }
                joined[n] = '\0';
                n = 0;
                r = parse_line(p, joined);
                if (r < 0)
                        return r;
        }
        /* Comments were the last that came. */
        joined[n] = '\0';
        return parse_line(p, joined);
}

int config_parse(Config *c, const char *text, size_t size, const char *name,
                 config_warning_t warning, void *userdata) {
        Parser p = {.config = c, .name = name, .line = 1, .warning = warning, .userdata = userdata};
        _cleanup_free_ char *copy = NULL;

        assert(c);
        assert(text || size == 0);
        assert(name);
        assert(warning);

        if (size > 0 && memchr(text, '\0', size)) {
                warn(&p, "Not text: a NUL byte; all regions are only observed");
                c->unreadable = true;
                return 0;
        }
        copy = strndup(text ?: "", size);
        return copy ? parse_text(&p, copy) : -ENOMEM;
}
