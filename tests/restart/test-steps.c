/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-steps EGMD SHIM KIND [SANITIZED]: one life of a daemon and its clients, over and over, and each time something goes
 * wrong at another step of it: the process is killed before (or behind) its Kth call that has an effect, or the Kth
 * call that takes memory, descriptors, ... fails. Whatever happens, what a client was told stands, and nothing stays behind.
 *
 * EGM_TEST_FULL=1: every K, not as many as fit into a few seconds. EGM_TEST_SECONDS=N: for that
 * long. EGM_TEST_SEED=N: others first. EGM_TEST_PARTS=N, EGM_TEST_PART=I: only the Ith (from 0) of N parts.
 * EGM_FAULT=kill@12: just this one. */

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "client.h"
#include "daemon-fds.h"
#include "egm-names.h"
#include "fd-util.h"
#include "mapper.h"
#include "size.h"
#include "world.h"

#define DEADLINE_USEC (120 * USEC_PER_SEC)

static const char *arg_egmd, *arg_shim;
static bool arg_sanitized;
static char directory[64];
/* Of a daemon that has been through all of it without a fault. */
static size_t baseline_fds;

/* ---- the life ---- */

#define SLICE(name, granules) \
        { .at = {.region = (name), .size = (granules) *WORLD_GRANULE}, .fd = -EBADF }

typedef struct Cast {
        Known pair, lasting, bound, late, all;
        Mapper mapper;
} Cast;

static void cast_init(Cast *c) {
        *c = (Cast){
                        .pair = {.label = "pair",
                                 .slices = {SLICE("egm4", 4), SLICE("egm5", 2)},
                                 .n_slices = 2},
                        .lasting = {.label = "lasting",
                                    .persistent = true,
                                    .slices = {SLICE("egm4", 2), SLICE("egm5", 1),
                                               SLICE("egm4", 1)},
                                    .n_slices = 3},
                        .bound = {.label = "bound", .slices = {SLICE("egm5", 2)}, .n_slices = 1},
                        .late = {.label = "Late", .slices = {SLICE("egm4", 10)}, .n_slices = 1},
                        .all = {.label = "all",
                                .slices = {SLICE("egm4", 16), SLICE("egm5", 16)},
                                .n_slices = 2},
                        .mapper = MAPPER_NULL,
        };
}

static void check_mapper(World *w, const Cast *c) {
        world_expect(w, mapper_check(&c->mapper) > 0, "the memory of a running process changed");
}

/* It maps the persistent lease but for its last slice: something in each region that nobody may touch, and something that goes
 * to the next lease before the lease it was of is over. */
static void start_mapper(World *w, Cast *c) {
        Known *leases[] = {&c->lasting, &c->lasting, &c->bound};
        const size_t slices[] = {0, 1, 0};
        MapperPart parts[ELEMENTSOF(leases)];

        for (size_t i = 0; i < ELEMENTSOF(leases); i++) {
                Known *k = leases[i];

                k->slices[slices[i]].mapped = true;
                parts[i] = (MapperPart){
                                .fd = k->slices[slices[i]].fd,
                                .offset = k->slices[slices[i]].at.offset,
                                .size = k->slices[slices[i]].at.size,
                                .pattern = (unsigned char) k->label[0],
                };
        }
        world_expect(w, mapper_start(parts, ELEMENTSOF(parts), &c->mapper) >= 0,
                     "no process to map the memory");
}

/* A process maps two leases; one is bound to it, and nobody has that one's lifetime any more. */
static void begin(World *w, Cast *c) {
        w->step = "the first lease";
        client_acquire(w, &c->pair);
        w->step = "the persistent lease";
        client_acquire(w, &c->lasting);
        w->step = "the lease of a process";
        client_acquire(w, &c->bound);
        start_mapper(w, c);
        w->step = "binding";
        client_call_until_done(w, c->bound.path, "Bind", "h", c->mapper.pidfd);
        w->step = "letting go of the lifetimes";
        client_unmap(&c->bound);
        c->bound.lifetime = safe_close(c->bound.lifetime);
        client_unmap(&c->lasting);
        c->lasting.lifetime = safe_close(c->lasting.lifetime);
        world_check(w);
}

static void middle(World *w, Cast *c) {
        w->step = "no more leases of egm5";
        client_set_schedulable(w, false);
        client_expect_not_schedulable(w);
        w->step = "a restart";
        world_restart(w);
        client_expect_not_schedulable(w);
        world_settle(w);
        w->step = "leases of egm5 again";
        client_set_schedulable(w, true);
        w->step = "reopening the persistent lease";
        client_reopen(w, &c->lasting);
        client_unmap(&c->lasting);
        c->lasting.lifetime = safe_close(c->lasting.lifetime);
        world_check(w);
        w->step = "releasing the persistent lease, which a process maps";
        c->lasting.parked = true;
        client_release(w, &c->lasting);
        world_check(w);
        w->step = "a lease beside it, with what it does not map";
        client_acquire(w, &c->late);
        check_mapper(w, c);
        w->step = "a restart with a lease that drains";
        world_restart(w);
        check_mapper(w, c);
        world_check(w);
}

