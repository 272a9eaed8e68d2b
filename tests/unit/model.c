/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "model.h"

int model_new(size_t n, Model **ret) {
        Model *m;

        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->n = n;
        m->cells = calloc(n, sizeof(*m->cells));
        m->blocked = calloc(n + 1, sizeof(*m->blocked));
        m->free = calloc(n + 1, sizeof(*m->free));
        if (!m->cells || !m->blocked || !m->free) {
                model_free(m);
                return -ENOMEM;
        }
        for (size_t i = 0; i < n; i++)
                m->cells[i] = (Cell){.state = EXTENT_DIRTY, .content = UINT32_MAX};
        m->count[EXTENT_DIRTY] = n;
        *ret = m;
        return 0;
}

Model *model_free(Model *m) {
        if (!m)
                return NULL;
        free(m->cells);
        free(m->blocked);
        free(m->free);
        return mfree(m);
}

static bool cell_is(const Cell *c, ExtentState state, uint32_t owner) {
        return c->state == state && c->owner == owner;
}

/* What becomes of one granule; false: not from here. */
static bool cell_apply(Cell *c, ModelOp op, uint32_t owner) {
        switch (op) {
        case MODEL_BEGIN_SCRUB:
                if (cell_is(c, EXTENT_DIRTY, 0))
                        c->state = EXTENT_SCRUBBING;
                else if (!cell_is(c, EXTENT_RETIRED, 0))
                        return false;
                return true;
        case MODEL_END_SCRUB:
                if (cell_is(c, EXTENT_SCRUBBING, 0)) {
                        c->state = EXTENT_FREE;
                        c->content = 0;
                } else if (!cell_is(c, EXTENT_RETIRED, 0))
                        return false;
                return true;
        case MODEL_FAIL_SCRUB:
                if (cell_is(c, EXTENT_SCRUBBING, 0))
                        c->state = EXTENT_DIRTY;
                else if (!cell_is(c, EXTENT_RETIRED, 0))
                        return false;
                return true;
        case MODEL_SOIL:
                if (cell_is(c, EXTENT_FREE, 0))
                        c->state = EXTENT_DIRTY;
                return true;
        case MODEL_LEASE:
        case MODEL_LEASE_RETIRED:
                if (cell_is(c, EXTENT_FREE, 0))
                        c->state = EXTENT_LEASED;
                else if (op != MODEL_LEASE_RETIRED || !cell_is(c, EXTENT_RETIRED, 0))
                        return false;
                c->owner = owner;
                return true;
        case MODEL_CANCEL:
                if (cell_is(c, EXTENT_LEASED, owner))
                        c->state = EXTENT_FREE;
                else if (!cell_is(c, EXTENT_RETIRED, owner))
                        return false;
                c->owner = 0;
                return true;
        case MODEL_ADOPT:
                if (cell_is(c, EXTENT_DIRTY, 0))
                        c->state = EXTENT_LEASED;
                else if (!cell_is(c, EXTENT_RETIRED, 0))
                        return false;
                c->owner = owner;
                return true;
        case MODEL_DRAIN:
                if (cell_is(c, EXTENT_LEASED, owner))
                        c->state = EXTENT_DRAINING;
                else if (!cell_is(c, EXTENT_RETIRED, owner))
                        return false;
                return true;
        case MODEL_RECLAIM:
                if (cell_is(c, EXTENT_DRAINING, owner))
                        c->state = EXTENT_DIRTY;
                else if (!cell_is(c, EXTENT_RETIRED, owner))
                        return false;
                c->owner = 0;
                return true;
        case MODEL_RETIRE:
                c->state = EXTENT_RETIRED;
                return true;
        default:
                abort();
        }
}

int model_apply(Model *m, ModelOp op, size_t offset, size_t size, uint32_t owner) {
        bool lease = op == MODEL_LEASE || op == MODEL_LEASE_RETIRED, some_free = false;

        for (size_t i = offset; i < offset + size; i++) {
                Cell c = m->cells[i];

                some_free |= c.state == EXTENT_FREE;
                if (!cell_apply(&c, op, owner))
                        return -ESTALE;
        }
        if (lease && !some_free)
                return -ESTALE;
        for (size_t i = offset; i < offset + size; i++) {
                m->count[m->cells[i].state]--;
                (void) cell_apply(m->cells + i, op, owner);
                m->count[m->cells[i].state]++;
        }
        return 0;
}

