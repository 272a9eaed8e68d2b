/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include "test.h"

#include "egm-error.h"
#include "fd-util.h"
#include "log.h"
#include "text.h"

static void test_printable(void **state) {
        static const struct {
                const char *text, *result;
        } table[] = {
                        {"", ""},
                        {"a b~", "a b~"},
                        {"\t\r\n\x7f\x1b", "?????"},
                        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                         "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
                        {"\xc2\x9b"
                         "31m",
                         "??31m"}, /* C1: a terminal may take it for ESC [ */
                        {"\xc2\xa0", "\xc2\xa0"},
                        {"\x80", "?"},
                        {"\xc3", "?"},
                        {"\xc3(", "?("},
                        {"\xe2\x82", "??"},
                        {"\xc0\xaf", "??"},           /* overlong */
                        {"\xe0\x80\xaf", "???"},      /* overlong */
                        {"\xed\xa0\x80", "???"},      /* surrogate */
                        {"\xf4\x90\x80\x80", "????"}, /* beyond U+10FFFF */
                        {"\xf5\x80\x80\x80", "????"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *s = strdup(table[i].text);

                text_make_printable(s);
                assert_string_equal(s, table[i].result);
                assert_int_equal(text_is_printable(table[i].text), streq(s, table[i].text));
                assert_true(text_is_printable(s));
        }
}

/* A name that would end the line, forge another, and make a terminal forget what it showed. */
#define HOSTILE \
        "x\n<0>egmd: all is well\r\x1b[2J\xc2\x9b" \
        "1A\xff"
#define HARMLESS "x?<0>egmd: all is well??[2J??1A?"

static void test_error(void **state) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_egm_error_ EgmError cut = EGM_ERROR_NULL;

        (void) egm_error_set(&e, EGM_ERROR_INVALID_ARGS, "Unknown option \"%s\"", HOSTILE);
        assert_string_equal(e.message, "Unknown option \"" HARMLESS "\"");
        (void) egm_error_set(&cut, EGM_ERROR_INVALID_ARGS, "%.3s", "ab\xc3\xa9");
        assert_string_equal(cut.message, "ab?");
}

/* What is logged with standard error in a pipe. */
static void read_log(const char *name, char *ret, size_t size) {
        int fds[2], saved;
        ssize_t n;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(saved >= 0);
        assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
        log_notice("Process 1 (%s)", name);
        assert_true(dup2(saved, STDERR_FILENO) >= 0);
        n = read(fds[0], ret, size - 1);
        assert_true(n > 0);
        ret[n] = '\0';
        safe_close(saved);
        safe_close(fds[0]);
        safe_close(fds[1]);
}

static void test_log(void **state) {
        char line[4096], name[3000];

        read_log(HOSTILE, line, sizeof(line));
        assert_string_equal(line, "Process 1 (" HARMLESS ")\n");

        /* Too long: still one line, and UTF-8 to its end. */
        memset(name, 'x', 11);
        for (size_t i = 11; i + 2 < sizeof(name); i += 2)
                memcpy(name + i, "\xc3\xa9", 2);
        name[sizeof(name) - 2] = '\0';
        for (size_t i = 0; i < 2; i++) {
                read_log(name + i, line, sizeof(line));
                assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
                *strchr(line, '\n') = '\0';
                assert_true(strlen(line) > 2000);
                assert_true(text_is_printable(line));
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_printable),
                        cmocka_unit_test(test_error),
                        cmocka_unit_test(test_log),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
