/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bsd/sys/queue.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "discovery-read.h"
#include "discovery.h"
#include "log.h"
#include "size.h"
#include "sysfs-egm.h"

/* Enough for a coldplug of everything; where the kernel gives less, a lost event means reading
 * all again. */
#define MONITOR_BUFFER_SIZE ((int) (16 * MIB))
#define EVENTS_PER_WAKEUP 32U

/* Files and links came up to 18 ms after "add" on real drivers; GPUs of a slow boot take
 * seconds. */
static const uint64_t default_delays[] = {
                20 * USEC_PER_MSEC, 80 * USEC_PER_MSEC,   400 * USEC_PER_MSEC,
                2 * USEC_PER_SEC,   7500 * USEC_PER_MSEC,
};

typedef struct Device {
        LIST_ENTRY(Device) devices;
        char *name;
        char *syspath;
        RegionInfo *info; /* as announced; NULL: not yet */
        char *problem;    /* why it is not announced or could not be read, as logged */
        char *notes;      /* as logged */
        unsigned n_empty; /* reads in a row that found no GPU where there were some */
        bool ignored;     /* in the class, but no region */
        bool leaving;     /* there was a "remove", but it is still in sysfs */
} Device;

typedef LIST_HEAD(DeviceList, Device) DeviceList;

struct Discovery {
        sd_event *event;
        discovery_handler_t handler;
        void *userdata;
        struct udev *udev;
        struct udev_monitor *monitor;
        sd_event_source *monitor_source;
        sd_event_source *timer;
        DeviceList regions;
        DeviceList pci; /* those with an egm_size of their own */
        const uint64_t *delays;
        size_t n_delays;
        size_t step; /* the delay that is running; n_delays: none */
};

static void udev_device_unrefp(struct udev_device **d) {
        (void) udev_device_unref(*d);
}

static void udev_enumerate_unrefp(struct udev_enumerate **e) {
        (void) udev_enumerate_unref(*e);
}

static Device *device_free(Device *v) {
        if (!v)
                return NULL;
        LIST_REMOVE(v, devices);
        region_info_free(v->info);
        free(v->name);
        free(v->syspath);
        free(v->problem);
        free(v->notes);
        return mfree(v);
}

static Device *device_find(DeviceList *list, const char *name) {
        Device *v;

        LIST_FOREACH (v, list, devices)
                if (streq(v->name, name))
                        return v;
        return NULL;
}

/* The one of that name, new if need be, at that place. */
static int device_get(DeviceList *list, const char *name, const char *syspath, Device **ret) {
        Device *v = device_find(list, name), *fresh = NULL;

        if (!v) {
                v = fresh = calloc(1, sizeof(*v));
                if (!v)
                        return -ENOMEM;
                LIST_INSERT_HEAD(list, v, devices);
        }
        if ((fresh && free_and_strdup(&v->name, name) < 0) ||
            free_and_strdup(&v->syspath, syspath) < 0) {
                (void) device_free(fresh);
                return -ENOMEM;
        }
        *ret = v;
        return 0;
}

static void log_region(DiscoveryEvent event, const RegionInfo *i) {
        static const char *const words[] = {
                        [DISCOVERY_ADDED] = "found",
                        [DISCOVERY_CHANGED] = "changed",
                        [DISCOVERY_REMOVED] = "gone",
                        [DISCOVERY_PCI_EGM] = "has EGM inside its VFIO device, which is left alone",
                        [DISCOVERY_PCI_EGM_REMOVED] = "has no EGM any more",
        };
        char gpus[512] = "none";
        size_t n = 0;

        for (size_t k = 0; k < i->n_gpus && n < sizeof(gpus); k++)
                n += (size_t) snprintf(gpus + n, sizeof(gpus) - n, "%s%s (%s)", k > 0 ? ", " : "",
                                       i->gpus[k].address, i->gpus[k].driver ?: "no driver");
        log_info("%s: %s, %s, node %d, socket %d, GPUs %s (%s)", i->name, words[event],
                 i->size_problem ?: FORMAT_SIZE(i->size), i->node, i->socket, gpus, i->dialect);
}

static void announce(Discovery *d, DiscoveryEvent event, const RegionInfo *i) {
        log_region(event, i);
        d->handler(d, event, i, d->userdata);
}

/* Says it once, and again only when it changes. */
static void device_complain(Device *v, char **said, const char *what) {
        if (streq_ptr(*said, what))
                return;
        if (what)
                log_warning("%s: %s", v->name, what);
        (void) free_and_strdup(said, what);
}

