/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <strings.h>

#include "size.h"

static const char units[] = "KMGTPE";

static int parse_digits(const char **s, uint64_t *ret) {
        const char *p = *s;
        uint64_t v = 0;

        if (!isdigit((unsigned char) *p))
                return -EINVAL;
        for (; isdigit((unsigned char) *p); p++)
                if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
                    __builtin_add_overflow(v, (uint64_t) (*p - '0'), &v))
                        return -ERANGE;
        *s = p;
        *ret = v;
        return 0;
}

int parse_uint64(const char *s, uint64_t *ret) {
        uint64_t v;
        int r;

        assert(s);
        assert(ret);

        r = parse_digits(&s, &v);
        if (r < 0)
                return r;
        if (*s)
                return -EINVAL;
        *ret = v;
        return 0;
}

int parse_int(const char *s, int *ret) {
        bool negative;
        uint64_t v;
        int r;

        assert(s);
        assert(ret);

        negative = *s == '-';
        r = parse_uint64(s + negative, &v);
        if (r < 0)
                return r;
        if (v > INT_MAX)
                return -ERANGE;
        *ret = negative ? -(int) v : (int) v;
        return 0;
}

int parse_size(const char *s, uint64_t *ret) {
        uint64_t v;
        int r;

        assert(s);
        assert(ret);

        r = parse_digits(&s, &v);
        if (r < 0)
                return r;
        if (*s && strcasecmp(s, "B") != 0) {
                const char *u = strchr(units, toupper((unsigned char) *s));
                unsigned shift;

                if (!u || (s[1] && strcasecmp(s + 1, "iB") != 0 && strcasecmp(s + 1, "B") != 0))
                        return -EINVAL;
                shift = 10 * (unsigned) (u - units + 1);
                if (v > UINT64_MAX >> shift)
                        return -ERANGE;
                v <<= shift;
        }
        *ret = v;
        return 0;
}

char *format_size(char buf[static FORMAT_SIZE_MAX], uint64_t bytes) {
        unsigned u = 0;
        uint64_t unit, tenths;

        while (u < sizeof(units) - 1 && bytes >> (10 * (u + 1)))
                u++;
        if (u == 0) {
                (void) snprintf(buf, FORMAT_SIZE_MAX, "%" PRIu64 "B", bytes);
                return buf;
        }
        unit = UINT64_C(1) << (10 * u);
        tenths = (uint64_t) (((unsigned __int128) bytes * 10 + unit / 2) / unit);
        if (tenths >= 10240 && u < sizeof(units) - 1) {
                u++;
                tenths = 10;
        }
        if (tenths % 10 == 0)
                (void) snprintf(buf, FORMAT_SIZE_MAX, "%" PRIu64 "%c", tenths / 10, units[u - 1]);
        else
                (void) snprintf(buf, FORMAT_SIZE_MAX, "%" PRIu64 ".%u%c", tenths / 10,
                                (unsigned) (tenths % 10), units[u - 1]);
        return buf;
}
