/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <libudev.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "bed.h"
#include "fd-util.h"

#define DEADLINE (20 * USEC_PER_SEC)

bool bed_initialized;
unsigned bed_lost;
void (*bed_meanwhile)(void);

int __wrap_udev_device_get_is_initialized(struct udev_device *d);
struct udev_device *__wrap_udev_monitor_receive_device(struct udev_monitor *m);
struct udev_device *__real_udev_monitor_receive_device(struct udev_monitor *m);

struct udev_device *__wrap_udev_device_new_from_syspath(struct udev *udev, const char *syspath);
struct udev_device *__real_udev_device_new_from_syspath(struct udev *udev, const char *syspath);

struct udev_device *__wrap_udev_device_new_from_syspath(struct udev *udev, const char *syspath) {
        void (*meanwhile)(void) = TAKE_PTR(bed_meanwhile);

        if (meanwhile)
                meanwhile();
        return __real_udev_device_new_from_syspath(udev, syspath);
}

/* umockdev has no database of udev's. */
int __wrap_udev_device_get_is_initialized(struct udev_device *d) {
        return bed_initialized;
}

struct udev_device *__wrap_udev_monitor_receive_device(struct udev_monitor *m) {
        if (bed_lost > 0) {
                struct udev_device *d;

                while ((d = __real_udev_monitor_receive_device(m)))
                        (void) udev_device_unref(d);
                bed_lost--;
                errno = ENOBUFS;
                return NULL;
        }
        return __real_udev_monitor_receive_device(m);
}

int bed_setup(void **state) {
        Bed *b = calloc(1, sizeof(*b));

        assert_non_null(b);
        b->saved_stderr = b->log_fd = -EBADF;
        bed_initialized = true;
        bed_lost = 0;
        bed_meanwhile = NULL;
        b->testbed = umockdev_testbed_new();
        b->root = umockdev_testbed_get_root_dir(b->testbed);
        assert_int_equal(sd_event_new(&b->event), 0);
        *state = b;
        return 0;
}

int bed_teardown(void **state) {
        Bed *b = *state;

        if (b->saved_stderr >= 0)
                (void) dup2(b->saved_stderr, STDERR_FILENO);
        b->saved_stderr = safe_close(b->saved_stderr);
        b->log_fd = safe_close(b->log_fd);
        (void) discovery_free(b->discovery);
        (void) sd_event_unref(b->event);
        for (size_t i = 0; i < b->n_lines; i++)
                free(b->lines[i]);
        g_object_unref(b->testbed);
        g_free(b->root);
        free(b);
        return 0;
}

static const char *event_word(DiscoveryEvent event) {
        switch (event) {
        case DISCOVERY_ADDED:
                return "added";
        case DISCOVERY_CHANGED:
                return "changed";
        case DISCOVERY_REMOVED:
                return "removed";
        case DISCOVERY_PCI_EGM:
                return "pci-egm";
        case DISCOVERY_PCI_EGM_REMOVED:
                return "pci-egm-removed";
        default:
                fail();
                return NULL;
        }
}

static void check_form(DiscoveryEvent event, const RegionInfo *i) {
        _cleanup_free_ char *devnode = NULL;

        assert_true(i->inode != 0 || event >= DISCOVERY_PCI_EGM);
        assert_true(i->size > 0 || i->size_problem);
        for (size_t k = 1; k < i->n_gpus; k++)
                assert_true(strcmp(i->gpus[k - 1].address, i->gpus[k].address) < 0);
        if (event >= DISCOVERY_PCI_EGM) {
                assert_null(i->devnode);
                assert_int_equal(i->pxm, -1);
                return;
        }
        assert_true(asprintf(&devnode, "/dev/%s", i->name) > 0);
        assert_string_equal(i->devnode, devnode);
        assert_int_equal(i->pxm, strtol(i->name + 3, NULL, 10));
        assert_true(strncmp(i->syspath, "/sys/devices/", 13) == 0);
}

