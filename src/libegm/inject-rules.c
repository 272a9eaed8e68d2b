/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>
#include <sys/mman.h>

#include "inject-rules.h"

#define MAP_TYPE_MASK 0x0f

static bool part_is(const char *part, size_t n, const char *word) {
        return strlen(word) == n && memcmp(part, word, n) == 0;
}

bool inject_path_is_good(const char *path) {
        if (!path || path[0] != '/' || strlen(path) >= PATH_MAX)
                return false;
        for (const char *p = path; *p;) {
                size_t n = strcspn(++p, "/");

                if (n == 0 || part_is(p, n, ".") || part_is(p, n, ".."))
                        return false;
                p += n;
        }
        return true;
}

bool inject_path_matches(const char *good, const char *said) {
        if (*said != '/')
                return false;
        while (*said == '/') {
                size_t n;

                said += strspn(said, "/");
                n = strcspn(said, "/");
                if (n == 0 || (said[n] == '\0' && part_is(said, n, ".")))
                        return false; /* that of a directory */
                if (!part_is(said, n, ".")) {
                        if (*good != '/' || strncmp(good + 1, said, n) != 0)
                                return false;
                        good += 1 + n;
                        if (*good != '/' && *good != '\0')
                                return false;
                }
                said += n;
        }
        return *good == '\0';
}

InjectMapVerdict inject_judge_map(const InjectRange *r, uint64_t length, uint64_t flags,
                                  uint64_t offset, uint64_t page, uint64_t *ret_offset) {
        uint64_t type = flags & MAP_TYPE_MASK, end;
        bool here, moved;

        if ((flags & MAP_ANONYMOUS) || length == 0 || offset % page != 0)
                return INJECT_MAP_KERNEL;
        if (type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
                return INJECT_MAP_PRIVATE;
        if (!align_up_checked(length, page, &length) ||
            __builtin_add_overflow(offset, length, &end))
                return INJECT_MAP_OUTSIDE;
        here = r->shift != INJECT_SHIFT_YES && offset >= r->offset && end <= r->offset + r->size;
        moved = r->shift != INJECT_SHIFT_NO && end <= r->size;
        if (moved && r->offset == 0)
                return INJECT_MAP_HERE;
        if (here && moved)
                return INJECT_MAP_UNCLEAR;
        if (moved)
                *ret_offset = r->offset + offset;
        return here ? INJECT_MAP_HERE : moved ? INJECT_MAP_MOVE : INJECT_MAP_OUTSIDE;
}

int inject_list_pages(const uint64_t *ranges, size_t n, uint64_t size, uint64_t page,
                      InjectPage **ret, size_t *ret_n) {
        InjectPage *pages = NULL;
        size_t total = 0, k = 0;

        for (int pass = 0;; pass++) {
                for (size_t i = 0; i < n; i++) {
                        uint64_t begin = align_down(ranges[2 * i], page), end;

                        if (__builtin_add_overflow(ranges[2 * i], ranges[2 * i + 1], &end))
                                return -EBADMSG;
                        end = MIN(end, size);
                        for (uint64_t at = begin; at < end; at += page) {
                                if (pass == 0)
                                        total++;
                                else
                                        pages[k++] = (InjectPage){at, page};
                        }
                }
                if (pass == 1)
                        break;
                pages = calloc(total + 1, sizeof(*pages));
                if (!pages)
                        return -ENOMEM;
        }
        *ret = pages;
        *ret_n = total;
        return 0;
}
