/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "fd-util.h"
#include "provider-sim.h"
#include "retired-list.h"
#include "sigbus.h"

#define SIZE (64 * MIB)
#define GRANULE (64 * KIB)

static SimRegion plain(SimVariant variant) {
        static char name[] = "egm4";
        SimRegion s = SIM_REGION_INIT;

        s.name = name;
        s.size = SIZE;
        s.variant = variant;
        return s;
}

static Provider *sim_new(const SimRegion *s) {
        Provider *p;

        assert_int_equal(sim_region_provider(s, &p), 0);
        assert_int_equal(p->fd, -EBADF);
        return p;
}

static Provider *sim_opened(const SimRegion *s) {
        Provider *p = sim_new(s);

        assert_int_equal(provider_open(p), 0);
        assert_int_equal(provider_probe(p), 0);
        return p;
}

static void fill(Provider *p, uint64_t offset, uint64_t value) {
        Window w;

        assert_int_equal(provider_map(p, offset, sizeof(value), true, &w), 0);
        memcpy(w.address, &value, sizeof(value));
        provider_unmap(p, &w);
}

static uint64_t peek(Provider *p, uint64_t offset) {
        uint64_t value;
        Window w;

        assert_int_equal(provider_map(p, offset, sizeof(value), false, &w), 0);
        memcpy(&value, w.address, sizeof(value));
        provider_unmap(p, &w);
        return value;
}

/* Written through one window, seen through others and by whoever is handed the descriptor;
 * cleared by the next open; never longer or shorter. */
static void test_memory(void **state) {
        for (SimVariant v = 0; v < _SIM_VARIANT_MAX; v++) {
                const SimRegion s = plain(v);
                _cleanup_(provider_freep) Provider *p = sim_opened(&s);
                uint64_t seen;

                assert_int_equal(p->offsets, v != SIM_VARIANT_K2);
                assert_true(p->has_list);
                assert_int_equal(p->rdev, 0);
                assert_true(p->ino != 0);
                assert_string_equal(p->name, "egm4");
                assert_int_equal(peek(p, 0), 0);
                fill(p, MIB, 4711);
                fill(p, SIZE - 8, 4712);
                assert_int_equal(peek(p, MIB), 4711);
                assert_int_equal(pread(p->fd, &seen, sizeof(seen), MIB), sizeof(seen));
                assert_int_equal(seen, 4711);
                assert_int_equal(peek(p, SIZE - 8), 4712);
                assert_int_equal(ftruncate(p->fd, 4096), -1);
                assert_int_equal(ftruncate(p->fd, 2 * SIZE), -1);

                provider_close(p);
                assert_int_equal(provider_open(p), 0);
                assert_false(p->offsets);
                assert_int_equal(peek(p, MIB), 0);
                assert_int_equal(peek(p, SIZE - 8), 0);
        }
}

