/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <sys/mman.h>

#include "log.h"
#include "provider.h"
#include "sigbus.h"

/* Do mmap offsets lead where they should? Two kinds of driver have been seen where they don't:
 * those that ignore them, so that everything shows the region's start, and those that use only
 * their low bits. Both make two VMs share memory that looks separate. A driver that drops any
 * bit of the offset shows the same memory at two offsets that differ in that bit alone; one that
 * scales them shows a page elsewhere than a mapping from 0 does. So: for every bit below the
 * region's size one such pair of pages, and one pair with the last page. */

/* Granules to try for a good page before giving up. */
#define TRIES_MAX 64U
/* What is mapped from 0, as far as the region goes. */
#define BASE_SIZE (4 * MIB)

typedef enum PairVerdict {
        PAIR_SEPARATE,
        PAIR_SAME,
        PAIR_ELSEWHERE, /* not where the mapping from 0 shows it */
        PAIR_REFUSED,   /* cannot be mapped */
        PAIR_BAD,       /* bad memory met: probe->bad has grown */
} PairVerdict;

typedef struct Place {
        uint64_t offset;
        volatile uint64_t *word;
        const volatile uint64_t *in_base; /* NULL: beyond what is mapped from 0 */
        uint64_t mark;
        volatile uint64_t saved;
        volatile bool written;
} Place;

typedef struct Pair {
        Place a, b;
        volatile PairVerdict verdict;
} Pair;

typedef struct Probe {
        Provider *provider;
        uint64_t page;
        Ranges bad; /* by granule */
        char *base; /* mapped from 0 */
        size_t base_size;
} Probe;

static bool place_is_in_base(const Place *l) {
        return !l->in_base || *l->in_base == l->mark;
}

static void place_restore(void *userdata) {
        Place *l = userdata;

        if (l->written)
                *l->word = l->saved;
        l->written = false;
}

static void place_save(Place *l) {
        l->saved = *l->word;
        if (l->in_base)
                (void) *l->in_base;
}

static void place_write(Place *l) {
        l->written = true;
        *l->word = l->mark;
}

/* In a guard. Both are read before either is written: bad memory mostly shows there already, and
 * pages that are one and the same have one and the same content to put back. */
static void pair_compare(void *userdata) {
        Pair *pair = userdata;

        place_save(&pair->a);
        place_save(&pair->b);
        place_write(&pair->a);
        place_write(&pair->b);
        if (*pair->a.word != pair->a.mark || *pair->b.word != pair->b.mark)
                pair->verdict = PAIR_SAME;
        else if (!place_is_in_base(&pair->a) || !place_is_in_base(&pair->b))
                pair->verdict = PAIR_ELSEWHERE;
        else
                pair->verdict = PAIR_SEPARATE;
        place_restore(&pair->b);
        place_restore(&pair->a);
}

static int place_map(Probe *probe, uint64_t offset, uint64_t mark, Place *ret) {
        void *m;

        m = probe->provider->vtable->mmap(probe->provider, offset, probe->page,
                                          PROT_READ | PROT_WRITE);
        if (m == MAP_FAILED)
                return -errno;
        *ret = (Place){.offset = offset, .word = m, .mark = mark};
        if (offset < probe->base_size)
                ret->in_base = (const volatile uint64_t *) (probe->base + offset);
        return 0;
}

static void place_unmap(const Probe *probe, Place *l) {
        if (l->word)
                (void) munmap((void *) l->word, probe->page);
}

static bool place_has(const Probe *probe, const Place *l, const char *address) {
        const char *own = (const char *) l->word;

        return (address >= own && address < own + probe->page) ||
               (l->in_base && address >= (const char *) l->in_base &&
                address < (const char *) l->in_base + probe->page);
}

static int probe_add_bad(Probe *probe, const Pair *pair, const char *address) {
        const Place *places[] = {&pair->a, &pair->b};
        uint64_t granule = probe->provider->granule;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                uint64_t at = align_down(places[i]->offset, granule);

                if (address && !place_has(probe, places[i], address))
                        continue;
                r = ranges_add(&probe->bad, at, granule);
                if (r < 0)
                        return r;
                /* The scrubber meets it again, and retires it. */
                log_debug("%s: memory at offset %#" PRIx64 " gave a bus error",
                          probe->provider->name, at);
        }
        return 0;
}

static int pair_judge(Probe *probe, Pair *pair) {
        void *address = NULL;
        int r;

        /* The places are apart from each other, so the guard is for any address; nothing else is
         * touched. */
        r = sigbus_guard_run(pair_compare, pair, NULL, SIZE_MAX, &address);
        if (r < 0)
                return r;
        if (r == 0)
                return (int) pair->verdict;

        (void) sigbus_guard_run(place_restore, &pair->b, NULL, SIZE_MAX, NULL);
        (void) sigbus_guard_run(place_restore, &pair->a, NULL, SIZE_MAX, NULL);
        r = probe_add_bad(probe, pair, address);
        return r < 0 ? r : PAIR_BAD;
}

