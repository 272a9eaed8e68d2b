/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "fd-util.h"
#include "provider.h"
#include "retired-list.h"

/* The common part against a driver that says whatever the test wants. */

#define SIZE (64 * MIB)

typedef struct Fake Fake;

struct Fake {
        Provider provider;
        int open_result;
        int check_result;
        int (*list)(Fake *f, RetiredListHeader *h);
        int mmap_errno;
        int fd; /* the number that was given out */
        unsigned n_lists, n_mmaps;
        uint64_t last_offset;
        size_t last_size;
        int last_prot;
};

static Fake *fake_of(Provider *p) {
        return CONTAINER_OF(p, Fake, provider);
}

static int fake_memory(void) {
        int fd = memfd_create("fake", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, SIZE), 0);
        return fd;
}

static int fake_open(Provider *p, int *ret_fd) {
        Fake *f = fake_of(p);

        if (f->open_result < 0)
                return f->open_result;
        *ret_fd = f->fd = fake_memory();
        return 0;
}

static int fake_check(Provider *p, const struct stat *st) {
        return fake_of(p)->check_result;
}

static int fake_list(Provider *p, void *buffer) {
        Fake *f = fake_of(p);

        f->n_lists++;
        assert_true(p->fd >= 0);
        return f->list(f, buffer);
}

static void *fake_mmap(Provider *p, uint64_t offset, size_t size, int prot) {
        Fake *f = fake_of(p);

        f->n_mmaps++;
        f->last_offset = offset;
        f->last_size = size;
        f->last_prot = prot;
        if (f->mmap_errno > 0) {
                errno = f->mmap_errno;
                return MAP_FAILED;
        }
        return mmap(NULL, size, prot, MAP_SHARED, p->fd, (off_t) offset);
}

static const ProviderVTable fake_vtable = {
                .name = "fake",
                .open_file = fake_open,
                .check_file = fake_check,
                .list_call = fake_list,
                .mmap = fake_mmap,
};

static int list_empty(Fake *f, RetiredListHeader *h) {
        h->count = 0;
        return 0;
}

static Fake *fake_new(int (*list)(Fake *f, RetiredListHeader *h)) {
        Fake *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(provider_init(&f->provider, &fake_vtable, "egm4", "/dev/egm4", SIZE), 0);
        f->fd = -EBADF;
        f->list = list;
        return f;
}

static void assert_nothing_mapped(void) {
        _cleanup_free_ char *maps = NULL;

        assert_int_equal(read_full_file_at(AT_FDCWD, "/proc/self/maps", MIB, &maps, NULL), 0);
        assert_null(strstr(maps, "memfd:"));
}

static bool fd_is_open(int fd) {
        return fcntl(fd, F_GETFD) >= 0;
}

static int list_einval(Fake *f, RetiredListHeader *h) {
        return -EINVAL;
}

static int list_enotty(Fake *f, RetiredListHeader *h) {
        return -ENOTTY;
}

static int list_eio(Fake *f, RetiredListHeader *h) {
        return -EIO;
}

static int list_positive(Fake *f, RetiredListHeader *h) {
        return 16;
}

static void test_init(void **state) {
        Provider p;

        assert_int_equal(provider_init(&p, &fake_vtable, "egm4", "x", 0), -ERANGE);
        assert_int_equal(provider_init(&p, &fake_vtable, "egm4", "x", provider_granule() - 1),
                         -ERANGE);
        assert_int_equal(provider_init(&p, &fake_vtable, "egm4", "x", UINT64_C(1) << 63), -ERANGE);
        assert_true(is_pow2(provider_granule()) && provider_granule() >= 64 * KIB &&
                    provider_granule() >= (uint64_t) getpagesize());
}

