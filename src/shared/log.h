/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <syslog.h>

#include "macro.h"

/* To standard error; with <N> priority prefixes when that is the journal. Level from $EGM_LOG
 * (debug, info, notice, warning, err), default info. Thread-safe. Errors print as %m: the functions
 * with an error set errno for the call. They return the (negative) error, so that
 * `return log_error_errno(r, "…: %m")` logs and forwards in one line. */

void log_open(void);
void log_set_max_level(int level);
int log_get_max_level(void);
int log_level_from_string(const char *s); /* -EINVAL when unknown */
const char *log_level_to_string(int level);

int log_full(int level, int error, const char *format, ...) _printf_(3, 4);

#define log_debug(...) ((void) log_full(LOG_DEBUG, 0, __VA_ARGS__))
#define log_info(...) ((void) log_full(LOG_INFO, 0, __VA_ARGS__))
#define log_notice(...) ((void) log_full(LOG_NOTICE, 0, __VA_ARGS__))
#define log_warning(...) ((void) log_full(LOG_WARNING, 0, __VA_ARGS__))
#define log_error(...) ((void) log_full(LOG_ERR, 0, __VA_ARGS__))

#define log_debug_errno(e, ...) log_full(LOG_DEBUG, (e), __VA_ARGS__)
#define log_info_errno(e, ...) log_full(LOG_INFO, (e), __VA_ARGS__)
#define log_notice_errno(e, ...) log_full(LOG_NOTICE, (e), __VA_ARGS__)
#define log_warning_errno(e, ...) log_full(LOG_WARNING, (e), __VA_ARGS__)
#define log_error_errno(e, ...) log_full(LOG_ERR, (e), __VA_ARGS__)
#define log_oom() log_full(LOG_ERR, -ENOMEM, "Out of memory")
