/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>

#include "size.h"

/* What is true at every moment, and what must become true when nobody does anything. */

/* ---- at every moment ---- */

/* I5, as one message told it. */
static void check_region(Walk *w, const ViewRegion *r, unsigned i) {
        const char *name = walk_regions[i].name;
        uint64_t at = 0,
                 sum = r->free + r->leased + r->draining + r->dirty + r->scrubbing + r->retired;

        if (!r->there && !w->regions[i].unheard)
                walk_fail(w, "I5: region %s is not there", name);
        if (streq(r->state, "ready") && w->regions[i].gone && w->settled)
                walk_fail(w, "%s is gone, and ready", name);
        if (streq(r->state, "ready") && walk_region_is_held(w, i))
                walk_fail(w, "I2: %s was opened while others have what it was of", name);
        if (streq(r->state, "ready") && r->size != w->regions[i].size)
                walk_fail(w, "I5: %s has %" PRIu64 " bytes", name, r->size);
        if (streq(r->state, "ready") && sum != r->size)
                walk_fail(w, "I5: the states of %s sum up to %" PRIu64 " of %" PRIu64, name, sum,
                          r->size);
        for (size_t k = 0; k < r->n_extents; k++) {
                if (r->extents[k].offset != at || r->extents[k].size == 0)
                        walk_fail(w, "I5: %s: extent %zu does not follow the one before", name, k);
                at += r->extents[k].size;
        }
        if (r->n_extents > 0 && at != w->regions[i].size)
                walk_fail(w, "I5: the extents of %s end at %#" PRIx64, name, at);
}

/* Is all of it the lease's, in the books? */
static bool is_booked(const ViewRegion *r, uint64_t offset, uint64_t size, uint64_t id,
                      const char *state) {
        for (size_t k = 0; k < r->n_extents; k++) {
                const ViewExtent *x = r->extents + k;

                if (walk_overlap(x->offset, x->size, offset, size) &&
                    ((id > 0 ? x->lease != id : x->lease == 0) ||
                     (state && !streq(x->state, state) && !streq(x->state, "retired"))))
                        return false;
        }
        return r->n_extents > 0;
}

/* I4: what a holder keeps is there, active, with what it was told. */
static void check_kept_lease(Walk *w, const View *v, const WalkLease *l) {
        const ViewLease *seen = walk_view_lease(v, l->id);

        /* Whether the daemon ever heard of its release shows when it is at rest. */
        if (l->release_unsure)
                return;
        if (!seen)
                walk_fail(w, "I4: lease %" PRIu64 " (%s) is kept, and gone", l->id, l->label);
        if (!streq(seen->state, walk_lease_is_lost(l) ? "lost" : "active"))
                walk_fail(w, "I4: lease %" PRIu64 " (%s) is kept, and %s", l->id, l->label,
                          seen->state);
        if (!streq(seen->label, l->label) || seen->uid != (uint32_t) geteuid() ||
            !streq(seen->lifetime, l->persistent ? "persistent" : "descriptor") ||
            seen->n_slices != l->n_slices)
                walk_fail(w,
                          "I4: lease %" PRIu64 " is not what it was: %s, uid %" PRIu32 ", %s, "
                          "%zu slices",
                          l->id, seen->label, seen->uid, seen->lifetime, seen->n_slices);
        for (size_t k = 0; k < l->n_slices; k++) {
                const WalkSlice *s = l->slices + k;

                if (seen->slices[k].region != s->region || seen->slices[k].offset != s->offset ||
                    seen->slices[k].size != s->size)
                        walk_fail(w, "I4: slice %zu of lease %" PRIu64 " is not what it was", k,
                                  l->id);
                if (!s->lost &&
                    !is_booked(v->regions + s->region, s->offset, s->size, l->id, "leased"))
                        walk_fail(w,
                                  "I1: not all of %#" PRIx64 "+%#" PRIx64
                                  " of %s is booked as lease %" PRIu64 "'s",
                                  s->offset, s->size, walk_regions[s->region].name, l->id);
        }
}