/* What opening makes of the driver's first answers; after a failure nothing is left open. */
static void test_open(void **state) {
        static const struct {
                int open_result, check_result;
                int (*list)(Fake *f, RetiredListHeader *h);
                int mmap_errno;
                int r;
                bool has_list;
                unsigned n_lists, n_mmaps;
        } table[] = {
                        {0, 0, list_empty, 0, 0, true, 1, 0},
                        {-EBUSY, 0, list_empty, 0, -EBUSY, false, 0, 0},
                        {-EINTR, 0, list_empty, 0, -EINTR, false, 0, 0},
                        {-EINVAL, 0, list_empty, 0, -EINVAL, false, 0, 0},
                        {0, -ENODEV, list_empty, 0, -ENODEV, false, 0, 0},
                        /* Useless files: never mapped, some kernels crash. */
                        {0, 0, list_einval, 0, -EBUSY, false, 1, 0},
                        {0, 0, list_eio, 0, -EIO, false, 1, 0},
                        {0, 0, list_positive, 0, -EFAULT, false, 1, 0},
                        /* No ioctl at all. */
                        {0, 0, list_enotty, 0, 0, false, 1, 1},
                        {0, 0, list_enotty, EINVAL, -EBUSY, false, 1, 1},
                        {0, 0, list_enotty, ENOMEM, -ENOMEM, false, 1, 1},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(provider_freep) Provider *p = NULL;
                _cleanup_close_ int adopted = fake_memory();
                struct stat st;
                Fake *f = fake_new(table[i].list);

                p = &f->provider;
                f->open_result = table[i].open_result;
                f->check_result = table[i].check_result;
                f->mmap_errno = table[i].mmap_errno;
                assert_int_equal(provider_open(p), table[i].r);
                assert_nothing_mapped();
                assert_int_equal(p->has_list, table[i].has_list);
                assert_int_equal(f->n_lists, table[i].n_lists);
                assert_int_equal(f->n_mmaps, table[i].n_mmaps);
                assert_false(p->offsets);
                if (f->n_mmaps > 0) {
                        assert_int_equal(f->last_prot, PROT_READ);
                        assert_int_equal(f->last_offset, 0);
                        assert_int_equal(f->last_size, getpagesize());
                }
                if (table[i].r < 0) {
                        assert_int_equal(p->fd, -EBADF);
                        assert_true(f->fd < 0 || !fd_is_open(f->fd));
                        assert_int_equal(p->ino, 0);
                } else {
                        assert_int_equal(fstat(p->fd, &st), 0);
                        assert_int_equal(p->dev, st.st_dev);
                        assert_int_equal(p->ino, st.st_ino);
                        assert_int_equal(p->rdev, 0);
                        provider_close(p);
                        assert_int_equal(p->fd, -EBADF);
                        assert_false(fd_is_open(f->fd));
                }

                /* The same with a file from before; it is gone when it is of no use. */
                if (table[i].open_result < 0)
                        continue;
                assert_int_equal(provider_adopt(p, adopted, true), table[i].r);
                assert_int_equal(p->offsets, table[i].r >= 0);
                assert_int_equal(fd_is_open(adopted), table[i].r >= 0);
                assert_int_equal(p->fd, table[i].r >= 0 ? adopted : -EBADF);
                assert_int_equal(f->n_mmaps, 2 * table[i].n_mmaps);
                (void) TAKE_FD(adopted);
        }
}

static void test_adopt_keeps_whole_only(void **state) {
        _cleanup_(provider_freep) Provider *p = &fake_new(list_empty)->provider;

        assert_int_equal(provider_adopt(p, fake_memory(), false), 0);
        assert_false(p->offsets);
        assert_int_equal(fake_of(p)->n_mmaps, 0);
}

static size_t reply_entries(RetiredListHeader *h, size_t first, size_t n) {
        RetiredListEntry *e = (RetiredListEntry *) (h + 1);

        for (size_t i = 0; i < n; i++)
                e[i] = (RetiredListEntry){(first + i) * 2 * 64 * KIB, 4096};
        h->count = (uint32_t) n;
        return n;
}

/* An honest driver with n entries. */
static int reply_honest(RetiredListHeader *h, size_t n) {
        if (h->argsz < retired_list_size(n)) {
                h->argsz = (uint32_t) retired_list_size(n);
                h->count = 0;
        } else
                reply_entries(h, 0, n);
        return 0;
}

static int list_three(Fake *f, RetiredListHeader *h) {
        return reply_honest(h, 3);
}

/* Grows between the calls, the second time by more than anybody would leave room for. */
static int list_growing_twice(Fake *f, RetiredListHeader *h) {
        static const size_t n[] = {0, 1, 2, 200, 200};

        return reply_honest(h, n[MIN(f->n_lists, 4U)]);
}

static int list_growing_forever(Fake *f, RetiredListHeader *h) {
        h->argsz += 100 * sizeof(RetiredListEntry);
        h->count = 0;
        return 0;
}

/* Fills whatever room there is, to the last place. */
static int list_endless(Fake *f, RetiredListHeader *h) {
        if (h->argsz < retired_list_size(1))
                return reply_honest(h, 1);
        reply_entries(h, 0, (h->argsz - sizeof(*h)) / sizeof(RetiredListEntry));
        return 0;
}

/* One that writes the size that it used each time. */
static int list_exact(Fake *f, RetiredListHeader *h) {
        if (h->argsz >= retired_list_size(3))
                h->argsz = (uint32_t) retired_list_size(reply_entries(h, 0, 3));
        else
                return reply_honest(h, 3);
        return 0;
}

