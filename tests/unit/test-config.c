/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/stat.h>

#include "config.h"
#include "test.h"

/* ---- Fixture ---- */

typedef struct Warnings {
        char text[4096];
        unsigned n;
} Warnings;

static void collect(const char *message, void *userdata) {
        Warnings *w = userdata;

        for (const char *s = message; *s; s++)
                assert_in_range(*s, ' ', '~');
        if (strlen(w->text) + strlen(message) + 2 < sizeof(w->text)) {
                (void) strcat(w->text, message);
                (void) strcat(w->text, "\n");
        }
        w->n++;
}

static Config *make(void) {
        Config *c;

        assert_int_equal(config_new(&c), 0);
        return c;
}

static void parse_into(Config *c, const char *text, Warnings *w) {
        assert_int_equal(config_parse(c, text, strlen(text), "f", collect, w), 0);
}

static Config *parse(const char *text, Warnings *w) {
        Config *c = make();

        *w = (Warnings){};
        parse_into(c, text, w);
        return c;
}

/* ---- One setting ---- */

/* What a setting came to be, as text. */
static void describe(const Config *c, const char *key, char *buf, size_t size) {
#define CASE(name, format, ...) \
        if (streq(key, name)) { \
                (void) snprintf(buf, size, format, __VA_ARGS__); \
                return; \
        }
        CASE("Mode", "%s", region_mode_to_string(c->mode));
        CASE("AllowLowRegions", "%d%d%d%d", c->low_regions[0], c->low_regions[1], c->low_regions[2],
             c->low_regions[3]);
        CASE("EgmOffsetAllowed", "%d", c->egm_offset_allowed);
        CASE("DefaultAlign", "%" PRIu64, c->default_align);
        CASE("PollRetiredSec", "%" PRIu64, c->poll_retired_usec);
        CASE("ScrubThreads", "%" PRIu64, c->scrub_threads);
        CASE("ScrubBandwidth", "%" PRIu64, c->scrub_bandwidth);
        CASE("Verify", "%s", config_verify_to_string(c->verify));
        CASE("Enforcement", "%s", enforcement_mode_to_string(c->enforcement));
        CASE("RequireEnforcement", "%d", c->require_enforcement);
        CASE("DmabufAllowed", "%d", c->dmabuf_allowed);
        CASE("OverreachPollSec", "%" PRIu64, c->overreach_poll_usec);
        CASE("OverreachAction", "%s", overreach_action_to_string(c->overreach));
        CASE("DrainNoticeSec", "%" PRIu64, c->drain_notice_usec);
        CASE("LeasesMax", "%" PRIu64, c->leases_max);
        CASE("WaitingMax", "%" PRIu64, c->waiting_max);
        for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                char name[32];

                (void) snprintf(name, sizeof(name), "%sMaxPerUid", quota_resource_to_string(i));
                CASE(name, "%s %" PRIu64,
                     (const char *const[]){"", "=", "%", "inf"}[c->quota.per_uid[i].kind],
                     c->quota.per_uid[i].value);
        }
#undef CASE
        assert_string_equal(key, "ScrubCPUs");
        *buf = '\0';
        for (size_t i = 0; i < c->n_scrub_cpus; i++)
                (void) snprintf(buf + strlen(buf), size - strlen(buf), "%s%u", i > 0 ? " " : "",
                                c->scrub_cpus[i]);
}

#define INFINITE "18446744073709551615"