static void check_overlaps(Walk *w, const View *v) {
        for (size_t i = 0; i < v->n_leases; i++)
                for (size_t k = 0; k < i; k++) {
                        const ViewLease *a = v->leases + i, *b = v->leases + k;

                        if (!streq(a->state, "active") || !streq(b->state, "active"))
                                continue;
                        for (size_t x = 0; x < a->n_slices; x++)
                                for (size_t y = 0; y < b->n_slices; y++)
                                        if (a->slices[x].region == b->slices[y].region &&
                                            walk_overlap(a->slices[x].offset, a->slices[x].size,
                                                         b->slices[y].offset, b->slices[y].size))
                                                walk_fail(w,
                                                          "I1: leases %" PRIu64 " and %" PRIu64
                                                          " overlap",
                                                          a->id, b->id);
                }
}

/* Whatever the daemon was through: what somebody maps is not on its way to anybody else. */
static void check_mapped(Walk *w, const View *v, const WalkChild *c) {
        for (size_t i = 0; i < WALK_SLOTS && c->pid > 0; i++) {
                const WalkSlot *s = c->slots + i;
                const ViewRegion *r = v->regions + s->region;
                const WalkLease *l;

                if (s->kind != WALK_SLOT_MAP || s->private || r->n_extents == 0 ||
                    s->generation != w->regions[s->region].generation || !streq(r->state, "ready"))
                        continue;
                l = walk_lease_find(w, s->lease);
                if (!is_booked(r, s->offset, s->size, l ? l->id : 0, NULL))
                        walk_fail(w,
                                  "I2: pid %i maps %#" PRIx64 "+%#" PRIx64
                                  " of %s (lease serial %u), and the books give it to others",
                                  (int) c->pid, s->offset, s->size, walk_regions[s->region].name,
                                  s->lease);
        }
}

static void check_view(Walk *w, const View *v) {
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                check_region(w, v->regions + i, i);
        for (size_t i = 0; i < WALK_LEASES; i++)
                if (w->leases[i].used && w->leases[i].id > 0 && !w->leases[i].ended)
                        check_kept_lease(w, v, w->leases + i);
        check_overlaps(w, v);
        for (size_t i = 0; i < WALK_CHILDREN; i++)
                check_mapped(w, v, w->children + i);
}

void walk_check_always(Walk *w) {
        View v;

        walk_pump(w, 0);
        walk_view_read(w, &v);
        check_view(w, &v);
        walk_view_done(&v);
        walk_children_check(w);
}

/* ---- at rest ---- */

static char why[400];

bool walk_not_yet(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(why, sizeof(why), format, ap);
        va_end(ap);
        return false;
}

static bool names_a_blocker(const Walk *w, const ViewLease *seen, const WalkLease *l) {
        for (size_t i = 0; i < seen->n_held_up_by; i++)
                for (size_t k = 0; k < WALK_CHILDREN; k++)
                        for (size_t j = 0; j < l->n_slices; j++)
                                if (w->children[k].pid == seen->held_up_by[i] &&
                                    walk_child_blocks(w, w->children + k, l->slices + j))
                                        return true;
        return false;
}

/* After a restart the bytes that a lease had given back are nobody's, and others may hold them up: who touches what nobody
 * claims, or who has another part of a region that is scrubbed as a whole. */
static bool is_held_back(Walk *w, const View *v, const WalkLease *l) {
        for (size_t k = 0; k < l->n_slices; k++) {
                const ViewRegion *r = v->regions + l->slices[k].region;

                for (size_t i = 0; i < r->n_extents; i++) {
                        const ViewExtent *x = r->extents + i;
                        const WalkLease *o = x->lease > 0 ? walk_lease_find_id(w, x->lease) : NULL;

                        if (o && o != l &&
                            (walk_regions[l->slices[k].region].whole_only ||
                             w->regions[l->slices[k].region].spoiled))
                                return true;
                        if (o && o != l && o->unclaimed &&
                            walk_overlap(x->offset, x->size, l->slices[k].offset,
                                         l->slices[k].size))
                                return true;
                }
        }
        return false;
}