static void device_forget(Discovery *d, Device *v, DiscoveryEvent event) {
        _cleanup_(region_info_freep) RegionInfo *i = TAKE_PTR(v->info);

        /* Out of the list first: whoever is told may look around. */
        (void) device_free(v);
        if (i)
                announce(d, event, i);
}

static void device_update(Discovery *d, Device *v, DiscoveryEvent event, RegionInfo *i) {
        _cleanup_(region_info_freep) RegionInfo *old = v->info;

        device_complain(v, &v->notes, i->notes);
        v->info = i;
        if (!old || !region_info_equal(old, i))
                announce(d, event, i);
}

/* by_event: its own event or a full enumeration asked for it; last: no read is due after this
 * one, which may take the device off the list. */
static void region_refresh(Discovery *d, Device *v, bool by_event, bool last) {
        _cleanup_(region_info_freep) RegionInfo *i = NULL;
        _cleanup_free_ char *problem = NULL;
        bool kept;
        int r;

        if (v->ignored)
                return;
        r = region_info_read(d->udev, v->syspath, v->info, last && v->n_empty > 0, &i, &kept,
                             &problem);
        if (r == -ENODEV) {
                /* Its "remove" is on the way; where it has been, or never comes, sysfs' word
                 * counts. */
                if ((last || v->leaving) && access(v->syspath, F_OK) < 0 && errno == ENOENT)
                        device_forget(d, v, DISCOVERY_REMOVED);
                return;
        }
        if (r < 0) {
                /* The node goes first. */
                if (!v->leaving || last)
                        device_complain(v, &v->problem, problem ?: strerror(-r));
                return;
        }
        device_complain(v, &v->problem, NULL);
        if (v->info && !region_info_same_device(v->info, i)) {
                _cleanup_(region_info_freep) RegionInfo *old = NULL;

                /* "remove" and "add" are on their way. */
                if (!by_event && !last && !v->leaving)
                        return;
                old = TAKE_PTR(v->info);
                announce(d, DISCOVERY_REMOVED, old);
        }
        if (last)
                v->leaving = false;
        v->n_empty = kept ? v->n_empty + 1 : 0;
        device_update(d, v, v->info ? DISCOVERY_CHANGED : DISCOVERY_ADDED, TAKE_PTR(i));
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static int schedule_arm(Discovery *d) {
        int r;

        assert(d->step < d->n_delays);

        if (!d->timer) {
                r = sd_event_add_time_relative(d->event, &d->timer, CLOCK_MONOTONIC,
                                               d->delays[d->step], USEC_PER_MSEC, on_timer, d);
                if (r < 0)
                        return r;
                (void) sd_event_source_set_description(d->timer, "discovery-reread");
                return 0;
        }
        r = sd_event_source_set_time_relative(d->timer, d->delays[d->step]);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(d->timer, SD_EVENT_ONESHOT);
}

/* From the shortest delay on. One that is running already stays: a stream of events must not put
 * reads off. */
static void schedule_restart(Discovery *d) {
        bool running = d->step == 0 && d->timer;
        int r;

        d->step = 0;
        if (running)
                return;
        r = schedule_arm(d);
        if (r < 0) {
                d->step = d->n_delays;
                log_error_errno(r, "Cannot set a timer to read sysfs again: %m");
        }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Discovery *d = userdata;
        bool last = d->step + 1 >= d->n_delays, unsure = false;
        Device *v, *next;
        int r;

        LIST_FOREACH_SAFE (v, &d->regions, devices, next)
                region_refresh(d, v, /* by_event= */ false, last);
        LIST_FOREACH (v, &d->regions, devices)
                unsure = unsure || v->n_empty > 0;
        d->step++;
        if (d->step >= d->n_delays && unsure)
                d->step = 0; /* the list was empty for the first time: that proves nothing */
        if (d->step >= d->n_delays)
                return 0;
        r = schedule_arm(d);
        if (r < 0) {
                d->step = d->n_delays;
                log_error_errno(r, "Cannot set a timer to read sysfs again: %m");
        }
        return 0;
}

static void region_seen(Discovery *d, const char *name, const char *syspath) {
        Device *v;
        int pxm, r;

        r = device_get(&d->regions, name, syspath, &v);
        if (r < 0) {
                log_oom();
                return;
        }
        if (sysfs_egm_parse_name(name, &pxm) < 0) {
                if (!v->ignored)
                        log_notice("%s: not named egm and a number, ignored", name);
                v->ignored = true;
                return;
        }
        region_refresh(d, v, /* by_event= */ true, /* last= */ false);
}

static void region_removed(Discovery *d, const char *name) {
        Device *v = device_find(&d->regions, name);

        if (!v)
                return;
        if (v->ignored) {
                device_forget(d, v, DISCOVERY_REMOVED);
                return;
        }
        /* Events come late. This may be about the device that had the name before the one that was
         * read, or about none at all (`echo remove > uevent`); if it is true, sysfs says so too, now
         * or in a moment. */
        v->leaving = true;
        region_refresh(d, v, /* by_event= */ true, /* last= */ false);
}

static void pci_removed(Discovery *d, const char *name) {
        Device *v = device_find(&d->pci, name);

        if (v)
                device_forget(d, v, DISCOVERY_PCI_EGM_REMOVED);
}

static void pci_seen(Discovery *d, const char *name, const char *syspath) {
        _cleanup_(region_info_freep) RegionInfo *i = NULL;
        Device *v;
        int r;

        r = region_info_read_pci(syspath, &i);
        if (r == -ENOENT) {
                pci_removed(d, name);
                return;
        }
        if (r >= 0)
                r = device_get(&d->pci, name, syspath, &v);
        if (r < 0) {
                log_warning_errno(r, "%s: cannot be read: %m", name);
                return;
        }
        device_update(d, v, DISCOVERY_PCI_EGM, TAKE_PTR(i));
}

/* A GPU came, went, or changed its driver. */
static void gpu_event(Discovery *d, const char *name) {
        Device *v, *next;

        LIST_FOREACH_SAFE (v, &d->regions, devices, next)
                for (size_t k = 0; v->info && k < v->info->n_gpus; k++)
                        if (streq(v->info->gpus[k].address, name)) {
                                region_refresh(d, v, /* by_event= */ false, /* last= */ false);
                                break;
                        }
}

static void handle_event(Discovery *d, struct udev_device *device) {
        const char *subsystem = udev_device_get_subsystem(device);
        const char *action = udev_device_get_action(device);
        const char *name = udev_device_get_sysname(device);
        const char *syspath = udev_device_get_syspath(device);
        bool remove;

        if (!subsystem || !action || !name || !syspath)
                return;
        log_debug("udev: %s %s", action, syspath);
        remove = streq(action, "remove");
        if (streq(subsystem, "egm") && remove)
                region_removed(d, name);
        else if (streq(subsystem, "egm"))
                region_seen(d, name, syspath);
        else if (streq(subsystem, "pci")) {
                if (remove)
                        pci_removed(d, name);
                else
                        pci_seen(d, name, syspath);
                gpu_event(d, name);
        }
        schedule_restart(d);
}

typedef void (*seen_t)(Discovery *d, const char *name, const char *syspath);

static int enumerate(Discovery *d, const char *subsystem, bool processed, seen_t seen) {
        _cleanup_(udev_enumerate_unrefp) struct udev_enumerate *e = NULL;
        struct udev_list_entry *l;
        int r;

        e = udev_enumerate_new(d->udev);
        if (!e)
                return -errno;
        r = udev_enumerate_add_match_subsystem(e, subsystem);
        if (r >= 0)
                r = udev_enumerate_scan_devices(e);
        if (r < 0)
                return r;
        udev_list_entry_foreach(l, udev_enumerate_get_list_entry(e)) {
                _cleanup_(udev_device_unrefp) struct udev_device *device = NULL;
                const char *syspath = udev_list_entry_get_name(l);

                device = udev_device_new_from_syspath(d->udev, syspath);
                if (!device)
                        continue;
                if (processed && udev_device_get_is_initialized(device) <= 0) {
                        log_info("%s: waiting for udev to process it",
                                 udev_device_get_sysname(device));
                        continue;
                }
                seen(d, udev_device_get_sysname(device), udev_device_get_syspath(device));
        }
        return 0;
}

static int enumerate_all(Discovery *d) {
        int r;

        r = enumerate(d, "egm", /* processed= */ true, region_seen);
        if (r < 0)
                return r;
        /* For an attribute nobody needs to wait for udev. */
        r = enumerate(d, "pci", /* processed= */ false, pci_seen);
        if (r < 0)
                return r;
        schedule_restart(d);
        return 0;
}

/* Events were lost: what is not there any more has gone, what is there is looked at again. */
static void resync(Discovery *d) {
        Device *v, *next;
        struct stat st;
        int r;

        log_warning("Events of udev were lost, reading everything again");
        LIST_FOREACH_SAFE (v, &d->regions, devices, next)
                if (stat(v->syspath, &st) < 0)
                        device_forget(d, v, DISCOVERY_REMOVED);
        LIST_FOREACH_SAFE (v, &d->pci, devices, next)
                if (stat(v->syspath, &st) < 0)
                        device_forget(d, v, DISCOVERY_PCI_EGM_REMOVED);
        r = enumerate_all(d);
        if (r < 0)
                log_error_errno(r, "Cannot enumerate devices: %m");
}

static int on_monitor(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Discovery *d = userdata;

        for (unsigned n = 0; n < EVENTS_PER_WAKEUP; n++) {
                _cleanup_(udev_device_unrefp) struct udev_device *device = NULL;

                device = udev_monitor_receive_device(d->monitor);
                if (device)
                        handle_event(d, device);
                else if (errno == ENOBUFS)
                        resync(d);
                else
                        break;
        }
        return 0;
}

int discovery_new(sd_event *event, discovery_handler_t handler, void *userdata, Discovery **ret) {
        _cleanup_(discovery_freep) Discovery *d = NULL;

        assert(event);
        assert(handler);
        assert(ret);

        d = malloc(sizeof(*d));
        if (!d)
                return -ENOMEM;
        *d = (Discovery){
                        .event = sd_event_ref(event),
                        .handler = handler,
                        .userdata = userdata,
                        .delays = default_delays,
                        .n_delays = ELEMENTSOF(default_delays),
                        .step = ELEMENTSOF(default_delays),
        };
        LIST_INIT(&d->regions);
        LIST_INIT(&d->pci);
        d->udev = udev_new();
        if (!d->udev)
                return -errno;
        *ret = TAKE_PTR(d);
        return 0;
}

void discovery_set_delays(Discovery *d, const uint64_t *usec, size_t n) {
        assert(d);
        assert(usec);
        assert(n > 0);
        assert(!d->monitor);

        d->delays = usec;
        d->n_delays = d->step = n;
}

bool discovery_is_settled(const Discovery *d) {
        return d->step >= d->n_delays;
}

static int monitor_start(Discovery *d) {
        static const char *const subsystems[] = {"egm", "pci", "auxiliary"};
        int r = 0;

        d->monitor = udev_monitor_new_from_netlink(d->udev, "udev");
        if (!d->monitor)
                return -errno;
        for (size_t i = 0; i < ELEMENTSOF(subsystems) && r >= 0; i++)
                r = udev_monitor_filter_add_match_subsystem_devtype(d->monitor, subsystems[i],
                                                                    NULL);
        if (r < 0)
                return r;
        (void) udev_monitor_set_receive_buffer_size(d->monitor, MONITOR_BUFFER_SIZE);
        r = udev_monitor_enable_receiving(d->monitor);
        if (r < 0)
                return r;
        r = sd_event_add_io(d->event, &d->monitor_source, udev_monitor_get_fd(d->monitor), EPOLLIN,
                            on_monitor, d);
        if (r < 0)
                return r;
        (void) sd_event_source_set_description(d->monitor_source, "discovery-monitor");
        return 0;
}

int discovery_start(Discovery *d) {
        int r;

        assert(d);
        assert(!d->monitor);

        r = monitor_start(d);
        if (r < 0)
                return log_error_errno(r, "Cannot listen to udev: %m");
        r = enumerate_all(d);
        if (r < 0)
                return log_error_errno(r, "Cannot enumerate devices: %m");
        return 0;
}

Discovery *discovery_free(Discovery *d) {
        if (!d)
                return NULL;
        while (!LIST_EMPTY(&d->regions))
                (void) device_free(LIST_FIRST(&d->regions));
        while (!LIST_EMPTY(&d->pci))
                (void) device_free(LIST_FIRST(&d->pci));
        d->timer = sd_event_source_disable_unref(d->timer);
        d->monitor_source = sd_event_source_disable_unref(d->monitor_source);
        (void) udev_monitor_unref(d->monitor);
        (void) udev_unref(d->udev);
        (void) sd_event_unref(d->event);
        return mfree(d);
}
