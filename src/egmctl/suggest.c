/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "suggest.h"

#define LENGTH_MAX 32U

/* Insertions, deletions, replacements and swaps of neighbours that make a into b. */
static unsigned edit_distance(const char *a, const char *b) {
        unsigned d[LENGTH_MAX + 1][LENGTH_MAX + 1];
        size_t n = strlen(a), m = strlen(b);

        if (n > LENGTH_MAX || m > LENGTH_MAX)
                return UINT32_MAX;
        for (unsigned i = 0; i <= n; i++)
                d[i][0] = i;
        for (unsigned j = 0; j <= m; j++)
                d[0][j] = j;
        for (size_t i = 1; i <= n; i++)
                for (size_t j = 1; j <= m; j++) {
                        unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

                        best = MIN(best, d[i - 1][j] + 1);
                        best = MIN(best, d[i][j - 1] + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                best = MIN(best, d[i - 2][j - 2] + 1);
                        d[i][j] = best;
                }
        return d[n][m];
}

const char *suggest(const char *text, const char *const *words, size_t n_words) {
        unsigned n_prefix = 0, best = UINT32_MAX;
        const char *prefix = NULL, *nearest = NULL;

        for (size_t i = 0; i < n_words; i++) {
                unsigned distance = edit_distance(text, words[i]);

                if (*text && strncmp(words[i], text, strlen(text)) == 0) {
                        prefix = words[i];
                        n_prefix++;
                }
                if (distance < best) {
                        best = distance;
                        nearest = words[i];
                }
        }
        if (n_prefix == 1)
                return prefix;
        return nearest && best <= 1 + strlen(nearest) / 4 ? nearest : NULL;
}