static const struct {
        const char *key, *value, *result;
        const char *allowed; /* NULL: fine */
} table[] = {
                {"Mode", "auto", "auto", NULL},
                {"Mode", "shared", "shared", NULL},
                {"Mode", "whole", "whole", NULL},
                {"Mode", "observe", "observe", NULL},
                {"Mode", "", "auto", NULL},
                /* The safe side. */
                {"Mode", "Whole", "observe", "auto, shared, whole or observe"},
                {"Mode", "observ", "observe", "auto, shared, whole or observe"},
                {"Mode", "auto # really", "observe", "auto, shared, whole or observe"},
                {"AllowLowRegions", "egm0", "1000", NULL},
                {"AllowLowRegions", "egm3 egm1", "0101", NULL},
                {"AllowLowRegions", "egm3,egm1 , egm0", "1101", NULL},
                {"AllowLowRegions", "", "0000", NULL},
                {"AllowLowRegions", "egm4", "0000", "'egm4' is none of egm0 to egm3"},
                {"AllowLowRegions", "egm2 yes egm0", "1010", "'yes' is none of"},
                {"AllowLowRegions", "egm00", "0000", "none of egm0 to egm3"},
                {"EgmOffsetAllowed", "yes", "1", NULL},
                {"EgmOffsetAllowed", "TRUE", "1", NULL},
                {"EgmOffsetAllowed", "1", "1", NULL},
                {"EgmOffsetAllowed", "on", "1", NULL},
                {"EgmOffsetAllowed", "no", "0", NULL},
                {"EgmOffsetAllowed", "maybe", "0", "yes or no"},
                {"EgmOffsetAllowed", "2", "0", "yes or no"},
                {"Enforcement", "off", "off", NULL},
                {"Enforcement", "auto", "auto", NULL},
                {"Enforcement", "no", "auto", "auto or off"},
                {"RequireEnforcement", "y", "1", NULL},
                {"RequireEnforcement", "enforced", "0", "yes or no"},
                {"DmabufAllowed", "yes", "1", NULL},
                {"DmabufAllowed", "", "0", NULL},
                {"DmabufAllowed", "perhaps", "0", "yes or no"},
                {"DefaultAlign", "2M", "2097152", NULL},
                {"DefaultAlign", "1G", "1073741824", NULL},
                {"DefaultAlign", "64K", "65536", NULL},
                {"DefaultAlign", "", "2097152", NULL},
                {"DefaultAlign", "2G", "2097152", "power of two"},
                {"DefaultAlign", "3M", "2097152", "power of two"},
                {"DefaultAlign", "32K", "2097152", "power of two"},
                {"DefaultAlign", "0", "2097152", "power of two"},
                {"DefaultAlign", "-1", "2097152", "power of two"},
                {"PollRetiredSec", "10", "10000000", NULL},
                {"PollRetiredSec", "1min 30s", "90000000", NULL},
                {"PollRetiredSec", "1 min", "60000000", NULL},
                {"PollRetiredSec", "1500ms", "1500000", NULL},
                {"PollRetiredSec", "24h", "86400000000", NULL},
                {"PollRetiredSec", "0", "30000000", "1s to 24h"},
                {"PollRetiredSec", "999ms", "30000000", "1s to 24h"},
                {"PollRetiredSec", "25h", "30000000", "1s to 24h"},
                {"PollRetiredSec", "infinity", "30000000", "1s to 24h"},
                {"PollRetiredSec", "1.5s", "30000000", "1s to 24h"},
                {"PollRetiredSec", "1minx", "30000000", "1s to 24h"},
                {"PollRetiredSec", "18446744073709551615h", "30000000", "1s to 24h"},
                {"PollRetiredSec", "5124095577h", "30000000",
                 "1s to 24h"}, /* 3490 s modulo 2^64 us */
                {"PollRetiredSec", "99999999999999999999999999", "30000000", "1s to 24h"},
                {"ScrubThreads", "8", "8", NULL},
                {"ScrubThreads", "0", "0", NULL},
                {"ScrubThreads", "257", "0", "0 (by itself) to 256"},
                {"ScrubThreads", "all", "0", "to 256"},
                {"ScrubBandwidth", "4G", "4294967296", NULL},
                {"ScrubBandwidth", "infinity", INFINITE, NULL},
                {"ScrubBandwidth", "0", INFINITE, "bytes per second"},
                {"ScrubBandwidth", "4G/s", INFINITE, "bytes per second"},
                {"ScrubCPUs", "0-3", "0 1 2 3", NULL},
                {"ScrubCPUs", "7, 1-2", "1 2 7", NULL},
                {"ScrubCPUs", "7 1-2", "1 2 7", NULL},
                {"ScrubCPUs", "8191", "8191", NULL},
                {"ScrubCPUs", "8192", "", "a list like"},
                {"ScrubCPUs", "3-1", "", "a list like"},
                {"ScrubCPUs", "0x1", "", "a list like"},
                {"ScrubCPUs", "1-", "", "a list like"},
                {"Verify", "whole", "whole", NULL},
                {"Verify", "off", "off", NULL},
                {"Verify", "none", "sample", "sample, whole or off"},
                {"OverreachAction", "kill", "kill", NULL},
                {"OverreachAction", "murder", "log", "log or kill"},
                {"OverreachPollSec", "2s", "2000000", NULL},
                {"OverreachPollSec", "0", "30000000", "1s to 24h"},
                {"DrainNoticeSec", "5min", "300000000", NULL},
                {"DrainNoticeSec", "0", "60000000", "1s to 24h"},
                {"LeasesMax", "1", "1", NULL},
                {"LeasesMax", "16384", "16384", NULL},
                {"LeasesMax", "0", "16384", "1 to 16384"},
                {"LeasesMax", "16385", "16384", "1 to 16384"},
                {"WaitingMax", "0", "0", NULL},
                {"WaitingMax", "1025", "1024", "0 to 1024"},
                {"BytesMaxPerUid", "447G", "= 479962595328", NULL},
                {"BytesMaxPerUid", "0", "= 0", NULL},
                {"BytesMaxPerUid", "", "% 50", NULL},
                {"BytesMaxPerUid", "75%", "% 75", NULL},
                {"BytesMaxPerUid", "100%", "% 100", NULL},
                {"BytesMaxPerUid", "infinity", "inf 0", NULL},
                {"BytesMaxPerUid", "101%", "% 50", "0% to 100%, or infinity"},
                {"BytesMaxPerUid", "%", "% 50", "0% to 100%, or infinity"},
                {"BytesMaxPerUid", "-1%", "% 50", "0% to 100%, or infinity"},
                {"BytesMaxPerUid", "1.5%", "% 50", "0% to 100%, or infinity"},
                {"BytesMaxPerUid", "0000000000050%", "% 50", "0% to 100%, or infinity"},
                {"BytesMaxPerUid", "16E", "% 50", "or infinity"},
                {"BytesMaxPerUid", "half", "% 50", "or infinity"},
                {"LeasesMaxPerUid", "7", "= 7", NULL},
                {"LeasesMaxPerUid", "50%", "% 50", NULL},
                {"LeasesMaxPerUid", "7K", "% 25", "a number, 0% to 100%, or infinity"},
                {"SlicesMaxPerUid", "7", "= 7", NULL},
                {"SlicesMaxPerUid", "50%", "= 8192", "a number or infinity"},
                {"WaitingMaxPerUid", "0", "= 0", NULL},
                {"WaitingMaxPerUid", "", "% 25", NULL},
                {"CallsMaxPerUid", "9", "= 9", NULL},
                {"CallsMaxPerUid", "9%", "= 512", "a number or infinity"},
};

