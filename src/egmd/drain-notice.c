/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>

#include "drain-notice.h"
#include "log.h"
#include "manager.h"
#include "size.h"
#include "turn.h"

/* With the default, once an hour after the first minute. */
#define AGAIN 60U

bool drain_notice_is_due(Lease *l, uint64_t now, uint64_t after) {
        assert(l);

        if (l->drains_since == 0)
                return false;
        if (now < (l->drain_notice_at ?: l->drains_since + after))
                return false;
        l->drain_notice_at = now + after * AGAIN;
        return true;
}

static void describe_slices(const Lease *l, FILE *f, bool *ret_stuck) {
        const char *separator = "";

        *ret_stuck = false;
        for (size_t i = 0; i < l->n_slices; i++) {
                const Slice *s = l->slices + i;

                if (s->phase != SLICE_DRAINING)
                        continue;
                (void) fprintf(f, "%s%s of %s", separator, FORMAT_SIZE(s->size), s->region_name);
                separator = ", ";
                *ret_stuck = *ret_stuck || s->is_stuck;
        }
}

int drain_notice_text(const Lease *l, uint64_t now, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        bool stuck;
        FILE *f;

        assert(l);
        assert(ret);

        f = open_memstream(&text, &size);
        if (!f)
                return -ENOMEM;
        (void) fprintf(f, "Lease %" PRIu64 " (%s): ", l->id, l->label);
        describe_slices(l, f, &stuck);
        (void) fprintf(f, " are not free %" PRIu64 " s after its end: ",
                       (now - l->drains_since) / USEC_PER_SEC);
        if (l->n_blockers > 0) {
                const Blocker *b = l->blockers;

                (void) fprintf(f, "held up by pid %i (%s)", (int) b->pid, b->comm);
                if (*b->unit)
                        (void) fprintf(f, " of %s", b->unit);
                if (l->n_blockers > 1)
                        (void) fprintf(f, " and %zu more", l->n_blockers - 1);
                (void) fprintf(f, "; \"egmctl release --kill %" PRIu64 "\" ends who does", l->id);
        } else if (stuck)
                (void) fputs("what is over cannot be written down", f);
        else
                (void) fputs("that nobody has it cannot be made sure of", f);
        if (fclose(f) != 0)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        return 0;
}

void drain_notices(Manager *m) {
        uint64_t now = turn_now() / NSEC_PER_USEC;

        assert(m);

        for (size_t i = 0; i < m->n_regions; i++) {
                const Slice *s;

                TAILQ_FOREACH (s, &m->regions[i]->draining, phase_link) {
                        _cleanup_free_ char *text = NULL;

                        if (s->lease->hidden ||
                            !drain_notice_is_due(s->lease, now, m->config->drain_notice_usec))
                                continue;
                        if (drain_notice_text(s->lease, now, &text) < 0)
                                (void) log_oom();
                        else
                                log_warning("%s", text);
                }
        }
}
