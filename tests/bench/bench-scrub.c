/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* egmd's scrubber beside a bare loop of the same technique and memset, over the same simulated region.
 *     bench-scrub rate SIZE THREADS ROUNDS      all of it at full duty, contenders taking turns
 *     bench-scrub neighbour SIZE ROUNDS         a reader on the other core, alone and beside a background scrub */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <systemd/sd-event.h>

#include "bench.h"
#include "provider-sim.h"
#include "scrubber.h"
#include "zero.h"

#define CHUNK (2 * MIB)
#define MEMSET_CALL (4 * MIB)
#define READER_SIZE (8 * MIB)
#define READER_WINDOW (250 * USEC_PER_MSEC * NSEC_PER_USEC)

typedef struct Bare {
        uint8_t *address;
        uint64_t size;
        uint64_t call;
        void (*zero)(void *p, size_t size);
        _Atomic uint64_t next;
} Bare;

static void zero_memset(void *p, size_t size) {
        memset(p, 0, size);
}

static void zero_streaming(void *p, size_t size) {
        zero_span(p, size);
        zero_fence();
}

static void *bare_main(void *userdata) {
        Bare *b = userdata;
        uint64_t at;

        while ((at = atomic_fetch_add(&b->next, b->call)) < b->size)
                b->zero(b->address + at, MIN(b->call, b->size - at));
        return NULL;
}

typedef struct Took {
        uint64_t nsec;
        uint64_t cpu; /* of all threads: what a busy machine does not add to */
} Took;

static Took took_now(void) {
        return (Took){.nsec = bench_now(), .cpu = bench_clock(CLOCK_PROCESS_CPUTIME_ID)};
}

static Took took_since(Took t) {
        Took now = took_now();

        return (Took){.nsec = now.nsec - t.nsec, .cpu = now.cpu - t.cpu};
}

static Took bare_run(const Window *w, unsigned threads, uint64_t call,
                     void (*zero)(void *p, size_t size)) {
        Bare b = {.address = w->address, .size = w->size, .call = call, .zero = zero};
        pthread_t *ids = calloc(threads, sizeof(*ids));
        Took t = took_now();

        for (unsigned i = 0; i < threads; i++)
                bench_check(-pthread_create(ids + i, NULL, bare_main, &b), "thread");
        for (unsigned i = 0; i < threads; i++)
                bench_check(-pthread_join(ids[i], NULL), "thread");
        t = took_since(t);
        free(ids);
        return t;
}

static void on_finished(ScrubJob *j, int r, void *userdata) {
        bench_check(r, "scrub");
        (void) sd_event_exit(userdata, 0);
}

static const ScrubOps ops = {.finished = on_finished};

static Took scrubber_run(sd_event **event, const ScrubConfig *config, Provider *p) {
        Scrubber *s;
        Took t;

        bench_check(sd_event_new(event), "event loop");
        bench_check(scrubber_new(*event, config, &s), "scrubber");
        t = took_now();
        bench_check(scrubber_submit(s, p, -1, 0, p->size, true, &ops, *event, NULL), "job");
        bench_check(sd_event_loop(*event), "loop");
        t = took_since(t);
        scrubber_free(s);
        *event = sd_event_unref(*event);
        return t;
}

/* Open, mapped and all there. */
static Provider *region_new(uint64_t size, Window *ret) {
        SimRegion sim = SIM_REGION_INIT;
        Provider *p;

        sim.name = (char *) "egm4";
        sim.size = size;
        bench_check(sim_region_provider(&sim, &p), "region");
        bench_check(provider_open(p), "open");
        /* Before the probe, which touches single pages: so all of it can be huge ones. */
        bench_check(provider_map(p, 0, size, true, ret), "map");
        memset(ret->address, 0xff, size);
        bench_check(provider_probe(p), "probe");
        return p;
}

static void print_rate(const char *who, uint64_t size, Took t) {
        printf("{\"who\": \"%s\", \"what\": \"scrub\", \"gibs\": %.3f, \"ms\": %.3f, \"cpu_ms\": "
               "%.3f}\n",
               who, (double) size / (double) GIB / ((double) t.nsec / 1e9), (double) t.nsec / 1e6,
               (double) t.cpu / 1e6);
        (void) fflush(stdout);
}

static void cmd_rate(uint64_t size, unsigned threads, size_t rounds) {
        const ScrubConfig config = {.threads = threads, .max_threads = threads};
        sd_event *event;
        Provider *p;
        Window w;

        p = region_new(size, &w);
        for (size_t i = 0; i < rounds; i++)
                for (size_t k = 0; k < 3; k++)
                        switch ((i + k) % 3) {
                        case 0:
                                print_rate("bare", size,
                                           bare_run(&w, threads, CHUNK, zero_streaming));
                                break;
                        case 1:
                                print_rate("memset", size,
                                           bare_run(&w, threads, MEMSET_CALL, zero_memset));
                                break;
                        default:
                                print_rate("egmd", size, scrubber_run(&event, &config, p));
                        }
        provider_unmap(p, &w);
        provider_free(p);
}

