/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "walk.h"

#include <inttypes.h>
#include <poll.h>

#include "size.h"

/* The daemon as anybody can see it on the bus. */

/* Of what is signalled only the loss of a lease is nowhere to be read but there: whoever waits for it must hear of it. */
static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *path = sd_bus_message_get_path(m), *interface, *key, *value;
        Walk *w = userdata;
        WalkLease *l;
        uint64_t id;

        if (!sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged") ||
            strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) != 0 ||
            parse_uint64(path + strlen(EGM_LEASE_PATH "/"), &id) < 0)
                return 0;
        l = walk_lease_find_id(w, id);
        walk_check(w, sd_bus_message_read(m, "s", &interface) > 0);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (l && sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                walk_check(w, sd_bus_message_read(m, "s", &key) > 0);
                if (streq(key, "State")) {
                        walk_check(w, sd_bus_message_read(m, "v", "s", &value) > 0);
                        l->told_lost = l->told_lost || streq(value, "lost");
                } else
                        walk_check(w, sd_bus_message_skip(m, "v") >= 0);
                walk_check(w, sd_bus_message_exit_container(m) >= 0);
        }
        return 0;
}

sd_bus *walk_connect(Walk *w) {
        sd_bus *bus;

        walk_check(w, sd_bus_new(&bus) >= 0);
        walk_check(w, sd_bus_set_address(bus, getenv("EGM_TEST_BUS")) >= 0);
        walk_check(w, sd_bus_set_bus_client(bus, true) >= 0);
        walk_check(w, sd_bus_negotiate_fds(bus, true) >= 0);
        walk_check(w, sd_bus_start(bus) >= 0);
        if (!w->bus) {
                walk_check(w, sd_bus_add_match(bus, NULL, "type='signal',sender='" EGM_BUS_NAME "'",
                                               on_signal, w) >= 0);
                /* One that only its process group's end would end is a test that hangs. */
                walk_check(w, sd_bus_set_method_call_timeout(bus, WALK_DEADLINE_USEC) >= 0);
        }
        return bus;
}

void walk_pump(Walk *w, uint64_t timeout_usec) {
        struct pollfd pfd[WALK_WAITERS + 1];
        nfds_t n = 0;
        bool any = false;

        for (int r = 1; r > 0;) {
                r = sd_bus_process(w->bus, NULL);
                walk_check(w, r >= 0);
                any = any || r > 0;
        }
        pfd[n++] = (struct pollfd){.fd = sd_bus_get_fd(w->bus), .events = POLLIN};
        for (size_t i = 0; i < WALK_WAITERS; i++) {
                WalkWaiter *q = w->waiters + i;

                for (int r = 1; r > 0 && q->bus;) {
                        r = sd_bus_process(q->bus, NULL);
                        walk_check(w, r >= 0);
                        any = any || r > 0;
                }
                if (q->bus)
                        pfd[n++] = (struct pollfd){.fd = sd_bus_get_fd(q->bus), .events = POLLIN};
        }
        walk_waiters_answered(w);
        if (!any && timeout_usec > 0)
                (void) ppoll(pfd, n,
                             &(struct timespec){.tv_sec = (time_t) (timeout_usec / USEC_PER_SEC),
                                                .tv_nsec = (long) (timeout_usec % USEC_PER_SEC *
                                                                   NSEC_PER_USEC)},
                             NULL);
}

/* ---- reading ---- */

static void copy_text(char *to, size_t size, const char *s) {
        (void) snprintf(to, size, "%s", s);
}

static int region_index(const char *name) {
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                if (streq(walk_regions[i].name, name))
                        return (int) i;
        return -ENOENT;
}

