/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>

#include "egm-names.h"
#include "fd-util.h"

/* Threads that scrub run when nobody else does. */
#define START_TIMEOUT_USEC (120 * USEC_PER_SEC)
#define END_TIMEOUT_USEC (120 * USEC_PER_SEC)
#define SETTLE_TIMEOUT_USEC (120 * USEC_PER_SEC)
/* A signal may be what went wrong: without one, look again. */
#define LOOK_AGAIN_USEC (50 * USEC_PER_MSEC)
/* As often as a plan may strike, and once more. */
#define TRIES_MAX 12U

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

/* Asked without any care for what goes wrong. */
static int try_look(World *w, Picture *ret) {
        sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_call_method(w->bus, EGM_BUS_NAME, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                               "GetManagedObjects", NULL, &reply, "");
        if (r >= 0)
                r = picture_read(reply, ret);
        sd_bus_message_unref(reply);
        return r;
}

void world_fail(World *w, const char *file, int line, const char *format, ...) {
        _cleanup_free_ char *plan = fault_plan_format(&w->plan), *log = NULL;
        Picture p;
        va_list ap;

        (void) fprintf(stderr, "%s:%d: FAILED: ", file, line);
        va_start(ap, format);
        (void) vfprintf(stderr, format, ap);
        va_end(ap);
        (void) fprintf(stderr, "\nin the step \"%s\", with EGM_FAULT=%s", w->step, plan);
        if (w->page)
                (void) fprintf(stderr, ", which struck %" PRIuFAST32 " times, at %s()",
                               atomic_load(&w->page->hit),
                               w->page->call[0] ? w->page->call : "nothing");
        (void) fprintf(stderr, "; start %u, status %#x\n", w->n_starts,
                       (unsigned) keeper_exit_status(w->keeper));
        for (size_t i = 0; i < w->n_known; i++)
                (void) fprintf(stderr, "  known: %s %s%s%s\n", w->known[i]->label,
                               w->known[i]->path, w->known[i]->held ? " held" : "",
                               w->known[i]->parked ? " parked" : "");
        if (keeper_pid(w->keeper) > 0 && try_look(w, &p) >= 0)
                picture_print(&p, stderr);
        (void) fprintf(stderr, "  stored: %zu descriptors\n", keeper_n_stored(w->keeper));
        log = keeper_log_text(w->keeper);
        (void) fprintf(stderr, "log since the last start:\n%s\n", log);
        keeper_free(w->keeper);
        exit(EXIT_FAILURE);
}

bool world_excuse(World *w) {
        uint32_t hits = (uint32_t) atomic_load(&w->page->hit);
        bool b = hits != w->hits_excused;

        w->hits_excused = hits;
        return b;
}

/* Killed on purpose, or the daemon's own decision because of what went wrong; never a crash of its own making. */
static void check_end(World *w, int status, bool excused) {
        if (WIFSIGNALED(status))
                world_expect(w,
                             (WTERMSIG(status) == SIGKILL && w->plan.kind &&
                              !w->plan.kind->error) ||
                                             w->page->in_frail,
                             "the daemon died of %s", strsignal(WTERMSIG(status)));
        else
                world_expect(w, WEXITSTATUS(status) == EXIT_SUCCESS || excused,
                             "the daemon left with status %d", WEXITSTATUS(status));
}

static void check_log(World *w) {
        _cleanup_free_ char *log = keeper_log_text(w->keeper);

        world_expect(w, !strstr(log, "Sanitizer") && !strstr(log, "runtime error"),
                     "the daemon is broken");
}

static bool has_name(World *w) {
        return sd_bus_get_name_creds(w->bus, EGM_BUS_NAME, 0, NULL) >= 0;
}

/* Until the name comes or goes. */
static void wait_name(World *w, bool there) {
        uint64_t deadline = now_usec() + START_TIMEOUT_USEC;

        while (has_name(w) != there) {
                int r = sd_bus_process(w->bus, NULL);

                world_expect(w, r >= 0 && now_usec() < deadline, "the name did not %s",
                             there ? "come" : "go");
                if (r == 0)
                        (void) sd_bus_wait(w->bus, LOOK_AGAIN_USEC);
        }
}