static void end(World *w, Cast *c) {
        w->step = "the process ends";
        check_mapper(w, c);
        c->bound.held = c->lasting.parked = false;
        world_forget(w, &c->bound);
        world_forget(w, &c->lasting);
        mapper_stop(&c->mapper);
        w->step = "the first lease ends";
        client_drop(w, &c->pair);
        world_settle(w);
        w->step = "the last lease ends";
        client_drop(w, &c->late);
        world_settle(w);
        /* Every byte there is, each written at least once by now. */
        w->step = "a lease of everything";
        client_acquire(w, &c->all);
        w->step = "its end";
        client_drop(w, &c->all);
        world_settle(w);
}

/* ---- what stays behind ---- */

static size_t count_fds(World *w) {
        return daemon_fds_count(keeper_pid(w->keeper));
}

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

/* Its threads may have something open for another moment. */
static void check_fds(World *w) {
        uint64_t deadline = now_usec() + DEADLINE_USEC;
        size_t n;

        while ((n = count_fds(w)) > baseline_fds && now_usec() < deadline) {
                Picture p;

                world_look(w, &p);
        }
        world_expect(w, n <= baseline_fds, "the daemon has %zu descriptors open instead of %zu", n,
                     baseline_fds);
}

/* Nothing but the daemon's and the regions' files. */
static size_t count_strays(World *w, char *ret_name, size_t size) {
        static const char *const expected[] = {".",
                                               "..",
                                               "lock",
                                               "egmd.json",
                                               "leases",
                                               "region-egm4.json",
                                               "region-egm5.json"};
        size_t n = 0;
        DIR *d = opendir(keeper_runtime_dir(w->keeper));
        struct dirent *e;

        world_expect(w, d, "the runtime directory cannot be read");
        while ((e = readdir(d))) {
                bool known = false;

                for (size_t i = 0; i < ELEMENTSOF(expected); i++)
                        known = known || streq(e->d_name, expected[i]);
                if (known)
                        continue;
                n++;
                (void) snprintf(ret_name, size, "%.60s", e->d_name);
        }
        (void) closedir(d);
        return n;
}

static void check_store(World *w) {
        bool seen[2] = {};

        world_expect(w, keeper_pump(w->keeper) >= 0, "the store failed");
        for (size_t i = 0; i < keeper_n_stored(w->keeper); i++) {
                const char *name = keeper_stored_name(w->keeper, i);
                size_t k = streq(name, "region-egm5");

                world_expect(w, k == 1 || streq(name, "region-egm4"), "stored: %s", name);
                world_expect(w, !seen[k], "stored twice: %s", name);
                seen[k] = true;
        }
}

/* What could not be removed when it went wrong may be there till the next start. */
static void leave(World *w) {
        char name[64];

        w->step = "the end";
        if (count_strays(w, name, sizeof(name)) > 0) {
                world_expect(w, w->plan.kind && w->plan.kind->error, "a file is left: %s", name);
                world_restart(w);
                world_settle(w);
                world_expect(w, count_strays(w, name, sizeof(name)) == 0,
                             "a file is left, restart or not: %s", name);
        }
        if (baseline_fds == 0)
                baseline_fds = count_fds(w);
        check_fds(w);
        check_store(w);
        world_stop(w);
}

static void write_regions(const char *path) {
        FILE *f = fopen(path, "we");

        if (!f)
                abort();
        (void) fprintf(f,
                       "{\"regions\": [{\"name\": \"egm4\", \"size\": %" PRIu64
                       ", \"node\": 0, \"socket\": 0}, {\"name\": \"egm5\", \"size\": %" PRIu64
                       ", \"node\": 0, \"socket\": 1}]}\n",
                       WORLD_REGION_SIZE, WORLD_REGION_SIZE);
        if (fclose(f) != 0)
                abort();
}

static int ignore(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return 0;
}

static sd_bus *connect_bus(void) {
        sd_bus *bus;

        if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, getenv("EGM_TEST_BUS")) < 0 ||
            sd_bus_set_bus_client(bus, true) < 0 || sd_bus_negotiate_fds(bus, true) < 0 ||
            sd_bus_set_method_call_timeout(bus, DEADLINE_USEC) < 0 || sd_bus_start(bus) < 0 ||
            sd_bus_add_match(bus, NULL, "type='signal',sender='" EGM_BUS_NAME "'", ignore, NULL) <
                            0 ||
            sd_bus_add_match(bus, NULL,
                             "type='signal',sender='org.freedesktop.DBus',"
                             "member='NameOwnerChanged',arg0='" EGM_BUS_NAME "'",
                             ignore, NULL) < 0)
                abort();
        return bus;
}

