/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "text.h"

/* 0 bytes: not UTF-8. */
static size_t text_decode(const char *s, uint32_t *ret) {
        static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000}; /* that needs as many bytes */
        const unsigned char *p = (const unsigned char *) s;
        uint32_t c;
        size_t n;

        if (p[0] < 0x80) {
                *ret = p[0];
                return 1;
        }
        if (p[0] < 0xc2 || p[0] > 0xf4)
                return 0;
        n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
        c = p[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        *ret = c;
        return c < first[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : n;
}

static bool is_control(uint32_t c) {
        return c < ' ' || (c >= 0x7f && c < 0xa0);
}

/* Unicode's category Cf where it has no form of its own, the separators of lines and paragraphs, and what is no character. */
static bool is_invisible(uint32_t c) {
        static const struct {
                uint32_t first, last;
        } table[] = {
                        {0xad, 0xad},       /* soft hyphen */
                        {0x61c, 0x61c},     /* Arabic letter mark */
                        {0x180e, 0x180e},   /* Mongolian vowel separator */
                        {0x200b, 0x200f},   /* zero width, marks of direction */
                        {0x2028, 0x202e},   /* separators, embedding, override */
                        {0x2060, 0x206f},   /* joiner, invisible operators, isolates */
                        {0xfdd0, 0xfdef},   /* no characters */
                        {0xfeff, 0xfeff},   /* byte order mark */
                        {0xfff9, 0xfffb},   /* annotation */
                        {0x1bca0, 0x1bca3}, /* shorthand */
                        {0x1d173, 0x1d17a}, /* music */
                        {0xe0000, 0xe0fff}, /* tags, and what is reserved for the like */
        };

        if ((c & 0xfffe) == 0xfffe)
                return true;
        for (size_t i = 0; i < ELEMENTSOF(table) && c >= table[i].first; i++)
                if (c <= table[i].last)
                        return true;
        return false;
}

size_t text_character(const char *s) {
        uint32_t c;
        size_t n = text_decode(s, &c);

        return n > 0 && !is_control(c) && !is_invisible(c) ? n : 0;
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

uint32_t text_find_unprintable(const char *s) {
        uint32_t c;
        size_t n;

        assert(s);

        while (*s && (n = text_character(s)) > 0)
                s += n;
        return *s && text_decode(s, &c) > 0 ? c : 0;
}

bool text_is_line(const char *s) {
        assert(s);

        while (*s) {
                uint32_t c;
                size_t n = text_decode(s, &c);

                if (n == 0 || is_control(c))
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
