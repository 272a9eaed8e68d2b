/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <dirent.h>
#include <inttypes.h>

#include "daemon-fds.h"
#include "fd-util.h"
#include "size.h"

/* What a walk once found, as a straight line; and the same thing very often. */

/* ---- straight lines ---- */

static WalkChild *holder_of(Walk *w, const WalkLease *l) {
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                for (size_t k = 0; k < WALK_SLOTS && w->children[i].pid > 0; k++)
                        if (w->children[i].slots[k].kind == WALK_SLOT_LIFETIME &&
                            w->children[i].slots[k].lease == l->serial)
                                return w->children + i;
        walk_fail(w, "nobody has the lifetime of lease %" PRIu64, l->id);
}

/* Drops what the holder has of it but a mapping. */
static void keep_mapping_only(Walk *w, const WalkLease *l) {
        WalkChild *c = holder_of(w, l);
        bool mapped = false;

        for (size_t k = 0; k < WALK_SLOTS; k++)
                mapped = mapped ||
                         (c->slots[k].kind == WALK_SLOT_MAP && c->slots[k].lease == l->serial);
        for (size_t k = 0; k < WALK_SLOTS && !mapped; k++)
                if (c->slots[k].kind == WALK_SLOT_MEMORY && c->slots[k].lease == l->serial) {
                        WalkSlot *m = walk_child_map(w, c, c->slots + k, l->slices, false);

                        walk_check(w, m);
                        m->filled = true;
                        break;
                }
        for (size_t k = 0; k < WALK_SLOTS; k++)
                if (c->slots[k].lease == l->serial && (c->slots[k].kind == WALK_SLOT_MEMORY ||
                                                       c->slots[k].kind == WALK_SLOT_LIFETIME))
                        walk_child_close(w, c, c->slots + k);
        walk_model_update(w);
}

static void drop_everybody(Walk *w) {
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                if (w->children[i].pid > 0)
                        walk_child_end(w, w->children + i, true);
        walk_settle(w);
}

/* In several regions memory is held up by who maps it, and the daemon dies: no region's is taken for drained because the look
 * at /proc was about another. */
static void case_held_up_over_restart(Walk *w) {
        walk_note(w, "case: held up in two regions, over a restart");
        for (unsigned i = 0; i < 2; i++)
                for (unsigned k = 0; k < 2; k++)
                        keep_mapping_only(w, walk_take(w, i, 4 * WALK_GRANULE));
        walk_settle(w);
        walk_restart_plainly(w);
        walk_restart_plainly(w);
        drop_everybody(w);
}

#define NO_SLICE SIZE_MAX

/* Of all that the holder has of it only a mapping of that slice is left, if any, and so it has ended. */
static void keep_slice_only(Walk *w, const WalkLease *l, size_t slice) {
        unsigned region = slice == NO_SLICE ? WALK_REGIONS : l->slices[slice].region;
        WalkChild *c = holder_of(w, l);
        bool mapped = false;

        for (size_t k = 0; k < WALK_SLOTS; k++)
                if (c->slots[k].kind == WALK_SLOT_MAP && c->slots[k].lease == l->serial) {
                        if (c->slots[k].region == region)
                                mapped = true;
                        else
                                walk_child_unmap(w, c, c->slots + k, 0, 0);
                }
        for (size_t k = 0; k < WALK_SLOTS; k++) {
                WalkSlot *s = c->slots + k, *m;

                if (s->lease != l->serial ||
                    (s->kind != WALK_SLOT_MEMORY && s->kind != WALK_SLOT_LIFETIME))
                        continue;
                if (s->kind == WALK_SLOT_MEMORY && s->region == region && !mapped) {
                        m = walk_child_map(w, c, s, l->slices + slice, false);
                        walk_check(w, m);
                        m->filled = mapped = true;
                }
                walk_child_close(w, c, s);
        }
        walk_model_update(w);
}

/* The rest of its lease may be held up. */
static void wait_free(Walk *w, const WalkSlice *s) {
        uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;

        for (bool done = false; !done;) {
                View v;

                walk_view_read(w, &v);
                done = true;
                for (size_t i = 0; i < v.regions[s->region].n_extents; i++) {
                        const ViewExtent *x = v.regions[s->region].extents + i;

                        done = done && (streq(x->state, "free") ||
                                        !walk_overlap(x->offset, x->size, s->offset, s->size));
                }
                walk_view_done(&v);
                walk_check(w, done || walk_now_usec() < deadline);
                if (!done)
                        walk_pump(w, 20 * USEC_PER_MSEC);
        }
}

/* Half of a lease is held up, the other half is somebody else's by now, and the daemon dies: what is written down of the first
 * does not claim what the second has. */
