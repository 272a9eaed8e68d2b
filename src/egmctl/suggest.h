/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Which of the words was probably meant: the only one that text is the beginning of, else the nearest by edits, if it
 * is near enough to be no guess. NULL: none. */
const char *suggest(const char *text, const char *const *words, size_t n_words);
