/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* test-hostile EGMD: whatever its callers do, egmd is there for the others. */

#include "attacks.h"
#include "scene.h"
#include "size.h"

static const char *egmd;

typedef struct Attack {
        const char *name;
        void (*run)(void);
        bool filled; /* with 1,000 leases out */
} Attack;

static const Attack attacks[] = {
                {"fds.unused", attack_fds_unused, false},
                {"fds.dropped", attack_fds_dropped, false},
                {"fds.waiting", attack_fds_waiting, false},
                {"fds.holder", attack_holder_kinds, false},
                {"admit.kinds", attack_admit_kinds, false},
                {"admit.floods", attack_admit_floods, false},
                {"admit.races", attack_admit_races, false},
                {"fds.nottaken", attack_fds_not_taken, false},
                {"arguments.huge", attack_arguments_huge, false},
                {"arguments.deep", attack_arguments_deep, false},
                {"arguments.text", attack_arguments_text, false},
                {"paths", attack_paths, false},
                {"callers.waiting", attack_waiters_vanish, false},
                {"callers.timeouts", attack_waiters_time_out, false},
                {"callers.vanish", attack_callers_vanish, false},
                {"callers.noreply", attack_no_reply, false},
                {"callers.names", attack_names, false},
                {"callers.forgery", attack_forgery, false},
                {"callers.races", attack_races, false},
                {"floods.calls", attack_floods, true},
                {"floods.matches", attack_matches, true},
                {"floods.unread", attack_never_reads, true},
                {"floods.greedy", attack_greedy, true},
};

static const Attack *current;

static void run_current(void) {
        if (current->filled)
                attack_fill();
        current->run();
        if (current->filled)
                attack_drop();
}

static bool wanted(const char *name) {
        const char *only = getenv("EGM_TEST_ONLY");

        return !only || strncmp(name, only, strlen(only)) == 0;
}

static void test_attacks(void **state) {
        scene_start(egmd, 0);
        for (size_t i = 0; i < ELEMENTSOF(attacks); i++) {
                current = attacks + i;
                if (wanted(current->name))
                        scene_attack(current->name, run_current);
        }
        scene_restart();
        scene_end();
}

/* A user's own simulation may have as few as this. */
static void test_few_fds(void **state) {
        if (!wanted("fds.few"))
                skip();
        scene_start(egmd, 256);
        /* Without the client: there is nothing left for it, either. */
        attack_few_fds();
        scene_attack("fds.few", attack_fds_unused);
        attack_fds_lost();
        scene_end();
}

static void test_blocked(void **state) {
        scene_start(egmd, 0);
        attack_block_the_bus();
        scene_end();
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test_teardown(test_attacks, scene_abandon),
                        cmocka_unit_test_teardown(test_few_fds, scene_abandon),
        };

        const struct CMUnitTest blind[] = {
                        cmocka_unit_test_teardown(test_blocked, scene_abandon),
        };

        if (argc == 4 && streq(argv[1], SCENE_GOOD_CLIENT)) {
                uint64_t stop_fd, stats_fd;

                if (parse_uint64(argv[2], &stop_fd) < 0 || parse_uint64(argv[3], &stats_fd) < 0)
                        return EXIT_FAILURE;
                return scene_good_client((int) stop_fd, (int) stats_fd);
        }
        if (argc != 2)
                return EXIT_FAILURE;
        egmd = argv[1];
        if (getenv("EGM_TEST_BLIND"))
                return cmocka_run_group_tests(blind, NULL, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
