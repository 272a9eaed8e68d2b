/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <limits.h>

#include "json-read.h"
#include "lifeline.h"
#include "state-record-internal.h"

/* Deeper than ours: a newer format must still be told from a damaged file. */
#define DEPTH_MAX 32

/* What a reader reads. */
typedef struct Record {
        unsigned *ret_format;
        bool released; /* the lease's, for format 1 */
} Record;

static int parse_dev(JsonReader *p, const JsonValue *v, void *dest) {
        uint64_t n;
        int r;

        r = json_read_number(p, v, (dev_t) -1, &n);
        if (r < 0)
                return r;
        *(dev_t *) dest = n;
        return 0;
}

static int parse_ino(JsonReader *p, const JsonValue *v, void *dest) {
        uint64_t n;
        int r;

        r = json_read_number(p, v, (ino_t) -1, &n);
        if (r < 0)
                return r;
        *(ino_t *) dest = n;
        return 0;
}

static int parse_bytes(JsonReader *p, const JsonValue *v, void *dest) {
        return json_read_number(p, v, INT64_MAX, dest);
}

static int parse_pid(JsonReader *p, const JsonValue *v, void *dest) {
        uint64_t n;
        int r;

        r = json_read_number(p, v, INT_MAX, &n);
        if (r < 0)
                return r;
        *(pid_t *) dest = (pid_t) n;
        return 0;
}

static int parse_uid(JsonReader *p, const JsonValue *v, void *dest) {
        uint64_t n;
        int r;

        r = json_read_number(p, v, (uid_t) -1, &n);
        if (r < 0)
                return r;
        *(uid_t *) dest = (uid_t) n;
        return 0;
}

static int parse_text_or_null(JsonReader *p, const JsonValue *v, void *dest) {
        return v->json ? json_read_string(p, v, dest) : 0;
}

static int parse_delegate(JsonReader *p, const JsonValue *v, void *dest) {
        LeaseRecord *l = dest;

        if (!v->json)
                return 0;
        l->delegated = true;
        return parse_uid(p, v, &l->delegate_uid);
}

/* Says something to people only. */
static int parse_private(JsonReader *p, const JsonValue *v, void *dest) {
        return json_read_expect(p, v, json_type_string, "text");
}

/* The head has seen it. */
static int parse_format(JsonReader *p, const JsonValue *v, void *dest) {
        return 0;
}

static int parse_lifetime(JsonReader *p, const JsonValue *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        LeaseLifetime l;
        int r;

        r = json_read_string(p, v, &s);
        if (r < 0)
                return r;
        l = lease_lifetime_from_string(s);
        if (l < 0)
                return json_read_refuse(p, v, "no such one");
        *(LeaseLifetime *) dest = l;
        return 0;
}

static int parse_released(JsonReader *p, const JsonValue *v, void *dest) {
        Record *record = p->userdata;
        int r = json_read_bool(p, v, dest);

        if (r >= 0)
                record->released = *(bool *) dest;
        return r;
}

static int parse_phase(JsonReader *p, const JsonValue *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        SlicePhase phase;
        int r;

        r = json_read_string(p, v, &s);
        if (r < 0)
                return r;
        phase = slice_phase_from_string(s);
        if (phase < 0)
                return json_read_refuse(p, v, "no such phase");
        *(SlicePhase *) dest = phase;
        return 0;
}

/* The number of items, and room for them. */
static int parse_list(JsonReader *p, const JsonValue *v, size_t min, size_t max, size_t item_size,
                      void **ret, size_t *ret_n) {
        size_t n;
        void *items;
        int r;

        r = json_read_length(p, v, min, max, &n);
        if (r < 0)
                return r;
        items = n > 0 ? calloc(n, item_size) : NULL;
        if (n > 0 && !items)
                return -ENOMEM;
        *ret = items;
        *ret_n = n;
        return 0;
}

