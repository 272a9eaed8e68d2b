/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "dmabuf-export.h"
#include "fd-util.h"
#include "provider-sim.h"
#include "retired-list.h"
#include "string-table.h"

/* Firmware's unit. */
#define UNIT (64 * KIB)
#define HUGE_PAGE (2 * MIB)
/* Populating holds the address space's lock all along, and others want it; each call costs about as much as two huge pages. */
#define POPULATE_STEP (32 * MIB)

typedef struct SimProvider {
        Provider provider;
        SimRegion region; /* without GPUs: nobody asks */
        bool useless;     /* the open file has nothing behind it */
        SimMemory *memory;
        uint64_t n_mmaps;
        pthread_mutex_t lock; /* for region and n_mmaps */
} SimProvider;

static const char *const sim_variant_table[_SIM_VARIANT_MAX] = {
                [SIM_VARIANT_K2] = "K2", [SIM_VARIANT_R2] = "R2", [SIM_VARIANT_S3] = "S3",
                [SIM_VARIANT_S4] = "S4", [SIM_VARIANT_D] = "D",
};
DEFINE_STRING_TABLE(sim_variant, SimVariant)

static const char *const sim_list_fault_table[_SIM_LIST_FAULT_MAX] = {
                [SIM_LIST_OK] = "ok",           [SIM_LIST_COUNT] = "count",
                [SIM_LIST_HUGE] = "huge",       [SIM_LIST_TINY] = "tiny",
                [SIM_LIST_GROWING] = "growing", [SIM_LIST_WILD] = "wild",
                [SIM_LIST_FAULT] = "fault",     [SIM_LIST_NONE] = "none",
};
DEFINE_STRING_TABLE(sim_list_fault, SimListFault)

static void unlockp(pthread_mutex_t **lock) {
        (void) pthread_mutex_unlock(*lock);
}

#define SIM_LOCK(p) \
        _cleanup_(unlockp) pthread_mutex_t *locked = &sim_of(p)->lock; \
        (void) pthread_mutex_lock(locked)

static SimProvider *sim_of(Provider *p) {
        return CONTAINER_OF(p, SimProvider, provider);
}

void sim_region_done(SimRegion *s) {
        assert(s);

        free(s->name);
        for (size_t i = 0; i < s->n_gpus; i++)
                free(s->gpus[i]);
        free(s->gpus);
        ranges_done(&s->retired);
        ranges_done(&s->faults.bad);
        free(s->faults.open_gate);
        *s = SIM_REGION_INIT;
}

static int sim_ranges_add(Provider *p, Ranges *l, uint64_t offset, uint64_t size) {
        SIM_LOCK(p);

        if (size == 0 || offset >= p->size || size > p->size - offset)
                return -ERANGE;
        return ranges_add(l, offset, size);
}

int sim_provider_retire(Provider *p, uint64_t offset, uint64_t size) {
        assert(p);
        return sim_ranges_add(p, &sim_of(p)->region.retired, offset, size);
}

int sim_provider_break(Provider *p, uint64_t offset, uint64_t size) {
        assert(p);
        return sim_ranges_add(p, &sim_of(p)->region.faults.bad, offset, size);
}

SimFaults *sim_provider_faults(Provider *p) {
        assert(p);
        return &sim_of(p)->region.faults;
}

