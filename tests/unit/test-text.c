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
                        {"a\xe2\x80\xae"
                         "b",
                         "a???b"},                    /* U+202E: what follows is shown backwards */
                        {"\xf3\xa0\x81\x81", "????"}, /* a tag, U+E0041 */
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *s = strdup(table[i].text);

                text_make_printable(s);
                assert_string_equal(s, table[i].result);
                assert_int_equal(text_is_printable(table[i].text), streq(s, table[i].text));
                assert_true(text_is_printable(s));
        }
}

static void put_character(uint32_t c, char *ret) {
        if (c < 0x80)
                (void) sprintf(ret, "%c", (char) c);
        else if (c < 0x800)
                (void) sprintf(ret, "%c%c", (char) (0xc0 | c >> 6), (char) (0x80 | (c & 0x3f)));
        else if (c < 0x10000)
                (void) sprintf(ret, "%c%c%c", (char) (0xe0 | c >> 12),
                               (char) (0x80 | (c >> 6 & 0x3f)), (char) (0x80 | (c & 0x3f)));
        else
                (void) sprintf(ret, "%c%c%c%c", (char) (0xf0 | c >> 18),
                               (char) (0x80 | (c >> 12 & 0x3f)), (char) (0x80 | (c >> 6 & 0x3f)),
                               (char) (0x80 | (c & 0x3f)));
}

/* What does not show could make two names look like one, or a line like another. */
static void test_invisible(void **state) {
        static const uint32_t refused[] = {
                        0xad,    0x61c,   0x180e,  0x200b,   0x200c,   0x200d,  0x200e,
                        0x200f,  0x2028,  0x2029,  0x202a,   0x202b,   0x202c,  0x202d,
                        0x202e,  0x2060,  0x2061,  0x2064,   0x2065,   0x2066,  0x2067,
                        0x2068,  0x2069,  0x206f,  0xfdd0,   0xfdef,   0xfeff,  0xfff9,
                        0xfffb,  0xfffe,  0xffff,  0x1fffe,  0x1d173,  0xe0000, 0xe0001,
                        0xe0020, 0xe007f, 0xe0fff, 0x10fffe, 0x10ffff, 0x1bca0,
        };
        static const uint32_t fine[] = {
                        0xac,   0xae,    0x61b,   0x61d,   0x180d,  0x200a,   0x2010,
                        0x2027, 0x202f,  0x205f,  0x2070,  0xfdcf,  0xfdf0,   0xfefe,
                        0xff00, 0xfffc,  0xfffd,  0x1f600, 0x5d0,   0x627,    0x4e00,
                        0xfe0f, 0x1d172, 0x1d17b, 0xdfffd, 0xe1000, 0x10fffd,
        };
        char s[8] = {};

        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                put_character(refused[i], s);
                assert_int_equal(text_character(s), 0);
                assert_int_equal(text_find_unprintable(s), refused[i]);
                assert_true(text_is_line(s));
        }
        for (size_t i = 0; i < ELEMENTSOF(fine); i++) {
                put_character(fine[i], s);
                assert_int_equal(text_character(s), strlen(s));
                assert_int_equal(text_find_unprintable(s), 0);
        }
        assert_int_equal(text_find_unprintable("ab\n"), '\n');
        assert_int_equal(text_find_unprintable("ab\xff"), 0);
        assert_false(text_is_line("a\nb"));
        assert_false(text_is_line("\xc2\x9b"));
        assert_false(text_is_line("\xff"));
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
                        cmocka_unit_test(test_invisible),
                        cmocka_unit_test(test_error),
                        cmocka_unit_test(test_log),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