static void on_event(Discovery *d, DiscoveryEvent event, const RegionInfo *i, void *userdata) {
        Bed *b = userdata;
        size_t size;
        FILE *f;

        check_form(event, i);
        assert_true(b->n_lines < ELEMENTSOF(b->lines));
        f = open_memstream(&b->lines[b->n_lines], &size);
        assert_non_null(f);
        (void) fprintf(f, "%s %s", event_word(event), i->name);
        if (i->devnum != 0)
                (void) fprintf(f, " %u:%u", major(i->devnum), minor(i->devnum));
        (void) fprintf(f, " %" PRIu64, i->size);
        if (i->size_problem)
                (void) fprintf(f, " (%s)", i->size_problem);
        (void) fprintf(f, " node=%d socket=%d %s", i->node, i->socket, i->dialect);
        for (size_t k = 0; k < i->n_gpus; k++)
                (void) fprintf(f, "%s %s@%d=%s", k == 0 ? ":" : "", i->gpus[k].address,
                               i->gpus[k].node, i->gpus[k].driver ?: "none");
        assert_int_equal(fclose(f), 0);
        b->n_lines++;
}

void bed_add(Bed *b, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        GError *error = NULL;
        va_list ap;

        va_start(ap, format);
        assert_true(vasprintf(&text, format, ap) > 0);
        va_end(ap);
        if (!umockdev_testbed_add_from_string(b->testbed, text, &error))
                fail_msg("%s: %s", text, error->message);
}

void bed_gpu(Bed *b, const char *devpath, const char *numa_node, const char *driver) {
        _cleanup_free_ char *node = NULL, *link = NULL;

        if (numa_node)
                assert_true(asprintf(&node, "A: numa_node=%s\\n\n", numa_node) > 0);
        if (driver)
                assert_true(asprintf(&link, "L: driver=../../../../bus/pci/drivers/%s\n", driver) >
                            0);
        bed_add(b, "P: %s\nE: SUBSYSTEM=pci\nE: PCI_CLASS=30200\n%s%s\n", devpath, node ?: "",
                link ?: "");
}

void bed_gpus(Bed *b) {
        bed_gpu(b, GPU8, "0", NVGRACE);
        bed_gpu(b, GPU9, "0", NVGRACE);
        bed_gpu(b, GPU18, "1", NVGRACE);
        bed_gpu(b, GPU19, "1", NVGRACE);
}

void bed_region(Bed *b, const char *devpath, unsigned minor, const char *more) {
        const char *name = strrchr(devpath, '/') + 1;

        bed_add(b,
                "P: %s\nN: %s=00\nE: SUBSYSTEM=egm\nE: DEVNAME=/dev/%s\nE: MAJOR=240\n"
                "E: MINOR=%u\nA: dev=240:%u\\n\n%s\n",
                devpath, name, name, minor, minor, more ?: "");
}

char *bed_path(Bed *b, const char *path) {
        char *p;

        assert_true(asprintf(&p, "%s%s", b->root, path) > 0);
        return p;
}

static char *sys_path(Bed *b, const char *devpath, const char *name) {
        char *p;

        assert_true(asprintf(&p, "%s/sys%s/%s", b->root, devpath, name) > 0);
        return p;
}

void bed_set(Bed *b, const char *devpath, const char *attribute, const char *text) {
        _cleanup_free_ char *path = sys_path(b, devpath, attribute), *syspath = NULL;

        if (!text) {
                assert_int_equal(unlink(path), 0);
                return;
        }
        assert_true(asprintf(&syspath, "/sys%s", devpath) > 0);
        umockdev_testbed_set_attribute(b->testbed, syspath, attribute, text);
}

void bed_link(Bed *b, const char *devpath, const char *name, const char *target) {
        _cleanup_free_ char *path = sys_path(b, devpath, name);

        if (unlink(path) < 0)
                assert_int_equal(errno, ENOENT);
        if (target)
                assert_int_equal(symlink(target, path), 0);
}

void bed_driver(Bed *b, const char *devpath, const char *driver, const char *action) {
        _cleanup_free_ char *target = NULL;

        assert_true(asprintf(&target, "../../../../bus/pci/drivers/%s", driver ?: "") > 0);
        bed_link(b, devpath, "driver", driver ? target : NULL);
        bed_event(b, devpath, action);
}