void world_start(World *w) {
        for (unsigned i = 0; i < TRIES_MAX; i++) {
                int r;

                /* Who is gone has no name; the bus may need a moment to notice. */
                wait_name(w, false);
                r = keeper_start(w->keeper, START_TIMEOUT_USEC);
                w->n_starts++;
                world_expect(w, r >= 0, "the daemon did not start: %s", strerror(-r));
                if (r == 0)
                        return;
                check_log(w);
                check_end(w, keeper_exit_status(w->keeper), world_excuse(w));
        }
        world_fail(w, __FILE__, __LINE__, "the daemon never starts");
}

void world_revive(World *w) {
        int status, r;

        for (unsigned i = 0; i < TRIES_MAX; i++) {
                Picture p;

                r = keeper_wait(w->keeper, END_TIMEOUT_USEC, &status);
                world_expect(w, r >= 0, "the daemon answers nothing, but runs: %s", strerror(-r));
                check_log(w);
                check_end(w, status, true);
                world_start(w);
                if (try_look(w, &p) >= 0) {
                        world_check(w);
                        return;
                }
                if (keeper_wait(w->keeper, 0, NULL) == -ETIMEDOUT)
                        return; /* whoever looks next is answered */
        }
        world_fail(w, __FILE__, __LINE__, "the daemon never stays");
}

void world_stop(World *w) {
        bool excused;
        int status, r;

        r = keeper_signal(w->keeper, SIGTERM);
        if (r >= 0)
                r = keeper_wait(w->keeper, END_TIMEOUT_USEC, &status);
        world_expect(w, r >= 0, "the daemon does not obey SIGTERM: %s", strerror(-r));
        check_log(w);
        excused = world_excuse(w);
        check_end(w, status, excused);
        world_expect(w, excused || keeper_is_stopping(w->keeper),
                     "the daemon did not say that it leaves");
}

void world_restart(World *w) {
        world_stop(w);
        world_start(w);
        world_check(w);
}

static bool died(const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_SERVICE_UNKNOWN,
                                      SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_DISCONNECTED);
}

Answer world_call(World *w, sd_bus_message *m, sd_bus_message **ret_reply,
                  sd_bus_error *ret_error) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_call(w->bus, m, 0, &e, ret_reply);
        sd_bus_message_unref(m);
        if (r >= 0)
                return ANSWER_OK;
        if (died(&e)) {
                sd_bus_error_free(&e);
                (void) world_excuse(w);
                world_revive(w);
                return ANSWER_NONE;
        }
        world_expect(w, sd_bus_error_is_set(&e), "calling failed: %s", strerror(-r));
        sd_bus_error_move(ret_error, &e);
        return ANSWER_REFUSED;
}

/* Asks until there is an answer. */
static sd_bus_message *ask(World *w, const char *path, const char *interface, const char *member,
                           const char *a, const char *b) {
        for (unsigned i = 0; i < TRIES_MAX; i++) {
                sd_bus_error e = SD_BUS_ERROR_NULL;
                sd_bus_message *m, *reply = NULL;
                Answer answer;

                if (sd_bus_message_new_method_call(w->bus, &m, EGM_BUS_NAME, path, interface,
                                                   member) < 0 ||
                    (a && sd_bus_message_append(m, "ss", a, b) < 0))
                        abort();
                answer = world_call(w, m, &reply, &e);
                if (answer == ANSWER_OK)
                        return reply;
                if (answer == ANSWER_REFUSED)
                        world_expect(w, world_excuse(w), "%s of %s: %s: %s", member, path, e.name,
                                     e.message);
                sd_bus_error_free(&e);
        }
        world_fail(w, __FILE__, __LINE__, "no answer to %s", member);
}

void world_look(World *w, Picture *ret) {
        sd_bus_message *m = ask(w, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                "GetManagedObjects", NULL, NULL);

        world_expect(w, picture_read(m, ret) >= 0, "the objects cannot be read");
        sd_bus_message_unref(m);
}

/* ---- what stands ---- */

void world_know(World *w, Known *k) {
        world_expect(w, w->n_known < WORLD_KNOWN_MAX, "too many leases");
        w->known[w->n_known++] = k;
}

