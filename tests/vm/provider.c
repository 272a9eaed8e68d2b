/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fd-util.h"
#include "log.h"
#include "provider.h"
#include "sigbus.h"
#include "size.h"

/* egm-provider DEVICE SIZE COMMAND [OFFSET]...: the daemon's own provider on a device, in the test
 * VM. Each command prints one line; what fails prints "COMMAND: errno's name".
 *     open, probe, retired     as their functions are called
 *     zero                     reads everything, passing over what is bad
 *     mark OFFSET              writes there and looks for it, also through a mapping from 0
 * In this order: a word each, as many as wanted. */

typedef struct Reading {
        const unsigned char *at;
        size_t size;
        volatile size_t done;
        volatile bool dirty;
} Reading;

static void say(const char *what, int r) {
        printf("%s: %s\n", what, r < 0 ? strerrorname_np(-r) : "ok");
}

static void read_chunk(void *userdata) {
        Reading *r = userdata;

        for (size_t i = 0; i < r->size; i++)
                r->dirty |= r->at[i] != 0;
}

/* By the granule, so that bad pages cost no more than themselves. */
static int do_zero(Provider *p) {
        size_t bad = 0;
        Reading reading = {.size = p->granule};

        for (uint64_t at = 0; at < p->size; at += p->granule) {
                Window w;
                int r;

                r = provider_map(p, at, p->granule, false, &w);
                if (r < 0)
                        return r;
                reading.at = w.address;
                bad += sigbus_guard_run(read_chunk, &reading, w.address, w.size, NULL) == 1;
                provider_unmap(p, &w);
        }
        printf("zero: %s, %zu bad\n", reading.dirty ? "no" : "yes", bad);
        return 0;
}

static int do_mark(Provider *p, uint64_t offset) {
        static const char mark[] = "here";
        Window far = {}, all = {};
        int r;

        r = provider_map(p, offset, sizeof(mark), true, &far);
        if (r >= 0)
                r = provider_map(p, 0, p->size, false, &all);
        if (r >= 0) {
                bool seen;

                memcpy(far.address, mark, sizeof(mark));
                seen = memcmp((char *) all.address + offset, mark, sizeof(mark)) == 0;
                memset(far.address, 0, sizeof(mark));
                printf("mark: %s\n", seen ? "seen" : "lost");
        }
        provider_unmap(p, &all);
        provider_unmap(p, &far);
        return r;
}

static int do_retired(Provider *p) {
        _cleanup_ranges_ Ranges l = {};
        int r;

        r = provider_retired(p, &l);
        if (r < 0)
                return r;
        printf("retired:");
        RANGES_FOREACH (i, &l)
                printf(" %#" PRIx64 "+%#" PRIx64, i->offset, i->size);
        printf("\n");
        return 0;
}

static int run(Provider *p, const char *command, const char *argument) {
        uint64_t offset;
        int r;

        if (streq(command, "open")) {
                r = provider_open(p);
                say(command, r);
                return r < 0 ? r : 0;
        }
        if (streq(command, "probe")) {
                r = provider_probe(p);
                if (r >= 0)
                        printf("probe: %s\n", p->offsets ? "offsets" : "whole-only");
        } else if (streq(command, "retired"))
                r = do_retired(p);
        else if (streq(command, "zero"))
                r = do_zero(p);
        else if (streq(command, "mark") && argument && parse_size(argument, &offset) >= 0)
                r = do_mark(p, offset);
        else
                r = -EINVAL;
        if (r < 0)
                say(command, r);
        return r;
}

/* $EGM_DEVICE: another device whose number it should have. */
int main(int argc, char *argv[]) {
        _cleanup_(provider_freep) Provider *p = NULL;
        const char *same = getenv("EGM_DEVICE");
        struct stat st;
        uint64_t size;

        if (argc < 4 || parse_size(argv[2], &size) < 0 || stat(same ?: argv[1], &st) < 0)
                return EXIT_FAILURE;
        log_open();
        if (provider_nvgrace_new("egm", argv[1], st.st_rdev, size, &p) < 0)
                return EXIT_FAILURE;
        for (int i = 3; i < argc; i++) {
                bool has_argument = streq(argv[i], "mark");

                if (run(p, argv[i], has_argument ? argv[i + 1] : NULL) < 0)
                        return EXIT_FAILURE;
                i += has_argument;
        }
        return EXIT_SUCCESS;
}
