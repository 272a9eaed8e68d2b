/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>

#include "text-table.h"
#include "text.h"

#define COLUMNS_MAX 16

struct TextTable {
        const TextColumn *columns;
        size_t n_columns;
        char **cells;
        size_t n_cells;
};

int text_table_new(const TextColumn *columns, size_t n_columns, TextTable **ret) {
        TextTable *t;

        assert(n_columns > 0 && n_columns <= COLUMNS_MAX);
        t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->columns = columns;
        t->n_columns = n_columns;
        *ret = t;
        return 0;
}

TextTable *text_table_free(TextTable *t) {
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i]);
        free(t->cells);
        return mfree(t);
}

size_t text_width(const char *s) {
        size_t n = 0;

        for (; *s; s++)
                if (((unsigned char) *s & 0xc0) != 0x80)
                        n++;
        return n;
}

int text_table_add(TextTable *t, const char *format, ...) {
        char *cell, **cells;
        va_list ap;
        int k;

        va_start(ap, format);
        k = vasprintf(&cell, format, ap);
        va_end(ap);
        if (k < 0)
                return -ENOMEM;
        text_make_printable(cell);
        cells = reallocarray(t->cells, t->n_cells + 1, sizeof(*cells));
        if (!cells) {
                free(cell);
                return -ENOMEM;
        }
        t->cells = cells;
        t->cells[t->n_cells++] = cell;
        return 0;
}

size_t text_table_count_rows(const TextTable *t) {
        assert(t->n_cells % t->n_columns == 0);
        return t->n_cells / t->n_columns;
}

/* Row 0 is the header. */
static const char *get_cell(const TextTable *t, size_t row, size_t column) {
        const char *s = row == 0 ? t->columns[column].name
                                 : t->cells[(row - 1) * t->n_columns + column];

        return *s ? s : "-";
}

static size_t column_width(const TextTable *t, size_t column, bool legend) {
        size_t width = 0;

        for (size_t row = legend ? 0 : 1; row <= text_table_count_rows(t); row++)
                width = MAX(width, text_width(get_cell(t, row, column)));
        return width;
}

static void print_cell(const TextTable *t, size_t row, size_t column, size_t width, FILE *f) {
        const char *s = get_cell(t, row, column);
        int pad = (int) (width - text_width(s));
        bool last = column == t->n_columns - 1;

        if (t->columns[column].right)
                fprintf(f, "%*s%s%s", pad, "", s, last ? "\n" : "  ");
        else if (last)
                fprintf(f, "%s\n", s);
        else
                fprintf(f, "%s%*s  ", s, pad, "");
}

void text_table_print(const TextTable *t, FILE *f, bool legend) {
        size_t widths[COLUMNS_MAX];

        for (size_t i = 0; i < t->n_columns; i++)
                widths[i] = column_width(t, i, legend);
        for (size_t row = legend ? 0 : 1; row <= text_table_count_rows(t); row++)
                for (size_t i = 0; i < t->n_columns; i++)
                        print_cell(t, row, i, widths[i], f);
}