static int parse_bound(JsonReader *p, const JsonValue *v, void *dest) {
        static const JsonField fields[] = {
                        {"pid", parse_pid, offsetof(BoundRecord, pid)},
                        {"start", json_read_uint64, offsetof(BoundRecord, start_time), .since = 2},
                        {},
        };
        LeaseRecord *l = dest;
        void *items;
        int r;

        r = parse_list(p, v, 0, LIFELINE_BOUND_MAX, sizeof(*l->bound), &items, &l->n_bound);
        if (r < 0)
                return r;
        l->bound = items;
        for (size_t i = 0; i < l->n_bound; i++) {
                JsonValue m = json_value_item(v, i);

                r = json_read_object(p, &m, fields, l->bound + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_dmabufs(JsonReader *p, const JsonValue *v, void *dest) {
        static const JsonField fields[] = {
                        {"dev", parse_dev, offsetof(LeaseDmabuf, dev)},
                        {"ino", parse_ino, offsetof(LeaseDmabuf, ino)},
                        {},
        };
        LeaseRecord *l = dest;
        void *items;
        int r;

        r = parse_list(p, v, 0, LEASE_DMABUFS_MAX, sizeof(*l->dmabufs), &items, &l->n_dmabufs);
        if (r < 0)
                return r;
        l->dmabufs = items;
        for (size_t i = 0; i < l->n_dmabufs; i++) {
                JsonValue m = json_value_item(v, i);

                r = json_read_object(p, &m, fields, l->dmabufs + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_slices(JsonReader *p, const JsonValue *v, void *dest) {
        static const JsonField fields[] = {
                        {"region", json_read_string, offsetof(SliceRecord, region)},
                        {"offset", parse_bytes, offsetof(SliceRecord, offset)},
                        {"size", parse_bytes, offsetof(SliceRecord, size)},
                        {"phase", parse_phase, offsetof(SliceRecord, phase), .since = 2},
                        {},
        };
        const Record *record = p->userdata;
        LeaseRecord *l = dest;
        void *items;
        int r;

        r = parse_list(p, v, 1, STATE_SLICES_MAX, sizeof(*l->slices), &items, &l->n_slices);
        if (r < 0)
                return r;
        l->slices = items;
        for (size_t i = 0; i < l->n_slices; i++) {
                JsonValue m = json_value_item(v, i);

                /* Format 1 did not say how far a released lease had come: not yet drained is what is safe. */
                l->slices[i].phase = record->released ? SLICE_DRAINING : SLICE_LEASED;
                r = json_read_object(p, &m, fields, l->slices + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Finds the format, which comes before all other judgement: a newer one may have any other rule. */
static int parse_head(JsonReader *p, const JsonValue *v) {
        JsonValue m = json_value_member(v, "format", NULL);
        Record *record = p->userdata;
        uint64_t format;
        int r;

        r = json_read_expect(p, v, json_type_object, "an object");
        if (r < 0)
                return r;
        if (!json_object_object_get_ex(v->json, "format", &m.json))
                return json_read_refuse(p, &m, "missing");
        r = json_read_number(p, &m, UINT_MAX, &format);
        if (r < 0)
                return r;
        *record->ret_format = (unsigned) format;
        if (format > STATE_FORMAT)
                return -EPROTONOSUPPORT;
        if (format < STATE_FORMAT_OLDEST)
                return json_read_refuse(p, &m, "%" PRIu64 " has never been", format);
        p->format = (unsigned) format;
        return 0;
}

static int read_record(JsonReader *p, const char *text, size_t size, const JsonField *fields,
                       void *dest) {
        _cleanup_json_ json_object *json = NULL;
        JsonValue v = {};
        int r;

        if (size > STATE_FILE_MAX)
                return json_read_refuse(p, &v, "%zu bytes long, at most %" PRIu64, size,
                                        STATE_FILE_MAX);
        if (memchr(text, 0, size))
                return json_read_refuse(p, &v, "a NUL byte in it");
        r = json_read_text(p, text, size, &json);
        if (r < 0)
                return r;
        v.json = json;
        return json_read_object(p, &v, fields, dest);
}

static int parse_record(const char *text, size_t size, const JsonField *fields, void *dest,
                        unsigned *ret_format, char **ret_why) {
        Record record = {.ret_format = ret_format};
        _cleanup_json_reader_ JsonReader p = {
                        .depth_max = DEPTH_MAX,
                        .userdata = &record,
                        .head = parse_head,
        };
        int r;

        assert(text);
        assert(ret_format);
        assert(ret_why);

        *ret_format = 0;
        *ret_why = NULL;
        r = read_record(&p, text, size, fields, dest);
        if (r == -EBADMSG)
                *ret_why = TAKE_PTR(p.why);
        return r;
}

#define FIELDS_HEAD(type) \
        {"private", parse_private, 0}, {"format", parse_format, 0}, { \
                "boot", json_read_string, offsetof(type, boot) \
        }

int lease_record_from_text(const char *text, size_t size, LeaseRecord *ret, unsigned *ret_format,
                           char **ret_why) {
        static const JsonField fields[] = {
                        FIELDS_HEAD(LeaseRecord),
                        {"id", json_read_uint64, offsetof(LeaseRecord, id)},
                        {"label", parse_text_or_null, offsetof(LeaseRecord, label)},
                        {"lifetime", parse_lifetime, offsetof(LeaseRecord, lifetime)},
                        {"uid", parse_uid, offsetof(LeaseRecord, owner_uid)},
                        {"pid", parse_pid, offsetof(LeaseRecord, owner_pid)},
                        {"unit", parse_text_or_null, offsetof(LeaseRecord, unit)},
                        {"created", json_read_uint64, offsetof(LeaseRecord, created_usec)},
                        {"released", parse_released, offsetof(LeaseRecord, released)},
                        {"delegate", parse_delegate, 0, .since = 2},
                        {"account_unit", parse_text_or_null, offsetof(LeaseRecord, account_unit),
                         .since = 3},
                        {"account_slice", parse_text_or_null, offsetof(LeaseRecord, account_slice),
                         .since = 3},
                        {"dmabuf", json_read_bool, offsetof(LeaseRecord, dmabuf), .since = 4},
                        {"dmabufs", parse_dmabufs, 0, .since = 4},
                        {"bound", parse_bound, 0},
                        {"slices", parse_slices, 0},
                        {},
        };
        _cleanup_lease_record_ LeaseRecord l = {};
        int r;

        assert(ret);

        *ret = (LeaseRecord){};
        r = parse_record(text, size, fields, &l, ret_format, ret_why);
        if (r >= 0)
                r = lease_record_check(&l, ret_why);
        if (r < 0)
                return r;
        *ret = l;
        l = (LeaseRecord){};
        return 0;
}

int region_record_from_text(const char *text, size_t size, RegionRecord *ret, unsigned *ret_format,
                            char **ret_why) {
        static const JsonField fields[] = {
                        FIELDS_HEAD(RegionRecord),
                        {"name", json_read_string, offsetof(RegionRecord, name)},
                        {"rdev", parse_dev, offsetof(RegionRecord, rdev)},
                        {"inode", parse_ino, offsetof(RegionRecord, inode)},
                        {"size", parse_bytes, offsetof(RegionRecord, size)},
                        {"offsets", json_read_bool, offsetof(RegionRecord, offsets)},
                        {"file_dev", parse_dev, offsetof(RegionRecord, file_dev)},
                        {"file_ino", parse_ino, offsetof(RegionRecord, file_ino)},
                        {"schedulable", json_read_bool, offsetof(RegionRecord, schedulable),
                         .since = 2},
                        {},
        };
        _cleanup_region_record_ RegionRecord g = {.schedulable = true};
        int r;

        assert(ret);

        *ret = (RegionRecord){};
        r = parse_record(text, size, fields, &g, ret_format, ret_why);
        if (r >= 0)
                r = region_record_check(&g, ret_why);
        if (r < 0)
                return r;
        *ret = g;
        g = (RegionRecord){};
        return 0;
}

int daemon_record_from_text(const char *text, size_t size, DaemonRecord *ret, unsigned *ret_format,
                            char **ret_why) {
        static const JsonField fields[] = {
                        FIELDS_HEAD(DaemonRecord),
                        {"next_lease", json_read_uint64, offsetof(DaemonRecord, next_lease)},
                        {},
        };
        _cleanup_daemon_record_ DaemonRecord d = {};
        int r;

        assert(ret);

        *ret = (DaemonRecord){};
        r = parse_record(text, size, fields, &d, ret_format, ret_why);
        if (r >= 0)
                r = daemon_record_check(&d, ret_why);
        if (r < 0)
                return r;
        *ret = d;
        d = (DaemonRecord){};
        return 0;
}
