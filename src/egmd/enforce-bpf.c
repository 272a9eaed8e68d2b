/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "enforce.h"
#include "enforce-kernel.h"
#include "enforce-pins.h"
#include "fd-util.h"
#include "log.h"
#include "pidfd.h"

/* The programs, as clang made them of enforce.bpf.c. */
static const unsigned char object[] __attribute__((aligned(8))) = {
#include "enforce-object.h"
};

#define N_MAPS 4
#define N_PROGRAMS 7

typedef enum MapIndex { MAP_BEARERS, MAP_LEASES, MAP_DEVICES, MAP_HIGHEST } MapIndex;
/* The order of both is that of enforce_pins. */
static const char *const map_names[N_MAPS] = {"bearers", "leases", "devices", "highest"};
static const char *const program_names[N_PROGRAMS] = {
                "egm_mmap",   "egm_mprotect", "egm_fork",        "egm_exec",
                "egm_forked", "egm_ioctl",    "egm_ioctl_compat"};

typedef struct Kernel {
        struct bpf_object *object;
        struct bpf_link *links[N_PROGRAMS];
        struct bpf_link *flights;
        struct bpf_link *watches, *mappings; /* NULL: the kernel does not offer it */
        struct bpf_link *moves;              /* likewise */
        struct bpf_link *admit;
        int maps[N_MAPS]; /* object's */
        int admission;    /* likewise */
        int dir;
} Kernel;

static Kernel *kernel_free(Kernel *k) {
        if (!k)
                return NULL;
        /* What is pinned goes on. */
        for (size_t i = 0; i < N_PROGRAMS; i++)
                (void) bpf_link__destroy(k->links[i]);
        (void) bpf_link__destroy(k->flights);
        (void) bpf_link__destroy(k->watches);
        (void) bpf_link__destroy(k->mappings);
        (void) bpf_link__destroy(k->moves);
        (void) bpf_link__destroy(k->admit);
        bpf_object__close(k->object);
        k->dir = safe_close(k->dir);
        return mfree(k);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Kernel *, kernel_free)

/* ---- the table ---- */

static int retry(int r) {
        return r == -EBUSY || r == -EAGAIN || r == -EINTR;
}

/* What libbpf returns is -errno since its version 1. A bucket may be busy for a moment. */
#define CALL(call) \
        ({ \
                int _r, _left = 100; \
                do \
                        _r = (call); \
                while (retry(_r) && --_left > 0); \
                _r; \
        })

static int kernel_set_device(void *u, __u32 rdev, bool gated) {
        const Kernel *k = u;
        __u32 one = 1;
        int r;

        if (gated)
                return CALL(bpf_map_update_elem(k->maps[MAP_DEVICES], &rdev, &one, BPF_ANY));
        r = CALL(bpf_map_delete_elem(k->maps[MAP_DEVICES], &rdev));
        return r == -ENOENT ? 0 : r;
}

static int kernel_set_lease(void *u, const EnforceLease *l) {
        const Kernel *k = u;

        return CALL(bpf_map_update_elem(k->maps[MAP_LEASES], &l->number, l, BPF_ANY));
}

static int kernel_drop_lease(void *u, __u64 number) {
        const Kernel *k = u;

        return CALL(bpf_map_delete_elem(k->maps[MAP_LEASES], &number));
}

static int kernel_get_lease(void *u, __u64 number, EnforceLease *ret) {
        const Kernel *k = u;

        return CALL(bpf_map_lookup_elem(k->maps[MAP_LEASES], &number, ret));
}

static int kernel_next_lease(void *u, const __u64 *after, __u64 *ret) {
        const Kernel *k = u;

        return CALL(bpf_map_get_next_key(k->maps[MAP_LEASES], after, ret));
}

static int kernel_get_bearer(void *u, int pidfd, EnforceBearer *ret) {
        const Kernel *k = u;

        return CALL(bpf_map_lookup_elem(k->maps[MAP_BEARERS], &pidfd, ret));
}

static int kernel_set_bearer(void *u, int pidfd, const EnforceBearer *b) {
        const Kernel *k = u;

        return CALL(bpf_map_update_elem(k->maps[MAP_BEARERS], &pidfd, b, BPF_ANY));
}

