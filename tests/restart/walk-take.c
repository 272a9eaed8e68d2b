/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>
#include <sys/pidfd.h>

#include "fd-util.h"
#include "size.h"

/* Requests for leases, and what comes of them. */

static void append_slice(Walk *w, sd_bus_message *m, const WalkAsked *a) {
        walk_check(w, sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        walk_check(w, sd_bus_message_append(m, "{sv}", "Region", "s",
                                            walk_regions[a->region].name) >= 0);
        if (a->whole)
                walk_check(w, sd_bus_message_append(m, "{sv}", "Whole", "b", 1) >= 0);
        else
                walk_check(w, sd_bus_message_append(m, "{sv}", "Size", "t", a->size) >= 0);
        if (!a->whole && a->align > 0)
                walk_check(w, sd_bus_message_append(m, "{sv}", "Align", "t", a->align) >= 0);
        if (a->include_retired)
                walk_check(w, sd_bus_message_append(m, "{sv}", "Retired", "s", "include") >= 0);
        walk_check(w, sd_bus_message_close_container(m) >= 0);
}

sd_bus_message *walk_new_request(Walk *w, sd_bus *bus, const WalkAsked *asked, size_t n,
                                 const char *label, bool persistent, int holder_fd,
                                 uint64_t wait_usec) {
        sd_bus_message *m;

        walk_check(w, sd_bus_message_new_method_call(bus, &m, EGM_BUS_NAME, EGM_PATH,
                                                     EGM_MANAGER_INTERFACE, "AcquireLease") >= 0);
        walk_check(w, sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        walk_check(w, sd_bus_message_append(m, "{sv}", "Label", "s", label) >= 0);
        if (persistent)
                walk_check(w, sd_bus_message_append(m, "{sv}", "Lifetime", "s", "persistent") >= 0);
        if (holder_fd >= 0)
                walk_check(w, sd_bus_message_append(m, "{sv}", "Holder", "h", holder_fd) >= 0);
        if (wait_usec > 0)
                walk_check(w, sd_bus_message_append(m, "{sv}", "WaitUSec", "t", wait_usec) >= 0);
        walk_check(w, sd_bus_message_open_container(m, 'e', "sv") >= 0);
        walk_check(w, sd_bus_message_append(m, "s", "Slices") >= 0);
        walk_check(w, sd_bus_message_open_container(m, 'v', "aa{sv}") >= 0);
        walk_check(w, sd_bus_message_open_container(m, 'a', "a{sv}") >= 0);
        for (size_t i = 0; i < n; i++)
                append_slice(w, m, asked + i);
        for (size_t i = 0; i < 4; i++)
                walk_check(w, sd_bus_message_close_container(m) >= 0);
        return m;
}

/* ---- granted ---- */

/* I3, from what is known of the memory; and what the contract says of offsets. */
static void check_slice(Walk *w, const WalkLease *l, const WalkSlice *s) {
        const WalkRegionConfig *c = walk_regions + s->region;

        if (s->size == 0 || s->offset % WALK_GRANULE != 0 || s->size % WALK_GRANULE != 0 ||
            s->offset + s->size > w->regions[s->region].size)
                walk_fail(w, "lease %" PRIu64 ": slice %#" PRIx64 "+%#" PRIx64 " of %s", l->id,
                          s->offset, s->size, c->name);
        if ((c->whole_only || w->regions[s->region].spoiled) && s->offset != 0)
                walk_fail(w, "lease %" PRIu64 " does not start at the start of %s", l->id, c->name);
        for (size_t i = 0; i < ELEMENTSOF(c->retired) && !l->include_retired; i++)
                if (c->retired[i].size > 0 &&
                    walk_overlap(c->retired[i].offset, c->retired[i].size, s->offset, s->size))
                        walk_fail(w, "I3: lease %" PRIu64 " has retired pages of %s", l->id,
                                  c->name);
        if (!l->include_retired && w->regions[s->region].late && c->late.size > 0 &&
            walk_overlap(c->late.offset, c->late.size, s->offset, s->size))
                walk_fail(w, "I3: lease %" PRIu64 " has late retired pages of %s", l->id, c->name);
        if (!l->include_retired && c->bad.size > 0 &&
            walk_overlap(c->bad.offset, c->bad.size, s->offset, s->size))
                walk_fail(w, "I3: lease %" PRIu64 " has a bad page of %s", l->id, c->name);
}

/* I1, among what clients were told. */
static void check_against_others(Walk *w, const WalkLease *l) {
        for (size_t i = 0; i < WALK_LEASES; i++) {
                const WalkLease *o = w->leases + i;

                if (!o->used || o == l || o->id == 0)
                        continue;
                for (size_t k = 0; k < o->n_slices; k++)
                        for (size_t j = 0; j < l->n_slices; j++) {
                                const WalkSlice *a = o->slices + k, *b = l->slices + j;

                                if (a->region == b->region && a->generation == b->generation &&
                                    !a->lost && !a->was_unblocked &&
                                    walk_overlap(a->offset, a->size, b->offset, b->size))
                                        walk_fail(w,
                                                  "I1: lease %" PRIu64 " got %#" PRIx64 "+%#" PRIx64
                                                  " of %s, which lease %" PRIu64 " (%s) has",
                                                  l->id, b->offset, b->size,
                                                  walk_regions[b->region].name, o->id, o->label);
                        }
        }
}

static int read_path(Walk *w, WalkLease *l, sd_bus_message *reply) {
        const char *path;
        int lifetime;

        walk_check(w, sd_bus_message_read(reply, "oh", &path, &lifetime) > 0);
        walk_check(w, strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) == 0);
        walk_check(w, parse_uint64(path + strlen(EGM_LEASE_PATH "/"), &l->id) >= 0);
        (void) snprintf(l->path, sizeof(l->path), "%s", path);
        walk_ids_add(w, l->id);
        return lifetime;
}

/* Insists on zeros and writes the pattern; keeps the mapping or not. */
static void use_slice(Walk *w, WalkChild *c, const WalkSlot *memory, const WalkSlice *s) {
        WalkSlot *m = walk_child_map(w, c, memory, s, false);

        walk_check(w, m);
        walk_child_zero(w, c, m);
        walk_child_fill(w, c, m);
        if (walk_chance(w, 3))
                walk_child_unmap(w, c, m, 0, 0);
}

/* Somebody with room for all of it. */
static WalkChild *receiver(Walk *w) {
        for (unsigned i = 0; i < 20; i++) {
                WalkChild *c = walk_chance(w, 3) ? walk_child_new(w) : walk_child_pick(w);
                size_t n = 0;

                for (size_t k = 0; c && k < WALK_SLOTS; k++)
                        n += c->slots[k].kind == WALK_SLOT_NONE;
                if (c && n > 3 * WALK_ASKED)
                        return c;
        }
        if (walk_child_pick(w) && walk_chance(w, 2))
                walk_child_end(w, walk_child_pick(w), false);
        return walk_child_new(w) ?: receiver(w);
}

static void hand_over(Walk *w, WalkLease *l, int lifetime, const int *memory) {
        WalkChild *c = receiver(w);

        walk_check(w, c);
        walk_child_give(w, c,
                        &(WalkSlot){.kind = WALK_SLOT_LIFETIME,
                                    .lease = l->serial,
                                    .region = WALK_REGIONS},
                        lifetime);
        for (size_t i = 0; i < l->n_slices; i++) {
                WalkSlot *s = walk_child_free_slot(c);

                walk_check(w, s);
                walk_child_give(w, c,
                                &(WalkSlot){.kind = WALK_SLOT_MEMORY,
                                            .lease = l->serial,
                                            .region = l->slices[i].region,
                                            .generation = l->slices[i].generation},
                                memory[i]);
                use_slice(w, c, s, l->slices + i);
        }
        l->filled = true;
        if (l->persistent && walk_chance(w, 3))
                for (size_t k = 0; k < WALK_SLOTS; k++)
                        if (c->slots[k].kind == WALK_SLOT_LIFETIME &&
                            c->slots[k].lease == l->serial)
                                walk_child_close(w, c, c->slots + k);
}

static unsigned region_of(Walk *w, const char *name) {
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                if (streq(walk_regions[i].name, name))
                        return i;
        walk_fail(w, "a slice of %s", name);
}

/* What is granted the daemon has open. Of a device that is gone it was granted before that went, and is lost. */
static void note_memory(Walk *w, WalkSlice *s) {
        WalkRegion *r = w->regions + s->region;

        s->lost = r->gone;
        s->generation = r->generation - (r->gone ? 1 : 0);
        r->has_memory = true;
        r->memory = s->generation;
}

void walk_granted(Walk *w, sd_bus_message *reply, WalkLease *l) {
        int lifetime = read_path(w, l, reply), memory[WALK_SLICES], fd;
        const char *region;

        walk_check(w, sd_bus_message_enter_container(reply, 'a', "(shtt)") > 0);
        while (sd_bus_message_read(reply, "(shtt)", &region, &fd, &l->slices[l->n_slices].offset,
                                   &l->slices[l->n_slices].size) > 0) {
                WalkSlice *s = l->slices + l->n_slices;

                memory[l->n_slices] = fd;
                s->region = region_of(w, region);
                note_memory(w, s);
                walk_note(w, "    lease %" PRIu64 " (%s): %s %#" PRIx64 "+%#" PRIx64, l->id,
                          l->label, region, s->offset, s->size);
                check_slice(w, l, s);
                walk_check(w, ++l->n_slices < WALK_SLICES);
        }
        check_against_others(w, l);
        hand_over(w, l, lifetime, memory);
        walk_model_update(w);
}

/* ---- asked ---- */

uint64_t walk_some_size(Walk *w, uint64_t max) {
        switch (walk_random(w, 4)) {
        case 0:
                return WALK_GRANULE;
        case 1:
                return WALK_GRANULE * (1 + walk_random(w, max / WALK_GRANULE / 2));
        default:
                return WALK_GRANULE * (1 + walk_random(w, max / WALK_GRANULE / 8));
        }
}

/* The one that serves a single lease is in use most of the time. */
unsigned walk_some_region(Walk *w) {
        return walk_chance(w, 8) ? WALK_REGIONS - 1 : (unsigned) walk_random(w, WALK_REGIONS - 1);
}

static size_t ask_for(Walk *w, WalkAsked *a) {
        unsigned first = walk_some_region(w);
        size_t max = first == WALK_REGIONS - 1 ? WALK_ASKED : WALK_REGIONS - 1 - first,
               n = walk_chance(w, 3) ? 1 + walk_random(w, max) : 1;

        for (size_t i = 0; i < n; i++) {
                unsigned region = (first + (unsigned) i) % WALK_REGIONS;

                a[i] = (WalkAsked){
                                .region = region,
                                .size = walk_some_size(w, w->regions[region].size),
                                .align = walk_chance(w, 3) ? 0 : WALK_GRANULE << walk_random(w, 3),
                                .whole = walk_chance(w, 12),
                                .include_retired = walk_chance(w, 4),
                };
                if (a[i].whole)
                        a[i].size = w->regions[region].size;
        }
        return n;
}

/* Each slice of a region of its own, so that each can be judged alone. */
static bool must_fit(Walk *w, const View *v, const WalkAsked *a, size_t n, bool *ret_could) {
        bool must = true;

        *ret_could = true;
        for (size_t i = 0; i < n; i++) {
                uint64_t align = a[i].align > 0 ? a[i].align : 2 * MIB;
                bool free = !walk_waiter_first(w, a[i].region);

                must = must && free &&
                       walk_view_fits(v, a[i].region, a[i].size, align, a[i].whole, false);
                *ret_could = *ret_could && free &&
                             walk_view_fits(v, a[i].region, a[i].size, align, a[i].whole,
                                            a[i].include_retired);
        }
        return must;
}

static void check_refusal(Walk *w, const sd_bus_error *e) {
        static const char *const names[] = {"NoCapacity", "Fragmented", "NotPartitionable",
                                            "RegionNotReady"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strncmp(e->name, EGM_ERROR_PREFIX, strlen(EGM_ERROR_PREFIX)) == 0 &&
                    streq(e->name + strlen(EGM_ERROR_PREFIX), names[i]))
                        return;
        for (size_t i = 0; i < WALK_REGIONS; i++)
                if (w->regions[i].unheard && streq(e->name, EGM_ERROR_PREFIX "NoSuchRegion"))
                        return;
        if (w->fail_mmap > 0 && streq(e->name, SD_BUS_ERROR_NO_MEMORY))
                return;
        walk_fail(w, "refused as %s: %s", e->name, e->message);
}

static void check_unchanged(Walk *w, const View *before) {
        char *a, *b;
        View after;

        walk_view_read(w, &after);
        a = walk_view_text(before);
        b = walk_view_text(&after);
        walk_check(w, a && b);
        if (!streq(a, b))
                walk_fail(w, "I6: a refused call changed something:\n%s\nis now\n%s", a, b);
        free(a);
        free(b);
        walk_view_done(&after);
}

void walk_describe(Walk *w, const char *what, const WalkAsked *a, size_t n, bool persistent,
                   bool holder) {
        char text[200] = "";
        size_t at = 0;

        for (size_t i = 0; i < n && at < sizeof(text) - 60; i++)
                at += (size_t) snprintf(
                                text + at, sizeof(text) - at, " %s %s%#" PRIx64 "/%#" PRIx64 "%s",
                                walk_regions[a[i].region].name, a[i].whole ? "whole " : "",
                                a[i].size, a[i].align, a[i].include_retired ? " retired too" : "");
        walk_note(w, "%s%s%s%s", what, persistent ? " persistent" : "", holder ? " bound" : "",
                  text);
}

void walk_op_take(Walk *w) {
        WalkAsked asked[WALK_ASKED] = {};
        size_t n = ask_for(w, asked);
        bool persistent = walk_chance(w, 6), must, could, settled;
        WalkChild *holder = walk_chance(w, 5) ? walk_child_pick(w) : NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m, *reply = NULL;
        WalkLease *l;
        View v;
        int r;

        settled = walk_is_calm(w);
        walk_describe(w, "take", asked, n, persistent, holder);
        walk_view_read(w, &v);
        must = must_fit(w, &v, asked, n, &could);
        l = walk_lease_new(w);
        (void) snprintf(l->label, sizeof(l->label), "w%u", l->serial);
        l->persistent = persistent;
        for (size_t i = 0; i < n; i++)
                l->include_retired = l->include_retired || asked[i].include_retired;
        m = walk_new_request(w, w->bus, asked, n, l->label, persistent,
                             holder ? holder->pidfd : -EBADF, 0);
        r = sd_bus_call(w->bus, m, 0, &e, &reply);
        sd_bus_message_unref(m);
        if (r >= 0) {
                if (settled && !could)
                        walk_fail(w, "granted what should not fit");
                if (holder)
                        l->bound[l->n_bound++] = holder->pid;
                walk_granted(w, reply, l);
                walk_check(w, l->n_slices == n);
                for (size_t i = 0; i < n; i++)
                        if (l->slices[i].region != asked[i].region ||
                            l->slices[i].size != asked[i].size ||
                            (!asked[i].whole &&
                             l->slices[i].offset % (asked[i].align ?: 2 * MIB) != 0))
                                walk_fail(w, "slice %zu is not what was asked for", i);
        } else {
                walk_note(w, "    refused: %s", e.name);
                check_refusal(w, &e);
                if (settled && must && !streq(e.name, SD_BUS_ERROR_NO_MEMORY))
                        walk_fail(w, "refused what fits: %s", e.message);
                walk_lease_forget(w, l);
                if (settled)
                        check_unchanged(w, &v);
        }
        walk_view_done(&v);
        sd_bus_error_free(&e);
        sd_bus_message_unref(reply);
}

static WalkLease *take(Walk *w, const WalkAsked *asked, size_t n) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m, *reply = NULL;
        WalkLease *l = walk_lease_new(w);

        (void) snprintf(l->label, sizeof(l->label), "w%u", l->serial);
        m = walk_new_request(w, w->bus, asked, n, l->label, false, -EBADF, 0);
        if (sd_bus_call(w->bus, m, 0, &e, &reply) < 0)
                walk_fail(w, "refused: %s: %s", e.name, e.message);
        walk_granted(w, reply, l);
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        return l;
}

