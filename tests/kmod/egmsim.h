/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef EGMSIM_H
#define EGMSIM_H

#include <linux/auxiliary_bus.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#define EGMSIM_REGIONS_MAX 4
#define EGMSIM_GPUS_MAX 8 /* domains 0x8..0xf of a socket */
#define EGMSIM_MINORS 256 /* minor == PXM */
#define EGMSIM_RETIRED_PAGES_LIST _IO('E', 100)
#define EGMSIM_EXPORT_DMABUF _IOC(_IOC_READ | _IOC_WRITE, 'E', 101, 16)
#define EGMSIM_FW_ENTRY 0x10000ULL /* the firmware retires memory in units of 64 KiB */

struct egmsim_node;
struct egmsim_region;

/* Where a driver version looks before it believes an entry of the firmware's table. */
enum egmsim_bounds {
	EGMSIM_BOUNDS_NONE,
	EGMSIM_BOUNDS_BASE,  /* the entry's first byte is in the region */
	EGMSIM_BOUNDS_ENTRY, /* all 64 KiB of it are */
};

/* What tells one version of the real driver from another. */
struct egmsim_variant {
	const char *name;

	/* The device comes with the first GPU that is bound and goes with the last one. */
	bool follows_gpus;
	bool aux_parent;
	bool gpu_file; /* "gpu_devices", and both files come after the device */

	int (*open)(struct egmsim_node *node, struct file *file);
	/* Checks the request and says from which byte of the region it is mapped. */
	int (*map)(const struct egmsim_node *node, const struct vm_area_struct *vma, u64 *offset);
	int memremap_errno;

	enum egmsim_bounds bounds;
	bool whole_entries; /* reports every host page of an entry, not just its first */
	bool ascending;	    /* and without duplicates; the others: the order of a hash table */
	bool runtime_poison;
	bool exports; /* dma-bufs */
};

struct egmsim_pages {
	u64 *offset;
	u32 n;
	u32 allocated;
};

/*
 * One appearance of /dev/egmN. Lives until its last file is closed: a device that went away and
 * came back is another node, with a count and a list of its own.
 */
struct egmsim_node {
	struct device dev;
	struct cdev cdev;
	struct egmsim_region *region;
	const struct egmsim_variant *variant;
	struct auxiliary_device *aux;
	phys_addr_t phys;
	u64 size;

	struct mutex open_lock;
	atomic_t opens;
	atomic_t waiting;
	atomic_t scrubs;
	bool scrubbing;
	u64 cleared; /* by the last scrub */

	/* Every file maps through this inode, by whatever device node it was opened. */
	struct inode *inode;

	struct mutex exports_lock;
	struct list_head exports;
	atomic_t n_exports;
	bool revoked;

	struct mutex retired_lock;
	struct egmsim_pages retired;
	struct egmsim_pages poisoned;
	bool gone;

	/* What user space can see of region->gpus by now. */
	struct mutex listed_lock;
	struct pci_dev *listed[EGMSIM_GPUS_MAX];
	unsigned int n_listed;
	bool has_files;
	struct delayed_work publish;
};

struct egmsim_fake;

struct egmsim_region {
	int id;
	phys_addr_t phys;
	u64 size;
	int numa_node;
	const struct egmsim_variant *variant;

	struct mutex fakes_lock;
	struct egmsim_fake *fakes[EGMSIM_GPUS_MAX];
	unsigned int n_fakes;

	struct mutex lock; /* below */
	struct egmsim_node *node;
	bool withdrawn;			       /* by the test */
	struct pci_dev *gpus[EGMSIM_GPUS_MAX]; /* in the order in which they were bound */
	unsigned int n_gpus;

	struct kobject *control;
};

/* egmsim-main.c */
extern struct class *egmsim_class;
extern struct workqueue_struct *egmsim_wq;
extern dev_t egmsim_devt;
extern unsigned int egmsim_late_ms;
extern const char *egmsim_retired;

/* egmsim-node.c */
void egmsim_region_forget_gpus(struct egmsim_region *region);
int egmsim_region_appear(struct egmsim_region *region);
void egmsim_region_publish(struct egmsim_region *region);
void egmsim_region_vanish(struct egmsim_region *region);
int egmsim_region_add_gpu(struct egmsim_region *region, struct pci_dev *gpu);
void egmsim_region_remove_gpu(struct egmsim_region *region, struct pci_dev *gpu);

/* egmsim-file.c */
extern const struct egmsim_variant egmsim_variants[];
extern const struct file_operations egmsim_fops;
extern const struct attribute_group egmsim_file_group;
int egmsim_node_get_inode(struct egmsim_node *node);
void egmsim_node_put_inode(struct egmsim_node *node);
bool egmsim_unmap_page(struct egmsim_node *node, u64 offset);
/* Is it in the region? -EINVAL: no; -EOVERFLOW: no number is that large. */
int egmsim_check_end(const struct egmsim_node *node, u64 offset, u64 size);

/* egmsim-export.c */
long egmsim_export_ioctl(struct egmsim_node *node, void __user *arg);
void egmsim_export_revoke(struct egmsim_node *node);

/* egmsim-retired.c */
extern const struct attribute_group egmsim_retired_group;
int egmsim_retired_load(struct egmsim_node *node);
void egmsim_retired_free(struct egmsim_node *node);
long egmsim_retired_ioctl(struct egmsim_node *node, unsigned int cmd, void __user *arg);
bool egmsim_pages_has(const struct egmsim_pages *pages, u64 offset);

/* egmsim-pci.c */
#ifdef CONFIG_X86
int egmsim_pci_set_gpus(struct egmsim_region *region, unsigned int n);
void egmsim_pci_collect_gpus(struct egmsim_region *region);
int egmsim_pci_register_driver(const char *name);
void egmsim_pci_unregister_driver(void);
#else /* no GPUs, and no driver for them */
static inline int egmsim_pci_set_gpus(struct egmsim_region *region, unsigned int n)
{
	return n == 0 ? 0 : -EOPNOTSUPP;
}
static inline void egmsim_pci_collect_gpus(struct egmsim_region *region)
{
}
static inline int egmsim_pci_register_driver(const char *name)
{
	return *name ? -EOPNOTSUPP : 0;
}
static inline void egmsim_pci_unregister_driver(void)
{
}
#endif

#endif