static int kernel_get_highest(void *u, __u64 *ret) {
        const Kernel *k = u;
        __u32 zero = 0;

        return CALL(bpf_map_lookup_elem(k->maps[MAP_HIGHEST], &zero, ret));
}

static int kernel_set_highest(void *u, __u64 number) {
        const Kernel *k = u;
        __u32 zero = 0;

        return CALL(bpf_map_update_elem(k->maps[MAP_HIGHEST], &zero, &number, BPF_ANY));
}

/* All that an iterator writes: so many items. */
static int iterate(const struct bpf_link *link, size_t item, void **ret, size_t *ret_n) {
        _cleanup_free_ char *buffer = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t size = 0, room = 0;

        if (!link)
                return -EOPNOTSUPP;
        fd = bpf_iter_create(bpf_link__fd(link));
        if (fd < 0)
                return -errno;
        for (;;) {
                ssize_t n;

                if (size == room) {
                        char *t = realloc(buffer, room = MAX(2 * room, (size_t) 4096));

                        if (!t)
                                return -ENOMEM;
                        buffer = t;
                }
                n = read(fd, buffer + size, room - size);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t) n;
        }
        if (size % item != 0)
                return -EBADMSG;
        *ret = TAKE_PTR(buffer);
        *ret_n = size / item;
        return 0;
}

/* A process may have children that are not known to bear what it does: then nothing is known. */
static int kernel_is_whole(const Kernel *k) {
        EnforceAdmission trouble;
        __u32 second = 1;
        int r;

        r = CALL(bpf_map_lookup_elem(k->admission, &second, &trouble));
        return r < 0 ? r : trouble.failed > 0 ? -ENOMEM : 0;
}

static int kernel_flights(void *u, EnforceFlight **ret, size_t *ret_n) {
        const Kernel *k = u;
        int r;

        r = kernel_is_whole(k);
        return r < 0 ? r : iterate(k->flights, sizeof(**ret), (void **) ret, ret_n);
}

static int kernel_watches(void *u, EnforceWatch **ret, size_t *ret_n) {
        const Kernel *k = u;
        int r;

        r = iterate(k->watches, sizeof(**ret), (void **) ret, ret_n);
        for (size_t i = 0; r >= 0 && k->moves && i < *ret_n; i++)
                (*ret)[i].counted = 1;
        return r;
}

static int kernel_mappings(void *u, EnforceMapping **ret, size_t *ret_n) {
        return iterate(((Kernel *) u)->mappings, sizeof(**ret), (void **) ret, ret_n);
}

/* One process alone the kernel can iterate over since Linux 6.1. */
static struct bpf_link *attach_to_process(const Kernel *k, __u64 pid) {
        union bpf_iter_link_info info = {.task.pid = (__u32) pid};
        LIBBPF_OPTS(bpf_iter_attach_opts, options, .link_info = &info,
                    .link_info_len = sizeof(info));
        const struct bpf_program *p = bpf_object__find_program_by_name(k->object, "egm_admit");

        return bpf_program__attach_iter(p, &options);
}

static int kernel_admit(void *u, EnforceAdmission *a, bool everybody) {
        const Kernel *k = u;
        struct bpf_link *process = NULL;
        void *nothing = NULL;
        __u32 first = 0;
        size_t n;
        int r;

        r = CALL(bpf_map_update_elem(k->admission, &first, a, BPF_ANY));
        if (r < 0 || a->pid == 0)
                return r;
        if (!everybody)
                process = attach_to_process(k, a->pid);
        r = iterate(process ?: k->admit, 1, &nothing, &n);
        (void) bpf_link__destroy(process);
        free(nothing);
        return r < 0 ? r : CALL(bpf_map_lookup_elem(k->admission, &first, a));
}

/* ---- pins ---- */

static int pin_map(const Kernel *k, size_t i) {
        int r = bpf_obj_pin(k->maps[i], enforce_pins[i].path);

        return r == -EEXIST ? 0 : r;
}