void bed_event(Bed *b, const char *devpath, const char *action) {
        _cleanup_free_ char *syspath = NULL;

        assert_true(asprintf(&syspath, "/sys%s", devpath) > 0);
        umockdev_testbed_uevent(b->testbed, syspath, action);
}

void bed_vanish(Bed *b, const char *devpath) {
        _cleanup_free_ char *syspath = NULL;

        assert_true(asprintf(&syspath, "/sys%s", devpath) > 0);
        umockdev_testbed_remove_device(b->testbed, syspath);
}

void bed_remove(Bed *b, const char *devpath) {
        bed_event(b, devpath, "remove");
        bed_vanish(b, devpath);
}

void bed_start(Bed *b) {
        static const uint64_t delays[N_DELAYS] = {1000, 1000, 1000, 1000};

        assert_int_equal(discovery_new(b->event, on_event, b, &b->discovery), 0);
        discovery_set_delays(b->discovery, delays, ELEMENTSOF(delays));
        assert_int_equal(discovery_start(b->discovery), 0);
}

void bed_step(Bed *b) {
        assert_true(sd_event_run(b->event, DEADLINE) > 0);
}

void bed_expect(Bed *b, const char *line, const char *file, int at) {
        while (b->n_expected >= b->n_lines)
                if (sd_event_run(b->event, DEADLINE) <= 0) {
                        print_error("Nothing came instead of: %s\n", line);
                        _fail(file, at);
                }
        _assert_string_equal(b->lines[b->n_expected], line, file, at);
        b->n_expected++;
}

void bed_expect_nothing(Bed *b, const char *file, int at) {
        for (;;) {
                bool settled = discovery_is_settled(b->discovery);
                int r = sd_event_run(b->event, settled ? 0 : DEADLINE);

                assert_true(r >= 0);
                if (r == 0 && !settled) {
                        print_error("It never comes to rest\n");
                        _fail(file, at);
                }
                if (b->n_expected < b->n_lines) {
                        print_error("Unexpected: %s\n", b->lines[b->n_expected]);
                        _fail(file, at);
                }
                if (r == 0)
                        return;
        }
}

void bed_log(Bed *b) {
        b->log_fd = memfd_create("log", MFD_CLOEXEC);
        assert_true(b->log_fd >= 0);
        b->saved_stderr = fd_copy(STDERR_FILENO);
        assert_true(b->saved_stderr >= 0);
        assert_true(dup2(b->log_fd, STDERR_FILENO) >= 0);
}

unsigned bed_log_count(Bed *b, const char *needle) {
        static char text[65536];
        unsigned n = 0;
        ssize_t k = pread(b->log_fd, text, sizeof(text) - 1, 0);

        assert_true(k >= 0);
        text[k] = '\0';
        for (const char *p = text; (p = strstr(p, needle)); p++)
                n++;
        return n;
}

void bed_start_k2(Bed *b) {
        bed_gpus(b);
        bed_region(b, EGM4, 4, K2_DESCRIPTION);
        bed_start(b);
        expect(b, "added egm4 240:4 " K2_FACTS);
        expect_nothing(b);
}

void bed_set_number(Bed *b, const char *number) {
        _cleanup_free_ char *path = bed_path(b, "/dev/.node/egm4");

        assert_int_equal(unlink(path), 0);
        if (number)
                assert_int_equal(symlink(number, path), 0);
}

void bed_put_aside(Bed *b, const char *devpath) {
        _cleanup_free_ char *dir = NULL, *aside = NULL, *link = NULL, *path = NULL;

        assert_true(asprintf(&path, "/sys%s", devpath) > 0);
        dir = bed_path(b, path);
        aside = bed_path(b, "/sys/devices/aside");
        assert_int_equal(rename(dir, aside), 0);
        path = mfree(path);
        assert_true(asprintf(&path, "/sys/class/egm%s", strrchr(devpath, '/')) > 0);
        link = bed_path(b, path);
        assert_int_equal(unlink(link), 0);
        bed_set_number(b, NULL);
}