static void test_values(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(config_freep) Config *c = NULL;
                char text[256], result[128], place[128];
                Warnings w;

                (void) snprintf(text, sizeof(text), "# first\n[Egmd]\n%s=%s\nVerify=%s\n",
                                table[i].key, table[i].value,
                                streq(table[i].key, "Verify") ? table[i].value : "off");
                c = parse(text, &w);
                describe(c, table[i].key, result, sizeof(result));
                if (!streq(result, table[i].result))
                        fail_msg("%s=%s: %s", table[i].key, table[i].value, result);
                /* The rest goes on. */
                assert_true(streq(table[i].key, "Verify") || c->verify == CONFIG_VERIFY_OFF);
                if (!table[i].allowed) {
                        if (w.n > 0)
                                fail_msg("%s=%s: %s", table[i].key, table[i].value, w.text);
                        continue;
                }
                (void) snprintf(place, sizeof(place), "f:3: %s=", table[i].key);
                if (w.n == 0 || strncmp(w.text, place, strlen(place)) != 0 ||
                    !strstr(w.text, table[i].allowed))
                        fail_msg("%s=%s: %u, %s", table[i].key, table[i].value, w.n, w.text);
        }
}

/* A value that is no good leaves what was said before, an empty one takes it back. */
static void test_again(void **state) {
        static const struct {
                const char *key, *good, *bad;
        } again[] = {
                        {"EgmOffsetAllowed", "yes", "x"}, {"DefaultAlign", "1G", "x"},
                        {"PollRetiredSec", "5s", "x"},    {"ScrubThreads", "3", "x"},
                        {"ScrubBandwidth", "1G", "x"},    {"ScrubCPUs", "5", "x"},
                        {"Verify", "whole", "x"},         {"RequireEnforcement", "yes", "x"},
                        {"OverreachAction", "kill", "x"}, {"LeasesMax", "7", "x"},
                        {"WaitingMax", "7", "x"},         {"BytesMaxPerUid", "7", "x"},
                        {"LeasesMaxPerUid", "7", "x"},    {"SlicesMaxPerUid", "7", "x"},
                        {"WaitingMaxPerUid", "7", "x"},   {"CallsMaxPerUid", "7", "x"},
                        {"AllowLowRegions", "egm2", "x"}, {"Enforcement", "off", "x"},
                        {"DmabufAllowed", "yes", "x"},
        };

        for (size_t i = 0; i < ELEMENTSOF(again); i++) {
                _cleanup_(config_freep) Config *first = NULL, *second = NULL, *third = NULL;
                char text[256], good[128], result[128];
                Warnings w;

                (void) snprintf(text, sizeof(text), "[Egmd]\n%s=%s\n", again[i].key, again[i].good);
                first = parse(text, &w);
                describe(first, again[i].key, good, sizeof(good));
                (void) snprintf(text, sizeof(text), "[Egmd]\n%s=%s\n%s=%s\n", again[i].key,
                                again[i].good, again[i].key, again[i].bad);
                second = parse(text, &w);
                describe(second, again[i].key, result, sizeof(result));
                assert_string_equal(result, good);
                assert_int_equal(w.n, 1);
                (void) snprintf(text, sizeof(text), "[Egmd]\n%s=%s\n%s=\n", again[i].key,
                                again[i].good, again[i].key);
                third = parse(text, &w);
                describe(third, again[i].key, result, sizeof(result));
                assert_int_equal(w.n, 0);
                if (streq(result, good))
                        fail_msg("%s= takes nothing back", again[i].key);
        }
}

