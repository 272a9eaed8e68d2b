/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "text.h"

size_t text_character(const char *s) {
        static const uint32_t first[] = {0, 0, 0xa0, 0x800,
                                         0x10000}; /* that needs as many bytes, after C1 */
        const unsigned char *p = (const unsigned char *) s;
        uint32_t c;
        size_t n;

        if (p[0] < 0x80)
                return p[0] >= ' ' && p[0] != 0x7f;
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 0;
        n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
        c = p[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        return c < first[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : n;
}

bool text_is_printable(const char *s) {
        assert(s);

        while (*s) {
                size_t n = text_character(s);

                if (n == 0)
                        return false;
                s += n;
        }
        return true;
}

void text_make_printable(char *s) {
        assert(s);

        while (*s) {
                size_t n = text_character(s);

                if (n == 0)
                        *s = '?';
                s += MAX(n, (size_t) 1);
        }
}
