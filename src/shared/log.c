/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>
#include <stdatomic.h>

#include "log.h"
#include "text.h"

static _Atomic int max_level = LOG_INFO;
static _Atomic bool journal = false;

static const char *const level_table[] = {
                [LOG_EMERG] = "emerg", [LOG_ALERT] = "alert",     [LOG_CRIT] = "crit",
                [LOG_ERR] = "err",     [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice",
                [LOG_INFO] = "info",   [LOG_DEBUG] = "debug",
};

void log_set_max_level(int level) {
        assert(level >= LOG_EMERG && level <= LOG_DEBUG);
        atomic_store(&max_level, level);
}

int log_get_max_level(void) {
        return atomic_load(&max_level);
}

int log_level_from_string(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(level_table); i++)
                if (streq_ptr(level_table[i], s))
                        return (int) i;
        return -EINVAL;
}

const char *log_level_to_string(int level) {
        return level >= 0 && (size_t) level < ELEMENTSOF(level_table) ? level_table[level] : NULL;
}

void log_open(void) {
        int level;

        atomic_store(&journal, getenv("JOURNAL_STREAM") != NULL);
        level = log_level_from_string(getenv("EGM_LOG"));
        if (level >= 0)
                log_set_max_level(level);
}

int log_full(int level, int error, const char *format, ...) {
        char line[2048];
        size_t n = 0;
        va_list ap;
        int saved = errno, k;

        if (level > atomic_load(&max_level))
                return error;
        if (atomic_load(&journal))
                n = (size_t) snprintf(line, sizeof(line), "<%d>", level);

        va_start(ap, format);
        if (error != 0)
                errno = abs(error);
        k = vsnprintf(line + n, sizeof(line) - n - 1, format, ap);
        va_end(ap);

        if (k > 0) {
                size_t end = MIN(n + (size_t) k, sizeof(line) - 2);

                /* One message is one line: nothing a peer named can forge a second one, or tell a terminal anything; and the
                 * journal hides what is not UTF-8. */
                text_make_printable(line + n);
                line[end] = '\n';
                /* One write, so that lines of several threads don't mix. */
                (void) !write(STDERR_FILENO, line, end + 1);
        }
        errno = saved;
        return error;
}