void world_forget(World *w, Known *k) {
        for (size_t i = 0; i < w->n_known; i++)
                if (w->known[i] == k) {
                        w->known[i] = w->known[--w->n_known];
                        return;
                }
}

static uint64_t bytes_known(World *w, const char *region) {
        uint64_t sum = 0;

        for (size_t i = 0; i < w->n_known; i++) {
                const Known *k = w->known[i];

                for (size_t s = 0; s < k->n_slices; s++)
                        if ((k->held || (k->parked && k->slices[s].mapped)) &&
                            streq(k->slices[s].at.region, region))
                                sum += k->slices[s].at.size;
        }
        return sum;
}

static void check_region(World *w, const PictureRegion *r) {
        world_expect(w,
                     r->size == r->free + r->leased + r->draining + r->dirty + r->scrubbing +
                                                     r->retired,
                     "the bytes of %s do not add up", r->name);
        if (streq(r->name, "egm5") && w->schedulable >= 0 && streq(r->state, "ready"))
                world_expect(w, r->schedulable == (bool) w->schedulable,
                             "egm5 is %sschedulable, but the client was told otherwise",
                             r->schedulable ? "" : "not ");
}

static bool overlap(const PictureSlice *a, const PictureSlice *b) {
        return streq(a->region, b->region) && a->offset < b->offset + b->size &&
               b->offset < a->offset + a->size;
}

/* I1: of leases that are used, no two have a byte in common. */
static void check_overlaps(World *w, const Picture *p) {
        for (size_t i = 0; i < p->n_leases; i++)
                for (size_t k = 0; k < i; k++) {
                        const PictureLease *a = p->leases + i, *b = p->leases + k;

                        if (!streq(a->state, "active") || !streq(b->state, "active"))
                                continue;
                        for (size_t s = 0; s < a->n_slices; s++)
                                for (size_t t = 0; t < b->n_slices; t++)
                                        world_expect(w, !overlap(a->slices + s, b->slices + t),
                                                     "%s and %s have bytes in common", a->path,
                                                     b->path);
                }
}

