/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "config.h"
#include "fuzz.h"

/* Whatever stands in a file: settings stay in their bounds, and warnings can be shown anywhere. */

static void on_warning(const char *message, void *userdata) {
        for (const char *s = message; *s; s++)
                FUZZ_CHECK(*s >= ' ' && *s <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(config_freep) Config *c = NULL;

        if (config_new(&c) < 0)
                return 0;
        if (config_parse(c, (const char *) data, size, "file", on_warning, NULL) < 0)
                return 0;
        FUZZ_CHECK(region_mode_to_string(c->mode));
        FUZZ_CHECK(config_verify_to_string(c->verify));
        FUZZ_CHECK(overreach_action_to_string(c->overreach));
        FUZZ_CHECK(is_pow2(c->default_align) && c->default_align >= 64 * KIB &&
                   c->default_align <= CONFIG_ALIGN_MAX);
        FUZZ_CHECK(c->poll_retired_usec >= USEC_PER_SEC);
        FUZZ_CHECK(c->scrub_threads <= CONFIG_THREADS_MAX);
        FUZZ_CHECK(c->scrub_bandwidth > 0);
        FUZZ_CHECK(c->leases_max > 0 && c->leases_max <= CONFIG_LEASES_MAX);
        FUZZ_CHECK(c->waiting_max <= CONFIG_WAITING_MAX);
        for (size_t i = 0; i < c->n_scrub_cpus; i++)
                FUZZ_CHECK(c->scrub_cpus[i] <= CONFIG_CPU_MAX &&
                           (i == 0 || c->scrub_cpus[i - 1] < c->scrub_cpus[i]));
        for (size_t i = 0; i < c->n_regions; i++)
                FUZZ_CHECK(region_mode_to_string(config_region_mode(c, c->regions[i].name)));
        return 0;
}
