/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

/* JSON, strictly, by tables: every key is known and there once, every value of the type that its key says, every number as
 * it stands. What is wrong is said with its place ("slices[0].size"). Pure. */

#define JSON_PLACE_MAX 96U

typedef struct JsonReader JsonReader;

/* A value and where it stands. */
typedef struct JsonValue {
        json_object *json;
        char place[JSON_PLACE_MAX];
} JsonValue;

struct JsonReader {
        unsigned format; /* of the text, where it has one: fields since a later one are not known */
        int depth_max;
        void *userdata;
        /* Called with the whole, before all other judgement than that it is JSON. May be NULL. */
        int (*head)(JsonReader *r, const JsonValue *v);
        char *why; /* place and words of the last refusal, printable; NULL where memory ran out */
};

typedef struct JsonField {
        const char *key;
        int (*read)(JsonReader *r, const JsonValue *v, void *dest);
        size_t offset;  /* of its member in the struct that is filled */
        unsigned since; /* format */
        bool optional;
} JsonField;

void json_reader_done(JsonReader *r);
#define _cleanup_json_reader_ _cleanup_(json_reader_done)

/* -EBADMSG, and so are all of the refusals below; -ENOMEM. */
int json_read_refuse(JsonReader *r, const JsonValue *v, const char *format, ...) _printf_(3, 4);

/* Text without NUL bytes -> a tree, the caller's to put. */
int json_read_text(JsonReader *r, const char *text, size_t size, json_object **ret);
/* In the order of the table (which ends with an empty field), so that a field can rely on those before it. */
int json_read_object(JsonReader *r, const JsonValue *v, const JsonField *fields, void *dest);
/* The length of a list, between min and max. */
int json_read_length(JsonReader *r, const JsonValue *v, size_t min, size_t max, size_t *ret);
JsonValue json_value_member(const JsonValue *v, const char *key, json_object *json);
JsonValue json_value_item(const JsonValue *v, size_t i);

int json_read_expect(JsonReader *r, const JsonValue *v, enum json_type type, const char *what);
int json_read_number(JsonReader *r, const JsonValue *v, uint64_t max, uint64_t *ret);

/* For tables: to a bool, a uint64_t, a char * (what was there is freed). */
int json_read_bool(JsonReader *r, const JsonValue *v, void *dest);
int json_read_uint64(JsonReader *r, const JsonValue *v, void *dest);
int json_read_string(JsonReader *r, const JsonValue *v, void *dest);

void json_putp(json_object **o);
#define _cleanup_json_ _cleanup_(json_putp)