static void case_half_given_back(Walk *w) {
        for (size_t held = 0; held < 2; held++) {
                WalkLease *first, *second;
                WalkSlice given;

                walk_note(w, "case: half of a lease is another's, over a restart");
                first = walk_take_two(w, 6 * WALK_GRANULE);
                given = first->slices[1 - held];
                keep_slice_only(w, first, held);
                walk_settle(w);
                wait_free(w, &given);
                second = walk_take(w, given.region, given.size);
                walk_check(w, second->slices[0].offset == given.offset);
                walk_settle(w);
                walk_restart_plainly(w);
                walk_restart_plainly(w);
                walk_check(w, walk_lease_find(w, second->serial) == second && !second->ended);
                drop_everybody(w);
        }
}

/* A large request waits, and what comes free before all that it needs is nobody else's; asked again after a restart as well. */
static void case_not_overtaken(Walk *w) {
        const WalkAsked large = {.region = 1, .size = 3 * MIB, .align = WALK_GRANULE},
                        small = {.region = 1, .size = WALK_GRANULE, .align = WALK_GRANULE};
        WalkLease *beside, *a, *b;
        unsigned first, second;

        walk_note(w, "case: a large request that waits is not overtaken");
        beside = walk_take(w, 1, 2 * MIB + WALK_GRANULE);
        a = walk_take(w, 1, 2 * MIB);
        b = walk_take(w, 1, 2 * MIB - 2 * WALK_GRANULE);
        (void) walk_wait_for(w, &large, 0);
        (void) walk_wait_for(w, &small, 0);
        keep_slice_only(w, beside, NO_SLICE);
        walk_settle(w);
        walk_take_in_vain(w, 1, WALK_GRANULE);
        walk_waiters_lost(w);
        walk_restart_plainly(w);
        first = walk_wait_for(w, &large, 0);
        second = walk_wait_for(w, &small, 0);
        walk_take_in_vain(w, 1, WALK_GRANULE);
        keep_slice_only(w, a, NO_SLICE);
        walk_settle(w);
        walk_take_in_vain(w, 1, WALK_GRANULE);
        walk_check(w, walk_waiter_find(w, first) && walk_waiter_find(w, second));
        keep_slice_only(w, b, NO_SLICE);
        walk_settle(w);
        walk_check(w, !walk_waiter_find(w, first) && !walk_waiter_find(w, second));
        drop_everybody(w);
}

/* Whose unit is not known. */
static void case_bound_over_restart(Walk *w) {
        WalkLease *l = walk_take(w, 0, WALK_GRANULE);
        WalkChild *c = holder_of(w, l);

        walk_note(w, "case: bound, over a restart");
        walk_bind(w, l, c);
        walk_settle(w);
        walk_restart_plainly(w);
        for (size_t k = 0; k < WALK_SLOTS; k++)
                if (c->slots[k].kind == WALK_SLOT_LIFETIME)
                        walk_child_close(w, c, c->slots + k);
        walk_model_update(w);
        walk_settle(w);
        walk_check(w, !l->ended);
        walk_restart_plainly(w);
        walk_check(w, !l->ended);
        drop_everybody(w);
}

/* Who only has the region's descriptor, and no lease any more, could map anything. */
static void case_descriptor_over_restarts(Walk *w) {
        WalkLease *l = walk_take(w, 0, 4 * WALK_GRANULE);
        WalkChild *c = holder_of(w, l);

        walk_note(w, "case: held up by a descriptor, over restarts");
        for (size_t k = 0; k < WALK_SLOTS; k++)
                if (c->slots[k].kind == WALK_SLOT_LIFETIME)
                        walk_child_close(w, c, c->slots + k);
                else if (c->slots[k].kind == WALK_SLOT_MAP)
                        walk_child_unmap(w, c, c->slots + k, 0, 0);
        walk_settle(w);
        for (unsigned i = 0; i < 3; i++)
                walk_restart_plainly(w);
        drop_everybody(w);
}

/* A device goes when somebody who waited has just been granted memory of it, and has not read so yet: what he gets is lost, and
 * while he has it, nobody else gets what the device comes back with. */
