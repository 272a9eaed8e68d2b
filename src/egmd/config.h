/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"
#include "quota.h"

/* What the host's administrator wants: egmd.conf(5). A mistake in a file costs the setting it is in and a warning, not the
 * service; except that where a region may have been meant to be left alone, it is. */

typedef enum RegionMode {
        REGION_MODE_AUTO,    /* as much as the driver allows */
        REGION_MODE_SHARED,  /* parts, or nothing at all */
        REGION_MODE_WHOLE,   /* one lease at a time */
        REGION_MODE_OBSERVE, /* never opened: others take it by its path */
        _REGION_MODE_MAX,
        _REGION_MODE_INVALID = -EINVAL,
} RegionMode;

const char *region_mode_to_string(RegionMode m);
RegionMode region_mode_from_string(const char *s);

typedef enum ConfigVerify {
        CONFIG_VERIFY_SAMPLE,
        CONFIG_VERIFY_WHOLE,
        CONFIG_VERIFY_OFF,
        _CONFIG_VERIFY_MAX,
        _CONFIG_VERIFY_INVALID = -EINVAL,
} ConfigVerify;

const char *config_verify_to_string(ConfigVerify v);
ConfigVerify config_verify_from_string(const char *s);

/* What happens to who maps more than was lent. */
typedef enum OverreachAction {
        OVERREACH_LOG,
        OVERREACH_KILL,
        _OVERREACH_ACTION_MAX,
        _OVERREACH_ACTION_INVALID = -EINVAL,
} OverreachAction;

const char *overreach_action_to_string(OverreachAction a);
OverreachAction overreach_action_from_string(const char *s);

/* Whether the kernel shall keep holders to their leases. */
typedef enum EnforcementMode {
        ENFORCEMENT_AUTO, /* where it can */
        ENFORCEMENT_OFF,
        _ENFORCEMENT_MODE_MAX,
        _ENFORCEMENT_MODE_INVALID = -EINVAL,
} EnforcementMode;

const char *enforcement_mode_to_string(EnforcementMode m);
EnforcementMode enforcement_mode_from_string(const char *s);

/* egm0 to egm3 are opened only if they are named. */
#define CONFIG_LOW_REGIONS 4U
#define CONFIG_LEASES_MAX 16384U
#define CONFIG_WAITING_MAX 1024U
#define CONFIG_THREADS_MAX 256U
#define CONFIG_CPU_MAX 8191U
#define CONFIG_RULES_MAX 1024U
#define CONFIG_ALIGN_MAX (1 * GIB)

typedef struct ConfigRegion {
        char *name; /* "egm4" */
        RegionMode mode;
        bool has_mode;
} ConfigRegion;

typedef struct Config {
        RegionMode mode;
        ConfigRegion *regions;
        size_t n_regions;
        bool low_regions[CONFIG_LOW_REGIONS];
        bool egm_offset_allowed;
        uint64_t default_align;
        uint64_t poll_retired_usec;
        uint64_t scrub_threads;   /* 0: as many as seem right */
        uint64_t scrub_bandwidth; /* bytes per second, UINT64_MAX: all there is */
        unsigned *scrub_cpus;     /* sorted; none: those of the region's node */
        size_t n_scrub_cpus;
        ConfigVerify verify;
        EnforcementMode enforcement;
        bool require_enforcement;
        bool dmabuf_allowed;
        OverreachAction overreach;
        uint64_t overreach_poll_usec;
        uint64_t drain_notice_usec;
        uint64_t leases_max;
        uint64_t waiting_max;
        QuotaRules quota; /* a user's glob is his name as it was written; of nobody: uid -1 */
        bool unreadable;  /* there is more that could not be read */
} Config;

/* Everything at its default. */
int config_new(Config **ret);
Config *config_free(Config *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Config *, config_free)

/* What holds for a region. If not all could be read, what could not might have said "observe". */
RegionMode config_region_mode(const Config *c, const char *region);
/* May the region of this number (N of egmN) be opened, mode aside? */
bool config_region_allowed(const Config *c, int pxm);

/* A mistake: "FILE:LINE: words", printable ASCII. */
typedef void (*config_warning_t)(const char *message, void *userdata);

/* Adds one file's settings; later ones win. name: the file's, for warnings. -ENOMEM is the only failure. Pure. */
int config_parse(Config *c, const char *text, size_t size, const char *name,
                 config_warning_t warning, void *userdata);

/* "50%" where that may be, "infinity", or a number (of bytes: with K, M, G, T). -EINVAL. Pure. */
int config_parse_quota(const char *value, bool bytes, bool may_percent, QuotaLimit *ret);
/* The rule of that name; there is one now. -EINVAL: a name that none of these has; -E2BIG. Pure. */
int config_add_rule(Config *c, QuotaScope scope, const char *name, size_t *ret);
/* Finds the users whose names were written; whom there is not, is left out. */
void config_find_users(Config *c, config_warning_t warning, void *userdata);

/* One file and nothing else; it has to be there: -errno. */
int config_read_file(Config *c, const char *path, config_warning_t warning, void *userdata);
/* The host's: egmd/egmd.conf of /etc, /run and /usr/lib (the first that is there), then egmd/egmd.conf.d/NAME.conf of all three in the
 * order of their names; of the same name, the first. All below root, "" for the host's own. */
int config_read_host(Config *c, const char *root, config_warning_t warning, void *userdata);

/* The same, with warnings to the log. file: NULL for the host's. */
int config_load(const char *file, Config **ret);