static void read_spans(Walk *w, sd_bus_message *m, ViewRegion *r) {
        walk_check(w, sd_bus_message_enter_container(m, 'v', "a(tt)") > 0);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "(tt)") > 0);
        while (sd_bus_message_read(m, "(tt)", &r->retired_ranges[r->n_retired].offset,
                                   &r->retired_ranges[r->n_retired].size) > 0)
                walk_check(w, ++r->n_retired < ELEMENTSOF(r->retired_ranges));
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
}

static void read_region(Walk *w, sd_bus_message *m, ViewRegion *r, const char *key) {
        const struct {
                const char *name;
                uint64_t *to;
        } numbers[] = {
                        {"Size", &r->size},       {"Free", &r->free},
                        {"Leased", &r->leased},   {"Draining", &r->draining},
                        {"Dirty", &r->dirty},     {"Scrubbing", &r->scrubbing},
                        {"Retired", &r->retired},
        };
        const char *s;
        int b;

        r->there = true;
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                if (streq(numbers[i].name, key)) {
                        walk_check(w, sd_bus_message_read(m, "v", "t", numbers[i].to) > 0);
                        return;
                }
        if (streq(key, "RetiredRanges"))
                read_spans(w, m, r);
        else if (streq(key, "Schedulable")) {
                walk_check(w, sd_bus_message_read(m, "v", "b", &b) > 0);
                r->schedulable = b;
        } else if (streq(key, "State") || streq(key, "Partitioning")) {
                walk_check(w, sd_bus_message_read(m, "v", "s", &s) > 0);
                copy_text(streq(key, "State") ? r->state : r->partitioning,
                          streq(key, "State") ? sizeof(r->state) : sizeof(r->partitioning), s);
        } else
                walk_check(w, sd_bus_message_skip(m, "v") >= 0);
}

static void read_slices(Walk *w, sd_bus_message *m, ViewLease *l) {
        const char *region;

        walk_check(w, sd_bus_message_enter_container(m, 'v', "a(stt)") > 0);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "(stt)") > 0);
        while (sd_bus_message_read(m, "(stt)", &region, &l->slices[l->n_slices].offset,
                                   &l->slices[l->n_slices].size) > 0) {
                int i = region_index(region);

                walk_check(w, i >= 0);
                l->slices[l->n_slices].region = (unsigned) i;
                l->slices[l->n_slices].generation = w->regions[i].generation;
                walk_check(w, ++l->n_slices < ELEMENTSOF(l->slices));
        }
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
}

static void read_held_up_by(Walk *w, sd_bus_message *m, ViewLease *l) {
        const char *comm, *unit;
        uint64_t start;
        uint32_t pid;

        walk_check(w, sd_bus_message_enter_container(m, 'v', "a(usst)") > 0);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "(usst)") > 0);
        while (sd_bus_message_read(m, "(usst)", &pid, &comm, &unit, &start) > 0)
                if (l->n_held_up_by < ELEMENTSOF(l->held_up_by))
                        l->held_up_by[l->n_held_up_by++] = (pid_t) pid;
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
}

static void read_lease(Walk *w, sd_bus_message *m, ViewLease *l, const char *key) {
        const char *s;

        if (streq(key, "Slices"))
                read_slices(w, m, l);
        else if (streq(key, "HeldUpBy"))
                read_held_up_by(w, m, l);
        else if (streq(key, "OwnerUid"))
                walk_check(w, sd_bus_message_read(m, "v", "u", &l->uid) > 0);
        else if (streq(key, "Id") || streq(key, "Label") || streq(key, "State") ||
                 streq(key, "Lifetime")) {
                walk_check(w, sd_bus_message_read(m, "v", "s", &s) > 0);
                if (streq(key, "Id"))
                        walk_check(w, parse_uint64(s, &l->id) >= 0);
                else if (streq(key, "Label"))
                        copy_text(l->label, sizeof(l->label), s);
                else if (streq(key, "State"))
                        copy_text(l->state, sizeof(l->state), s);
                else
                        copy_text(l->lifetime, sizeof(l->lifetime), s);
        } else
                walk_check(w, sd_bus_message_skip(m, "v") >= 0);
}

