/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "scene.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "daemon-fds.h"
#include "egm-error.h"
#include "fd-util.h"
#include "../restart/keeper.h"

#define DEADLINE_USEC (120 * USEC_PER_SEC)
#define ROUNDS_MIN 20U
#define SAMPLES_MAX 20000U

/* What an attack may leave in egmd's heap, and what it may take while it goes on: some of the bus's largest messages (32 MiB
 * each, and their copies). Sanitizers keep what was freed. */
#ifdef EGM_TEST_SANITIZED
#define RSS_LEFT_MAX (1 * GIB)
#define RSS_PEAK_MAX (2 * GIB)
#else
#define RSS_LEFT_MAX (16 * MIB)
#define RSS_PEAK_MAX (256 * MIB)
#endif

static Keeper *keeper;
static sd_bus *observer;
static char directory[64];
static uint64_t first_rss;

typedef struct Latency {
        uint32_t p50, p99, max; /* usec */
} Latency;

typedef struct Stats {
        unsigned rounds, turned_away;
        Latency status, acquire, release;
} Stats;

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

/* ---- the daemon ---- */

sd_bus *scene_bus(void) {
        return observer;
}

pid_t scene_pid(void) {
        return keeper_pid(keeper);
}

/* Dma-bufs of egm4 may be had. */
static void write_regions(const char *path) {
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        assert_true(fprintf(f,
                            "{\"regions\": [{\"name\": \"egm4\", \"size\": \"64M\", \"variant\": "
                            "\"D\"},"
                            "{\"name\": \"" SCENE_VICTIM "\", \"size\": \"%" PRIu64 "\"}]}",
                            (uint64_t) SCENE_VICTIM_SIZE) > 0);
        assert_int_equal(fclose(f), 0);
}