/* ---- the neighbour ---- */

typedef struct Reader {
        const uint64_t *data;
        uint64_t sum;
        atomic_int stop;
        _Atomic uint64_t passes, nsec;
} Reader;

static void pin(int cpu) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET((size_t) cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set) < 0)
                err(EXIT_FAILURE, "pinning to CPU %i", cpu);
}

/* CPU time, so that who else wants this core does not count. */
static void *reader_main(void *userdata) {
        Reader *r = userdata;

        pin(1);
        while (!atomic_load(&r->stop)) {
                uint64_t t = bench_clock(CLOCK_THREAD_CPUTIME_ID), sum = 0;

                for (size_t i = 0; i < READER_SIZE / sizeof(*r->data); i += 8)
                        sum += r->data[i];
                r->sum += sum;
                t = bench_clock(CLOCK_THREAD_CPUTIME_ID) - t;
                (void) atomic_fetch_add(&r->nsec, t);
                (void) atomic_fetch_add(&r->passes, 1);
        }
        return NULL;
}

static void reader_reset(Reader *r) {
        atomic_store(&r->nsec, 0);
        atomic_store(&r->passes, 0);
}

static void reader_print(Reader *r, const char *what, double gibs) {
        printf("{\"who\": \"reader\", \"what\": \"%s\", \"us\": %.2f, \"gibs\": %.3f}\n", what,
               (double) atomic_load(&r->nsec) / (double) MAX(atomic_load(&r->passes), UINT64_C(1)) /
                               1e3,
               gibs);
        (void) fflush(stdout);
}

typedef struct Background {
        sd_event *event;
        Scrubber *scrubber;
        Provider *provider;
        uint64_t bytes;
        ScrubJob *job;
} Background;

static void on_background_finished(ScrubJob *j, int r, void *userdata);

static const ScrubOps background_ops = {.finished = on_background_finished};

static void background_start(Background *b) {
        bench_check(scrubber_submit(b->scrubber, b->provider, -1, 0, b->provider->size, false,
                                    &background_ops, b, &b->job),
                    "job");
}

static void on_background_finished(ScrubJob *j, int r, void *userdata) {
        Background *b = userdata;

        bench_check(r, "scrub");
        b->bytes += b->provider->size;
        background_start(b);
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(s), 0);
}

static void background_run(Background *b, Reader *r) {
        uint64_t t = bench_now();

        b->bytes = 0;
        bench_check(sd_event_new(&b->event), "event loop");
        bench_check(scrubber_new(b->event, &(ScrubConfig){.threads = 1}, &b->scrubber), "scrubber");
        bench_check(sd_event_add_time_relative(b->event, NULL, CLOCK_MONOTONIC,
                                               READER_WINDOW / NSEC_PER_USEC, 0, on_time, NULL),
                    "timer");
        background_start(b);
        reader_reset(r);
        bench_check(sd_event_loop(b->event), "loop");
        b->bytes += scrub_job_done(b->job);
        reader_print(r, "beside",
                     (double) b->bytes / (double) GIB / ((double) (bench_now() - t) / 1e9));
        b->scrubber = scrubber_free(b->scrubber);
        b->event = sd_event_unref(b->event);
}

static void cmd_neighbour(uint64_t size, size_t rounds) {
        Background b = {};
        Reader r = {};
        pthread_t id;
        uint64_t *data;
        Window w;

        b.provider = region_new(size, &w);
        provider_unmap(b.provider, &w);
        data = aligned_alloc(2 * MIB, READER_SIZE);
        if (!data)
                err(EXIT_FAILURE, "memory");
        (void) madvise(data, READER_SIZE, MADV_HUGEPAGE);
        memset(data, 1, READER_SIZE);
        r.data = data;
        pin(0);
        bench_check(-pthread_create(&id, NULL, reader_main, &r), "thread");
        for (size_t i = 0; i < rounds; i++) {
                const struct timespec window = {.tv_nsec = (long) READER_WINDOW};

                reader_reset(&r);
                (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &window, NULL);
                reader_print(&r, "alone", 0);
                background_run(&b, &r);
        }
        atomic_store(&r.stop, 1);
        bench_check(-pthread_join(id, NULL), "thread");
        if (r.sum == 0)
                errx(EXIT_FAILURE, "nothing was read");
        free(data);
        provider_free(b.provider);
}

int main(int argc, char *argv[]) {
        if (argc == 5 && streq(argv[1], "rate"))
                cmd_rate(bench_number(argv[2]), (unsigned) bench_number(argv[3]),
                         bench_number(argv[4]));
        else if (argc == 4 && streq(argv[1], "neighbour"))
                cmd_neighbour(bench_number(argv[2]), bench_number(argv[3]));
        else
                errx(EXIT_FAILURE, "see the head of bench-scrub.c");
        return EXIT_SUCCESS;
}