static void read_object(Walk *w, sd_bus_message *m, View *v, const char *path) {
        const char *interface, *key;
        ViewRegion *region = NULL;
        ViewLease *lease = NULL;

        if (strncmp(path, EGM_REGION_PATH "/", strlen(EGM_REGION_PATH "/")) == 0) {
                int i = region_index(path + strlen(EGM_REGION_PATH "/"));

                walk_check(w, i >= 0);
                region = v->regions + i;
        } else if (strncmp(path, EGM_LEASE_PATH "/", strlen(EGM_LEASE_PATH "/")) == 0) {
                walk_check(w, v->n_leases < WALK_LEASES);
                lease = v->leases + v->n_leases++;
        }
        walk_check(w, sd_bus_message_enter_container(m, 'a', "{sa{sv}}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sa{sv}") > 0) {
                walk_check(w, sd_bus_message_read(m, "s", &interface) > 0);
                walk_check(w, sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
                while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                        walk_check(w, sd_bus_message_read(m, "s", &key) > 0);
                        if (region && streq(interface, EGM_REGION_INTERFACE))
                                read_region(w, m, region, key);
                        else if (lease && streq(interface, EGM_LEASE_INTERFACE))
                                read_lease(w, m, lease, key);
                        else
                                walk_check(w, sd_bus_message_skip(m, "v") >= 0);
                        walk_check(w, sd_bus_message_exit_container(m) >= 0);
                }
                walk_check(w, sd_bus_message_exit_container(m) >= 0);
                walk_check(w, sd_bus_message_exit_container(m) >= 0);
        }
        walk_check(w, sd_bus_message_exit_container(m) >= 0);
}

static void read_extents(Walk *w, ViewRegion *r, unsigned i) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        const char *state, *lease;
        char path[64];
        size_t room = 0;
        ViewExtent x;

        (void) snprintf(path, sizeof(path), EGM_REGION_PATH "/%s", walk_regions[i].name);
        if (sd_bus_get_property(w->bus, EGM_BUS_NAME, path, EGM_REGION_INTERFACE, "Extents", &e, &m,
                                "a(ttss)") < 0)
                walk_fail(w, "Extents of %s: %s", walk_regions[i].name, e.message);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "(ttss)") > 0);
        while (sd_bus_message_read(m, "(ttss)", &x.offset, &x.size, &state, &lease) > 0) {
                if (r->n_extents == room) {
                        room = 2 * room + 32;
                        r->extents = reallocarray(r->extents, room, sizeof(*r->extents));
                        walk_check(w, r->extents);
                }
                copy_text(x.state, sizeof(x.state), state);
                x.lease = 0;
                walk_check(w, !*lease || parse_uint64(lease, &x.lease) >= 0);
                r->extents[r->n_extents++] = x;
        }
        sd_bus_message_unref(m);
}

static void read_waiting(Walk *w, View *v) {
        sd_bus_message *m = NULL;
        uint64_t bytes, since, until;
        uint32_t position, uid;
        const char *label;

        walk_check(w, sd_bus_get_property(w->bus, EGM_BUS_NAME, EGM_PATH, EGM_MANAGER_INTERFACE,
                                          "Waiting", NULL, &m, "a(uusttt)") >= 0);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "(uusttt)") > 0);
        while (sd_bus_message_read(m, "(uusttt)", &position, &uid, &label, &bytes, &since, &until) >
               0) {
                walk_check(w, v->n_waiting < WALK_WAITERS);
                walk_check(w, position == v->n_waiting + 1);
                copy_text(v->waiting[v->n_waiting++], sizeof(v->waiting[0]), label);
        }
        sd_bus_message_unref(m);
}

