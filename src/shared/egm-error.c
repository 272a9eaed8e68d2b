/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>

#include "egm-error.h"
#include "egm-names.h"
#include "text.h"

static const struct {
        const char *name;
        int error;
} kind_table[_EGM_ERROR_KIND_MAX] = {
                [EGM_ERROR_NO_CAPACITY] = {EGM_ERROR_PREFIX "NoCapacity", ENOSPC},
                [EGM_ERROR_FRAGMENTED] = {EGM_ERROR_PREFIX "Fragmented", EXFULL},
                [EGM_ERROR_NO_SUCH_REGION] = {EGM_ERROR_PREFIX "NoSuchRegion", ENODEV},
                [EGM_ERROR_NO_SUCH_LEASE] = {EGM_ERROR_PREFIX "NoSuchLease", ENOENT},
                [EGM_ERROR_NOT_PARTITIONABLE] = {EGM_ERROR_PREFIX "NotPartitionable", ENOTUNIQ},
                [EGM_ERROR_REGION_NOT_READY] = {EGM_ERROR_PREFIX "RegionNotReady", ENOLINK},
                [EGM_ERROR_BAD_ALIGNMENT] = {EGM_ERROR_PREFIX "BadAlignment", EDOM},
                [EGM_ERROR_QUOTA_EXCEEDED] = {EGM_ERROR_PREFIX "QuotaExceeded", EDQUOT},
                [EGM_ERROR_NOT_HOLDER] = {EGM_ERROR_PREFIX "NotHolder", EPERM},
                [EGM_ERROR_DRAINING] = {EGM_ERROR_PREFIX "Draining", EBUSY},
                [EGM_ERROR_TIMED_OUT] = {EGM_ERROR_PREFIX "TimedOut", ETIMEDOUT},
                [EGM_ERROR_INVALID_ARGS] = {"org.freedesktop.DBus.Error.InvalidArgs", EINVAL},
                [EGM_ERROR_ACCESS_DENIED] = {"org.freedesktop.DBus.Error.AccessDenied", EACCES},
                [EGM_ERROR_LIMITS_EXCEEDED] = {"org.freedesktop.DBus.Error.LimitsExceeded",
                                               ENOBUFS},
                [EGM_ERROR_NOT_SUPPORTED] = {"org.freedesktop.DBus.Error.NotSupported", EOPNOTSUPP},
};

const char *egm_error_kind_to_name(EgmErrorKind kind) {
        return kind > 0 && kind < _EGM_ERROR_KIND_MAX ? kind_table[kind].name : NULL;
}

EgmErrorKind egm_error_kind_from_name(const char *name) {
        for (int i = EGM_ERROR_NONE + 1; name && i < _EGM_ERROR_KIND_MAX; i++)
                if (streq(kind_table[i].name, name))
                        return (EgmErrorKind) i;
        return _EGM_ERROR_KIND_INVALID;
}

int egm_error_kind_to_errno(EgmErrorKind kind) {
        assert(kind > 0 && kind < _EGM_ERROR_KIND_MAX);
        return kind_table[kind].error;
}

int egm_error_set(EgmError *e, EgmErrorKind kind, const char *format, ...) {
        int r = -egm_error_kind_to_errno(kind);
        va_list ap;

        if (!e || e->kind != EGM_ERROR_NONE)
                return r;
        e->kind = kind;
        va_start(ap, format);
        if (vasprintf(&e->message, format, ap) < 0)
                e->message = NULL;
        va_end(ap);
        /* It quotes whoever was refused, perhaps cut inside of a character, and goes to logs, terminals, and the bus, which
         * throws out who sends what is not UTF-8. */
        if (e->message)
                text_make_printable(e->message);
        return r;
}

void egm_error_done(EgmError *e) {
        assert(e);
        e->message = mfree(e->message);
        e->kind = EGM_ERROR_NONE;
}
