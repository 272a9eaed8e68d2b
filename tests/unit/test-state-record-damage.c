/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"

#include "lifeline.h"
#include "state-records.h"

/* Texts that are no records. */

static void test_truncations(void **state) {
        static const char *const names[] = {"lease-7.json", "region-egm4.json", "egmd.json"};

        for (unsigned format = 1; format <= 4; format++)
                for (int kind = 0; kind < _RECORD_KIND_MAX; kind++) {
                        size_t size;
                        char *text = record_fixture(format, names[kind], &size);

                        assert_int_equal(record_read_any((RecordKind) kind, text, size), 0);
                        assert_int_equal(record_read_any((RecordKind) kind, text, size - 1),
                                         0); /* newline */
                        for (size_t n = 0; n < size - 1; n++)
                                assert_int_equal(record_read_any((RecordKind) kind, text, n),
                                                 -EBADMSG);
                        free(text);
                }
}

static size_t mutate(char *text, size_t size) {
        static const char bytes[] = "\"\\{}[]:,0123456789-.eEtfnu \n/\x80\xff";
        size_t at = random_below(size), n = MIN(1 + random_below(24), size - at);

        switch (random_below(6)) {
        case 0: /* any byte */
                text[at] = (char) random_u64();
                return size;
        case 1: /* one that means something */
                text[at] = bytes[random_below(sizeof(bytes))];
                return size;
        case 2: /* one bit */
                text[at] = (char) (text[at] ^ (1 << random_below(8)));
                return size;
        case 3: /* lose a piece */
                memmove(text + at, text + at + n, size - at - n);
                return size - n;
        case 4: /* twice a piece */
                memmove(text + at + n, text + at, size - at);
                return size + n;
        default: /* a piece elsewhere */
                memmove(text + random_below(size - n + 1), text + at, n);
                return size;
        }
}

static void test_mutations(void **state) {
        static const char *const names[] = {"lease-7.json", "region-egm4.json", "egmd.json"};
        unsigned good = 0, newer = 0, bad = 0;

        random_seed(2);
        for (int i = 0; i < 20000; i++) {
                RecordKind kind = (RecordKind) random_below(_RECORD_KIND_MAX);
                char text[8192], *original;
                size_t size;
                int r;

                original = record_fixture(1 + (unsigned) random_below(2), names[kind], &size);
                memcpy(text, original, size);
                free(original);
                for (uint64_t n = 1 + random_below(3); n > 0 && size > 0; n--)
                        size = mutate(text, size);
                r = record_read_any(kind, text, size);
                good += r == 0;
                newer += r == -EPROTONOSUPPORT;
                bad += r == -EBADMSG;
        }
        /* Otherwise the mutations would not say much. */
        print_message("%u good, %u newer, %u bad\n", good, newer, bad);
        assert_true(good > 200);
        assert_true(newer > 2);
        assert_true(bad > 10000);
}

#define HEAD "{\"private\":\"\",\"format\":4,\"boot\":\"b\","
#define LEASE_TEXT \
        HEAD "\"id\":7,\"label\":\"\",\"lifetime\":\"descriptor\",\"uid\":0,\"pid\":1," \
             "\"unit\":\"\",\"created\":5,\"released\":false,\"delegate\":null," \
             "\"account_unit\":\"a.service\",\"account_slice\":null,\"dmabuf\":false,\"dmabufs\":" \
             "[],\"bound\":[{" \
             "\"pid\":3,\"start\":4}]," \
             "\"slices\":[{\"region\":\"egm4\",\"offset\":0,\"size\":65536,\"phase\":\"leased\"}]" \
             "}"
#define REGION_TEXT \
        HEAD "\"name\":\"egm4\",\"rdev\":0,\"inode\":0,\"size\":1,\"offsets\":true,\"file_dev\":" \
             "0," \
             "\"file_ino\":0,\"schedulable\":true}"
#define DAEMON_TEXT HEAD "\"next_lease\":1}"

