// SPDX-License-Identifier: GPL-2.0-only
/*
 * egmsim: stands in for NVIDIA's EGM driver in a test VM. Reserved physical memory becomes
 * /dev/egmN, with GPUs made up to go with it, and behaves as one of the driver's versions does.
 */
#include <linux/ioport.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/version.h>
#include "egmsim.h"

static char *variant = "S4";
module_param(variant, charp, 0444);
MODULE_PARM_DESC(variant, "K2, R2, D, S3 or S4");

static unsigned int regions = 2;
module_param(regions, uint, 0444);
MODULE_PARM_DESC(regions, "how many of the following to make (default 2)");

static int id[EGMSIM_REGIONS_MAX] = { 4, 5, 6, 7 };
module_param_array(id, int, NULL, 0444);
MODULE_PARM_DESC(id, "proximity domains: the N of /dev/egmN");

static unsigned long long phys[EGMSIM_REGIONS_MAX] = { 0x30000000, 0x110000000 };
module_param_array(phys, ullong, NULL, 0444);
MODULE_PARM_DESC(phys, "where the regions lie; reserve with memmap=SIZE$START");

static unsigned long long size[EGMSIM_REGIONS_MAX] = { 256 << 20, 256 << 20 };
module_param_array(size, ullong, NULL, 0444);
MODULE_PARM_DESC(size, "bytes of each");

static int node[EGMSIM_REGIONS_MAX] = { 0, 1, NUMA_NO_NODE, NUMA_NO_NODE };
module_param_array(node, int, NULL, 0444);
MODULE_PARM_DESC(node, "NUMA nodes of their GPUs");

static unsigned int gpus = 2;
module_param(gpus, uint, 0444);
MODULE_PARM_DESC(gpus, "GPUs of each region at load (default 2)");

static char *driver = "nvgrace-gpu-vfio-pci";
module_param(driver, charp, 0444);
MODULE_PARM_DESC(driver, "name of the PCI driver that the GPUs are bound to; empty: none");

static unsigned int late_ms;
module_param(late_ms, uint, 0444);
MODULE_PARM_DESC(late_ms, "how long after the device the GPUs (K2: and egm_size) show up");

static char *retired = "";
module_param(retired, charp, 0444);
MODULE_PARM_DESC(retired, "firmware's list, such as 4:0x10000,4:0x200000*3,5:0xffffffffffff0000");

struct class *egmsim_class;
struct workqueue_struct *egmsim_wq;
dev_t egmsim_devt;
unsigned int egmsim_late_ms;
const char *egmsim_retired;

static struct egmsim_region *all[EGMSIM_REGIONS_MAX];
static struct kobject *control;

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
static char *egm_devnode(struct device *dev, umode_t *mode)
#else
static char *egm_devnode(const struct device *dev, umode_t *mode)
#endif
{
	if (mode)
		*mode = 0600;
	return NULL;
}

static struct class egm_class = { .name = "egm", .devnode = egm_devnode };

/* ---- /sys/kernel/egmsim/egmN: what no driver has, for the tests ---- */

static struct egmsim_region *region_of(struct kobject *kobj)
{
	unsigned int i;

	for (i = 0; i < regions; i++)
		if (all[i]->control == kobj)
			return all[i];
	return NULL;
}

static ssize_t present_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct egmsim_region *region = region_of(kobj);

	return region ? sysfs_emit(buf, "%d\n", !!READ_ONCE(region->node)) : -ENODEV;
}

static ssize_t present_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t n)
{
	struct egmsim_region *region = region_of(kobj);
	bool present;
	int r;

	r = kstrtobool(buf, &present);
	if (r)
		return r;
	if (!region)
		return -ENODEV;
	if (present)
		r = egmsim_region_appear(region);
	else
		egmsim_region_vanish(region);
	return r ? r : n;
}

static ssize_t gpus_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct egmsim_region *region = region_of(kobj);

	return region ? sysfs_emit(buf, "%u\n", READ_ONCE(region->n_fakes)) : -ENODEV;
}

static ssize_t gpus_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			  size_t n)
{
	struct egmsim_region *region = region_of(kobj);
	unsigned int count;
	int r;

	r = kstrtouint(buf, 0, &count);
	if (r)
		return r;
	r = region ? egmsim_pci_set_gpus(region, count) : -ENODEV;
	return r ? r : n;
}

static ssize_t publish_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t n)
{
	struct egmsim_region *region = region_of(kobj);

	if (!region)
		return -ENODEV;
	egmsim_region_publish(region);
	return n;
}

