/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "probe.h"

static const char *const variant_table[_VARIANT_MAX] = {
                [VARIANT_K2] = "K2", [VARIANT_R2] = "R2", [VARIANT_D] = "D",
                [VARIANT_S3] = "S3", [VARIANT_S4] = "S4",
};

static Variant variant_from_string(const char *s) {
        for (Variant v = 0; v < _VARIANT_MAX; v++)
                if (streq(s, variant_table[v]))
                        return v;
        return _VARIANT_INVALID;
}

static int sysfs_path(const Probe *p, const char *name, char *buffer, size_t size) {
        int n = snprintf(buffer, size, "/sys/class/egm/egm%d/%s", p->id, name);

        return n < 0 || (size_t) n >= size ? -ENAMETOOLONG : 0;
}

static int sysfs_read(const Probe *p, const char *name, char **ret) {
        char path[128];
        int r;

        r = sysfs_path(p, name, path, sizeof(path));
        if (r < 0)
                return r;
        return read_full_file_at(AT_FDCWD, path, 4096, ret, NULL);
}

static int write_file(const char *path, const char *text) {
        _cleanup_close_ int fd = -EBADF;

        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return write_all(fd, text, strlen(text));
}

int probe_init(Probe *p, const char *variant, const char *id) {
        _cleanup_free_ char *text = NULL;
        Probe probe = {};
        int r;

        probe.variant = variant_from_string(variant);
        if (probe.variant < 0)
                return probe.variant;
        if (sscanf(id, "%d", &probe.id) != 1)
                return -EINVAL;
        (void) snprintf(probe.device, sizeof(probe.device), "/dev/egm%d", probe.id);

        r = sysfs_read(&probe, "egm_size", &text);
        if (r < 0)
                return r;
        if (sscanf(text, "0x%" SCNx64 "\n", &probe.size) != 1)
                return -EBADMSG;
        *p = probe;
        return 0;
}

bool probe_check(Probe *p, bool ok, const char *format, ...) {
        va_list ap;

        if (!ok)
                p->n_failed++;
        (void) fputs(ok ? "ok - " : "not ok - ", stdout);
        va_start(ap, format);
        (void) vprintf(format, ap);
        va_end(ap);
        (void) putchar('\n');
        (void) fflush(stdout);
        return ok;
}

bool probe_check_errno(Probe *p, int r, int want, const char *format, ...) {
        int got = r < 0 ? -r : 0;
        char text[256];
        va_list ap;

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);

        probe_check(p, got == want, "%s: %s", text, want ? strerrorname_np(want) : "works");
        if (got != want)
                printf("#   got %s\n", got ? strerrorname_np(got) : "no error");
        return got == want;
}

int64_t probe_state(const Probe *p, const char *field) {
        _cleanup_free_ char *text = NULL;
        const char *at;
        int64_t value;
        int r;

        r = sysfs_read(p, "sim_state", &text);
        if (r < 0)
                return r;
        at = strstr(text, field);
        if (!at || sscanf(at + strlen(field), "=%" SCNd64, &value) != 1)
                return -EBADMSG;
        return value;
}

/* The module has no event for it: look again until the deadline. */
bool probe_wait_state(const Probe *p, const char *field, int64_t value) {
        const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

        for (int waited = 0; waited < DEADLINE_MS; waited += 10) {
                if (probe_state(p, field) == value)
                        return true;
                (void) nanosleep(&pause, NULL);
        }
        return false;
}

int probe_hold(bool hold) {
        return write_file("/sys/module/egmsim/parameters/scrub_hold", hold ? "Y" : "N");
}

int probe_poison(const Probe *p, uint64_t offset) {
        char path[128], text[32];
        int r;

        r = sysfs_path(p, "sim_poison", path, sizeof(path));
        if (r < 0)
                return r;
        (void) snprintf(text, sizeof(text), "0x%" PRIx64, offset);
        return write_file(path, text);
}

int probe_set(const char *parameter, const char *value) {
        char path[128];

        (void) snprintf(path, sizeof(path), "/sys/module/egmsim/parameters/%s", parameter);
        return write_file(path, value);
}

int probe_present(const Probe *p, bool present) {
        char path[64];

        (void) snprintf(path, sizeof(path), "/sys/kernel/egmsim/egm%d/present", p->id);
        return write_file(path, present ? "1" : "0");
}

int probe_open(const Probe *p, int flags) {
        int fd = open(p->device, flags | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

void *probe_map(int fd, uint64_t offset, uint64_t size, int prot, int flags) {
        return mmap(NULL, size, prot, flags, fd, (off_t) offset);
}

int probe_try_map(int fd, uint64_t offset, uint64_t size, int prot, int flags) {
        void *m = probe_map(fd, offset, size, prot, flags);

        if (m == MAP_FAILED)
                return -errno;
        (void) munmap(m, size);
        return 0;
}

int probe_read_list(int fd, RetiredList **ret) {
        RetiredList header = {.argsz = sizeof(header)};
        _cleanup_free_ RetiredList *list = NULL;

        for (uint32_t need = sizeof(header);; need = header.argsz) {
                free(list);
                list = calloc(1, need);
                if (!list)
                        return -ENOMEM;
                list->argsz = need;
                if (ioctl(fd, EGM_RETIRED_PAGES_LIST, list) < 0)
                        return -errno;
                header.argsz = list->argsz;
                if (header.argsz <= need)
                        break;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

bool probe_list_has(const RetiredList *list, uint64_t offset) {
        for (uint32_t i = 0; i < list->count; i++)
                if (list->entries[i].offset == offset)
                        return true;
        return false;
}
