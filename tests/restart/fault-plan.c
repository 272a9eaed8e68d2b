/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fault-plan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "fd-util.h"
#include "size.h"

const FaultKind fault_kinds[] = {
                {"kill", FAULT_KILL, 0, false},
                {"kill-after", FAULT_KILL, 0, true},
                {"ENOSPC", FAULT_SPACE, ENOSPC, false},
                {"EIO", FAULT_IO, EIO, false},
                {"EMFILE", FAULT_FILES, EMFILE, false},
                {"EMFILE-workers", FAULT_FILES_WORKERS, EMFILE, false},
                {"ENOMEM", FAULT_MEMORY, ENOMEM, false},
                {"ENOMEM-workers", FAULT_MEMORY_WORKERS, ENOMEM, false},
                {"ENOBUFS", FAULT_SEND, ENOBUFS, false},
                {},
};

const FaultKind *fault_kind_from_string(const char *s) {
        for (const FaultKind *k = fault_kinds; k->name; k++)
                if (streq(k->name, s))
                        return k;
        return NULL;
}

int fault_plan_parse(const char *s, FaultPlan *ret) {
        FaultPlan p = {.n = 1};
        _cleanup_free_ char *copy = strdup(s);
        char *at, *plus;
        int r;

        if (!copy)
                return -ENOMEM;
        at = strchr(copy, '@');
        if (!at)
                return -EINVAL;
        *at++ = '\0';
        plus = strchr(at, '+');
        if (plus)
                *plus++ = '\0';
        p.kind = fault_kind_from_string(copy);
        if (!p.kind)
                return -EINVAL;
        r = parse_uint64(at, &p.first);
        if (r >= 0 && plus)
                r = parse_uint64(plus, &p.n);
        if (r < 0)
                return r;
        *ret = p;
        return 0;
}

char *fault_plan_format(const FaultPlan *p) {
        char *s;
        int r;

        if (!p->kind)
                return strdup("nothing");
        r = p->n == 1 ? asprintf(&s, "%s@%" PRIu64, p->kind->name, p->first)
                      : asprintf(&s, "%s@%" PRIu64 "+%" PRIu64, p->kind->name, p->first, p->n);
        return r < 0 ? NULL : s;
}

int fault_page_new(const char *path, FaultPage **ret) {
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        void *p;

        static_assert(sizeof(FaultPage) <= FAULT_PAGE_SIZE);

        if (fd < 0 || ftruncate(fd, FAULT_PAGE_SIZE) < 0)
                return -errno;
        p = mmap(NULL, FAULT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}

void fault_page_free(FaultPage *p) {
        if (p)
                (void) munmap(p, FAULT_PAGE_SIZE);
}

void fault_page_set(FaultPage *p, const FaultPlan *plan) {
        memset(p, 0, sizeof(*p));
        if (!plan->kind)
                return;
        p->on = plan->kind->on;
        p->first = plan->first;
        p->n = plan->n;
        p->error = plan->kind->error;
        p->after = plan->kind->after;
}