static void test_lists_add(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        char result[64];
        Warnings w;

        c = parse("[Egmd]\nScrubCPUs=4\nScrubCPUs=1\nScrubCPUs=1,2\n"
                  "AllowLowRegions=egm0\nAllowLowRegions=egm3\n",
                  &w);
        describe(c, "ScrubCPUs", result, sizeof(result));
        assert_string_equal(result, "1 2 4");
        describe(c, "AllowLowRegions", result, sizeof(result));
        assert_string_equal(result, "1001");
        assert_true(config_region_allowed(c, 0));
        assert_false(config_region_allowed(c, 1));
        assert_true(config_region_allowed(c, 3));
        assert_true(config_region_allowed(c, 4));
        assert_true(config_region_allowed(c, -1));
        assert_int_equal(w.n, 0);
}

/* ---- Regions ---- */

static void test_regions(void **state) {
        static const struct {
                const char *text;
                RegionMode egm4, egm5;
                unsigned warnings;
        } files[] = {
                        {"", REGION_MODE_AUTO, REGION_MODE_AUTO, 0},
                        {"[Region egm4]\nMode=whole\n", REGION_MODE_WHOLE, REGION_MODE_AUTO, 0},
                        {"[Region egm4]\nMode=whole\n[Egmd]\nMode=shared\n", REGION_MODE_WHOLE,
                         REGION_MODE_SHARED, 0},
                        {"[Egmd]\nMode=observe\n[Region egm5]\nMode=auto\n", REGION_MODE_OBSERVE,
                         REGION_MODE_AUTO, 0},
                        {"[Region egm4]\nMode=whole\n[Region egm5]\n[Region egm4]\nMode=shared\n",
                         REGION_MODE_SHARED, REGION_MODE_AUTO, 0},
                        {"[Region egm4]\nMode=whole\nMode=\n", REGION_MODE_AUTO, REGION_MODE_AUTO,
                         0},
                        {"[Region  egm4]\nMode=whole", REGION_MODE_WHOLE, REGION_MODE_AUTO, 0},
                        /* A mistake keeps us off the region, and off that one alone. */
                        {"[Region egm4]\nMode=hole\n", REGION_MODE_OBSERVE, REGION_MODE_AUTO, 1},
                        {"[Region egm4]\nMode=whole\nMode=x\n", REGION_MODE_OBSERVE,
                         REGION_MODE_AUTO, 1},
                        {"[Region egm4]\nMode=x\nMode=whole\n", REGION_MODE_WHOLE, REGION_MODE_AUTO,
                         1},
                        {"[Egmd]\nMode=x\n[Region egm4]\nMode=whole\n", REGION_MODE_WHOLE,
                         REGION_MODE_OBSERVE, 1},
                        {"[Region egm4]\nVerify=off\nMode=whole\n", REGION_MODE_WHOLE,
                         REGION_MODE_AUTO, 1},
                        /* Settings behind a bad section are nobody's. */
                        {"[Region egm4]\nMode=whole\n[Region x]\nMode=shared\n", REGION_MODE_WHOLE,
                         REGION_MODE_AUTO, 1},
                        {"[Region egm4]\nMode=whole\n[Region egm5\nMode=shared\nMode=auto\n",
                         REGION_MODE_WHOLE, REGION_MODE_AUTO, 1},
                        {"[Region /dev/egm4]\nMode=whole\n", REGION_MODE_AUTO, REGION_MODE_AUTO, 1},
                        {"[Region egm4 egm5]\nMode=whole\n", REGION_MODE_AUTO, REGION_MODE_AUTO, 1},
                        {"[Region]\nMode=whole\n", REGION_MODE_AUTO, REGION_MODE_AUTO, 1},
                        {"[egmd]\nMode=whole\n", REGION_MODE_AUTO, REGION_MODE_AUTO, 1},
        };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(config_freep) Config *c = NULL;
                Warnings w;

                c = parse(files[i].text, &w);
                if (config_region_mode(c, "egm4") != files[i].egm4 ||
                    config_region_mode(c, "egm5") != files[i].egm5 || w.n != files[i].warnings)
                        fail_msg("%zu: %s %s %s", i,
                                 region_mode_to_string(config_region_mode(c, "egm4")),
                                 region_mode_to_string(config_region_mode(c, "egm5")), w.text);
        }
}

