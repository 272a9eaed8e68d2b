/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "client.h"

#include <inttypes.h>
#include <sys/mman.h>

#include "egm-names.h"
#include "fd-util.h"

#define TRIES_MAX 12U

static sd_bus_message *new_call(World *w, const char *path, const char *interface,
                                const char *method) {
        sd_bus_message *m;

        if (sd_bus_message_new_method_call(w->bus, &m, EGM_BUS_NAME, path, interface, method) < 0)
                abort();
        return m;
}

static sd_bus_message *new_acquire(World *w, const Known *k) {
        sd_bus_message *m = new_call(w, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}", "Label", "s", k->label, "Lifetime", "s",
                                          k->persistent ? "persistent" : "descriptor");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Slices");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "aa{sv}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < k->n_slices; i++)
                r = sd_bus_message_append(m, "a{sv}", 3, "Size", "t", k->slices[i].at.size,
                                          "Region", "s", k->slices[i].at.region, "Align", "t",
                                          WORLD_GRANULE);
        for (size_t i = 0; r >= 0 && i < 4; i++)
                r = sd_bus_message_close_container(m);
        if (r < 0)
                abort();
        return m;
}

static void read_slices(World *w, sd_bus_message *m, Known *k) {
        const char *region;
        uint64_t offset, size;
        int fd;

        world_expect(w, sd_bus_message_enter_container(m, 'a', "(shtt)") > 0, "no slices");
        for (size_t i = 0; i < k->n_slices; i++) {
                void *p;

                world_expect(w, sd_bus_message_read(m, "(shtt)", &region, &fd, &offset, &size) > 0,
                             "%zu slices instead of %zu", i, k->n_slices);
                world_expect(w,
                             streq(region, k->slices[i].at.region) && size == k->slices[i].at.size,
                             "not what was asked for");
                k->slices[i].at.offset = offset;
                k->slices[i].fd = fd_copy(fd);
                p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t) offset);
                world_expect(w, k->slices[i].fd >= 0 && p != MAP_FAILED, "cannot be mapped");
                /* A child maps what it was told to. */
                (void) madvise(p, size, MADV_DONTFORK);
                k->slices[i].map = p;
        }
}

/* I1 and I2, as who gets it sees them. */
static void take_over(World *w, Known *k) {
        for (size_t i = 0; i < k->n_slices; i++) {
                unsigned char *p = k->slices[i].map;

                for (uint64_t b = 0; b < k->slices[i].at.size; b++)
                        world_expect(w, p[b] == 0, "%s: byte %#" PRIx64 " of slice %zu is %#x",
                                     k->label, b, i, p[b]);
                memset(p, k->label[0], k->slices[i].at.size);
        }
        k->held = true;
        world_know(w, k);
        world_check(w);
}

void client_acquire(World *w, Known *k) {
        for (unsigned i = 0; i < TRIES_MAX; i++) {
                sd_bus_error e = SD_BUS_ERROR_NULL;
                sd_bus_message *reply = NULL;
                const char *path;
                Answer answer;
                int fd;

                /* After a restart most of the memory is scrubbed first. */
                world_settle(w);
                answer = world_call(w, new_acquire(w, k), &reply, &e);
                if (answer == ANSWER_OK) {
                        world_expect(w, sd_bus_message_read(reply, "oh", &path, &fd) > 0,
                                     "no lease");
                        (void) snprintf(k->path, sizeof(k->path), "%s", path);
                        k->lifetime = fd_copy(fd);
                        world_expect(w, k->lifetime >= 0, "no lifetime");
                        read_slices(w, reply, k);
                        sd_bus_message_unref(reply);
                        take_over(w, k);
                        return;
                }
                if (answer == ANSWER_REFUSED)
                        world_expect(w, world_excuse(w), "%s refused: %s: %s", k->label, e.name,
                                     e.message);
                sd_bus_error_free(&e);
        }
        world_fail(w, __FILE__, __LINE__, "never granted");
}

