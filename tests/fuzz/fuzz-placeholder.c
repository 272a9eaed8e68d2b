/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <regex.h>

#include "fuzz-input.h"
#include "placeholder.h"

/* The first byte says how many slices there are, and whether they have dma-bufs, the rest is an argument of a command. What comes out is what a second way
 * of finding the placeholders, by a regular expression, says. */

#define WORD "\\{(lease|([0-9]+)\\.([A-Za-z][A-Za-z0-9_-]*))\\}"

static const PlaceholderSlice slices[] = {
                {"egm4", 5, 0, 64 * KIB, "/run/egm/lease-7/slice-0", 11},
                {"egm5", 6, 2 * MIB, 4 * GIB, NULL, 12},
                {"egm-other", 7, UINT64_MAX, 0, "", 13},
};

static bool put_value(FILE *f, const char *text, const regmatch_t *m, const PlaceholderValues *v) {
        const char *word = text + m[3].rm_so;
        size_t length = (size_t) (m[3].rm_eo - m[3].rm_so);
        const PlaceholderSlice *s;
        uint64_t k;

        if (m[3].rm_so < 0)
                return fputs("7", f) >= 0;
        errno = 0;
        k = strtoull(text + m[2].rm_so, NULL, 10);
        if (errno == ERANGE || k >= v->n_slices)
                return false;
        s = slices + k;
#define IS(w) (length == strlen(w) && memcmp(word, w, length) == 0)
        if (IS("path") && s->path)
                return fputs(s->path, f) >= 0;
        if (IS("path"))
                return fprintf(f, "/proc/self/fd/%d", s->fd) > 0;
        if (IS("fd"))
                return fprintf(f, "%d", s->fd) > 0;
        if (IS("dmabuf"))
                return v->dmabufs && fprintf(f, "%d", s->dmabuf) > 0;
        if (IS("offset"))
                return fprintf(f, "%" PRIu64, s->offset) > 0;
        if (IS("size"))
                return fprintf(f, "%" PRIu64, s->size) > 0;
        return IS("region") && fputs(s->region, f) >= 0;
#undef IS
}

/* NULL: a placeholder that there is not. */
static char *expand_otherwise(const char *text, const PlaceholderValues *v, bool *ret_any) {
        static regex_t *regex;
        static regex_t memory;
        _cleanup_free_ char *result = NULL;
        regmatch_t m[4];
        bool good = true;
        size_t size;
        FILE *f;

        if (!regex) {
                FUZZ_CHECK(regcomp(&memory, "\\\\?" WORD, REG_EXTENDED) == 0);
                regex = &memory;
        }
        f = open_memstream(&result, &size);
        FUZZ_CHECK(f);
        *ret_any = false;
        while (good && regexec(regex, text, ELEMENTSOF(m), m, 0) == 0) {
                (void) fwrite(text, 1, (size_t) m[0].rm_so, f);
                if (text[m[0].rm_so] == '\\')
                        (void) fwrite(text + m[0].rm_so + 1, 1,
                                      (size_t) (m[0].rm_eo - m[0].rm_so) - 1, f);
                else {
                        good = put_value(f, text, m, v);
                        *ret_any = true;
                }
                text += m[0].rm_eo;
        }
        fputs(text, f);
        FUZZ_CHECK(fclose(f) == 0);
        return good ? TAKE_PTR(result) : NULL;
}

static bool is_any_used(const char *text, size_t n_slices) {
        static const char *const words[] = {"path", "fd", "dmabuf", "offset", "size", "region"};

        for (size_t i = 0; i < n_slices; i++)
                for (size_t k = 0; k < ELEMENTSOF(words); k++)
                        if (placeholder_is_used(text, i, words[k]))
                                return true;
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = NULL, *result = NULL, *expected = NULL;
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        PlaceholderValues v = {.lease = "7", .slices = slices};
        bool any;
        int r;

        if (size == 0)
                return 0;
        v.n_slices = 1 + data[0] % ELEMENTSOF(slices);
        v.dmabufs = data[0] & 0x40;
        text = fuzz_string(data + 1, size - 1);
        expected = expand_otherwise(text, &v, &any);
        r = placeholder_expand(text, &v, &result, &e);
        FUZZ_CHECK((r < 0) == !expected);
        FUZZ_CHECK(r == 0 || e.kind == EGM_ERROR_INVALID_ARGS);
        fuzz_check_words(r < 0, e.message);
        if (r >= 0) {
                FUZZ_CHECK(streq(result, expected));
                FUZZ_CHECK(any || !is_any_used(text, v.n_slices));
        }
        /* Whether it is right does not depend on what there is to be filled in. */
        v.slices = NULL;
        FUZZ_CHECK(placeholder_expand(text, &v, NULL, NULL) == r);
        return 0;
}