static void write_config(const char *path) {
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        assert_true(fputs("[Egmd]\nDmabufAllowed=yes\n", f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static uint64_t read_status(const char *key) {
        char path[64], *text, *at;
        uint64_t v = 0;

        (void) snprintf(path, sizeof(path), "/proc/%d/status", (int) scene_pid());
        assert_int_equal(read_full_file_at(AT_FDCWD, path, 65536, &text, NULL), 0);
        at = strstr(text, key);
        assert_non_null(at);
        assert_int_equal(sscanf(at + strlen(key), " %" SCNu64, &v), 1);
        free(text);
        return v * KIB;
}

/* From here on VmHWM is the highest since. */
static void reset_peak(void) {
        char path[64];
        int fd;

        (void) snprintf(path, sizeof(path), "/proc/%d/clear_refs", (int) scene_pid());
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write_all(fd, "5", 1), 0);
        (void) close(fd);
}

unsigned scene_count_fds(void) {
        size_t n = daemon_fds_count(scene_pid());

        assert_true(n > 0);
        return (unsigned) n;
}

static void start_keeper(void) {
        if (keeper_start(keeper, DEADLINE_USEC) == 0)
                return;
        fail_msg("egmd did not start: %s", keeper_log_text(keeper));
}

void scene_start(const char *egmd, unsigned nofile) {
        char sim[128], config[128], arg_sim[192], arg_config[192], arg_bus[256];
        const char *args[] = {arg_sim, arg_config, arg_bus, NULL};
        struct rlimit before, rl;

        (void) snprintf(directory, sizeof(directory), "/tmp/egmd-hostile.XXXXXX");
        assert_non_null(mkdtemp(directory));
        (void) snprintf(sim, sizeof(sim), "%s/sim.json", directory);
        (void) snprintf(config, sizeof(config), "%s/egmd.conf", directory);
        (void) snprintf(arg_sim, sizeof(arg_sim), "--simulate=%s", sim);
        (void) snprintf(arg_config, sizeof(arg_config), "--config=%s", config);
        (void) snprintf(arg_bus, sizeof(arg_bus), "--bus=%s", getenv("EGM_TEST_BUS"));
        write_regions(sim);
        write_config(config);
        assert_int_equal(keeper_new(egmd, args, &keeper), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        rl = before;
        rl.rlim_cur = nofile > 0 ? nofile : rl.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &rl), 0);
        start_keeper();
        before.rlim_cur = before.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        observer = bed_new();
        assert_true(sd_bus_set_method_call_timeout(observer, DEADLINE_USEC) >= 0);
        first_rss = read_status("VmRSS:");
}

static bool has_snapshot(sd_bus *bus, const void *arg) {
        char *now = bed_snapshot(bus);
        bool same = streq(now, arg);

        free(now);
        return same;
}

void scene_restart(void) {
        Granted leases[] = {bed_acquire(observer, "egm4", 2 * MIB, "persistent"),
                            bed_acquire(observer, SCENE_VICTIM, 4 * MIB, "descriptor")};
        char *before = bed_snapshot(observer);

        assert_int_equal(keeper_signal(keeper, SIGKILL), 0);
        assert_int_equal(keeper_wait(keeper, DEADLINE_USEC, NULL), 0);
        start_keeper();
        bed_wait(observer, has_snapshot, before, "the same leases, extents and counts");
        free(before);
        for (size_t i = 0; i < ELEMENTSOF(leases); i++) {
                assert_true(sd_bus_call_method(observer, EGM_BUS_NAME, leases[i].path,
                                               EGM_LEASE_INTERFACE, "Release", NULL, NULL, "a{sv}",
                                               0) >= 0);
                bed_close(&leases[i].memory);
                bed_close(&leases[i].lifetime);
        }
        bed_wait(observer, bed_all_free, NULL, "all memory to be free");
}

bool scene_runs(void) {
        return poll(&(struct pollfd){.fd = keeper_pidfd(keeper), .events = POLLIN}, 1, 0) == 0;
}

void scene_await_end(void) {
        struct pollfd p = {.fd = keeper_pidfd(keeper), .events = POLLIN};

        assert_int_equal(poll(&p, 1, (int) (DEADLINE_USEC / USEC_PER_MSEC)), 1);
}

bool scene_said(const char *text) {
        char *log = keeper_log_text(keeper);
        bool said = log && strstr(log, text);

        free(log);
        return said;
}

void scene_revive(void) {
        assert_int_equal(keeper_wait(keeper, DEADLINE_USEC, NULL), 0);
        start_keeper();
}

void scene_end(void) {
        char command[128];
        int status;

        observer = sd_bus_flush_close_unref(observer);
        assert_int_equal(keeper_signal(keeper, SIGTERM), 0);
        assert_int_equal(keeper_wait(keeper, DEADLINE_USEC, &status), 0);
        if (status != 0)
                fail_msg("egmd left with %d: %s", status, keeper_log_text(keeper));
        keeper = keeper_free(keeper);
        (void) snprintf(command, sizeof(command), "rm -rf '%s'", directory);
        assert_int_equal(system(command), 0);
}

int scene_abandon(void **state) {
        if (!keeper)
                return 0;
        (void) fprintf(stderr, "egmd said:\n%s\n", keeper_log_text(keeper));
        keeper = keeper_free(keeper);
        return 0;
}

/* ---- the well-behaved client ---- */

static int compare(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return x < y ? -1 : x > y;
}

static Latency latency_of(uint32_t *samples, unsigned n) {
        if (n == 0)
                return (Latency){};
        qsort(samples, n, sizeof(*samples), compare);
        return (Latency){.p50 = samples[n / 2],
                         .p99 = samples[n - 1 - n / 100],
                         .max = samples[n - 1]};
}

/* The bus itself turns callers away while it has too much for egmd: nothing of that is egmd's to help. */
static unsigned turned_away;

static int call(sd_bus *bus, sd_bus_message *m, sd_bus_message **ret_reply, uint32_t *ret_usec) {
        for (;;) {
                _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
                sd_bus_message *copy = NULL;
                uint64_t t = now_usec();
                int r;

                r = sd_bus_message_new_method_call(
                                bus, &copy, EGM_BUS_NAME, sd_bus_message_get_path(m),
                                sd_bus_message_get_interface(m), sd_bus_message_get_member(m));
                if (r >= 0)
                        r = sd_bus_message_copy(copy, m, true);
                if (r >= 0)
                        r = sd_bus_call(bus, copy, 0, &e, ret_reply);
                sd_bus_message_unref(copy);
                *ret_usec = (uint32_t) (now_usec() - t);
                if (r >= 0)
                        return r;
                if (!e.message || !strstr(e.message, "has a full message queue")) {
                        (void) fprintf(stderr, "a well-behaved client was refused: %s: %s\n",
                                       e.name, e.message);
                        return r;
                }
                turned_away++;
                (void) sd_bus_message_rewind(m, true);
        }
}

static int one_round(sd_bus *bus, uint32_t ret_usec[3]) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *get = NULL, *acquire = NULL,
                                                        *release = NULL, *reply = NULL;
        const char *path;
        int r;

        get = bed_call_new(bus, EGM_REGION_PATH "/egm4", "org.freedesktop.DBus.Properties",
                           "GetAll");
        acquire = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        r = sd_bus_message_append(get, "s", EGM_REGION_INTERFACE);
        /* What it had before comes back when threads run that run when nobody else does. */
        if (r >= 0)
                r = sd_bus_message_append(acquire, "a{sv}", 2, "Slices", "aa{sv}", 1, 3, "Size",
                                          "t", (uint64_t) SCENE_GRANULE, "Region", "s", "egm4",
                                          "Align", "t", (uint64_t) SCENE_GRANULE, "WaitUSec", "t",
                                          (uint64_t) DEADLINE_USEC / 2);
        if (r >= 0)
                r = sd_bus_message_seal(get, 1, 0);
        if (r >= 0)
                r = sd_bus_message_seal(acquire, 1, 0);
        if (r >= 0)
                r = call(bus, get, NULL, ret_usec);
        if (r >= 0)
                r = call(bus, acquire, &reply, ret_usec + 1);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return r;
        release = bed_call_new(bus, path, EGM_LEASE_INTERFACE, "Release");
        r = sd_bus_message_append(release, "a{sv}", 0);
        if (r >= 0)
                r = sd_bus_message_seal(release, 1, 0);
        return r < 0 ? r : call(bus, release, NULL, ret_usec + 2);
}

