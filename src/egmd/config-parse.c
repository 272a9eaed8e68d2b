/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>

#include "config-setting.h"
#include "sysfs-egm.h"

#define BLANK " \t\r"
#define REGIONS_MAX 1024U

/* ---- Settings ---- */

static const char *section_name(const ConfigParser *p) {
        static const char *const scopes[_QUOTA_SCOPE_MAX] = {"User", "Unit", "Slice"};

        if (p->section == CONFIG_SECTION_QUOTA)
                return scopes[p->config->quota.rules[p->rule].scope];
        return p->section == CONFIG_SECTION_EGMD ? "Egmd" : "Region";
}

static int parse_setting(ConfigParser *p, char *line) {
        char *value = strchr(line, '='), *end;
        int r;

        if (p->section == CONFIG_SECTION_NONE) {
                if (!p->told)
                        config_warn(p, "'%s' stands in no section; ignored, as what follows",
                                    config_show(line).text);
                p->told = true;
                return 0;
        }
        if (!value || value == line) {
                config_warn(p, "'%s' is neither a section nor KEY=VALUE; ignored",
                            config_show(line).text);
                return 0;
        }
        for (end = value; end > line && strchr(BLANK, end[-1]); end--)
                ;
        *value++ = '\0';
        *end = '\0';
        value += strspn(value, BLANK);
        r = config_setting_set(p, line, value);
        if (r != -ENOENT)
                return r;
        config_warn(p, "[%s] knows no '%s'; ignored", section_name(p), config_show(line).text);
        return 0;
}

/* ---- Sections ---- */

static int enter_region(ConfigParser *p, const char *name) {
        Config *c = p->config;
        ConfigRegion *t;
        int pxm;

        if (sysfs_egm_parse_name(name, &pxm) < 0) {
                config_warn(p, "[Region %s]: not a region's name like egm4; ignored",
                            config_show(name).text);
                return 0;
        }
        for (p->region = 0; p->region < c->n_regions; p->region++)
                if (streq(c->regions[p->region].name, name)) {
                        p->section = CONFIG_SECTION_REGION;
                        return 0;
                }
        if (c->n_regions >= REGIONS_MAX) {
                config_warn(p, "More than %u regions; ignored", REGIONS_MAX);
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
        p->section = CONFIG_SECTION_REGION;
        return 0;
}

static int enter_owner(ConfigParser *p, QuotaScope scope, const char *name) {
        int r = config_add_rule(p->config, scope, name, &p->rule);

        if (r == -EINVAL)
                config_warn(p, "'%s' is no %s's name%s; ignored", config_show(name).text,
                            quota_scope_to_string(scope),
                            scope == QUOTA_USER ? "" : " like vm.service, or a pattern");
        else if (r == -E2BIG)
                config_warn(p, "More than %u users, units and slices; ignored", CONFIG_RULES_MAX);
        if (r == -EINVAL || r == -E2BIG)
                return 0;
        if (r >= 0)
                p->section = CONFIG_SECTION_QUOTA;
        return r;
}

static int parse_section(ConfigParser *p, char *line) {
        static const struct {
                const char *prefix;
                QuotaScope scope;
        } owners[] = {{"User ", QUOTA_USER}, {"Unit ", QUOTA_UNIT}, {"Slice ", QUOTA_SLICE}};

        size_t n = strlen(line);

        p->section = CONFIG_SECTION_NONE;
        p->told = true; /* one warning for all of it */
        if (line[n - 1] != ']') {
                config_warn(p, "'%s' has no ']'; ignored, as what follows", config_show(line).text);
                return 0;
        }
        line[n - 1] = '\0';
        line++;
        if (streq(line, "Egmd")) {
                p->section = CONFIG_SECTION_EGMD;
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
                config_warn(p,
                            "No section [%s] is known, only [Egmd], [Region], [User], [Unit] and "
                            "[Slice]; "
                            "ignored",
                            config_show(line).text);
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

static int parse_line(ConfigParser *p, char *line) {
        line = strip(line);
        if (!*line)
                return 0;
        for (const char *s = line; *s; s++)
                if (iscntrl((unsigned char) *s) && *s != '\t') {
                        config_warn(p, "'%s' holds control characters; ignored",
                                    config_show(line).text);
                        return 0;
                }
        return line[0] == '[' ? parse_section(p, line) : parse_setting(p, line);
}

/* A backslash at the end: the next line goes on, in its place a blank. Comments in between are passed over. */
static int parse_text(ConfigParser *p, char *text) {
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
        ConfigParser p = {.config = c,
                          .name = name,
                          .line = 1,
                          .warning = warning,
                          .userdata = userdata};
        _cleanup_free_ char *copy = NULL;

        assert(c);
        assert(text || size == 0);
        assert(name);
        assert(warning);

        if (size > 0 && memchr(text, '\0', size)) {
                config_warn(&p, "Not text: a NUL byte; all regions are only observed");
                c->unreadable = true;
                return 0;
        }
        copy = strndup(text ?: "", size);
        return copy ? parse_text(&p, copy) : -ENOMEM;
}