/* The bytes are the client's, in the map of the region as well. */
static void check_extent(World *w, const Known *k, const PictureSlice *s) {
        sd_bus_message *m;
        const char *state, *lease, *id = strrchr(k->path, '/') + 1;
        uint64_t offset, size, covered = 0;
        char path[64];

        (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/%s", s->region);
        m = ask(w, path, "org.freedesktop.DBus.Properties", "Get", EGM_REGION_INTERFACE, "Extents");
        if (sd_bus_message_enter_container(m, 'v', "a(ttss)") < 0 ||
            sd_bus_message_enter_container(m, 'a', "(ttss)") < 0)
                world_fail(w, __FILE__, __LINE__, "the extents cannot be read");
        while (sd_bus_message_read(m, "(ttss)", &offset, &size, &state, &lease) > 0)
                if (streq(lease, id) && streq(state, "leased") && offset < s->offset + s->size &&
                    s->offset < offset + size)
                        covered += MIN(offset + size, s->offset + s->size) - MAX(offset, s->offset);
        sd_bus_message_unref(m);
        world_expect(w, covered == s->size, "%s: %#" PRIx64 " of its %#" PRIx64 " bytes are leased",
                     k->label, covered, s->size);
}

static unsigned char pattern(const Known *k) {
        return (unsigned char) k->label[0];
}

static void check_bytes(World *w, const Known *k, size_t i) {
        const unsigned char *map = k->slices[i].map;

        for (uint64_t b = 0; map && b < k->slices[i].at.size; b++)
                world_expect(w, map[b] == pattern(k),
                             "%s: byte %#" PRIx64 " of slice %zu has become %#x", k->label, b, i,
                             map[b]);
}

static void check_known(World *w, const Picture *p, const Known *k) {
        const PictureLease *l = picture_find_lease(p, k->path);

        world_expect(w, l, "%s (%s) is lost", k->label, k->path);
        world_expect(w, streq(l->state, "active"), "%s is %s", k->label, l->state);
        world_expect(w, streq(l->label, k->label), "%s has become \"%s\"", k->label, l->label);
        world_expect(w, l->persistent == k->persistent, "%s has another lifetime", k->label);
        world_expect(w, l->n_slices == k->n_slices, "%s has %zu slices", k->label, l->n_slices);
        for (size_t i = 0; i < k->n_slices; i++) {
                const PictureSlice *a = l->slices + i, *b = &k->slices[i].at;

                world_expect(w,
                             streq(a->region, b->region) && a->offset == b->offset &&
                                             a->size == b->size,
                             "%s: slice %zu is elsewhere", k->label, i);
                check_extent(w, k, b);
                check_bytes(w, k, i);
        }
}

static bool overlaps_mapped(const PictureLease *l, const Known *k) {
        for (size_t i = 0; i < l->n_slices; i++)
                for (size_t t = 0; t < k->n_slices; t++)
                        if (k->slices[t].mapped && overlap(l->slices + i, &k->slices[t].at))
                                return true;
        return false;
}

/* Where a process still maps what was given back, no lease is. */
static void check_parked(World *w, const Picture *p, const Known *k) {
        for (size_t i = 0; i < p->n_leases; i++) {
                const PictureLease *l = p->leases + i;

                if (!streq(l->state, "active"))
                        continue;
                if (streq(l->path, k->path))
                        world_expect(w, !k->ended, "%s was released, and is active", k->label);
                else
                        world_expect(w, !overlaps_mapped(l, k), "%s has bytes of %s, still mapped",
                                     l->label, k->label);
        }
}

void world_check(World *w) {
        Picture p;

        world_look(w, &p);
        for (size_t i = 0; i < p.n_regions; i++)
                check_region(w, p.regions + i);
        check_overlaps(w, &p);
        for (size_t i = 0; i < w->n_known; i++) {
                if (w->known[i]->held)
                        check_known(w, &p, w->known[i]);
                else if (w->known[i]->parked)
                        check_parked(w, &p, w->known[i]);
        }
}

static bool is_known(World *w, const PictureLease *l) {
        for (size_t i = 0; i < w->n_known; i++)
                if ((w->known[i]->held || w->known[i]->parked) && streq(w->known[i]->path, l->path))
                        return true;
        return false;
}

/* Granted, but the answer never came: a persistent lease is found and released by its owner. */
static void release_unknown(World *w, const PictureLease *l) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m;

        if (sd_bus_message_new_method_call(w->bus, &m, EGM_BUS_NAME, l->path, EGM_LEASE_INTERFACE,
                                           "Release") < 0 ||
            sd_bus_message_append(m, "a{sv}", 0) < 0)
                abort();
        (void) world_call(w, m, NULL, &e);
        sd_bus_error_free(&e);
}

static bool is_settled(World *w, const Picture *p) {
        bool settled = p->n_regions == 2;

        for (size_t i = 0; i < p->n_leases; i++) {
                if (is_known(w, p->leases + i))
                        continue;
                settled = false;
                if (p->leases[i].persistent && streq(p->leases[i].state, "active"))
                        release_unknown(w, p->leases + i);
        }
        for (size_t i = 0; i < p->n_regions; i++) {
                const PictureRegion *r = p->regions + i;

                if (!streq(r->state, "ready") || r->free + bytes_known(w, r->name) != r->size)
                        settled = false;
        }
        return settled;
}

static void settle_once(World *w) {
        uint64_t deadline = now_usec() + SETTLE_TIMEOUT_USEC;
        Picture p;

        for (;;) {
                bool news = false;
                int r;

                world_look(w, &p);
                if (is_settled(w, &p))
                        return;
                world_expect(w, now_usec() < deadline, "what nobody has does not become free");
                while ((r = sd_bus_process(w->bus, NULL)) > 0)
                        news = true;
                world_expect(w, r >= 0, "the bus is lost: %s", strerror(-r));
                if (!news)
                        (void) sd_bus_wait(w->bus, LOOK_AGAIN_USEC);
        }
}

void world_settle(World *w) {
        unsigned n;

        do {
                n = w->n_starts;
                settle_once(w);
                world_check(w);
        } while (w->n_starts != n);
}
