/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>

#include "json-read.h"
#include "text.h"

void json_putp(json_object **o) {
        (void) json_object_put(*o);
}

void json_reader_done(JsonReader *r) {
        r->why = mfree(r->why);
}

int json_read_refuse(JsonReader *r, const JsonValue *v, const char *format, ...) {
        _cleanup_free_ char *words = NULL;
        va_list ap;
        int k;

        r->why = mfree(r->why);
        va_start(ap, format);
        k = vasprintf(&words, format, ap);
        va_end(ap);
        if (k < 0) {
                words = NULL;
                return -ENOMEM;
        }
        if (asprintf(&r->why, "%s: %s", v->place[0] ? v->place : "the file", words) < 0) {
                r->why = NULL;
                return -ENOMEM;
        }
        /* Keys and values are anybody's text. */
        text_make_printable(r->why);
        return -EBADMSG;
}

JsonValue json_value_member(const JsonValue *v, const char *key, json_object *json) {
        JsonValue m = {.json = json};

        (void) snprintf(m.place, sizeof(m.place), "%.60s%s%.30s", v->place, v->place[0] ? "." : "",
                        key);
        return m;
}

JsonValue json_value_item(const JsonValue *v, size_t i) {
        JsonValue m = {.json = json_object_array_get_idx(v->json, i)};

        (void) snprintf(m.place, sizeof(m.place), "%.70s[%zu]", v->place, i);
        return m;
}

int json_read_expect(JsonReader *r, const JsonValue *v, enum json_type type, const char *what) {
        return json_object_get_type(v->json) == type ? 0 : json_read_refuse(r, v, "not %s", what);
}

static bool fields_have(const JsonReader *r, const JsonField *fields, const char *key) {
        for (const JsonField *f = fields; f->key; f++)
                if (streq(f->key, key))
                        return f->since <= r->format;
        return false;
}

int json_read_object(JsonReader *r, const JsonValue *v, const JsonField *fields, void *dest) {
        int k;

        k = json_read_expect(r, v, json_type_object, "an object");
        if (k < 0)
                return k;
        json_object_object_foreach(v->json, key, json) {
                JsonValue m = json_value_member(v, key, json);

                if (!fields_have(r, fields, key))
                        return json_read_refuse(r, &m, "unknown key");
        }
        for (const JsonField *f = fields; f->key; f++) {
                JsonValue m = json_value_member(v, f->key, NULL);

                if (f->since > r->format)
                        continue;
                if (json_object_object_get_ex(v->json, f->key, &m.json))
                        k = f->read(r, &m, (char *) dest + f->offset);
                else
                        k = f->optional ? 0 : json_read_refuse(r, &m, "missing");
                if (k < 0)
                        return k;
        }
        return 0;
}

int json_read_length(JsonReader *r, const JsonValue *v, size_t min, size_t max, size_t *ret) {
        size_t n;
        int k;

        k = json_read_expect(r, v, json_type_array, "a list");
        if (k < 0)
                return k;
        n = json_object_array_length(v->json);
        if (n < min)
                return json_read_refuse(r, v, "%zu items, at least %zu", n, min);
        if (n > max)
                return json_read_refuse(r, v, "%zu items, at most %zu", n, max);
        *ret = n;
        return 0;
}

int json_read_bool(JsonReader *r, const JsonValue *v, void *dest) {
        int k = json_read_expect(r, v, json_type_boolean, "true or false");

        if (k < 0)
                return k;
        *(bool *) dest = json_object_get_boolean(v->json);
        return 0;
}

int json_read_number(JsonReader *r, const JsonValue *v, uint64_t max, uint64_t *ret) {
        uint64_t n;
        int k;

        k = json_read_expect(r, v, json_type_int, "a whole number");
        if (k < 0)
                return k;
        if (json_object_get_int64(v->json) < 0)
                return json_read_refuse(r, v, "negative");
        n = json_object_get_uint64(v->json);
        if (n > max)
                return json_read_refuse(r, v, "%" PRIu64 " is larger than %" PRIu64, n, max);
        *ret = n;
        return 0;
}

int json_read_uint64(JsonReader *r, const JsonValue *v, void *dest) {
        return json_read_number(r, v, UINT64_MAX, dest);
}

int json_read_string(JsonReader *r, const JsonValue *v, void *dest) {
        const char *s;
        int k;

        k = json_read_expect(r, v, json_type_string, "text");
        if (k < 0)
                return k;
        s = json_object_get_string(v->json);
        if (strlen(s) != (size_t) json_object_get_string_len(v->json))
                return json_read_refuse(r, v, "a NUL character in it");
        return free_and_strdup(dest, s);
}

