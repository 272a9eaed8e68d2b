/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/sysmacros.h>

#include "fuzz-input.h"
#include "proc-parse.h"

/* The files of a process. The first byte says which. */

static void check_maps(const char *line, size_t size) {
        _cleanup_free_ char *again = NULL, *path = NULL;
        MapsLine a, b;
        int n;

        if (maps_line_parse(line, size, &a) < 0)
                return;
        FUZZ_CHECK(a.end > a.start);
        FUZZ_CHECK(a.identity >= line && a.identity + a.identity_size == line + size);
        FUZZ_CHECK(a.path >= a.identity && a.path + a.path_size == line + size);
        n = asprintf(&again, "%" PRIx64 "-%" PRIx64 " rw-%c %" PRIx64 " %x:%x %" PRIu64 " %.*s",
                     a.start, a.end, a.shared ? 's' : 'p', a.offset, major(a.dev), minor(a.dev),
                     (uint64_t) a.ino, (int) a.path_size, a.path);
        FUZZ_CHECK(n > 0);
        FUZZ_CHECK(maps_line_parse(again, (size_t) n, &b) == 0);
        FUZZ_CHECK(a.start == b.start && a.end == b.end && a.offset == b.offset && a.dev == b.dev &&
                   a.ino == b.ino && a.shared == b.shared);
        FUZZ_CHECK(maps_path_unescape(a.path, a.path_size, &path) == 0);
        FUZZ_CHECK(strlen(path) <= a.path_size);
}

static void check_stat(const char *text, size_t size) {
        const char *open, *close;
        ProcStat s;

        if (proc_stat_parse(text, size, &s) < 0)
                return;
        FUZZ_CHECK(memchr(s.comm, '\0', sizeof(s.comm)));
        /* To the last bracket: a name may hold any, and what looks like the rest of the line. */
        open = memchr(text, '(', size);
        close = memrchr(text, ')', size);
        FUZZ_CHECK(open && close > open);
        FUZZ_CHECK(strlen(s.comm) == MIN((size_t) (close - open - 1), sizeof(s.comm) - 1));
        for (const char *p = s.comm; *p; p++)
                FUZZ_CHECK(*p >= ' ' && *p <= '~');
        FUZZ_CHECK(s.parent >= 0);
}

/* A unit's name is one component of the path, and may stand anywhere. */
static void check_cgroup(const char *text, size_t size) {
        _cleanup_free_ char *unit = NULL, *slice = NULL;

        if (proc_cgroup_parse_unit(text, size, &unit, &slice) < 0) {
                FUZZ_CHECK(!unit && !slice);
                return;
        }
        if (slice) {
                FUZZ_CHECK(memmem(text, size, slice, strlen(slice)));
                FUZZ_CHECK(streq(strrchr(slice, '.'), ".slice") && !strchr(slice, '/'));
                for (const char *p = slice; *p; p++)
                        FUZZ_CHECK(*p > ' ' && *p <= '~');
        }
        FUZZ_CHECK(strlen(unit) > 1 && strlen(unit) < size);
        FUZZ_CHECK(memmem(text, size, unit, strlen(unit)));
        FUZZ_CHECK(strrchr(unit, '.') && !strchr(unit, '/'));
        FUZZ_CHECK(!streq(strrchr(unit, '.'), ".slice"));
        for (const char *p = unit; *p; p++)
                FUZZ_CHECK(*p > ' ' && *p <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *text = (const char *) data + 1;
        uid_t uid;
        int flags;

        if (size == 0)
                return 0;
        switch (data[0] % 5) {
        case 0: /* '2' */
                check_maps(text, size - 1);
                break;
        case 1:
                check_stat(text, size - 1);
                break;
        case 2:
                if (proc_status_parse_uid(text, size - 1, &uid) >= 0)
                        FUZZ_CHECK(memmem(text, size - 1, "Uid:\t", 5));
                break;
        case 3:
                if (proc_fdinfo_parse_flags(text, size - 1, &flags) >= 0)
                        FUZZ_CHECK(flags >= 0);
                break;
        default:
                check_cgroup(text, size - 1);
        }
        return 0;
}