static struct kobj_attribute publish_attr = __ATTR_WO(publish);
static struct kobj_attribute present_attr = __ATTR_RW(present);
static struct kobj_attribute gpus_attr = __ATTR_RW(gpus);
static struct attribute *control_attrs[] = { &present_attr.attr, &gpus_attr.attr,
					     &publish_attr.attr, NULL };
static const struct attribute_group control_group = { .attrs = control_attrs };

static int region_add_control(struct egmsim_region *region)
{
	char name[16];

	snprintf(name, sizeof(name), "egm%d", region->id);
	region->control = kobject_create_and_add(name, control);
	if (!region->control)
		return -ENOMEM;
	return sysfs_create_group(region->control, &control_group);
}

/* ---- coming and going ---- */

static const struct egmsim_variant *find_variant(const char *name)
{
	const struct egmsim_variant *v;

	for (v = egmsim_variants; v->name; v++)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

static int check_region(unsigned int i)
{
	if (id[i] < 0 || id[i] >= EGMSIM_MINORS)
		return -ERANGE;
	if (!PAGE_ALIGNED(phys[i]) || !PAGE_ALIGNED(size[i]))
		return -EINVAL;
	if (size[i] && region_intersects(phys[i], size[i], IORESOURCE_SYSTEM_RAM,
					 IORES_DESC_NONE) != REGION_DISJOINT) {
		pr_err("egm%d: %#llx+%#llx is the kernel's own memory\n", id[i], phys[i], size[i]);
		return -EBUSY;
	}
	return 0;
}

static struct egmsim_region *region_new(unsigned int i, const struct egmsim_variant *v)
{
	struct egmsim_region *region = kzalloc(sizeof(*region), GFP_KERNEL);

	if (!region)
		return NULL;
	region->id = id[i];
	region->phys = phys[i];
	region->size = size[i];
	region->numa_node = node[i];
	region->variant = v;
	mutex_init(&region->fakes_lock);
	mutex_init(&region->lock);
	return region;
}

static int make_regions(const struct egmsim_variant *v)
{
	unsigned int i;
	int r;

	for (i = 0; i < regions; i++) {
		r = check_region(i);
		if (r)
			return r;
		all[i] = region_new(i, v);
		if (!all[i])
			return -ENOMEM;
		r = egmsim_pci_set_gpus(all[i], gpus);
		if (r)
			return r;
	}

	/* One kind of driver makes the regions when it is bound, the other all by itself. */
	r = egmsim_pci_register_driver(driver);
	for (i = 0; !r && i < regions && !v->follows_gpus; i++)
		r = egmsim_region_appear(all[i]);
	for (i = 0; !r && i < regions; i++)
		r = region_add_control(all[i]);
	return r;
}

static void unmake_regions(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(all) && all[i]; i++)
		kobject_put(all[i]->control);
	for (i = 0; i < ARRAY_SIZE(all) && all[i]; i++)
		egmsim_region_vanish(all[i]);
	egmsim_pci_unregister_driver();
	flush_workqueue(egmsim_wq);
	for (i = 0; i < ARRAY_SIZE(all) && all[i]; i++) {
		egmsim_region_forget_gpus(all[i]);
		egmsim_pci_set_gpus(all[i], 0);
		kfree(all[i]);
		all[i] = NULL;
	}
}

static void teardown(void)
{
	unmake_regions();
	kobject_put(control);
	if (egmsim_class)
		class_unregister(egmsim_class);
	unregister_chrdev_region(egmsim_devt, EGMSIM_MINORS);
	destroy_workqueue(egmsim_wq);
}

static int setup(const struct egmsim_variant *v)
{
	int r;

	/* S4 does not even make its class where it finds no EGM. */
	if (regions > 0 || strcmp(v->name, "S4")) {
		r = class_register(&egm_class);
		if (r)
			return r;
		egmsim_class = &egm_class;
	}

	control = kobject_create_and_add("egmsim", kernel_kobj);
	if (!control)
		return -ENOMEM;
	return make_regions(v);
}

static int __init egmsim_init(void)
{
	const struct egmsim_variant *v = find_variant(variant);
	int r;

	if (!v || regions > EGMSIM_REGIONS_MAX)
		return -EINVAL;
	egmsim_late_ms = late_ms;
	egmsim_retired = retired;

	egmsim_wq = alloc_workqueue("egmsim", 0, 0);
	if (!egmsim_wq)
		return -ENOMEM;
	r = alloc_chrdev_region(&egmsim_devt, 0, EGMSIM_MINORS, "egm");
	if (r) {
		destroy_workqueue(egmsim_wq);
		return r;
	}
	r = setup(v);
	if (r)
		teardown();
	return r;
}

static void __exit egmsim_exit(void)
{
	teardown();
}

module_init(egmsim_init);
module_exit(egmsim_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("stand-in for NVIDIA's EGM driver, for a test VM only");