static bool ended_lease_is_settled(Walk *w, const View *v, WalkLease *l) {
        const ViewLease *seen = walk_view_lease(v, l->id);
        bool blocked = false, must_be = false;

        for (size_t k = 0; k < l->n_slices; k++) {
                bool b = walk_slice_is_blocked(w, l->slices + k);

                blocked = blocked || b;
                must_be = must_be || (b && !l->slices[k].was_unblocked);
        }
        if (!blocked) {
                if (seen && streq(seen->state, "active"))
                        return walk_not_yet("lease %" PRIu64 " (%s) has ended, and is active",
                                            l->id, l->label);
                if (seen && is_held_back(w, v, l)) {
                        w->may_go_on = true;
                        return true;
                }
                if (seen)
                        return walk_not_yet("lease %" PRIu64
                                            " (%s) has ended, nobody can touch it, and it is %s",
                                            l->id, l->label, seen->state);
                walk_lease_forget(w, l);
                return true;
        }
        if (!seen) {
                if (must_be)
                        walk_fail(w, "I2: lease %" PRIu64 " (%s) is gone, and can still be touched",
                                  l->id, l->label);
                walk_lease_forget(w, l);
                return true;
        }
        /* It may have been given back long ago, and wait for nothing but to be scrubbed; or a look that began before it was
         * held up again is about to find that nobody does. */
        if (!must_be && (streq(seen->state, "draining") || is_held_back(w, v, l))) {
                w->may_go_on = true;
                return true;
        }
        if (!walk_lease_state_is(l, seen->state, "draining"))
                return walk_not_yet("lease %" PRIu64 " (%s) is held up, and %s", l->id, l->label,
                                    seen->state);
        if (!names_a_blocker(w, seen, l))
                return walk_not_yet("HeldUpBy of lease %" PRIu64 " (%s) names nobody who does",
                                    l->id, l->label);
        for (size_t k = 0; k < l->n_slices; k++)
                if (walk_slice_is_blocked(w, l->slices + k) && !l->slices[k].was_unblocked &&
                    !is_booked(v->regions + l->slices[k].region, l->slices[k].offset,
                               l->slices[k].size, l->id, "draining"))
                        return walk_not_yet("slice %zu of lease %" PRIu64
                                            " (%s) can be touched, and does not "
                                            "drain",
                                            k, l->id, l->label);
        return true;
}

/* Asked for by who never heard that it was granted; devices may have gone since. */
static void found_orphan(Walk *w, const View *v, const ViewLease *seen) {
        bool lost = streq(seen->state, "lost");
        WalkLease *l = walk_lease_new(w);

        l->id = seen->id;
        l->persistent = true;
        walk_ids_add(w, l->id);
        (void) snprintf(l->label, sizeof(l->label), "orphan");
        (void) snprintf(l->path, sizeof(l->path), EGM_LEASE_PATH "/%" PRIu64, l->id);
        memcpy(l->slices, seen->slices, sizeof(l->slices));
        l->n_slices = seen->n_slices;
        for (size_t k = 0; k < l->n_slices && lost; k++) {
                WalkSlice *s = l->slices + k;
                const WalkRegion *r = w->regions + s->region;

                s->lost = r->rested != r->generation &&
                          !is_booked(v->regions + s->region, s->offset, s->size, l->id, NULL);
        }
        if (lost && !walk_lease_is_lost(l))
                walk_fail(w, "lease %" PRIu64 " (orphan) is lost for no reason", l->id);
}

/* What a restart could not account for shows as a lease of the daemon's own while somebody uses it; and what a client that
 * was gone too early was granted drains like any other. */
static bool found_lease(Walk *w, const View *v, const ViewLease *seen) {
        /* Or who stopped waiting when it had just been granted. */
        bool unknown = streq(seen->label, "(unknown)"),
             vanished = streq(seen->label, "vanished") || streq(seen->label, "orphan") ||
                        seen->label[0] == 'q',
             blocked = false;
        WalkLease *l;

        if ((w->may_find || w->may_orphan) && streq(seen->label, "orphan") &&
            (streq(seen->state, "active") || streq(seen->state, "lost"))) {
                found_orphan(w, v, seen);
                return true;
        }
        if (!vanished && !(unknown && w->may_find))
                return walk_not_yet("lease %" PRIu64 " (%s, %s) is nobody's", seen->id, seen->label,
                                    seen->state);
        for (size_t k = 0; k < seen->n_slices; k++)
                blocked = blocked || walk_slice_is_blocked(w, seen->slices + k);
        if (!blocked || streq(seen->state, "active"))
                return walk_not_yet("lease %" PRIu64
                                    " (%s, %s) is nobody's, and nobody can touch it",
                                    seen->id, seen->label, seen->state);
        l = walk_lease_new(w);
        l->id = seen->id;
        l->unclaimed = l->ended = true;
        (void) snprintf(l->label, sizeof(l->label), "%.20s", seen->label);
        for (size_t k = 0; k < seen->n_slices; k++) {
                l->slices[k] = seen->slices[k];
                l->slices[k].was_unblocked = true; /* perhaps: nobody told us when it began */
        }
        l->n_slices = seen->n_slices;
        walk_note(w, "lease %" PRIu64 " (%s) is found", l->id, l->label);
        return true;
}

