/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include <inttypes.h>

#include "config.h"

static char said[2048];

static void collect(const char *message, void *userdata) {
        if (strlen(said) + strlen(message) + 2 < sizeof(said)) {
                (void) strcat(said, message);
                (void) strcat(said, "\n");
        }
}

/* "user 0 root: Bytes=5 Leases=inf; " */
static void describe(const Config *c, char *buf, size_t size) {
        *buf = '\0';
        for (size_t k = 0; k < c->quota.n_rules; k++) {
                const QuotaRule *rule = c->quota.rules + k;
                size_t n = strlen(buf);

                (void) snprintf(buf + n, size - n, "%s %i %s:", quota_scope_to_string(rule->scope),
                                (int) rule->uid, rule->glob);
                for (int i = 0; i < _QUOTA_RESOURCE_MAX; i++) {
                        const QuotaLimit *l = rule->limits + i;

                        n = strlen(buf);
                        if (l->kind == QUOTA_INFINITY)
                                (void) snprintf(buf + n, size - n, " %s=inf",
                                                quota_resource_to_string(i));
                        else if (l->kind != QUOTA_NOT_SET)
                                (void) snprintf(buf + n, size - n, " %s=%" PRIu64 "%s",
                                                quota_resource_to_string(i), l->value,
                                                l->kind == QUOTA_PERCENT ? "%" : "");
                }
                (void) strcat(buf, "; ");
        }
}

static void test_sections(void **state) {
        static const struct {
                const char *text, *rules, *warnings;
        } files[] = {
                        {"[User 1000]\nBytesMax=5K\nLeasesMax=infinity\nSlicesMax=9\n"
                         "WaitingMax=10%\nCallsMax=0\n",
                         "user 1000 1000: Bytes=5120 Leases=inf Slices=9 Waiting=10% Calls=0; ",
                         ""},
                        {"[User root]\nBytesMax=50%\n", "user 0 root: Bytes=50%; ", ""},
                        {"[Unit vm@*.service]\nLeasesMax=1\n", "unit -1 vm@*.service: Leases=1; ",
                         ""},
                        {"[Slice  tenant-a.slice]\nBytesMax=1G\n[Unit *]\nCallsMax=3\n",
                         "slice -1 tenant-a.slice: Bytes=1073741824; unit -1 *: Calls=3; ", ""},
                        /* The same section again goes on, whatever was between; "Key=" takes back. */
                        {"[User 5]\nBytesMax=5\nLeasesMax=5\n[Unit *]\n[User 5]\nBytesMax=\n"
                         "LeasesMax=6\n",
                         "user 5 5: Leases=6; unit -1 *:; ", ""},
                        {"[Unit a.b]\n[Slice a.b]\n", "unit -1 a.b:; slice -1 a.b:; ", ""},
                        /* What is wrong costs itself, and nothing else. */
                        {"[User 5]\nBytesMax=x\nMode=whole\nLeasesMax=6\n", "user 5 5: Leases=6; ",
                         "f:2: BytesMax=x: allowed is bytes (K, M, G, T), 0% to 100%, or infinity; "
                         "ignored\nf:3: [User] knows no 'Mode'; ignored\n"},
                        {"[User no-such-user]\nBytesMax=5\n", "user -1 no-such-user: Bytes=5; ",
                         "[User no-such-user]: there is no such user; ignored\n"},
                        {"[User 4294967295]\n", "user -1 4294967295:; ",
                         "[User 4294967295]: there is no such user; ignored\n"},
                        {"[Unit vm]\nBytesMax=5\n", "",
                         "f:1: 'vm' is no unit's name like vm.service, or a pattern; ignored\n"},
                        {"[Slice ]\nBytesMax=5\n[User ]\n[User a b]\n", "",
                         "f:1: '' is no slice's name like vm.service, or a pattern; ignored\n"
                         "f:3: '' is no user's name; ignored\n"
                         "f:4: 'a b' is no user's name; ignored\n"},
                        {"[Egmd]\nBytesMax=5\n", "", "f:2: [Egmd] knows no 'BytesMax'; ignored\n"},
        };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_(config_freep) Config *c = NULL;
                char rules[1024];

                *said = '\0';
                assert_int_equal(config_new(&c), 0);
                assert_int_equal(config_parse(c, files[i].text, strlen(files[i].text), "f", collect,
                                              NULL),
                                 0);
                config_find_users(c, collect, NULL);
                describe(c, rules, sizeof(rules));
                assert_string_equal(rules, files[i].rules);
                assert_string_equal(said, files[i].warnings);
        }
}

static void test_many(void **state) {
        _cleanup_(config_freep) Config *c = NULL;
        char line[64];

        *said = '\0';
        assert_int_equal(config_new(&c), 0);
        for (unsigned i = 0; i <= CONFIG_RULES_MAX; i++) {
                (void) snprintf(line, sizeof(line), "[User %u]\nBytesMax=%u\n", i, i);
                assert_int_equal(config_parse(c, line, strlen(line), "f", collect, NULL), 0);
        }
        assert_int_equal(c->quota.n_rules, CONFIG_RULES_MAX);
        assert_string_equal(said, "f:1: More than 1024 users, units and slices; ignored\n");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_sections),
                        cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