/* Where one is there already the other takes its place, and no moment is without one. */
static int pin_link(const Kernel *k, size_t i) {
        const EnforcePin *pin = enforce_pins + N_MAPS + i;
        int r;

        (void) unlinkat(k->dir, ENFORCE_PIN_NEXT, 0);
        r = bpf_obj_pin(bpf_link__fd(k->links[i]), ENFORCE_PIN_DIRECTORY "/" ENFORCE_PIN_NEXT);
        if (r < 0)
                return r;
        return renameat(k->dir, ENFORCE_PIN_NEXT, k->dir, pin->name) < 0 ? -errno : 0;
}

static int pin_all(Kernel *k) {
        for (size_t i = 0; i < N_MAPS; i++) {
                int r = pin_map(k, i);

                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < N_PROGRAMS; i++) {
                int r = pin_link(k, i);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int kernel_check(void *u) {
        Kernel *k = u;
        int r;

        /* None: it was gone the last time, too. */
        r = k->dir < 0 ? 0 : enforce_pins_complete(k->dir);
        if (r != 0)
                return r < 0 ? r : 0;
        /* The directory itself may be another by now. */
        k->dir = safe_close(k->dir);
        r = enforce_pins_open(&k->dir);
        if (r < 0)
                return r;
        r = pin_all(k);
        return r < 0 ? r : 1;
}

static void kernel_done(void *u) {
        kernel_free(u);
}

static const EnforceOps kernel_ops = {
                .set_device = kernel_set_device,
                .set_lease = kernel_set_lease,
                .get_lease = kernel_get_lease,
                .drop_lease = kernel_drop_lease,
                .next_lease = kernel_next_lease,
                .get_bearer = kernel_get_bearer,
                .set_bearer = kernel_set_bearer,
                .admit = kernel_admit,
                .get_highest = kernel_get_highest,
                .set_highest = kernel_set_highest,
                .flights = kernel_flights,
                .watches = kernel_watches,
                .mappings = kernel_mappings,
                .check = kernel_check,
                .free = kernel_done,
};

/* ---- loading ---- */

static int print(enum libbpf_print_level level, const char *format, va_list args) {
        _cleanup_free_ char *text = NULL;
        char *rest, *line;

        if (level == LIBBPF_DEBUG)
                return 0;
        if (vasprintf(&text, format, args) < 0) {
                text = NULL;
                return 0;
        }
        /* The verifier's reasons are long. */
        for (rest = text; (line = strsep(&rest, "\n"));)
                if (*line)
                        log_info("libbpf: %s", line);
        return 0;
}

static int same_shape(const struct bpf_map *map, int fd) {
        struct bpf_map_info info = {};
        __u32 size = sizeof(info);
        int r;

        r = bpf_obj_get_info_by_fd(fd, &info, &size);
        if (r < 0)
                return r;
        return info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
               info.value_size == bpf_map__value_size(map);
}

/* 1: all that an egmd before us left behind is there, and its maps are ours now. */
static int take_maps(Kernel *k) {
        int r;

        r = enforce_pins_complete(k->dir);
        if (r <= 0)
                return r;
        for (size_t i = 0; i < N_MAPS; i++) {
                struct bpf_map *map = bpf_object__find_map_by_name(k->object, map_names[i]);
                _cleanup_close_ int fd = bpf_obj_get(enforce_pins[i].path);

                if (fd < 0)
                        return -errno;
                r = same_shape(map, fd);
                if (r <= 0)
                        return r;
                r = bpf_map__reuse_fd(map, fd);
                if (r < 0)
                        return r;
        }
        return 1;
}

static int open_object(Kernel *k) {
        LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "egm");
        __u32 page_shift = (__u32) __builtin_ctzl((unsigned long) sysconf(_SC_PAGESIZE));
        struct bpf_map *map;

        k->object = bpf_object__open_mem(object, sizeof(object), &options);
        if (!k->object)
                return -errno;
        bpf_object__for_each_map(map, k->object) {
                if (strstr(bpf_map__name(map), ".rodata"))
                        return bpf_map__set_initial_value(map, &page_shift, sizeof(page_shift));
        }
        return -EBADMSG;
}

static int be_let_through(const Kernel *k) {
        const EnforceBearer all = {.flags = ENFORCE_BEARER_ALL};
        _cleanup_close_ int pidfd = -EBADF;
        int r;

        r = pidfd_new(getpid(), &pidfd);
        return r < 0 ? r : kernel_set_bearer((void *) k, pidfd, &all);
}

static struct bpf_link *attach_iterator(const Kernel *k, const char *name) {
        const struct bpf_program *p = bpf_object__find_program_by_name(k->object, name);

        return p && bpf_program__autoload(p) ? bpf_program__attach_iter(p, NULL) : NULL;
}

/* Without, the rest does. */
static void spare(const Kernel *k, const char *program, const char *what,
                  enum bpf_attach_type type) {
        if (libbpf_find_vmlinux_btf_id(what, type) < 0)
                (void) bpf_program__set_autoload(
                                bpf_object__find_program_by_name(k->object, program), false);
}

/* Some kernels have one hook for both. */
static int place_compat(const Kernel *k) {
        struct bpf_program *p;

        if (libbpf_find_vmlinux_btf_id("file_ioctl_compat", BPF_LSM_MAC) >= 0)
                return 0;
        p = bpf_object__find_program_by_name(k->object, "egm_ioctl_compat");
        return p ? bpf_program__set_attach_target(p, 0, "file_ioctl") : -EBADMSG;
}

static int load(Kernel *k) {
        struct bpf_program *p;
        int r;

        r = place_compat(k);
        if (r < 0)
                return r;
        spare(k, "egm_mappings", "task_vma", BPF_TRACE_ITER);
        spare(k, "egm_moves", "copy_vma", BPF_TRACE_FENTRY);
        r = bpf_object__load(k->object);
        if (r < 0)
                return r;
        for (size_t i = 0; i < N_MAPS; i++)
                k->maps[i] = bpf_object__find_map_fd_by_name(k->object, map_names[i]);
        k->admission = bpf_object__find_map_fd_by_name(k->object, "admission");
        /* First of all: nothing shall keep us out. */
        r = be_let_through(k);
        if (r < 0)
                return r;
        for (size_t i = 0; i < N_PROGRAMS; i++) {
                p = bpf_object__find_program_by_name(k->object, program_names[i]);
                k->links[i] = p ? bpf_program__attach(p) : NULL;
                if (!k->links[i])
                        return p ? -errno : -EBADMSG;
        }
        k->flights = attach_iterator(k, "egm_flights");
        k->watches = attach_iterator(k, "egm_bearers");
        k->mappings = attach_iterator(k, "egm_mappings");
        k->admit = attach_iterator(k, "egm_admit");
        p = bpf_object__find_program_by_name(k->object, "egm_moves");
        k->moves = p && bpf_program__autoload(p) ? bpf_program__attach(p) : NULL;
        if (!k->admit)
                return -EOPNOTSUPP;
        return pin_all(k);
}

static int begin(Kernel **ret, bool *ret_continued) {
        _cleanup_(kernel_freep) Kernel *k = malloc(sizeof(*k));
        int r;

        if (!k)
                return -ENOMEM;
        *k = (Kernel){.dir = -EBADF};
        r = enforce_pins_open(&k->dir);
        if (r >= 0)
                r = open_object(k);
        if (r < 0)
                return r;
        r = take_maps(k);
        if (r <= 0) {
                /* Half of it is as good as nothing, and maps of another shape are nobody's. */
                bpf_object__close(k->object);
                k->object = NULL;
                k->dir = safe_close(k->dir);
                r = enforce_remove_pins();
                if (r >= 0)
                        r = enforce_pins_open(&k->dir);
                if (r >= 0)
                        r = open_object(k);
                if (r < 0)
                        return r;
                *ret_continued = false;
        } else
                *ret_continued = true;
        r = load(k);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(k);
        return 0;
}

int enforce_load(Enforce **ret, char **ret_why) {
        _cleanup_(kernel_freep) Kernel *k = NULL;
        bool continued;
        int r;

        assert(ret);
        assert(ret_why);

        *ret_why = NULL;
        (void) libbpf_set_print(print);
        r = enforce_kernel_suits(ret_why);
        if (r < 0)
                return r;
        r = begin(&k, &continued);
        if (r >= 0)
                r = enforce_new(&kernel_ops, k, continued, ret);
        if (r < 0) {
                if (asprintf(ret_why, "the kernel does not take the programs: %s", strerror(-r)) <
                    0)
                        *ret_why = NULL;
                return r;
        }
        (void) TAKE_PTR(k);
        return 0;
}