/* An old driver's list, cut as a page went bad after the first call; the third has it. */
static int list_cut_then_longer(Fake *f, RetiredListHeader *h) {
        size_t n = f->n_lists <= 3 ? 2 : 5;

        if (h->argsz < retired_list_size(n))
                return reply_honest(h, n);
        h->argsz = (uint32_t) retired_list_size(reply_entries(h, 0, n));
        return 0;
}

static int list_liar(Fake *f, RetiredListHeader *h) {
        if (f->n_lists > 2)
                h->count = UINT32_MAX;
        else
                return reply_honest(h, 3);
        return 0;
}

static int list_vanishing(Fake *f, RetiredListHeader *h) {
        return f->n_lists > 1 ? -ENOTTY : 0;
}

static int list_failing(Fake *f, RetiredListHeader *h) {
        return f->n_lists > 2 ? -EIO : reply_honest(h, 3);
}

static int list_leftover(Fake *f, RetiredListHeader *h) {
        return f->n_lists > 2 ? 16 : reply_honest(h, 3);
}

static int list_huge(Fake *f, RetiredListHeader *h) {
        if (f->n_lists > 1)
                h->argsz = UINT32_MAX;
        return 0;
}

static void test_retired(void **state) {
        static const struct {
                int (*list)(Fake *f, RetiredListHeader *h);
                int r;
                size_t n;
                unsigned n_lists; /* in sum, with the one of the open; 0: not looked at */
        } table[] = {
                        {list_empty, 0, 0, 2},
                        {list_enotty, 0, 0, 1},
                        {list_three, 0, 3, 3},
                        {list_growing_twice, 0, 200, 4},
                        {list_growing_forever, -EAGAIN, 0, 17},
                        {list_endless, -E2BIG, 0, 0},
                        {list_exact, 0, 3, 4},
                        {list_cut_then_longer, 0, 5, 5},
                        {list_liar, -EBADMSG, 0, 3},
                        {list_vanishing, -EBADMSG, 0, 2},
                        {list_failing, -EIO, 0, 3},
                        {list_leftover, -EFAULT, 0, 3},
                        {list_huge, -E2BIG, 0, 2},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(table[i].list)->provider;
                Ranges l = {.n = 4711};

                p->size = GIB * 256; /* room for what the endless one lists */
                assert_int_equal(provider_open(p), 0);
                assert_int_equal(provider_retired(p, &l), table[i].r);
                if (table[i].n_lists > 0)
                        assert_int_equal(fake_of(p)->n_lists, table[i].n_lists);
                if (table[i].r < 0) {
                        assert_int_equal(l.n, 4711);
                        continue;
                }
                assert_int_equal(l.n, table[i].n);
                assert_int_equal(ranges_bytes(&l), table[i].n * p->granule);
                ranges_done(&l);
        }
}

static void test_retired_needs_file(void **state) {
        _cleanup_(provider_freep) Provider *p = &fake_new(list_empty)->provider;
        Ranges l;
        Window w;

        assert_int_equal(provider_retired(p, &l), -EBADF);
        assert_int_equal(provider_map(p, 0, 4096, false, &w), -EBADF);
}

static void test_map_bounds(void **state) {
        static const struct {
                uint64_t offset;
                size_t size;
                int r;
        } table[] = {
                        {0, SIZE, 0},
                        {SIZE - 4096, 4096, 0},
                        {SIZE - 1, 1, 0},
                        {0, 0, -ERANGE},
                        {0, SIZE + 1, -ERANGE},
                        {SIZE, 1, -ERANGE},
                        {SIZE - 4096, 4097, -ERANGE},
                        {UINT64_MAX, 1, -ERANGE},
                        {UINT64_MAX - 4095, 8192, -ERANGE},
                        {4096, SIZE_MAX, -ERANGE},
        };

        for (unsigned offsets = 0; offsets < 2; offsets++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(list_empty)->provider;

                assert_int_equal(provider_adopt(p, fake_memory(), offsets), 0);
                for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                        unsigned n = fake_of(p)->n_mmaps;
                        Window w = {.size = 4711};

                        assert_int_equal(provider_map(p, table[i].offset, table[i].size, true, &w),
                                         table[i].r);
                        if (table[i].r < 0) {
                                assert_int_equal(fake_of(p)->n_mmaps, n);
                                assert_int_equal(w.size, 4711);
                                continue;
                        }
                        assert_int_equal(w.size, table[i].size);
                        assert_true(fake_of(p)->last_offset + fake_of(p)->last_size <= p->size);
                        provider_unmap(p, &w);
                        assert_null(w.base);
                        provider_unmap(p, &w);
                }
        }
}

/* A window shows the bytes at its offset, whichever way it had to be mapped, and no more than
 * was asked for. */