void walk_view_read(Walk *w, View *ret) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *m = NULL;
        const char *path;

        *ret = (View){};
        if (sd_bus_call_method(w->bus, EGM_BUS_NAME, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                               "GetManagedObjects", &e, &m, "") < 0)
                walk_fail(w, "GetManagedObjects: %s: %s", e.name, e.message);
        walk_check(w, sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}") > 0) {
                walk_check(w, sd_bus_message_read(m, "o", &path) > 0);
                read_object(w, m, ret, path);
                walk_check(w, sd_bus_message_exit_container(m) >= 0);
        }
        sd_bus_message_unref(m);
        for (unsigned i = 0; i < WALK_REGIONS; i++)
                if (ret->regions[i].there)
                        read_extents(w, ret->regions + i, i);
        read_waiting(w, ret);
        walk_check(w, sd_bus_get_property_trivial(w->bus, EGM_BUS_NAME, EGM_PATH,
                                                  EGM_MANAGER_INTERFACE, "LeaseCount", NULL, 'u',
                                                  &ret->lease_count) >= 0);
}

void walk_view_done(View *v) {
        for (size_t i = 0; i < WALK_REGIONS; i++)
                v->regions[i].extents = mfree(v->regions[i].extents);
}

const ViewLease *walk_view_lease(const View *v, uint64_t id) {
        for (size_t i = 0; i < v->n_leases; i++)
                if (v->leases[i].id == id)
                        return v->leases + i;
        return NULL;
}

char *walk_view_text(const View *v) {
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);

        if (!f)
                return NULL;
        for (size_t i = 0; i < WALK_REGIONS; i++) {
                const ViewRegion *r = v->regions + i;

                (void) fprintf(f, "%s %s %s %s\n", walk_regions[i].name, r->state, r->partitioning,
                               r->schedulable ? "" : "off");
                for (size_t k = 0; k < r->n_extents; k++)
                        (void) fprintf(f, "  %#" PRIx64 "+%#" PRIx64 " %s %" PRIu64 "\n",
                                       r->extents[k].offset, r->extents[k].size,
                                       r->extents[k].state, r->extents[k].lease);
        }
        for (size_t i = 0; i < v->n_leases; i++)
                (void) fprintf(f, "lease %" PRIu64 " %s %s %s, %zu slices, uid %" PRIu32 "\n",
                               v->leases[i].id, v->leases[i].label, v->leases[i].state,
                               v->leases[i].lifetime, v->leases[i].n_slices, v->leases[i].uid);
        for (size_t i = 0; i < v->n_waiting; i++)
                (void) fprintf(f, "waits: %s\n", v->waiting[i]);
        (void) fprintf(f, "%" PRIu32 " leases\n", v->lease_count);
        return fclose(f) == 0 ? text : NULL;
}

/* Runs are of free bytes, or of retired ones that are nobody's where those count. */
bool walk_view_fits(const View *v, unsigned region, uint64_t size, uint64_t align, bool whole,
                    bool include_retired) {
        const ViewRegion *r = v->regions + region;
        uint64_t run = 0, run_size = 0;
        bool whole_only = streq(r->partitioning, "whole-only"), free = false;

        if (!streq(r->state, "ready") || !r->schedulable)
                return false;
        if (whole)
                size = r->size;
        if (whole_only && (r->leased > 0 || r->draining > 0 || r->scrubbing > 0))
                return false;
        for (size_t i = 0; i < r->n_extents; i++) {
                const ViewExtent *x = r->extents + i;
                uint64_t start;

                if (!streq(x->state, "free") &&
                    (!include_retired || !streq(x->state, "retired") || x->lease != 0)) {
                        run_size = 0;
                        free = false;
                        continue;
                }
                if (run_size == 0)
                        run = x->offset;
                run_size += x->size;
                free = free || streq(x->state, "free");
                if ((whole || whole_only) && run > 0)
                        return false;
                if (align_up_checked(run, whole || whole_only ? 1 : align, &start) &&
                    start + size <= run + run_size && free)
                        return true;
        }
        return false;
}