static int probe_pair(Probe *probe, uint64_t a, uint64_t b) {
        static const uint64_t mark = UINT64_C(0x45474d70726f6265);
        Pair pair = {};
        int r;

        assert(a != b);

        r = place_map(probe, a, mark, &pair.a);
        if (r >= 0)
                r = place_map(probe, b, ~mark, &pair.b);
        if (r >= 0)
                r = pair_judge(probe, &pair);
        else if (r == -EINVAL || r == -EOVERFLOW)
                r = PAIR_REFUSED;
        place_unmap(probe, &pair.a);
        place_unmap(probe, &pair.b);
        return r;
}

static bool probe_is_inside(const Probe *probe, uint64_t offset) {
        return offset < probe->provider->size && probe->provider->size - offset >= probe->page;
}

static bool probe_is_good(const Probe *probe, uint64_t offset) {
        return probe_is_inside(probe, offset) && !ranges_overlap(&probe->bad, offset, probe->page);
}

static void log_whole_only(const Probe *probe, PairVerdict verdict, uint64_t a, uint64_t b) {
        static const char so[] = "so the region can only be lent whole: one lease at a time";
        const char *name = probe->provider->name;

        if (verdict == PAIR_SAME && b - a == probe->page)
                log_notice("%s: this driver ignores mmap offsets, %s", name, so);
        else if (verdict == PAIR_SAME || verdict == PAIR_ELSEWHERE)
                log_notice("%s: this driver gets mmap offsets wrong (%#" PRIx64 " against %#" PRIx64
                           "), %s",
                           name, b, a, so);
        else if (verdict == PAIR_REFUSED)
                log_notice("%s: this driver refuses to map at offset %#" PRIx64 " or %#" PRIx64
                           ", %s",
                           name, b, a, so);
        else
                log_notice("%s: too much bad memory to prove that mmap offsets work, %s", name, so);
}

/* 1: a pair of good pages, the one's offset that of the other with this bit set, is separate. 0:
 * none found. */
static int probe_bit(Probe *probe, uint64_t bit) {
        for (uint64_t i = 0; i < TRIES_MAX; i++) {
                uint64_t a = (i * probe->provider->granule) & ~bit, b = a | bit;
                int r;

                if (!probe_is_good(probe, a) || !probe_is_good(probe, b))
                        continue;
                r = probe_pair(probe, a, b);
                if (r < 0 || r == PAIR_SEPARATE)
                        return r < 0 ? r : 1;
                if (r != PAIR_BAD) {
                        log_whole_only(probe, (PairVerdict) r, a, b);
                        return 0;
                }
        }
        log_whole_only(probe, PAIR_BAD, 0, bit);
        return 0;
}

/* The same for the last page: the region is as long as sysfs says. */
static int probe_end(Probe *probe) {
        uint64_t granule = probe->provider->granule,
                 last = align_down(probe->provider->size, probe->page) - probe->page;

        for (uint64_t i = 0; i < TRIES_MAX; i++) {
                uint64_t a = i * granule, b = last - MIN(i * granule, last);
                int r;

                if (a >= b || !probe_is_good(probe, a) || !probe_is_good(probe, b))
                        continue;
                r = probe_pair(probe, a, b);
                if (r < 0 || r == PAIR_SEPARATE)
                        return r < 0 ? r : 1;
                if (r != PAIR_BAD) {
                        log_whole_only(probe, (PairVerdict) r, a, b);
                        return 0;
                }
        }
        log_whole_only(probe, PAIR_BAD, 0, last);
        return 0;
}

static int probe_all(Probe *probe) {
        int r;

        for (uint64_t bit = probe->page; probe_is_inside(probe, bit); bit <<= 1) {
                r = probe_bit(probe, bit);
                if (r <= 0)
                        return r;
        }
        return probe->provider->size >= 2 * probe->page ? probe_end(probe) : 1;
}

int provider_probe(Provider *p) {
        Probe probe = {.provider = p};
        int r;

        assert(p);
        assert(p->fd >= 0);

        p->offsets = false;
        r = provider_retired(p, &probe.bad);
        if (r < 0)
                return r;
        probe.page = (uint64_t) sysconf(_SC_PAGESIZE);
        probe.base_size = MIN(align_down(p->size, probe.page), BASE_SIZE);
        probe.base = p->vtable->mmap(p, 0, probe.base_size, PROT_READ);
        if (probe.base == MAP_FAILED)
                r = -errno;
        else {
                r = probe_all(&probe);
                (void) munmap(probe.base, probe.base_size);
        }
        ranges_done(&probe.bad);
        if (r < 0)
                return r;
        p->offsets = r > 0;
        return 0;
}
