/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "internal.h"

/* D-Bus properties into members of a struct, by a table. */

/* A value of type a(…): rows of numbers (t, u, i) and strings (s). */
typedef union TableValue {
        uint64_t number;
        char *string;
} TableValue;

typedef struct Table {
        const char *columns; /* static: the types, "stt"; NULL while empty */
        size_t n_rows;
        TableValue *values;
} Table;

void table_done(Table *t);
/* False past the end. A getter's first check. */
bool table_has(const Table *t, size_t row);
uint64_t table_number(const Table *t, size_t row, size_t column);
const char *table_string(const Table *t, size_t row, size_t column);
/* Reads one array of structs with these (static) columns; replaces what was there. */
int table_read(sd_bus_message *m, const char *columns, Table *t);
/* Reads "as". */
int table_read_strings(sd_bus_message *m, Table *t);
/* Reads the rest of PropertiesChanged, "a{sv}as": the names, not the values. */
int table_read_changed(sd_bus_message *m, Table *t);

typedef struct Property {
        const char *name;
        const char *signature; /* "s" char *, "t" uint64_t, "u" uint32_t, "i" int32_t, "b" int, "a(…)" Table */
        const char *columns; /* of an "a(…)"; "s" with signature "as" */
        size_t offset;
} Property;

/* A test compares these lines with the interface file: keep name and type on one line. */
#define PROPERTY(object, name, type, member) \
        { name, type, NULL, offsetof(struct object, member) }
#define PROPERTY_TABLE(object, name, columns, member) \
        { name, "a(" columns ")", columns, offsetof(struct object, member) }
#define PROPERTY_STRINGS(object, name, member) \
        { name, "as", "s", offsetof(struct object, member) }

/* Reads an a{sv}. Unknown names are passed over; a known one of another type is -EBADMSG. */
int properties_read(sd_bus_message *m, const Property *table, size_t n, void *object);
/* Frees the strings and tables. */
void properties_done(const Property *table, size_t n, void *object);
