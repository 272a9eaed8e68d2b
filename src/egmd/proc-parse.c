/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>
#include <sys/sysmacros.h>

#include "proc-parse.h"

#define PF_KTHREAD 0x00200000U

typedef struct Cursor {
        const char *at;
        const char *end;
} Cursor;

static bool skip_char(Cursor *c, char expected) {
        if (c->at == c->end || *c->at != expected)
                return false;
        c->at++;
        return true;
}

static void skip_blanks(Cursor *c) {
        while (c->at < c->end && *c->at == ' ')
                c->at++;
}

static int digit_of(char ch) {
        if (ch >= '0' && ch <= '9')
                return ch - '0';
        if (ch >= 'a' && ch <= 'f')
                return ch - 'a' + 10;
        return -1;
}

/* At least one digit. No sign, no prefix, no overflow. */
static bool take_number(Cursor *c, unsigned base, uint64_t *ret) {
        const char *start = c->at;
        uint64_t v = 0;

        for (; c->at < c->end; c->at++) {
                int digit = digit_of(*c->at);

                if (digit < 0 || (unsigned) digit >= base)
                        break;
                if (__builtin_mul_overflow(v, base, &v) ||
                    __builtin_add_overflow(v, (unsigned) digit, &v))
                        return false;
        }
        if (c->at == start)
                return false;
        *ret = v;
        return true;
}

/* The next line, without its newline. */
static bool take_line(Cursor *c, Cursor *ret) {
        const char *newline;

        if (c->at == c->end)
                return false;
        newline = memchr(c->at, '\n', (size_t) (c->end - c->at));
        *ret = (Cursor){c->at, newline ?: c->end};
        c->at = newline ? newline + 1 : c->end;
        return true;
}

static bool has_prefix(const Cursor *c, const char *prefix) {
        size_t n = strlen(prefix);

        return (size_t) (c->end - c->at) >= n && memcmp(c->at, prefix, n) == 0;
}

static bool has_suffix(const Cursor *c, const char *suffix) {
        size_t n = strlen(suffix);

        return (size_t) (c->end - c->at) >= n && memcmp(c->end - n, suffix, n) == 0;
}

/* "7f0000000000-7f0000001000 rw-s 00001000 00:05 12                 /dev/egm4" */
int maps_line_parse(const char *line, size_t size, MapsLine *ret) {
        Cursor c = {line, line + size};
        uint64_t major, minor, ino;
        MapsLine l = {};

        assert(line);
        assert(ret);

        if (!take_number(&c, 16, &l.start) || !skip_char(&c, '-') || !take_number(&c, 16, &l.end) ||
            l.end <= l.start || !skip_char(&c, ' '))
                return -EBADMSG;
        /* "rwxs" or "rwxp". An unknown letter might mean shared memory of a new kind. */
        if (c.end - c.at < 5 || (c.at[3] != 's' && c.at[3] != 'p'))
                return -EBADMSG;
        l.shared = c.at[3] == 's';
        c.at += 4;
        if (!skip_char(&c, ' ') || !take_number(&c, 16, &l.offset) || !skip_char(&c, ' '))
                return -EBADMSG;

        l.identity = c.at;
        l.identity_size = (size_t) (c.end - c.at);
        if (!take_number(&c, 16, &major) || !skip_char(&c, ':') || !take_number(&c, 16, &minor) ||
            !skip_char(&c, ' ') || !take_number(&c, 10, &ino) || major > UINT32_MAX ||
            minor > UINT32_MAX)
                return -EBADMSG;
        if (c.at < c.end && *c.at != ' ')
                return -EBADMSG;
        l.dev = makedev((unsigned) major, (unsigned) minor);
        l.ino = ino;
        skip_blanks(&c); /* padding: a path starts with a slash, a pseudo name with a bracket */
        l.path = c.at;
        l.path_size = (size_t) (c.end - c.at);
        *ret = l;
        return 0;
}

int maps_path_unescape(const char *path, size_t size, char **ret) {
        static const char newline[] = "\\012", deleted[] = " (deleted)";
        Cursor c = {path, path + size};
        char *s, *to;

        assert(ret);

        if (has_suffix(&c, deleted))
                c.end -= strlen(deleted);
        s = to = malloc((size_t) (c.end - c.at) + 1);
        if (!s)
                return -ENOMEM;
        /* Newlines are all that is escaped, a backslash is not: a name with "\012" in it cannot be told
         * from one with a newline. */
        while (c.at < c.end)
                if (has_prefix(&c, newline)) {
                        *to++ = '\n';
                        c.at += strlen(newline);
                } else
                        *to++ = *c.at++;
        *to = '\0';
        *ret = s;
        return 0;
}

static void copy_printable(char *to, size_t room, const Cursor *c) {
        size_t n = MIN((size_t) (c->end - c->at), room - 1);

        for (size_t i = 0; i < n; i++)
                to[i] = c->at[i] >= ' ' && c->at[i] <= '~' ? c->at[i] : '?';
        to[n] = '\0';
}

static bool skip_fields(Cursor *c, unsigned n) {
        while (n-- > 0) {
                const char *blank = memchr(c->at, ' ', (size_t) (c->end - c->at));

                if (!blank || blank == c->at)
                        return false;
                c->at = blank + 1;
        }
        return true;
}