void model_write(Model *m, size_t offset, size_t size, uint32_t owner) {
        for (size_t i = offset; i < offset + size; i++)
                m->cells[i].content = owner;
}

size_t model_owned(const Model *m) {
        size_t n = 0;

        for (size_t i = 0; i < m->n; i++)
                n += m->cells[i].owner != 0;
        return n;
}

size_t model_run(const Model *m, size_t at, size_t *ret_offset) {
        const Cell *c = m->cells + at;
        size_t start = at, end = at + 1;

        while (start > 0 && cell_is(m->cells + start - 1, c->state, c->owner))
                start--;
        while (end < m->n && cell_is(m->cells + end, c->state, c->owner))
                end++;
        *ret_offset = start;
        return end - start;
}

void model_look(Model *m, bool include_retired) {
        for (size_t i = 0; i < m->n; i++) {
                const Cell *c = m->cells + i;
                bool free = cell_is(c, EXTENT_FREE, 0);
                bool lendable = free || (include_retired && cell_is(c, EXTENT_RETIRED, 0));

                m->blocked[i + 1] = m->blocked[i] + !lendable;
                m->free[i + 1] = m->free[i] + free;
        }
}

size_t model_lendable(const Model *m) {
        return m->n - m->blocked[m->n];
}

bool model_fits_at(const Model *m, size_t offset, size_t size) {
        return size <= m->n && offset <= m->n - size &&
               m->blocked[offset] == m->blocked[offset + size] &&
               m->free[offset] < m->free[offset + size];
}

bool model_first_fit(const Model *m, size_t size, size_t align, size_t *ret_offset) {
        for (size_t at = 0; at < m->n; at += align)
                if (model_fits_at(m, at, size)) {
                        *ret_offset = at;
                        return true;
                }
        return false;
}

bool model_last_fit(const Model *m, size_t size, size_t align, size_t *ret_offset) {
        for (size_t at = (m->n - 1) / align * align + align; at > 0; at -= align)
                if (model_fits_at(m, at - align, size)) {
                        *ret_offset = at - align;
                        return true;
                }
        return false;
}

bool model_has_retired(const Model *m, size_t offset, size_t size) {
        for (size_t i = offset; i < offset + size; i++)
                if (m->cells[i].state == EXTENT_RETIRED)
                        return true;
        return false;
}

bool model_matches(const SliceRequest *s, const PlacementRegion *p) {
        return (!s->region || streq(s->region, p->name)) &&
               (s->node == EGM_NODE_ANY || s->node == p->node) &&
               (s->socket == EGM_SOCKET_ANY || s->socket == p->socket);
}

static size_t best_rest(const Model *m, const ModelVerdict *v, bool at_start) {
        size_t rest = SIZE_MAX;

        for (size_t at = 0; at < (at_start ? 1 : m->n); at += v->align) {
                size_t start = at, end = at + v->size;

                if (!model_fits_at(m, at, v->size))
                        continue;
                while (start > 0 && m->blocked[start - 1] == m->blocked[start])
                        start--;
                while (end < m->n && m->blocked[end + 1] == m->blocked[end])
                        end++;
                rest = MIN(rest, end - start - v->size);
        }
        return rest;
}

ModelVerdict model_judge(Model *m, const SliceRequest *s, const PlacementRegion *p) {
        ModelVerdict v = {
                        .size = s->whole ? m->n : s->size / MODEL_GRANULE,
                        .align = (s->align ?: EGM_ALIGN_DEFAULT) / MODEL_GRANULE,
                        .rest = SIZE_MAX,
        };

        if (!p->ready || (p->whole_only && model_owned(m) > 0) || p->reserved > 0) {
                v.r = !p->ready                             ? -ENOLINK
                      : p->whole_only && model_owned(m) > 0 ? -ENOTUNIQ
                                                            : -EAGAIN;
                return v;
        }
        for (unsigned retired = 0; retired <= s->include_retired; retired++) {
                model_look(m, retired);
                v.r = m->count[EXTENT_FREE] == 0 || model_lendable(m) < v.size ? -ENOSPC : -EXFULL;
                v.rest = best_rest(m, &v, s->whole || p->whole_only);
                if (v.rest == SIZE_MAX)
                        continue;
                v.r = 0;
                v.retired = retired;
                break;
        }
        if (p->whole_only)
                v.rest = m->n - v.size;
        return v;
}
