/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "state-dir.h"
#include "state-records.h"
#include "state-table.h"

/* Through the state directory, as the daemon uses it; what is on disk is looked at, and made, slot by slot. */

#define TABLE PATH(TABLE_FILE)

static void get_slot(uint32_t slot, char ret[static TABLE_SLOT + 1]) {
        int fd = open(TABLE, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        assert_true(fd >= 0);
        n = pread(fd, ret, TABLE_SLOT, (off_t) slot * TABLE_SLOT);
        assert_true(n >= 0);
        ret[n] = '\0';
        close(fd);
}

static void put_slot(uint32_t slot, const char *text, size_t size) {
        int fd = open(TABLE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, text, size, (off_t) slot * TABLE_SLOT), size);
        close(fd);
}

static void assert_slot(uint32_t slot, const char *what) {
        char text[TABLE_SLOT + 1];

        get_slot(slot, text);
        if (what ? !strstr(text, what) : *text != '\0')
                fail_msg("slot %u: \"%s\", not \"%s\"", slot, text, what ?: "");
}

static off_t table_size(void) {
        struct stat st;

        assert_int_equal(stat(TABLE, &st), 0);
        return st.st_size;
}

/* As long as wanted: slices are what there can be many of. */
static int save_long(State *s, uint64_t id, size_t n_slices, SlicePhase phase) {
        SliceRecord slices[STATE_SLICES_MAX];
        LeaseRecord r = {.id = id, .slices = slices, .n_slices = n_slices};

        for (size_t i = 0; i < n_slices; i++)
                slices[i] = (SliceRecord){(char *) "egm4", i * MIB, MIB, phase};
        return state_save_lease(s, &r);
}

/* "id:label id:label ", or what it has of slices where there is no label. */
static char *load(State *s, size_t n_damaged) {
        char *text = calloc(1, 64 * KIB);
        StateContent c;

        assert_int_equal(state_load(s, &c), 0);
        assert_int_equal(c.n_damaged, n_damaged);
        for (size_t i = 0; i < c.n_leases; i++)
                (void) snprintf(text + strlen(text), 64, "%" PRIu64 ":%s%zu ", c.leases[i].id,
                                c.leases[i].label ?: "", c.leases[i].n_slices);
        state_content_done(&c);
        return text;
}

static void assert_load(State *s, size_t n_damaged, const char *expected) {
        char *text = load(s, n_damaged);

        assert_string_equal(text, expected);
        free(text);
}

static State *reopen(State *s) {
        state_free(s);
        return state_dir_open();
}

static void test_in_place(void **state) {
        State *s = state_dir_open();

        assert_int_equal(state_dir_save_lease(s, 5, "five"), 0);
        assert_int_equal(state_dir_save_lease(s, UINT64_MAX, "last"), 0);
        assert_int_equal(state_dir_save_lease(s, 6, "six"), 0);
        assert_int_equal(state_dir_save_lease(s, 5, "a longer label"), 0);
        assert_int_equal(state_dir_save_lease(s, 6, "6"), 0);
        assert_int_equal(table_size(), 4 * TABLE_SLOT);
        assert_slot(1, "\"label\":\"a longer label\"");
        assert_slot(2, "\"id\":18446744073709551615,");
        assert_slot(3, "\"label\":\"6\"");
        assert_load(s, 0, "5:a longer label1 6:61 18446744073709551615:last1 ");
        state_free(s);
}

/* What ended is not found again, and its slot is the next one's. */
static void test_reuse(void **state) {
        State *s = state_dir_open();

        for (uint64_t i = 1; i <= 200; i++)
                assert_int_equal(state_dir_save_lease(s, i, "x"), 0);
        for (uint64_t i = 1; i <= 200; i++)
                if (i != 77)
                        assert_int_equal(state_forget_lease(s, i), 0);
        assert_load(s, 0, "77:x1 ");
        for (uint64_t i = 201; i <= 399; i++)
                assert_int_equal(state_dir_save_lease(s, i, "y"), 0);
        assert_int_equal(table_size(), 201 * TABLE_SLOT);
        assert_slot(77, "\"id\":77,");
        /* The same behind a restart, whose table knows of free slots by itself. */
        for (uint64_t i = 201; i <= 399; i++)
                assert_int_equal(state_forget_lease(s, i), 0);
        s = reopen(s);
        assert_load(s, 0, "77:x1 ");
        for (uint64_t i = 400; i < 599; i++)
                assert_int_equal(state_dir_save_lease(s, i, "z"), 0);
        assert_int_equal(table_size(), 201 * TABLE_SLOT);
        assert_int_equal(state_dir_save_lease(s, 77, "still here"), 0);
        assert_slot(77, "still here");
        state_dir_assert("leases lock ");
        state_free(s);
}

