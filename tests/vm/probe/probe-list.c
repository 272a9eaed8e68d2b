/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "probe.h"

/*
 * For regions with these tables of the firmware (cases/sim-list.sh):
 *   4: 0x200000, 0x10000, 0x20000, again 0x200000, one below the region's start, one at its end
 *   5: 0x0, and the last 64 KiB, of which only the first half is in the region
 */
#define FW_ENTRY (64 * KIB)
#define BELOW (-(uint64_t) FW_ENTRY)

static bool tells_whole_entries(const Probe *p) {
        return p->variant == VARIANT_S3 || p->variant == VARIANT_S4;
}

static int list_call(int fd, void *list) {
        return ioctl(fd, EGM_RETIRED_PAGES_LIST, list) < 0 ? -errno : 0;
}

static unsigned times_listed(const RetiredList *list, uint64_t offset) {
        unsigned n = 0;

        for (uint32_t i = 0; i < list->count; i++)
                n += list->entries[i].offset == offset;
        return n;
}

static bool is_ascending(const RetiredList *list) {
        for (uint32_t i = 1; i < list->count; i++)
                if (list->entries[i - 1].offset >= list->entries[i].offset)
                        return false;
        return true;
}

static bool sizes_are_pages(const RetiredList *list) {
        for (uint32_t i = 0; i < list->count; i++)
                if (list->entries[i].size != PAGE)
                        return false;
        return true;
}

static bool has_entry(const Probe *p, const RetiredList *list, uint64_t offset) {
        uint64_t size = tells_whole_entries(p) ? FW_ENTRY : PAGE;

        for (uint64_t i = 0; i < FW_ENTRY; i += PAGE)
                if (probe_list_has(list, offset + i) != (i < size))
                        return false;
        return true;
}

static void check_disorderly_table(Probe *p, int fd) {
        static const uint32_t counts[_VARIANT_MAX] = {6, 6, 6, 4 * 16, 3 * 16};
        _cleanup_free_ RetiredList *list = NULL;
        bool bounded = tells_whole_entries(p);

        if (!probe_check_errno(p, probe_read_list(fd, &list), 0, "the list"))
                return;
        probe_check(p, list->count == counts[p->variant], "has %u entries (got %u)",
                    counts[p->variant], list->count);
        probe_check(p, sizes_are_pages(list), "each of one host page");
        probe_check(p,
                    has_entry(p, list, 0x10000) && has_entry(p, list, 0x20000) &&
                                    has_entry(p, list, 0x200000),
                    "every 64 KiB of the firmware's is %s",
                    bounded ? "all there" : "one host page");
        probe_check(p, is_ascending(list) == (p->variant == VARIANT_S4), "%s order",
                    p->variant == VARIANT_S4 ? "ascending" : "no");
        probe_check(p, times_listed(list, 0x200000) == (p->variant == VARIANT_S4 ? 1 : 2),
                    "the entry that the firmware gave twice");
        probe_check(p, probe_list_has(list, BELOW) == !bounded, "the one below the region");
        probe_check(p, probe_list_has(list, p->size) == !bounded, "the one at its end");
}

/* S4 only looks at an entry's base, S3 at all of it. */
static void check_odd_end(Probe *p, int fd) {
        static const uint32_t counts[_VARIANT_MAX] = {2, 2, 2, 16, 32};
        _cleanup_free_ RetiredList *list = NULL;

        probe_check(p, p->size % FW_ENTRY == FW_ENTRY / 2,
                    "a region that ends in the middle of 64 KiB");
        if (!probe_check_errno(p, probe_read_list(fd, &list), 0, "its list"))
                return;
        probe_check(p, list->count == counts[p->variant], "has %u entries (got %u)",
                    counts[p->variant], list->count);
        probe_check(p, probe_list_has(list, p->size) == (p->variant == VARIANT_S4),
                    "pages past the end are %s",
                    p->variant == VARIANT_S4 ? "listed" : "not listed");
}

static void check_header(Probe *p, int fd) {
        _cleanup_free_ RetiredList *list = NULL;
        RetiredList short_list = {.argsz = sizeof(short_list), .count = 77};
        uint32_t need, count;

        probe_check_errno(p, list_call(fd, NULL), EFAULT, "no buffer");
        probe_check_errno(p, ioctl(fd, 0xdead, NULL) < 0 ? -errno : 0, EFAULT,
                          "unknown command, no buffer");
        probe_check_errno(p, ioctl(fd, 0xdead, &short_list) < 0 ? -errno : 0, EINVAL,
                          "unknown command");
        probe_check_errno(p, list_call(fd, &(RetiredList){.argsz = 7}), EINVAL, "argsz 7");
        probe_check_errno(p, list_call(fd, &(RetiredList){.argsz = 0}), EINVAL, "argsz 0");

        probe_check_errno(p, list_call(fd, &short_list), 0, "argsz 8");
        probe_check(p, short_list.argsz > 8 && short_list.count == 0,
                    "argsz says how much it takes");

        need = short_list.argsz;
        count = (need - sizeof(RetiredList)) / sizeof(RetiredEntry);
        list = calloc(1, need + 100);
        assert(list);
        list->argsz = need - 1;
        probe_check(p, list_call(fd, list) == 0 && list->argsz == need && list->count == 0,
                    "a byte too short: the same answer, and no entries");
        probe_check(p, list->entries[0].size == 0, "nothing was written to them");
        list->argsz = need;
        probe_check(p, list_call(fd, list) == 0 && list->argsz == need && list->count == count,
                    "just enough: all of them, argsz as it was");
        list->argsz = need + 100;
        probe_check(p,
                    list_call(fd, list) == 0 && list->argsz == need + 100 && list->count == count,
                    "more than enough: argsz as it was");
}

static void check_fault(Probe *p, int fd) {
        char *m = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        RetiredList *list = (void *) (m + PAGE - sizeof(RetiredList));

        assert(m != MAP_FAILED);
        (void) munmap(m + PAGE, PAGE);
        list->argsz = 64 * KIB;
        probe_check_errno(p, list_call(fd, list), EFAULT, "no memory for the entries");
        (void) munmap(m, PAGE);
}

static void check_read_access(Probe *p) {
        _cleanup_close_ int fd = probe_open(p, O_RDONLY);
        RetiredList list = {.argsz = sizeof(list)};

        probe_check_errno(p, list_call(fd, &list), 0, "the list, opened read-only");
}

void probe_list_rules(Probe *p) {
        _cleanup_close_ int fd = probe_open(p, O_RDWR);

        if (!probe_check_errno(p, fd, 0, "open"))
                return;
        if (p->id == 5)
                check_odd_end(p, fd);
        else {
                check_disorderly_table(p, fd);
                check_header(p, fd);
                check_fault(p, fd);
                fd = safe_close(fd);
                check_read_access(p);
        }
}