static Keeper *new_keeper(const char *page, const char *regions) {
        char simulate[96], bus[256];
        Keeper *k;
        int r;

        (void) snprintf(simulate, sizeof(simulate), "--simulate=%s", regions);
        (void) snprintf(bus, sizeof(bus), "--bus=%s", getenv("EGM_TEST_BUS"));
        r = keeper_new(arg_egmd, (const char *const[]){simulate, bus, NULL}, &k);
        if (r == -ENOSYS || r == -EPERM) {
                (void) fprintf(stderr, "skipped: no kcmp()\n");
                exit(77);
        }
        if (r < 0 || keeper_setenv(k, "LD_PRELOAD", arg_shim) < 0 ||
            keeper_setenv(k, "EGM_FAULT_PAGE", page) < 0)
                abort();
        if (arg_sanitized &&
            keeper_setenv(k, "ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=1") < 0)
                abort();
        return k;
}

/* One life has a few calls more than another, such as each look at whether something is done. */
static bool was_due(const World *w, const FaultPlan *plan) {
        return atomic_load(&w->page->counts[plan->kind->on]) >= plan->first;
}

/* Returns how often the fault struck. */
static uint32_t live(World *w, const FaultPlan *plan, const char *page, const char *regions) {
        Cast c;

        cast_init(&c);
        w->plan = *plan;
        w->n_known = w->n_starts = 0;
        w->hits_excused = 0;
        w->schedulable = true;
        fault_page_set(w->page, plan);
        w->keeper = new_keeper(page, regions);
        w->step = "the first start";
        world_start(w);
        world_settle(w);
        begin(w, &c);
        middle(w, &c);
        end(w, &c);
        leave(w);
        w->keeper = keeper_free(w->keeper);
        return (uint32_t) atomic_load(&w->page->hit);
}

static uint64_t gcd(uint64_t a, uint64_t b) {
        return b == 0 ? a : gcd(b, a % b);
}

static uint64_t from_environment(const char *name, uint64_t otherwise) {
        const char *s = getenv(name);

        if (s && parse_uint64(s, &otherwise) < 0)
                abort();
        return otherwise;
}

/* All K in an order that the seed decides; as many of them as there is time for. */
static void walk(World *w, const FaultKind *kind, const char *page, const char *regions) {
        const char *full = getenv("EGM_TEST_FULL");
        uint64_t seed = from_environment("EGM_TEST_SEED", 1);
        uint64_t began = now_usec(),
                 until = began + from_environment("EGM_TEST_SECONDS", 15) * USEC_PER_SEC;
        uint64_t parts = from_environment("EGM_TEST_PARTS", 1),
                 part = from_environment("EGM_TEST_PART", 0);
        uint64_t total, step, n, done = 0, struck = 0, due = 0;

        (void) live(w, &(FaultPlan){}, page, regions);
        total = atomic_load(&w->page->counts[kind->on]);
        world_expect(w, total > 0, "there is nothing that could go wrong");
        /* Sooner or later it has been everywhere, and early on everywhere a little. */
        for (step = total * 618 / 1000 + seed; gcd(step, total) != 1; step++)
                ;
        for (n = 0; n < total && ((full && streq(full, "1")) || now_usec() < until); n++) {
                uint64_t k = (seed + n * step) % total;
                const FaultPlan plan = {.kind = kind, .first = 1 + k, .n = 1};

                if (k % parts != part)
                        continue;
                struck += live(w, &plan, page, regions) > 0;
                due += was_due(w, &plan);
                done++;
        }
        printf("%s: %" PRIu64 " of %" PRIu64 " calls (seed %" PRIu64 "), struck %" PRIu64
               " times, %" PRIu64 " s\n",
               kind->name, done, total, seed, struck, (now_usec() - began) / USEC_PER_SEC);
        world_expect(w, struck == due, "the faults struck %" PRIu64 " times, and were due %" PRIu64,
                     struck, due);
}

int main(int argc, char *argv[]) {
        const char *one = getenv("EGM_FAULT");
        const FaultKind *kind;
        char page[80], regions[80];
        World w = {.step = "nothing yet"};

        if (argc < 4 || !getenv("EGM_TEST_BUS"))
                return 2;
        arg_egmd = argv[1];
        arg_shim = argv[2];
        kind = fault_kind_from_string(argv[3]);
        arg_sanitized = argc > 4;
        if (!kind)
                return 2;
        (void) snprintf(directory, sizeof(directory), "%.40s/egm-steps.XXXXXX",
                        getenv("TMPDIR") ?: "/tmp");
        if (!mkdtemp(directory))
                abort();
        (void) snprintf(page, sizeof(page), "%s/page", directory);
        (void) snprintf(regions, sizeof(regions), "%s/regions.json", directory);
        write_regions(regions);
        if (fault_page_new(page, &w.page) < 0)
                abort();
        w.bus = connect_bus();
        if (one) {
                FaultPlan plan;

                if (fault_plan_parse(one, &plan) < 0)
                        return 2;
                (void) live(&w, &(FaultPlan){}, page, regions);
                printf("%s: struck %" PRIu32 " times, at %s\n", one, live(&w, &plan, page, regions),
                       w.page->call);
        } else
                walk(&w, kind, page, regions);
        sd_bus_flush_close_unref(w.bus);
        fault_page_free(w.page);
        (void) unlink(page);
        (void) unlink(regions);
        (void) rmdir(directory);
        return 0;
}
