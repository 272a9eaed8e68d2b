/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "bed.h"

#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <time.h>

#include "fd-util.h"

#define LOOK_USEC (250 * USEC_PER_MSEC)

static const char *const regions[] = {EGM_REGION_PATH "/egm4", EGM_REGION_PATH "/egm5"};

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

sd_bus *bed_connect(void) {
        sd_bus *bus;

        assert_int_equal(sd_bus_new(&bus), 0);
        assert_true(sd_bus_set_address(bus, getenv("EGM_TEST_BUS")) >= 0);
        assert_true(sd_bus_set_bus_client(bus, true) >= 0);
        assert_true(sd_bus_negotiate_fds(bus, true) >= 0);
        assert_true(sd_bus_start(bus) >= 0);
        return bus;
}

/* The bus takes a client's credentials from the moment it connects. */
sd_bus *bed_connect_as(uid_t uid, gid_t group) {
        sd_bus *bus;

        assert_int_equal(setgroups(1, &group), 0);
        assert_int_equal(setegid(uid), 0);
        assert_int_equal(seteuid(uid), 0);
        bus = bed_connect();
        assert_int_equal(seteuid(0), 0);
        assert_int_equal(setegid(0), 0);
        assert_int_equal(setgroups(0, NULL), 0);
        return bus;
}

/* What it says is read by the conditions; that it came is all that counts. */
static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return 0;
}

static bool has_name(sd_bus *bus, const void *arg) {
        return sd_bus_get_name_creds(bus, EGM_BUS_NAME, 0, NULL) >= 0;
}

bool bed_all_free(sd_bus *bus, const void *arg) {
        for (size_t i = 0; i < ELEMENTSOF(regions); i++) {
                uint64_t size = bed_get_u64(bus, regions[i], EGM_REGION_INTERFACE, "Size");

                if (size == 0 || bed_get_u64(bus, regions[i], EGM_REGION_INTERFACE, "Free") != size)
                        return false;
        }
        return bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount") == 0;
}

sd_bus *bed_new(void) {
        sd_bus *bus = bed_connect();

        assert_true(sd_bus_add_match(bus, NULL,
                                     "type='signal',sender='org.freedesktop.DBus',"
                                     "member='NameOwnerChanged',arg0='" EGM_BUS_NAME "'",
                                     on_signal, NULL) >= 0);
        assert_true(sd_bus_add_match(bus, NULL, "type='signal',sender='" EGM_BUS_NAME "'",
                                     on_signal, NULL) >= 0);
        bed_wait(bus, has_name, NULL, "the daemon's name");
        bed_wait(bus, bed_all_free, NULL, "all memory to be free");
        return bus;
}

void bed_wait(sd_bus *bus, bed_condition_t condition, const void *arg, const char *what) {
        uint64_t deadline = now_usec() + BED_DEADLINE_USEC;

        while (!condition(bus, arg)) {
                uint64_t now;
                int r;

                /* Nothing that came since the condition was looked at is taken from the queue without another look. */
                r = sd_bus_process(bus, NULL);
                assert_true(r >= 0);
                if (r > 0)
                        continue;
                now = now_usec();
                if (now >= deadline)
                        fail_msg("waited in vain for %s", what);
                assert_true(sd_bus_wait(bus, MIN(deadline - now, LOOK_USEC)) >= 0);
        }
}

uint64_t bed_get_u64(sd_bus *bus, const char *path, const char *interface, const char *name) {
        uint64_t v;

        assert_true(sd_bus_get_property_trivial(bus, EGM_BUS_NAME, path, interface, name, NULL, 't',
                                                &v) >= 0);
        return v;
}

uint32_t bed_get_u32(sd_bus *bus, const char *path, const char *interface, const char *name) {
        uint32_t v;

        assert_true(sd_bus_get_property_trivial(bus, EGM_BUS_NAME, path, interface, name, NULL, 'u',
                                                &v) >= 0);
        return v;
}

int bed_get_string(sd_bus *bus, const char *path, const char *interface, const char *name,
                   char **ret) {
        return sd_bus_get_property_string(bus, EGM_BUS_NAME, path, interface, name, NULL, ret);
}

static sd_bus_message *get(sd_bus *bus, const char *path, const char *interface, const char *name,
                           const char *type) {
        sd_bus_message *m;

        assert_true(sd_bus_get_property(bus, EGM_BUS_NAME, path, interface, name, NULL, &m, type) >=
                    0);
        return m;
}

