/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* A refusal: an outcome the client must be able to tell from others, with a sentence that names the
 * limit and the value. Faults of the system stay plain negative errnos and leave kind at NONE. */
typedef enum EgmErrorKind {
        EGM_ERROR_NONE,
        EGM_ERROR_NO_CAPACITY,
        EGM_ERROR_FRAGMENTED,
        EGM_ERROR_NO_SUCH_REGION,
        EGM_ERROR_NO_SUCH_LEASE,
        EGM_ERROR_NOT_PARTITIONABLE,
        EGM_ERROR_REGION_NOT_READY,
        EGM_ERROR_BAD_ALIGNMENT,
        EGM_ERROR_QUOTA_EXCEEDED,
        EGM_ERROR_NOT_HOLDER,
        EGM_ERROR_DRAINING,
        EGM_ERROR_TIMED_OUT,
        EGM_ERROR_INVALID_ARGS,
        EGM_ERROR_ACCESS_DENIED,
        EGM_ERROR_LIMITS_EXCEEDED,
        EGM_ERROR_NOT_SUPPORTED,
        _EGM_ERROR_KIND_MAX,
        _EGM_ERROR_KIND_INVALID = -EINVAL,
} EgmErrorKind;

typedef struct EgmError {
        EgmErrorKind kind;
        char *message; /* NULL only when memory ran out */
} EgmError;

#define EGM_ERROR_NULL ((EgmError){})

/* Fills an empty error (a filled one is kept: the first refusal counts; NULL is fine) and returns
 * the kind's negative errno. */
int egm_error_set(EgmError *e, EgmErrorKind kind, const char *format, ...) _printf_(3, 4);
void egm_error_done(EgmError *e);
#define _cleanup_egm_error_ _cleanup_(egm_error_done)

/* D-Bus error name <-> kind; NONE has no name. */
const char *egm_error_kind_to_name(EgmErrorKind kind);
EgmErrorKind egm_error_kind_from_name(const char *name);
/* The (positive) errno that stands for a kind in C APIs, the same in daemon and library. */
int egm_error_kind_to_errno(EgmErrorKind kind);
