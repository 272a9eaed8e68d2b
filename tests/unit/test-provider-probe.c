/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "fd-util.h"
#include "provider.h"
#include "retired-list.h"

/* Are offsets believed exactly when they are to be? Against drivers that get them wrong in every
 * way. */

#define SIZE (64 * MIB)

typedef struct Fake {
        Provider provider;
        uint64_t (*translate)(uint64_t offset, uint64_t arg);
        uint64_t arg;
        int refuse_errno; /* from refuse_from on */
        uint64_t refuse_from;
        uint64_t fail_at;    /* this mmap, from 1, gives ENOMEM */
        Ranges retired;      /* listed, and touching it kills */
        Ranges unlisted;     /* not listed, SIGBUS */
        uint64_t unwritable; /* the page here reads, but writing is SIGBUS; 0: none */
        uint64_t n_mmaps, n_retired_mmaps;
} Fake;

static Fake *fake_of(Provider *p) {
        return CONTAINER_OF(p, Fake, provider);
}

static int fake_check(Provider *p, const struct stat *st) {
        return 0;
}

static int fake_list(Provider *p, void *buffer) {
        Fake *f = fake_of(p);
        RetiredListHeader *h = buffer;
        RetiredListEntry *e = (RetiredListEntry *) (h + 1);

        h->count = 0;
        if (h->argsz < retired_list_size(f->retired.n)) {
                h->argsz = (uint32_t) retired_list_size(f->retired.n);
                return 0;
        }
        RANGES_FOREACH (i, &f->retired)
                e[h->count++] = (RetiredListEntry){i->offset, i->size};
        return 0;
}

/* Puts what is behind `protect` or nothing at all in the place of what the ranges say. */
static void fake_replace(char *m, uint64_t offset, size_t size, const Ranges *l, int fd) {
        _cleanup_ranges_ Ranges part = {};

        assert_int_equal(ranges_clip(l, offset, size, &part), 0);
        RANGES_FOREACH (i, &part) {
                int flags = MAP_FIXED | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
                int prot = fd < 0 ? PROT_NONE : PROT_READ | PROT_WRITE;

                assert_true(mmap(m + (i->offset - offset), i->size, prot, flags, fd, 0) !=
                            MAP_FAILED);
        }
}

static void *fake_mmap(Provider *p, uint64_t offset, size_t size, int prot) {
        Fake *f = fake_of(p);
        _cleanup_close_ int empty = memfd_create("empty", MFD_CLOEXEC);
        char *m;

        assert_true(offset < p->size && size <= p->size - offset);
        errno = ++f->n_mmaps == f->fail_at ? ENOMEM
                : offset >= f->refuse_from ? f->refuse_errno
                                           : 0;
        if (errno != 0)
                return MAP_FAILED;
        if (size == (size_t) getpagesize() && ranges_overlap(&f->retired, offset, size))
                f->n_retired_mmaps++;
        offset = f->translate ? f->translate(offset, f->arg) : offset;
        if (f->unwritable > 0 && offset == f->unwritable)
                prot = PROT_READ;
        m = mmap(NULL, size, prot, MAP_SHARED, p->fd, (off_t) offset);
        assert_true(m != MAP_FAILED);
        assert_true(empty >= 0);
        fake_replace(m, offset, size, &f->retired, -1);
        fake_replace(m, offset, size, &f->unlisted, empty);
        return m;
}

static void fake_free(Provider *p) {
        ranges_done(&fake_of(p)->retired);
        ranges_done(&fake_of(p)->unlisted);
}

static const ProviderVTable fake_vtable = {
                .name = "fake",
                .check_file = fake_check,
                .list_call = fake_list,
                .mmap = fake_mmap,
                .free = fake_free,
};

/* A region of which each eighth byte of a granule's first page tells where it is. */
static Fake *fake_new(uint64_t size) {
        Fake *f = calloc(1, sizeof(*f));
        int fd = memfd_create("fake-region", MFD_CLOEXEC);

        assert_non_null(f);
        assert_true(fd >= 0);
        /* Some go wrong by leading beyond the end. */
        assert_int_equal(ftruncate(fd, (off_t) (2 * size)), 0);
        assert_int_equal(provider_init(&f->provider, &fake_vtable, "egm4", "/dev/egm4", size), 0);
        for (uint64_t at = 4096; at < size && size <= SIZE; at += 4096)
                assert_int_equal(pwrite(fd, &at, sizeof(at), (off_t) at), sizeof(at));
        assert_int_equal(provider_adopt(&f->provider, fd, true), 0);
        return f;
}

