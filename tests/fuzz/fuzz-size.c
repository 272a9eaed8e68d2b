/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <limits.h>

#include "fuzz-input.h"
#include "size.h"

/* What is a size is one number, whoever writes it; what is printed of it reads as nearly the same. */

static void check_format(uint64_t v) {
        char buf[FORMAT_SIZE_MAX];
        uint64_t w, apart, unit = 1;
        int r;

        FUZZ_CHECK(format_size(buf, v) == buf);
        FUZZ_CHECK(memchr(buf, '\0', sizeof(buf)));
        if (strchr(buf, '.'))
                return;
        while (unit < UINT64_C(1) << 60 && v >= unit * 1024)
                unit *= 1024;
        r = parse_size(buf, &w);
        if (r == -ERANGE) { /* 16E */
                FUZZ_CHECK(v > UINT64_MAX - unit / 20);
                return;
        }
        FUZZ_CHECK(r == 0);
        apart = v > w ? v - w : w - v;
        FUZZ_CHECK(apart <= unit / 20);
        FUZZ_CHECK(v >= 1024 || apart == 0);
}

static void check_int(const char *s) {
        char again[32];
        int i, k;

        if (parse_int(s, &i) < 0)
                return;
        (void) snprintf(again, sizeof(again), "%d", i);
        FUZZ_CHECK(parse_int(again, &k) == 0 && k == i);
        FUZZ_CHECK((*s == '-') == (i < 0) || i == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *s = fuzz_string(data, size);
        uint64_t bytes = 42, number = 42;
        char again[32];
        int r, k;

        r = parse_size(s, &bytes);
        k = parse_uint64(s, &number);
        FUZZ_CHECK(r == 0 || ((r == -EINVAL || r == -ERANGE) && bytes == 42));
        FUZZ_CHECK(k == 0 || ((k == -EINVAL || k == -ERANGE) && number == 42));
        check_int(s);
        if (r < 0) {
                FUZZ_CHECK(k < 0);
                return 0;
        }
        FUZZ_CHECK(*s >= '0' && *s <= '9');
        if (k >= 0)
                FUZZ_CHECK(number == bytes);
        (void) snprintf(again, sizeof(again), "%" PRIu64, bytes);
        FUZZ_CHECK(parse_size(again, &number) == 0 && number == bytes);
        check_format(bytes);
        return 0;
}
