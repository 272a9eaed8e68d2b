/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/uio.h>

#include "backoff.h"
#include "log.h"
#include "manager.h"
#include "region-scrub.h"
#include "sigbus.h"
#include "size.h"

/* Small enough that memory comes back piece by piece, large enough that a piece costs no more than its bytes. */
#define PIECE_SIZE (1 * GIB)
#define PIECES_MAX 2U
#define RETRY_MIN_USEC (1 * USEC_PER_SEC)
#define RETRY_MAX_USEC (60 * USEC_PER_SEC)

typedef struct RegionScrub {
        Region *region;
        ScrubJob *job;
        uint64_t offset;
        uint64_t size;
        bool unbooked; /* bad memory in it that could not be retired */
        struct RegionScrub *next;
} RegionScrub;

static void on_progress(ScrubJob *j, uint64_t done, void *userdata) {
        RegionScrub *s = userdata;

        manager_region_changed(s->region->manager, s->region);
}

static void on_bad(ScrubJob *j, uint64_t offset, uint64_t size, void *userdata) {
        RegionScrub *s = userdata;
        Region *r = s->region;
        uint64_t fresh;

        if (!r->map)
                return;
        if (region_retire(r, offset, size, &fresh) < 0)
                s->unbooked = true;
        else if (fresh > 0) {
                r->manager->counters.bad_pages++;
                log_warning("%s: bad memory at %#" PRIx64 "+%#" PRIx64 ": retired", r->name, offset,
                            size);
        }
}

static int on_scrub_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Region *r = userdata;

        r->scrub_retry = sd_event_source_disable_unref(r->scrub_retry);
        region_scrub_kick(r);
        return 0;
}

static void scrub_failed(Region *r, const RegionScrub *s, int error) {
        uint64_t delay = backoff_usec(RETRY_MIN_USEC, RETRY_MAX_USEC, r->n_scrub_failures);
        int k;

        if (r->n_scrub_failures++ == 0)
                (void) log_error_errno(error,
                                       "%s: failed to scrub %#" PRIx64 "+%#" PRIx64
                                       ": %m; trying again",
                                       r->name, s->offset, s->size);
        if (r->scrub_retry)
                return;
        k = sd_event_add_time_relative(r->manager->event, &r->scrub_retry, CLOCK_MONOTONIC, delay,
                                       delay / 4, on_scrub_retry, r);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to set a timer: %m", r->name);
}

static void region_scrub_unlink(RegionScrub *s) {
        for (RegionScrub **p = &s->region->scrubs; *p; p = &(*p)->next)
                if (*p == s) {
                        *p = s->next;
                        return;
                }
}

static void on_finished(ScrubJob *j, int error, void *userdata) {
        _cleanup_free_ RegionScrub *s = userdata;
        Region *r = s->region;
        int k;

        region_scrub_unlink(s);
        if (r->state != REGION_READY) {
                /* What it had is forgotten; it starts dirty if it comes back. */
                region_settle(r);
                return;
        }
        /* It will turn out to be bad once more. */
        if (error >= 0 && s->unbooked)
                error = -ENOMEM;
        if (error >= 0)
                /* A page that went bad while we wrote must not become free. */
                region_poll_retired(r);
        k = extent_map_end_scrub(r->map, s->offset, s->size, error >= 0);
        if (k < 0)
                (void) log_error_errno(
                                k, "%s: failed to book the scrub of %#" PRIx64 "+%#" PRIx64 ": %m",
                                r->name, s->offset, s->size);
        manager_region_changed(r->manager, r);
        if (error < 0 || k < 0) {
                if (error != -ECANCELED)
                        scrub_failed(r, s, error < 0 ? error : k);
                return;
        }
        r->n_scrub_failures = 0;
        r->manager->counters.scrubbed_bytes += s->size;
        manager_range_clean(r->manager, r, s->offset, s->size);
        region_scrub_kick(r);
        manager_serve_waiters(r->manager);
}

static const ScrubOps scrub_ops = {
                .progress = on_progress,
                .bad = on_bad,
                .finished = on_finished,
};

