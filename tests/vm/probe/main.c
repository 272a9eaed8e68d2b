/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "probe.h"

/* "/dev/egm4" is opened; a number is a descriptor that was inherited. */
static int get_fd(const char *s) {
        int fd;

        if (*s == '/') {
                fd = open(s, O_RDWR | O_CLOEXEC);
                return fd < 0 ? -errno : fd;
        }
        if (sscanf(s, "%d", &fd) != 1 || fcntl(fd, F_GETFD) < 0)
                return -EBADF;
        return fd;
}

static int complain(const char *what, int r) {
        printf("%s: %s\n", what, strerrorname_np(-r));
        return 1;
}

/* egm-probe hold FILE: opens, says so, keeps it until it is killed. */
static int run_hold(int argc, char *argv[]) {
        int fd = get_fd(argv[2]);

        if (fd < 0)
                return complain("open", fd);
        (void) puts("open");
        (void) fflush(stdout);
        for (;;)
                (void) pause();
}

/* egm-probe open FILE: opens and closes. */
static int run_open(int argc, char *argv[]) {
        int fd = get_fd(argv[2]);

        return fd < 0 ? complain("open", fd) : 0;
}

/* egm-probe fill|expect|map FILE OFFSET SIZE [BYTE]: writes, compares or just maps, to the byte. */
static int run_bytes(int argc, char *argv[]) {
        bool fill = streq(argv[1], "fill");
        uint64_t offset, size;
        unsigned char *m;
        unsigned byte = 0;
        int fd;

        if (argc < 5 || sscanf(argv[3], "%" SCNi64, (int64_t *) &offset) != 1 ||
            sscanf(argv[4], "%" SCNi64, (int64_t *) &size) != 1 ||
            (argc > 5 && sscanf(argv[5], "%i", (int *) &byte) != 1))
                return 2;
        fd = get_fd(argv[2]);
        if (fd < 0)
                return complain("open", fd);

        m = probe_map(fd, offset, size, fill ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED);
        if (m == MAP_FAILED)
                return complain("mmap", -errno);
        if (streq(argv[1], "map"))
                return 0;
        if (fill) {
                memset(m, (int) byte, size);
                return 0;
        }
        for (uint64_t i = 0; i < size; i++)
                if (m[i] != byte) {
                        printf("0x%02x at 0x%" PRIx64 ", not 0x%02x\n", m[i], offset + i, byte);
                        return 1;
                }
        return 0;
}

/* egm-probe list FILE: the kernel's list, an offset a line, as it comes. */
static int run_list(int argc, char *argv[]) {
        _cleanup_free_ RetiredList *list = NULL;
        int fd = get_fd(argv[2]), r;

        if (fd < 0)
                return complain("open", fd);
        r = probe_read_list(fd, &list);
        if (r < 0)
                return complain("ioctl", r);
        for (uint32_t i = 0; i < list->count; i++)
                printf("0x%" PRIx64 "\n", list->entries[i].offset);
        return 0;
}

/* egm-probe rules WHICH VARIANT N: holds /dev/egmN against what VARIANT should do. */
static int run_rules(int argc, char *argv[]) {
        static const struct {
                const char *name;
                void (*run)(Probe *p);
        } rules[] = {
                        {"open", probe_open_rules},     {"map", probe_map_rules},
                        {"file", probe_file_rules},     {"list", probe_list_rules},
                        {"poison", probe_poison_rules}, {"export", probe_export_rules},
        };
        Probe probe;
        int r;

        if (argc != 5)
                return 2;
        r = probe_init(&probe, argv[3], argv[4]);
        if (r < 0)
                return complain("probe", r);
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                if (streq(rules[i].name, argv[2])) {
                        rules[i].run(&probe);
                        return probe.n_failed > 0;
                }
        return 2;
}

int main(int argc, char *argv[]) {
        static const struct {
                const char *name;
                int (*run)(int argc, char *argv[]);
        } verbs[] = {
                        {"expect", run_bytes}, {"fill", run_bytes}, {"hold", run_hold},
                        {"list", run_list},    {"map", run_bytes},  {"open", run_open},
                        {"rules", run_rules},
        };

        for (size_t i = 0; argc > 2 && i < ELEMENTSOF(verbs); i++)
                if (streq(verbs[i].name, argv[1]))
                        return verbs[i].run(argc, argv);
        (void) fputs("usage: egm-probe expect|fill|hold|list|map|open|rules ...\n", stderr);
        return 2;
}
