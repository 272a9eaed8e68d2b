/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "../unit/test.h"

#include "placeholder.h"

static const PlaceholderSlice slices[] = {
                {"egm4", 7, 0, 64 * GIB, NULL, 9},
                {"egm5", 18, UINT64_C(0xfffffffffff00000), MIB, NULL, 10},
};
static const PlaceholderValues values = {"42", slices, ELEMENTSOF(slices), true};
static const PlaceholderValues nothing = {NULL, NULL, ELEMENTSOF(slices), true};

static void test_expand(void **state) {
        static const struct {
                const char *text, *result; /* NULL: refused */
        } table[] = {
                        {"", ""},
                        {"plain", "plain"},
                        {"{0.fd}", "7"},
                        {"{1.fd}", "18"},
                        {"{0.path}", "/proc/self/fd/7"},
                        {"{1.path}", "/proc/self/fd/18"},
                        {"{0.offset}", "0"},
                        {"{1.offset}", "18446744073708503040"},
                        {"{0.size}", "68719476736"},
                        {"{1.region}", "egm5"},
                        {"{0.dmabuf},{1.dmabuf}", "9,10"},
                        {"{lease}", "42"},
                        {"{00.fd}", "7"},
                        {"{0.fd}{1.fd}{lease}", "71842"},
                        {"mem-path={0.path},size={0.size},offset={0.offset}",
                         "mem-path=/proc/self/fd/7,size=68719476736,offset=0"},
                        {"{{0.fd}}", "{7}"},
                        {"${0.fd}", "$7"},

                        /* Just braces. */
                        {"{}", "{}"},
                        {"{", "{"},
                        {"}", "}"},
                        {"{0", "{0"},
                        {"{0.", "{0."},
                        {"{0.fd", "{0.fd"},
                        {"{0}", "{0}"},
                        {"a{3}", "a{3}"},
                        {"a{1,2}", "a{1,2}"},
                        {"{0.5}", "{0.5}"},
                        {"{.fd}", "{.fd}"},
                        {"{fd}", "{fd}"},
                        {"{-1.fd}", "{-1.fd}"},
                        {"{0 .fd}", "{0 .fd}"},
                        {"{ 0.fd }", "{ 0.fd }"},
                        {"{0.fd }", "{0.fd }"},
                        {"{leases}", "{leases}"},
                        {"{Lease}", "{Lease}"},
                        {"${lease_id}", "${lease_id}"},
                        {"{\"driver\":\"raw\",\"x\":{}}", "{\"driver\":\"raw\",\"x\":{}}"},
                        {"{print $1}", "{print $1}"},
                        {"{a,b}", "{a,b}"},
                        {"{0.f{0.fd}", "{0.f7"},
                        {"\xc3\xa9{0.fd}\xff", "\xc3\xa9"
                                               "7\xff"},

                        /* Itself. */
                        {"\\{0.fd}", "{0.fd}"},
                        {"\\{lease}", "{lease}"},
                        {"\\{0.nonsense}", "{0.nonsense}"},
                        {"\\{9.fd}", "{9.fd}"},
                        {"\\\\{0.fd}", "\\{0.fd}"},
                        {"\\{x}", "\\{x}"},
                        {"\\", "\\"},

                        /* Mistakes. */
                        {"{2.fd}", NULL},
                        {"{99999999999999999999999.fd}", NULL},
                        {"{18446744073709551615.fd}", NULL},
                        {"{0.fds}", NULL},
                        {"{0.FD}", NULL},
                        {"{0.dmabufs}", NULL},
                        {"{2.dmabuf}", NULL},
                        {"{0.pat}", NULL},
                        {"{0.path_}", NULL},
                        {"x{0.fd}{0.offse}", NULL},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *result = NULL;
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                int r = placeholder_expand(table[i].text, &values, &result, &e);

                if (table[i].result) {
                        assert_int_equal(r, 0);
                        assert_string_equal(result, table[i].result);
                } else {
                        if (r != -EINVAL)
                                fail_msg("%s: not refused", table[i].text);
                        assert_null(result);
                        assert_int_equal(e.kind, EGM_ERROR_INVALID_ARGS);
                }
                /* To check is to come to the same end, without values. */
                assert_int_equal(placeholder_expand(table[i].text, &nothing, NULL, NULL), r);
        }
}

static void test_is_used(void **state) {
        static const struct {
                const char *text;
                size_t slice;
                const char *word;
                bool used;
        } table[] = {
                        {"{0.path}", 0, "path", true},
                        {"a={1.offset},b", 1, "offset", true},
                        {"{0.fd}{0.path}", 0, "path", true},
                        {"{{0.path}", 0, "path", true},
                        {"{0.path}", 1, "path", false},
                        {"{0.path}", 0, "offset", false},
                        {"\\{0.path}", 0, "path", false},
                        {"\\{0.path}{0.path}", 0, "path", true},
                        {"{0.pathx}", 0, "path", false},
                        {"0.path", 0, "path", false},
                        {"{lease}", 0, "path", false},
                        {"", 0, "path", false},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (placeholder_is_used(table[i].text, table[i].slice, table[i].word) !=
                    table[i].used)
                        fail_msg("'%s'", table[i].text);
}

/* Dma-bufs are there only if they were asked for. */
static void test_no_dmabufs(void **state) {
        const PlaceholderValues none = {"42", slices, ELEMENTSOF(slices), false};
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_free_ char *result = NULL;

        assert_int_equal(placeholder_expand("a{1.dmabuf}b", &none, &result, &e), -EINVAL);
        assert_non_null(strstr(e.message, " {1.dmabuf} "));
        assert_non_null(strstr(e.message, "--dmabuf"));
        assert_int_equal(placeholder_expand("{1.fd}\\{1.dmabuf}", &none, &result, NULL), 0);
        assert_string_equal(result, "18{1.dmabuf}");
}

/* The message names the placeholder. */
static void test_message(void **state) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;

        assert_int_equal(placeholder_expand("a{0.nope}b", &values, NULL, &e), -EINVAL);
        assert_non_null(strstr(e.message, " {0.nope} "));
        assert_non_null(strstr(e.message, "\\{0.nope}"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_expand),
                        cmocka_unit_test(test_is_used),
                        cmocka_unit_test(test_message),
                        cmocka_unit_test(test_no_dmabufs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
