/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <limits.h>

#include "lifeline.h"
#include "manager.h"
#include "state-records.h"

_Static_assert(LEASE_LABEL_MAX <= STATE_TEXT_MAX, "a label that could not be recorded");
_Static_assert(EGM_SLICES_MAX <= STATE_SLICES_MAX, "a lease that could not be recorded");

static void test_round_trips(void **state) {
        random_seed(1);
        for (int i = 0; i < 3000; i++) {
                RecordKind kind = (RecordKind) (i % _RECORD_KIND_MAX);
                unsigned format = 0;
                Record a, b;
                size_t size;
                char *text, *why;

                record_random(kind, &a);
                assert_int_equal(record_to_text(kind, &a, &text, &size), 0);
                assert_int_equal(strlen(text), size);
                assert_true(size <= STATE_FILE_MAX);
                assert_int_equal(strncmp(text, "{\"private\":\"", 12), 0);
                assert_int_equal(record_from_text(kind, text, size, &b, &format, &why), 0);
                assert_int_equal(format, STATE_FORMAT);
                assert_null(why);
                record_assert_equal(kind, &a, &b);
                free(text);
                record_done(kind, &a);
                record_done(kind, &b);
        }
}

/* The largest record there can be is a file that is read again. */
static void test_largest(void **state) {
        char text[STATE_TEXT_MAX + 1], name[STATE_NAME_MAX + 1], *s, *why;
        SliceRecord slices[STATE_SLICES_MAX];
        BoundRecord bound[LIFELINE_BOUND_MAX];
        LeaseDmabuf dmabufs[LEASE_DMABUFS_MAX];
        LeaseRecord r = {
                        .boot = name,
                        .id = UINT64_MAX,
                        .label = text,
                        .lifetime = LEASE_LIFETIME_DESCRIPTOR,
                        .owner_uid = UINT32_MAX,
                        .owner_pid = INT_MAX,
                        .unit = text,
                        .created_usec = UINT64_MAX,
                        .bound = bound,
                        .n_bound = ELEMENTSOF(bound),
                        .slices = slices,
                        .n_slices = ELEMENTSOF(slices),
                        .account_unit = text,
                        .account_slice = text,
                        .dmabuf = true,
                        .dmabufs = dmabufs,
                        .n_dmabufs = ELEMENTSOF(dmabufs),
        };
        unsigned format;
        LeaseRecord again;
        size_t size;

        memset(text, '"', STATE_TEXT_MAX);
        text[STATE_TEXT_MAX] = '\0';
        memset(name, '"', STATE_NAME_MAX);
        name[STATE_NAME_MAX] = '\0';
        for (size_t i = 0; i < ELEMENTSOF(slices); i++)
                slices[i] = (SliceRecord){name, INT64_MAX - 1, 1, SLICE_SCRUBBING};
        for (size_t i = 0; i < ELEMENTSOF(bound); i++)
                bound[i] = (BoundRecord){INT_MAX, UINT64_MAX};
        for (size_t i = 0; i < ELEMENTSOF(dmabufs); i++)
                dmabufs[i] = (LeaseDmabuf){UINT64_MAX, UINT64_MAX};
        assert_int_equal(lease_record_to_text(&r, &s, &size), 0);
        assert_true(size < STATE_FILE_MAX / 2);
        assert_int_equal(lease_record_from_text(s, size, &again, &format, &why), 0);
        lease_record_assert_equal(&r, &again);
        lease_record_done(&again);
        free(s);
}

