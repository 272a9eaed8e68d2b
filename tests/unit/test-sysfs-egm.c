/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>

#include "test.h"

#include "sysfs-egm.h"

static void test_parse_size(void **state) {
        static const struct {
                const char *text;
                int r;
                uint64_t value;
                const char *problem; /* in it */
        } table[] = {
                        {"0x6fc0000000\n", 0, UINT64_C(479962595328), NULL},
                        {"0x6FC0000000\n", 0, UINT64_C(479962595328), NULL},
                        {"0X10000", 0, 65536, NULL},
                        {"479962595328\n", 0, UINT64_C(479962595328), NULL},
                        {"479962595328", 0, UINT64_C(479962595328), NULL},
                        {" 65536 \r\n\n", 0, 65536, NULL},
                        {"0200000\n", 0, 65536, NULL},
                        {"1\n", 0, 1, NULL},
                        {"0x10000000000000\n", 0, SYSFS_EGM_SIZE_MAX, NULL},
                        {"0x10000000000001\n", -ERANGE, 0, "4503599627370496"},
                        {"0x0\n", -ENODATA, 0, "zero"},
                        {"0\n", -ENODATA, 0, "zero"},
                        {"000\n", -ENODATA, 0, "zero"},
                        {"", -ENODATA, 0, "empty"},
                        {"\n", -ENODATA, 0, "empty"},
                        {" \r\n\t ", -ENODATA, 0, "empty"},
                        {"0xffffffffffffffff\n", -ERANGE, 0, "0xffffffffffffffff"},
                        {"0x10000000000000000\n", -ERANGE, 0, "0x10000000000000000"},
                        {"18446744073709551616\n", -ERANGE, 0, "18446744073709551616"},
                        {"-1\n", -EINVAL, 0, "\"-1\""},
                        {"+1\n", -EINVAL, 0, "\"+1\""},
                        {"0x\n", -EINVAL, 0, "\"0x\""},
                        {"x10\n", -EINVAL, 0, "\"x10\""},
                        {"0x10 junk\n", -EINVAL, 0, "\"0x10 junk\""},
                        {"0x10junk\n", -EINVAL, 0, "\"0x10junk\""},
                        {"0x10\n0x10\n", -EINVAL, 0, "\"0x10?0x10\""},
                        {"08\n", -EINVAL, 0, "\"08\""},
                        {"10a\n", -EINVAL, 0, "\"10a\""},
                        {"447G\n", -EINVAL, 0, "\"447G\""},
                        {"1.5\n", -EINVAL, 0, "not a number"},
                        {"\x80\xff\x1b[2J", -EINVAL, 0, "\"???[2J\""},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *problem = NULL;
                uint64_t v = 4711;

                assert_int_equal(sysfs_egm_parse_size(table[i].text, strlen(table[i].text), &v,
                                                      &problem),
                                 table[i].r);
                assert_int_equal(v, table[i].r < 0 ? 4711 : table[i].value);
                if (table[i].problem) {
                        assert_non_null(problem);
                        assert_non_null(strstr(problem, table[i].problem));
                } else
                        assert_null(problem);
        }
}

static void test_parse_size_odd(void **state) {
        _cleanup_free_ char *problem = NULL;
        char text[4096];
        uint64_t v = 4711;

        assert_int_equal(sysfs_egm_parse_size(NULL, 0, &v, &problem), -ENODATA);
        assert_string_equal(problem, "there is no egm_size attribute");
        problem = mfree(problem);

        /* Nothing hides behind a NUL, and the length is believed. */
        assert_int_equal(sysfs_egm_parse_size("16\0"
                                              "16",
                                              5, &v, &problem),
                         -EINVAL);
        problem = mfree(problem);
        assert_int_equal(sysfs_egm_parse_size("0x\0"
                                              "10",
                                              5, &v, &problem),
                         -EINVAL);
        problem = mfree(problem);
        assert_int_equal(v, 4711);
        assert_int_equal(sysfs_egm_parse_size("4096", 2, &v, &problem), 0);
        assert_int_equal(v, 40);

        /* A page of digits: too much; of zeros and a one: fine, as for strtoull(). Messages stay
         * short. */
        memset(text, '9', sizeof(text));
        assert_int_equal(sysfs_egm_parse_size(text, sizeof(text), &v, &problem), -ERANGE);
        assert_true(strlen(problem) < 160);
        problem = mfree(problem);
        memset(text, '0', sizeof(text));
        text[sizeof(text) - 1] = '1';
        assert_int_equal(sysfs_egm_parse_size(text, sizeof(text), &v, &problem), 0);
        assert_int_equal(v, 1);
        memset(text, 'z', sizeof(text));
        assert_int_equal(sysfs_egm_parse_size(text, sizeof(text), &v, &problem), -EINVAL);
        assert_true(strlen(problem) < 160);
}

