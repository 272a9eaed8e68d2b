/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "map-picture.h"

char map_lease_mark(size_t i) {
        static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

        return letters[i % (sizeof(letters) - 1)];
}

static char cell_mark(const MapExtent *extents, size_t n, uint64_t begin, uint64_t end) {
        uint64_t bytes[256] = {}, known = 0, most = 0;
        char mark = MAP_FREE;

        for (size_t i = 0; i < n; i++) {
                uint64_t from = MAX(extents[i].offset, begin);
                uint64_t to = MIN(extents[i].offset + extents[i].size, end);
                unsigned char c = (unsigned char) extents[i].mark;

                if (extents[i].offset >= end)
                        break;
                if (from >= to)
                        continue;
                known += to - from;
                bytes[c] += to - from;
                if (c == MAP_RETIRED)
                        return MAP_RETIRED;
                if (c != MAP_FREE && bytes[c] > most) {
                        most = bytes[c];
                        mark = extents[i].mark;
                }
        }
        return known < end - begin ? MAP_UNKNOWN : mark;
}

void map_picture(const MapExtent *extents, size_t n, uint64_t size, size_t width, char *ret) {
        size_t first = 0;

        for (size_t i = 0; i < width; i++) {
                uint64_t begin = (uint64_t) ((unsigned __int128) size * i / width);
                uint64_t end = (uint64_t) ((unsigned __int128) size * (i + 1) / width);

                /* A region of fewer bytes than characters: some show the same byte. */
                if (end == begin)
                        end = begin + 1;
                while (first < n && extents[first].offset + extents[first].size <= begin)
                        first++;
                ret[i] = cell_mark(extents + first, n - first, begin, end);
        }
        ret[width] = '\0';
}
