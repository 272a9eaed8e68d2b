/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "test.h"
#include <fcntl.h>
#include <sys/stat.h>

#include "fd-util.h"
#include "sim-memory.h"
#include "simulation.h"

#define SIZE "\"size\":\"1M\""

typedef struct Bed {
        sd_event *event;
        Simulation *simulation;
        char dir[32], path[64], text[256]; /* text: what the handler was told */
        unsigned n;
} Bed;

static void on_event(Discovery *d, DiscoveryEvent event, const RegionInfo *info, void *userdata) {
        static const char *const signs[] = {"+", "~", "-"};
        Bed *b = userdata;
        size_t at = strlen(b->text);

        assert_null(d);
        (void) snprintf(b->text + at, sizeof(b->text) - at, "%s%s%s.%lu", at > 0 ? " " : "",
                        signs[event], info->name, (unsigned long) info->inode);
        b->n++;
}

static void write_regions(const char *path, const char *regions) {
        _cleanup_fclose_ FILE *f = fopen(path, "we");

        assert_non_null(f);
        (void) fprintf(f, "{\"regions\":[%s]}", regions);
}

/* Under another name, then into its place. */
static void replace_regions(Bed *b, const char *regions) {
        char other[80];

        (void) snprintf(other, sizeof(other), "%s.new", b->path);
        write_regions(other, regions);
        assert_int_equal(rename(other, b->path), 0);
}

static void bed_set_up(Bed *b, const char *regions) {
        *b = (Bed){.dir = "/tmp/egm-simulation.XXXXXX"};
        assert_non_null(mkdtemp(b->dir));
        (void) snprintf(b->path, sizeof(b->path), "%s/regions.json", b->dir);
        write_regions(b->path, regions);
        assert_int_equal(sd_event_new(&b->event), 0);
        assert_int_equal(simulation_new(b->event, on_event, b, &b->simulation), 0);
        assert_int_equal(simulation_start(b->simulation, b->path, 1), 0);
}

static void bed_tear_down(Bed *b) {
        simulation_free(b->simulation);
        sd_event_unref(b->event);
        assert_int_equal(unlink(b->path), 0);
        assert_int_equal(rmdir(b->dir), 0);
}

/* All that is due. */
static void expect_told(Bed *b, const char *text) {
        while (sd_event_run(b->event, 0) > 0)
                ;
        assert_string_equal(b->text, text);
        b->text[0] = '\0';
}

#define EGM4 "{\"name\":\"egm4\"," SIZE "}"
#define EGM5 "{\"name\":\"egm5\"," SIZE ",\"instance\":7}"

static void test_comes_and_goes(void **state) {
        Bed b;

        bed_set_up(&b, EGM4 "," EGM5);
        expect_told(&b, "+egm4.0 +egm5.7");
        assert_true(simulation_has(b.simulation, "egm5", 7));
        assert_false(simulation_has(b.simulation, "egm5", 6));
        replace_regions(&b, EGM5);
        expect_told(&b, "-egm4.0 ~egm5.7");
        assert_false(simulation_has(b.simulation, "egm4", 0));
        /* Written in its place. */
        write_regions(b.path, "{\"name\":\"egm4\"," SIZE ",\"instance\":2}," EGM5);
        expect_told(&b, "+egm4.2 ~egm5.7");
        assert_true(simulation_has(b.simulation, "egm4", 2));
        bed_tear_down(&b);
}

/* Gone and back between two looks: what goes is told of before anything comes. */
static void test_another_device(void **state) {
        Bed b;

        bed_set_up(&b, EGM4 "," EGM5);
        expect_told(&b, "+egm4.0 +egm5.7");
        replace_regions(&b, "{\"name\":\"egm5\"," SIZE ",\"instance\":8},"
                            "{\"name\":\"egm6\"," SIZE "},"
                            "{\"name\":\"egm4\",\"size\":\"2M\"}");
        expect_told(&b, "-egm4.0 -egm5.7 +egm5.8 +egm6.0 +egm4.0");
        bed_tear_down(&b);
}

static void test_damage_changes_nothing(void **state) {
        char other[80];
        Bed b;

        bed_set_up(&b, EGM4);
        expect_told(&b, "+egm4.0");
        replace_regions(&b, EGM4 ",");
        expect_told(&b, "");
        assert_true(simulation_has(b.simulation, "egm4", 0));
        /* Nor does another file beside it. */
        (void) snprintf(other, sizeof(other), "%s/other", b.dir);
        write_regions(other, "");
        expect_told(&b, "");
        assert_int_equal(unlink(other), 0);
        replace_regions(&b, EGM5);
        expect_told(&b, "-egm4.0 +egm5.7");
        bed_tear_down(&b);
}