int scene_good_client(int stop_fd, int stats_fd) {
        static uint32_t samples[3][SAMPLES_MAX];
        struct pollfd p = {.fd = stop_fd, .events = POLLIN};
        sd_bus *bus = scene_client();
        Stats s = {};
        int r;

        while (s.rounds < ROUNDS_MIN || (poll(&p, 1, 0) == 0 && s.rounds < SAMPLES_MAX)) {
                uint32_t usec[3];

                r = one_round(bus, usec);
                if (r < 0) {
                        (void) fprintf(stderr, "a well-behaved client was refused: %s\n",
                                       strerror(-r));
                        return EXIT_FAILURE;
                }
                for (size_t i = 0; i < 3; i++)
                        samples[i][s.rounds] = usec[i];
                s.rounds++;
                /* It calls now and then: it must not be the attack. */
                (void) poll(&p, 1, 2);
        }
        s.turned_away = turned_away;
        s.status = latency_of(samples[0], s.rounds);
        s.acquire = latency_of(samples[1], s.rounds);
        s.release = latency_of(samples[2], s.rounds);
        sd_bus_flush_close_unref(bus);
        return write_all(stats_fd, &s, sizeof(s)) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

typedef struct Good {
        pid_t pid;
        int stop_fd, stats_fd;
} Good;

static Good start_good_client(void) {
        char program[] = "/proc/self/exe", what[] = SCENE_GOOD_CLIENT, in[16], out[16];
        char *argv[] = {program, what, in, out, NULL};
        int stop[2], stats[2];
        Good g;

        assert_int_equal(pipe2(stop, O_CLOEXEC), 0);
        assert_int_equal(pipe2(stats, O_CLOEXEC), 0);
        assert_int_equal(fcntl(stop[0], F_SETFD, 0), 0);
        assert_int_equal(fcntl(stats[1], F_SETFD, 0), 0);
        (void) snprintf(in, sizeof(in), "%d", stop[0]);
        (void) snprintf(out, sizeof(out), "%d", stats[1]);
        assert_int_equal(posix_spawn(&g.pid, program, NULL, NULL, argv, environ), 0);
        (void) close(stop[0]);
        (void) close(stats[1]);
        g.stop_fd = stop[1];
        g.stats_fd = stats[0];
        return g;
}

static Stats end_good_client(Good *g, const char *name) {
        Stats s = {};
        ssize_t k;
        int status;

        (void) close(g->stop_fd);
        k = read(g->stats_fd, &s, sizeof(s));
        assert_int_equal(waitpid(g->pid, &status, 0), g->pid);
        (void) close(g->stats_fd);
        if (status != 0 || k != sizeof(s))
                fail_msg("%s: the well-behaved client ended with %d; egmd: %s", name, status,
                         keeper_log_text(keeper));
        return s;
}

/* ---- attacks ---- */

static bool has_fds(sd_bus *bus, const void *arg) {
        return scene_count_fds() <= *(const unsigned *) arg;
}

static void wait_for_fds(const char *name, unsigned n) {
        uint64_t deadline = now_usec() + DEADLINE_USEC;

        /* No signal tells of a descriptor that is closed, but it is within the next turn or two. */
        while (!has_fds(NULL, &n)) {
                if (now_usec() >= deadline)
                        fail_msg("%s: egmd had %u descriptors, and has %u", name, n,
                                 scene_count_fds());
                free(bed_snapshot(observer));
        }
}

static void print_latency(const char *what, const Latency *l) {
        (void) printf(" %s %" PRIu32 "/%" PRIu32 "/%" PRIu32, what, l->p50, l->p99, l->max);
}

static void check_memory(const char *name, const Stats *s, uint64_t usec) {
        uint64_t rss = read_status("VmRSS:"), peak = read_status("VmHWM:");

        (void) printf("%-24s %5.1f s; others, usec p50/p99/max of %u:", name,
                      (double) usec / (double) USEC_PER_SEC, s->rounds);
        print_latency("status", &s->status);
        print_latency("acquire", &s->acquire);
        print_latency("release", &s->release);
        if (s->turned_away > 0)
                (void) printf(", %u times turned away by the bus", s->turned_away);
        (void) printf("; egmd: %" PRIu64 " KiB at first, peak %" PRIu64 ", left %" PRIu64 "\n",
                      first_rss / KIB, peak / KIB, rss / KIB);
        (void) fflush(stdout);
        if (peak > first_rss + RSS_PEAK_MAX)
                fail_msg("%s: egmd took %" PRIu64 " KiB", name, peak / KIB);
        if (rss > first_rss + RSS_LEFT_MAX)
                fail_msg("%s: egmd has kept %" PRIu64 " KiB", name, rss / KIB);
}

void scene_attack(const char *name, void (*run)(void)) {
        pid_t pid = scene_pid();
        char *before, *after;
        uint64_t t;
        unsigned fds;
        Good good;
        Stats s;

        bed_wait(observer, bed_all_free, NULL, "all memory to be free");
        before = bed_snapshot(observer);
        fds = scene_count_fds();
        reset_peak();
        t = now_usec();
        good = start_good_client();
        run();
        s = end_good_client(&good, name);
        t = now_usec() - t;
        bed_wait(observer, bed_all_free, NULL, "all memory to be free again");
        after = bed_snapshot(observer);
        assert_string_equal(before, after);
        free(before);
        free(after);
        wait_for_fds(name, fds);
        assert_int_equal(scene_pid(), pid);
        assert_int_equal(kill(pid, 0), 0);
        check_memory(name, &s, t);
}

sd_bus *scene_client(void) {
        sd_bus *bus = bed_connect();
        const char *name;

        assert_true(sd_bus_set_method_call_timeout(bus, DEADLINE_USEC) >= 0);
        /* Waits for the bus to greet it: the number of those it has not greeted yet is limited. */
        assert_true(sd_bus_get_unique_name(bus, &name) >= 0);
        return bus;
}

void scene_check(const char *name, uint64_t usec) {
        const Stats none = {};

        check_memory(name, &none, usec);
}

void scene_wait_for_fds(const char *name, unsigned n) {
        wait_for_fds(name, n);
}

bool scene_error_is_known(const char *name) {
        static const char *const standard[] = {
                        SD_BUS_ERROR_INVALID_ARGS,      SD_BUS_ERROR_ACCESS_DENIED,
                        SD_BUS_ERROR_LIMITS_EXCEEDED,   SD_BUS_ERROR_UNKNOWN_METHOD,
                        SD_BUS_ERROR_UNKNOWN_OBJECT,    SD_BUS_ERROR_UNKNOWN_INTERFACE,
                        SD_BUS_ERROR_UNKNOWN_PROPERTY,  SD_BUS_ERROR_PROPERTY_READ_ONLY,
                        SD_BUS_ERROR_NOT_SUPPORTED,     SD_BUS_ERROR_NO_REPLY,
                        SD_BUS_ERROR_INVALID_SIGNATURE,
        };

        for (EgmErrorKind k = 0; k < _EGM_ERROR_KIND_MAX; k++) {
                const char *known = egm_error_kind_to_name(k);

                if (known && streq(known, name))
                        return true;
        }
        for (size_t i = 0; i < ELEMENTSOF(standard); i++)
                if (streq(standard[i], name))
                        return true;
        return false;
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        unsigned *pending = userdata;

        if (e && !scene_error_is_known(e->name))
                fail_msg("%s: %s", e->name, e->message);
        (*pending)--;
        return 0;
}

void scene_send(sd_bus *bus, sd_bus_message *m, unsigned *pending) {
        assert_true(sd_bus_call_async(bus, NULL, m, on_reply, pending, DEADLINE_USEC) >= 0);
        sd_bus_message_unref(m);
        (*pending)++;
}

void scene_collect(sd_bus *bus, const unsigned *pending) {
        while (*pending > 0) {
                int r = sd_bus_process(bus, NULL);

                assert_true(r >= 0);
                if (r == 0)
                        assert_true(sd_bus_wait(bus, DEADLINE_USEC) >= 0);
        }
}

sd_bus_message *scene_acquire_call(sd_bus *bus, uint64_t size, const char *lifetime,
                                   uint64_t wait_usec) {
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");

        assert_true(sd_bus_message_append(m, "a{sv}", 3, "Slices", "aa{sv}", 1, 3, "Size", "t",
                                          size, "Region", "s", SCENE_VICTIM, "Align", "t",
                                          (uint64_t) SCENE_GRANULE, "Lifetime", "s", lifetime,
                                          "WaitUSec", "t", wait_usec) >= 0);
        return m;
}

Granted scene_acquire(sd_bus *bus, uint64_t size, const char *lifetime) {
        /* What was lent before may still be on its way back. */
        sd_bus_message *m = scene_acquire_call(bus, size, lifetime, DEADLINE_USEC / 2),
                       *reply = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        Granted g;

        if (sd_bus_call(bus, m, 0, &e, &reply) < 0)
                fail_msg("%s: %s", e.name, e.message);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        return g;
}
