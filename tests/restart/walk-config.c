/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>

#include "fd-util.h"

/* Small, so that every byte is looked at all the time; odd where that can hurt. */
const WalkRegionConfig walk_regions[WALK_REGIONS] = {
                {
                                .name = "egm4",
                                .variant = "S3",
                                .size = 8 * MIB,
                                .retired = {{3 * MIB, 64 * KIB}, {5 * MIB + 320 * KIB, 128 * KIB}},
                                .late = {6 * MIB + 64 * KIB, 64 * KIB},
                },
                {
                                .name = "egm5",
                                .variant = "S4",
                                .size = 6 * MIB,
                                .bad = {2 * MIB + 68 * KIB, 4 * KIB},
                                .late = {5 * MIB, 64 * KIB},
                },
                {
                                .name = "egm6",
                                .variant = "K2",
                                .size = 2 * MIB,
                                .whole_only = true,
                },
};

static void write_span(FILE *f, const WalkSpan *s, const char *separator) {
        (void) fprintf(f, "%s{\"offset\": %" PRIu64 ", \"size\": %" PRIu64 "}", separator,
                       s->offset, s->size);
}

static void write_region(FILE *f, size_t i, const WalkRegion *r, uint64_t fail_mmap) {
        const WalkRegionConfig *c = walk_regions + i;
        const char *separator = "";

        (void) fprintf(f,
                       "{\"name\": \"%s\", \"variant\": \"%s\", \"size\": %" PRIu64
                       ", \"instance\": %u, \"node\": %zu, \"socket\": %zu, \"retired\": [",
                       c->name, c->variant, r->size, r->instance, i, i);
        for (size_t k = 0; k < ELEMENTSOF(c->retired) && c->retired[k].size > 0; k++) {
                write_span(f, c->retired + k, separator);
                separator = ", ";
        }
        if (r->late && c->late.size > 0)
                write_span(f, &c->late, separator);
        (void) fputs("], \"faults\": {\"bad\": [", f);
        if (c->bad.size > 0)
                write_span(f, &c->bad, "");
        (void) fputs("]", f);
        if (fail_mmap > 0)
                (void) fprintf(f, ", \"mmap_fail_at\": %" PRIu64, fail_mmap);
        (void) fputs("}}", f);
}

int walk_config_write(const char *path, const WalkRegion regions[static WALK_REGIONS],
                      uint64_t fail_mmap) {
        _cleanup_fclose_ FILE *f = fopen(path, "we");
        const char *separator = "\n";

        if (!f)
                return -errno;
        (void) fputs("{\"regions\": [", f);
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                if (regions[i].gone)
                        continue;
                (void) fputs(separator, f);
                write_region(f, i, regions + i, fail_mmap);
                separator = ",\n";
        }
        (void) fputs("\n]}\n", f);
        return fflush(f) == 0 ? 0 : -errno;
}

bool walk_config_unscrubbable(unsigned region, uint64_t offset) {
        const WalkSpan *bad = &walk_regions[region].bad;

        return offset >= bad->offset && offset - bad->offset < bad->size;
}
