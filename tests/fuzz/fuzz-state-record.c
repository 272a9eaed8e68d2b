/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fuzz.h"
#include "state-record.h"

/* The first byte says which kind of record the rest claims to be. Whatever is taken for one can be written, and what was
 * written reads as the same. */

static void check_verdict(int r, unsigned format, const char *why) {
        FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
        FUZZ_CHECK((r == -EPROTONOSUPPORT) == (format > STATE_FORMAT));
        FUZZ_CHECK((r == -EBADMSG) == (why != NULL));
}

#define DEFINE_CHECK(kind, Type) \
        static void check_##kind(const char *text, size_t size) { \
                _cleanup_free_ char *why = NULL, *first = NULL, *second = NULL; \
                size_t n_first, n_second; \
                unsigned format = 0; \
                Type a, b; \
                int r; \
\
                r = kind##_record_from_text(text, size, &a, &format, &why); \
                check_verdict(r, format, why); \
                if (r < 0) \
                        return; \
                FUZZ_CHECK(kind##_record_to_text(&a, &first, &n_first) == 0); \
                FUZZ_CHECK(kind##_record_from_text(first, n_first, &b, &format, &why) == 0); \
                FUZZ_CHECK(format == STATE_FORMAT); \
                FUZZ_CHECK(kind##_record_to_text(&b, &second, &n_second) == 0); \
                FUZZ_CHECK(n_first == n_second && memcmp(first, second, n_first) == 0); \
                kind##_record_done(&a); \
                kind##_record_done(&b); \
        }

DEFINE_CHECK(lease, LeaseRecord)
DEFINE_CHECK(region, RegionRecord)
DEFINE_CHECK(daemon, DaemonRecord)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *text = (const char *) data + 1;

        if (size == 0)
                return 0;
        switch (data[0] % 3) {
        case 0: /* '0' */
                check_lease(text, size - 1);
                break;
        case 1:
                check_region(text, size - 1);
                break;
        default:
                check_daemon(text, size - 1);
                break;
        }
        return 0;
}
