/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>

/* The rules of a lease's life, told once more, by who holds what. */

static void ids_insert(Walk *w, uint64_t id) {
        size_t at = (id * UINT64_C(0x9e3779b97f4a7c15) >> 32) % w->room_for_ids;

        for (; w->ids[at] != 0; at = (at + 1) % w->room_for_ids)
                if (w->ids[at] == id)
                        walk_fail(w, "lease number %" PRIu64 " was used before", id);
        w->ids[at] = id;
}

void walk_ids_add(Walk *w, uint64_t id) {
        if (2 * (w->n_ids + 1) > w->room_for_ids) {
                uint64_t *old = w->ids;
                size_t n = w->room_for_ids;

                w->room_for_ids = 2 * n + 1024;
                w->ids = calloc(w->room_for_ids, sizeof(*w->ids));
                walk_check(w, w->ids);
                for (size_t i = 0; i < n; i++)
                        if (old[i] != 0)
                                ids_insert(w, old[i]);
                free(old);
        }
        ids_insert(w, id);
        w->n_ids++;
}

WalkLease *walk_lease_new(Walk *w) {
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (!w->leases[i].used) {
                        w->leases[i] = (WalkLease){.used = true, .serial = w->next_serial++};
                        return w->leases + i;
                }
        walk_fail(w, "more than %u leases at once", WALK_LEASES);
}

WalkLease *walk_lease_find(Walk *w, unsigned serial) {
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used && w->leases[i].serial == serial)
                        return w->leases + i;
        return NULL;
}

WalkLease *walk_lease_find_id(Walk *w, uint64_t id) {
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used && w->leases[i].id == id)
                        return w->leases + i;
        return NULL;
}

WalkLease *walk_lease_pick(Walk *w, bool ended) {
        size_t from = walk_random(w, WALK_LEASES);

        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + (from + i) % WALK_LEASES;

                if (l->used && l->id > 0 && !l->unclaimed && l->ended == ended)
                        return l;
        }
        return NULL;
}

void walk_lease_forget(Walk *w, WalkLease *l) {
        *l = (WalkLease){};
}

bool walk_lease_is_bound(const WalkLease *l, pid_t pid) {
        for (size_t i = 0; i < l->n_bound; i++)
                if (l->bound[i] == pid)
                        return true;
        return false;
}

unsigned walk_lease_bound_alive(const Walk *w, const WalkLease *l) {
        unsigned n = 0;

        for (size_t i = 0; i < WALK_CHILDREN; i++)
                n += w->children[i].pid > 0 && walk_lease_is_bound(l, w->children[i].pid);
        return n;
}

static bool child_has(const WalkChild *c, WalkSlotKind kind, unsigned lease) {
        for (size_t i = 0; i < WALK_SLOTS && c->pid > 0; i++)
                if (c->slots[i].kind == kind && c->slots[i].lease == lease)
                        return true;
        return false;
}

bool walk_lease_is_kept(const Walk *w, const WalkLease *l) {
        if (l->released || l->unclaimed || l->ended)
                return false;
        if (l->persistent || walk_lease_bound_alive(w, l) > 0)
                return true;
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                if (child_has(w->children + i, WALK_SLOT_LIFETIME, l->serial))
                        return true;
        return false;
}

bool walk_lease_is_lost(const WalkLease *l) {
        for (size_t i = 0; i < l->n_slices; i++)
                if (l->slices[i].lost)
                        return true;
        return false;
}

bool walk_lease_state_is(const WalkLease *l, const char *state, const char *otherwise) {
        bool surely = false;

        for (size_t i = 0; i < l->n_slices; i++)
                surely = surely || (l->slices[i].lost && !l->slices[i].perhaps_done);
        return streq(state, walk_lease_is_lost(l) ? "lost" : otherwise) ||
               (!surely && streq(state, otherwise));
}

/* Does it hold a lease of that memory: bound, with its lifetime descriptor, or mapping it? */
bool walk_child_has_active_lease(const Walk *w, const WalkChild *c, const WalkSlice *s) {
        for (size_t i = 0; i < WALK_LEASES; i++) {
                const WalkLease *l = w->leases + i;

                if (!l->used || !walk_lease_is_kept(w, l))
                        continue;
                for (size_t k = 0; k < l->n_slices; k++) {
                        const WalkSlice *t = l->slices + k;

                        if (t->lost || t->region != s->region || t->generation != s->generation)
                                continue;
                        if (walk_lease_is_bound(l, c->pid) ||
                            child_has(c, WALK_SLOT_LIFETIME, l->serial))
                                return true;
                        for (size_t j = 0; j < WALK_SLOTS; j++)
                                if (c->slots[j].kind == WALK_SLOT_MAP &&
                                    c->slots[j].region == s->region &&
                                    c->slots[j].generation == s->generation &&
                                    (c->slots[j].private || walk_regions[s->region].whole_only ||
                                     w->regions[s->region].spoiled ||
                                     walk_overlap(c->slots[j].offset, c->slots[j].size, t->offset,
                                                  t->size)))
                                        return true;
                }
        }
        return false;
}

