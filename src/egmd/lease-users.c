/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "fd-util.h"
#include "lease-users.h"
#include "size.h"

#define NAMED_MAX 3U
#define LABEL_MAX_BYTES 32U

typedef struct User {
        const Lease *lease;
        uint64_t bytes;
} User;

static uint64_t bytes_in(const Lease *l, const void *region) {
        uint64_t sum = 0;

        for (size_t i = 0; i < l->n_slices; i++) {
                const Slice *s = l->slices + i;

                if (s->region == region && (s->phase == SLICE_LEASED || s->phase == SLICE_DRAINING))
                        sum += s->size;
        }
        return sum;
}

/* Keeps the first NAMED_MAX sorted, the largest first; of equals the oldest. */
static void rank(User *top, size_t *n, const Lease *l, uint64_t bytes) {
        size_t at = *n;

        while (at > 0 && top[at - 1].bytes < bytes)
                at--;
        if (at >= NAMED_MAX)
                return;
        *n = MIN(*n + 1, (size_t) NAMED_MAX);
        memmove(top + at + 1, top + at, (*n - at - 1) * sizeof(*top));
        top[at] = (User){.lease = l, .bytes = bytes};
}

/* Labels are UTF-8: cut between two characters. */
static int label_length(const char *label) {
        size_t n = strlen(label);

        if (n > LABEL_MAX_BYTES)
                for (n = LABEL_MAX_BYTES; n > 0 && ((unsigned char) label[n] & 0xc0) == 0x80;)
                        n--;
        return (int) n;
}

static void describe(FILE *f, const User *u, uid_t asker) {
        const Lease *l = u->lease;

        bool named = asker == 0 || asker == l->owner_uid;

        (void) fprintf(f, "lease %" PRIu64, l->id);
        if (named && l->label && *l->label)
                (void) fprintf(f, " \"%.*s\"", label_length(l->label), l->label);
        (void) fprintf(f, " (uid %u, ", (unsigned) l->owner_uid);
        if (named && l->holder_unit && *l->holder_unit)
                (void) fprintf(f, "%.64s, ", l->holder_unit);
        (void) fprintf(f, "%s)", FORMAT_SIZE(u->bytes));
}

int lease_users(const LeaseTree *leases, const void *region, uid_t asker, char **ret) {
        size_t n = 0, n_all = 0, size;
        User top[NAMED_MAX];
        char *text = NULL;
        Lease *l;
        FILE *f;

        assert(leases);
        assert(region);
        assert(ret);

        RB_FOREACH (l, LeaseTree, (LeaseTree *) leases) {
                uint64_t bytes = bytes_in(l, region);

                if (bytes == 0)
                        continue;
                n_all++;
                rank(top, &n, l, bytes);
        }
        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        (void) fputs(i + 1 == n && n == n_all ? " and " : ", ", f);
                describe(f, top + i, asker);
        }
        if (n_all > n)
                (void) fprintf(f, " and %zu more", n_all - n);
        if (memstream_close(f, &text) < 0)
                return -ENOMEM;
        *ret = text;
        return 0;
}
