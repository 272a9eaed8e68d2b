/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "attacks.h"
#include "scene.h"

/* Arguments: huge, deep, and with text that breaks where it is cut. */

#ifdef EGM_TEST_SANITIZED
#define HUGE_TEXT (2U * 1024U * 1024U)
#else
#define HUGE_TEXT (8U * 1024U * 1024U)
#endif
/* About what the bus lets through at most. */
#define LARGEST_TEXT (31U * 1024U * 1024U)

static const char *const invalid[] = {SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                      NULL};

static void expect_one_of(sd_bus_message *m, const char *const *names) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        bool known = false;
        int r;

        r = sd_bus_call(scene_bus(), m, 0, &e, NULL);
        if (r >= 0)
                fail_msg("granted");
        for (; *names; names++)
                known = known || sd_bus_error_has_name(&e, *names);
        if (!known)
                fail_msg("%s: %s", e.name, e.message);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
}

static sd_bus_message *acquire_new(void) {
        return bed_call_new(scene_bus(), EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
}

static void open_options(sd_bus_message *m, const char *key, const char *type) {
        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        assert_true(sd_bus_message_open_container(m, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(m, "s", key) >= 0);
        assert_true(sd_bus_message_open_container(m, 'v', type) >= 0);
}

static void close_containers(sd_bus_message *m, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                assert_true(sd_bus_message_close_container(m) >= 0);
}

static void many_slices(unsigned n, const char *key) {
        sd_bus_message *m = acquire_new();

        open_options(m, "Slices", "aa{sv}");
        assert_true(sd_bus_message_open_container(m, 'a', "a{sv}") >= 0);
        for (unsigned i = 0; i < n; i++)
                assert_true(sd_bus_message_append(m, "a{sv}", 1, key, "t",
                                                  (uint64_t) SCENE_GRANULE) >= 0);
        close_containers(m, 4);
        expect_one_of(m, invalid);
}

/* One slice, or the request itself, with so many options. */
static void many_options(unsigned n, const char *key, bool in_slice) {
        sd_bus_message *m = acquire_new();

        if (in_slice) {
                open_options(m, "Slices", "aa{sv}");
                assert_true(sd_bus_message_open_container(m, 'a', "a{sv}") >= 0);
        }
        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        for (unsigned i = 0; i < n; i++)
                assert_true(sd_bus_message_append(m, "{sv}", key, "t", (uint64_t) SCENE_GRANULE) >=
                            0);
        close_containers(m, in_slice ? 5 : 1);
        expect_one_of(m, invalid);
}

static void with_text(const char *key, const char *value) {
        sd_bus_message *m = acquire_new();

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 1, 1, "Size", "t",
                                          (uint64_t) SCENE_GRANULE, key, "s", value) >= 0);
        expect_one_of(m, invalid);
}

static void in_slice(const char *key, const char *value) {
        static const char *const refused[] = {SD_BUS_ERROR_INVALID_ARGS,
                                              EGM_ERROR_PREFIX "NoSuchRegion", NULL};
        sd_bus_message *m = acquire_new();

        assert_true(sd_bus_message_append(m, "a{sv}", 1, "Slices", "aa{sv}", 1, 2, "Size", "t",
                                          (uint64_t) SCENE_GRANULE, key, "s", value) >= 0);
        expect_one_of(m, refused);
}

void attack_arguments_huge(void) {
        char *text = malloc(LARGEST_TEXT + 1);

        assert_non_null(text);
        memset(text, 'x', LARGEST_TEXT);
        text[LARGEST_TEXT] = '\0';
        with_text("Label", text);
        text[HUGE_TEXT] = '\0';
        many_slices(100000, "Size");
        many_slices(100000, "Nothing");
        many_options(100000, "Size", true);
        many_options(100000, "Nothing", true);
        many_options(100000, "WaitUSec", false);
        many_options(100000, "Nothing", false);
        with_text("Lifetime", text);
        with_text(text, "x");
        in_slice("Region", text);
        in_slice("Retired", text);
        in_slice(text, "x");
        /* Many at once, on connections that egmd has not met: it keeps such calls while it asks who that is. */
        for (unsigned round = 0; round < 2; round++) {
                sd_bus *clients[8];
                unsigned pending[8] = {};

                for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                        sd_bus_message *m = NULL;

                        clients[i] = scene_client();
                        assert_true(sd_bus_message_new_method_call(clients[i], &m, EGM_BUS_NAME,
                                                                   EGM_PATH, EGM_MANAGER_INTERFACE,
                                                                   "AcquireLease") >= 0);
                        assert_true(sd_bus_message_append(m, "a{sv}", 1, "Label", "s", text) >= 0);
                        scene_send(clients[i], m, pending + i);
                }
                for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                        scene_collect(clients[i], pending + i);
                        sd_bus_flush_close_unref(clients[i]);
                }
        }
        free(text);
}

