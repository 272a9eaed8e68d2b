/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "extent-map.h"
#include "test.h"

/* A map as a string with a letter for each granule: "." free, "d" dirty, "s" scrubbing, "r"
 * retired; those with an owner: "A" leased to 1, "B" to 2…, "1" draining from 1…, "!" retired. */

static inline char extent_letter(const Extent *e) {
        switch (e->state) {
        case EXTENT_FREE:
                return '.';
        case EXTENT_DIRTY:
                return 'd';
        case EXTENT_SCRUBBING:
                return 's';
        case EXTENT_RETIRED:
                return e->owner == 0 ? 'r' : '!';
        case EXTENT_LEASED:
                return (char) ('A' + e->owner - 1);
        case EXTENT_DRAINING:
                return (char) ('0' + e->owner);
        default:
                return '?';
        }
}

/* What the map holds behind what is expected is not compared. */
static inline void map_expect(const ExtentMap *m, uint64_t granule, const char *expected) {
        char text[256] = {};
        Extent e;

        for (uint64_t at = 0; extent_map_get(m, at, &e); at = e.offset + e.size) {
                assert_int_equal(e.offset, at);
                memset(text + at / granule, extent_letter(&e), e.size / granule);
        }
        text[strlen(expected)] = 0;
        assert_string_equal(text, expected);
        extent_map_check(m);
}

static inline ExtentMap *map_from(uint64_t granule, const char *text) {
        ExtentMap *m;

        assert_int_equal(extent_map_new(strlen(text) * granule, granule, &m), 0);
        for (size_t i = 0; text[i]; i++) {
                uint64_t at = i * granule, owner = 0;
                char c = text[i];

                if (c >= 'A' && c <= 'Z')
                        owner = (uint64_t) (c - 'A' + 1);
                else if (c >= '0' && c <= '9')
                        owner = (uint64_t) (c - '0');
                else if (c == '!')
                        owner = 1;
                if (owner > 0)
                        assert_int_equal(extent_map_adopt(m, at, granule, owner), 0);
                if (c >= '0' && c <= '9')
                        assert_int_equal(extent_map_drain(m, at, granule, owner), 0);
                if (c == 'r' || c == '!')
                        assert_int_equal(extent_map_retire(m, at, granule, NULL), 0);
                if (c == '.' || c == 's')
                        assert_int_equal(extent_map_begin_scrub(m, at, granule), 0);
                if (c == '.')
                        assert_int_equal(extent_map_end_scrub(m, at, granule, true), 0);
        }
        map_expect(m, granule, text);
        return m;
}
#define _cleanup_map_ _cleanup_(extent_map_freep)
