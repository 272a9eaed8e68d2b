/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "properties.h"

static void values_free(const char *columns, TableValue *values, size_t n_rows) {
        size_t k = columns ? strlen(columns) : 0;

        for (size_t i = 0; i < n_rows; i++)
                for (size_t j = 0; j < k; j++)
                        if (columns[j] == 's')
                                free(values[i * k + j].string);
        free(values);
}

void table_done(Table *t) {
        values_free(t->columns, t->values, t->n_rows);
        *t = (Table){};
}

bool table_has(const Table *t, size_t row) {
        return row < t->n_rows;
}

uint64_t table_number(const Table *t, size_t row, size_t column) {
        assert(row < t->n_rows && column < strlen(t->columns) && t->columns[column] != 's');
        return t->values[row * strlen(t->columns) + column].number;
}

const char *table_string(const Table *t, size_t row, size_t column) {
        assert(row < t->n_rows && column < strlen(t->columns) && t->columns[column] == 's');
        return t->values[row * strlen(t->columns) + column].string;
}

static int value_read(sd_bus_message *m, char type, TableValue *ret) {
        union {
                const char *s;
                uint64_t t;
                uint32_t u;
                int32_t i;
        } v;
        int r = sd_bus_message_read_basic(m, type, &v);

        if (r < 0)
                return r;
        if (r == 0)
                return -EBADMSG;
        switch (type) {
        case 's':
                ret->string = strdup(v.s);
                return ret->string ? 0 : -ENOMEM;
        case 't':
                ret->number = v.t;
                return 0;
        case 'u':
                ret->number = v.u;
                return 0;
        default:
                assert(type == 'i');
                ret->number = (uint64_t) (int64_t) v.i;
                return 0;
        }
}

/* One row; a plain value when there is no struct around it ("as"). */
static int row_read(sd_bus_message *m, const char *columns, bool is_struct, TableValue *row) {
        int r;

        if (is_struct) {
                r = sd_bus_message_enter_container(m, 'r', columns);
                if (r < 0)
                        return r;
        }
        for (size_t j = 0; columns[j]; j++) {
                r = value_read(m, columns[j], row + j);
                if (r < 0)
                        return r;
        }
        return is_struct ? sd_bus_message_exit_container(m) : 0;
}

/* A new row, all zero, at the end. */
static int table_add(Table *t, TableValue **ret_row) {
        size_t k = strlen(t->columns);

        if (t->n_rows == 0 || is_pow2(t->n_rows)) {
                TableValue *v = reallocarray(t->values, MAX(t->n_rows * 2, (size_t) 1),
                                             k * sizeof(*v));

                if (!v)
                        return -ENOMEM;
                t->values = v;
        }
        *ret_row = t->values + t->n_rows++ * k;
        memset(*ret_row, 0, k * sizeof(**ret_row));
        return 0;
}

static int rows_read(sd_bus_message *m, const char *contents, Table *t) {
        TableValue *row;
        int r;

        r = sd_bus_message_enter_container(m, 'a', contents);
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                r = table_add(t, &row);
                if (r < 0)
                        return r;
                r = row_read(m, t->columns, contents[0] == '(', row);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static void table_replace(Table *t, Table *by) {
        table_done(t);
        *t = *by;
        *by = (Table){};
}

static int array_read(sd_bus_message *m, const char *contents, const char *columns, Table *t) {
        _cleanup_(table_done) Table fresh = {.columns = columns};
        int r = rows_read(m, contents, &fresh);

        if (r >= 0)
                table_replace(t, &fresh);
        return r;
}

int table_read(sd_bus_message *m, const char *columns, Table *t) {
        char contents[16];
        int k = snprintf(contents, sizeof(contents), "(%s)", columns);

        assert(k > 0 && (size_t) k < sizeof(contents));
        return array_read(m, contents, columns, t);
}

int table_read_strings(sd_bus_message *m, Table *t) {
        return array_read(m, "s", "s", t);
}

int table_read_changed(sd_bus_message *m, Table *t) {
        _cleanup_(table_done) Table fresh = {.columns = "s"};
        TableValue *row;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = table_add(&fresh, &row);
                if (r >= 0)
                        r = value_read(m, 's', row);
                if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r >= 0)
                r = rows_read(m, "s", &fresh);
        if (r >= 0)
                table_replace(t, &fresh);
        return r;
}

static int property_read(sd_bus_message *m, const Property *p, void *member) {
        const char *s;
        int r;

        if (p->columns)
                return p->signature[1] == '(' ? table_read(m, p->columns, member)
                                              : table_read_strings(m, member);
        if (p->signature[0] != 's')
                return sd_bus_message_read_basic(m, p->signature[0], member);
        r = sd_bus_message_read_basic(m, 's', &s);
        return r < 0 ? r : free_and_strdup(member, s);
}

static int variant_read(sd_bus_message *m, const Property *p, void *object) {
        int r;

        r = sd_bus_message_enter_container(m, 'v', p->signature);
        if (r < 0)
                return r;
        r = property_read(m, p, (char *) object + p->offset);
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static const Property *property_find(const Property *table, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (streq(table[i].name, name))
                        return table + i;
        return NULL;
}

static int read_all(sd_bus_message *m, const Property *table, size_t n, void *object) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const Property *p;
                const char *name;

                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                p = property_find(table, n, name);
                r = p ? variant_read(m, p, object) : sd_bus_message_skip(m, "v");
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int properties_read(sd_bus_message *m, const Property *table, size_t n, void *object) {
        return bad_message(read_all(m, table, n, object));
}

void properties_done(const Property *table, size_t n, void *object) {
        for (size_t i = 0; i < n; i++) {
                void *member = (char *) object + table[i].offset;

                if (table[i].columns)
                        table_done(member);
                else if (table[i].signature[0] == 's')
                        free(*(char **) member);
        }
}