static void case_granted_and_gone(Walk *w) {
        const WalkAsked asked = {.region = 0, .size = 4 * WALK_GRANULE, .align = WALK_GRANULE};
        const WalkLease *l = NULL;
        unsigned waiter;

        walk_note(w, "case: granted when the device goes");
        walk_set_schedulable(w, 0, false);
        waiter = walk_wait_for(w, &asked, 0);
        walk_check(w, walk_waiter_find(w, waiter));
        walk_set_schedulable(w, 0, true);
        walk_device_vanish(w, 0);
        walk_check(w, !walk_waiter_find(w, waiter));
        for (size_t i = 0; i < WALK_LEASES && !l; i++)
                if (w->leases[i].used)
                        l = w->leases + i;
        walk_check(w, l && walk_lease_is_lost(l) && !l->ended);
        walk_settle(w);
        walk_device_return(w, 0, false);
        drop_everybody(w);
        /* It may have gone again under those who had the memory. */
        if (w->regions[0].gone)
                walk_device_return(w, 0, false);
        walk_settle(w);
}

/* Whose caller never heard of it: it is nobody's but its owner's, and lost as any other is when the device goes before anybody has
 * looked for it. */
static void case_orphan_and_gone(Walk *w) {
        const WalkAsked asked[] = {{.region = 0, .size = WALK_GRANULE, .align = WALK_GRANULE},
                                   {.region = 1, .size = WALK_GRANULE, .align = WALK_GRANULE}};
        sd_bus_message *m;

        walk_note(w, "case: a device goes under an orphan");
        m = walk_new_request(w, w->bus, asked, ELEMENTSOF(asked), "orphan", true, -EBADF, 0);
        walk_check(w, sd_bus_call(w->bus, m, 0, NULL, NULL) >= 0);
        sd_bus_message_unref(m);
        w->may_orphan = true;
        walk_device_vanish(w, 0);
        walk_settle(w);
        walk_device_return(w, 0, false);
        for (WalkLease *l; (l = walk_lease_pick(w, false));) {
                walk_check(w, walk_lease_is_lost(l));
                walk_release(w, l);
        }
        walk_settle(w);
}

void walk_cases(Walk *w) {
        case_descriptor_over_restarts(w);
        case_held_up_over_restart(w);
        case_bound_over_restart(w);
        case_half_given_back(w);
        case_not_overtaken(w);
        case_granted_and_gone(w);
        case_orphan_and_gone(w);
}

/* ---- very often ---- */

typedef struct Footprint {
        size_t n_fds;
        size_t n_files;
        size_t n_stored;
        uint64_t rss;
} Footprint;

static size_t count_entries(Walk *w, const char *path) {
        DIR *d = opendir(path);
        size_t n = 0;

        walk_check(w, d);
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n;
}

static Footprint footprint(Walk *w) {
        _cleanup_free_ char *status = NULL;
        char path[64], *at, *end;
        Footprint f = {.n_stored = keeper_n_stored(w->keeper)};
        uint64_t kib;

        f.n_fds = daemon_fds_count(keeper_pid(w->keeper));
        walk_check(w, f.n_fds > 0);
        f.n_files = count_entries(w, keeper_runtime_dir(w->keeper));
        (void) snprintf(path, sizeof(path), "/proc/%i/status", (int) keeper_pid(w->keeper));
        walk_check(w, read_full_file_at(-1, path, 64 * KIB, &status, NULL) >= 0);
        at = strstr(status, "VmRSS:");
        walk_check(w, at);
        at += strlen("VmRSS:");
        at += strspn(at, " \t");
        end = at + strspn(at, "0123456789");
        *end = '\0';
        walk_check(w, parse_uint64(at, &kib) >= 0);
        f.rss = kib * KIB;
        return f;
}

/* What a thousand of them cost no more than the first ones have paid for. */
#define WARM_UP 500U
#define RSS_SLACK (2 * MIB)

void walk_cycles(Walk *w, uint64_t n) {
        Footprint before = {}, after;

        for (uint64_t i = 0; i < n + WARM_UP; i++) {
                if (i == WARM_UP) {
                        walk_settle(w);
                        before = footprint(w);
                }
                w->step = i;
                walk_cycle(w, (unsigned) (i % 2), i % 3 == 0);
                /* Where others keep the machine busy, they end more slowly than they begin. */
                if (i % 32 == 31)
                        walk_settle(w);
        }
        walk_settle(w);
        after = footprint(w);
        (void) fprintf(stderr,
                       "%" PRIu64
                       " cycles: descriptors %zu, then %zu; files %zu, then %zu; resident "
                       "%" PRIu64 " KiB, then %" PRIu64 " KiB\n",
                       n, before.n_fds, after.n_fds, before.n_files, after.n_files,
                       before.rss / KIB, after.rss / KIB);
        if (after.n_fds != before.n_fds || after.n_files != before.n_files ||
            after.n_stored != before.n_stored)
                walk_fail(w, "something is left of what was given back");
        /* The sanitizers keep what was freed. */
        if (!getenv("EGM_TEST_SANITIZED") && after.rss > before.rss + RSS_SLACK)
                walk_fail(w, "it has grown");
}
