/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scrub-fake.h"
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "size.h"

#define CHUNK (2 * MIB)
#define REGION (12 * MIB)

static uint64_t page_size(void) {
        return (uint64_t) sysconf(_SC_PAGESIZE);
}

static void scrub(Fake *f, Record *r, ScrubConfig config, uint64_t offset, uint64_t size) {
        sd_event *e = test_event();
        Scrubber *s;

        assert_int_equal(scrubber_new(e, &config, &s), 0);
        record_submit(r, s, f, -1, offset, size, true);
        run_all(e, r, 1);
        pump(e);
        assert_int_equal(r->finished, 1);
        (void) scrubber_free(s);
        (void) sd_event_unref(e);
        assert_true(fake_holds(f, 0, offset, FAKE_PATTERN, false));
        assert_true(fake_holds(f, offset + size, f->provider.size - offset - size, FAKE_PATTERN,
                               false));
}

/* Pages of the job, which starts at 1 MiB and ends at 11, so that it begins and ends inside a
 * chunk. */
static bool is_bad(unsigned kind, uint64_t i, uint64_t n) {
        uint64_t per_chunk = CHUNK / page_size(), first = CHUNK / 2 / page_size();

        switch (kind) {
        case 0:
                return i == 0;
        case 1:
                return i == n - 1;
        case 2:
                return i == 7 || i == 8;
        case 3:
                return i % 2 == 0;
        case 4:
                return i % 2 == 1;
        case 5: /* on both sides of chunks' edges */
                return (i + first) % per_chunk == 0 || (i + first) % per_chunk == per_chunk - 1;
        case 6: /* a whole chunk */
                return (i + first) / per_chunk == 2;
        case 7:
                return i % 17 == 3;
        case 8:
                return true;
        case 9:
                return i % 16 == 15; /* the last of each 64 KiB, where pages are of 4 */
        default:
                return false;
        }
}

static void test_bad_pages(void **state) {
        for (unsigned kind = 0; kind < 11; kind++)
                for (unsigned variant = 0; variant < 8; variant++) {
                        uint64_t granule = variant & 1 ? page_size() : MAX(64 * KIB, page_size());
                        uint64_t n = (REGION - 2 * MIB) / page_size();
                        _cleanup_(fake_freep) Fake *f = fake_new(REGION, granule);
                        _cleanup_(record_done) Record r = {};

                        f->provider.offsets = !(variant & 4);
                        for (uint64_t i = 0; i < n; i++)
                                f->bad[MIB / page_size() + i] = is_bad(kind, i, n);
                        scrub(f, &r,
                              (ScrubConfig){.threads = variant & 2 ? 3 : 1,
                                            .max_threads = 3,
                                            .window = 4 * MIB,
                                            .verify = variant % 3 ? SCRUB_VERIFY_SAMPLES
                                                                  : SCRUB_VERIFY_ALL},
                              MIB, REGION - 2 * MIB);
                        record_expect_clean(&r);
                }
}

/* Bad only when read back. */
static void test_bad_when_read(void **state) {
        for (unsigned kind = 0; kind < 11; kind++) {
                uint64_t n = (REGION - 2 * MIB) / page_size();
                _cleanup_(fake_freep) Fake *f = fake_new(REGION, 64 * KIB);
                _cleanup_(record_done) Record r = {};

                f->bad_prot = PROT_READ;
                for (uint64_t i = 0; i < n; i++)
                        f->bad[MIB / page_size() + i] = is_bad(kind, i, n);
                scrub(f, &r,
                      (ScrubConfig){.threads = 2, .max_threads = 2, .verify = SCRUB_VERIFY_ALL},
                      MIB, REGION - 2 * MIB);
                assert_int_equal(r.r, 0);
                assert_true(fake_holds(f, r.offset, r.size, 0, false));
                memset(f->view + r.offset, 0, r.size);
                for (uint64_t at = r.offset; at < r.offset + r.size; at += 64 * KIB) {
                        bool bad = false;

                        for (uint64_t i = at / page_size(); i < (at + 64 * KIB) / page_size(); i++)
                                bad = bad || f->bad[i];
                        assert_int_equal(r.bad[at / (64 * KIB)], bad);
                }
        }
}

/* 8,192 of 16,384 (with pages of 4 KiB), one by one. */
static void test_thousands_of_bad_pages(void **state) {
        uint64_t n = 64 * MIB / page_size();
        _cleanup_(fake_freep) Fake *f = fake_new(64 * MIB, page_size());
        _cleanup_(record_done) Record r = {};

        for (uint64_t i = 0; i < n; i++)
                f->bad[i] = i % 2 == 0;
        scrub(f, &r, (ScrubConfig){.threads = 2, .max_threads = 2}, 0, 64 * MIB);
        record_expect_clean(&r);
        assert_int_equal(r.n_bad, n / 2);
}

