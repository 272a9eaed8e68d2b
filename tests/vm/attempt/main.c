/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "attempt.h"
#include "size.h"

/* egm-attempts play enforced|cooperative [SCENE...]: tries everything (of these scenes), and prints "NAME WHO OUTCOME" for each
 * attempt.
 * egm-attempts look FD OFFSET SIZE: what a program does that an actor executes. */

static const Scene *const scenes[] = {
                &scene_range,   &scene_flags,    &scene_descriptor,    &scene_second,
                &scene_node,    &scene_unbound,  &scene_remap,         &scene_advice,
                &scene_entry,   &scene_command,  &scene_trace,         &scene_trace_unbound,
                &scene_process, &scene_thread,   &scene_reuse,         &scene_others,
                &scene_ask,     &scene_uring,    &scene_release,       &scene_lend_again,
                &scene_race,    &scene_insist,   &scene_hide_moving,   &scene_hide_forking,
                &scene_sharer,  &scene_delegate, &scene_delegate_held, &scene_daemon,
};

static int run_look(char *argv[]) {
        uint64_t offset, size;
        int fd;

        if (parse_int(argv[0], &fd) < 0 || parse_size(argv[1], &offset) < 0 ||
            parse_size(argv[2], &size) < 0)
                return 2;
        return to_status(look(fd, offset, size));
}

static int run_play(bool gated, int n, char *names[]) {
        const Scene *chosen[ELEMENTSOF(scenes)];
        size_t n_chosen = 0;

        for (size_t i = 0; i < ELEMENTSOF(scenes); i++) {
                bool wanted = n == 0;

                for (int k = 0; k < n; k++)
                        wanted = wanted || streq(names[k], scenes[i]->name);
                if (wanted)
                        chosen[n_chosen++] = scenes[i];
        }
        return stage_play(chosen, n_chosen, gated) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        if (argc == 5 && streq(argv[1], "look"))
                return run_look(argv + 2);
        if (argc >= 3 && streq(argv[1], "play"))
                return run_play(streq(argv[2], "enforced"), argc - 3, argv + 3);
        (void) fputs("usage: egm-attempts play enforced|cooperative [SCENE...] | look FD OFFSET "
                     "SIZE\n",
                     stderr);
        return 2;
}
