/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "fuzz-input.h"
#include "sim-config.h"
#include "sysfs-egm.h"

/* What a file says of a machine is one that could be simulated, or refused with words. */

static void check_ranges(const Ranges *l, uint64_t size) {
        for (size_t i = 0; i < l->n; i++) {
                const Range *g = l->items + i;

                FUZZ_CHECK(g->size > 0 && g->offset < size && g->size <= size - g->offset);
                FUZZ_CHECK(i == 0 || g->offset > l->items[i - 1].offset + l->items[i - 1].size);
        }
}

static void check_region(const SimRegion *s) {
        _cleanup_(region_info_freep) RegionInfo *info = NULL;
        int pxm;

        FUZZ_CHECK(s->name && sysfs_egm_parse_name(s->name, &pxm) == 0);
        FUZZ_CHECK(s->size > 0 && s->size <= INT64_MAX && s->size % provider_granule() == 0);
        FUZZ_CHECK(s->node >= -1 && s->node <= SYSFS_EGM_NODE_MAX);
        FUZZ_CHECK(s->socket >= -1 && s->socket <= SYSFS_EGM_NODE_MAX);
        FUZZ_CHECK(sim_variant_to_string(s->variant));
        for (size_t i = 0; i < s->n_gpus; i++)
                FUZZ_CHECK(pci_address_is_normal(s->gpus[i]) &&
                           (i == 0 || strcmp(s->gpus[i - 1], s->gpus[i]) < 0));
        check_ranges(&s->retired, s->size);
        check_ranges(&s->faults.bad, s->size);
        FUZZ_CHECK(sim_region_info(s, &info) == 0);
        FUZZ_CHECK(streq(info->name, s->name) && info->size == s->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(sim_config_freep) SimConfig *c = NULL;
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_free_ char *text = fuzz_string(data, size);
        int r;

        r = sim_config_parse(text, "file", 1, &c, &e);
        FUZZ_CHECK(r == 0 || e.kind == EGM_ERROR_INVALID_ARGS);
        fuzz_check_words(r < 0, e.message);
        if (r < 0)
                return 0;
        FUZZ_CHECK(c->n_regions > 0);
        for (size_t i = 0; i < c->n_regions; i++) {
                check_region(c->regions + i);
                for (size_t k = 0; k < i; k++)
                        FUZZ_CHECK(!streq(c->regions[i].name, c->regions[k].name));
        }
        return 0;
}
