/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <unistd.h>

#include "enforce.h"

/* Who is under way is where he wants to be a moment later, mostly. */
#define LOOKS 3U

void enforce_look_done(EnforceLook *l) {
        assert(l);

        free(l->mappings);
        free(l->flights);
        *l = (EnforceLook){};
}

static int watch_compare(const void *a, const void *b) {
        return memcmp(a, b, sizeof(EnforceWatch));
}

static void sort_watches(EnforceWatch *w, size_t n) {
        if (n > 0)
                qsort(w, n, sizeof(*w), watch_compare);
}

/* Whoever is in one list only may have moved his mappings to where they had been looked for already. */
static int add_restless(EnforceLook *l, EnforceWatch *a, size_t n_a, EnforceWatch *b, size_t n_b) {
        size_t i = 0, k = 0, n;
        EnforceFlight *t;

        t = reallocarray(l->flights, l->n_flights + n_a + n_b + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        l->flights = t;
        n = 0;
        for (size_t f = 0; f < l->n_flights; f++)
                if (t[f].under_way)
                        t[n++] = t[f];
        l->n_flights = n;
        sort_watches(a, n_a);
        sort_watches(b, n_b);
        while (i < n_a || k < n_b) {
                int c = i == n_a ? 1 : k == n_b ? -1 : watch_compare(a + i, b + k);
                const EnforceWatch *w = c <= 0 ? a + i : b + k;

                if (w->counted == 0)
                        return -EOPNOTSUPP;
                if (c != 0)
                        t[l->n_flights++] = (EnforceFlight){
                                        .number = w->number, .pid = w->pid, .under_way = 1};
                i += c <= 0;
                k += c >= 0;
        }
        return 0;
}

/* What we map we scrub, for one. */
static void leave_us_out(EnforceLook *l) {
        size_t n = 0;

        for (size_t i = 0; i < l->n_mappings; i++)
                if (l->mappings[i].pid != (__u64) getpid())
                        l->mappings[n++] = l->mappings[i];
        l->n_mappings = n;
}

/* Mappings are listed one process after the other, and the kernel lets go of one's memory now and then. What moves from
 * where nobody has looked yet to where it was looked for is not seen; it moves by mremap() or with a fork, and both
 * change the count of changes of the memory it was in. So the list is right for bearers whose count was the same before and
 * after. A fork that counted before has a child to be seen, or a thread that is still inside of it: these come after the first
 * count. Who shares memory with a bearer (clone() with CLONE_VM) is one, too. */
static int look_once(Enforce *e, EnforceLook *ret) {
        _cleanup_(enforce_look_done) EnforceLook l = {};
        _cleanup_free_ EnforceWatch *before = NULL, *after = NULL;
        size_t n_before, n_after;
        int r;

        r = enforce_watches(e, &before, &n_before);
        if (r >= 0)
                r = enforce_flights(e, &l.flights, &l.n_flights);
        if (r >= 0)
                r = enforce_mappings(e, &l.mappings, &l.n_mappings);
        if (r >= 0)
                r = enforce_watches(e, &after, &n_after);
        if (r >= 0)
                r = add_restless(&l, before, n_before, after, n_after);
        if (r < 0)
                return r;
        leave_us_out(&l);
        *ret = TAKE_GENERIC(l, EnforceLook, (EnforceLook){});
        return 0;
}

int enforce_look(Enforce *e, EnforceLook *ret) {
        _cleanup_(enforce_look_done) EnforceLook l = {};
        unsigned left = LOOKS;

        assert(e);
        assert(ret);

        do {
                int r;

                enforce_look_done(&l);
                r = look_once(e, &l);
                if (r < 0)
                        return r;
        } while (l.n_flights > 0 && --left > 0);
        *ret = TAKE_GENERIC(l, EnforceLook, (EnforceLook){});
        return 0;
}

int enforce_look_pids(const EnforceLook *l, pid_t **ret, size_t *ret_n) {
        pid_t *pids = calloc(l->n_mappings + 1, sizeof(*pids));
        size_t n = 0;

        assert(l);
        assert(ret);
        assert(ret_n);

        if (!pids)
                return -ENOMEM;
        for (size_t i = 0; i < l->n_mappings; i++)
                if (n == 0 || pids[n - 1] != (pid_t) l->mappings[i].pid)
                        pids[n++] = (pid_t) l->mappings[i].pid;
        *ret = pids;
        *ret_n = n;
        return 0;
}
