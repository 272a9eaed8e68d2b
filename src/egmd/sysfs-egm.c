/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <limits.h>

#include "size.h"
#include "sysfs-egm.h"

#define QUOTE_MAX 40U

/* The kernel's files are ASCII whatever the locale: no <ctype.h>. */
static bool is_blank(char c) {
        return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -EINVAL;
}

static void trim(const char **text, size_t *length) {
        while (*length > 0 && is_blank((*text)[*length - 1]))
                (*length)--;
        while (*length > 0 && is_blank(**text)) {
                (*text)++;
                (*length)--;
        }
}

/* The text's beginning, for a message: printable ASCII, cut. */
static void quote(const char *text, size_t length, char ret[static QUOTE_MAX + 4]) {
        size_t n = MIN(length, (size_t) QUOTE_MAX);

        for (size_t i = 0; i < n; i++)
                ret[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
        strcpy(ret + n, length > n ? "..." : "");
}

/* Hexadecimal digits up to end, at least one, at most max. Moves *s past them and one more. */
static int parse_hex_field(const char **s, char end, size_t max, uint32_t *ret) {
        uint32_t v = 0;
        size_t n;

        for (n = 0; (*s)[n] != end || n == 0; n++) {
                int h = hex_digit((*s)[n]);

                if (h < 0 || n >= max)
                        return -EINVAL;
                v = v << 4 | (uint32_t) h;
        }
        *s += n + (end != '\0');
        *ret = v;
        return 0;
}

static int parse_pci_address(const char *s, uint32_t ret[static 4]) {
        uint32_t v[4] = {};
        const char *first = strchr(s, ':');
        int r = 0;

        if (!first)
                return -EINVAL;
        if (strchr(first + 1, ':')) /* else without a domain: it is zero then */
                r = parse_hex_field(&s, ':', 8, &v[0]);
        if (r >= 0)
                r = parse_hex_field(&s, ':', 2, &v[1]);
        if (r >= 0)
                r = parse_hex_field(&s, '.', 2, &v[2]);
        if (r >= 0)
                r = parse_hex_field(&s, '\0', 1, &v[3]);
        if (r < 0)
                return r;
        if (v[2] > 0x1f || v[3] > 7)
                return -EINVAL;
        memcpy(ret, v, sizeof(v));
        return 0;
}

int pci_address_normalize(const char *s, char ret[static PCI_ADDRESS_MAX]) {
        uint32_t v[4];
        int r;

        assert(s);

        r = parse_pci_address(s, v);
        if (r < 0)
                return r;
        (void) snprintf(ret, PCI_ADDRESS_MAX, "%04" PRIx32 ":%02" PRIx32 ":%02" PRIx32 ".%" PRIx32,
                        v[0], v[1], v[2], v[3]);
        return 0;
}

bool pci_address_is_normal(const char *s) {
        char normal[PCI_ADDRESS_MAX];

        return pci_address_normalize(s, normal) >= 0 && streq(s, normal);
}

uint32_t pci_address_domain(const char *s) {
        uint32_t v[4] = {};
        int r;

        assert(s);

        r = parse_pci_address(s, v);
        assert(r >= 0);
        return r < 0 ? 0 : v[0];
}

int sysfs_egm_parse_name(const char *name, int *ret_pxm) {
        uint64_t v;
        int r;

        assert(name);
        assert(ret_pxm);

        if (strncmp(name, "egm", 3) != 0)
                return -EINVAL;
        r = parse_uint64(name + 3, &v);
        if (r < 0 || v > INT_MAX)
                return -EINVAL;
        /* The kernel pads nothing. */
        if (name[3] == '0' && name[4] != '\0')
                return -EINVAL;
        *ret_pxm = (int) v;
        return 0;
}

/* Digits in the base that the prefix says, as strtoull() with base 0 has it. */
static int parse_number(const char *text, size_t length, uint64_t *ret) {
        uint64_t v = 0, base = 10;

        if (length > 1 && text[0] == '0') {
                bool hex = text[1] == 'x' || text[1] == 'X';

                base = hex ? 16 : 8;
                text += hex ? 2 : 1;
                length -= hex ? 2 : 1;
        }
        if (length == 0)
                return -EINVAL;
        for (size_t i = 0; i < length; i++) {
                int h = hex_digit(text[i]);

                if (h < 0 || (uint64_t) h >= base)
                        return -EINVAL;
        }
        for (size_t i = 0; i < length; i++)
                if (__builtin_mul_overflow(v, base, &v) ||
                    __builtin_add_overflow(v, (uint64_t) hex_digit(text[i]), &v))
                        return -ERANGE;
        *ret = v;
        return 0;
}

static int size_problem(int error, const char *text, size_t length, char **reterr_problem) {
        char q[QUOTE_MAX + 4];
        int k;

        quote(text, length, q);
        if (error == -ERANGE)
                k = asprintf(reterr_problem,
                             "egm_size says \"%s\", more than the largest possible %" PRIu64, q,
                             SYSFS_EGM_SIZE_MAX);
        else if (error == -ENODATA && length > 0)
                k = asprintf(reterr_problem, "egm_size is zero");
        else if (error == -ENODATA)
                k = asprintf(reterr_problem, "egm_size is empty");
        else
                k = asprintf(reterr_problem, "egm_size says \"%s\", which is not a number", q);
        if (k < 0) {
                *reterr_problem = NULL;
                return -ENOMEM;
        }
        return error;
}

int sysfs_egm_parse_size(const char *text, size_t length, uint64_t *ret, char **reterr_problem) {
        uint64_t v = 0;
        int r;

        assert(ret);
        assert(reterr_problem);

        if (!text) {
                *reterr_problem = strdup("there is no egm_size attribute");
                return *reterr_problem ? -ENODATA : -ENOMEM;
        }
        trim(&text, &length);
        r = length == 0 ? -ENODATA : parse_number(text, length, &v);
        if (r >= 0 && v == 0)
                r = -ENODATA;
        if (r >= 0 && v > SYSFS_EGM_SIZE_MAX)
                r = -ERANGE;
        if (r < 0)
                return size_problem(r, text, length, reterr_problem);
        *ret = v;
        return 0;
}

char **gpu_addresses_free(char **l) {
        for (char **p = l; p && *p; p++)
                free(*p);
        return mfree(l);
}

static int compare_addresses(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Sorts, and lets only the first of equal ones live. */
static size_t sort_addresses(char **l, size_t n) {
        size_t k = 0;

        if (n > 0)
                qsort(l, n, sizeof(*l), compare_addresses);
        for (size_t i = 0; i < n; i++)
                if (k > 0 && streq(l[k - 1], l[i]))
                        free(l[i]);
                else
                        l[k++] = l[i];
        if (l)
                l[k] = NULL;
        return k;
}

int sysfs_egm_parse_gpus(const char *text, size_t length, char ***ret, size_t *ret_n,
                         char **ret_problem) {
        _cleanup_(gpu_addresses_freep) char **l = NULL;
        _cleanup_free_ char *problem = NULL;
        char first[QUOTE_MAX + 4] = "";
        size_t n = 0, n_lines = 1, n_junk = 0;

        assert(text || length == 0);
        assert(ret);
        assert(ret_n);
        assert(ret_problem);

        for (size_t i = 0; i < length; i++)
                n_lines += text[i] == '\n';
        l = calloc(n_lines + 1, sizeof(*l));
        if (!l)
                return -ENOMEM;

        for (size_t i = 0; i < length;) {
                const char *line = text + i;
                const char *end = memchr(line, '\n', length - i);
                size_t k = end ? (size_t) (end - line) : length - i;
                char word[PCI_ADDRESS_MAX] = "", normal[PCI_ADDRESS_MAX];

                i += k + 1;
                trim(&line, &k);
                if (k == 0)
                        continue;
                /* A NUL inside would hide what comes after it. */
                if (k < sizeof(word) && !memchr(line, '\0', k))
                        memcpy(word, line, k);
                if (pci_address_normalize(word, normal) < 0) {
                        if (n_junk++ == 0)
                                quote(line, k, first);
                        continue;
                }
                l[n] = strdup(normal);
                if (!l[n])
                        return -ENOMEM;
                n++;
        }
        n = sort_addresses(l, n);

        if (n_junk > 0 &&
            asprintf(&problem, "gpu_devices: %zu %s, the first \"%s\"", n_junk,
                     n_junk == 1 ? "line is no PCI address" : "lines are no PCI addresses",
                     first) < 0) {
                problem = NULL;
                return -ENOMEM;
        }
        *ret = TAKE_PTR(l);
        *ret_n = n;
        *ret_problem = TAKE_PTR(problem);
        return 0;
}

int sysfs_egm_parse_node(const char *text, size_t length, int *ret) {
        char word[16];
        int v, r;

        assert(text || length == 0);
        assert(ret);

        if (length > 0)
                trim(&text, &length);
        if (length == 0 || length >= sizeof(word))
                return -EINVAL;
        memcpy(word, text, length);
        word[length] = '\0';
        if (strlen(word) != length)
                return -EINVAL;
        r = parse_int(word, &v);
        if (r < 0)
                return r;
        if (v < -1 || v > SYSFS_EGM_NODE_MAX)
                return -ERANGE;
        *ret = v;
        return 0;
}

int sysfs_egm_socket_of_domain(uint32_t domain) {
        return (int) (domain >> 4 & 0xF);
}

int sysfs_egm_socket_of_pxm(int pxm) {
        return pxm >= 4 ? pxm - 4 : -1;
}