/* Nothing of what was there has changed, nothing stays mapped. */
static void fake_assert_untouched(Fake *f) {
        _cleanup_free_ char *maps = NULL;

        for (uint64_t at = 0; at < f->provider.size && f->provider.size <= SIZE; at += 4096) {
                uint64_t seen = 1;

                assert_int_equal(pread(f->provider.fd, &seen, sizeof(seen), (off_t) at),
                                 sizeof(seen));
                assert_int_equal(seen, at);
        }
        assert_int_equal(read_full_file_at(AT_FDCWD, "/proc/self/maps", MIB, &maps, NULL), 0);
        assert_null(strstr(maps, "memfd:"));
}

static void assert_probe(Fake *f, bool offsets) {
        assert_int_equal(provider_probe(&f->provider), 0);
        assert_int_equal(f->provider.offsets, offsets);
        fake_assert_untouched(f);
}

static uint64_t without_bits(uint64_t offset, uint64_t mask) {
        return offset & ~mask;
}

static uint64_t without_offset(uint64_t offset, uint64_t arg) {
        return 0;
}

static uint64_t times(uint64_t offset, uint64_t factor) {
        return offset * factor;
}

static uint64_t divided(uint64_t offset, uint64_t by) {
        return align_down(offset / by, 4096);
}

static uint64_t shifted(uint64_t offset, uint64_t by) {
        return offset > 0 ? offset + by : 0;
}

static void test_honest(void **state) {
        static const uint64_t sizes[] = {64 * KIB,  128 * KIB + 1000, 128 * KIB, 2 * MIB,
                                         3 * MIB,   SIZE - 64 * KIB,  SIZE,      GIB,
                                         447 * GIB, 3 * 1024 * GIB};

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(sizes[i])->provider;

                assert_probe(fake_of(p), true);
        }
}

static void test_ignored(void **state) {
        _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

        fake_of(p)->translate = without_offset;
        assert_probe(fake_of(p), false);
}

/* Any one bit that a driver drops, and any number of upper or lower ones. */
static void test_dropped_bits(void **state) {
        for (unsigned bit = 12; UINT64_C(1) << bit < SIZE; bit++) {
                uint64_t one = UINT64_C(1) << bit;
                const uint64_t masks[] = {one, ~(one - 1), 2 * one - 1};

                for (size_t i = 0; i < ELEMENTSOF(masks); i++) {
                        _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

                        fake_of(p)->translate = without_bits;
                        fake_of(p)->arg = masks[i] & ~UINT64_C(4095);
                        assert_probe(fake_of(p), false);
                }
        }
}

/* A 40-bit offset is all there is up to 1 TiB, and not beyond. */
static void test_forty_bits(void **state) {
        static const uint64_t sizes[] = {447 * GIB, 1024 * GIB, 1024 * GIB + 64 * KIB, 1536 * GIB};

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(sizes[i])->provider;

                fake_of(p)->translate = without_bits;
                fake_of(p)->arg = ~((UINT64_C(1) << 40) - 1);
                assert_probe(fake_of(p), sizes[i] <= 1024 * GIB);
        }
}

static void test_elsewhere(void **state) {
        static const struct {
                uint64_t (*translate)(uint64_t offset, uint64_t arg);
                uint64_t arg;
        } table[] = {{times, 2}, {times, 16}, {divided, 2}, {divided, 16}, {shifted, 4096}};

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                /* Its memory goes as far as the wrong offset leads. */
                _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

                assert_int_equal(ftruncate(p->fd, 16 * SIZE), 0);
                fake_of(p)->translate = table[i].translate;
                fake_of(p)->arg = table[i].arg;
                assert_probe(fake_of(p), false);
        }
}

static void test_refused(void **state) {
        static const struct {
                int error;
                int r;
        } table[] = {{EINVAL, 0}, {EOVERFLOW, 0}, {ENOMEM, -ENOMEM}, {EAGAIN, -EAGAIN}};

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

                fake_of(p)->refuse_errno = table[i].error;
                fake_of(p)->refuse_from = 1;
                assert_int_equal(provider_probe(p), table[i].r);
                assert_false(p->offsets);
                fake_assert_untouched(fake_of(p));
        }
}