WalkLease *walk_take(Walk *w, unsigned region, uint64_t size) {
        return take(w, &(WalkAsked){.region = region, .size = size, .align = WALK_GRANULE}, 1);
}

WalkLease *walk_take_two(Walk *w, uint64_t size) {
        const WalkAsked asked[] = {{.region = 0, .size = size, .align = WALK_GRANULE},
                                   {.region = 1, .size = size, .align = WALK_GRANULE}};

        return take(w, asked, ELEMENTSOF(asked));
}

void walk_take_in_vain(Walk *w, unsigned region, uint64_t size) {
        const WalkAsked asked = {.region = region, .size = size, .align = WALK_GRANULE};
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m;

        m = walk_new_request(w, w->bus, &asked, 1, "in vain", false, -EBADF, 0);
        if (sd_bus_call(w->bus, m, 0, &e, NULL) >= 0)
                walk_fail(w, "granted what others wait for");
        check_refusal(w, &e);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
}

void walk_cycle(Walk *w, unsigned region, bool release) {
        const WalkAsked asked = {.region = region, .size = WALK_GRANULE, .align = WALK_GRANULE};
        sd_bus_message *m = walk_new_request(w, w->bus, &asked, 1, "cycle", false, -EBADF,
                                             60 * USEC_PER_SEC),
                       *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        const char *path;

        if (sd_bus_call(w->bus, m, 0, &e, &reply) < 0)
                walk_fail(w, "refused: %s: %s", e.name, e.message);
        walk_check(w, sd_bus_message_read(reply, "o", &path) > 0);
        if (release && sd_bus_call_method(w->bus, EGM_BUS_NAME, path, EGM_LEASE_INTERFACE,
                                          "Release", &e, NULL, "a{sv}", 0) < 0)
                walk_fail(w, "Release: %s: %s", e.name, e.message);
        /* And with the answer go the descriptors in it. */
        sd_bus_message_unref(m);
        sd_bus_message_unref(reply);
        walk_pump(w, 0);
}

