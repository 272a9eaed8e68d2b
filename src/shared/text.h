/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What anybody may have named, on its way to a log, a bus or a terminal: UTF-8 without control characters (C0, DEL and C1,
 * any of which a terminal may obey), and so on one line; and without what does not show, so that what looks the same is the same
 * and a line reads in the order that it was written: characters of format (that turn text around, say), separators of lines
 * and what is no character. Pure. */

/* Bytes of the printable character at s, 0 if there is none: one of the above, not UTF-8, or the end. */
size_t text_character(const char *s);
bool text_is_printable(const char *s);
/* The first that is not printable; 0: all are, or it is not UTF-8. */
uint32_t text_find_unprintable(const char *s);
/* UTF-8 without control characters, be it printable or not. */
bool text_is_line(const char *s);
/* In place: each byte that belongs to no printable character becomes '?'. */
void text_make_printable(char *s);
