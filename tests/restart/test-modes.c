/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <egm.h>
#include <sys/wait.h>
#include <time.h>

#include "fd-util.h"
#include "keeper.h"
#include "test.h"

/* test-modes EGMD: the administrator changes a region's mode while leases are out, and the daemon is killed. The leases live on;
 * the mode holds for what comes after them. */

#define DEADLINE_USEC (60 * USEC_PER_SEC)

static const char *egmd;

typedef struct Bed {
        char directory[64];
        char config[128];
        Keeper *keeper;
        egm_connection *connection;
} Bed;

static void put(const char *path, const char *text) {
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static void bed_done(Bed *b) {
        char command[128];

        egm_connection_unref(b->connection);
        keeper_free(b->keeper);
        (void) snprintf(command, sizeof(command), "rm -rf '%s'", b->directory);
        assert_int_equal(system(command), 0);
}

/* "egm4" that does as it is told, "egm6" of a driver that ignores offsets. */
static void bed_init(Bed *b) {
        static const char regions[] = "{\"regions\": [{\"name\": \"egm4\", \"size\": \"16M\"},"
                                      "{\"name\": \"egm6\", \"size\": \"16M\", \"variant\": "
                                      "\"K2\"}]}";
        char sim[128], arg_sim[192], arg_config[192], arg_bus[256];
        const char *args[] = {arg_sim, arg_config, arg_bus, NULL};

        *b = (Bed){.directory = "/tmp/egmd-modes.XXXXXX"};
        assert_non_null(mkdtemp(b->directory));
        (void) snprintf(sim, sizeof(sim), "%s/sim.json", b->directory);
        (void) snprintf(b->config, sizeof(b->config), "%s/egmd.conf", b->directory);
        (void) snprintf(arg_sim, sizeof(arg_sim), "--simulate=%s", sim);
        (void) snprintf(arg_config, sizeof(arg_config), "--config=%s", b->config);
        (void) snprintf(arg_bus, sizeof(arg_bus), "--bus=%s", getenv("EGM_TEST_BUS"));
        put(sim, regions);
        put(b->config, "");
        assert_int_equal(keeper_new(egmd, args, &b->keeper), 0);
        assert_int_equal(keeper_start(b->keeper, DEADLINE_USEC), 0);
        assert_int_equal(egm_connection_new(getenv("EGM_TEST_BUS"), &b->connection), 0);
}

static void restart(Bed *b, const char *config) {
        put(b->config, config);
        assert_int_equal(keeper_signal(b->keeper, SIGKILL), 0);
        assert_int_equal(keeper_wait(b->keeper, DEADLINE_USEC, NULL), 0);
        assert_int_equal(keeper_start(b->keeper, DEADLINE_USEC), 0);
}

static bool stored(Bed *b, const char *name) {
        assert_int_equal(keeper_pump(b->keeper), 0);
        return keeper_has_stored(b->keeper, name);
}

static bool recorded(Bed *b, const char *name) {
        char path[256];

        (void) snprintf(path, sizeof(path), "%s/%s.json", keeper_runtime_dir(b->keeper), name);
        return access(path, F_OK) >= 0;
}

/* ---- Regions and leases ---- */

static egm_region *region(Bed *b, const char *name) {
        egm_region *r;

        assert_int_equal(egm_get_region(b->connection, name, &r), 0);
        return r;
}

static bool region_is(Bed *b, const char *name, const char *state, uint64_t leased) {
        egm_region *r = region(b, name);
        bool yes = streq(egm_region_get_state(r), state) && egm_region_get_leased(r) == leased;

        egm_region_unref(r);
        return yes;
}

static bool region_has_free(Bed *b, const char *name, uint64_t size) {
        egm_region *r = region(b, name);
        bool yes = egm_region_get_free(r) == size;

        egm_region_unref(r);
        return yes;
}

static bool region_is_free(Bed *b, const char *name) {
        egm_region *r = region(b, name);
        bool yes = streq(egm_region_get_state(r), "ready") &&
                   egm_region_get_free(r) == egm_region_get_size(r);

        egm_region_unref(r);
        return yes;
}

static bool reason_has(Bed *b, const char *name, const char *words) {
        egm_region *r = region(b, name);
        bool yes = strstr(egm_region_get_reason(r), words);

        egm_region_unref(r);
        return yes;
}

/* Nothing tells a plain client of a region's bytes but looking again. */
#define eventually(condition) \
        do { \
                time_t until = time(NULL) + 60; \
                while (!(condition)) { \
                        if (time(NULL) > until) \
                                fail_msg("never: %s", #condition); \
                        (void) usleep(20000); \
                } \
        } while (0)

static int acquire(Bed *b, const char *name, uint64_t size, unsigned wait_sec, egm_lease **ret) {
        egm_request *q;
        int r;

        assert_int_equal(egm_request_new(&q), 0);
        assert_int_equal(egm_request_add_slice(q, size), 0);
        assert_int_equal(egm_request_set_slice_region(q, 0, name), 0);
        assert_int_equal(egm_request_set_wait(q, wait_sec * USEC_PER_SEC), 0);
        r = egm_acquire(b->connection, q, ret);
        egm_request_unref(q);
        return r;
}

static bool is_active(Bed *b, egm_lease *l) {
        egm_lease_info *i;
        bool yes;

        if (egm_get_lease_info(b->connection, egm_lease_get_id(l), &i) < 0)
                return false;
        yes = streq(egm_lease_info_get_state(i), "active");
        egm_lease_info_unref(i);
        return yes;
}

static void expect_refusal(Bed *b, const char *name, int error, const char *words) {
        const char *message;
        egm_lease *l;

        /* At once: there is nothing to wait for. */
        assert_int_equal(acquire(b, name, 2 * MIB, 1000, &l), error);
        message = egm_connection_get_error_message(b->connection);
        if (!message || !strstr(message, words))
                fail_msg("%s", message);
}

/* ---- Tests ---- */

static void test_observe(void **state) {
        egm_lease *l, *other;
        Bed b;

        bed_init(&b);
        assert_int_equal(acquire(&b, "egm4", 2 * MIB, 60, &l), 0);
        restart(&b, "[Region egm4]\nMode=observe\n");
        /* It has what it had, and nobody else gets anything. */
        assert_true(is_active(&b, l));
        assert_true(region_is(&b, "egm4", "ready", 2 * MIB));
        assert_true(stored(&b, "region-egm4") && recorded(&b, "region-egm4"));
        expect_refusal(&b, "egm4", -ENOLINK, "observed only");
        egm_lease_unref(l);
        eventually(region_is_free(&b, "egm4"));
        expect_refusal(&b, "egm4", -ENOLINK, "observed only");
        /* Then the daemon lets go of it. */
        restart(&b, "[Region egm4]\nMode=observe\n");
        assert_true(region_is(&b, "egm4", "held-elsewhere", 0));
        eventually(reason_has(&b, "egm4", "nobody has it"));
        eventually(!stored(&b, "region-egm4"));
        assert_false(recorded(&b, "region-egm4"));
        /* And takes it back. */
        restart(&b, "");
        eventually(region_is_free(&b, "egm4"));
        assert_true(stored(&b, "region-egm4"));
        assert_int_equal(acquire(&b, "egm4", 2 * MIB, 60, &other), 0);
        egm_lease_unref(other);
        bed_done(&b);
}

static void test_whole(void **state) {
        egm_lease *a, *c, *d;
        egm_region *r;
        Bed b;

        bed_init(&b);
        assert_int_equal(acquire(&b, "egm4", 2 * MIB, 60, &a), 0);
        assert_int_equal(acquire(&b, "egm4", 4 * MIB, 60, &c), 0);
        restart(&b, "[Egmd]\nMode=whole\n");
        assert_true(is_active(&b, a) && is_active(&b, c));
        assert_true(region_is(&b, "egm4", "ready", 6 * MIB));
        r = region(&b, "egm4");
        assert_string_equal(egm_region_get_partitioning(r), "whole-only");
        egm_region_unref(r);
        assert_int_equal(acquire(&b, "egm4", 2 * MIB, 0, &d), -ENOTUNIQ);
        /* The driver can do more than it is asked for: what is dirty need not wait for them. */
        eventually(region_has_free(&b, "egm4", 10 * MIB));
        egm_lease_unref(a);
        assert_int_equal(acquire(&b, "egm4", 2 * MIB, 0, &d), -ENOTUNIQ);
        egm_lease_unref(c);
        eventually(region_is_free(&b, "egm4"));
        assert_int_equal(acquire(&b, "egm4", 16 * MIB, 60, &d), 0);
        egm_lease_unref(d);
        bed_done(&b);
}

static void test_shared(void **state) {
        egm_lease *l;
        Bed b;

        bed_init(&b);
        assert_int_equal(acquire(&b, "egm6", 2 * MIB, 60, &l), 0);
        restart(&b, "[Egmd]\nMode=shared\n");
        assert_true(is_active(&b, l));
        assert_true(region_is(&b, "egm6", "ready", 2 * MIB));
        expect_refusal(&b, "egm6", -ENOLINK, "Mode=shared");
        egm_lease_unref(l);
        eventually(region_is_free(&b, "egm6"));
        expect_refusal(&b, "egm6", -ENOLINK, "Mode=shared");
        restart(&b, "[Egmd]\nMode=shared\n");
        eventually(region_is(&b, "egm6", "failed", 0));
        assert_true(reason_has(&b, "egm6", "Mode=shared"));
        eventually(!stored(&b, "region-egm6"));
        assert_false(recorded(&b, "region-egm6"));
        expect_refusal(&b, "egm6", -ENOLINK, "Mode=shared");
        restart(&b, "[Egmd]\nMode=auto\n");
        eventually(region_is_free(&b, "egm6"));
        bed_done(&b);
}

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_observe),
                        cmocka_unit_test(test_whole),
                        cmocka_unit_test(test_shared),
        };

        assert(argc == 2);
        egmd = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
