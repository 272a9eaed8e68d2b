/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fault-page.h"
#include "macro.h"

/* What shall go wrong, and when: "kill@12", "kill-after@12", "ENOSPC@3", "EMFILE-workers@7+5" (from the 7th call on,
 * five in a row). Each kind counts calls of its own. */

typedef struct FaultKind {
        const char *name;
        FaultClass on;
        int error; /* 0: kill */
        bool after;
} FaultKind;

extern const FaultKind fault_kinds[]; /* ends with a NULL name */

typedef struct FaultPlan {
        const FaultKind *kind; /* NULL: nothing goes wrong */
        uint64_t first, n;
} FaultPlan;

const FaultKind *fault_kind_from_string(const char *s);
int fault_plan_parse(const char *s, FaultPlan *ret);
char *fault_plan_format(const FaultPlan *p);

/* The page, in a file that goes with the process. */
int fault_page_new(const char *path, FaultPage **ret);
void fault_page_free(FaultPage *p);
/* Counts from zero. */
void fault_page_set(FaultPage *p, const FaultPlan *plan);
