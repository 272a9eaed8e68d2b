/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>
#include <unistd.h>

#include "egmctl.h"
#include "text.h"

static void complain_text(const char *what, const char *why) {
        _cleanup_free_ char *line = NULL;

        if (asprintf(&line, "%s%s%s", what, why ? ": " : "", why ?: "") < 0)
                return;
        text_make_printable(line);
        fprintf(stderr, "egmctl: %s\n", line);
}

void complain(const char *format, ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;
        int k;

        va_start(ap, format);
        k = vasprintf(&what, format, ap);
        va_end(ap);
        if (k >= 0)
                complain_text(what, NULL);
}

int complain_oom(void) {
        complain("Out of memory");
        return STATUS_FAILED;
}

static int status_of(const char *name, int r) {
        switch (egm_error_kind_from_name(name)) {
        case EGM_ERROR_NO_SUCH_REGION:
        case EGM_ERROR_NO_SUCH_LEASE:
                return STATUS_NOT_FOUND;
        case EGM_ERROR_INVALID_ARGS:
        case EGM_ERROR_BAD_ALIGNMENT:
                return STATUS_USAGE;
        case EGM_ERROR_ACCESS_DENIED:
        case EGM_ERROR_NOT_HOLDER:
                return STATUS_DENIED;
        case EGM_ERROR_NO_CAPACITY:
        case EGM_ERROR_FRAGMENTED:
        case EGM_ERROR_NOT_PARTITIONABLE:
        case EGM_ERROR_REGION_NOT_READY:
        case EGM_ERROR_QUOTA_EXCEEDED:
        case EGM_ERROR_DRAINING:
        case EGM_ERROR_TIMED_OUT:
        case EGM_ERROR_LIMITS_EXCEEDED:
                return STATUS_REFUSED;
        default:
                /* As polkit's: somebody would have had to authenticate. */
                if (r == -EACCES)
                        return STATUS_DENIED;
                /* The library's own answer for names that cannot be. */
                return !name && (r == -ENODEV || r == -ENOENT) ? STATUS_NOT_FOUND : STATUS_FAILED;
        }
}

int complain_call(egm_connection *c, int r, const char *format, ...) {
        const char *name = egm_connection_get_error_name(c);
        const char *message = egm_connection_get_error_message(c);
        _cleanup_free_ char *what = NULL;
        va_list ap;
        int k;

        va_start(ap, format);
        k = vasprintf(&what, format, ap);
        va_end(ap);
        if (r == -EHOSTUNREACH)
                message = "egmd does not run";
        else if (r == -EBADMSG)
                message = "egmd's answer makes no sense to this version of egmctl";
        if (k >= 0)
                complain_text(what, message ?: strerror(-r));
        return c ? status_of(name, r) : STATUS_FAILED;
}

int connect_bus(const Options *o, egm_connection **ret) {
        int r = egm_connection_new(o->bus, ret);

        if (r < 0)
                return complain_call(NULL, r, "Failed to connect to the %s%s",
                                     o->bus ? "bus " : "system bus", o->bus ?: "");
        /* Whoever sits there can be asked, if need be. */
        if (!o->no_ask_password && isatty(STDIN_FILENO))
                (void) egm_connection_set_interactive(*ret, true);
        return 0;
}

int take_snapshot(const Options *o, egm_connection **ret_connection, egm_snapshot **ret_snapshot) {
        int r = connect_bus(o, ret_connection);

        if (r != 0)
                return r;
        r = egm_snapshot_new(*ret_connection, ret_snapshot);
        return r < 0 ? complain_call(*ret_connection, r, "Failed to ask egmd") : 0;
}