static int start_piece(Region *r, uint64_t offset, uint64_t size) {
        _cleanup_free_ RegionScrub *s = NULL;
        int k;

        s = malloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (RegionScrub){.region = r, .offset = offset, .size = size, .next = r->scrubs};
        k = extent_map_begin_scrub(r->map, offset, size);
        if (k < 0)
                return k;
        k = scrubber_submit(r->manager->scrubber, r->provider, r->info->node, offset, size,
                            manager_wants(r->manager, r), &scrub_ops, s, &s->job);
        if (k < 0) {
                (void) extent_map_end_scrub(r->map, offset, size, false);
                return k;
        }
        r->scrubs = TAKE_PTR(s);
        manager_region_changed(r->manager, r);
        return 0;
}

/* Where offsets are ignored nothing but one mapping from the start reaches a byte, so nobody may hold any part of the
 * region meanwhile, and all of it goes in one piece. */
static bool may_scrub(const Region *r) {
        return !region_ignores_offsets(r) || extent_map_owned(r->map) == 0;
}

void region_scrub_kick(Region *r) {
        unsigned n = 0;
        bool wanted;
        Extent e;

        assert(r);

        if (r->state != REGION_READY || r->scrub_retry || r->manager->stopping)
                return;
        wanted = r->scrubs && manager_wants(r->manager, r);
        for (RegionScrub *s = r->scrubs; s; s = s->next) {
                if (wanted)
                        scrub_job_set_urgent(s->job);
                n++;
        }
        while (n < PIECES_MAX && may_scrub(r) && extent_map_next(r->map, 0, EXTENT_DIRTY, &e)) {
                uint64_t size = region_ignores_offsets(r) ? e.size : MIN(e.size, PIECE_SIZE);
                int k;

                k = start_piece(r, e.offset, size);
                if (k < 0) {
                        scrub_failed(r, &(RegionScrub){.offset = e.offset, .size = size}, k);
                        return;
                }
                n++;
        }
}

void region_scrub_stop(Region *r) {
        assert(r);

        r->scrub_retry = sd_event_source_disable_unref(r->scrub_retry);
        for (RegionScrub *s = r->scrubs; s; s = s->next)
                scrub_job_cancel(s->job);
}

/* Bad memory is bad by the line: everything around the lines that give SIGBUS is overwritten. */
#define LINE_SIZE 64U
#define PAGE_STEP 4096U

static void zero_step(void *userdata) {
        const struct iovec *v = userdata;

        memset(v->iov_base, 0, v->iov_len);
}

/* 1: SIGBUS. */
static int zero_guarded(char *p, size_t size) {
        struct iovec v = {.iov_base = p, .iov_len = size};

        return sigbus_guard_run(zero_step, &v, p, size, NULL);
}

static int zero_what_can_be(char *p, size_t size) {
        for (size_t at = 0; at < size; at += PAGE_STEP) {
                int r = zero_guarded(p + at, PAGE_STEP);

                for (size_t line = 0; r > 0 && line < PAGE_STEP; line += LINE_SIZE) {
                        int k = zero_guarded(p + at + line, LINE_SIZE);

                        if (k < 0)
                                return k;
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

bool region_scrub_touches(const Region *r, uint64_t offset, uint64_t size) {
        assert(r);

        for (const RegionScrub *s = r->scrubs; s; s = s->next)
                if (offset < s->offset + s->size && s->offset < offset + size)
                        return true;
        return false;
}

int region_scrub_retired(Region *r, uint64_t offset, uint64_t size) {
        _cleanup_ranges_ Ranges inside = {};
        int k;

        assert(r);

        k = ranges_clip(&r->retired, offset, size, &inside);
        if (k < 0)
                return k;
        RANGES_FOREACH (i, &inside) {
                Window w;

                k = provider_map(r->provider, i->offset, (size_t) i->size, true, &w);
                if (k < 0)
                        return k;
                k = zero_what_can_be(w.address, w.size);
                provider_unmap(r->provider, &w);
                if (k < 0)
                        return k;
        }
        return 0;
}

void region_scrub_forget(Region *r) {
        RegionScrub *s;

        assert(r);

        while ((s = r->scrubs)) {
                r->scrubs = s->next;
                free(s);
        }
}

uint64_t region_scrub_progress(const Region *r) {
        uint64_t sum = 0;

        assert(r);

        for (const RegionScrub *s = r->scrubs; s; s = s->next)
                sum += scrub_job_done(s->job);
        return sum;
}