/* The offset that a driver uses or not, seen at the vtable. */
static void test_offsets(void **state) {
        static const struct {
                SimVariant variant;
                uint64_t offset;
                size_t size;
                int error;
                uint64_t shows;
        } table[] = {
                        {SIM_VARIANT_K2, MIB, 4096, 0, 0},
                        {SIM_VARIANT_K2, SIZE, 4096, 0, 0},
                        {SIM_VARIANT_K2, 0, SIZE + 4096, 0, 0},
                        {SIM_VARIANT_R2, MIB, 4096, 0, MIB},
                        {SIM_VARIANT_R2, (UINT64_C(1) << 40) + MIB, 4096, 0, MIB},
                        {SIM_VARIANT_R2, SIZE - 4096, 8192, EINVAL, 0},
                        {SIM_VARIANT_S3, MIB, 4096, 0, MIB},
                        {SIM_VARIANT_S3, (UINT64_C(1) << 40) + MIB, 4096, EINVAL, 0},
                        {SIM_VARIANT_S4, MIB, 4096, 0, MIB},
                        {SIM_VARIANT_S4, SIZE, 4096, EINVAL, 0},
                        {SIM_VARIANT_S4, SIZE - 4096, 8192, EINVAL, 0},
                        {SIM_VARIANT_S4, UINT64_MAX - 4095, 8192, EOVERFLOW, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                const SimRegion s = plain(table[i].variant);
                _cleanup_(provider_freep) Provider *p = sim_opened(&s);
                uint64_t *m, at;

                for (at = 0; at < SIZE; at += MIB)
                        assert_int_equal(pwrite(p->fd, &at, sizeof(at), (off_t) at), sizeof(at));
                errno = 0;
                m = p->vtable->mmap(p, table[i].offset, table[i].size, PROT_READ);
                if (table[i].error > 0) {
                        assert_true(m == MAP_FAILED);
                        assert_int_equal(errno, table[i].error);
                        continue;
                }
                assert_true(m != MAP_FAILED);
                assert_int_equal(*m, table[i].shows);
                assert_int_equal(munmap(m, table[i].size), 0);
        }
}

/* 40 bits are enough for no more than 1 TiB (and nothing is allocated for that). */
static void test_huge(void **state) {
        SimRegion s = plain(SIM_VARIANT_R2);

        s.size = 1024 * GIB + 2 * MIB;
        for (s.variant = SIM_VARIANT_R2; s.variant < _SIM_VARIANT_MAX; s.variant++) {
                _cleanup_(provider_freep) Provider *p = sim_opened(&s);

                assert_int_equal(p->offsets,
                                 s.variant != SIM_VARIANT_R2 && s.variant != SIM_VARIANT_D);
        }
}

static size_t raw_list(Provider *p, RetiredListEntry *ret, size_t max) {
        struct {
                RetiredListHeader header;
                RetiredListEntry entries[256];
        } buffer = {{.argsz = sizeof(buffer)}};

        assert_int_equal(p->vtable->list_call(p, &buffer), 0);
        assert_int_equal(buffer.header.argsz, sizeof(buffer));
        assert_true(buffer.header.count <= max);
        memcpy(ret, buffer.entries, buffer.header.count * sizeof(*ret));
        return buffer.header.count;
}

/* Each variant's list looks different, and means the same. */
static void test_lists(void **state) {
        uint64_t page = (uint64_t) getpagesize(), pages = MAX(GRANULE / page, UINT64_C(1));

        for (SimVariant v = 0; v < _SIM_VARIANT_MAX; v++) {
                SimRegion s = plain(v);
                _cleanup_(provider_freep) Provider *p = NULL;
                _cleanup_ranges_ Ranges l = {};
                RetiredListEntry e[256];
                bool ascending = true, twice = false;
                size_t n;

                assert_int_equal(ranges_add(&s.retired, 0, GRANULE), 0);
                assert_int_equal(ranges_add(&s.retired, MIB, 3 * GRANULE), 0);
                assert_int_equal(ranges_add(&s.retired, SIZE - GRANULE, GRANULE), 0);
                p = sim_opened(&s);
                assert_int_equal(p->offsets, v != SIM_VARIANT_K2);

                n = raw_list(p, e, ELEMENTSOF(e));
                assert_int_equal(n, v == SIM_VARIANT_K2                         ? 7
                                    : v == SIM_VARIANT_R2 || v == SIM_VARIANT_D ? 5
                                                                                : 5 * pages);
                for (size_t i = 0; i < n; i++) {
                        assert_int_equal(e[i].size, page);
                        ascending &= i == 0 || e[i].offset > e[i - 1].offset;
                        twice |= i > 0 && e[i].offset == e[i - 1].offset;
                }
                assert_int_equal(ascending, v == SIM_VARIANT_S4);
                assert_int_equal(twice, v == SIM_VARIANT_K2);

                assert_int_equal(provider_retired(p, &l), 0);
                assert_true(ranges_equal(&l, &s.retired));
                ranges_done(&l);

                /* More goes bad; it is seen at the next call. */
                assert_int_equal(sim_provider_retire(p, 8 * MIB, GRANULE), 0);
                assert_int_equal(sim_provider_retire(p, SIZE, GRANULE), -ERANGE);
                assert_int_equal(ranges_add(&s.retired, 8 * MIB, GRANULE), 0);
                assert_int_equal(provider_retired(p, &l), 0);
                assert_true(ranges_equal(&l, &s.retired));
                ranges_done(&s.retired);
        }
}

static void test_list_faults(void **state) {
        static const struct {
                SimListFault fault;
                int r;
        } table[] = {
                        {SIM_LIST_OK, 0},
                        {SIM_LIST_COUNT, -EBADMSG},
                        {SIM_LIST_HUGE, -E2BIG},
                        {SIM_LIST_TINY, -EBADMSG},
                        {SIM_LIST_GROWING, -EAGAIN},
                        {SIM_LIST_WILD, 0},
                        {SIM_LIST_FAULT, -EFAULT},
                        {SIM_LIST_NONE, 0},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                SimRegion s = plain(SIM_VARIANT_S4);
                _cleanup_(provider_freep) Provider *p = NULL;
                Ranges l = {.n = 4711};

                assert_int_equal(ranges_add(&s.retired, MIB, GRANULE), 0);
                s.faults.list = table[i].fault;
                p = sim_new(&s);
                assert_int_equal(provider_open(p), 0);
                assert_int_equal(p->has_list, table[i].fault != SIM_LIST_NONE);
                assert_int_equal(provider_probe(p), table[i].r);
                assert_int_equal(p->offsets, table[i].r == 0);
                assert_int_equal(provider_retired(p, &l), table[i].r);
                if (table[i].r < 0)
                        assert_int_equal(l.n, 4711);
                else {
                        assert_int_equal(l.n, table[i].fault == SIM_LIST_NONE   ? 0
                                              : table[i].fault == SIM_LIST_WILD ? 2
                                                                                : 1);
                        ranges_done(&l);
                }
                ranges_done(&s.retired);
        }
}

static void test_open_faults(void **state) {
        for (SimVariant v = 0; v < _SIM_VARIANT_MAX; v++) {
                const SimRegion s = plain(v);
                _cleanup_(provider_freep) Provider *p = sim_new(&s);
                _cleanup_close_ int copy = -EBADF;
                SimFaults *f = sim_provider_faults(p);
                uint64_t seen;

                f->open_errno = EINTR;
                assert_int_equal(provider_open(p), -EINTR);
                f->open_errno = 0;
                f->held = true;
                assert_int_equal(provider_open(p), -EBUSY);
                f->held = false;
                f->useless = true;
                assert_int_equal(provider_open(p), -EBUSY);
                assert_int_equal(p->fd, -EBADF);
                f->useless = false;
                assert_int_equal(provider_open(p), 0);

                /* A useless file's open is not one that wipes. */
                fill(p, 0, 4711);
                copy = fd_copy(p->fd);
                assert_true(copy >= 0);
                provider_close(p);
                f->held = true;
                assert_int_equal(provider_open(p), -EBUSY);
                assert_int_equal(pread(copy, &seen, sizeof(seen), 0), sizeof(seen));
                assert_int_equal(seen, 4711);
                f->held = false;
                assert_int_equal(provider_open(p), 0);
                assert_int_equal(peek(p, 0), 0);
        }
}

typedef struct Opening {
        Provider *provider;
        pthread_t thread;
        int r;
        atomic_bool done;
} Opening;

static void *open_thread(void *userdata) {
        Opening *o = userdata;

        o->r = provider_open(o->provider);
        atomic_store(&o->done, true);
        return NULL;
}

static void test_open_gate(void **state) {
        char directory[] = "/tmp/test-provider-sim-XXXXXX", *gate;
        SimRegion s = plain(SIM_VARIANT_S4);
        Opening o = {};
        int fd;

        assert_non_null(mkdtemp(directory));
        assert_true(asprintf(&gate, "%s/gate", directory) > 0);
        assert_int_equal(mkfifo(gate, 0600), 0);
        s.faults.open_gate = gate;
        o.provider = sim_new(&s);
        assert_int_equal(pthread_create(&o.thread, NULL, open_thread, &o), 0);
        assert_false(atomic_load(&o.done));
        /* Waits until the other end is there, which then goes on. */
        fd = open(gate, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pthread_join(o.thread, NULL), 0);
        assert_int_equal(o.r, 0);
        safe_close(fd);
        assert_int_equal(unlink(gate), 0);
        assert_int_equal(rmdir(directory), 0);
        free(gate);
        provider_free(o.provider);
}

static void touch(void *userdata) {
        Window *w = userdata;

        for (size_t i = 0; i < w->size; i += 4096)
                *((volatile char *) w->address + i) = 1;
}

/* Bad pages fail where they are, in every window, and nowhere else. */
static void test_bad_pages(void **state) {
        for (SimVariant v = 0; v < _SIM_VARIANT_MAX; v++) {
                SimRegion s = plain(v);
                _cleanup_(provider_freep) Provider *p = NULL;
                _cleanup_ranges_ Ranges l = {};
                void *at = NULL;
                Window w;

                assert_int_equal(ranges_add(&s.faults.bad, MIB, 4096), 0);
                assert_int_equal(ranges_add(&s.faults.bad, 0, GRANULE), 0);
                p = sim_opened(&s);
                assert_int_equal(p->offsets, v != SIM_VARIANT_K2);
                ranges_done(&s.faults.bad);

                assert_int_equal(provider_map(p, GRANULE, MIB - GRANULE, true, &w), 0);
                assert_int_equal(sigbus_guard_run(touch, &w, w.address, w.size, NULL), 0);
                provider_unmap(p, &w);
                assert_int_equal(provider_map(p, GRANULE, 2 * MIB, true, &w), 0);
                assert_int_equal(sigbus_guard_run(touch, &w, w.address, w.size, &at), 1);
                assert_ptr_equal(at, (char *) w.address + MIB - GRANULE);
                provider_unmap(p, &w);
                assert_int_equal(provider_map(p, MIB + 4096, MIB, true, &w), 0);
                assert_int_equal(sigbus_guard_run(touch, &w, w.address, w.size, NULL), 0);
                provider_unmap(p, &w);

                assert_int_equal(sim_provider_break(p, 3 * MIB, 4096), 0);
                assert_int_equal(provider_map(p, 2 * MIB, 2 * MIB, true, &w), 0);
                assert_int_equal(sigbus_guard_run(touch, &w, w.address, w.size, &at), 1);
                assert_ptr_equal(at, (char *) w.address + MIB);
                provider_unmap(p, &w);
                assert_int_equal(provider_retired(p, &l), 0);
                assert_int_equal(l.n, 0);
        }
}

static void test_mmap_fails_once(void **state) {
        const SimRegion s = plain(SIM_VARIANT_S4);
        _cleanup_(provider_freep) Provider *p = sim_new(&s);
        Window w;

        assert_int_equal(provider_open(p), 0);
        sim_provider_faults(p)->mmap_fail_at = 2;
        assert_int_equal(provider_map(p, 0, MIB, true, &w), 0);
        provider_unmap(p, &w);
        assert_int_equal(provider_map(p, 0, MIB, true, &w), -ENOMEM);
        assert_int_equal(provider_map(p, 0, MIB, true, &w), 0);
        provider_unmap(p, &w);
}

/* From a daemon before: the same bytes through the same file; another file is none of ours. */
static void test_adopt(void **state) {
        const SimRegion s = plain(SIM_VARIANT_S4);
        _cleanup_(provider_freep) Provider *p = sim_opened(&s), *q = sim_new(&s);
        int fd = fd_copy(p->fd), other;
        dev_t dev = p->dev;
        ino_t ino = p->ino;

        fill(p, MIB, 4711);
        p = provider_free(p);
        other = memfd_create("other", MFD_CLOEXEC);
        assert_true(other >= 0);
        assert_int_equal(provider_adopt(q, other, true), -ENODEV);
        assert_int_equal(provider_adopt(q, fd, true), 0);
        assert_true(q->offsets);
        assert_true(q->dev == dev && q->ino == ino);
        assert_int_equal(peek(q, MIB), 4711);
}

/* As the scrubber uses it: windows from several threads, while the list is read and grows. */
static void *window_thread(void *userdata) {
        Provider *p = userdata;
        size_t failed = 0;

        for (uint64_t i = 0; i < 500; i++) {
                Window w;

                if (provider_map(p, (i % 32) * 2 * MIB, 2 * MIB, true, &w) < 0) {
                        failed++;
                        continue;
                }
                *(volatile char *) w.address = 1;
                provider_unmap(p, &w);
        }
        return (void *) failed;
}

static void test_threads(void **state) {
        const SimRegion s = plain(SIM_VARIANT_S3);
        _cleanup_(provider_freep) Provider *p = sim_opened(&s);
        pthread_t threads[3];
        void *failed;

        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                assert_int_equal(pthread_create(threads + i, NULL, window_thread, p), 0);
        for (uint64_t i = 0; i < 100; i++) {
                _cleanup_ranges_ Ranges l = {};

                assert_int_equal(sim_provider_retire(p, i * 2 * GRANULE, GRANULE), 0);
                assert_int_equal(provider_retired(p, &l), 0);
                assert_int_equal(l.n, i + 1);
        }
        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                assert_int_equal(pthread_join(threads[i], &failed), 0);
                assert_null(failed);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_memory),
                        cmocka_unit_test(test_offsets),
                        cmocka_unit_test(test_huge),
                        cmocka_unit_test(test_lists),
                        cmocka_unit_test(test_list_faults),
                        cmocka_unit_test(test_open_faults),
                        cmocka_unit_test(test_open_gate),
                        cmocka_unit_test(test_bad_pages),
                        cmocka_unit_test(test_mmap_fails_once),
                        cmocka_unit_test(test_adopt),
                        cmocka_unit_test(test_threads),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