/* The region is shorter than sysfs says. */
static void test_short(void **state) {
        _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

        fake_of(p)->refuse_errno = EINVAL;
        fake_of(p)->refuse_from = SIZE - 4096;
        assert_probe(fake_of(p), false);
}

/* Whichever mmap fails, nothing stays behind and nothing is concluded. */
static void test_out_of_memory(void **state) {
        uint64_t k;
        int r = -ENOMEM;

        for (k = 1; r < 0; k++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(2 * MIB)->provider;

                fake_of(p)->fail_at = k;
                r = provider_probe(p);
                assert_true(r == -ENOMEM || r == 0);
                assert_int_equal(p->offsets, r == 0);
                fake_assert_untouched(fake_of(p));
        }
        assert_true(k > 2 * 9);
}

static void test_retired_is_left_alone(void **state) {
        static const Range retired[] = {
                        {0, 256 * KIB},  {512 * KIB, 64 * KIB}, {MIB, 64 * KIB},
                        {SIZE / 2, MIB}, {SIZE - MIB, MIB},
        };
        _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

        for (size_t i = 0; i < ELEMENTSOF(retired); i++)
                assert_int_equal(ranges_add(&fake_of(p)->retired, retired[i].offset,
                                            retired[i].size),
                                 0);
        assert_probe(fake_of(p), true);
        assert_int_equal(fake_of(p)->n_retired_mmaps, 0);

        /* So much of it that one bit cannot be proven: no page to try has a good partner. */
        assert_int_equal(ranges_add(&fake_of(p)->retired, SIZE / 2, 4 * MIB), 0);
        assert_probe(fake_of(p), false);
        assert_int_equal(fake_of(p)->n_retired_mmaps, 0);

        /* Or none. */
        assert_int_equal(ranges_add(&fake_of(p)->retired, 0, SIZE / 2), 0);
        assert_probe(fake_of(p), false);
        assert_int_equal(fake_of(p)->n_retired_mmaps, 0);
}

static void test_unlisted_bad_memory(void **state) {
        static const uint64_t bad[] = {0,        64 * KIB,        128 * KIB,       MIB,
                                       SIZE / 2, SIZE - 64 * KIB, SIZE - 128 * KIB};
        _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                assert_int_equal(ranges_add(&fake_of(p)->unlisted, bad[i], 64 * KIB), 0);
                assert_probe(fake_of(p), true);
        }
        /* And a driver that ignores offsets is found out all the same. */
        fake_of(p)->translate = without_bits;
        fake_of(p)->arg = 32 * MIB;
        assert_probe(fake_of(p), false);

        fake_of(p)->translate = NULL;
        assert_int_equal(ranges_add(&fake_of(p)->unlisted, 0, SIZE), 0);
        assert_probe(fake_of(p), false);
}

/* Memory that goes bad after it was read, when the other page has its mark already. */
static bool address_known;

static void on_segv(int sig, siginfo_t *info, void *context) {
        siginfo_t bus = {.si_signo = SIGBUS, .si_code = BUS_ADRERR};

        bus.si_addr = address_known ? info->si_addr : NULL;
        (void) syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGBUS, &bus);
}

static void test_bad_when_written(void **state) {
        static const uint64_t bad[] = {4096, 64 * KIB, MIB, SIZE / 2};
        const struct sigaction action = {.sa_sigaction = on_segv,
                                         .sa_flags = SA_SIGINFO | SA_NODEFER};
        struct sigaction old;

        assert_int_equal(sigaction(SIGSEGV, &action, &old), 0);
        for (size_t i = 0; i < 2 * ELEMENTSOF(bad); i++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(SIZE)->provider;

                address_known = i < ELEMENTSOF(bad);
                fake_of(p)->unwritable = bad[i % ELEMENTSOF(bad)];
                assert_probe(fake_of(p), true);
        }
        assert_int_equal(sigaction(SIGSEGV, &old, NULL), 0);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_honest),
                        cmocka_unit_test(test_ignored),
                        cmocka_unit_test(test_dropped_bits),
                        cmocka_unit_test(test_forty_bits),
                        cmocka_unit_test(test_elsewhere),
                        cmocka_unit_test(test_refused),
                        cmocka_unit_test(test_short),
                        cmocka_unit_test(test_out_of_memory),
                        cmocka_unit_test(test_retired_is_left_alone),
                        cmocka_unit_test(test_unlisted_bad_memory),
                        cmocka_unit_test(test_bad_when_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
