/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "config.h"

/* What settings there are, and what each may be. */

typedef enum ConfigSection {
        CONFIG_SECTION_NONE, /* in front of the first, or one that is not known */
        CONFIG_SECTION_EGMD,
        CONFIG_SECTION_REGION,
        CONFIG_SECTION_QUOTA, /* of a user, a unit or a slice */
} ConfigSection;

typedef struct ConfigParser {
        Config *config;
        const char *name;
        unsigned line; /* where the current setting begins */
        ConfigSection section;
        size_t region;
        size_t rule;
        bool told; /* that settings stand outside of a section */
        config_warning_t warning;
        void *userdata;
} ConfigParser;

/* What somebody wrote, fit for a log. */
#define CONFIG_SHOWN_MAX 64U

typedef struct ConfigShown {
        char text[CONFIG_SHOWN_MAX + 4];
} ConfigShown;

ConfigShown config_show(const char *s);
void config_warn(ConfigParser *p, const char *format, ...) _printf_(2, 3);

/* Sets it, or warns of what it may not be. "": takes back what was said. -ENOENT: the section has no such key. */
int config_setting_set(ConfigParser *p, const char *key, const char *value);
