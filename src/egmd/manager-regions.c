/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "log.h"
#include "manager.h"
#include "restore.h"
#include "size.h"

Region *manager_find_region(const Manager *m, const char *name) {
        assert(m);

        for (size_t i = 0; i < m->n_regions; i++)
                if (streq(m->regions[i]->name, name))
                        return m->regions[i];
        return NULL;
}

static int compare_regions(const void *a, const void *b) {
        return strverscmp((*(Region *const *) a)->name, (*(Region *const *) b)->name);
}

/* One that could not begin. Unless leases were on their way to it: then it stays, till the daemon gives up over it. */
static void remove_region(Manager *m, Region *r) {
        size_t i = 0;

        if (m->restore && m->restore->error < 0)
                return;
        while (m->regions[i] != r)
                i++;
        memmove(m->regions + i, m->regions + i + 1, (--m->n_regions - i) * sizeof(*m->regions));
        region_free(r);
}

int manager_add_region(Manager *m, const RegionInfo *info) {
        Region **t, *region;
        int r;

        assert(m);
        assert(info);

        if (m->n_regions >= MANAGER_REGIONS_MAX) {
                log_warning("%s: ignored, there are %u regions already", info->name,
                            MANAGER_REGIONS_MAX);
                return -E2BIG;
        }
        if (manager_find_region(m, info->name))
                return -EEXIST;
        t = realloc(m->regions, (m->n_regions + 1) * sizeof(*t));
        if (!t)
                return -ENOMEM;
        m->regions = t;
        r = region_new(m, info, &region);
        if (r < 0)
                return r;
        /* Before it begins: who looks for holders of what it takes up again looks at the regions that are here. */
        m->regions[m->n_regions++] = region;
        qsort(m->regions, m->n_regions, sizeof(*m->regions), compare_regions);
        r = region_begin(region);
        if (r < 0) {
                remove_region(m, region);
                return r;
        }
        if (m->observer)
                m->observer->region_added(region, m->observer_userdata);
        return 0;
}

/* For want of something, not for what the device is. */
static bool is_passing(int error) {
        return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -EAGAIN;
}

static void region_appeared(Manager *m, const RegionInfo *info) {
        Region *region = manager_find_region(m, info->name);
        int r;

        if (!region)
                r = manager_add_region(m, info);
        else if (region->state == REGION_GONE)
                r = region_return(region, info);
        else
                r = region_update(region, info);
        if (r < 0)
                (void) log_error_errno(r, "%s: failed to take it in: %m", info->name);
        /* Nothing would tell of it again. */
        if (r < 0 && m->restore && m->restore->error >= 0 && is_passing(r))
                m->restore->error = r;
        if (region)
                manager_region_changed(m, region);
}

static void set_unsupported(Manager *m, const char *address, uint64_t size, bool present) {
        UnsupportedDevice *t;
        size_t i = 0;

        while (i < m->n_unsupported && !streq(m->unsupported[i].address, address))
                i++;
        if (i < m->n_unsupported && !present) {
                free(m->unsupported[i].address);
                m->unsupported[i] = m->unsupported[--m->n_unsupported];
        } else if (i < m->n_unsupported)
                m->unsupported[i].size = size;
        else if (present) {
                char *copy = strdup(address);

                t = copy ? realloc(m->unsupported, (m->n_unsupported + 1) * sizeof(*t)) : NULL;
                if (!t) {
                        free(copy);
                        (void) log_oom();
                        return;
                }
                m->unsupported = t;
                t[m->n_unsupported++] = (UnsupportedDevice){.address = copy, .size = size};
        }
        if (m->observer)
                m->observer->devices_changed(m, m->observer_userdata);
}

static void on_discovery(Discovery *d, DiscoveryEvent event, const RegionInfo *info,
                         void *userdata) {
        Manager *m = userdata;
        Region *region;

        switch (event) {
        case DISCOVERY_ADDED:
        case DISCOVERY_CHANGED:
                region_appeared(m, info);
                break;
        case DISCOVERY_REMOVED:
                region = manager_find_region(m, info->name);
                if (region)
                        region->returning = false;
                if (region && region->state != REGION_GONE) {
                        log_warning("%s: the device has gone", region->name);
                        region_vanish(region);
                }
                break;
        case DISCOVERY_PCI_EGM:
                set_unsupported(m, info->name, info->size, true);
                break;
        case DISCOVERY_PCI_EGM_REMOVED:
                set_unsupported(m, info->name, 0, false);
                break;
        }
}

int manager_start_discovery(Manager *m) {
        int r;

        assert(m);
        assert(!m->discovery);

        r = discovery_new(m->event, on_discovery, m, &m->discovery);
        if (r < 0)
                return r;
        return discovery_start(m->discovery);
}

int manager_start_simulation(Manager *m, const char *what, uint64_t scale) {
        int r;

        assert(m);
        assert(!m->simulation);

        r = simulation_new(m->event, on_discovery, m, &m->simulation);
        if (r < 0)
                return log_error_errno(r, "Failed to simulate: %m");
        return simulation_start(m->simulation, what, scale);
}

static int compare_capacity(const void *a, const void *b) {
        int x = ((const SocketCapacity *) a)->socket, y = ((const SocketCapacity *) b)->socket;

        return x < y ? -1 : x > y;
}

int manager_capacity(const Manager *m, SocketCapacity **ret, size_t *ret_n) {
        _cleanup_free_ SocketCapacity *list = NULL;
        size_t n = 0;

        assert(m);
        assert(ret);
        assert(ret_n);

        list = calloc(m->n_regions + 1, sizeof(*list));
        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_regions; i++) {
                const Region *region = m->regions[i];
                size_t k = 0;

                if (!region->map)
                        continue;
                while (k < n && list[k].socket != region->info->socket)
                        k++;
                if (k == n)
                        list[n++].socket = region->info->socket;
                list[k].size += extent_map_size(region->map);
                list[k].free += extent_map_bytes(region->map, EXTENT_FREE);
                list[k].leased += extent_map_bytes(region->map, EXTENT_LEASED);
                list[k].retired += extent_map_bytes(region->map, EXTENT_RETIRED);
        }
        qsort(list, n, sizeof(*list), compare_capacity);
        *ret = TAKE_PTR(list);
        *ret_n = n;
        return 0;
}