void walk_op_take_too_much(Walk *w) {
        const unsigned region = (unsigned) walk_random(w, 2);
        WalkAsked asked[] = {{.region = 1 - region, .size = WALK_GRANULE, .align = WALK_GRANULE},
                             {.region = region, .size = w->regions[region].size + WALK_GRANULE}};
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m;
        View v;

        walk_describe(w, "take too much", asked, 2, false, false);
        walk_view_read(w, &v);
        m = walk_new_request(w, w->bus, asked, 2, "too much", false, -EBADF, 0);
        if (sd_bus_call(w->bus, m, 0, &e, NULL) >= 0)
                walk_fail(w, "granted more than there is");
        check_refusal(w, &e);
        if (walk_is_calm(w))
                check_unchanged(w, &v);
        walk_view_done(&v);
        sd_bus_message_unref(m);
        sd_bus_error_free(&e);
}

sd_bus_message *walk_some_request(Walk *w, sd_bus *bus, const char *label, bool persistent) {
        WalkAsked asked[WALK_ASKED] = {};
        size_t n = ask_for(w, asked);

        for (size_t i = 0; i < n; i++)
                asked[i].include_retired = false;
        return walk_new_request(w, bus, asked, n, label, persistent, -EBADF, 0);
}

/* A client that is gone before the answer comes: nobody has the lifetime, so nothing is left of it. */
void walk_op_vanish(Walk *w) {
        WalkAsked asked = {.region = walk_some_region(w)};
        sd_bus *bus = walk_connect(w);
        bool persistent = walk_chance(w, 4);
        const char *ignored;
        sd_bus_message *m;

        asked.size = walk_some_size(w, w->regions[asked.region].size);
        walk_describe(w, "vanish before the answer", &asked, 1, persistent, false);
        w->may_orphan = w->may_orphan || persistent;
        walk_check(w, sd_bus_get_unique_name(bus, &ignored) >= 0);
        m = walk_new_request(w, bus, &asked, 1, persistent ? "orphan" : "vanished", persistent,
                             -EBADF, 0);
        walk_check(w, sd_bus_send(bus, m, &(uint64_t){0}) >= 0);
        walk_check(w, sd_bus_flush(bus) >= 0);
        sd_bus_message_unref(m);
        sd_bus_close_unref(bus);
        w->settled = false;
}
