/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>

/* Devices that go, with leases out and without, and come back: as another device in front of the same memory. */

/* So much larger is one that is not as large as it was. */
#define MORE (16 * WALK_GRANULE)

bool walk_region_is_used(const Walk *w, unsigned region, unsigned generation) {
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                for (size_t k = 0; k < WALK_SLOTS && w->children[i].pid > 0; k++) {
                        const WalkSlot *s = w->children[i].slots + k;

                        if ((s->kind == WALK_SLOT_MEMORY || s->kind == WALK_SLOT_MAP) &&
                            s->region == region && s->generation == generation)
                                return true;
                }
        return false;
}

bool walk_region_is_held(const Walk *w, unsigned region) {
        const WalkRegion *r = w->regions + region;

        return r->has_memory && r->memory != r->generation &&
               walk_region_is_used(w, region, r->memory);
}

void walk_region_drop(Walk *w, unsigned region, unsigned generation) {
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                for (size_t k = 0; k < WALK_SLOTS && w->children[i].pid > 0; k++) {
                        WalkSlot *s = w->children[i].slots + k;

                        if (s->region != region || s->generation != generation)
                                continue;
                        if (s->kind == WALK_SLOT_MEMORY)
                                walk_child_close(w, w->children + i, s);
                        else if (s->kind == WALK_SLOT_MAP)
                                walk_child_unmap(w, w->children + i, s, 0, 0);
                }
        walk_model_update(w);
}

static void write_config(Walk *w) {
        walk_check(w, walk_config_write(w->config_path, w->regions, w->fail_mmap) >= 0);
}

size_t walk_n_devices(const Walk *w) {
        size_t n = 0;

        for (size_t i = 0; i < WALK_REGIONS; i++)
                n += !w->regions[i].gone;
        return n;
}

/* Until the daemon says that of it; NULL: it has heard that it is back. */
static void wait_state(Walk *w, unsigned region, const char *state) {
        uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;

        for (;;) {
                bool there;
                View v;

                walk_pump(w, 0);
                walk_view_read(w, &v);
                there = v.regions[region].there &&
                        (state ? streq(v.regions[region].state, state)
                               : !streq(v.regions[region].state, "gone"));
                if (!there && walk_now_usec() >= deadline)
                        walk_fail(w, "%s should be %s, and is %s", walk_regions[region].name,
                                  state ?: "back", v.regions[region].state);
                walk_view_done(&v);
                if (there)
                        return;
                walk_pump(w, 20 * USEC_PER_MSEC);
        }
}

/* Holders hear of it. */
static void wait_told(Walk *w, unsigned region, const bool lost[static WALK_LEASES]) {
        uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;

        for (size_t i = 0; i < WALK_LEASES; i++)
                while (lost[i] && w->leases[i].used && !w->leases[i].told_lost) {
                        if (walk_now_usec() >= deadline)
                                walk_fail(w, "nobody said that lease %" PRIu64 " is lost",
                                          w->leases[i].id);
                        walk_pump(w, 20 * USEC_PER_MSEC);
                }
}

void walk_device_vanish(Walk *w, unsigned region) {
        WalkRegion *r = w->regions + region;
        bool lost[WALK_LEASES] = {};

        assert(!r->gone);

        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;

                l->told_lost = false;
                for (size_t k = 0; k < l->n_slices && l->used; k++)
                        lost[i] = lost[i] || (l->slices[k].region == region && !l->ended &&
                                              !l->release_unsure && !walk_lease_is_lost(l));
        }
        walk_note(w, "    %s goes", walk_regions[region].name);
        r->gone = true;
        w->settled = false;
        write_config(w);
        walk_model_new_memory(w, region);
        wait_state(w, region, "gone");
        walk_wait_answers(w, region);
        wait_told(w, region, lost);
        walk_check_always(w);
}

void walk_device_return(Walk *w, unsigned region, bool larger) {
        WalkRegion *r = w->regions + region;

        assert(r->gone);

        r->gone = r->spoiled = false;
        r->instance++;
        r->size = walk_regions[region].size + (larger ? MORE : 0);
        w->settled = false;
        walk_note(w, "    %s is back, with %" PRIu64 " KiB", walk_regions[region].name,
                  r->size / KIB);
        write_config(w);
        wait_state(w, region, NULL);
        r->unheard = false;
        if (!walk_region_is_held(w, region))
                return;
        wait_state(w, region, "held-elsewhere");
        walk_check_always(w);
        switch (walk_random(w, 4)) {
        case 0:
                walk_device_vanish(w, region);
                return;
        case 1:
                if (!w->remembers)
                        break;
                /* A new daemon cannot know: the simulation gives it other memory. */
                walk_waiters_lost(w);
                walk_restart_plainly(w);
                return;
        default:
                break;
        }
        walk_note(w, "    %s is held elsewhere; they let go", walk_regions[region].name);
        walk_region_drop(w, region, r->memory);
}

void walk_op_device(Walk *w) {
        unsigned i = (unsigned) walk_random(w, WALK_REGIONS);

        if (w->regions[i].gone) {
                walk_note(w, "a device comes back");
                walk_device_return(w, i, walk_chance(w, 4));
        } else if (walk_n_devices(w) > 1) {
                walk_note(w, "a device goes");
                walk_device_vanish(w, i);
                if (walk_chance(w, 2))
                        walk_device_return(w, i, walk_chance(w, 4));
        }
}

void walk_device_change_unseen(Walk *w) {
        unsigned i = (unsigned) walk_random(w, WALK_REGIONS);
        WalkRegion *r = w->regions + i;
        bool was_gone = r->gone;

        if (!was_gone && (walk_n_devices(w) > 1 || !walk_chance(w, 2))) {
                walk_note(w, "    %s goes", walk_regions[i].name);
                r->gone = true;
                r->has_memory = r->spoiled = false;
                walk_model_new_memory(w, i);
        }
        /* The last one may have stayed. */
        if (r->gone && (was_gone || walk_n_devices(w) == 0 || walk_chance(w, 2))) {
                r->gone = false;
                r->instance++;
                r->size = walk_regions[i].size + (walk_chance(w, 4) ? MORE : 0);
                walk_note(w, "    %s is back, with %" PRIu64 " KiB", walk_regions[i].name,
                          r->size / KIB);
        }
}