/* One that does not fit has a file, and has it to its end. */
static void test_too_long(void **state) {
        State *s = state_dir_open();

        assert_int_equal(save_long(s, 1, 2, SLICE_LEASED), 0);
        assert_int_equal(save_long(s, 2, STATE_SLICES_MAX, SLICE_LEASED), 0);
        assert_int_equal(state_dir_save_lease(s, 3, "short"), 0);
        state_dir_assert("lease-2.json leases lock ");
        assert_slot(1, "\"id\":1,");
        assert_slot(2, "\"id\":3,");
        assert_int_equal(save_long(s, 1, 12, SLICE_LEASED), 0);
        state_dir_assert("lease-1.json lease-2.json leases lock ");
        assert_slot(1, NULL);
        assert_load(s, 0, "1:12 2:64 3:short1 ");
        assert_int_equal(state_dir_save_lease(s, 1, "shrunk"), 0);
        assert_slot(1, NULL);
        assert_int_equal(state_dir_save_lease(s, 4, "fits"), 0);
        assert_slot(1, "\"id\":4,");
        assert_load(s, 0, "1:shrunk1 2:64 3:short1 4:fits1 ");
        s = reopen(s);
        assert_load(s, 0, "1:shrunk1 2:64 3:short1 4:fits1 ");
        assert_int_equal(state_dir_save_lease(s, 1, "again"), 0);
        assert_int_equal(state_forget_lease(s, 2), 0);
        state_dir_assert("lease-1.json leases lock ");
        assert_int_equal(state_forget_lease(s, 1), 0);
        state_dir_assert("leases lock ");
        assert_load(s, 0, "3:short1 4:fits1 ");
        /* The longest that fits, and one byte more. */
        for (size_t n = 600; n < 1024; n++) {
                char label[1024] = {};

                memset(label, 'x', n);
                assert_int_equal(state_dir_save_lease(s, 1000 + n, label), 0);
        }
        free(load(s, 0));
        state_free(s);
}

/* Killed between the two: the file is what was written last. */
static void test_file_counts(void **state) {
        char text[TABLE_SLOT + 1];
        State *s = state_dir_open();

        assert_int_equal(state_dir_save_lease(s, 8, "in the table"), 0);
        get_slot(1, text);
        memcpy(strstr(text, "in the table"), "in its own..", strlen("in its own.."));
        state_dir_put("lease-8.json", text);
        s = reopen(s);
        assert_load(s, 0, "8:in its own..1 ");
        assert_slot(1, NULL);
        assert_int_equal(state_dir_save_lease(s, 8, "later"), 0);
        assert_slot(1, NULL);
        assert_int_equal(state_forget_lease(s, 8), 0);
        assert_load(s, 0, "");
        state_dir_assert("leases lock ");
        state_free(s);
}

static void test_damaged(void **state) {
        char text[TABLE_SLOT + 1], noise[TABLE_SLOT];
        State *s = state_dir_open();

        for (uint64_t i = 1; i <= 6; i++)
                assert_int_equal(state_dir_save_lease(s, i, "x"), 0);
        put_slot(2, "what is this?", 13);
        get_slot(3, text);
        put_slot(4, text, TABLE_SLOT); /* 3 once more */
        memset(noise, ' ', sizeof(noise));
        get_slot(5, text);
        memcpy(noise, text, strlen(text));
        put_slot(5, noise, sizeof(noise)); /* without an end */
        get_slot(6, text);
        assert_int_equal(truncate(TABLE, 6 * TABLE_SLOT + 40), 0);
        s = reopen(s);
        assert_load(s, 4, "1:x1 3:x1 ");
        state_dir_assert("leases leases-2.damaged leases-4.damaged leases-5.damaged "
                         "leases-6.damaged "
                         "lock ");
        for (uint32_t i = 1; i <= 6; i++)
                assert_slot(i, i == 1 ? "\"id\":1," : i == 3 ? "\"id\":3," : NULL);
        assert_load(s, 0, "1:x1 3:x1 ");
        for (uint64_t i = 11; i <= 14; i++)
                assert_int_equal(state_dir_save_lease(s, i, "y"), 0);
        assert_int_equal(table_size(), 7 * TABLE_SLOT);
        assert_load(s, 0, "1:x1 3:x1 11:y1 12:y1 13:y1 14:y1 ");
        state_free(s);
}

