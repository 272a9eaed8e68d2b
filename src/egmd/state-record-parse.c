/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>

#include "lifeline.h"
#include "state-record-internal.h"

/* Deeper than ours: a newer format must still be told from a damaged file. */
#define DEPTH_MAX 32
#define PLACE_MAX 64U

typedef struct Parser {
        unsigned format;
        bool released; /* the lease's, for format 1 */
        char **ret_why;
} Parser;

/* A value and where it stands: "slices[0].size". */
typedef struct Value {
        json_object *json;
        char place[PLACE_MAX];
} Value;

/* Every member of the file's format must be there. */
typedef struct Field {
        const char *key;
        unsigned since; /* format */
        int (*parse)(Parser *p, const Value *v, void *dest);
        size_t offset; /* of its member in the struct that is filled */
} Field;

static int parse_refuse(Parser *p, const Value *v, const char *format, ...) _printf_(3, 4);

static int parse_refuse(Parser *p, const Value *v, const char *format, ...) {
        _cleanup_free_ char *words = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&words, format, ap);
        va_end(ap);
        if (r < 0) {
                words = NULL;
                return -ENOMEM;
        }
        return state_refuse(p->ret_why, "%s: %s", v->place[0] ? v->place : "the file", words);
}

static int value_expect(Parser *p, const Value *v, enum json_type type, const char *what) {
        return json_object_get_type(v->json) == type ? 0 : parse_refuse(p, v, "not %s", what);
}

/* Keys are anybody's text: not whole, and only what can be printed. */
static Value value_member(const Value *v, const char *key, json_object *json) {
        Value m = {.json = json};

        (void) snprintf(m.place, sizeof(m.place), "%.40s%s%.20s", v->place, v->place[0] ? "." : "",
                        key);
        for (char *c = m.place; *c; c++)
                if (*c < ' ' || *c >= 0x7f)
                        *c = '?';
        return m;
}

static Value value_item(const Value *v, size_t i) {
        Value m = {.json = json_object_array_get_idx(v->json, i)};

        (void) snprintf(m.place, sizeof(m.place), "%.40s[%zu]", v->place, i);
        return m;
}

static bool fields_have(const Parser *p, const Field *fields, const char *key) {
        for (const Field *f = fields; f->key; f++)
                if (streq(f->key, key))
                        return f->since <= p->format;
        return false;
}

