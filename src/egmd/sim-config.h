/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "egm-error.h"
#include "provider-sim.h"
#include "region-info.h"

/* Which regions to simulate: a machine known by name, or what a JSON file says. */

typedef struct SimConfig {
        SimRegion *regions;
        size_t n_regions;
} SimConfig;

SimConfig *sim_config_free(SimConfig *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(SimConfig *, sim_config_free)

/* what: "gh200", "gb200" or a path. Sizes are divided by scale and rounded down to 2 MiB. A
 * scrub writes every byte, so a sum of sizes beyond the machine's memory is refused. Logs. */
int sim_config_load(const char *what, uint64_t scale, SimConfig **ret);

/* What discovery would say of it. */
int sim_region_info(const SimRegion *s, RegionInfo **ret);

/* The same in parts, for tests. memory: the machine's. */
int sim_config_make(const char *what, uint64_t scale, uint64_t memory, SimConfig **ret,
                    EgmError *reterr);
/* {"regions": [{
 *         "name": "egm4",                 "egm" and a number
 *         "size": "4G",                   a number of bytes, or text with K, M, G, T
 *         "instance": 2,                  counts from 1; another number: another device of that name
 *         "node": 0, "socket": 0,         -1 or left out: not known
 *         "gpus": ["0008:01:00.0"],
 *         "variant": "S4",                or K2, R2, S3, D
 *         "retired": [{"offset": "64M", "size": "64K"}],    in units of 64 KiB
 *         "faults": {
 *                 "open_errno": "EIO", "open_gate": "/path/of/a/fifo",
 *                 "held": true, "useless": true,
 *                 "list": "growing",      sim_list_fault_to_string()
 *                 "mmap_fail_at": 3,
 *                 "bad": [{"offset": "1M", "size": "4K"}]    in pages
 *         }}]}
 * All but name and size may be left out. Offsets are not scaled. Anything unknown, of another
 * type, repeated or out of range is an error that says where. name: the file's, for it. */
int sim_config_parse(const char *text, const char *name, uint64_t scale, SimConfig **ret,
                     EgmError *reterr);
/* 0: nothing is left of it. */
uint64_t sim_config_scale(uint64_t size, uint64_t scale);