/* The daemon knows whether it heard of a release that it did not live to answer. */
static void settle_releases(Walk *w, const View *v) {
        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;
                const ViewLease *seen = l->used ? walk_view_lease(v, l->id) : NULL;

                if (!l->used || l->id == 0 || !l->release_unsure)
                        continue;
                l->release_unsure = false;
                if (!l->released)
                        l->released = !seen ||
                                      (!streq(seen->state, "active") && !walk_lease_is_lost(l));
                walk_model_update(w);
        }
}

static bool leases_are_settled(Walk *w, const View *v) {
        settle_releases(w, v);
        /* Before the others, for these may be what they wait for. */
        for (size_t i = 0; i < v->n_leases; i++)
                if (!walk_lease_find_id(w, v->leases[i].id) && !found_lease(w, v, v->leases + i))
                        return false;
        for (size_t i = 0; i < WALK_LEASES; i++) {
                WalkLease *l = w->leases + i;

                if (l->used && l->id > 0 && l->ended && !ended_lease_is_settled(w, v, l))
                        return false;
        }
        if (v->lease_count != v->n_leases)
                return walk_not_yet("LeaseCount is %" PRIu32 ", and there are %zu", v->lease_count,
                                    v->n_leases);
        return true;
}

/* Everything listed is retired, and nothing but that and what scrubbing found. */
static bool retired_is_settled(const Walk *w, const ViewRegion *r, unsigned i) {
        const WalkRegionConfig *c = walk_regions + i;
        WalkSpan expected[ELEMENTSOF(c->retired) + 1];
        size_t n = 0;

        while (n < ELEMENTSOF(c->retired) && c->retired[n].size > 0) {
                expected[n] = c->retired[n];
                n++;
        }
        if (w->regions[i].late)
                expected[n++] = c->late;
        for (size_t k = 0; k < n; k++) {
                bool found = false;

                for (size_t j = 0; j < r->n_retired; j++)
                        found = found || (r->retired_ranges[j].offset <= expected[k].offset &&
                                          r->retired_ranges[j].offset + r->retired_ranges[j].size >=
                                                          expected[k].offset + expected[k].size);
                if (!found)
                        return walk_not_yet("%s: %#" PRIx64 " is not retired", c->name,
                                            expected[k].offset);
        }
        for (size_t j = 0; j < r->n_retired; j++) {
                const WalkSpan *t = r->retired_ranges + j;
                bool known = t->size == WALK_GRANULE &&
                             t->offset == align_down(c->bad.offset, WALK_GRANULE) &&
                             c->bad.size > 0;

                for (size_t k = 0; k < n; k++)
                        known = known ||
                                (t->offset == expected[k].offset && t->size == expected[k].size);
                if (!known)
                        return walk_not_yet("%s: %#" PRIx64 "+%#" PRIx64
                                            " is retired for no reason",
                                            c->name, t->offset, t->size);
        }
        return true;
}