static void check_gpus(const char *text, size_t length, const char *const *want,
                       const char *want_problem) {
        _cleanup_(gpu_addresses_freep) char **l = NULL;
        _cleanup_free_ char *problem = NULL;
        size_t n = 4711, k;

        assert_int_equal(sysfs_egm_parse_gpus(text, length, &l, &n, &problem), 0);
        for (k = 0; want && want[k]; k++) {
                assert_true(k < n);
                assert_string_equal(l[k], want[k]);
        }
        assert_int_equal(n, k);
        assert_null(l[n]);
        if (want_problem) {
                assert_non_null(problem);
                assert_non_null(strstr(problem, want_problem));
        } else
                assert_null(problem);
}

static void test_parse_gpus(void **state) {
        static const struct {
                const char *text;
                const char *gpus[5];
                const char *problem;
        } table[] = {
                        {"0008:01:00.0\n0009:01:00.0\n", {"0008:01:00.0", "0009:01:00.0"}, NULL},
                        {"0009:01:00.0\n0008:01:00.0\n", {"0008:01:00.0", "0009:01:00.0"}, NULL},
                        {"0009:01:00.0\n0008:01:00.0", {"0008:01:00.0", "0009:01:00.0"}, NULL},
                        {"0009:01:00.0\r\n0008:01:00.0\r\n",
                         {"0008:01:00.0", "0009:01:00.0"},
                         NULL},
                        {"\n\n  \n0008:01:00.0\n\n\t0009:01:00.0 \n\n",
                         {"0008:01:00.0", "0009:01:00.0"},
                         NULL},
                        {"0008:01:00.0\n0008:01:00.0\n0008:01:00.0\n", {"0008:01:00.0"}, NULL},
                        {"0009:01:00.0\n0008:01:00.0\n0009:01:00.0\n",
                         {"0008:01:00.0", "0009:01:00.0"},
                         NULL},
                        {"000A:0B:1F.7\n000a:0b:1f.7\n", {"000a:0b:1f.7"}, NULL},
                        {"00000008:01:00.0\n", {"0008:01:00.0"}, NULL},
                        {"10000:01:00.0\n", {"10000:01:00.0"}, NULL},
                        {"junk\n0008:01:00.0\n",
                         {"0008:01:00.0"},
                         "1 line is no PCI address, the first \"junk\""},
                        {"0008:01:00.0\nfirst\nsecond\n",
                         {"0008:01:00.0"},
                         "2 lines are no PCI addresses, the first \"first\""},
                        {"0008:01:00.0 0009:01:00.0\n", {}, "0008:01:00.0 0009:01:00.0"},
                        {"0008:01:00.8\n0008:01:20.0\n0008:100:00.0\n", {}, "3 lines"},
                        {"0008:01:00.0x\n", {}, "0008:01:00.0x"},
                        {"\x1b[31m\n", {}, "\"?[31m\""},
                        {"", {}, NULL},
                        {"\n", {}, NULL},
                        {"\r\n", {}, NULL},
        };
        char text[4096];

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                check_gpus(table[i].text, strlen(table[i].text), table[i].gpus, table[i].problem);

        check_gpus(NULL, 0, NULL, NULL);
        check_gpus("0008:01:00.0\0junk\n", 18, NULL, "0008:01:00.0?junk");
        check_gpus("0008:01:00.0\n0009:01:00.0\n", 13, (const char *const[]){"0008:01:00.0", NULL},
                   NULL);

        /* A page of whatever: one line, only lines, every byte there is. */
        memset(text, 'a', sizeof(text));
        check_gpus(text, sizeof(text), NULL, "1 line");
        memset(text, '\n', sizeof(text));
        check_gpus(text, sizeof(text), NULL, NULL);
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = (char) (i * 31);
        check_gpus(text, sizeof(text), NULL, "no PCI address");
        memcpy(text + 2048, "\n0008:01:00.0\n", 14);
        check_gpus(text, sizeof(text), (const char *const[]){"0008:01:00.0", NULL},
                   "no PCI address");
}

/* As many as fit a page, backwards. */
static void test_parse_gpus_many(void **state) {
        _cleanup_(gpu_addresses_freep) char **l = NULL;
        _cleanup_free_ char *problem = NULL;
        char text[315 * 13 + 1];
        size_t n;

        for (size_t i = 0; i < 315; i++)
                (void) snprintf(text + 13 * i, 14, "%04zx:01:00.0\n", 314 - i);
        assert_int_equal(sysfs_egm_parse_gpus(text, strlen(text), &l, &n, &problem), 0);
        assert_int_equal(n, 315);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(pci_address_domain(l[i]), i);
        assert_null(problem);
}

