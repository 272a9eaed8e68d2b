/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A table for people: columns as wide as their widest cell, two blanks between them. Pure but for printing. */

typedef struct TextTable TextTable;

typedef struct TextColumn {
        const char *name; /* static */
        bool right;       /* numbers */
} TextColumn;

/* columns must live as long as the table. */
int text_table_new(const TextColumn *columns, size_t n_columns, TextTable **ret);
TextTable *text_table_free(TextTable *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(TextTable *, text_table_free)

/* The next cell, row by row; empty ones print as "-". What would disturb a terminal is replaced by '?'. */
int text_table_add(TextTable *t, const char *format, ...) _printf_(2, 3);
size_t text_table_count_rows(const TextTable *t);
/* No blanks at the ends of lines. */
void text_table_print(const TextTable *t, FILE *f, bool legend);

/* Characters, of valid UTF-8. */
size_t text_width(const char *s);
