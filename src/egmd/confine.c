/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "confine.h"
#include "enforce-pins.h"
#include "lifeline.h"
#include "log.h"
#include "manager.h"

#define NOT_ENFORCED "not enforced, which RequireEnforcement= asks for"

void confine_begin(Manager *m) {
        _cleanup_free_ char *why = NULL;
        int r;

        assert(m);
        assert(!m->enforce);

        r = enforce_load(&m->enforce, &why);
        if (r < 0) {
                log_notice("Isolation is cooperative: %s", why ?: strerror(-r));
                m->lax = TAKE_PTR(why);
                /* Half of it is worse than nothing: it would keep us out. */
                confine_remove();
                return;
        }
        log_info("The kernel's programs are %s",
                 enforce_is_continued(m->enforce) ? "as they were" : "loaded");
}

void confine_decline(Manager *m, const char *why) {
        assert(m);
        assert(!m->enforce);

        if (free_and_strdup(&m->lax, why) < 0)
                (void) log_oom();
}

void confine_remove(void) {
        int r = enforce_remove_pins();

        if (r < 0)
                (void) log_error_errno(r, "Failed to take our programs out of the kernel: %m");
        else if (r > 0)
                log_warning("Took our programs out of the kernel: leases that were enforced are "
                            "cooperative from now on");
}

void confine_end(Manager *m) {
        int r;

        assert(m);

        if (!m->enforce || !RB_EMPTY(&m->leases))
                return;
        r = enforce_remove_pins();
        if (r < 0)
                (void) log_warning_errno(r, "Failed to take our programs out of the kernel: %m");
}

void confine_check(Manager *m) {
        bool missed = m->pins_missed;
        int r;

        assert(m);

        if (!m->enforce)
                return;
        r = enforce_check(m->enforce);
        if (r > 0)
                log_error("Somebody removed what keeps leases enforced while egmd restarts; it is "
                          "back, and they were enforced all the time");
        else if (r < 0 && !m->pins_missed)
                (void) log_error_errno(r, "What keeps leases enforced while egmd restarts is gone, "
                                          "and cannot be put back: %m");
        m->pins_missed = r < 0;
        if (m->pins_missed != missed)
                for (size_t i = 0; i < m->n_regions; i++)
                        manager_region_changed(m, m->regions[i]);
}

const char *confine_reason(const Region *r) {
        assert(r);

        if (!r->enforced)
                return r->lax ?: r->manager->lax;
        return r->manager->pins_missed ? "until egmd ends: somebody removed " ENFORCE_PIN_DIRECTORY
                                       : NULL;
}

/* ---- regions ---- */

bool confine_region(Enforce *e, const Provider *p, dev_t devnum, char **ret_why) {
        int r;

        assert(p);
        assert(p->fd >= 0);
        assert(ret_why);

        *ret_why = NULL;
        if (!e || !p->vtable->has_node)
                return false;
        r = enforce_close_gate(e, devnum);
        if (r >= 0)
                r = enforce_prove(e, p->fd, devnum, p->granule, ret_why);
        if (r > 0)
                return true;
        if (r < 0 && asprintf(ret_why, "it could not be tried: %s", strerror(-r)) < 0)
                *ret_why = NULL;
        r = enforce_open_gate(e, devnum);
        if (r < 0)
                (void) log_error_errno(r, "%s: failed to open its gate: %m", p->name);
        return false;
}

void confine_set_region(Region *r, bool enforced, char *why) {
        Manager *m = r->manager;

        if (m->enforce && !r->simulated && !enforced)
                log_warning("%s: isolation is cooperative: %s", r->name, why ?: "not known why");
        r->enforced = enforced;
        free(r->lax);
        r->lax = why;
        if (m->config->require_enforcement && !enforced)
                r->forbidden = NOT_ENFORCED;
        else if (streq_ptr(r->forbidden, NOT_ENFORCED))
                r->forbidden = NULL;
}

void confine_shut_region(Region *r) {
        int k;

        if (!r->manager->enforce || r->simulated)
                return;
        k = enforce_close_gate(r->manager->enforce, r->info->devnum);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to close its gate: %m", r->name);
}

void confine_let_region_go(Region *r) {
        int k;

        r->enforced = false;
        if (!r->manager->enforce || r->simulated)
                return;
        k = enforce_open_gate(r->manager->enforce, r->info->devnum);
        if (k < 0)
                (void) log_error_errno(k, "%s: failed to open its gate: %m", r->name);
}

/* ---- leases ---- */

static bool describe(const Lease *l, EnforceLease *ret) {
        bool all = true;

        *ret = (EnforceLease){.number = l->id, .flags = l->exposed ? ENFORCE_LEASE_EXPOSED : 0};
        for (size_t i = 0; i < l->n_slices; i++) {
                const Slice *s = l->slices + i;
                const Region *region = s->region;

                if (s->phase != SLICE_LEASED || !region)
                        continue;
                if (!region->enforced) {
                        all = false;
                        continue;
                }
                assert(ret->n < ENFORCE_SLICES_MAX);
                ret->slices[ret->n++] = (EnforceSlice){
                                .rdev = enforce_rdev(region->info->devnum),
                                .start = s->offset,
                                .end = s->offset + s->size,
                };
        }
        return all && ret->n > 0;
}

int confine_lease(Manager *m, Lease *l) {
        EnforceLease entry;
        int r;

        assert(m);
        assert(l);

        l->enforced = l->gated = false;
        if (!m->enforce || l->delegated)
                return 0;
        l->enforced = describe(l, &entry);
        l->gated = entry.n > 0;
        /* After a restart it may be in the table with what it has lost. */
        r = l->gated ? enforce_set_lease(m->enforce, &entry) : enforce_revoke(m->enforce, l->id);
        l->revoked = !l->gated && r >= 0;
        if (r < 0)
                l->enforced = false;
        return r;
}

