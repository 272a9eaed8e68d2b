// SPDX-License-Identifier: GPL-2.0-only
/* A region's device: how it comes and goes, and what sysfs shows of it, and when. */
#include <linux/module.h>
#include <linux/slab.h>
#include "egmsim.h"

static struct egmsim_node *node_of(struct device *dev)
{
	return container_of(dev, struct egmsim_node, dev);
}

static ssize_t egm_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "0x%llx\n", node_of(dev)->size);
}
static DEVICE_ATTR_RO(egm_size);

static ssize_t gpu_devices_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct egmsim_node *node = node_of(dev);
	unsigned int i;
	int n = 0;

	mutex_lock(&node->listed_lock);
	for (i = 0; i < node->n_listed; i++)
		n += sysfs_emit_at(buf, n, "%s\n", pci_name(node->listed[i]));
	mutex_unlock(&node->listed_lock);
	return n;
}
static DEVICE_ATTR_RO(gpu_devices);

static struct attribute *size_attrs[] = { &dev_attr_egm_size.attr, NULL };
static const struct attribute_group size_group = { .attrs = size_attrs };

/* From before the "add" event on; K2 makes its files by hand afterwards. */
static const struct attribute_group *groups_early[] = { &size_group, &egmsim_file_group,
							&egmsim_retired_group, NULL };
static const struct attribute_group *groups_late[] = { &egmsim_file_group, &egmsim_retired_group,
						       NULL };

static void node_publish_gpu(struct egmsim_node *node, struct pci_dev *gpu)
{
	unsigned int i;

	for (i = 0; i < node->n_listed; i++)
		if (node->listed[i] == gpu)
			return;

	if (!node->variant->gpu_file &&
	    sysfs_create_link(&node->dev.kobj, &gpu->dev.kobj, pci_name(gpu)))
		return; /* pulled out meanwhile */

	mutex_lock(&node->listed_lock);
	node->listed[node->n_listed++] = pci_dev_get(gpu);
	mutex_unlock(&node->listed_lock);
}

/* Lets user space see what there is by now. Under region->lock. */
static void node_publish(struct egmsim_node *node)
{
	struct egmsim_region *region = node->region;
	unsigned int i;

	for (i = 0; i < region->n_gpus; i++)
		node_publish_gpu(node, region->gpus[i]);

	if (node->variant->gpu_file && !node->has_files) {
		node->has_files = !device_create_file(&node->dev, &dev_attr_egm_size) &&
				  !device_create_file(&node->dev, &dev_attr_gpu_devices);
		if (!node->has_files)
			dev_err(&node->dev, "cannot make the attribute files\n");
	}
}

static void node_publish_work(struct work_struct *work)
{
	struct egmsim_node *node = container_of(to_delayed_work(work), struct egmsim_node, publish);
	struct egmsim_region *region = node->region;

	mutex_lock(&region->lock);
	if (region->node == node)
		node_publish(node);
	mutex_unlock(&region->lock);
	put_device(&node->dev);
}

static void node_publish_soon(struct egmsim_node *node)
{
	if (!egmsim_late_ms) {
		node_publish(node);
		return;
	}

	get_device(&node->dev);
	if (!queue_delayed_work(egmsim_wq, &node->publish, msecs_to_jiffies(egmsim_late_ms)))
		put_device(&node->dev);
}

/* listed_lock must not be held while sysfs waits for the readers of an attribute. */
static void node_unlist(struct egmsim_node *node, unsigned int index)
{
	struct pci_dev *gpu = node->listed[index];

	mutex_lock(&node->listed_lock);
	node->n_listed--;
	memmove(&node->listed[index], &node->listed[index + 1],
		(node->n_listed - index) * sizeof(node->listed[0]));
	mutex_unlock(&node->listed_lock);

	if (!node->variant->gpu_file)
		sysfs_remove_link(&node->dev.kobj, pci_name(gpu));
	pci_dev_put(gpu);
}

static void node_release(struct device *dev)
{
	struct egmsim_node *node = node_of(dev);

	egmsim_retired_free(node);
	egmsim_node_put_inode(node);
	kfree(node);
}

static void aux_release(struct device *dev)
{
	kfree(to_auxiliary_dev(dev));
}

/* nvgrace_gpu_vfio_pci.egm.N below the first GPU */
static int node_add_aux(struct egmsim_node *node)
{
	struct auxiliary_device *aux = kzalloc(sizeof(*aux), GFP_KERNEL);
	int r;

	if (!aux)
		return -ENOMEM;

	aux->name = "egm";
	aux->id = node->region->id;
	aux->dev.parent = &node->region->gpus[0]->dev;
	aux->dev.release = aux_release;
	r = auxiliary_device_init(aux);
	if (r) {
		kfree(aux);
		return r;
	}

	r = __auxiliary_device_add(aux, "nvgrace_gpu_vfio_pci");
	if (r) {
		auxiliary_device_uninit(aux);
		return r;
	}

	node->aux = aux;
	node->dev.parent = &aux->dev;
	return 0;
}

static void node_remove_aux(struct egmsim_node *node)
{
	if (!node->aux)
		return;

	auxiliary_device_delete(node->aux);
	auxiliary_device_uninit(node->aux);
	node->aux = NULL;
}