static void test_machines_and_nonsense(void **state) {
        Bed b = {};

        assert_int_equal(sd_event_new(&b.event), 0);
        assert_int_equal(simulation_new(b.event, on_event, &b, &b.simulation), 0);
        assert_true(simulation_start(b.simulation, "/nonexistent/regions.json", 1) < 0);
        assert_int_equal(simulation_start(b.simulation, "gb200", 65536), 0);
        expect_told(&b, "+egm4.0 +egm5.0");
        simulation_free(b.simulation);
        sd_event_unref(b.event);
}

/* The memory is there before the device and behind it. */
static void test_memory(void **state) {
        _cleanup_(provider_freep) Provider *first = NULL, *second = NULL, *large = NULL;
        struct stat before, now;
        _cleanup_close_ int fd = -EBADF;
        Window w;
        Bed b;

        bed_set_up(&b, EGM4);
        assert_int_equal(simulation_make_provider(b.simulation, "egm5", &first), -ENODEV);
        assert_int_equal(simulation_make_provider(b.simulation, "egm4", &first), 0);
        assert_int_equal(provider_identify(first, &before), -ENOENT);
        assert_int_equal(provider_open(first), 0);
        assert_int_equal(provider_identify(first, &before), 0);
        assert_int_equal(before.st_ino, first->ino);
        assert_int_equal(provider_probe(first), 0);
        assert_int_equal(provider_map(first, 0, 4096, true, &w), 0);
        memset(w.address, 'x', 4096);
        provider_unmap(first, &w);
        fd = fd_copy(first->fd);
        first = provider_free(first);

        replace_regions(&b, "{\"name\":\"egm4\"," SIZE ",\"instance\":1}");
        expect_told(&b, "+egm4.0 -egm4.0 +egm4.1");
        assert_int_equal(simulation_make_provider(b.simulation, "egm4", &second), 0);
        assert_int_equal(provider_identify(second, &now), 0);
        assert_int_equal(now.st_ino, before.st_ino);
        assert_int_equal(lseek(fd, 0, SEEK_DATA), 0);
        /* As the driver does, whoever has it. */
        assert_int_equal(provider_open(second), 0);
        assert_int_equal(second->ino, before.st_ino);
        assert_int_equal(lseek(fd, 0, SEEK_DATA), -1);

        replace_regions(&b, "{\"name\":\"egm4\",\"size\":\"2M\",\"instance\":2}");
        expect_told(&b, "-egm4.1 +egm4.2");
        second = provider_free(second);
        assert_int_equal(simulation_make_provider(b.simulation, "egm4", &large), 0);
        assert_int_equal(provider_identify(large, &now), 0);
        assert_int_equal(now.st_ino, before.st_ino);
        assert_int_equal(provider_open(large), 0);
        assert_int_equal(provider_identify(large, &now), 0);
        assert_int_not_equal(now.st_ino, before.st_ino);
        large = provider_free(large);
        bed_tear_down(&b);
}

/* After a restart it is that of the descriptor that was taken up. */
static void test_memory_adopted(void **state) {
        _cleanup_(provider_freep) Provider *old = NULL, *first = NULL, *second = NULL;
        struct stat before, now;
        Bed a, b;

        bed_set_up(&a, EGM4);
        assert_int_equal(simulation_make_provider(a.simulation, "egm4", &old), 0);
        assert_int_equal(provider_open(old), 0);
        assert_int_equal(fstat(old->fd, &before), 0);

        bed_set_up(&b, EGM4);
        assert_int_equal(simulation_make_provider(b.simulation, "egm4", &first), 0);
        assert_int_equal(provider_adopt(first, fd_copy(old->fd), false), 0);
        first = provider_free(first);
        assert_int_equal(simulation_make_provider(b.simulation, "egm4", &second), 0);
        assert_int_equal(provider_identify(second, &now), 0);
        assert_int_equal(now.st_ino, before.st_ino);
        second = provider_free(second);
        old = provider_free(old);
        bed_tear_down(&b);
        bed_tear_down(&a);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                        cmocka_unit_test(test_comes_and_goes),
                        cmocka_unit_test(test_another_device),
                        cmocka_unit_test(test_damage_changes_nothing),
                        cmocka_unit_test(test_machines_and_nonsense),
                        cmocka_unit_test(test_memory),
                        cmocka_unit_test(test_memory_adopted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