static void snapshot_region(sd_bus *bus, FILE *f, const char *path) {
        sd_bus_message *m = get(bus, path, EGM_REGION_INTERFACE, "Extents", "a(ttss)");
        uint64_t at = 0, offset, size;
        const char *state, *lease;
        int r;

        assert_true(sd_bus_message_enter_container(m, 'a', "(ttss)") > 0);
        while ((r = sd_bus_message_read(m, "(ttss)", &offset, &size, &state, &lease)) > 0) {
                assert_int_equal(offset, at);
                assert_true(size > 0);
                at += size;
                (void) fprintf(f, "%s %" PRIu64 "+%" PRIu64 " %s %s\n", path, offset, size, state,
                               lease);
        }
        assert_int_equal(r, 0);
        sd_bus_message_unref(m);
        assert_int_equal(at, bed_get_u64(bus, path, EGM_REGION_INTERFACE, "Size"));
}

/* Read in one call: between two, the daemon may go on. */
static void check_sum(sd_bus *bus, const char *path) {
        sd_bus_message *m = NULL;
        uint64_t size = 0, sum = 0;
        const char *name;

        assert_true(sd_bus_call_method(bus, EGM_BUS_NAME, path, "org.freedesktop.DBus.Properties",
                                       "GetAll", NULL, &m, "s", EGM_REGION_INTERFACE) >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                uint64_t v;

                assert_true(sd_bus_message_read(m, "s", &name) > 0);
                if (streq(name, "Size") || streq(name, "Free") || streq(name, "Leased") ||
                    streq(name, "Draining") || streq(name, "Dirty") || streq(name, "Scrubbing") ||
                    streq(name, "Retired")) {
                        assert_true(sd_bus_message_read(m, "v", "t", &v) > 0);
                        *(streq(name, "Size") ? &size : &sum) += v;
                } else
                        assert_true(sd_bus_message_skip(m, "v") > 0);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
        sd_bus_message_unref(m);
        assert_int_equal(sum, size);
}

char *bed_snapshot(sd_bus *bus) {
        sd_bus_message *m;
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);

        assert_non_null(f);
        for (size_t i = 0; i < ELEMENTSOF(regions); i++) {
                check_sum(bus, regions[i]);
                snapshot_region(bus, f, regions[i]);
        }
        (void) fprintf(f, "%" PRIu32 " leases\n",
                       bed_get_u32(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "LeaseCount"));
        m = get(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "Waiting", "a(uusttt)");
        assert_true(sd_bus_message_enter_container(m, 'a', "(uusttt)") > 0);
        (void) fprintf(f, "%s\n", sd_bus_message_at_end(m, false) > 0 ? "nobody waits" : "waiting");
        sd_bus_message_unref(m);
        assert_int_equal(fclose(f), 0);
        return text;
}

sd_bus_message *bed_call_new(sd_bus *bus, const char *path, const char *interface,
                             const char *method) {
        sd_bus_message *m;

        assert_true(sd_bus_message_new_method_call(bus, &m, EGM_BUS_NAME, path, interface,
                                                   method) >= 0);
        return m;
}

void bed_read_granted(sd_bus_message *reply, Granted *ret) {
        const char *path, *region;
        uint64_t offset, size;
        int lifetime, memory, r;

        assert_true(sd_bus_message_read(reply, "oh", &path, &lifetime) > 0);
        *ret = (Granted){.lifetime = fd_copy(lifetime), .memory = -EBADF};
        assert_true(ret->lifetime >= 0);
        (void) snprintf(ret->path, sizeof(ret->path), "%s", path);
        assert_true(sd_bus_message_enter_container(reply, 'a', "(shtt)") > 0);
        while ((r = sd_bus_message_read(reply, "(shtt)", &region, &memory, &offset, &size)) > 0) {
                if (ret->n_slices++ > 0)
                        continue;
                ret->memory = fd_copy(memory);
                assert_true(ret->memory >= 0);
                ret->offset = offset;
                ret->size = size;
                (void) snprintf(ret->region, sizeof(ret->region), "%s", region);
        }
        assert_int_equal(r, 0);
}

Granted bed_acquire(sd_bus *bus, const char *region, uint64_t size, const char *lifetime) {
        sd_bus_message *m = bed_call_new(bus, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        Granted g;

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          size, "Region", "s", region, "Lifetime", "s",
                                          lifetime) >= 0);
        if (sd_bus_call(bus, m, 0, &e, &reply) < 0)
                fail_msg("%s: %s", e.name, e.message);
        sd_bus_message_unref(m);
        bed_read_granted(reply, &g);
        sd_bus_message_unref(reply);
        return g;
}

void bed_close(int *fd) {
        *fd = safe_close(*fd);
}

uint64_t bed_start_time(pid_t pid) {
        char path[64], *text, *at;
        unsigned long long v = 0;

        (void) snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
        if (read_full_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0)
                return 0;
        /* The name may hold anything, but nothing behind it holds a parenthesis. */
        at = strrchr(text, ')');
        for (int field = 2; at && field < 22; field++)
                at = strchr(at + 1, ' ');
        assert_non_null(at);
        assert_int_equal(sscanf(at, " %llu", &v), 1);
        free(text);
        return v;
}