static bool region_is_settled(Walk *w, const View *v, unsigned i) {
        const ViewRegion *r = v->regions + i;
        const char *name = walk_regions[i].name;
        bool whole_only = walk_regions[i].whole_only || w->regions[i].spoiled, owned = false;

        if (w->regions[i].gone) {
                if (r->there && !streq(r->state, "gone"))
                        return walk_not_yet("%s is gone, and %s", name, r->state);
                if (r->there && r->schedulable != w->regions[i].schedulable)
                        walk_fail(w, "%s is%s schedulable", name, r->schedulable ? "" : " not");
                return true;
        }
        if (!streq(r->state, "ready"))
                return walk_not_yet("%s is %s", name, r->state);
        if (r->schedulable != w->regions[i].schedulable)
                walk_fail(w, "%s is%s schedulable", name, r->schedulable ? "" : " not");
        if (streq(r->partitioning, "whole-only") != whole_only)
                walk_fail(w, "%s is %s", name, r->partitioning);
        for (size_t k = 0; k < r->n_extents; k++)
                owned = owned || r->extents[k].lease != 0;
        for (size_t k = 0; k < r->n_extents; k++) {
                const ViewExtent *x = r->extents + k;
                const WalkLease *l = x->lease > 0 ? walk_lease_find_id(w, x->lease) : NULL;

                if (x->lease > 0 && !l)
                        return walk_not_yet("%s: %#" PRIx64 " is of lease %" PRIu64
                                            ", which is nobody's",
                                            name, x->offset, x->lease);
                if (streq(x->state, "leased") && (!l || l->ended))
                        return walk_not_yet("%s: %#" PRIx64 " is leased by one that ended", name,
                                            x->offset);
                /* What ignores offsets is scrubbed when it is all nobody's. */
                if ((streq(x->state, "dirty") || streq(x->state, "scrubbing")) &&
                    !(whole_only && owned))
                        return walk_not_yet("%s: %#" PRIx64 "+%#" PRIx64 " is %s", name, x->offset,
                                            x->size, x->state);
        }
        return retired_is_settled(w, r, i);
}

static bool waiters_are_settled(Walk *w, const View *v) {
        const WalkWaiter *sorted[WALK_WAITERS];
        size_t n = 0;

        for (size_t i = 0; i < WALK_WAITERS; i++) {
                const WalkWaiter *q = w->waiters + i;
                size_t at = n;

                if (!q->bus || q->answered)
                        continue;
                for (; at > 0 && sorted[at - 1]->order > q->order; at--)
                        sorted[at] = sorted[at - 1];
                sorted[at] = q;
                n++;
        }
        if (n != v->n_waiting)
                return walk_not_yet("%zu requests wait, and %zu should", v->n_waiting, n);
        for (size_t i = 0; i < n; i++)
                if (!streq(v->waiting[i], sorted[i]->label))
                        return walk_not_yet("place %zu: %s waits, and not %s", i, v->waiting[i],
                                            sorted[i]->label);
        for (size_t i = 0; i < n; i++)
                if (walk_waiter_first(w, sorted[i]->region) == sorted[i] &&
                    walk_view_fits(v, sorted[i]->region, sorted[i]->size, sorted[i]->align,
                                   sorted[i]->whole, false))
                        return walk_not_yet("%s waits first, and fits", sorted[i]->label);
        return true;
}

static bool is_settled(Walk *w, const View *v) {
        w->may_go_on = false;
        if (!leases_are_settled(w, v))
                return false;
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                if (!region_is_settled(w, v, i))
                        return false;
        return waiters_are_settled(w, v) && walk_files_are_settled(w, v);
}

static void note_owners(Walk *w, const View *v) {
        for (size_t i = 0; i < WALK_LEASES; i++)
                for (size_t k = 0; k < w->leases[i].n_slices && w->leases[i].used; k++) {
                        WalkSlice *s = w->leases[i].slices + k;

                        s->owned = !s->lost && is_booked(v->regions + s->region, s->offset, s->size,
                                                         w->leases[i].id, NULL);
                }
}

void walk_settle(Walk *w) {
        uint64_t deadline = walk_now_usec() + WALK_DEADLINE_USEC;

        walk_model_update(w);
        for (;;) {
                bool settled;
                View v;

                walk_pump(w, 0);
                walk_view_read(w, &v);
                check_view(w, &v);
                settled = is_settled(w, &v);
                if (settled)
                        note_owners(w, &v);
                walk_view_done(&v);
                if (settled)
                        break;
                if (walk_now_usec() >= deadline)
                        walk_fail(w, "waited in vain: %s", why);
                /* Most changes are told; who looks at what is draining is not. */
                walk_pump(w, 50 * USEC_PER_MSEC);
        }
        walk_children_check(w);
        w->settled = true;
        w->may_find = w->may_orphan = false;
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                w->regions[i].rested = w->regions[i].generation;
                if (!w->regions[i].gone) {
                        w->regions[i].has_memory = true;
                        w->regions[i].memory = w->regions[i].generation;
                }
        }
}
