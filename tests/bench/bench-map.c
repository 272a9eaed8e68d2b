/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The extent map as a grant and its way back use it, with few extents and with many.
 *     bench-map EXTENTS ROUNDS CYCLES
 * All runs of free bytes but one are of one granule, in the worst of places for a search from the start. */

#include "bench.h"
#include "extent-map.h"

#define GRANULE (64 * KIB)

static ExtentMap *map_new(size_t extents) {
        uint64_t size = MAX(extents, (size_t) 4) * GRANULE + 64 * GRANULE;
        ExtentMap *m;

        bench_check(extent_map_new(size, GRANULE, &m), "map");
        bench_check(extent_map_begin_scrub(m, 0, size), "scrub");
        bench_check(extent_map_end_scrub(m, 0, size, true), "scrub");
        /* Every second granule is lent, to an owner of its own. */
        for (size_t i = 0; i < extents; i += 2)
                bench_check(extent_map_lease(m, i * GRANULE, GRANULE, i + 1, false), "lease");
        return m;
}

/* Best fit, grant, release, reclaim, scrub: a slice's whole life. */
static void cycle(ExtentMap *m) {
        uint64_t offset, size = 16 * GRANULE;
        Extent e;

        bench_check(extent_map_fit(m, size, GRANULE, false, &offset), "fit");
        bench_check(extent_map_lease(m, offset, size, UINT64_MAX, false), "lease");
        bench_check(extent_map_drain(m, offset, size, UINT64_MAX), "drain");
        bench_check(extent_map_reclaim(m, offset, size, UINT64_MAX), "reclaim");
        if (!extent_map_next(m, 0, EXTENT_DIRTY, &e))
                errx(EXIT_FAILURE, "nothing is dirty");
        bench_check(extent_map_begin_scrub(m, e.offset, e.size), "scrub");
        bench_check(extent_map_end_scrub(m, e.offset, e.size, true), "scrub");
}

int main(int argc, char *argv[]) {
        size_t sizes[2] = {10}, rounds, cycles;
        ExtentMap *maps[2];

        if (argc != 4)
                errx(EXIT_FAILURE, "usage: bench-map EXTENTS ROUNDS CYCLES");
        sizes[1] = bench_number(argv[1]);
        rounds = bench_number(argv[2]);
        cycles = bench_number(argv[3]);
        for (size_t k = 0; k < 2; k++)
                maps[k] = map_new(sizes[k]);
        for (size_t i = 0; i < rounds; i++)
                for (size_t k = 0; k < 2; k++) {
                        uint64_t t = bench_clock(CLOCK_THREAD_CPUTIME_ID);

                        for (size_t n = 0; n < cycles; n++)
                                cycle(maps[k]);
                        t = bench_clock(CLOCK_THREAD_CPUTIME_ID) - t;
                        printf("{\"who\": \"%s\", \"what\": \"map\", \"extents\": %zu, \"us\": "
                               "%.4f}\n",
                               k == 0 ? "few" : "many", extent_map_count(maps[k]),
                               (double) t / 1e3 / (double) cycles);
                }
        for (size_t k = 0; k < 2; k++)
                extent_map_free(maps[k]);
        return EXIT_SUCCESS;
}
