/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "enforce.h"

/* Built without the programs. */

int enforce_load(Enforce **ret, char **ret_why) {
        assert(ret);
        assert(ret_why);

        *ret_why = strdup("egmd was built without it");
        return -EOPNOTSUPP;
}