static void test_no_table(void **state) {
        State *s = state_dir_open();

        assert_int_equal(mkdir(TABLE, 0700), 0);
        assert_load(s, 1, "");
        state_dir_assert("leases leases.damaged lock ");
        assert_int_equal(rmdir(PATH("leases.damaged")), 0);
        assert_int_equal(unlink(TABLE), 0);
        assert_int_equal(symlink("lock", TABLE), 0);
        assert_load(s, 1, "");
        assert_int_equal(unlink(TABLE), 0);
        assert_int_equal(mkfifo(TABLE, 0600), 0);
        assert_load(s, 1, "");
        state_dir_put(TABLE_FILE, "");
        assert_load(s, 0, "");
        state_dir_put(TABLE_FILE, "some title");
        s = reopen(s);
        assert_load(s, 0, "");
        assert_int_equal(state_dir_save_lease(s, 1, "x"), 0);
        assert_slot(1, "\"id\":1,");
        /* Not read, not written to: a file of its own does no harm. */
        s = reopen(s);
        assert_int_equal(state_dir_save_lease(s, 2, "unread"), 0);
        state_dir_assert("lease-2.json leases leases.damaged lock ");
        assert_load(s, 0, "1:x1 2:unread1 ");
        state_free(s);
}

/* Of a newer format: not even what is damaged is touched. */
static void test_newer(void **state) {
        char before[4 * TABLE_SLOT] = {}, after[4 * TABLE_SLOT] = {}, text[TABLE_SLOT + 1];
        StateContent c = {.n_leases = 42};
        State *s = state_dir_open();
        int fd;

        for (uint64_t i = 1; i <= 3; i++)
                assert_int_equal(state_dir_save_lease(s, i, "x"), 0);
        get_slot(3, text);
        strstr(text, "\"format\":")[strlen("\"format\":")] = '9';
        put_slot(3, text, TABLE_SLOT);
        put_slot(1, "damaged", 7);
        state_dir_put("lease-2.json", "damaged");
        s = reopen(s);
        fd = open(TABLE, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, before, sizeof(before), 0), sizeof(before));
        assert_int_equal(state_load(s, &c), -EPROTONOSUPPORT);
        assert_int_equal(c.n_leases, 42);
        assert_int_equal(pread(fd, after, sizeof(after), 0), sizeof(after));
        assert_memory_equal(before, after, sizeof(before));
        state_dir_assert("lease-2.json leases lock ");
        close(fd);
        state_free(s);
}

static void test_other_boot(void **state) {
        State *s = state_dir_open();

        assert_int_equal(state_dir_save_lease(s, 1, "x"), 0);
        assert_int_equal(state_dir_save_lease(s, 2, "x"), 0);
        state_free(s);
        assert_int_equal(state_open(state_dir, "another-boot", &s), 0);
        assert_load(s, 0, "");
        assert_slot(1, NULL);
        assert_slot(2, NULL);
        assert_int_equal(state_dir_save_lease(s, 1, "new"), 0);
        assert_load(s, 0, "1:new1 ");
        state_free(s);
}

/* An older egmd looks at this file, and must see that it comes too late. */
static void test_upgrade(void **state) {
        char wanted[32], *text;
        State *s = state_dir_open();

        state_dir_put_fixture(1, "egmd.json");
        assert_load(s, 0, "");
        text = state_dir_get("egmd.json");
        (void) snprintf(wanted, sizeof(wanted), "\"format\":%u,", STATE_FORMAT);
        assert_non_null(strstr(text, wanted));
        assert_non_null(strstr(text, "\"next_lease\":41"));
        free(text);
        state_free(s);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        STATE_DIR_TEST(test_in_place), STATE_DIR_TEST(test_reuse),
                        STATE_DIR_TEST(test_too_long), STATE_DIR_TEST(test_file_counts),
                        STATE_DIR_TEST(test_damaged),  STATE_DIR_TEST(test_no_table),
                        STATE_DIR_TEST(test_newer),    STATE_DIR_TEST(test_other_boot),
                        STATE_DIR_TEST(test_upgrade),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