/* As deep as messages may be: 64 containers, 32 arrays and 32 structures among them. */
static void deep(const char *key, unsigned n_variants, bool arrays) {
        sd_bus_message *m = acquire_new();
        char type[72] = "";

        open_options(m, key, "v");
        for (unsigned i = 0; i < n_variants; i++)
                assert_true(sd_bus_message_open_container(m, 'v',
                                                          i + 1 < n_variants ? "v"
                                                          : arrays           ? "aaaaaaaay"
                                                                             : "y") >= 0);
        if (arrays)
                assert_true(sd_bus_message_append(m, "aaaaaaaay", 0) >= 0);
        else
                assert_true(sd_bus_message_append(m, "y", 1) >= 0);
        close_containers(m, n_variants + 3);
        expect_one_of(m, invalid);

        m = acquire_new();
        for (unsigned i = 0; i < 32; i++)
                type[i] = 'a';
        type[32] = 'y';
        open_options(m, key, type);
        assert_true(sd_bus_message_append(m, type, 0) >= 0);
        close_containers(m, 3);
        expect_one_of(m, invalid);

        m = acquire_new();
        memset(type, '(', 31);
        type[31] = 'y';
        memset(type + 32, ')', 31);
        open_options(m, key, type);
        assert_true(sd_bus_message_append(m, type, 1) >= 0);
        close_containers(m, 3);
        expect_one_of(m, invalid);
}

void attack_arguments_deep(void) {
        static const char *const keys[] = {"Slices", "Label", "Holder", "WaitUSec", "Nothing", ""};

        for (unsigned round = 0; round < 20; round++)
                for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                        deep(keys[i], 8, false);
                        deep(keys[i], 40, true);
                        deep(keys[i], 60, false);
                }
}

/* Characters of two, three and four bytes, at every place where a message may be cut: what comes back must be UTF-8 still, or
 * the bus ends the connection of who sent it. */
void attack_arguments_text(void) {
        static const char *const characters[] = {"\303\251", "\342\202\254", "\360\237\246\200"};

        for (size_t c = 0; c < ELEMENTSOF(characters); c++)
                for (size_t shift = 0; shift < 4; shift++) {
                        char text[600] = "";

                        memset(text, 'x', shift);
                        while (strlen(text) + strlen(characters[c]) < sizeof(text))
                                (void) strcat(text, characters[c]);
                        with_text(text, "x");
                        with_text("Label", text);
                        with_text("Lifetime", text);
                        in_slice(text, "x");
                        in_slice("Region", text);
                        in_slice("Gpu", text);
                        in_slice("Retired", text);
                        assert_true(sd_bus_set_property(scene_bus(), EGM_BUS_NAME,
                                                        "/org/freedesktop/LogControl1",
                                                        "org.freedesktop.LogControl1", "LogLevel",
                                                        NULL, "s", text) < 0);
                }
}

static void call_path(const char *path, const char *interface, const char *method) {
        static const char *const refused[] = {
                        EGM_ERROR_PREFIX "NoSuchLease", EGM_ERROR_PREFIX "NoSuchRegion",
                        SD_BUS_ERROR_UNKNOWN_OBJECT,    SD_BUS_ERROR_UNKNOWN_METHOD,
                        SD_BUS_ERROR_UNKNOWN_INTERFACE, SD_BUS_ERROR_UNKNOWN_PROPERTY,
                        SD_BUS_ERROR_INVALID_ARGS,      NULL};
        sd_bus_message *m = bed_call_new(scene_bus(), path, interface, method);

        expect_one_of(m, refused);
}

/* Objects that are not there, and interfaces of other objects. */
void attack_paths(void) {
        static const char *const paths[] = {
                        "/",
                        "/org",
                        EGM_PATH "x",
                        EGM_PATH "/lease",
                        EGM_PATH "/region",
                        EGM_LEASE_PATH "/0",
                        EGM_LEASE_PATH "/999999",
                        EGM_LEASE_PATH "/007",
                        EGM_LEASE_PATH "/18446744073709551615",
                        EGM_LEASE_PATH "/18446744073709551616",
                        EGM_LEASE_PATH
                        "/99999999999999999999999999999999999999999999999999999999999999999999",
                        EGM_LEASE_PATH "/1/1",
                        EGM_LEASE_PATH "/egm4",
                        EGM_REGION_PATH "/egm4/1",
                        EGM_REGION_PATH "/1",
                        EGM_REGION_PATH "/_65gm4_00",
                        EGM_REGION_PATH "/_2e_2e_2fegm4",
                        EGM_REGION_PATH "/_ff_fe",
        };
        static const char *const interfaces[] = {EGM_MANAGER_INTERFACE, EGM_REGION_INTERFACE,
                                                 EGM_LEASE_INTERFACE,
                                                 "org.freedesktop.LogControl1"};
        static const char *const methods[] = {"AcquireLease", "Release", "Bind", "Reopen",
                                              "SetSchedulable"};
        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                for (size_t k = 0; k < ELEMENTSOF(interfaces); k++)
                        for (size_t j = 0; j < ELEMENTSOF(methods); j++)
                                call_path(paths[i], interfaces[k], methods[j]);
}