/* Somebody else's handler between the scrubber's making and a job, and between two windows of it. */
static void take_signal(Fake *f, uint64_t offset, size_t size, bool writable) {
        if (writable)
                (void) signal(SIGBUS, SIG_DFL);
}

static void test_foreign_handler(void **state) {
        _cleanup_(fake_freep) Fake *f = fake_new(REGION, 64 * KIB);
        _cleanup_(record_done) Record r = {};

        f->on_map = take_signal;
        f->bad[0] = f->bad[REGION / 2 / page_size()] = f->bad[REGION / page_size() - 1] = true;
        scrub(f, &r, (ScrubConfig){.threads = 1, .max_threads = 1, .window = 4 * MIB}, 0, REGION);
        record_expect_clean(&r);
        assert_int_equal(r.n_bad, 3);
}

static void lose(Fake *f, uint64_t offset, uint64_t size) {
        for (uint64_t i = offset / page_size(); i < (offset + size) / page_size(); i++)
                f->lossy[i] = true;
}

/* A region whose mapping keeps what is written to itself must not pass: any sample tells. */
static void test_samples_find_a_lossy_mapping(void **state) {
        static const uint64_t sizes[] = {64 * KIB, CHUNK, REGION};

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(fake_freep) Fake *f = fake_new(REGION, 64 * KIB);
                _cleanup_(record_done) Record r = {};

                lose(f, 0, REGION);
                scrub(f, &r, (ScrubConfig){.threads = 2, .max_threads = 2}, 0, sizes[i]);
                assert_int_equal(r.r, -EBADMSG);
        }
}

/* First, last, and every 32nd chunk are looked at. */
static void test_where_samples_are_taken(void **state) {
        static const struct {
                uint64_t offset;
                bool found;
        } cases[] = {
                        {30 * CHUNK, true}, /* the job's first */
                        {31 * CHUNK, false}, {32 * CHUNK, true},  {33 * CHUNK, false},
                        {48 * CHUNK, false}, {63 * CHUNK, false}, {64 * CHUNK, true},
                        {65 * CHUNK, true}, /* its last */
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(fake_freep) Fake *f = fake_new(66 * CHUNK, 64 * KIB);
                _cleanup_(record_done) Record r = {};

                lose(f, cases[i].offset, CHUNK);
                scrub(f, &r, (ScrubConfig){.threads = 1}, 30 * CHUNK, 36 * CHUNK);
                assert_int_equal(r.r, cases[i].found ? -EBADMSG : 0);
        }
}

static void test_verify_all_finds_one_page(void **state) {
        uint64_t n = REGION / page_size();

        for (uint64_t i = 0; i < n; i += i < 3 || i > n - 5 ? 1 : 257) {
                _cleanup_(fake_freep) Fake *f = fake_new(REGION, 64 * KIB);
                _cleanup_(record_done) Record r = {};
                uint64_t k = (i + 100) % n;

                f->lossy[i] = true;
                /* In a chunk with a bad page too, which is looked at page by page. */
                f->bad[k] = i % 2 && k / 16 != i / 16;
                scrub(f, &r,
                      (ScrubConfig){.threads = 2, .max_threads = 2, .verify = SCRUB_VERIFY_ALL}, 0,
                      REGION);
                assert_int_equal(r.r, -EBADMSG);
        }
}

/* Everything at once, from a seed. */

typedef struct Dice {
        uint64_t state;
} Dice;

static uint64_t roll(Dice *d, uint64_t n) {
        uint64_t x = d->state += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (x ^ (x >> 31)) % n;
}

#define STRESS_REGIONS 3U
#define STRESS_JOBS 24U
#define STRESS_SLOT (512 * KIB) /* a job lies in a slot of its own, with gaps */
#define STRESS_REGION (STRESS_JOBS * STRESS_SLOT)

typedef struct Stress {
        Dice dice;
        sd_event *event;
        Scrubber *scrubber;
        Fake *fakes[STRESS_REGIONS];
        Record records[STRESS_REGIONS][STRESS_JOBS];
} Stress;