static const struct {
        RecordKind kind;
        const char *from, *to; /* one exchange in the text above */
        const char *why;       /* NULL: still good */
} table[] = {
                {RECORD_LEASE, "7", "18446744073709551615", NULL},
                {RECORD_LEASE, "7", "18446744073709551616", "a number beyond 18446744073709551615"},
                {RECORD_LEASE, "\"id\":7", "\"id\":0", "id: leases count from 1"},
                {RECORD_LEASE, "7", "-7", "id: negative"},
                {RECORD_LEASE, "7", "007", "not JSON"},
                {RECORD_LEASE, "7", "+7", "not JSON"},
                {RECORD_LEASE, "7", "99999999999999999999999999", "a number beyond"},
                {RECORD_LEASE, "7", "-99999999999999999999999999", "a number beyond"},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"99999999999999999999999999\"", NULL},
                {RECORD_LEASE, "7", "7.0", "id: not a whole number"},
                {RECORD_LEASE, "7", "7e0", "id: not a whole number"},
                {RECORD_LEASE, "7", "\"7\"", "id: not a whole number"},
                {RECORD_LEASE, "7", "null", "id: not a whole number"},
                {RECORD_LEASE, "7", "true", "id: not a whole number"},
                {RECORD_LEASE, "\"id\":7,", "", "id: missing"},
                {RECORD_LEASE, "\"id\":7,", "\"id\":7,\"id\":7,", "twice"},
                {RECORD_LEASE, "\"id\":7,", "\"id\":7,\"new\":7,", "new: unknown key"},
                {RECORD_LEASE, "\"id\":7,", "\"id\\u0000\":7,", "NUL"},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":null", NULL},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"\\\\u0000:\\\"\"", NULL},
                /* It would be refused as a request; in a record of an older version it was not. */
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"a\\u202e\"", NULL},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"a\\u0000\"", "NUL"},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"a\\n\"", "label: "},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"\\u0085\"", "label: "},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"\xff\"", "not JSON"},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":\"\xc0\x80\"", "label: "},
                {RECORD_LEASE, "\"label\":\"\"", "\"label\":1", "label: not text"},
                {RECORD_LEASE, "\"dmabuf\":false,", "", "dmabuf: missing"},
                {RECORD_LEASE, ",\"dmabufs\":[]", "", "dmabufs: missing"},
                {RECORD_LEASE, "\"dmabufs\":[]", "\"dmabufs\":[{\"dev\":1,\"ino\":2}]",
                 "dmabufs: 1, at most 0"},
                {RECORD_LEASE, "false,\"dmabufs\":[]", "true,\"dmabufs\":[{\"dev\":1,\"ino\":2}]",
                 NULL},
                {RECORD_LEASE, "false,\"dmabufs\":[]", "true,\"dmabufs\":[{\"dev\":1}]",
                 "ino: missing"},
                {RECORD_LEASE, "\"unit\":\"\"", "\"unit\":null", NULL},
                {RECORD_LEASE, "\"unit\":\"\"", "\"unit\":[]", "unit: not text"},
                {RECORD_LEASE, "\"a.service\"", "null", NULL},
                {RECORD_LEASE, "\"a.service\"", "7", "account_unit: not text"},
                {RECORD_LEASE, "\"account_slice\":null", "\"account_slice\":\"a.slice\"", NULL},
                {RECORD_LEASE, "\"account_slice\":null", "\"account_slice\":\"\\u0001\"",
                 "account: "},
                {RECORD_LEASE, "\"account_slice\":null,", "", "account_slice: missing"},
                {RECORD_LEASE, "descriptor", "eternal", "lifetime: no such one"},
                {RECORD_LEASE, "\"descriptor\"", "null", "lifetime: not text"},
                {RECORD_LEASE, "\"uid\":0", "\"uid\":4294967295", NULL},
                {RECORD_LEASE, "\"uid\":0", "\"uid\":4294967296", "larger than 4294967295"},
                {RECORD_LEASE, "\"pid\":1", "\"pid\":2147483647", NULL},
                {RECORD_LEASE, "\"pid\":1", "\"pid\":2147483648", "larger than 2147483647"},
                {RECORD_LEASE, "false", "0", "released: not true or false"},
                {RECORD_LEASE, "null", "-1", "delegate: negative"},
                {RECORD_LEASE, "false", "False", "not JSON"},
                {RECORD_LEASE, "{\"pid\":3,\"start\":4}", "", NULL},
                {RECORD_LEASE, "\"pid\":3", "\"pid\":0", "bound[0]: 0 is no process"},
                {RECORD_LEASE, "\"start\":4", "\"start\":-1", "bound[0].start: negative"},
                {RECORD_LEASE, ",\"start\":4", "", "bound[0].start: missing"},
                {RECORD_LEASE, "[{\"pid\":3,\"start\":4}]", "{}", "bound: not a list"},
                {RECORD_LEASE, "{\"pid\":3,\"start\":4}", "3", "bound[0]: not an object"},
                {RECORD_LEASE, "egm4", "", "slices[0]: not a region's name"},
                {RECORD_LEASE, "egm4", "a/b", "slices[0]: not a region's name"},
                {RECORD_LEASE, "egm4", "a\\tb", "slices[0]: not a region's name"},
                {RECORD_LEASE, "\"offset\":0", "\"offset\":9223372036854710271", NULL},
                {RECORD_LEASE, "\"offset\":0", "\"offset\":9223372036854710272",
                 "beyond any region"},
                {RECORD_LEASE, "\"offset\":0", "\"offset\":9223372036854775808", "larger than"},
                {RECORD_LEASE, "\"offset\":0", "\"offset\":18446744073709551615", "larger than"},
                {RECORD_LEASE, "65536", "0", "slices[0]: empty"},
                {RECORD_LEASE, "65536", "9223372036854775807", NULL},
                {RECORD_LEASE, "65536", "9223372036854775808",
                 "slices[0].size: 9223372036854775808 is"},
                {RECORD_LEASE, "65536", "-65536", "slices[0].size: negative"},
                {RECORD_LEASE, "65536", "65536.5", "slices[0].size: not a whole number"},
                {RECORD_LEASE, "\"leased\"", "\"lent\"", "slices[0].phase: no such phase"},
                {RECORD_LEASE, ",\"phase\":\"leased\"", "", "slices[0].phase: missing"},
                {RECORD_LEASE, "\"leased\"", "\"leased\",\"phase\":\"lost\"", "twice"},
                {RECORD_LEASE, "\"slices\":[{", "\"slices\":[],\"x\":[{", "x: unknown key"},
                {RECORD_LEASE, "}]}", "}]} \n\t ", NULL},
                {RECORD_LEASE, "}]}", "}]}{}", "not JSON"},
                {RECORD_LEASE, "}]}", "}]}x", "not JSON"},
                {RECORD_LEASE, "}]}", "}],}", "not JSON"},
                {RECORD_LEASE, "}]}", "}]}/**/", "not JSON"},
                {RECORD_LEASE, "{\"private\"", "[{\"private\"", "not JSON"},
                {RECORD_LEASE, "\"private\":\"\",", "", "private: missing"},
                {RECORD_LEASE, "\"private\":\"\",", "\"private\":1,", "private: not text"},
                {RECORD_LEASE, "\"format\":4", "\"format\":0", "format: 0 has never been"},
                {RECORD_LEASE, "\"format\":4", "\"format\":-3", "format: negative"},
                {RECORD_LEASE, "\"format\":4", "\"format\":\"4\"", "format: not a whole number"},
                {RECORD_LEASE, "\"format\":4", "\"format\":4294967296",
                 "format: 4294967296 is larger"},
                {RECORD_LEASE, "\"format\":4", "\"format\":1", "unknown key"},
                {RECORD_LEASE, "\"format\":4,", "", "format: missing"},
                {RECORD_LEASE, "\"format\":4", "\"format\":4,\"format\":4", "twice"},
                {RECORD_LEASE, "\"boot\":\"b\"", "\"boot\":\"\"", "boot: "},
                {RECORD_LEASE, "\"boot\":\"b\"", "\"boot\":null", "boot: not text"},
                {RECORD_REGION, "egm4", "e/4", "name: "},
                {RECORD_REGION, "egm4", "e\\u001b4", "name: "},
                {RECORD_REGION, "\"size\":1", "\"size\":0", "size: 0 cannot be"},
                {RECORD_REGION, "\"size\":1", "\"size\":9223372036854775807", NULL},
                {RECORD_REGION, "\"size\":1", "\"size\":9223372036854775808",
                 "size: 9223372036854775808"},
                {RECORD_REGION, "\"rdev\":0", "\"rdev\":18446744073709551615", NULL},
                {RECORD_REGION, "\"inode\":0", "\"inode\":18446744073709551615", NULL},
                {RECORD_REGION, "\"offsets\":true", "\"offsets\":1", "offsets: not true or false"},
                {RECORD_REGION, ",\"schedulable\":true", "", "schedulable: missing"},
                {RECORD_DAEMON, "\"next_lease\":1", "\"next_lease\":0", "next_lease: "},
                {RECORD_DAEMON, "\"next_lease\":1", "\"next_lease\":18446744073709551615", NULL},
                {RECORD_DAEMON, "\"next_lease\":1", "\"next_lease\":18446744073709551616",
                 "a number beyond"},
                {RECORD_DAEMON, "\"next_lease\":1", "\"id\":1", "id: unknown key"},
};