bool walk_child_blocks(const Walk *w, const WalkChild *c, const WalkSlice *s) {
        bool has_fd = false;

        for (size_t i = 0; i < WALK_SLOTS && c->pid > 0; i++) {
                const WalkSlot *t = c->slots + i;

                if (t->region != s->region || t->generation != s->generation)
                        continue;
                if (t->kind == WALK_SLOT_MEMORY)
                        has_fd = true;
                /* A private mapping does not show what it maps, nor does any where offsets mean nothing. */
                if (t->kind == WALK_SLOT_MAP &&
                    (t->private || walk_regions[s->region].whole_only ||
                     w->regions[s->region].spoiled ||
                     walk_overlap(t->offset, t->size, s->offset, s->size)))
                        return true;
        }
        return has_fd && !walk_child_has_active_lease(w, c, s);
}

bool walk_slice_is_blocked(const Walk *w, const WalkSlice *s) {
        if (s->lost)
                return false;
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                if (walk_child_blocks(w, w->children + i, s))
                        return true;
        return false;
}

void walk_model_update(Walk *w) {
        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;

                if (l->used && l->id > 0 && !walk_lease_is_kept(w, l))
                        l->ended = true;
        }
        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;

                for (size_t k = 0; k < l->n_slices && l->used && l->ended; k++)
                        if (!walk_slice_is_blocked(w, l->slices + k))
                                l->slices[k].was_unblocked = true;
        }
        w->settled = false;
}

void walk_model_child_gone(Walk *w, pid_t pid) {
        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;

                for (size_t k = 0; k < l->n_bound; k++)
                        if (l->bound[k] == pid) {
                                l->bound[k] = l->bound[--l->n_bound];
                                break;
                        }
        }
        walk_model_update(w);
}

void walk_model_new_memory(Walk *w, unsigned region) {
        w->regions[region].generation++;
        w->regions[region].spoiled = false;
        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;

                for (size_t k = 0; k < l->n_slices && l->used; k++)
                        if (l->slices[k].region == region && !l->slices[k].lost) {
                                l->slices[k].lost = true;
                                l->slices[k].perhaps_done = l->slices[k].was_unblocked;
                        }
        }
        walk_model_update(w);
}

static bool lease_is_of(const WalkLease *l, unsigned region) {
        for (size_t k = 0; k < l->n_slices; k++)
                if (l->used && l->slices[k].region == region && !l->slices[k].lost)
                        return true;
        return false;
}

/* Does the child map something of the region, and only what recorded leases were lent? */
static bool maps_leases_only(Walk *w, const WalkChild *c, unsigned region) {
        bool maps = false, blind = walk_regions[region].whole_only || w->regions[region].spoiled;

        for (size_t i = 0; i < WALK_SLOTS; i++) {
                const WalkSlot *s = c->slots + i;

                if (s->kind != WALK_SLOT_MAP || s->region != region ||
                    s->generation != w->regions[region].generation)
                        continue;
                maps = true;
                if (!blind && (s->private || !walk_lease_find(w, s->lease)))
                        return false;
        }
        return maps;
}

bool walk_model_has_party(Walk *w, unsigned region) {
        for (size_t k = 0; k < WALK_CHILDREN; k++) {
                const WalkChild *c = w->children + k;
                bool has_fd = false;

                for (size_t j = 0; j < WALK_SLOTS && c->pid > 0; j++)
                        has_fd = has_fd ||
                                 (c->slots[j].kind == WALK_SLOT_MEMORY &&
                                  c->slots[j].region == region &&
                                  c->slots[j].generation == w->regions[region].generation);
                if (!has_fd)
                        continue;
                if (maps_leases_only(w, c, region))
                        return true;
                for (size_t i = 0; i < WALK_LEASES; i++) {
                        const WalkLease *l = w->leases + i;

                        if (lease_is_of(l, region) && !l->released && !l->unclaimed &&
                            (walk_lease_is_bound(l, c->pid) ||
                             child_has(c, WALK_SLOT_LIFETIME, l->serial)))
                                return true;
                }
        }
        return false;
}
