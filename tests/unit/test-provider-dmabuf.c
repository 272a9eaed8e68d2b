/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dmabuf-export.h"
#include "fd-util.h"
#include "provider-sim.h"

/* Which drivers are believed to export dma-bufs, and is what they are asked for exactly what is handed out? */

typedef struct Fake {
        Provider provider;
        int answer;
        unsigned n_calls;
        DmabufRange asked[4];
        DmabufExport head;
        off_t size; /* of what is exported; 0: what was asked for */
} Fake;

static int fake_export(Provider *p, void *buffer) {
        Fake *f = CONTAINER_OF(p, Fake, provider);
        const DmabufExport *call = buffer;
        off_t sum = 0;
        int fd;

        f->n_calls++;
        f->head = *call;
        assert_in_range(call->nr_ranges, 1, ELEMENTSOF(f->asked));
        assert_int_equal(call->argsz, sizeof(*call) + call->nr_ranges * sizeof(DmabufRange));
        for (size_t i = 0; i < call->nr_ranges; i++) {
                f->asked[i] = call->ranges[i];
                sum += (off_t) call->ranges[i].length;
        }
        if (f->answer != 0)
                return f->answer;
        fd = memfd_create("dmabuf", MFD_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, f->size > 0 ? f->size : sum), 0);
        return fd;
}

static const ProviderVTable exporting = {.name = "fake", .export_call = fake_export};
static const ProviderVTable plain = {.name = "fake"};

static Fake *fake_new(const ProviderVTable *vtable) {
        Fake *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(provider_init(&f->provider, vtable, "egm4", "/dev/egm4", 64 * MIB), 0);
        f->provider.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        assert_true(f->provider.fd >= 0);
        return f;
}

static void test_probe(void **state) {
        static const struct {
                int answer;
                bool exports;
        } table[] = {
                        {-EOVERFLOW, true}, {-EINVAL, false}, {-ENOTTY, false}, {-EFAULT, false},
                        {-EPERM, false},    {-ENOMEM, false}, {1, false},       {INT32_MAX, false},
        };
        Fake *f;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                f = fake_new(&exporting);
                f->answer = table[i].answer;
                assert_int_equal(provider_probe_exports(&f->provider), table[i].exports);
                assert_int_equal(f->n_calls, 1);
                /* Nothing that any driver could grant. */
                assert_int_equal(f->head.argsz, 32);
                assert_int_equal(f->head.flags, 0);
                assert_true(f->asked[0].offset == UINT64_C(0xFFFFFFFFFFFF0000));
                assert_true(f->asked[0].length == 65536);
                provider_free(&f->provider);
        }
        f = fake_new(&plain);
        assert_false(provider_probe_exports(&f->provider));
        provider_free(&f->provider);
}

static void test_export(void **state) {
        _cleanup_ranges_ Ranges what = {};
        Fake *f = fake_new(&exporting);
        int fd = -EBADF;

        assert_int_equal(ranges_add(&what, 2 * MIB, MIB), 0);
        assert_int_equal(ranges_add(&what, 4 * MIB, 64 * KIB), 0);
        assert_int_equal(provider_export(&f->provider, &what, &fd), -EOPNOTSUPP);
        assert_int_equal(f->n_calls, 0);
        f->provider.exports = true;
        assert_int_equal(provider_export(&f->provider, &what, &fd), 0);
        assert_int_equal(f->head.nr_ranges, 2);
        assert_int_equal(f->head.flags, 0);
        assert_int_equal(f->head.open_flags, O_RDWR | O_CLOEXEC);
        assert_int_equal(f->asked[0].offset, 2 * MIB);
        assert_int_equal(f->asked[0].length, MIB);
        assert_int_equal(f->asked[1].offset, 4 * MIB);
        assert_int_equal(f->asked[1].length, 64 * KIB);
        safe_close(fd);

        /* Not what was asked for. */
        fd = -EBADF;
        f->size = 2 * MIB;
        assert_int_equal(provider_export(&f->provider, &what, &fd), -EBADMSG);
        f->answer = -ENOMEM;
        assert_int_equal(provider_export(&f->provider, &what, &fd), -ENOMEM);
        assert_int_equal(fd, -EBADF);
        provider_free(&f->provider);
}

/* Of the simulated drivers one has them; a dma-buf is a file of its own. */
static void test_sim(void **state) {
        for (int v = 0; v < _SIM_VARIANT_MAX; v++) {
                SimRegion s = SIM_REGION_INIT;
                _cleanup_ranges_ Ranges what = {};
                struct stat a, b;
                Provider *p;
                int one, two;

                s.name = strdup("egm4");
                s.size = 64 * MIB;
                s.variant = (SimVariant) v;
                assert_int_equal(sim_region_provider(&s, &p), 0);
                sim_region_done(&s);
                assert_false(p->exports);
                assert_int_equal(provider_open(p), 0);
                assert_int_equal(p->exports, v == SIM_VARIANT_D);
                assert_int_equal(ranges_add(&what, 0, MIB), 0);
                if (p->exports) {
                        assert_int_equal(provider_export(p, &what, &one), 0);
                        assert_int_equal(provider_export(p, &what, &two), 0);
                        assert_int_equal(fstat(one, &a), 0);
                        assert_int_equal(fstat(two, &b), 0);
                        assert_int_equal(a.st_size, MIB);
                        assert_true(a.st_ino != b.st_ino && a.st_ino != p->ino);
                        safe_close(one);
                        safe_close(two);
                } else
                        assert_int_equal(provider_export(p, &what, &one), -EOPNOTSUPP);
                provider_close(p);
                assert_false(p->exports);
                provider_free(p);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_probe),
                        cmocka_unit_test(test_export),
                        cmocka_unit_test(test_sim),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