/* ---- Form ---- */

static void test_form(void **state) {
        static const struct {
                const char *text;
                uint64_t leases_max;
                const char *warnings; /* all of them */
        } files[] = {
                        {"[Egmd]\nLeasesMax=7", 7, ""},
                        {"\n\n [Egmd] \r\n\tLeasesMax \t= 7 \r\n", 7, ""},
                        {"# c\n; c\n[Egmd]\n  # LeasesMax=9\n;LeasesMax=9\nLeasesMax=7\n", 7, ""},
                        {"[Egmd]\nLeasesMax=\\\n7\n", 7, ""},
                        {"[Egmd]\nLeasesMax=\\\n# in between\n7\n", 7, ""},
                        {"[Egmd]\r\nLeasesMax=\\\r\n7\r\n", 7, ""},
                        {"[Egmd]\nLeasesMax=7\\\n# the end", 7, ""},
                        {"[Egmd]\nLeasesMax=7\\", 16384,
                         "f:2: LeasesMax=7\\: allowed is 1 to 16384; ignored\n"},
                        {"[Egmd]\nA=\\\n1\nLeasesMax=x\n", 16384,
                         "f:2: [Egmd] knows no 'A'; ignored\n"
                         "f:4: LeasesMax=x: allowed is 1 to 16384; ignored\n"},
                        {"LeasesMax=7\nA=1\n", 16384,
                         "f:1: 'LeasesMax=7' stands in no section; ignored, as what follows\n"},
                        {"[Egmd]\nLeasesMax\n=7\nleasesmax=7\n", 16384,
                         "f:2: 'LeasesMax' is neither a section nor KEY=VALUE; ignored\n"
                         "f:3: '=7' is neither a section nor KEY=VALUE; ignored\n"
                         "f:4: [Egmd] knows no 'leasesmax'; ignored\n"},
                        {"[X-Other]\nLeasesMax=7\n[Egmd]\nWaitingMax=1\n", 16384, ""},
                        {"[Other]\nLeasesMax=7\nA=2\n", 16384,
                         "f:1: No section [Other] is known, only [Egmd], [Region], [User], [Unit] "
                         "and [Slice]; ignored\n"},
                        {"[\n[]\n", 16384,
                         "f:1: '[' has no ']'; ignored, as what follows\n"
                         "f:2: No section [] is known, only [Egmd], [Region], [User], [Unit] and "
                         "[Slice]; ignored\n"},
                        {"[Egmd]\nLeasesMax=7\x01\x1b[2J\n", 16384,
                         "f:2: 'LeasesMax=7??[2J' holds control characters; ignored\n"},
                        {"[Egmd]\nLeasesMax=7\xc3\xa4\n", 16384,
                         "f:2: LeasesMax=7??: allowed is 1 to 16384; ignored\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(config_freep) Config *c = NULL;
                Warnings w;

                c = parse(files[i].text, &w);
                if (c->leases_max != files[i].leases_max || !streq(w.text, files[i].warnings))
                        fail_msg("%zu: %" PRIu64 "\n%s", i, c->leases_max, w.text);
        }
}

static void test_long_lines(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        _cleanup_free_ char *text = malloc(100001);
        Warnings w = {};

        memset(text, 'a', 100000);
        text[100000] = '\0';
        memcpy(text, "[Egmd]\nMode=", 12);
        c = make();
        parse_into(c, text, &w);
        assert_int_equal(w.n, 1);
        assert_true(strlen(w.text) < 256);
        assert_int_equal(c->mode, REGION_MODE_OBSERVE);
}

/* What is not text could have said anything. */
static void test_nul(void **state) {
        static const char text[] = "[Egmd]\nMode=auto\n\0[Region egm4]\nMode=observe\n";
        _cleanup_(config_freep) Config *c = make();
        Warnings w = {};

        assert_int_equal(config_parse(c, text, sizeof(text) - 1, "f", collect, &w), 0);
        assert_int_equal(w.n, 1);
        assert_int_equal(config_region_mode(c, "egm4"), REGION_MODE_OBSERVE);
        assert_int_equal(config_region_mode(c, "egm5"), REGION_MODE_OBSERVE);
}

/* ---- Files ---- */

static char root[64];

static void make_directories(const char *path) {
        char full[256];

        (void) snprintf(full, sizeof(full), "%s%s", root, path);
        for (char *s = full + strlen(root) + 1; *s; s++)
                if (*s == '/') {
                        *s = '\0';
                        assert_true(mkdir(full, 0755) == 0 || errno == EEXIST);
                        *s = '/';
                }
}

static void put(const char *path, const char *text) {
        char full[256];
        FILE *f;

        make_directories(path);
        (void) snprintf(full, sizeof(full), "%s%s", root, path);
        f = fopen(full, "we");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static int set_up(void **state) {
        (void) strcpy(root, "/tmp/egmd-config.XXXXXX");
        return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state) {
        char command[128];

        (void) snprintf(command, sizeof(command), "rm -rf '%s'", root);
        return system(command);
}

static Config *read_host(Warnings *w) {
        Config *c = make();

        *w = (Warnings){};
        assert_int_equal(config_read_host(c, root, collect, w), 0);
        return c;
}

static void test_no_files(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        Warnings w;

        c = read_host(&w);
        assert_int_equal(w.n, 0);
        assert_false(c->unreadable);
        assert_int_equal(c->leases_max, CONFIG_LEASES_MAX);
}

static void test_precedence(void **state) {
        Config *c;
        Warnings w;

        /* Of the main file, the first that is there; it is not added to. */
        put("/usr/lib/egmd/egmd.conf", "[Egmd]\nLeasesMax=1\nWaitingMax=1\n");
        c = read_host(&w);
        assert_int_equal(c->leases_max, 1);
        config_free(c);
        put("/run/egmd/egmd.conf", "[Egmd]\nLeasesMax=2\n");
        c = read_host(&w);
        assert_int_equal(c->leases_max, 2);
        assert_int_equal(c->waiting_max, CONFIG_WAITING_MAX);
        config_free(c);
        put("/etc/egmd/egmd.conf", "[Egmd]\nLeasesMax=3\nScrubThreads=3\n");
        c = read_host(&w);
        assert_int_equal(c->leases_max, 3);
        config_free(c);
        /* All drop-ins, by name, whatever directory they are in; only those called .conf. */
        put("/usr/lib/egmd/egmd.conf.d/50-a.conf", "[Egmd]\nLeasesMax=50\n");
        put("/etc/egmd/egmd.conf.d/10-b.conf", "[Egmd]\nLeasesMax=10\nWaitingMax=10\n");
        put("/etc/egmd/egmd.conf.d/90-c.conf.bak", "[Egmd]\nLeasesMax=90\n");
        put("/etc/egmd/egmd.conf.d/.99.conf", "[Egmd]\nScrubThreads=99\n");
        c = read_host(&w);
        assert_int_equal(c->leases_max, 50);
        assert_int_equal(c->waiting_max, 10);
        assert_int_equal(c->scrub_threads, 3);
        config_free(c);
        /* Of one name, the first directory's. */
        put("/run/egmd/egmd.conf.d/50-a.conf", "[Egmd]\nWaitingMax=51\n");
        c = read_host(&w);
        assert_int_equal(c->leases_max, 10);
        assert_int_equal(c->waiting_max, 51);
        assert_int_equal(w.n, 0);
        config_free(c);
}

/* Whatever order the file system has. */
static void test_order(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        Warnings w;

        for (unsigned i = 0; i < 64; i++) {
                unsigned n = i * 37 % 64;
                char path[128], text[64];

                (void) snprintf(path, sizeof(path), "%s/egmd.conf.d/%02u.conf",
                                n % 2 ? "/etc/egmd" : "/usr/lib/egmd", n);
                (void) snprintf(text, sizeof(text), "[Egmd]\nLeasesMax=%u\n", n + 1);
                put(path, text);
        }
        c = read_host(&w);
        assert_int_equal(c->leases_max, 64);
}

static void test_masked(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        char link[128];
        Warnings w;

        put("/usr/lib/egmd/egmd.conf.d/50-a.conf", "[Egmd]\nLeasesMax=50\n");
        make_directories("/etc/egmd/egmd.conf.d/x");
        (void) snprintf(link, sizeof(link), "%s/etc/egmd/egmd.conf.d/50-a.conf", root);
        assert_int_equal(symlink("/dev/null", link), 0);
        c = read_host(&w);
        assert_int_equal(c->leases_max, CONFIG_LEASES_MAX);
        assert_int_equal(w.n, 0);
}

/* Warnings name the file. What cannot be read keeps us off all regions, whatever else is said. */
static void test_unreadable(void **state) {
        _cleanup_(config_freep) Config *c = NULL, *d = NULL;
        Warnings w;

        put("/etc/egmd/egmd.conf", "[Egmd]\nLeasesMax=x\nMode=shared\n[Region egm4]\nMode=auto\n");
        c = read_host(&w);
        assert_non_null(strstr(w.text, "/etc/egmd/egmd.conf:2: LeasesMax=x"));
        assert_int_equal(config_region_mode(c, "egm4"), REGION_MODE_AUTO);
        make_directories("/etc/egmd/egmd.conf.d/directory.conf/x");
        d = read_host(&w);
        assert_int_equal(w.n, 2);
        assert_non_null(strstr(w.text, "directory.conf: cannot be read: Is a directory"));
        assert_int_equal(config_region_mode(d, "egm4"), REGION_MODE_OBSERVE);
}

static void test_one_file(void **state) {
        _cleanup_(config_freep) Config *c = make();
        Warnings w = {};
        char path[128];

        put("/etc/egmd/egmd.conf", "[Egmd]\nLeasesMax=3\n");
        (void) snprintf(path, sizeof(path), "%s/etc/egmd/egmd.conf", root);
        assert_int_equal(config_read_file(c, path, collect, &w), 0);
        assert_int_equal(c->leases_max, 3);
        (void) strcat(path, ".not");
        assert_int_equal(config_read_file(c, path, collect, &w), -ENOENT);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_values),
                        cmocka_unit_test(test_again),
                        cmocka_unit_test(test_lists_add),
                        cmocka_unit_test(test_regions),
                        cmocka_unit_test(test_form),
                        cmocka_unit_test(test_long_lines),
                        cmocka_unit_test(test_nul),
                        cmocka_unit_test_setup_teardown(test_no_files, set_up, tear_down),
                        cmocka_unit_test_setup_teardown(test_precedence, set_up, tear_down),
                        cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
                        cmocka_unit_test_setup_teardown(test_masked, set_up, tear_down),
                        cmocka_unit_test_setup_teardown(test_unreadable, set_up, tear_down),
                        cmocka_unit_test_setup_teardown(test_one_file, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
