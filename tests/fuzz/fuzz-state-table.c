/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>

#include "fuzz-input.h"
#include "fd-util.h"
#include "log.h"
#include "state.h"
#include "state-table.h"

/* The table of leases' records as a start finds it. The first byte: whether its head is ours, the second: how much is missing at
 * its end; then the slots' contents, separated by NULs. What is found is in order, each lease once, and is found again by the next
 * start, which has nothing more to complain of. */

#define BOOT "00000000-0000-0000-0000-000000000001"
#define SLOTS_MAX 16

typedef struct Bed {
        char path[32];
        int dir_fd;
        char head[TABLE_SLOT];
} Bed;

static void clear(const Bed *bed) {
        int fd = openat(bed->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fdopendir(fd);
        struct dirent *e;

        FUZZ_CHECK(d);
        while ((e = readdir(d)))
                if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
                        FUZZ_CHECK(unlinkat(bed->dir_fd, e->d_name, 0) == 0);
        (void) closedir(d);
}

static Bed bed = {.path = "/tmp/fuzz-state-XXXXXX", .dir_fd = -EBADF};

static void bed_done(void) {
        clear(&bed);
        (void) rmdir(bed.path);
}

/* With the head that is written today. */
static void bed_make(void) {
        _cleanup_(state_freep) State *s = NULL;
        _cleanup_state_content_ StateContent c = {};
        SliceRecord slice = {.region = (char[]){"egm4"}, .size = MIB, .phase = SLICE_LEASED};
        LeaseRecord l = {.id = 1, .slices = &slice, .n_slices = 1};
        _cleanup_free_ char *table = NULL;
        size_t size;

        log_set_max_level(LOG_EMERG);
        FUZZ_CHECK(mkdtemp(bed.path));
        bed.dir_fd = open(bed.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        FUZZ_CHECK(bed.dir_fd >= 0);
        FUZZ_CHECK(atexit(bed_done) == 0);
        FUZZ_CHECK(state_open(bed.path, BOOT, &s) == 0);
        FUZZ_CHECK(state_load(s, &c) == 0);
        FUZZ_CHECK(state_save_lease(s, &l) == 0);
        FUZZ_CHECK(read_full_file_at(bed.dir_fd, TABLE_FILE, MIB, &table, &size) == 0);
        FUZZ_CHECK(size > TABLE_SLOT);
        memcpy(bed.head, table, TABLE_SLOT);
}

static void write_table(FuzzInput *in) {
        char table[SLOTS_MAX * TABLE_SLOT] = {};
        bool ours = fuzz_take_byte(in) % 8 != 0;
        size_t cut = fuzz_take_byte(in), n = 1;
        int fd;

        if (ours)
                memcpy(table, bed.head, TABLE_SLOT);
        for (n = ours; n < SLOTS_MAX && in->left > 0; n++) {
                const uint8_t *end = memchr(in->at, 0, in->left);
                size_t k = end ? (size_t) (end - in->at) : in->left;

                memcpy(table + n * TABLE_SLOT, in->at, MIN(k, (size_t) TABLE_SLOT));
                in->at += k + (end != NULL);
                in->left -= k + (end != NULL);
        }
        fd = openat(bed.dir_fd, TABLE_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        FUZZ_CHECK(fd >= 0);
        FUZZ_CHECK(write_all(fd, table, n * TABLE_SLOT - MIN(cut, n * TABLE_SLOT)) == 0);
        safe_close(fd);
}

static int load(StateContent *ret) {
        _cleanup_(state_freep) State *s = NULL;

        FUZZ_CHECK(state_open(bed.path, BOOT, &s) == 0);
        return state_load(s, ret);
}

static void check_content(const StateContent *c) {
        for (size_t i = 0; i < c->n_leases; i++) {
                const LeaseRecord *l = c->leases + i;
                _cleanup_free_ char *text = NULL;
                size_t size;

                FUZZ_CHECK(i == 0 || c->leases[i - 1].id < l->id);
                FUZZ_CHECK(streq(l->boot, BOOT));
                FUZZ_CHECK(lease_record_to_text(l, &text, &size) == 0);
        }
        FUZZ_CHECK(c->n_regions == 0 && !c->daemon.boot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_state_content_ StateContent first = {}, second = {};
        FuzzInput in = {data, size};
        int r;

        if (bed.dir_fd < 0)
                bed_make();
        clear(&bed);
        write_table(&in);
        r = load(&first);
        FUZZ_CHECK(r == 0 || r == -EPROTONOSUPPORT);
        FUZZ_CHECK(load(&second) == r);
        if (r < 0)
                return 0;
        check_content(&first);
        check_content(&second);
        FUZZ_CHECK(second.n_damaged == 0 && !second.other_boot);
        FUZZ_CHECK(first.n_leases == second.n_leases);
        for (size_t i = 0; i < first.n_leases; i++)
                FUZZ_CHECK(first.leases[i].id == second.leases[i].id);
        return 0;
}