/* What could not be read again is not written. */
static void test_writes_nothing_unreadable(void **state) {
        char name[STATE_NAME_MAX + 2], text[STATE_TEXT_MAX + 2], *s;
        BoundRecord bound[LIFELINE_BOUND_MAX + 1] = {{1, 1}};
        SliceRecord slice = {(char *) "egm4", 0, 1, SLICE_LEASED};
        SliceRecord slices[STATE_SLICES_MAX + 1] = {slice};
        const LeaseRecord good = {
                        .boot = (char *) RECORD_BOOT,
                        .id = 1,
                        .bound = bound,
                        .n_bound = 1,
                        .slices = &slice,
                        .n_slices = 1,
        };
        const RegionRecord region = {
                        .boot = (char *) RECORD_BOOT, .name = (char *) "egm4", .size = 1};
        const DaemonRecord daemon = {.boot = (char *) RECORD_BOOT, .next_lease = 1};
        LeaseRecord l;
        RegionRecord g;
        DaemonRecord d;
        size_t size;

        memset(name, 'n', sizeof(name));
        name[sizeof(name) - 1] = '\0';
        memset(text, 't', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        assert_int_equal(lease_record_to_text(&good, &s, &size), 0);
        free(s);
#define LEASE_REFUSED(change) \
        do { \
                l = good; \
                slice = (SliceRecord){(char *) "egm4", 0, 1, SLICE_LEASED}; \
                bound[0].pid = 1; \
                change; \
                assert_int_equal(lease_record_to_text(&l, &s, &size), -EINVAL); \
        } while (0)
#define REGION_REFUSED(change) \
        do { \
                g = region; \
                change; \
                assert_int_equal(region_record_to_text(&g, &s, &size), -EINVAL); \
        } while (0)
#define DAEMON_REFUSED(change) \
        do { \
                d = daemon; \
                change; \
                assert_int_equal(daemon_record_to_text(&d, &s, &size), -EINVAL); \
        } while (0)
        LEASE_REFUSED(l.boot = NULL);
        LEASE_REFUSED(l.boot = (char *) "");
        LEASE_REFUSED(l.boot = (char *) "a/b");
        LEASE_REFUSED(l.boot = name);
        LEASE_REFUSED(l.id = 0);
        LEASE_REFUSED(l.label = (char *) "a\nb");
        LEASE_REFUSED(l.label = (char *) "a\x7f");
        LEASE_REFUSED(l.label = (char *) "\xc2\x85");
        LEASE_REFUSED(l.label = (char *) "\xff");
        LEASE_REFUSED(l.label = (char *) "\x80");
        LEASE_REFUSED(l.label = (char *) "\xc3");
        LEASE_REFUSED(l.label = (char *) "\xc0\x80");
        LEASE_REFUSED(l.label = (char *) "\xe0\x9f\xbf");
        LEASE_REFUSED(l.label = (char *) "\xed\xa0\x80");
        LEASE_REFUSED(l.label = (char *) "\xf0\x8f\xbf\xbf");
        LEASE_REFUSED(l.label = (char *) "\xf4\x90\x80\x80");
        LEASE_REFUSED(l.label = text);
        LEASE_REFUSED(l.unit = text);
        LEASE_REFUSED(l.unit = (char *) "\xe2\x82");
        LEASE_REFUSED(l.lifetime = _LEASE_LIFETIME_MAX);
        LEASE_REFUSED(l.lifetime = _LEASE_LIFETIME_INVALID);
        LEASE_REFUSED(l.owner_pid = -1);
        LEASE_REFUSED(l.n_bound = ELEMENTSOF(bound));
        LEASE_REFUSED(bound[0].pid = 0);
        LEASE_REFUSED(bound[0].pid = -1);
        LEASE_REFUSED(l.n_slices = 0);
        LEASE_REFUSED((l.slices = slices, l.n_slices = ELEMENTSOF(slices)));
        LEASE_REFUSED(slice.region = NULL);
        LEASE_REFUSED(slice.region = (char *) "../egm4");
        LEASE_REFUSED(slice.size = 0);
        LEASE_REFUSED(slice.size = UINT64_C(1) << 63);
        LEASE_REFUSED(slice.offset = INT64_MAX);
        LEASE_REFUSED(slice.offset = UINT64_MAX);
        LEASE_REFUSED(slice.phase = _SLICE_PHASE_MAX);
        LEASE_REFUSED(slice.phase = _SLICE_PHASE_INVALID);
        REGION_REFUSED(g.boot = NULL);
        REGION_REFUSED(g.name = NULL);
        REGION_REFUSED(g.name = (char *) "eg m");
        REGION_REFUSED(g.name = (char *) "egm\xc3\xbc");
        REGION_REFUSED(g.size = 0);
        REGION_REFUSED(g.size = UINT64_C(1) << 63);
        DAEMON_REFUSED(d.boot = NULL);
        DAEMON_REFUSED(d.next_lease = 0);
}

static void test_format_1(void **state) {
        BoundRecord bound[] = {{4243, 0}, {4244, 0}};
        SliceRecord slices[] = {{(char *) "egm4", 0, 2 * MIB, SLICE_LEASED},
                                {(char *) "egm5", GIB, 64 * KIB, SLICE_LEASED}};
        SliceRecord drained = {(char *) "egm4", 2 * MIB, 2 * MIB, SLICE_DRAINING};
        const Record seven = {.lease = {
                                              .boot = (char *) RECORD_BOOT,
                                              .id = 7,
                                              .label = (char *) "vm \"seven\"",
                                              .lifetime = LEASE_LIFETIME_DESCRIPTOR,
                                              .owner_uid = 1000,
                                              .owner_pid = 4242,
                                              .unit = (char *) "machine-qemu.scope",
                                              .created_usec = UINT64_C(1760000000000000),
                                              .bound = bound,
                                              .n_bound = 2,
                                              .slices = slices,
                                              .n_slices = 2,
                              }};
        const Record eight = {.lease = {
                                              .boot = (char *) RECORD_BOOT,
                                              .id = 8,
                                              .label = (char *) "",
                                              .lifetime = LEASE_LIFETIME_PERSISTENT,
                                              .owner_pid = 1,
                                              .created_usec = UINT64_C(1760000000000001),
                                              .released = true,
                                              .slices = &drained,
                                              .n_slices = 1,
                              }};
        const Record region = {.region = {(char *) RECORD_BOOT, (char *) "egm4", 65280, 31337,
                                          UINT64_C(479962595328), true, 5, 777, true}};
        const Record daemon = {.daemon = {(char *) RECORD_BOOT, 41}};
        Record r;

        record_fixture_read(RECORD_LEASE, 1, "lease-7.json", &r);
        record_assert_equal(RECORD_LEASE, &r, &seven);
        record_done(RECORD_LEASE, &r);
        record_fixture_read(RECORD_LEASE, 1, "lease-8.json", &r);
        record_assert_equal(RECORD_LEASE, &r, &eight);
        record_done(RECORD_LEASE, &r);
        record_fixture_read(RECORD_REGION, 1, "region-egm4.json", &r);
        record_assert_equal(RECORD_REGION, &r, &region);
        record_done(RECORD_REGION, &r);
        record_fixture_read(RECORD_DAEMON, 1, "egmd.json", &r);
        record_assert_equal(RECORD_DAEMON, &r, &daemon);
        record_done(RECORD_DAEMON, &r);
}

/* It had no accounts. */
static void test_format_2(void **state) {
        BoundRecord bound[] = {{4243, UINT64_MAX}, {4244, 0}};
        SliceRecord slices[] = {{(char *) "egm4", 0, 2 * MIB, SLICE_SCRUBBING},
                                {(char *) "egm5", INT64_MAX - 64 * KIB, 64 * KIB, SLICE_DRAINING}};
        const struct {
                RecordKind kind;
                const char *name;
                Record r;
        } table[] = {
                        {RECORD_LEASE,
                         "lease-7.json",
                         {.lease = {(char *) RECORD_BOOT, 7,
                                    (char *) "vm \"seven\" \\ f\xc3\xbcr \xf0\x9f\x90\xa7",
                                    LEASE_LIFETIME_PERSISTENT, UINT32_MAX, 4242, NULL,
                                    UINT64_C(1760000000000000), true, true, 64055, bound, 2, slices,
                                    2}}},
                        {RECORD_REGION,
                         "region-egm4.json",
                         {.region = {(char *) RECORD_BOOT, (char *) "egm4", 65280, 31337,
                                     UINT64_C(479962595328), true, 5, 777, false}}},
                        {RECORD_DAEMON,
                         "egmd.json",
                         {.daemon = {(char *) RECORD_BOOT, UINT64_MAX}}},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                Record r;

                record_fixture_read(table[i].kind, 2, table[i].name, &r);
                record_assert_equal(table[i].kind, &r, &table[i].r);
                record_done(table[i].kind, &r);
        }
}

/* It had no dma-bufs. */
static void test_format_3(void **state) {
        BoundRecord bound[] = {{4243, UINT64_MAX}, {4244, 0}};
        SliceRecord slices[] = {{(char *) "egm4", 0, 2 * MIB, SLICE_SCRUBBING},
                                {(char *) "egm5", INT64_MAX - 64 * KIB, 64 * KIB, SLICE_DRAINING}};
        const struct {
                RecordKind kind;
                const char *name;
                Record r;
        } table[] = {
                        {RECORD_LEASE,
                         "lease-7.json",
                         {.lease = {(char *) RECORD_BOOT, 7,
                                    (char *) "vm \"seven\" \\ f\xc3\xbcr \xf0\x9f\x90\xa7",
                                    LEASE_LIFETIME_PERSISTENT, UINT32_MAX, 4242, NULL,
                                    UINT64_C(1760000000000000), true, true, 64055, bound, 2, slices,
                                    2, (char *) "vm@7.service", (char *) "machine-a\\x2db.slice"}}},
                        {RECORD_REGION,
                         "region-egm4.json",
                         {.region = {(char *) RECORD_BOOT, (char *) "egm4", 65280, 31337,
                                     UINT64_C(479962595328), true, 5, 777, false}}},
                        {RECORD_DAEMON,
                         "egmd.json",
                         {.daemon = {(char *) RECORD_BOOT, UINT64_MAX}}},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                Record r;

                record_fixture_read(table[i].kind, 3, table[i].name, &r);
                record_assert_equal(table[i].kind, &r, &table[i].r);
                record_done(table[i].kind, &r);
        }
}

/* Byte for byte: a change of what is written is a new format. */
static void test_format_4(void **state) {
        BoundRecord bound[] = {{4243, UINT64_MAX}, {4244, 0}};
        LeaseDmabuf dmabufs[] = {{11, 4711}, {UINT64_MAX, UINT64_MAX}};
        SliceRecord slices[] = {{(char *) "egm4", 0, 2 * MIB, SLICE_SCRUBBING},
                                {(char *) "egm5", INT64_MAX - 64 * KIB, 64 * KIB, SLICE_DRAINING}};
        const struct {
                RecordKind kind;
                const char *name;
                Record r;
        } table[] = {
                        {RECORD_LEASE,
                         "lease-7.json",
                         {.lease = {(char *) RECORD_BOOT,
                                    7,
                                    (char *) "vm \"seven\" \\ f\xc3\xbcr \xf0\x9f\x90\xa7",
                                    LEASE_LIFETIME_PERSISTENT,
                                    UINT32_MAX,
                                    4242,
                                    NULL,
                                    UINT64_C(1760000000000000),
                                    true,
                                    true,
                                    64055,
                                    bound,
                                    2,
                                    slices,
                                    2,
                                    (char *) "vm@7.service",
                                    (char *) "machine-a\\x2db.slice",
                                    true,
                                    dmabufs,
                                    2}}},
                        {RECORD_REGION,
                         "region-egm4.json",
                         {.region = {(char *) RECORD_BOOT, (char *) "egm4", 65280, 31337,
                                     UINT64_C(479962595328), true, 5, 777, false}}},
                        {RECORD_DAEMON,
                         "egmd.json",
                         {.daemon = {(char *) RECORD_BOOT, UINT64_MAX}}},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                size_t size, n;
                char *expected = record_fixture(4, table[i].name, &size), *text;
                Record r;

                record_fixture_read(table[i].kind, 4, table[i].name, &r);
                record_assert_equal(table[i].kind, &r, &table[i].r);
                assert_int_equal(record_to_text(table[i].kind, &r, &text, &n), 0);
                assert_string_equal(text, expected);
                assert_int_equal(n, size);
                record_done(table[i].kind, &r);
                free(text);
                free(expected);
        }
}

/* Of a newer format nothing but its number is known. */
static void test_format_5(void **state) {
        static const char *const names[] = {"lease-7.json", "region-egm4.json", "egmd.json"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                for (int kind = 0; kind < _RECORD_KIND_MAX; kind++) {
                        size_t size;
                        char *text = record_fixture(5, names[i], &size), *why;
                        unsigned format = 0;
                        Record r;

                        assert_int_equal(record_from_text((RecordKind) kind, text, size, &r,
                                                          &format, &why),
                                         -EPROTONOSUPPORT);
                        assert_int_equal(format, 5);
                        assert_null(why);
                        record_assert_empty((RecordKind) kind, &r);
                        free(text);
                }
}

static void test_phases(void **state) {
        for (int i = 0; i < _SLICE_PHASE_MAX; i++)
                assert_int_equal(slice_phase_from_string(slice_phase_to_string((SlicePhase) i)), i);
        assert_int_equal(slice_phase_from_string("gone"), _SLICE_PHASE_INVALID);
        assert_null(slice_phase_to_string(_SLICE_PHASE_MAX));
        assert_null(slice_phase_to_string(_SLICE_PHASE_INVALID));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_round_trips),
                        cmocka_unit_test(test_largest),
                        cmocka_unit_test(test_writes_nothing_unreadable),
                        cmocka_unit_test(test_format_1),
                        cmocka_unit_test(test_format_2),
                        cmocka_unit_test(test_format_3),
                        cmocka_unit_test(test_format_4),
                        cmocka_unit_test(test_format_5),
                        cmocka_unit_test(test_phases),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