static void test_map_shows_offset(void **state) {
        static const uint64_t at[] = {0, 8, 4096, MIB + 16, SIZE - 64 * KIB};

        for (unsigned offsets = 0; offsets < 2; offsets++) {
                _cleanup_(provider_freep) Provider *p = &fake_new(list_empty)->provider;

                assert_int_equal(provider_adopt(p, fake_memory(), offsets), 0);
                for (size_t i = 0; i < ELEMENTSOF(at); i++) {
                        uint64_t value = UINT64_C(0x1122334455667788) + i, seen = 0;
                        Window w;

                        assert_int_equal(pwrite(p->fd, &value, sizeof(value), (off_t) at[i]),
                                         sizeof(value));
                        assert_int_equal(provider_map(p, at[i], 4096, false, &w), 0);
                        assert_int_equal(fake_of(p)->last_prot, PROT_READ);
                        assert_int_equal(fake_of(p)->last_offset,
                                         offsets ? align_down(at[i], (uint64_t) getpagesize()) : 0);
                        assert_memory_equal(w.address, &value, sizeof(value));
                        provider_unmap(p, &w);

                        assert_int_equal(provider_map(p, at[i], 4096, true, &w), 0);
                        assert_int_equal(fake_of(p)->last_prot, PROT_READ | PROT_WRITE);
                        value = ~value;
                        memcpy(w.address, &value, sizeof(value));
                        provider_unmap(p, &w);
                        assert_int_equal(pread(p->fd, &seen, sizeof(seen), (off_t) at[i]),
                                         sizeof(seen));
                        assert_int_equal(seen, value);
                }
        }
}

static void test_map_fails(void **state) {
        _cleanup_(provider_freep) Provider *p = &fake_new(list_empty)->provider;
        Window w = {.size = 4711};

        assert_int_equal(provider_open(p), 0);
        fake_of(p)->mmap_errno = ENOMEM;
        assert_int_equal(provider_map(p, 0, 4096, false, &w), -ENOMEM);
        assert_int_equal(w.size, 4711);
}

/* The real provider on what it must not take for its device. Opening the real one wipes it, so
 * what is not the device is not opened at all. */
static void test_nvgrace_wrong_file(void **state) {
        _cleanup_(provider_freep) Provider *p = NULL, *gone = NULL, *other = NULL;
        _cleanup_close_ int fd = -EBADF, watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        char path[] = "/tmp/test-provider-XXXXXX", event[1024];

        fd = mkstemp(path);
        assert_true(fd >= 0 && watch >= 0);
        assert_true(inotify_add_watch(watch, path, IN_OPEN) >= 0);
        assert_int_equal(provider_nvgrace_new("egm4", path, makedev(1, 5), SIZE, &p), 0);
        assert_int_equal(provider_open(p), -ENODEV);
        assert_int_equal(read(watch, event, sizeof(event)), -1);
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(provider_adopt(p, fake_memory(), true), -ENODEV);
        assert_int_equal(unlink(path), 0);

        assert_int_equal(provider_nvgrace_new("egm4", path, makedev(1, 5), SIZE, &gone), 0);
        assert_int_equal(provider_open(gone), -ENOENT);
        /* A char device, but another. */
        assert_int_equal(provider_nvgrace_new("egm4", "/dev/null", makedev(1, 5), SIZE, &other), 0);
        assert_int_equal(provider_open(other), -ENODEV);
}

/* A char device without the ioctl whose mappings never show the same memory: as far from EGM as
 * can be, and still nothing goes wrong but that it cannot be divided. */
static void test_nvgrace_char_device(void **state) {
        _cleanup_(provider_freep) Provider *p = NULL;
        Ranges l;
        Window w;

        assert_int_equal(provider_nvgrace_new("egm4", "/dev/zero", makedev(1, 5), SIZE, &p), 0);
        assert_int_equal(provider_open(p), 0);
        assert_int_equal(p->rdev, makedev(1, 5));
        assert_true(fcntl(p->fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fcntl(p->fd, F_GETFL) & O_ACCMODE, O_RDWR);
        assert_false(p->has_list);
        assert_int_equal(provider_probe(p), 0);
        assert_false(p->offsets);
        assert_int_equal(provider_retired(p, &l), 0);
        assert_int_equal(l.n, 0);
        assert_int_equal(provider_map(p, MIB, 4096, true, &w), 0);
        memset(w.address, 1, w.size);
        provider_unmap(p, &w);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_init),
                        cmocka_unit_test(test_open),
                        cmocka_unit_test(test_adopt_keeps_whole_only),
                        cmocka_unit_test(test_retired),
                        cmocka_unit_test(test_retired_needs_file),
                        cmocka_unit_test(test_map_bounds),
                        cmocka_unit_test(test_map_shows_offset),
                        cmocka_unit_test(test_map_fails),
                        cmocka_unit_test(test_nvgrace_wrong_file),
                        cmocka_unit_test(test_nvgrace_char_device),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
