/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <dirent.h>
#include <fcntl.h>

#include "fd-util.h"
#include "state-dir.h"
#include "state-records.h"

char state_dir[64];

int state_dir_setup(void **state) {
        strcpy(state_dir, "/tmp/test-state-XXXXXX");
        return mkdtemp(state_dir) ? 0 : -1;
}

char *state_dir_path(const char *name, char ret[static PATH_MAX]) {
        (void) snprintf(ret, PATH_MAX, "%s/%s", state_dir, name);
        return ret;
}

static int not_dots(const struct dirent *e) {
        return !streq(e->d_name, ".") && !streq(e->d_name, "..");
}

char *state_dir_names(void) {
        struct dirent **list;
        char *s = calloc(1, 4096);
        int n = scandir(state_dir, &list, not_dots, alphasort);

        assert_true(n >= 0);
        for (int i = 0; i < n; i++) {
                strcat(strcat(s, list[i]->d_name), " ");
                free(list[i]);
        }
        free(list);
        return s;
}

void state_dir_assert(const char *expected) {
        char *s = state_dir_names();

        assert_string_equal(s, expected);
        free(s);
}

int state_dir_teardown(void **state) {
        struct dirent **list;
        int n = scandir(state_dir, &list, not_dots, NULL);

        for (int i = 0; i < n; i++) {
                (void) remove(PATH(list[i]->d_name));
                free(list[i]);
        }
        if (n >= 0)
                free(list);
        return rmdir(state_dir);
}

void state_dir_put(const char *name, const char *text) {
        int fd = open(PATH(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write_all(fd, text, strlen(text)), 0);
        close(fd);
}

char *state_dir_get(const char *name) {
        char *text = NULL;

        assert_int_equal(read_full_file_at(AT_FDCWD, PATH(name), 1 << 20, &text, NULL), 0);
        return text;
}

void state_dir_put_fixture(unsigned format, const char *name) {
        char *text = record_fixture(format, name, NULL);

        state_dir_put(name, text);
        free(text);
}

State *state_dir_open(void) {
        State *s = NULL;

        assert_int_equal(state_open(state_dir, RECORD_BOOT, &s), 0);
        return s;
}

int state_dir_save_lease(State *s, uint64_t id, const char *label) {
        SliceRecord slice = {(char *) "egm4", 0, 2 * MIB, SLICE_LEASED};
        LeaseRecord r = {
                        .id = id,
                        .label = (char *) label,
                        .slices = &slice,
                        .n_slices = 1,
        };

        return state_save_lease(s, &r);
}
