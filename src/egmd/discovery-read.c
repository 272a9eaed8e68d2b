/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "discovery-read.h"
#include "fd-util.h"
#include "sysfs-egm.h"

#define PCI_DEVICES "/sys/bus/pci/devices"
#define ATTRIBUTE_MAX (64 * KIB) /* sysfs itself stops at a page */

static void closedirp(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

static void udev_device_unrefp(struct udev_device **d) {
        (void) udev_device_unref(*d);
}

/* GPUs as they are found, in whatever order and as often as they are named. */
typedef struct Found {
        char **addresses; /* sorted at the end */
        size_t n;
        const char *dialect; /* of the first source that had any */
} Found;

static void found_done(Found *f) {
        f->addresses = gpu_addresses_free(f->addresses);
}

static int found_add(Found *f, const char *address, const char *dialect) {
        char **l;

        for (size_t k = 0; k < f->n; k++)
                if (streq(f->addresses[k], address))
                        return 0;
        l = reallocarray(f->addresses, f->n + 2, sizeof(*l));
        if (!l)
                return -ENOMEM;
        f->addresses = l;
        l[f->n] = strdup(address);
        if (!l[f->n])
                return -ENOMEM;
        l[++f->n] = NULL;
        if (!f->dialect)
                f->dialect = dialect;
        return 0;
}

static int compare_strings(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int read_attribute(const char *dir, const char *name, char **ret, size_t *ret_size) {
        char path[PATH_MAX];

        if ((size_t) snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
                return -ENAMETOOLONG;
        return read_full_file_at(AT_FDCWD, path, ATTRIBUTE_MAX, ret, ret_size);
}

static int found_add_file(Found *f, RegionInfo *i) {
        _cleanup_(gpu_addresses_freep) char **l = NULL;
        _cleanup_free_ char *text = NULL, *problem = NULL;
        size_t size = 0, n;
        int r;

        r = read_attribute(i->syspath, "gpu_devices", &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r == -ENOMEM)
                return r;
        f->dialect = "gpu_devices file";
        if (r < 0) {
                errno = -r;
                region_info_note(i, "gpu_devices cannot be read: %m");
                return 0;
        }
        r = sysfs_egm_parse_gpus(text, size, &l, &n, &problem);
        if (r < 0)
                return r;
        if (problem)
                region_info_note(i, "%s", problem);
        for (size_t k = 0; k < n; k++) {
                r = found_add(f, l[k], f->dialect);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int found_add_links(Found *f, RegionInfo *i, const char *dir, const char *dialect) {
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *e;
        int r;

        d = opendir(dir);
        if (!d)
                return errno == ENOMEM ? -ENOMEM : 0;
        while ((e = readdir(d))) {
                char path[PATH_MAX], target[PATH_MAX];
                struct stat st;

                if (!pci_address_is_normal(e->d_name) ||
                    (size_t) snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) >= sizeof(path))
                        continue;
                /* Below a bridge, directories have such names: those are devices, no links to
                 * GPUs. */
                if (readlink(path, target, sizeof(target)) < 0)
                        continue;
                /* The standalone driver leaves the link of a GPU that was taken out. */
                if (stat(path, &st) < 0) {
                        region_info_note(i, "link %s leads nowhere, passed over", e->d_name);
                        continue;
                }
                r = found_add(f, e->d_name, dialect);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Cuts the last component off; false at the top. */
static bool path_up(char *path) {
        char *slash = strrchr(path, '/');

        if (!slash || slash == path)
                return false;
        *slash = '\0';
        return true;
}

static const char *path_last(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

/* …/0008:01:00.0/nvgrace_gpu_vfio_pci.egm.4/egm/egm4: the auxiliary device may have the links,
 * and sits below the GPU that made it. */
static int found_add_aux(Found *f, RegionInfo *i) {
        _cleanup_free_ char *dir = NULL;
        int r;

        dir = strdup(i->syspath);
        if (!dir)
                return -ENOMEM;
        if (strncmp(dir, "/sys/devices/virtual/", 21) == 0 || !path_up(dir))
                return 0;
        if (streq(path_last(dir), "egm") && !path_up(dir))
                return 0;
        r = found_add_links(f, i, dir, "aux links");
        if (r < 0)
                return r;
        if (!path_up(dir) || !pci_address_is_normal(path_last(dir)))
                return 0;
        return found_add(f, path_last(dir), "aux parent");
}

static int find_gpus(RegionInfo *i, Found *f) {
        int r;

        r = found_add_file(f, i);
        if (r >= 0)
                r = found_add_links(f, i, i->syspath, "links");
        if (r >= 0)
                r = found_add_aux(f, i);
        if (r < 0)
                return r;
        if (f->n > 0)
                qsort(f->addresses, f->n, sizeof(*f->addresses), compare_strings);
        return 0;
}

static int read_node(RegionInfo *i, const char *dir, const char *address, int *ret) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        int node = -1, r;

        r = read_attribute(dir, "numa_node", &text, &size);
        if (r == -ENOMEM)
                return r;
        if (r >= 0 && sysfs_egm_parse_node(text, size, &node) < 0)
                region_info_note(i, "the numa_node of %s is no node number", address);
        *ret = node;
        return 0;
}

static int add_gpu(RegionInfo *i, const char *address) {
        char dir[sizeof(PCI_DEVICES) + PCI_ADDRESS_MAX + 16];
        char link[sizeof(dir) + 8], target[PATH_MAX];
        const char *driver = NULL;
        ssize_t k;
        int node, r;

        (void) snprintf(dir, sizeof(dir), PCI_DEVICES "/%.20s", address);
        r = read_node(i, dir, address, &node);
        if (r < 0)
                return r;
        (void) snprintf(link, sizeof(link), "%s/driver", dir);
        k = readlink(link, target, sizeof(target) - 1);
        if (k > 0) {
                target[k] = '\0';
                driver = path_last(target);
        }
        return region_info_add_gpu(i, address, driver, node);
}

static int read_gpus(RegionInfo *i, const RegionInfo *known, bool accept_none, bool *ret_kept) {
        _cleanup_(found_done) Found f = {};
        bool kept;
        int r;

        r = find_gpus(i, &f);
        if (r < 0)
                return r;
        kept = f.n == 0 && known && known->n_gpus > 0 && !accept_none;
        for (size_t k = 0; k < (kept ? known->n_gpus : f.n); k++) {
                r = add_gpu(i, kept ? known->gpus[k].address : f.addresses[k]);
                if (r < 0)
                        return r;
        }
        i->dialect = kept ? known->dialect : f.dialect ?: "no GPU list";
        *ret_kept = kept;
        return 0;
}

static int read_size(RegionInfo *i) {
        _cleanup_free_ char *text = NULL;
        size_t length = 0;
        int r;

        r = read_attribute(i->syspath, "egm_size", &text, &length);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && r != -ENOENT) {
                errno = -r;
                if (asprintf(&i->size_problem, "egm_size cannot be read: %m") < 0) {
                        i->size_problem = NULL;
                        return -ENOMEM;
                }
                return 0;
        }
        r = sysfs_egm_parse_size(text, length, &i->size, &i->size_problem);
        return r == -ENOMEM ? r : 0;
}

/* The node must be this very device: egmd opens it, as root, and zeroes what is behind it. */
static int read_devnode(struct udev_device *device, RegionInfo *i, char **reterr_problem) {
        const char *devnode = udev_device_get_devnode(device);
        struct stat st;
        const char *what = NULL;

        i->devnum = udev_device_get_devnum(device);
        if (!devnode || strncmp(devnode, "/dev/", 5) != 0 || major(i->devnum) == 0)
                what = "it has no device node";
        else if (lstat(devnode, &st) < 0)
                what = "its device node is not there";
        else if (!S_ISCHR(st.st_mode))
                what = "its device node is no character device";
        else if (st.st_rdev != i->devnum)
                what = "its device node is another device's";
        if (what) {
                *reterr_problem = strdup(what);
                return *reterr_problem ? -ENOTTY : -ENOMEM;
        }
        i->devnode = strdup(devnode);
        return i->devnode ? 0 : -ENOMEM;
}

static int read_identity(struct udev *udev, const char *syspath, RegionInfo *i,
                         char **reterr_problem) {
        _cleanup_(udev_device_unrefp) struct udev_device *device = NULL;
        struct stat st;
        int r;

        if (stat(syspath, &st) < 0)
                return errno == ENOMEM ? -ENOMEM : -ENODEV;
        i->inode = st.st_ino;
        device = udev_device_new_from_syspath(udev, syspath);
        if (!device)
                return errno == ENOMEM ? -ENOMEM : -ENODEV;
        i->syspath = strdup(udev_device_get_syspath(device));
        i->name = strdup(udev_device_get_sysname(device));
        if (!i->syspath || !i->name)
                return -ENOMEM;
        r = sysfs_egm_parse_name(i->name, &i->pxm);
        if (r < 0)
                return r;
        return read_devnode(device, i, reterr_problem);
}

int region_info_read(struct udev *udev, const char *syspath, const RegionInfo *known,
                     bool accept_none, RegionInfo **ret, bool *ret_gpus_kept,
                     char **reterr_problem) {
        _cleanup_(region_info_freep) RegionInfo *i = NULL;
        bool kept = false;
        struct stat st;
        int r;

        assert(udev);
        assert(syspath);
        assert(ret);
        assert(ret_gpus_kept);
        assert(reterr_problem);

        i = malloc(sizeof(*i));
        if (!i)
                return -ENOMEM;
        *i = (RegionInfo){.pxm = -1, .node = -1, .socket = -1};
        r = read_identity(udev, syspath, i, reterr_problem);
        if (r < 0)
                return r;
        if (known && !region_info_same_device(i, known))
                known = NULL;
        r = read_size(i);
        if (r >= 0)
                r = read_gpus(i, known, accept_none, &kept);
        if (r < 0)
                return r;
        region_info_locate(i);
        if (known) {
                r = region_info_keep(i, known);
                if (r < 0)
                        return r;
        }
        /* Half of one device and half of the next under the same name is neither. */
        if (stat(syspath, &st) < 0 || st.st_ino != i->inode)
                return -ENODEV;
        *ret = TAKE_PTR(i);
        *ret_gpus_kept = kept;
        return 0;
}

int region_info_read_pci(const char *syspath, RegionInfo **ret) {
        _cleanup_(region_info_freep) RegionInfo *i = NULL;
        char path[PATH_MAX];
        int r;

        assert(syspath);
        assert(ret);

        if ((size_t) snprintf(path, sizeof(path), "%s/egm_size", syspath) >= sizeof(path))
                return -ENAMETOOLONG;
        if (!pci_address_is_normal(path_last(syspath)) || access(path, F_OK) < 0)
                return -ENOENT;
        i = malloc(sizeof(*i));
        if (!i)
                return -ENOMEM;
        *i = (RegionInfo){.pxm = -1, .node = -1, .socket = -1, .dialect = "PCI attribute"};
        i->syspath = strdup(syspath);
        i->name = strdup(path_last(syspath));
        if (!i->syspath || !i->name)
                return -ENOMEM;
        r = read_size(i);
        if (r >= 0)
                r = add_gpu(i, i->name);
        if (r < 0)
                return r;
        region_info_locate(i);
        *ret = TAKE_PTR(i);
        return 0;
}