/* In the order of the table, so that a field can rely on those before it. */
static int parse_object(Parser *p, const Value *v, const Field *fields, void *dest) {
        int r;

        r = value_expect(p, v, json_type_object, "an object");
        if (r < 0)
                return r;
        json_object_object_foreach(v->json, key, json) {
                Value m = value_member(v, key, json);

                if (!fields_have(p, fields, key))
                        return parse_refuse(p, &m, "unknown key");
        }
        for (const Field *f = fields; f->key; f++) {
                Value m = value_member(v, f->key, NULL);

                if (f->since > p->format)
                        continue;
                if (json_object_object_get_ex(v->json, f->key, &m.json))
                        r = f->parse(p, &m, (char *) dest + f->offset);
                else
                        r = parse_refuse(p, &m, "missing");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_bool(Parser *p, const Value *v, void *dest) {
        int r = value_expect(p, v, json_type_boolean, "true or false");

        if (r < 0)
                return r;
        *(bool *) dest = json_object_get_boolean(v->json);
        return 0;
}

static int parse_number_to(Parser *p, const Value *v, uint64_t max, uint64_t *ret) {
        uint64_t n;
        int r;

        r = value_expect(p, v, json_type_int, "a whole number");
        if (r < 0)
                return r;
        if (json_object_get_int64(v->json) < 0)
                return parse_refuse(p, v, "negative");
        n = json_object_get_uint64(v->json);
        if (n > max)
                return parse_refuse(p, v, "%" PRIu64 " is larger than %" PRIu64, n, max);
        *ret = n;
        return 0;
}

static int parse_number(Parser *p, const Value *v, void *dest) {
        return parse_number_to(p, v, UINT64_MAX, dest);
}

static int parse_dev(Parser *p, const Value *v, void *dest) {
        uint64_t n;
        int r;

        r = parse_number_to(p, v, (dev_t) -1, &n);
        if (r < 0)
                return r;
        *(dev_t *) dest = n;
        return 0;
}

static int parse_ino(Parser *p, const Value *v, void *dest) {
        uint64_t n;
        int r;

        r = parse_number_to(p, v, (ino_t) -1, &n);
        if (r < 0)
                return r;
        *(ino_t *) dest = n;
        return 0;
}

static int parse_bytes(Parser *p, const Value *v, void *dest) {
        return parse_number_to(p, v, INT64_MAX, dest);
}

static int parse_pid(Parser *p, const Value *v, void *dest) {
        uint64_t n;
        int r;

        r = parse_number_to(p, v, INT_MAX, &n);
        if (r < 0)
                return r;
        *(pid_t *) dest = (pid_t) n;
        return 0;
}

static int parse_uid(Parser *p, const Value *v, void *dest) {
        uint64_t n;
        int r;

        r = parse_number_to(p, v, (uid_t) -1, &n);
        if (r < 0)
                return r;
        *(uid_t *) dest = (uid_t) n;
        return 0;
}

static int parse_text(Parser *p, const Value *v, void *dest) {
        const char *s;
        int r;

        r = value_expect(p, v, json_type_string, "text");
        if (r < 0)
                return r;
        s = json_object_get_string(v->json);
        if (strlen(s) != (size_t) json_object_get_string_len(v->json))
                return parse_refuse(p, v, "a NUL character in it");
        return free_and_strdup(dest, s);
}

static int parse_text_or_null(Parser *p, const Value *v, void *dest) {
        return v->json ? parse_text(p, v, dest) : 0;
}

static int parse_delegate(Parser *p, const Value *v, void *dest) {
        LeaseRecord *l = dest;

        if (!v->json)
                return 0;
        l->delegated = true;
        return parse_uid(p, v, &l->delegate_uid);
}

/* Says something to people only. */
static int parse_private(Parser *p, const Value *v, void *dest) {
        return value_expect(p, v, json_type_string, "text");
}

/* The head has seen it. */
static int parse_format(Parser *p, const Value *v, void *dest) {
        return 0;
}

static int parse_lifetime(Parser *p, const Value *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        LeaseLifetime l;
        int r;

        r = parse_text(p, v, &s);
        if (r < 0)
                return r;
        l = lease_lifetime_from_string(s);
        if (l < 0)
                return parse_refuse(p, v, "no such one");
        *(LeaseLifetime *) dest = l;
        return 0;
}

static int parse_released(Parser *p, const Value *v, void *dest) {
        int r = parse_bool(p, v, dest);

        if (r >= 0)
                p->released = *(bool *) dest;
        return r;
}

static int parse_phase(Parser *p, const Value *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        SlicePhase phase;
        int r;

        r = parse_text(p, v, &s);
        if (r < 0)
                return r;
        phase = slice_phase_from_string(s);
        if (phase < 0)
                return parse_refuse(p, v, "no such phase");
        *(SlicePhase *) dest = phase;
        return 0;
}

/* The number of items, and room for them. */
static int parse_list(Parser *p, const Value *v, size_t min, size_t max, size_t item_size,
                      void **ret, size_t *ret_n) {
        size_t n;
        void *items;
        int r;

        r = value_expect(p, v, json_type_array, "a list");
        if (r < 0)
                return r;
        n = json_object_array_length(v->json);
        if (n < min || n > max)
                return parse_refuse(p, v, "%zu items, not %zu to %zu", n, min, max);
        items = n > 0 ? calloc(n, item_size) : NULL;
        if (n > 0 && !items)
                return -ENOMEM;
        *ret = items;
        *ret_n = n;
        return 0;
}

static int parse_bound(Parser *p, const Value *v, void *dest) {
        static const Field fields[] = {
                        {"pid", 1, parse_pid, offsetof(BoundRecord, pid)},
                        {"start", 2, parse_number, offsetof(BoundRecord, start_time)},
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
                Value m = value_item(v, i);

                r = parse_object(p, &m, fields, l->bound + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_slices(Parser *p, const Value *v, void *dest) {
        static const Field fields[] = {
                        {"region", 1, parse_text, offsetof(SliceRecord, region)},
                        {"offset", 1, parse_bytes, offsetof(SliceRecord, offset)},
                        {"size", 1, parse_bytes, offsetof(SliceRecord, size)},
                        {"phase", 2, parse_phase, offsetof(SliceRecord, phase)},
                        {},
        };
        LeaseRecord *l = dest;
        void *items;
        int r;

        r = parse_list(p, v, 1, STATE_SLICES_MAX, sizeof(*l->slices), &items, &l->n_slices);
        if (r < 0)
                return r;
        l->slices = items;
        for (size_t i = 0; i < l->n_slices; i++) {
                Value m = value_item(v, i);

                /* Format 1 did not say how far a released lease had come: not yet drained is what is safe. */
                l->slices[i].phase = p->released ? SLICE_DRAINING : SLICE_LEASED;
                r = parse_object(p, &m, fields, l->slices + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* What json-c does not tell: of two members of the same name it keeps the last, it cuts a key at an escaped NUL, and makes
 * the largest number of one that is larger still. Every colon outside of strings is a member. */
typedef struct Scan {
        size_t members;
        bool nul;
        bool huge;
} Scan;

static Scan scan_text(const char *text, size_t size) {
        bool in_string = false, in_number = false;
        uint64_t number = 0;
        Scan s = {};

        for (size_t i = 0; i < size; i++) {
                bool digit = !in_string && text[i] >= '0' && text[i] <= '9';

                if (digit) {
                        number = in_number ? number : 0;
                        s.huge = s.huge || __builtin_mul_overflow(number, 10U, &number) ||
                                 __builtin_add_overflow(number, (unsigned) (text[i] - '0'),
                                                        &number);
                } else if (text[i] == '"') {
                        in_string = !in_string;
                } else if (!in_string) {
                        s.members += text[i] == ':';
                } else if (text[i] == '\\') {
                        s.nul = s.nul || (size - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0);
                        i++;
                }
                in_number = digit;
        }
        return s;
}

static size_t count_members(json_object *json) {
        size_t n = 0;

        if (json_object_get_type(json) == json_type_array)
                for (size_t i = 0; i < json_object_array_length(json); i++)
                        n += count_members(json_object_array_get_idx(json, i));
        if (json_object_get_type(json) == json_type_object) {
                n = (size_t) json_object_object_length(json);
                json_object_object_foreach(json, key, member) {
                        (void) key;
                        n += count_members(member);
                }
        }
        return n;
}

static int tokenize(Parser *p, const char *text, size_t size, json_object **ret) {
        json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
        const Value v = {};
        enum json_tokener_error e;
        size_t at;

        if (!t)
                return -ENOMEM;
        json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        *ret = json_tokener_parse_ex(t, text, (int) size);
        e = json_tokener_get_error(t);
        at = json_tokener_get_parse_end(t);
        json_tokener_free(t);
        if (e == json_tokener_success && at == size)
                return 0;
        return parse_refuse(p, &v, "not JSON at byte %zu: %s", at,
                            e == json_tokener_success    ? "more than one value"
                            : e == json_tokener_continue ? "unexpected end"
                                                         : json_tokener_error_desc(e));
}

/* Finds the format, which comes before all other judgement: a newer one may have any other rule. */
static int parse_head(Parser *p, const Value *v, unsigned *ret_format) {
        Value m = value_member(v, "format", NULL);
        uint64_t format;
        int r;

        r = value_expect(p, v, json_type_object, "an object");
        if (r < 0)
                return r;
        if (!json_object_object_get_ex(v->json, "format", &m.json))
                return parse_refuse(p, &m, "missing");
        r = parse_number_to(p, &m, UINT_MAX, &format);
        if (r < 0)
                return r;
        *ret_format = (unsigned) format;
        if (format > STATE_FORMAT)
                return -EPROTONOSUPPORT;
        if (format < STATE_FORMAT_OLDEST)
                return parse_refuse(p, &m, "%" PRIu64 " has never been", format);
        p->format = (unsigned) format;
        return 0;
}

static void json_putp(json_object **o) {
        (void) json_object_put(*o);
}

static int load_once(Parser *p, const char *text, size_t size, json_object **ret,
                     unsigned *ret_format) {
        _cleanup_(json_putp) json_object *json = NULL;
        Value v = {};
        Scan scan;
        int r;

        r = tokenize(p, text, size, &json);
        if (r < 0)
                return r;
        v.json = json;
        r = parse_head(p, &v, ret_format);
        if (r < 0)
                return r;
        scan = scan_text(text, size);
        if (scan.huge)
                return parse_refuse(p, &v, "a number beyond %" PRIu64, UINT64_MAX);
        if (scan.nul)
                return parse_refuse(p, &v, "a NUL character in it");
        if (count_members(json) != scan.members)
                return parse_refuse(p, &v, "a key is there twice");
        *ret = TAKE_PTR(json);
        return 0;
}

/* json-c does not always tell that memory ran out: the text seems cut short, or a member is not there. A record must not be
 * taken for damaged over that, so it is so only when nothing says otherwise, twice. */
static int load(Parser *p, const char *text, size_t size, json_object **ret, unsigned *ret_format) {
        _cleanup_(json_putp) json_object *json = NULL;
        int r;

        for (unsigned i = 0; i < 2; i++) {
                *p->ret_why = mfree(*p->ret_why);
                errno = 0;
                r = load_once(p, text, size, &json, ret_format);
                if (r != -EBADMSG && i == 0)
                        break;
                if (r != -EBADMSG || errno == ENOMEM) {
                        *p->ret_why = mfree(*p->ret_why);
                        return -ENOMEM;
                }
        }
        if (r >= 0)
                *ret = TAKE_PTR(json);
        return r;
}

static int parse_record(const char *text, size_t size, const Field *fields, void *dest,
                        unsigned *ret_format, char **ret_why) {
        _cleanup_(json_putp) json_object *json = NULL;
        Parser p = {.ret_why = ret_why};
        Value v = {};
        int r;

        assert(text);
        assert(ret_format);
        assert(ret_why);

        *ret_format = 0;
        *ret_why = NULL;
        if (size > STATE_FILE_MAX)
                return parse_refuse(&p, &v, "%zu bytes long, at most %" PRIu64, size,
                                    STATE_FILE_MAX);
        if (memchr(text, 0, size))
                return parse_refuse(&p, &v, "a NUL byte in it");
        r = load(&p, text, size, &json, ret_format);
        if (r < 0)
                return r;
        v.json = json;
        return parse_object(&p, &v, fields, dest);
}

#define FIELDS_HEAD(type) \
        {"private", 1, parse_private, 0}, {"format", 1, parse_format, 0}, { \
                "boot", 1, parse_text, offsetof(type, boot) \
        }

int lease_record_from_text(const char *text, size_t size, LeaseRecord *ret, unsigned *ret_format,
                           char **ret_why) {
        static const Field fields[] = {
                        FIELDS_HEAD(LeaseRecord),
                        {"id", 1, parse_number, offsetof(LeaseRecord, id)},
                        {"label", 1, parse_text_or_null, offsetof(LeaseRecord, label)},
                        {"lifetime", 1, parse_lifetime, offsetof(LeaseRecord, lifetime)},
                        {"uid", 1, parse_uid, offsetof(LeaseRecord, owner_uid)},
                        {"pid", 1, parse_pid, offsetof(LeaseRecord, owner_pid)},
                        {"unit", 1, parse_text_or_null, offsetof(LeaseRecord, unit)},
                        {"created", 1, parse_number, offsetof(LeaseRecord, created_usec)},
                        {"released", 1, parse_released, offsetof(LeaseRecord, released)},
                        {"delegate", 2, parse_delegate, 0},
                        {"bound", 1, parse_bound, 0},
                        {"slices", 1, parse_slices, 0},
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
        static const Field fields[] = {
                        FIELDS_HEAD(RegionRecord),
                        {"name", 1, parse_text, offsetof(RegionRecord, name)},
                        {"rdev", 1, parse_dev, offsetof(RegionRecord, rdev)},
                        {"inode", 1, parse_ino, offsetof(RegionRecord, inode)},
                        {"size", 1, parse_bytes, offsetof(RegionRecord, size)},
                        {"offsets", 1, parse_bool, offsetof(RegionRecord, offsets)},
                        {"file_dev", 1, parse_dev, offsetof(RegionRecord, file_dev)},
                        {"file_ino", 1, parse_ino, offsetof(RegionRecord, file_ino)},
                        {"schedulable", 2, parse_bool, offsetof(RegionRecord, schedulable)},
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
        static const Field fields[] = {
                        FIELDS_HEAD(DaemonRecord),
                        {"next_lease", 1, parse_number, offsetof(DaemonRecord, next_lease)},
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