static int sim_open_file(Provider *p, int *ret_fd) {
        SimRegion *s = &sim_of(p)->region;
        char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
        int fd, r;

        if (s->faults.open_gate) {
                _cleanup_close_ int gate =
                                open(s->faults.open_gate, O_RDONLY | O_CLOEXEC | O_NOCTTY);

                if (gate < 0)
                        return -errno;
        }
        if (s->faults.open_errno > 0)
                return -s->faults.open_errno;
        if (s->faults.held && s->variant != SIM_VARIANT_K2)
                return -EBUSY;
        sim_of(p)->useless = s->faults.held || s->faults.useless;
        if (!sim_of(p)->useless || sim_memory_fd(sim_of(p)->memory) < 0) {
                r = sim_memory_clear(sim_of(p)->memory, p->name, p->size);
                if (r < 0)
                        return r;
        }
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i", sim_memory_fd(sim_of(p)->memory));
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

static int sim_check_file(Provider *p, const struct stat *st) {
        if (!S_ISREG(st->st_mode) || (uint64_t) st->st_size != p->size)
                return -ENODEV;
        sim_memory_adopt(sim_of(p)->memory, p->fd);
        return 0;
}

/* Who has the memory had it through the device before this one. */
static int sim_identify(Provider *p, struct stat *ret) {
        int fd = sim_memory_fd(sim_of(p)->memory);

        if (fd < 0)
                return -ENOENT;
        return fstat(fd, ret) < 0 ? -errno : 0;
}

/* Which unit comes i-th: ascending, or as from a hash table. */
static size_t sim_scatter(SimVariant v, size_t i, size_t n) {
        if (v == SIM_VARIANT_S4)
                return i;
        return i % 2 == 0 ? n - 1 - i / 2 : i / 2;
}

static size_t sim_units(const SimRegion *s) {
        return ranges_bytes(&s->retired) / UNIT;
}

static uint64_t sim_unit(const SimRegion *s, size_t i) {
        RANGES_FOREACH (r, &s->retired) {
                size_t n = r->size / UNIT;

                if (i < n)
                        return r->offset + i * UNIT;
                i -= n;
        }
        return 0;
}

/* Entries for one unit, and every third twice in the old driver. */
static size_t sim_entries(const SimRegion *s, size_t i, uint64_t page) {
        if (s->variant == SIM_VARIANT_K2)
                return i % 3 == 0 ? 2 : 1;
        return s->variant == SIM_VARIANT_R2 || s->variant == SIM_VARIANT_D
                               ? 1
                               : MAX(UNIT / page, UINT64_C(1));
}

static size_t sim_fill(const SimRegion *s, RetiredListEntry *e, size_t room) {
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
        size_t units = sim_units(s), n = 0;

        if (s->faults.list == SIM_LIST_WILD) {
                const RetiredListEntry wild[] = {
                                {UINT64_C(0xffffffffffff0000), page},
                                {s->size, page},
                                {s->size + page, UINT64_MAX},
                                {0x10000, 0},
                };

                for (; n < ELEMENTSOF(wild); n++)
                        if (n < room)
                                e[n] = wild[n];
        }
        for (size_t i = 0; i < units; i++) {
                size_t at = sim_scatter(s->variant, i, units), k = sim_entries(s, i, page);
                bool twice = s->variant == SIM_VARIANT_K2;

                for (size_t j = 0; j < k; j++, n++)
                        if (n < room)
                                e[n] = (RetiredListEntry){sim_unit(s, at) + (twice ? 0 : j * page),
                                                          page};
        }
        return n;
}

static int sim_list_call(Provider *p, void *buffer) {
        SimRegion *s = &sim_of(p)->region;
        RetiredListHeader *h = buffer;
        size_t n;

        if (sim_of(p)->useless || h->argsz < sizeof(*h))
                return -EINVAL;

        SIM_LOCK(p);
        n = sim_fill(s, NULL, 0);
        h->count = 0;
        switch (s->faults.list) {
        case SIM_LIST_NONE:
                return -ENOTTY;
        case SIM_LIST_FAULT:
                if (h->argsz > sizeof(*h))
                        return 16;
                n = MAX(n, (size_t) 1);
                break;
        case SIM_LIST_COUNT:
                h->count = UINT32_MAX;
                return 0;
        case SIM_LIST_HUGE:
                h->argsz = UINT32_MAX;
                return 0;
        case SIM_LIST_TINY:
                h->argsz = sizeof(*h) - 1;
                return 0;
        case SIM_LIST_GROWING:
                h->argsz += 100 * sizeof(RetiredListEntry);
                return 0;
        default:
                break;
        }
        if (h->argsz < retired_list_size(n)) {
                h->argsz = (uint32_t) retired_list_size(n);
                return 0;
        }
        h->count = (uint32_t) sim_fill(s, (RetiredListEntry *) (h + 1), n);
        return 0;
}

/* As the driver judges the ranges. What it hands out is a stand-in: a memfd with an inode and the size of a dma-buf, but nothing of the
 * region's memory behind it. It serves to see who has it, and for no DMA. */
static int sim_export_call(Provider *p, void *buffer) {
        const DmabufExport *call = buffer;
        const SimRegion *s = &sim_of(p)->region;
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE), sum = 0;
        _cleanup_close_ int fd = -EBADF;

        if (s->variant != SIM_VARIANT_D || call->flags != 0 || call->nr_ranges == 0)
                return -EINVAL;
        for (uint32_t i = 0; i < call->nr_ranges; i++) {
                const DmabufRange *r = call->ranges + i;
                uint64_t end;

                if (r->length == 0 || (r->offset | r->length) % page != 0)
                        return -EINVAL;
                if (__builtin_add_overflow(r->offset, r->length, &end))
                        return -EOVERFLOW;
                if (end > s->size || __builtin_add_overflow(sum, r->length, &sum))
                        return -EINVAL;
        }
        fd = memfd_create("dmabuf", call->open_flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
        if (fd < 0 || ftruncate(fd, (off_t) sum) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* Bad pages are ones without anything behind them: an access is SIGBUS, as it would be from the
 * real thing. */
static int sim_punch_bad(const SimRegion *s, char *base, uint64_t offset, size_t size) {
        _cleanup_ranges_ Ranges bad = {};
        _cleanup_close_ int empty = -EBADF;
        int r;

        r = ranges_clip(&s->faults.bad, offset, size, &bad);
        if (r < 0 || bad.n == 0)
                return r;
        empty = memfd_create("bad", MFD_CLOEXEC);
        if (empty < 0)
                return -errno;
        RANGES_FOREACH (i, &bad)
                if (mmap(base + (i->offset - offset), i->size, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_FIXED, empty, 0) == MAP_FAILED)
                        return -errno;
        return 0;
}

/* Which part of the region the driver maps for an offset, or its errno. */
static int sim_driver_offset(const SimRegion *s, uint64_t offset, size_t size, uint64_t *ret) {
        uint64_t end;

        if (s->variant == SIM_VARIANT_K2) {
                *ret = 0;
                return 0; /* nor is the size looked at; behind the memory is SIGBUS here */
        }
        if (s->variant == SIM_VARIANT_R2 || s->variant == SIM_VARIANT_D)
                offset &= (UINT64_C(1) << 40) - 1;
        if (__builtin_add_overflow(offset, size, &end))
                return -EOVERFLOW;
        if (end > s->size)
                return -EINVAL;
        *ret = offset;
        return 0;
}

/* Huge pages only fit where address and offset are alike. */
static void *sim_map_aligned(int fd, uint64_t offset, size_t size, int prot) {
        size_t room_size;
        char *room, *m;

        if (__builtin_add_overflow(size, HUGE_PAGE, &room_size)) {
                errno = ENOMEM;
                return MAP_FAILED;
        }
        room = mmap(NULL, room_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED)
                return room;
        m = room + ((offset - (uintptr_t) room) & (HUGE_PAGE - 1));
        if (mmap(m, size, prot, MAP_SHARED | MAP_FIXED, fd, (off_t) offset) == MAP_FAILED) {
                int e = errno;

                (void) munmap(room, room_size);
                errno = e;
                return MAP_FAILED;
        }
        if (m > room)
                (void) munmap(room, (size_t) (m - room));
        (void) munmap(m + size, room_size - size - (size_t) (m - room));
        return m;
}

/* A driver maps all there is at once, without a fault at each page. Huge pages, where the kernel lets us have them
 * (/sys/kernel/mm/transparent_hugepage/shmem_enabled), come closest to what that costs. */
static void *sim_map_memory(int fd, uint64_t offset, size_t size, int prot) {
        char *m;

        if (size < HUGE_PAGE)
                return mmap(NULL, size, prot, MAP_SHARED, fd, (off_t) offset);
        m = sim_map_aligned(fd, offset, size, prot);
        if (m == MAP_FAILED)
                return m;
        (void) madvise(m, size, MADV_HUGEPAGE);
        /* As if for reading: the kernel then maps small pages many at a time, and shared ones can be written to as
         * well. What is not populated is so at the first touch, or has nothing behind it. */
        for (size_t i = 0; i < size; i += POPULATE_STEP)
                if (madvise(m + i, MIN(POPULATE_STEP, size - i), MADV_POPULATE_READ) < 0)
                        break;
        return m;
}

static void *sim_mmap(Provider *p, uint64_t offset, size_t size, int prot) {
        SimRegion *s = &sim_of(p)->region;
        void *m;
        int r;

        SIM_LOCK(p);
        r = sim_of(p)->useless ? -EINVAL : sim_driver_offset(s, offset, size, &offset);
        if (++sim_of(p)->n_mmaps == s->faults.mmap_fail_at)
                r = -ENOMEM;
        if (r < 0) {
                errno = -r;
                return MAP_FAILED;
        }
        m = sim_map_memory(p->fd, offset, size, prot);
        if (m == MAP_FAILED)
                return m;
        r = sim_punch_bad(s, m, offset, size);
        if (r < 0) {
                (void) munmap(m, size);
                errno = -r;
                return MAP_FAILED;
        }
        return m;
}

static void sim_free(Provider *p) {
        sim_region_done(&sim_of(p)->region);
        (void) sim_memory_unref(sim_of(p)->memory);
        (void) pthread_mutex_destroy(&sim_of(p)->lock);
}

static const ProviderVTable sim_vtable = {
                .name = "sim",
                .open_file = sim_open_file,
                .identify = sim_identify,
                .check_file = sim_check_file,
                .list_call = sim_list_call,
                .export_call = sim_export_call,
                .mmap = sim_mmap,
                .free = sim_free,
};

static int sim_faults_copy(const SimFaults *f, SimFaults *ret) {
        int r;

        *ret = *f;
        ret->open_gate = NULL;
        ret->bad = (Ranges){};
        r = free_and_strdup(&ret->open_gate, f->open_gate);
        return r < 0 ? r : ranges_copy(&f->bad, &ret->bad);
}

int sim_region_provider(const SimRegion *s, Provider **ret) {
        _cleanup_(provider_freep) Provider *provider = NULL;
        _cleanup_free_ char *path = NULL;
        SimProvider *p;
        int r;

        assert(s);
        assert(s->name);
        assert(ret);

        if (asprintf(&path, "memfd:%s", s->name) < 0)
                return -ENOMEM;
        p = malloc(sizeof(*p));
        if (!p)
                return -ENOMEM;
        *p = (SimProvider){
                        .region = SIM_REGION_INIT,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
        };
        r = provider_init(&p->provider, &sim_vtable, s->name, path, s->size);
        if (r < 0) {
                free(p);
                return r;
        }
        provider = &p->provider;
        p->region.variant = s->variant;
        p->region.size = s->size;
        r = sim_memory_new(&p->memory);
        if (r >= 0)
                r = ranges_copy(&s->retired, &p->region.retired);
        if (r >= 0)
                r = sim_faults_copy(&s->faults, &p->region.faults);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(provider);
        return 0;
}

void sim_provider_set_memory(Provider *p, SimMemory *memory) {
        assert(p);
        assert(p->fd < 0);
        assert(memory);

        (void) sim_memory_unref(sim_of(p)->memory);
        sim_of(p)->memory = sim_memory_ref(memory);
}
