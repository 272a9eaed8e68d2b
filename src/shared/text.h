/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* What anybody may have named, on its way to a log, a bus or a terminal: UTF-8 without control characters (C0, DEL and C1,
 * any of which a terminal may obey), and so on one line. Pure. */

/* Bytes of the printable character at s, 0 if there is none: a control character, not UTF-8, or the end. */
size_t text_character(const char *s);
bool text_is_printable(const char *s);
/* In place: each byte that belongs to no printable character becomes '?'. */
void text_make_printable(char *s);