/* "4711 (qemu) S 1 …": fields are counted from 1. */
int proc_stat_parse(const char *text, size_t size, ProcStat *ret) {
        Cursor c = {text, text + size}, comm;
        uint64_t ignored, flags, parent;
        ProcStat s = {};

        assert(text);
        assert(ret);

        if (!take_number(&c, 10, &ignored) || !skip_char(&c, ' ') || !skip_char(&c, '('))
                return -EBADMSG;
        /* The name may hold anything, but only numbers follow it. */
        comm.at = c.at;
        comm.end = memrchr(c.at, ')', (size_t) (c.end - c.at));
        if (!comm.end)
                return -EBADMSG;
        copy_printable(s.comm, sizeof(s.comm), &comm);
        c.at = comm.end + 1;

        if (!skip_char(&c, ' ') || c.end - c.at < 2)
                return -EBADMSG;
        s.state = *c.at;
        if (!skip_fields(&c, 4 - 3) || !take_number(&c, 10, &parent) || parent > INT_MAX ||
            !skip_char(&c, ' ') || !skip_fields(&c, 9 - 5) || !take_number(&c, 10, &flags) ||
            !skip_char(&c, ' ') || !skip_fields(&c, 20 - 10) ||
            !take_number(&c, 10, &s.n_threads) || !skip_char(&c, ' ') ||
            !skip_fields(&c, 22 - 21) || !take_number(&c, 10, &s.start_time) || !skip_char(&c, ' '))
                return -EBADMSG;
        s.parent = (int) parent;
        s.kernel_thread = flags & PF_KTHREAD;
        *ret = s;
        return 0;
}

int proc_status_parse_uid(const char *text, size_t size, uid_t *ret) {
        Cursor c = {text, text + size}, line;

        assert(text);
        assert(ret);

        /* The name is on the first line, its newlines escaped. */
        while (take_line(&c, &line)) {
                uint64_t real, effective;

                if (!has_prefix(&line, "Uid:\t"))
                        continue;
                line.at += strlen("Uid:\t");
                if (!take_number(&line, 10, &real) || !skip_char(&line, '\t') ||
                    !take_number(&line, 10, &effective) || !skip_char(&line, '\t') ||
                    effective > UINT32_MAX)
                        return -EBADMSG;
                *ret = (uid_t) effective;
                return 0;
        }
        return -EBADMSG;
}

/* "flags:\t0100002" */
int proc_fdinfo_parse_flags(const char *text, size_t size, int *ret) {
        Cursor c = {text, text + size}, line;

        assert(text);
        assert(ret);

        while (take_line(&c, &line)) {
                uint64_t flags;

                if (!has_prefix(&line, "flags:\t"))
                        continue;
                line.at += strlen("flags:\t");
                if (!take_number(&line, 8, &flags) || line.at != line.end || flags > INT_MAX)
                        return -EBADMSG;
                *ret = (int) flags;
                return 0;
        }
        return -EBADMSG;
}

static bool is_unit_name(const Cursor *c) {
        static const char *const types[] = {".service", ".scope", ".socket",
                                            ".mount",   ".swap",  ".slice"};
        static const char valid[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789:-_.\\@";

        for (const char *p = c->at; p < c->end; p++)
                if (*p == '\0' || !strchr(valid, *p))
                        return false;
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (has_suffix(c, types[i]) && (size_t) (c->end - c->at) > strlen(types[i]))
                        return true;
        return false;
}

/* "/machine.slice/machine-qemu.scope/libvirt/emulator": the first that is no slice, and the slice that it is in (empty:
 * none). What lies below is the unit's own to name, so nothing there is believed. */
static bool unit_of_path(Cursor path, Cursor *ret, Cursor *ret_slice) {
        Cursor component, slice = {path.at, path.at};

        if (has_suffix(&path, " (deleted)"))
                path.end -= strlen(" (deleted)");
        while (path.at < path.end) {
                const char *slash;

                if (!skip_char(&path, '/'))
                        return false;
                slash = memchr(path.at, '/', (size_t) (path.end - path.at));
                component = (Cursor){path.at, slash ?: path.end};
                path.at = component.end;
                if (has_suffix(&component, ".slice")) {
                        if (!is_unit_name(&component))
                                return false;
                        slice = component;
                        continue;
                }
                /* Escaped where it would be mistaken for a file of the cgroup itself. */
                (void) skip_char(&component, '_');
                if (!is_unit_name(&component))
                        return false;
                *ret = component;
                *ret_slice = slice;
                return true;
        }
        return false;
}

int proc_cgroup_parse_unit(const char *text, size_t size, char **ret, char **ret_slice) {
        static const char *const hierarchies[] = {":name=systemd:", "::"};
        Cursor c = {text, text + size}, line;

        assert(text);
        assert(ret);

        while (take_line(&c, &line)) {
                _cleanup_free_ char *in = NULL;
                Cursor path = line, unit, slice;
                uint64_t id;
                char *s;

                if (!take_number(&path, 10, &id))
                        return -EBADMSG;
                for (size_t i = 0; i < ELEMENTSOF(hierarchies); i++) {
                        if (!has_prefix(&path, hierarchies[i]))
                                continue;
                        path.at += strlen(hierarchies[i]);
                        if (!unit_of_path(path, &unit, &slice))
                                break;
                        if (ret_slice && slice.at < slice.end) {
                                in = strndup(slice.at, (size_t) (slice.end - slice.at));
                                if (!in)
                                        return -ENOMEM;
                        }
                        s = strndup(unit.at, (size_t) (unit.end - unit.at));
                        if (!s)
                                return -ENOMEM;
                        *ret = s;
                        if (ret_slice)
                                *ret_slice = TAKE_PTR(in);
                        return 0;
                }
        }
        return -ENXIO;
}
