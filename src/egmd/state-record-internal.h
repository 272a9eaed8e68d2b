/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "state-record.h"

/* What may stand in a record, the same for what is written and what is read: nothing is written that could not be read
 * again. */

/* The name of a region or a boot. */
bool state_name_is_valid(const char *s);

/* -EBADMSG, with the reason in words in *ret_why (NULL: not asked for); -ENOMEM. */
int state_refuse(char **ret_why, const char *format, ...) _printf_(2, 3);

/* 0, or as state_refuse(). */
int lease_record_check(const LeaseRecord *r, char **ret_why);
int region_record_check(const RegionRecord *r, char **ret_why);
int daemon_record_check(const DaemonRecord *r, char **ret_why);
