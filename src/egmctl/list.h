/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <egm.h>

#include "macro.h"

/* The tables, as list-regions, list-leases and status print them. 0 or -ENOMEM. */
int print_regions(egm_snapshot *s, bool legend);
int print_leases(egm_snapshot *s, bool legend);
