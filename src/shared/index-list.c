/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "index-list.h"
#include "size.h"

static int parse_index(char *text, unsigned max, unsigned *ret) {
        uint64_t v;
        int r;

        r = parse_uint64(text, &v);
        if (r < 0)
                return r;
        if (v > max)
                return -ERANGE;
        *ret = (unsigned) v;
        return 0;
}

static int parse_range(char *text, unsigned max, bool *set) {
        char *last = text, *first = strsep(&last, "-");
        unsigned a, b;
        int r;

        r = parse_index(first, max, &a);
        if (r < 0)
                return r;
        b = a;
        r = last ? parse_index(last, max, &b) : 0;
        if (r < 0)
                return r;
        if (b < a)
                return -EINVAL;
        for (unsigned i = a; i <= b; i++)
                set[i] = true;
        return 0;
}

int parse_index_list(const char *text, unsigned max, unsigned **ret, size_t *ret_n) {
        _cleanup_free_ char *copy = NULL;
        _cleanup_free_ bool *set = NULL;
        _cleanup_free_ unsigned *list = NULL;
        char *p, *word;
        size_t n = 0;
        int r;

        assert(text);
        assert(max < 1U << 20);
        assert(ret);
        assert(ret_n);

        copy = strdup(text);
        set = calloc((size_t) max + 1, sizeof(*set));
        if (!copy || !set)
                return -ENOMEM;
        p = *copy ? copy : NULL;
        while ((word = strsep(&p, ","))) {
                r = parse_range(word, max, set);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i <= max; i++)
                n += set[i];
        if (n > 0) {
                size_t k = 0;

                list = malloc(n * sizeof(*list));
                if (!list)
                        return -ENOMEM;
                for (unsigned i = 0; i <= max; i++)
                        if (set[i])
                                list[k++] = i;
        }
        *ret = TAKE_PTR(list);
        *ret_n = n;
        return 0;
}
