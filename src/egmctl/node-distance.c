/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>

#include "fd-util.h"
#include "index-list.h"
#include "node-distance.h"
#include "size.h"

#define NODE_MAX 4095U
#define FILE_MAX (64 * KIB)

void node_distances_done(NodeDistances *d) {
        free(d->nodes);
        free(d->values);
        *d = (NodeDistances){};
}

int node_distances_parse_row(const char *text, uint8_t *row, size_t n) {
        _cleanup_free_ char *copy = strdup(text);
        char *p = copy, *word;
        size_t i = 0;

        if (!copy)
                return -ENOMEM;
        copy[strcspn(copy, "\n")] = '\0';
        while ((word = strsep(&p, " "))) {
                uint64_t v;

                if (!*word && !p)
                        break;
                if (i == n || parse_uint64(word, &v) < 0 || v < NODE_DISTANCE_LOCAL ||
                    v > NODE_DISTANCE_MAX)
                        return -EINVAL;
                row[i++] = (uint8_t) v;
        }
        return i == n ? 0 : -EINVAL;
}

static int read_online(int dir_fd, NodeDistances *d) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_full_file_at(dir_fd, "online", FILE_MAX, &text, NULL);
        if (r < 0)
                return r;
        text[strcspn(text, "\n")] = '\0';
        return parse_index_list(text, NODE_MAX, &d->nodes, &d->n_nodes);
}

static int read_row(int dir_fd, NodeDistances *d, size_t i) {
        _cleanup_free_ char *text = NULL;
        char path[64];
        int r;

        (void) snprintf(path, sizeof(path), "node%u/distance", d->nodes[i]);
        r = read_full_file_at(dir_fd, path, FILE_MAX, &text, NULL);
        if (r < 0)
                return r;
        return node_distances_parse_row(text, d->values + i * d->n_nodes, d->n_nodes);
}

int node_distances_read(const char *directory, NodeDistances *ret, EgmError *reterr) {
        _cleanup_node_distances_ NodeDistances d = {};
        _cleanup_close_ int dir_fd = -EBADF;
        int r;

        dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = dir_fd < 0 ? -errno : read_online(dir_fd, &d);
        if (r >= 0 && d.n_nodes > 0) {
                d.values = calloc(d.n_nodes, d.n_nodes);
                if (!d.values)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < d.n_nodes && r >= 0; i++)
                r = read_row(dir_fd, &d, i);
        if (r == -ENOMEM)
                return r;
        if (r == -ENOENT && streq(directory, NODE_DIRECTORY)) {
                *ret = (NodeDistances){};
                return 0;
        }
        if (r < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: no usable distances of the host's nodes: %s", directory,
                                     strerror(-r));
        *ret = d;
        d = (NodeDistances){};
        return 0;
}

unsigned node_distances_get(const NodeDistances *d, int from, int to) {
        size_t a = SIZE_MAX, b = SIZE_MAX;

        if (from < 0 || to < 0)
                return 0;
        for (size_t i = 0; i < d->n_nodes; i++) {
                if (d->nodes[i] == (unsigned) from)
                        a = i;
                if (d->nodes[i] == (unsigned) to)
                        b = i;
        }
        return a == SIZE_MAX || b == SIZE_MAX ? 0 : d->values[a * d->n_nodes + b];
}