static void test_refusals(void **state) {
        static const char *const texts[] = {LEASE_TEXT, REGION_TEXT, DAEMON_TEXT};

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                const char *base = texts[table[i].kind], *at = strstr(base, table[i].from);
                unsigned format;
                char text[2048], *why;
                Record r;
                int k;

                assert_non_null(at);
                (void) snprintf(text, sizeof(text), "%.*s%s%s", (int) (at - base), base,
                                table[i].to, at + strlen(table[i].from));
                assert_int_equal(record_read_any(table[i].kind, base, strlen(base)), 0);
                k = record_read_any(table[i].kind, text, strlen(text));
                if (k != (table[i].why ? -EBADMSG : 0))
                        fail_msg("%s gives %i", text, k);
                if (!table[i].why)
                        continue;
                assert_int_equal(record_from_text(table[i].kind, text, strlen(text), &r, &format,
                                                  &why),
                                 -EBADMSG);
                if (!strstr(why, table[i].why))
                        fail_msg("%s: \"%s\" does not say \"%s\"", text, why, table[i].why);
                free(why);
        }
}

/* Lists at their limits, whole files that are too long, bytes that no text has. */
static void test_limits(void **state) {
        static const char slice[] =
                        "{\"region\":\"egm4\",\"offset\":0,\"size\":1,\"phase\":\"done\"},";
        char *text = calloc(1, 2 * STATE_FILE_MAX);
        const char *tail;
        unsigned format;
        DaemonRecord d;
        size_t size;
        char *why;

        for (unsigned n = 0; n <= STATE_SLICES_MAX + 1; n++) {
                char *p = strstr(strcpy(text, LEASE_TEXT), "{\"region");

                for (unsigned i = 0; i < n; i++)
                        p = stpcpy(p, slice);
                strcpy(n > 0 ? p - 1 : p, "]}");
                assert_int_equal(record_read_any(RECORD_LEASE, text, strlen(text)),
                                 n >= 1 && n <= STATE_SLICES_MAX ? 0 : -EBADMSG);
        }
        tail = strstr(LEASE_TEXT, "],\"slices\"");
        for (unsigned n = 0; n <= LIFELINE_BOUND_MAX + 1; n++) {
                char *p = strstr(strcpy(text, LEASE_TEXT), "{\"pid\":3");

                for (unsigned i = 0; i < n; i++)
                        p = stpcpy(p, "{\"pid\":3,\"start\":0},");
                strcpy(n > 0 ? p - 1 : p, tail);
                assert_int_equal(record_read_any(RECORD_LEASE, text, strlen(text)),
                                 n <= LIFELINE_BOUND_MAX ? 0 : -EBADMSG);
        }
        memset(text, ' ', 2 * STATE_FILE_MAX);
        memcpy(text, DAEMON_TEXT, strlen(DAEMON_TEXT));
        assert_int_equal(record_read_any(RECORD_DAEMON, text, STATE_FILE_MAX), 0);
        assert_int_equal(record_read_any(RECORD_DAEMON, text, STATE_FILE_MAX + 1), -EBADMSG);
        text[strlen(DAEMON_TEXT)] = '\0';
        assert_int_equal(record_read_any(RECORD_DAEMON, text, strlen(DAEMON_TEXT)), 0);
        assert_int_equal(record_read_any(RECORD_DAEMON, text, strlen(DAEMON_TEXT) + 1), -EBADMSG);
        /* Also where it would only cut a key short. */
        size = (size_t) snprintf(text, STATE_FILE_MAX, HEAD "\"next_lease%c\":1}", '\0');
        assert_int_equal(record_read_any(RECORD_DAEMON, text, size), -EBADMSG);
        /* We say so ourselves, and do not rely on what json-c makes of one. */
        assert_int_equal(daemon_record_from_text(text, size, &d, &format, &why), -EBADMSG);
        assert_string_equal(why, "the file: a NUL byte in it");
        free(why);
        memset(text, '[', STATE_FILE_MAX);
        assert_int_equal(record_read_any(RECORD_DAEMON, text, STATE_FILE_MAX), -EBADMSG);
        free(text);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_truncations),
                        cmocka_unit_test(test_mutations),
                        cmocka_unit_test(test_refusals),
                        cmocka_unit_test(test_limits),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
