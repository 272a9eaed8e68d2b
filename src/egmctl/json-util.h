/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"

static inline void json_object_putp(json_object **p) {
        (void) json_object_put(*p);
}
#define _cleanup_json_ _cleanup_(json_object_putp)

/* These take over value, also on failure; NULL, out of memory as well, is -ENOMEM. */
int json_add(json_object *object, const char *key, json_object *value);
int json_append(json_object *array, json_object *value);