/* What json-c does not tell: of two members of the same name it keeps the last, it cuts a key at an escaped NUL, and makes
 * the largest number of one that is larger still. Every colon outside of strings is a member, every comma there is
 * between two of something, every n is a null. */
typedef struct Scan {
        size_t members, commas, nulls;
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
                        s.commas += text[i] == ',';
                        s.nulls += text[i] == 'n';
                } else if (text[i] == '\\') {
                        s.nul = s.nul || (size - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0);
                        i++;
                }
                in_number = digit;
        }
        return s;
}

/* The same, of what was made of it. */
static void count(json_object *json, Scan *s) {
        size_t n = 0;

        if (!json)
                s->nulls++;
        else if (json_object_get_type(json) == json_type_array) {
                n = json_object_array_length(json);
                for (size_t i = 0; i < n; i++)
                        count(json_object_array_get_idx(json, i), s);
        } else if (json_object_get_type(json) == json_type_object) {
                n = (size_t) json_object_object_length(json);
                s->members += n;
                json_object_object_foreach(json, key, member) {
                        (void) key;
                        count(member, s);
                }
        }
        s->commas += n > 0 ? n - 1 : 0;
}

/* Where there is no memory to make room for a long string, older ones cut it without a word. So the room is made in advance, by
 * a string as long as the whole text. */
static int make_room(json_tokener *t, size_t size) {
        _cleanup_free_ char *text = malloc(size + 2);
        _cleanup_json_ json_object *json = NULL;

        if (!text)
                return -ENOMEM;
        memset(text, 'x', size + 2);
        text[0] = text[size + 1] = '"';
        json = json_tokener_parse_ex(t, text, (int) (size + 2));
        if (!json || (size_t) json_object_get_string_len(json) != size)
                return -ENOMEM;
        json_tokener_reset(t);
        return 0;
}

static int tokenize(JsonReader *r, const char *text, size_t size, json_object **ret) {
        json_tokener *t = json_tokener_new_ex(r->depth_max);
        const JsonValue v = {};
        enum json_tokener_error e;
        size_t at;

        if (!t)
                return -ENOMEM;
        if (make_room(t, size) < 0) {
                json_tokener_free(t);
                return -ENOMEM;
        }
        json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        *ret = json_tokener_parse_ex(t, text, (int) size);
        e = json_tokener_get_error(t);
        at = json_tokener_get_parse_end(t);
        json_tokener_free(t);
        if (e == json_tokener_success && at == size)
                return 0;
        return json_read_refuse(r, &v, "not JSON at byte %zu: %s", at,
                                e == json_tokener_success    ? "more than one value"
                                : e == json_tokener_continue ? "unexpected end"
                                                             : json_tokener_error_desc(e));
}

static int read_once(JsonReader *r, const char *text, size_t size, json_object **ret) {
        _cleanup_json_ json_object *json = NULL;
        JsonValue v = {};
        Scan scan, made = {};
        int k;

        k = tokenize(r, text, size, &json);
        if (k < 0)
                return k;
        v.json = json;
        if (r->head) {
                k = r->head(r, &v);
                if (k < 0)
                        return k;
        }
        scan = scan_text(text, size);
        if (scan.huge)
                return json_read_refuse(r, &v, "a number beyond %" PRIu64, UINT64_MAX);
        if (scan.nul)
                return json_read_refuse(r, &v, "a NUL character in it");
        count(json, &made);
        if (made.members != scan.members)
                return json_read_refuse(r, &v, "a key is there twice");
        /* What is not there, or is nothing, there was no memory for. */
        if (made.commas != scan.commas || made.nulls != scan.nulls)
                return -ENOMEM;
        *ret = TAKE_PTR(json);
        return 0;
}

/* json-c does not always tell that memory ran out: the text seems cut short, or a member is not there. Text must not be
 * taken for damaged over that, so it is so only when nothing says otherwise, twice. */
int json_read_text(JsonReader *r, const char *text, size_t size, json_object **ret) {
        int k = 0;

        assert(r->depth_max > 0);
        assert(size <= INT_MAX - 2);
        assert(!memchr(text, 0, size));
        assert(ret);

        for (unsigned i = 0; i < 2; i++) {
                r->why = mfree(r->why);
                errno = 0;
                k = read_once(r, text, size, ret);
                if (k != -EBADMSG)
                        return k;
                if (errno == ENOMEM)
                        break;
        }
        if (errno == ENOMEM) {
                r->why = mfree(r->why);
                return -ENOMEM;
        }
        return k;
}