static struct egmsim_node *node_new(struct egmsim_region *region)
{
	struct egmsim_node *node = kzalloc(sizeof(*node), GFP_KERNEL);

	if (!node)
		return NULL;

	node->region = region;
	node->variant = region->variant;
	node->phys = region->phys;
	node->size = region->size;
	mutex_init(&node->open_lock);
	mutex_init(&node->exports_lock);
	INIT_LIST_HEAD(&node->exports);
	mutex_init(&node->retired_lock);
	mutex_init(&node->listed_lock);
	INIT_DELAYED_WORK(&node->publish, node_publish_work);

	device_initialize(&node->dev);
	node->dev.class = egmsim_class;
	node->dev.devt = MKDEV(MAJOR(egmsim_devt), region->id);
	node->dev.groups = node->variant->gpu_file ? groups_late : groups_early;
	node->dev.release = node_release;
	cdev_init(&node->cdev, &egmsim_fops);
	node->cdev.owner = THIS_MODULE;
	return node;
}

static int node_add(struct egmsim_node *node)
{
	int r;

	r = dev_set_name(&node->dev, "egm%d", node->region->id);
	if (r)
		return r;

	r = egmsim_node_get_inode(node);
	if (r)
		return r;

	r = egmsim_retired_load(node);
	if (r)
		return r;

	if (node->variant->aux_parent) {
		r = node_add_aux(node);
		if (r)
			return r;
	}

	r = cdev_device_add(&node->cdev, &node->dev);
	if (r)
		node_remove_aux(node);
	return r;
}

static int region_appear(struct egmsim_region *region)
{
	struct egmsim_node *node;
	int r;

	if (region->node || region->withdrawn || (region->variant->follows_gpus && !region->n_gpus))
		return 0;

	node = node_new(region);
	if (!node)
		return -ENOMEM;

	r = node_add(node);
	if (r) {
		put_device(&node->dev);
		return r;
	}

	region->node = node;
	node_publish_soon(node);
	return 0;
}

static void region_vanish(struct egmsim_region *region)
{
	struct egmsim_node *node = region->node;

	if (!node)
		return;
	region->node = NULL;

	/* An old file of it still maps, and says that nothing is retired. */
	mutex_lock(&node->retired_lock);
	node->gone = true;
	mutex_unlock(&node->retired_lock);

	egmsim_export_revoke(node);

	if (cancel_delayed_work(&node->publish))
		put_device(&node->dev);

	while (node->n_listed > 0)
		node_unlist(node, node->n_listed - 1);
	if (node->has_files) {
		device_remove_file(&node->dev, &dev_attr_gpu_devices);
		device_remove_file(&node->dev, &dev_attr_egm_size);
	}
	cdev_device_del(&node->cdev, &node->dev);
	node_remove_aux(node);
	put_device(&node->dev);
}

void egmsim_region_forget_gpus(struct egmsim_region *region)
{
	while (region->n_gpus > 0)
		pci_dev_put(region->gpus[--region->n_gpus]);
}

int egmsim_region_appear(struct egmsim_region *region)
{
	int r;

	if (!region->variant->follows_gpus)
		egmsim_pci_collect_gpus(region);

	mutex_lock(&region->lock);
	region->withdrawn = false;
	r = region_appear(region);
	mutex_unlock(&region->lock);
	return r;
}

void egmsim_region_vanish(struct egmsim_region *region)
{
	mutex_lock(&region->lock);
	region->withdrawn = true;
	region_vanish(region);
	mutex_unlock(&region->lock);
}

void egmsim_region_publish(struct egmsim_region *region)
{
	mutex_lock(&region->lock);
	if (region->node)
		node_publish(region->node);
	mutex_unlock(&region->lock);
}

int egmsim_region_add_gpu(struct egmsim_region *region, struct pci_dev *gpu)
{
	int r = 0;

	mutex_lock(&region->lock);
	if (region->n_gpus == EGMSIM_GPUS_MAX) {
		mutex_unlock(&region->lock);
		return -ENOSPC;
	}
	region->gpus[region->n_gpus++] = pci_dev_get(gpu);
	if (region->node)
		node_publish_soon(region->node);
	else
		r = region_appear(region);
	if (r)
		pci_dev_put(region->gpus[--region->n_gpus]);
	mutex_unlock(&region->lock);
	return r;
}

void egmsim_region_remove_gpu(struct egmsim_region *region, struct pci_dev *gpu)
{
	struct egmsim_node *node;
	unsigned int i;

	mutex_lock(&region->lock);
	node = region->node;
	/* The device cannot outlive the GPU that its parent hangs on. */
	if (node && (region->n_gpus == 1 || (node->aux && node->aux->dev.parent == &gpu->dev)))
		region_vanish(region);
	if (region->node)
		for (i = 0; i < node->n_listed; i++)
			if (node->listed[i] == gpu)
				node_unlist(node, i);

	for (i = 0; i < region->n_gpus && region->gpus[i] != gpu; i++)
		;
	if (i < region->n_gpus) {
		region->n_gpus--;
		memmove(&region->gpus[i], &region->gpus[i + 1],
			(region->n_gpus - i) * sizeof(region->gpus[0]));
		pci_dev_put(gpu);
	}
	if (region_appear(region))
		pr_err("egm%d does not come back\n", region->id);
	mutex_unlock(&region->lock);
}
