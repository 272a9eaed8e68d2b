/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <inttypes.h>

#include "fd-util.h"
#include "log.h"
#include "sim-config.h"
#include "size.h"
#include "sysfs-egm.h"

#define FILE_SIZE_MAX (1 * MIB)
#define SCALED_UNIT (2 * MIB)

typedef struct Preset {
        const char *machine;
        const char *name;
        uint64_t size;
        int socket; /* and node: a Grace socket is one */
        const char *gpus[2];
} Preset;

static const Preset presets[] = {
                /* One Grace and one Hopper. No egm_size of such a machine is published; what is
                 * assumed: 480 GiB of memory, of which the host keeps 16. */
                {"gh200", "egm4", 464 * GIB, 0, {"0009:01:00.0"}},
                /* A tray of two Grace with two Blackwell each, as documented for KubeVirt. */
                {"gb200", "egm4", 457728 * MIB, 0, {"0008:01:00.0", "0009:01:00.0"}},
                {"gb200", "egm5", 457728 * MIB, 1, {"0018:01:00.0", "0019:01:00.0"}},
};

SimConfig *sim_config_free(SimConfig *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < c->n_regions; i++)
                sim_region_done(c->regions + i);
        free(c->regions);
        return mfree(c);
}

uint64_t sim_config_scale(uint64_t size, uint64_t scale) {
        assert(scale > 0);
        return scale == 1 ? size : align_down(size / scale, SCALED_UNIT);
}

static int preset_fill(const Preset *p, uint64_t scale, SimRegion *s) {
        *s = SIM_REGION_INIT;
        s->size = sim_config_scale(p->size, scale);
        s->node = s->socket = p->socket;
        s->name = strdup(p->name);
        s->gpus = calloc(ELEMENTSOF(p->gpus), sizeof(*s->gpus));
        if (!s->name || !s->gpus)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(p->gpus) && p->gpus[i]; i++) {
                s->gpus[i] = strdup(p->gpus[i]);
                if (!s->gpus[i])
                        return -ENOMEM;
                s->n_gpus++;
        }
        return 0;
}

/* 0: no such machine. */
static int sim_config_preset(const char *machine, uint64_t scale, SimConfig **ret,
                             EgmError *reterr) {
        _cleanup_(sim_config_freep) SimConfig *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->regions = calloc(ELEMENTSOF(presets), sizeof(*c->regions));
        if (!c->regions)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(presets); i++) {
                SimRegion *s = c->regions + c->n_regions;

                if (!streq(presets[i].machine, machine))
                        continue;
                c->n_regions++;
                r = preset_fill(presets + i, scale, s);
                if (r < 0)
                        return r;
                if (s->size == 0)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "--scale=%" PRIu64 " leaves less than %s of %s's %s",
                                             scale, FORMAT_SIZE(SCALED_UNIT), s->name,
                                             FORMAT_SIZE(presets[i].size));
        }
        if (c->n_regions == 0)
                return 0;
        *ret = TAKE_PTR(c);
        return 1;
}

static int sim_config_read(const char *path, uint64_t scale, SimConfig **ret, EgmError *reterr) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_full_file_at(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: neither gh200 nor gb200 nor a file that can be read: %s",
                                     path, strerror(-r));
        if (strlen(text) != size)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: not text: a NUL byte at offset %zu", path, strlen(text));
        return sim_config_parse(text, path, scale, ret, reterr);
}

static int sim_config_check_memory(const SimConfig *c, const char *what, uint64_t scale,
                                   uint64_t memory, EgmError *reterr) {
        uint64_t sum = 0, factor = 2;

        for (size_t i = 0; i < c->n_regions; i++)
                if (__builtin_add_overflow(sum, c->regions[i].size, &sum))
                        sum = UINT64_MAX;
        if (sum <= memory)
                return 0;
        while (sum / factor > memory / 2 && factor < UINT64_C(1) << 32)
                factor *= 2;
        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                             "%s: simulating %s takes as much memory, and this machine has %s; "
                             "divide the sizes, e.g. with --scale=%" PRIu64,
                             what, FORMAT_SIZE(sum), FORMAT_SIZE(memory),
                             scale > UINT64_MAX / factor ? UINT64_MAX : scale * factor);
}

int sim_config_make(const char *what, uint64_t scale, uint64_t memory, SimConfig **ret,
                    EgmError *reterr) {
        _cleanup_(sim_config_freep) SimConfig *c = NULL;
        int r;

        assert(what);
        assert(ret);

        if (scale == 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "--scale=0: at least 1");
        r = sim_config_preset(what, scale, &c, reterr);
        if (r == 0)
                r = sim_config_read(what, scale, &c, reterr);
        if (r < 0)
                return r;
        r = sim_config_check_memory(c, what, scale, memory, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

int sim_config_load(const char *what, uint64_t scale, SimConfig **ret) {
        _cleanup_egm_error_ EgmError error = EGM_ERROR_NULL;
        uint64_t memory = (uint64_t) sysconf(_SC_PHYS_PAGES) * (uint64_t) sysconf(_SC_PAGESIZE);
        int r;

        r = sim_config_make(what, scale, memory, ret, &error);
        if (r < 0 && error.message)
                log_error("--simulate: %s", error.message);
        else if (r < 0)
                log_error_errno(r, "--simulate=%s: %m", what);
        return r;
}

int sim_region_info(const SimRegion *s, RegionInfo **ret) {
        _cleanup_(region_info_freep) RegionInfo *i = NULL;
        int r;

        assert(s);
        assert(ret);

        i = malloc(sizeof(*i));
        if (!i)
                return -ENOMEM;
        *i = (RegionInfo){
                        .inode = (ino_t) s->instance,
                        .size = s->size,
                        .node = s->node,
                        .socket = s->socket,
                        .dialect = "simulated",
        };
        r = sysfs_egm_parse_name(s->name, &i->pxm);
        if (r < 0)
                return r;
        i->name = strdup(s->name);
        if (!i->name)
                return -ENOMEM;
        if (asprintf(&i->devnode, "memfd:%s", s->name) < 0) {
                i->devnode = NULL; /* asprintf() need not */
                return -ENOMEM;
        }
        if (asprintf(&i->syspath, "simulated/%s", s->name) < 0) {
                i->syspath = NULL;
                return -ENOMEM;
        }
        for (size_t k = 0; k < s->n_gpus; k++) {
                r = region_info_add_gpu(i, s->gpus[k], "nvgrace-gpu-vfio-pci", s->node);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(i);
        return 0;
}
