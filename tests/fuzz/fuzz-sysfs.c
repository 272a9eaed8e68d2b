/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <ctype.h>
#include <inttypes.h>

#include "fuzz-input.h"
#include "sysfs-egm.h"

/* The driver's files and names, and PCI addresses as people write them. The first byte says which. */

static void check_pci(const char *s) {
        char normal[PCI_ADDRESS_MAX], again[PCI_ADDRESS_MAX];
        _cleanup_free_ char *upper = strdup(s);
        uint32_t domain;

        FUZZ_CHECK(upper);
        for (char *p = upper; *p; p++)
                *p = (char) toupper((unsigned char) *p);
        if (pci_address_normalize(s, normal) < 0) {
                FUZZ_CHECK(!pci_address_is_normal(s));
                return;
        }
        FUZZ_CHECK(memchr(normal, '\0', sizeof(normal)));
        FUZZ_CHECK(pci_address_is_normal(normal));
        FUZZ_CHECK(pci_address_is_normal(s) == streq(s, normal));
        FUZZ_CHECK(pci_address_normalize(upper, again) == 0 && streq(again, normal));
        FUZZ_CHECK(sscanf(normal, "%" SCNx32 ":", &domain) == 1);
        FUZZ_CHECK(pci_address_domain(s) == domain);
        FUZZ_CHECK(sysfs_egm_socket_of_domain(domain) >= 0);
}

static void check_name(const char *s) {
        char again[32];
        int pxm = -42;

        if (sysfs_egm_parse_name(s, &pxm) < 0) {
                FUZZ_CHECK(pxm == -42);
                return;
        }
        FUZZ_CHECK(pxm >= 0);
        (void) snprintf(again, sizeof(again), "egm%d", pxm);
        FUZZ_CHECK(streq(again, s));
}

static void check_size(const char *text, size_t length) {
        _cleanup_free_ char *problem = NULL, *none = NULL;
        char again[32];
        uint64_t v = 0, w = 0;
        int r;

        r = sysfs_egm_parse_size(text, length, &v, &problem);
        fuzz_check_words(r < 0, problem);
        FUZZ_CHECK(r == 0 || r == -ENODATA || r == -EINVAL || r == -ERANGE);
        if (r < 0)
                return;
        FUZZ_CHECK(v > 0 && v <= SYSFS_EGM_SIZE_MAX);
        (void) snprintf(again, sizeof(again), "%#" PRIx64 "\n", v);
        FUZZ_CHECK(sysfs_egm_parse_size(again, strlen(again), &w, &none) == 0 && w == v);
}

static char *join(char **l) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        FUZZ_CHECK(f);
        for (; *l; l++)
                fprintf(f, "%s\n", *l);
        FUZZ_CHECK(fclose(f) == 0);
        return text;
}

static void check_gpus(const char *text, size_t length) {
        _cleanup_(gpu_addresses_freep) char **l = NULL, **same = NULL;
        _cleanup_free_ char *problem = NULL, *none = NULL, *joined = NULL;
        size_t n, n_same;

        FUZZ_CHECK(sysfs_egm_parse_gpus(text, length, &l, &n, &problem) == 0);
        fuzz_check_words(problem, problem);
        for (size_t i = 0; i < n; i++) {
                FUZZ_CHECK(pci_address_is_normal(l[i]));
                FUZZ_CHECK(i == 0 || strcmp(l[i - 1], l[i]) < 0);
        }
        FUZZ_CHECK(!l[n]);
        joined = join(l);
        FUZZ_CHECK(sysfs_egm_parse_gpus(joined, strlen(joined), &same, &n_same, &none) == 0);
        FUZZ_CHECK(!none && n_same == n);
        for (size_t i = 0; i < n; i++)
                FUZZ_CHECK(streq(l[i], same[i]));
}

static void check_node(const char *text, size_t length) {
        char again[16];
        int node, same;

        if (sysfs_egm_parse_node(text, length, &node) < 0)
                return;
        FUZZ_CHECK(node >= -1 && node <= SYSFS_EGM_NODE_MAX);
        (void) snprintf(again, sizeof(again), "%d\n", node);
        FUZZ_CHECK(sysfs_egm_parse_node(again, strlen(again), &same) == 0 && same == node);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *s = NULL;

        if (size == 0)
                return 0;
        s = fuzz_string(data + 1, size - 1);
        switch (data[0] % 5) {
        case 0: /* '2' */
                check_pci(s);
                break;
        case 1:
                check_name(s);
                break;
        case 2:
                check_size((const char *) data + 1, size - 1);
                break;
        case 3:
                check_gpus((const char *) data + 1, size - 1);
                break;
        default:
                check_node((const char *) data + 1, size - 1);
        }
        return 0;
}
