/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/inotify.h>

#include "log.h"
#include "sim-config.h"
#include "simulation.h"

/* Devices come and go, what they give access to stays. */
typedef struct Module {
        char *name;
        SimMemory *memory;
        struct Module *next;
} Module;

struct Simulation {
        sd_event *event;
        discovery_handler_t handler;
        void *userdata;
        char *path; /* NULL: a machine known by name */
        uint64_t scale;
        SimConfig *config; /* what is there */
        Module *modules;
        sd_event_source *watch;
};

int simulation_new(sd_event *event, discovery_handler_t handler, void *userdata, Simulation **ret) {
        Simulation *s;

        assert(event);
        assert(handler);
        assert(ret);

        s = malloc(sizeof(*s));
        if (!s)
                return -ENOMEM;
        *s = (Simulation){
                        .event = sd_event_ref(event),
                        .handler = handler,
                        .userdata = userdata,
        };
        *ret = s;
        return 0;
}

Simulation *simulation_free(Simulation *s) {
        if (!s)
                return NULL;
        for (Module *m; (m = s->modules);) {
                s->modules = m->next;
                (void) sim_memory_unref(m->memory);
                free(m->name);
                free(m);
        }
        s->watch = sd_event_source_disable_unref(s->watch);
        (void) sd_event_unref(s->event);
        sim_config_free(s->config);
        free(s->path);
        return mfree(s);
}

static const SimRegion *find_region(const SimConfig *c, const char *name) {
        for (size_t i = 0; c && i < c->n_regions; i++)
                if (streq(c->regions[i].name, name))
                        return c->regions + i;
        return NULL;
}

static bool same_device(const SimRegion *a, const SimRegion *b) {
        return a->instance == b->instance && a->size == b->size;
}

bool simulation_has(const Simulation *s, const char *name, ino_t inode) {
        const SimRegion *region;

        assert(s);
        assert(name);

        region = find_region(s->config, name);
        return region && (ino_t) region->instance == inode;
}

static int module_get(Simulation *s, const char *name, Module **ret) {
        Module *m;
        int r;

        for (m = s->modules; m; m = m->next)
                if (streq(m->name, name)) {
                        *ret = m;
                        return 0;
                }
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->name = strdup(name);
        r = m->name ? sim_memory_new(&m->memory) : -ENOMEM;
        if (r < 0) {
                free(m->name);
                free(m);
                return r;
        }
        m->next = s->modules;
        s->modules = m;
        *ret = m;
        return 0;
}

int simulation_make_provider(Simulation *s, const char *name, Provider **ret) {
        const SimRegion *region;
        Module *m;
        int r;

        assert(s);
        assert(name);
        assert(ret);

        region = find_region(s->config, name);
        if (!region)
                return -ENODEV;
        r = module_get(s, name, &m);
        if (r < 0)
                return r;
        r = sim_region_provider(region, ret);
        if (r < 0)
                return r;
        sim_provider_set_memory(*ret, m->memory);
        return 0;
}

static int announce(Simulation *s, DiscoveryEvent event, const SimRegion *region) {
        _cleanup_(region_info_freep) RegionInfo *info = NULL;
        int r;

        r = sim_region_info(region, &info);
        if (r < 0)
                return log_error_errno(r, "Failed to simulate %s: %m", region->name);
        s->handler(NULL, event, info, s->userdata);
        return 0;
}

/* What goes, goes before anything comes. */
static int switch_to(Simulation *s, SimConfig *c) {
        _cleanup_(sim_config_freep) SimConfig *old = s->config;
        int r = 0;

        s->config = c;
        for (size_t i = 0; old && i < old->n_regions && r >= 0; i++) {
                const SimRegion *now = find_region(c, old->regions[i].name);

                if (!now || !same_device(old->regions + i, now))
                        r = announce(s, DISCOVERY_REMOVED, old->regions + i);
        }
        for (size_t i = 0; i < c->n_regions && r >= 0; i++) {
                const SimRegion *before = find_region(old, c->regions[i].name);

                r = announce(s,
                             before && same_device(before, c->regions + i) ? DISCOVERY_CHANGED
                                                                           : DISCOVERY_ADDED,
                             c->regions + i);
        }
        return r;
}

static int on_file(sd_event_source *source, const struct inotify_event *e, void *userdata) {
        Simulation *s = userdata;
        const char *name = strrchr(s->path, '/');
        SimConfig *c;

        if (!(e->mask & IN_Q_OVERFLOW) && (e->len == 0 || !streq(e->name, name + 1)))
                return 0;
        if (sim_config_load(s->path, s->scale, &c) < 0)
                return 0;
        (void) switch_to(s, c);
        return 0;
}

static int watch_file(Simulation *s) {
        _cleanup_free_ char *dir = NULL;
        int r;

        dir = strndup(s->path, (size_t) (strrchr(s->path, '/') + 1 - s->path));
        if (!dir)
                return -ENOMEM;
        r = sd_event_add_inotify(s->event, &s->watch, dir, IN_CLOSE_WRITE | IN_MOVED_TO, on_file,
                                 s);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(s->watch, "simulation-file");
        return 0;
}

/* Watched first, so that nothing falls between. */
static int set_path(Simulation *s, const char *what) {
        if (asprintf(&s->path, "%s%s", strchr(what, '/') ? "" : "./", what) < 0) {
                s->path = NULL;
                return -ENOMEM;
        }
        return watch_file(s);
}

int simulation_start(Simulation *s, const char *what, uint64_t scale) {
        SimConfig *c;
        int r;

        assert(s);
        assert(!s->config);
        assert(what);

        s->scale = scale;
        if (access(what, F_OK) >= 0) {
                r = set_path(s, what);
                if (r < 0)
                        return log_error_errno(r, "%s: cannot be watched: %m", what);
        }
        r = sim_config_load(what, scale, &c);
        if (r < 0)
                return r;
        return switch_to(s, c);
}
