/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"
#include "test.h"

/* A refusal has a message that can be shown anywhere, with these words in it. */
static inline void assert_message(const EgmError *e, const char *const *words) {
        assert_non_null(e->message);
        for (const char *s = e->message; *s; s++)
                assert_in_range(*s, ' ', '~');
        for (; *words; words++)
                if (!strstr(e->message, *words))
                        fail_msg("\"%s\" not in \"%s\"", *words, e->message);
}