void confine_shrink(Manager *m, Lease *l) {
        EnforceLease entry;
        int r;

        if (!m->enforce || l->delegated || l->revoked || !lease_is_kept(l))
                return;
        (void) describe(l, &entry);
        /* Of what is left none may be lent while it is in the table, and none is: it is still this lease's. */
        r = entry.n > 0 ? enforce_set_lease(m->enforce, &entry) : enforce_revoke(m->enforce, l->id);
        if (r < 0)
                (void) log_error_errno(r,
                                       "Lease %" PRIu64 ": failed to take what is lost from it: %m",
                                       l->id);
}

void confine_revoke(Manager *m, Lease *l) {
        int r;

        assert(m);
        assert(l);

        if (!m->enforce)
                return;
        r = enforce_revoke(m->enforce, l->id);
        l->revoked = r >= 0;
        if (r < 0)
                (void) log_error_errno(r, "Lease %" PRIu64 ": failed to end its rights: %m", l->id);
}

typedef struct Admitting {
        const Manager *manager;
        int unclaimed; /* something drains that is nobody's; -1: not asked yet */
} Admitting;

static bool has_unclaimed(const Manager *m) {
        for (size_t i = 0; i < m->n_regions; i++) {
                const Slice *s;

                TAILQ_FOREACH (s, &m->regions[i]->draining, phase_link)
                        if (s->lease->unclaimed)
                                return true;
        }
        return false;
}

/* What nobody is known to have had is waited for as long as somebody who bears a number that is nobody's is under way: whichever
 * number that is. Were all kept, a process that has one lease after the other would be full when it may not be. */
static EnforceMatter may_matter(__u64 number, void *userdata) {
        Admitting *a = userdata;

        if (manager_find_lease(a->manager, number))
                return ENFORCE_MATTERS;
        if (a->unclaimed < 0)
                a->unclaimed = has_unclaimed(a->manager);
        return a->unclaimed ? ENFORCE_ANY_MATTERS : ENFORCE_MATTERS_NOT;
}

int confine_admit(Manager *m, const Lease *l, int pidfd, EgmError *reterr) {
        Admitting a;
        int r;

        assert(m);
        assert(l);

        if (!m->enforce || !l->gated)
                return 0;
        a = (Admitting){.manager = m, .unclaimed = -1};
        r = enforce_admit(m->enforce, pidfd, l->id, may_matter, &a);
        if (r == -EUSERS)
                return egm_error_set(reterr, EGM_ERROR_QUOTA_EXCEEDED,
                                     "The process, or one that shares its memory, may map %d "
                                     "leases already, its own and those "
                                     "that it inherited; the limit is %d",
                                     ENFORCE_NUMBERS_MAX, ENFORCE_NUMBERS_MAX);
        if (r == -ESRCH)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "The process is gone");
        if (r == -EBUSY)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "The process executes one program after the other");
        return r < 0 ? r : 0;
}

bool confine_holds(const Lease *l) {
        return l->enforced && !l->exposed;
}

bool confine_is_over(Manager *m, Lease *l) {
        assert(m);
        assert(l);

        if (!m->enforce || !l->gated || l->revoked || lease_is_kept(l))
                return true;
        confine_revoke(m, l);
        return false;
}

/* ---- after a restart ---- */

/* Not by its record alone: one that nothing keeps is over, its rights were ended or are about to be, and none is to come back. */
static bool has_rights(const Lease *l) {
        return lease_is_kept(l) && !l->unclaimed && !l->delegated;
}

static bool keep_number(__u64 number, void *userdata) {
        const Lease *l = manager_find_lease(userdata, number);

        return l && has_rights(l);
}

int confine_restored(Manager *m) {
        unsigned n_exposed = 0;
        Lease *l;
        int r;

        assert(m);

        if (!m->enforce)
                return 0;
        r = enforce_keep_only(m->enforce, keep_number, m);
        if (r < 0)
                return log_error_errno(r, "Failed to end the rights to leases that are over: %m");
        m->next_lease_id = MAX(m->next_lease_id, (uint64_t) enforce_next_number(m->enforce));
        RB_FOREACH (l, LeaseTree, &m->leases) {
                EnforceLease entry;

                l->revoked = !has_rights(l);
                if (l->revoked)
                        continue;
                r = enforce_get_lease(m->enforce, l->id, &entry);
                l->exposed = r < 0 || (entry.flags & ENFORCE_LEASE_EXPOSED);
                n_exposed += r < 0;
        }
        if (n_exposed > 0)
                log_warning("Not enforced all the time, and called cooperative from now on: %u %s",
                            n_exposed, n_exposed == 1 ? "lease" : "leases");
        return 0;
}

static void admit_bound(Manager *m, const Lease *l) {
        for (unsigned i = 0; i < lifeline_bound(l->lifeline); i++) {
                _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
                int r = confine_admit(m, l, lifeline_pidfd(l->lifeline, i), &e);

                if (r < 0)
                        (void) log_warning_errno(r, "Lease %" PRIu64 ": pid %i may not map it: %s",
                                                 l->id, (int) lifeline_pid(l->lifeline, i),
                                                 e.message ?: strerror(-r));
        }
}

void confine_take_up(Manager *m) {
        Lease *l;

        assert(m);

        if (!m->enforce)
                return;
        RB_FOREACH (l, LeaseTree, &m->leases) {
                int r;

                if (!has_rights(l))
                        continue;
                r = confine_lease(m, l);
                if (r < 0)
                        (void) log_error_errno(r,
                                               "Lease %" PRIu64
                                               ": failed to give it its rights again: %m",
                                               l->id);
                admit_bound(m, l);
        }
}