void client_unmap(Known *k) {
        for (size_t i = 0; i < k->n_slices; i++) {
                if (k->slices[i].map)
                        (void) munmap(k->slices[i].map, k->slices[i].at.size);
                k->slices[i].map = NULL;
                k->slices[i].fd = safe_close(k->slices[i].fd);
        }
}

void client_drop(World *w, Known *k) {
        client_unmap(k);
        k->held = false;
        world_forget(w, k);
        k->lifetime = safe_close(k->lifetime);
}

/* Once: true when it was carried out, or may have been. */
void client_call_until_done(World *w, const char *path, const char *method, const char *type,
                            int value) {
        for (unsigned i = 0; i < TRIES_MAX; i++) {
                bool release = streq(method, "Release");
                sd_bus_error e = SD_BUS_ERROR_NULL;
                Answer answer;
                sd_bus_message *m;

                m = new_call(w, path,
                             streq(method, "SetSchedulable") ? EGM_REGION_INTERFACE
                                                             : EGM_LEASE_INTERFACE,
                             method);
                if (sd_bus_message_append(m, type, value) < 0)
                        abort();
                answer = world_call(w, m, NULL, &e);
                if (answer == ANSWER_OK)
                        return;
                /* The call before did it. */
                if (i > 0 && release &&
                    sd_bus_error_has_names(&e, SD_BUS_ERROR_UNKNOWN_OBJECT,
                                           EGM_ERROR_PREFIX "NoSuchLease",
                                           EGM_ERROR_PREFIX "Draining")) {
                        sd_bus_error_free(&e);
                        return;
                }
                if (answer == ANSWER_REFUSED)
                        world_expect(w, world_excuse(w), "%s: %s: %s", method, e.name, e.message);
                sd_bus_error_free(&e);
        }
        world_fail(w, __FILE__, __LINE__, "%s is never done", method);
}

void client_release(World *w, Known *k) {
        k->held = false; /* from here on it may end */
        client_call_until_done(w, k->path, "Release", "a{sv}", 0);
        k->ended = true;
        k->lifetime = safe_close(k->lifetime);
}

void client_set_schedulable(World *w, bool b) {
        w->schedulable = -1;
        client_call_until_done(w, EGM_REGION_PATH "/egm5", "SetSchedulable", "b", b);
        w->schedulable = b;
        world_check(w);
}

void client_reopen(World *w, Known *k) {
        for (unsigned i = 0; i < TRIES_MAX; i++) {
                sd_bus_error e = SD_BUS_ERROR_NULL;
                sd_bus_message *reply = NULL;
                Answer answer;
                int fd;

                answer = world_call(w, new_call(w, k->path, EGM_LEASE_INTERFACE, "Reopen"), &reply,
                                    &e);
                if (answer == ANSWER_OK) {
                        world_expect(w, sd_bus_message_read(reply, "h", &fd) > 0, "no lifetime");
                        k->lifetime = fd_copy(fd);
                        read_slices(w, reply, k);
                        sd_bus_message_unref(reply);
                        world_check(w);
                        return;
                }
                if (answer == ANSWER_REFUSED)
                        world_expect(w, world_excuse(w), "Reopen: %s: %s", e.name, e.message);
                sd_bus_error_free(&e);
        }
        world_fail(w, __FILE__, __LINE__, "never reopened");
}

void client_expect_not_schedulable(World *w) {
        Known k = {.label = "never",
                   .slices[0].at = {.region = "egm5", .size = WORLD_GRANULE},
                   .n_slices = 1};

        for (unsigned i = 0; i < TRIES_MAX; i++) {
                sd_bus_error e = SD_BUS_ERROR_NULL;
                Answer answer = world_call(w, new_acquire(w, &k), NULL, &e);
                bool refused = sd_bus_error_has_name(&e, EGM_ERROR_PREFIX "RegionNotReady");

                if (answer == ANSWER_REFUSED && !refused)
                        world_expect(w, world_excuse(w), "%s: %s", e.name, e.message);
                sd_bus_error_free(&e);
                world_expect(w, answer != ANSWER_OK, "a region that may not be lent was lent");
                if (refused)
                        return;
        }
        world_fail(w, __FILE__, __LINE__, "no answer");
}