static void test_pci_address(void **state) {
        static const struct {
                const char *text;
                const char *normal; /* NULL: none */
        } table[] = {
                        {"0008:01:00.0", "0008:01:00.0"},
                        {"0008:0A:1F.7", "0008:0a:1f.7"},
                        {"8:1:0.0", "0008:01:00.0"},
                        {"00000018:01:00.0", "0018:01:00.0"},
                        {"ffffffff:ff:1f.7", "ffffffff:ff:1f.7"},
                        {"01:00.0", "0000:01:00.0"},
                        {"1:0.0", "0000:01:00.0"},
                        {"", NULL},
                        {":", NULL},
                        {"::.", NULL},
                        {"0008:01:00", NULL},
                        {"0008:01:00.", NULL},
                        {"0008:01:.0", NULL},
                        {"0008::00.0", NULL},
                        {":01:00.0", NULL},
                        {"0008:01:00.8", NULL},
                        {"0008:01:00.00", NULL},
                        {"0008:01:20.0", NULL},
                        {"0008:001:00.0", NULL},
                        {"000000008:01:00.0", NULL},
                        {"0:0008:01:00.0", NULL},
                        {"0008:01:00.0 ", NULL},
                        {" 0008:01:00.0", NULL},
                        {"0008:01:00.0\n", NULL},
                        {"0x8:01:00.0", NULL},
                        {"-008:01:00.0", NULL},
                        {"0008.01:00:0", NULL},
                        {"gggg:01:00.0", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                char a[PCI_ADDRESS_MAX] = "untouched";
                int r = pci_address_normalize(table[i].text, a);

                assert_int_equal(r, table[i].normal ? 0 : -EINVAL);
                assert_string_equal(a, table[i].normal ?: "untouched");
                assert_int_equal(pci_address_is_normal(table[i].text),
                                 table[i].normal && streq(table[i].normal, table[i].text));
        }
        assert_int_equal(pci_address_domain("0018:01:00.0"), 0x18);
        assert_int_equal(pci_address_domain("01:00.0"), 0);
        assert_int_equal(pci_address_domain("ffffffff:01:00.0"), UINT32_MAX);
}

static void test_parse_name(void **state) {
        static const struct {
                const char *name;
                int pxm; /* -1: no name */
        } table[] = {
                        {"egm0", 0},           {"egm4", 4},
                        {"egm10", 10},         {"egm300", 300},
                        {"egm", -1},           {"egmx", -1},
                        {"egm4x", -1},         {"egm-4", -1},
                        {"egm+4", -1},         {"egm04", -1},
                        {"egm00", -1},         {"egm 4", -1},
                        {"egm0x4", -1},        {"EGM4", -1},
                        {"xegm4", -1},         {"", -1},
                        {"egm_size", -1},      {"egm2147483647", INT_MAX},
                        {"egm2147483648", -1}, {"egm18446744073709551616", -1},
                        {"egm4/..", -1},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                int pxm = 4711;

                assert_int_equal(sysfs_egm_parse_name(table[i].name, &pxm),
                                 table[i].pxm < 0 ? -EINVAL : 0);
                assert_int_equal(pxm, table[i].pxm < 0 ? 4711 : table[i].pxm);
        }
}

static void test_parse_node(void **state) {
        static const struct {
                const char *text;
                int r, node;
        } table[] = {
                        {"0\n", 0, 0},         {"1", 0, 1},
                        {" 17\r\n", 0, 17},    {"-1\n", 0, -1},
                        {"1023\n", 0, 1023},   {"1024\n", -ERANGE, 0},
                        {"-2\n", -ERANGE, 0},  {"4294967296\n", -ERANGE, 0},
                        {"", -EINVAL, 0},      {"\n", -EINVAL, 0},
                        {"one\n", -EINVAL, 0}, {"0x1\n", -EINVAL, 0},
                        {"1 2\n", -EINVAL, 0}, {"11111111111111111111111111\n", -EINVAL, 0},
        };
        int node = 4711;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                node = 4711;
                assert_int_equal(sysfs_egm_parse_node(table[i].text, strlen(table[i].text), &node),
                                 table[i].r);
                assert_int_equal(node, table[i].r < 0 ? 4711 : table[i].node);
        }
        assert_int_equal(sysfs_egm_parse_node("1\0002", 3, &node), -EINVAL);
        assert_int_equal(sysfs_egm_parse_node(NULL, 0, &node), -EINVAL);
}

static void test_socket(void **state) {
        assert_int_equal(sysfs_egm_socket_of_domain(0), 0);
        assert_int_equal(sysfs_egm_socket_of_domain(0x0008), 0);
        assert_int_equal(sysfs_egm_socket_of_domain(0x0009), 0);
        assert_int_equal(sysfs_egm_socket_of_domain(0x0018), 1);
        assert_int_equal(sysfs_egm_socket_of_domain(0x0019), 1);
        assert_int_equal(sysfs_egm_socket_of_domain(0x0039), 3);
        assert_int_equal(sysfs_egm_socket_of_domain(0x0108), 0);
        assert_int_equal(sysfs_egm_socket_of_domain(UINT32_MAX), 15);

        assert_int_equal(sysfs_egm_socket_of_pxm(4), 0);
        assert_int_equal(sysfs_egm_socket_of_pxm(7), 3);
        assert_int_equal(sysfs_egm_socket_of_pxm(3), -1);
        assert_int_equal(sysfs_egm_socket_of_pxm(0), -1);
        assert_int_equal(sysfs_egm_socket_of_pxm(-1), -1);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_parse_size),  cmocka_unit_test(test_parse_size_odd),
                        cmocka_unit_test(test_parse_gpus),  cmocka_unit_test(test_parse_gpus_many),
                        cmocka_unit_test(test_pci_address), cmocka_unit_test(test_parse_name),
                        cmocka_unit_test(test_parse_node),  cmocka_unit_test(test_socket),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
