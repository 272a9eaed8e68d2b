/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A VMM as far as its memory goes: opens it by path, maps it, and does to it what the arguments say, in order:
 *
 *     rw=PATH, ro=PATH      open it; of several, the last one is used
 *     map=OFFSET+SIZE       map it, shared
 *     private=OFFSET+SIZE   not shared
 *     fill=BYTE, expect=BYTE
 *     retired               ask for the list of retired pages
 *     wait                  for the end of input
 *
 * Says each and what came of it. Exit: 0, or 1 if anything failed. Links with nothing, so that it can be static. */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int fd = -1;
static unsigned char *bytes;
static size_t n_bytes;

static int do_open(const char *path, int flags) {
        fd = open(path, flags);
        return fd < 0 ? -errno : 0;
}

static int do_map(const char *where, int flags) {
        unsigned long long offset, size;
        void *p;

        if (sscanf(where, "%llu+%llu", &offset, &size) != 2)
                return -EINVAL;
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, (off_t) offset);
        if (p == MAP_FAILED)
                return -errno;
        bytes = p;
        n_bytes = size;
        return 0;
}

static int do_expect(unsigned byte) {
        for (size_t i = 0; i < n_bytes; i++)
                if (bytes[i] != byte)
                        return -EILSEQ;
        return bytes ? 0 : -EINVAL;
}

static int do_retired(void) {
        static struct {
                uint32_t argsz, count;
                struct {
                        uint64_t offset, size;
                } pages[65536];
        } list = {.argsz = sizeof(list)};
        uint64_t size = 0;

        if (ioctl(fd, 0x4564, &list) < 0)
                return -errno;
        for (uint32_t i = 0; i < list.count; i++)
                size += list.pages[i].size;
        if (list.count > 0)
                printf("%llu+%llu ", (unsigned long long) list.pages[0].offset,
                       (unsigned long long) size);
        return 0;
}

static int do_wait(void) {
        char byte;

        puts("waiting");
        (void) fflush(stdout);
        while (read(STDIN_FILENO, &byte, 1) > 0)
                ;
        return 0;
}

static int act(const char *verb, const char *value) {
        if (strcmp(verb, "rw") == 0)
                return do_open(value, O_RDWR);
        if (strcmp(verb, "ro") == 0)
                return do_open(value, O_RDONLY);
        if (strcmp(verb, "map") == 0)
                return do_map(value, MAP_SHARED);
        if (strcmp(verb, "private") == 0)
                return do_map(value, MAP_PRIVATE);
        if (strcmp(verb, "expect") == 0)
                return do_expect((unsigned) strtoul(value, NULL, 0));
        if (strcmp(verb, "retired") == 0)
                return do_retired();
        if (strcmp(verb, "wait") == 0)
                return do_wait();
        if (strcmp(verb, "fill") != 0 || !bytes)
                return -EINVAL;
        memset(bytes, (int) strtoul(value, NULL, 0), n_bytes);
        return 0;
}

int main(int argc, char **argv) {
        int status = 0;

        for (int i = 1; i < argc; i++) {
                char *value = strchr(argv[i], '=');
                int r;

                if (value)
                        *value++ = '\0';
                r = act(argv[i], value ? value : "");
                printf("%s: %s\n", argv[i], r < 0 ? strerror(-r) : "fine");
                if (r < 0)
                        status = 1;
        }
        return status;
}
