/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <inttypes.h>

#include "fd-util.h"
#include "placeholder.h"
#include "size.h"

typedef enum Kind {
        KIND_LEASE,
        KIND_PATH,
        KIND_FD,
        KIND_DMABUF,
        KIND_OFFSET,
        KIND_SIZE,
        KIND_REGION,
        KIND_UNKNOWN,
} Kind;

typedef struct Placeholder {
        Kind kind;
        uint64_t slice; /* UINT64_MAX: a number too large */
        size_t length;  /* with the braces */
} Placeholder;

static Kind kind_from_word(const char *word, size_t n) {
        static const struct {
                const char *word;
                Kind kind;
        } table[] = {
                        {"path", KIND_PATH},     {"fd", KIND_FD},     {"dmabuf", KIND_DMABUF},
                        {"offset", KIND_OFFSET}, {"size", KIND_SIZE}, {"region", KIND_REGION},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (strlen(table[i].word) == n && strncmp(table[i].word, word, n) == 0)
                        return table[i].kind;
        return KIND_UNKNOWN;
}

/* Is there one at p? "{" digits "." letter… "}", or "{lease}". */
static bool placeholder_at(const char *p, Placeholder *ret) {
        _cleanup_free_ char *number = NULL;
        size_t digits, word;
        const char *w;

        if (strncmp(p, "{lease}", 7) == 0) {
                *ret = (Placeholder){.kind = KIND_LEASE, .length = 7};
                return true;
        }
        if (*p != '{')
                return false;
        digits = strspn(p + 1, "0123456789");
        if (digits == 0 || p[1 + digits] != '.' || !isalpha((unsigned char) p[2 + digits]))
                return false;
        w = p + 2 + digits;
        for (word = 0; isalnum((unsigned char) w[word]) || w[word] == '_' || w[word] == '-';)
                word++;
        if (w[word] != '}')
                return false;
        *ret = (Placeholder){
                        .kind = kind_from_word(w, word),
                        .slice = UINT64_MAX,
                        .length = digits + word + 3,
        };
        number = strndup(p + 1, digits);
        if (number)
                (void) parse_uint64(number, &ret->slice);
        return true;
}

static int check(const char *p, const Placeholder *h, const PlaceholderValues *v,
                 EgmError *reterr) {
        if (h->kind == KIND_UNKNOWN)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Unknown placeholder %.*s (there are path, fd, dmabuf, "
                                     "offset, size and "
                                     "region of a slice; \\%.*s stands for itself)",
                                     (int) h->length, p, (int) h->length, p);
        if (h->kind != KIND_LEASE && h->slice >= v->n_slices)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Placeholder %.*s, but the last slice is {%zu.…}",
                                     (int) h->length, p, v->n_slices - 1);
        if (h->kind == KIND_DMABUF && !v->dmabufs)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "Placeholder %.*s takes the option --dmabuf", (int) h->length,
                                     p);
        return 0;
}

static void put(FILE *f, const Placeholder *h, const PlaceholderValues *v) {
        const PlaceholderSlice *s = v->slices + h->slice;

        switch (h->kind) {
        case KIND_LEASE:
                fputs(v->lease, f);
                break;
        case KIND_PATH:
                if (s->path)
                        fputs(s->path, f);
                else
                        fprintf(f, "/proc/self/fd/%d", s->fd);
                break;
        case KIND_FD:
                fprintf(f, "%d", s->fd);
                break;
        case KIND_DMABUF:
                fprintf(f, "%d", s->dmabuf);
                break;
        case KIND_OFFSET:
                fprintf(f, "%" PRIu64, s->offset);
                break;
        case KIND_SIZE:
                fprintf(f, "%" PRIu64, s->size);
                break;
        default:
                assert(h->kind == KIND_REGION);
                fputs(s->region, f);
        }
}

static int expand(const char *text, const PlaceholderValues *v, FILE *f, EgmError *reterr) {
        Placeholder h;
        int r;

        for (const char *p = text; *p;) {
                if (*p == '\\' && placeholder_at(p + 1, &h)) {
                        (void) fwrite(p + 1, 1, h.length, f);
                        p += 1 + h.length;
                        continue;
                }
                if (!placeholder_at(p, &h)) {
                        fputc(*p++, f);
                        continue;
                }
                r = check(p, &h, v, reterr);
                if (r < 0)
                        return r;
                if (v->slices)
                        put(f, &h, v);
                p += h.length;
        }
        return 0;
}

int placeholder_expand(const char *text, const PlaceholderValues *v, char **ret, EgmError *reterr) {
        _cleanup_free_ char *result = NULL;
        size_t size;
        FILE *f;
        int r;

        assert(v->n_slices > 0);
        f = open_memstream(&result, &size);
        if (!f)
                return -ENOMEM;
        r = expand(text, v, f, reterr);
        if (memstream_close(f, &result) < 0 && r >= 0)
                r = -ENOMEM;
        if (r < 0)
                return r;
        if (ret)
                *ret = TAKE_PTR(result);
        return 0;
}

bool placeholder_is_used(const char *text, size_t slice, const char *word) {
        Kind kind = kind_from_word(word, strlen(word));
        Placeholder h;

        assert(kind != KIND_UNKNOWN);
        for (const char *p = text; *p;) {
                bool itself = *p == '\\' && placeholder_at(p + 1, &h);

                if (!itself && !placeholder_at(p, &h)) {
                        p++;
                        continue;
                }
                if (!itself && h.kind == kind && h.slice == slice)
                        return true;
                p += h.length + itself;
        }
        return false;
}