static void stress_open(Stress *s) {
        ScrubConfig config = {
                        .threads = (unsigned) roll(&s->dice, 4),
                        .max_threads = (unsigned) roll(&s->dice, 6),
                        .window = roll(&s->dice, 3) * CHUNK,
                        .verify = roll(&s->dice, 4) ? SCRUB_VERIFY_SAMPLES : SCRUB_VERIFY_ALL,
        };

        s->event = test_event();
        assert_int_equal(scrubber_new(s->event, &config, &s->scrubber), 0);
        for (size_t i = 0; i < STRESS_REGIONS; i++) {
                uint64_t granule = roll(&s->dice, 2) ? page_size() : 64 * KIB;
                Fake *f = s->fakes[i] = fake_new(STRESS_REGION, granule);

                f->provider.offsets = roll(&s->dice, 4) > 0;
                if (roll(&s->dice, 4) == 0)
                        f->fail_at = (unsigned) roll(&s->dice, 50) + 1;
                if (roll(&s->dice, 2) == 0)
                        for (uint64_t k = 0; k < STRESS_REGION / page_size(); k++)
                                f->bad[k] = roll(&s->dice, 30) == 0;
        }
}

static void stress_act(Stress *s, size_t region, size_t slot) {
        Fake *f = s->fakes[region];
        Record *r = &s->records[region][slot];
        uint64_t granule = f->provider.granule, n = STRESS_SLOT / granule;

        if (!r->fake) {
                uint64_t start = roll(&s->dice, n), end = start + 1 + roll(&s->dice, n - start);

                record_submit(r, s->scrubber, f, (int) roll(&s->dice, 3) - 1,
                              slot * STRESS_SLOT + start * granule, (end - start) * granule,
                              roll(&s->dice, 2));
        } else if (r->job && roll(&s->dice, 2))
                scrub_job_cancel(r->job);
        else if (r->job)
                scrub_job_set_urgent(r->job);
        for (uint64_t k = roll(&s->dice, 4); k > 0; k--)
                assert_true(sd_event_run(s->event, 0) >= 0);
}

static void stress_check(const Record *r, size_t slot, bool through) {
        const Fake *f = r->fake;

        assert_true(r->finished == 1 || (!through && r->finished == 0));
        if (r->finished && r->r == 0)
                record_expect_clean(r);
        else if (r->finished)
                assert_true(r->r == -ECANCELED || (r->r == -ENOMEM && f->fail_at > 0));
        assert_true(fake_holds(f, slot * STRESS_SLOT, r->offset - slot * STRESS_SLOT, FAKE_PATTERN,
                               false));
        assert_true(fake_holds(f, r->offset + r->size,
                               (slot + 1) * STRESS_SLOT - r->offset - r->size, FAKE_PATTERN,
                               false));
}

static void stress_round(uint64_t seed) {
        Stress s = {.dice = {.state = seed}};
        bool through;

        stress_open(&s);
        through = roll(&s.dice, 4) > 0;
        for (unsigned n = 0; n < 2 * STRESS_REGIONS * STRESS_JOBS; n++)
                stress_act(&s, roll(&s.dice, STRESS_REGIONS), roll(&s.dice, STRESS_JOBS));
        for (size_t i = 0; through && i < STRESS_REGIONS; i++)
                for (size_t k = 0; k < STRESS_JOBS; k++)
                        if (s.records[i][k].fake)
                                run_all(s.event, &s.records[i][k], 1);
        if (through)
                pump(s.event);
        s.scrubber = scrubber_free(s.scrubber);
        for (size_t i = 0; i < STRESS_REGIONS; i++) {
                for (size_t k = 0; k < STRESS_JOBS; k++) {
                        if (s.records[i][k].fake)
                                stress_check(&s.records[i][k], k, through);
                        record_done(&s.records[i][k]);
                }
                (void) fake_free(s.fakes[i]);
        }
        (void) sd_event_unref(s.event);
}

static void test_stress(void **state) {
        const char *text = getenv("EGM_TEST_SEED");
        uint64_t seed;

        if (!text)
                assert_int_equal(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
        else
                assert_int_equal(parse_uint64(text, &seed), 0);
        for (unsigned n = 0; n < 60; n++) {
                print_message("EGM_TEST_SEED=%" PRIu64 "\n", seed + n);
                stress_round(seed + n);
        }
}

static int set_up(void **state) {
        calls_reset();
        return 0;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test_setup(test_bad_pages, set_up),
                        cmocka_unit_test_setup(test_bad_when_read, set_up),
                        cmocka_unit_test_setup(test_thousands_of_bad_pages, set_up),
                        cmocka_unit_test_setup(test_foreign_handler, set_up),
                        cmocka_unit_test_setup(test_samples_find_a_lossy_mapping, set_up),
                        cmocka_unit_test_setup(test_where_samples_are_taken, set_up),
                        cmocka_unit_test_setup(test_verify_all_finds_one_page, set_up),
                        cmocka_unit_test_setup(test_stress, set_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
