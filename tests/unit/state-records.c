/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <limits.h>

#include "fd-util.h"
#include "lifeline.h"
#include "state-records.h"

int record_from_text(RecordKind kind, const char *text, size_t size, Record *ret, unsigned *format,
                     char **why) {
        switch (kind) {
        case RECORD_LEASE:
                return lease_record_from_text(text, size, &ret->lease, format, why);
        case RECORD_REGION:
                return region_record_from_text(text, size, &ret->region, format, why);
        default:
                return daemon_record_from_text(text, size, &ret->daemon, format, why);
        }
}

int record_to_text(RecordKind kind, const Record *r, char **ret, size_t *ret_size) {
        switch (kind) {
        case RECORD_LEASE:
                return lease_record_to_text(&r->lease, ret, ret_size);
        case RECORD_REGION:
                return region_record_to_text(&r->region, ret, ret_size);
        default:
                return daemon_record_to_text(&r->daemon, ret, ret_size);
        }
}

void record_done(RecordKind kind, Record *r) {
        if (kind == RECORD_LEASE)
                lease_record_done(&r->lease);
        else if (kind == RECORD_REGION)
                region_record_done(&r->region);
        else
                daemon_record_done(&r->daemon);
}

static uint64_t seed;

void random_seed(uint64_t s) {
        seed = s;
}

uint64_t random_u64(void) {
        uint64_t x = seed += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
}

uint64_t random_below(uint64_t n) {
        return random_u64() % n;
}

/* Small, large, and the ends. */
static uint64_t random_number(uint64_t max) {
        uint64_t n = random_u64() >> random_below(64);

        return random_below(8) == 0 ? max : random_below(8) == 0 ? 0 : n <= max ? n : n % (max + 1);
}

static char *random_text(void) {
        static const char *const pieces[] = {
                        "a",
                        "\"",
                        "\\",
                        "/",
                        ":",
                        ",",
                        "{",
                        "]",
                        "\\u0000",
                        "\\\"",
                        "null",
                        "\xc3\xbc",
                        " ",
                        "\xf4\x8f\xbf\xbf",
                        "\xed\x9f\xbf",
                        "~",
                        "\xc2\xa0",
                        "<\xe2\x82\xac>",
                        "'",
                        "%s",
        };
        char text[STATE_TEXT_MAX + 1] = "";

        if (random_below(8) == 0)
                return NULL;
        for (uint64_t n = random_below(12); n > 0; n--)
                strcat(text, pieces[random_below(ELEMENTSOF(pieces))]);
        if (random_below(16) == 0) {
                memset(text, '"', STATE_TEXT_MAX);
                text[STATE_TEXT_MAX] = '\0';
        }
        return strdup(text);
}

static char *random_name(void) {
        char name[STATE_NAME_MAX + 1] = "";
        size_t n = 1 + random_below(STATE_NAME_MAX);

        for (size_t i = 0; i < n; i++) {
                do
                        name[i] = (char) ('!' + random_below(0x7f - '!'));
                while (name[i] == '/');
        }
        return strdup(name);
}

static void random_lease(LeaseRecord *r) {
        *r = (LeaseRecord){
                        .boot = random_name(),
                        .id = 1 + random_number(UINT64_MAX - 1),
                        .label = random_text(),
                        .lifetime = (LeaseLifetime) random_below(_LEASE_LIFETIME_MAX),
                        .owner_uid = (uid_t) random_number(UINT32_MAX),
                        .owner_pid = (pid_t) random_number(INT_MAX),
                        .unit = random_text(),
                        .account_unit = random_text(),
                        .account_slice = random_text(),
                        .created_usec = random_number(UINT64_MAX),
                        .released = random_below(2) == 0,
                        .delegated = random_below(4) == 0,
                        .dmabuf = random_below(2) == 0,
                        .n_bound = random_below(LIFELINE_BOUND_MAX + 1),
                        .n_slices = random_below(4) == 0 ? STATE_SLICES_MAX
                                                         : 1 + random_below(STATE_SLICES_MAX),
        };
        r->n_dmabufs = r->dmabuf ? random_below(LEASE_DMABUFS_MAX + 1) : 0;
        r->dmabufs = r->n_dmabufs > 0 ? calloc(r->n_dmabufs, sizeof(*r->dmabufs)) : NULL;
        for (size_t i = 0; i < r->n_dmabufs; i++)
                r->dmabufs[i] = (LeaseDmabuf){random_number(UINT64_MAX), random_number(UINT64_MAX)};
        r->bound = r->n_bound > 0 ? calloc(r->n_bound, sizeof(*r->bound)) : NULL;
        for (size_t i = 0; i < r->n_bound; i++)
                r->bound[i] = (BoundRecord){
                                .pid = 1 + (pid_t) random_number(INT_MAX - 1),
                                .start_time = random_number(UINT64_MAX),
                };
        r->slices = calloc(r->n_slices, sizeof(*r->slices));
        for (size_t i = 0; i < r->n_slices; i++) {
                SliceRecord *s = r->slices + i;

                s->region = random_name();
                s->offset = random_number(INT64_MAX - 1);
                s->size = 1 + random_number(INT64_MAX - 1 - s->offset);
                s->phase = (SlicePhase) random_below(_SLICE_PHASE_MAX);
        }
}

void record_random(RecordKind kind, Record *r) {
        if (kind == RECORD_LEASE)
                random_lease(&r->lease);
        else if (kind == RECORD_REGION)
                r->region = (RegionRecord){
                                .boot = random_name(),
                                .name = random_name(),
                                .rdev = random_number(UINT64_MAX),
                                .inode = random_number(UINT64_MAX),
                                .size = 1 + random_number(INT64_MAX - 1),
                                .offsets = random_below(2) == 0,
                                .file_dev = random_number(UINT64_MAX),
                                .file_ino = random_number(UINT64_MAX),
                                .schedulable = random_below(2) == 0,
                };
        else
                r->daemon = (DaemonRecord){
                                .boot = random_name(),
                                .next_lease = 1 + random_number(UINT64_MAX - 1),
                };
}

static void assert_text_equal(const char *a, const char *b) {
        if (!streq_ptr(a, b))
                fail_msg("\"%s\" is not \"%s\"", a ?: "(null)", b ?: "(null)");
}

void lease_record_assert_equal(const LeaseRecord *a, const LeaseRecord *b) {
        assert_text_equal(a->boot, b->boot);
        assert_true(a->id == b->id);
        assert_text_equal(a->label, b->label);
        assert_int_equal(a->lifetime, b->lifetime);
        assert_true(a->owner_uid == b->owner_uid);
        assert_int_equal(a->owner_pid, b->owner_pid);
        assert_text_equal(a->unit, b->unit);
        assert_text_equal(a->account_unit, b->account_unit);
        assert_text_equal(a->account_slice, b->account_slice);
        assert_true(a->created_usec == b->created_usec);
        assert_int_equal(a->released, b->released);
        assert_int_equal(a->delegated, b->delegated);
        assert_int_equal(a->delegate_uid, b->delegate_uid);
        assert_int_equal(a->dmabuf, b->dmabuf);
        assert_int_equal(a->n_dmabufs, b->n_dmabufs);
        for (size_t i = 0; i < a->n_dmabufs; i++) {
                assert_true(a->dmabufs[i].dev == b->dmabufs[i].dev);
                assert_true(a->dmabufs[i].ino == b->dmabufs[i].ino);
        }
        assert_int_equal(a->n_bound, b->n_bound);
        for (size_t i = 0; i < a->n_bound; i++) {
                assert_int_equal(a->bound[i].pid, b->bound[i].pid);
                assert_true(a->bound[i].start_time == b->bound[i].start_time);
        }
        assert_int_equal(a->n_slices, b->n_slices);
        for (size_t i = 0; i < a->n_slices; i++) {
                assert_text_equal(a->slices[i].region, b->slices[i].region);
                assert_true(a->slices[i].offset == b->slices[i].offset);
                assert_true(a->slices[i].size == b->slices[i].size);
                assert_int_equal(a->slices[i].phase, b->slices[i].phase);
        }
}

void record_assert_equal(RecordKind kind, const Record *a, const Record *b) {
        if (kind == RECORD_LEASE) {
                lease_record_assert_equal(&a->lease, &b->lease);
        } else if (kind == RECORD_REGION) {
                assert_text_equal(a->region.boot, b->region.boot);
                assert_text_equal(a->region.name, b->region.name);
                assert_true(a->region.rdev == b->region.rdev);
                assert_true(a->region.inode == b->region.inode);
                assert_true(a->region.size == b->region.size);
                assert_int_equal(a->region.offsets, b->region.offsets);
                assert_true(a->region.file_dev == b->region.file_dev);
                assert_true(a->region.file_ino == b->region.file_ino);
                assert_int_equal(a->region.schedulable, b->region.schedulable);
        } else {
                assert_text_equal(a->daemon.boot, b->daemon.boot);
                assert_true(a->daemon.next_lease == b->daemon.next_lease);
        }
}

void record_assert_empty(RecordKind kind, const Record *r) {
        static const Record empty;

        assert_memory_equal(r, &empty,
                            kind == RECORD_LEASE    ? sizeof(r->lease)
                            : kind == RECORD_REGION ? sizeof(r->region)
                                                    : sizeof(r->daemon));
}

int record_read_any(RecordKind kind, const char *text, size_t size) {
        char *exact = malloc(size + (size == 0)), *why = (char *) "untouched";
        unsigned format = UINT_MAX;
        Record r, again;
        int k;

        memset(&r, 0xaa, sizeof(r));
        memcpy(exact, text, size);
        k = record_from_text(kind, exact, size, &r, &format, &why);
        free(exact);
        if (k == 0) {
                char *written;
                size_t n;

                assert_null(why);
                assert_in_range(format, STATE_FORMAT_OLDEST, STATE_FORMAT);
                assert_int_equal(record_to_text(kind, &r, &written, &n), 0);
                assert_int_equal(record_from_text(kind, written, n, &again, &format, &why), 0);
                assert_int_equal(format, STATE_FORMAT);
                record_assert_equal(kind, &r, &again);
                record_done(kind, &again);
                free(written);
                record_done(kind, &r);
                return 0;
        }
        record_assert_empty(kind, &r);
        if (k == -EPROTONOSUPPORT) {
                assert_true(format > STATE_FORMAT);
                assert_null(why);
                return k;
        }
        assert_int_equal(k, -EBADMSG);
        assert_non_null(why);
        assert_true(strlen(why) > 5);
        free(why);
        return k;
}

char *record_fixture(unsigned format, const char *name, size_t *ret_size) {
        char path[PATH_MAX], *text;

        (void) snprintf(path, sizeof(path), STATE_FIXTURES "/format-%u/%s", format, name);
        assert_int_equal(read_full_file_at(AT_FDCWD, path, STATE_FILE_MAX, &text, ret_size), 0);
        return text;
}

void record_fixture_read(RecordKind kind, unsigned format, const char *name, Record *ret) {
        unsigned f = 0;
        char *why;
        size_t size;
        char *text = record_fixture(format, name, &size);

        assert_int_equal(record_from_text(kind, text, size, ret, &f, &why), 0);
        assert_int_equal(f, format);
        free(text);
}
