// SPDX-License-Identifier: GPL-2.0-only
/*
 * GPUs out of thin air: each has a PCI domain of its own with a root bus, a bridge and the GPU
 * behind it, all of them a few bytes of configuration space. QEMU has domain 0000 only.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include "egmsim.h"

#define PCI_DEVICE_ID_NVIDIA_GRACE_ROOT_PORT 0x22b1
#define PCI_DEVICE_ID_NVIDIA_GB200 0x2941

struct egmsim_fake {
	struct pci_sysdata sysdata;
	struct resource busn;
	struct pci_bus *root;
	struct egmsim_region *region;
	u8 bridge[256];
	u8 gpu[256];
};

static struct egmsim_fake *fake_of(struct pci_bus *bus)
{
	return container_of((struct pci_sysdata *) bus->sysdata, struct egmsim_fake, sysdata);
}

static int fake_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *ret)
{
	struct egmsim_fake *fake = fake_of(bus);
	const u8 *config = bus->number == 0 ? fake->bridge : fake->gpu;

	*ret = ~0;
	if (devfn || bus->number > 1 || where + size > sizeof(fake->gpu))
		return PCIBIOS_DEVICE_NOT_FOUND;

	*ret = 0;
	memcpy(ret, config + where, size);
	return PCIBIOS_SUCCESSFUL;
}

/* No BARs, no windows, no command bits: nothing here can be written. */
static int fake_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 value)
{
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops fake_ops = { .read = fake_read, .write = fake_write };

static void put_le16(u8 *config, int where, u16 value)
{
	config[where] = value;
	config[where + 1] = value >> 8;
}

static void fake_fill(struct egmsim_fake *fake)
{
	put_le16(fake->bridge, PCI_VENDOR_ID, PCI_VENDOR_ID_NVIDIA);
	put_le16(fake->bridge, PCI_DEVICE_ID, PCI_DEVICE_ID_NVIDIA_GRACE_ROOT_PORT);
	put_le16(fake->bridge, PCI_CLASS_DEVICE, PCI_CLASS_BRIDGE_PCI);
	fake->bridge[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE;
	fake->bridge[PCI_SECONDARY_BUS] = 1;
	fake->bridge[PCI_SUBORDINATE_BUS] = 1;
	put_le16(fake->bridge, PCI_MEMORY_BASE, 0xfff0); /* above its limit: no window */

	put_le16(fake->gpu, PCI_VENDOR_ID, PCI_VENDOR_ID_NVIDIA);
	put_le16(fake->gpu, PCI_DEVICE_ID, PCI_DEVICE_ID_NVIDIA_GB200);
	put_le16(fake->gpu, PCI_CLASS_DEVICE, PCI_CLASS_DISPLAY_3D);
	fake->gpu[PCI_CLASS_REVISION] = 0xa1;
}

static void fake_free(struct egmsim_fake *fake)
{
	if (fake->root) {
		pci_lock_rescan_remove();
		pci_stop_root_bus(fake->root);
		pci_remove_root_bus(fake->root);
		pci_unlock_rescan_remove();
	}
	kfree(fake);
}

static struct egmsim_fake *fake_new(struct egmsim_region *region, unsigned int index)
{
	struct egmsim_fake *fake = kzalloc(sizeof(*fake), GFP_KERNEL);
	LIST_HEAD(resources);

	if (!fake)
		return ERR_PTR(-ENOMEM);

	/* As the firmware counts: the socket is bits 4..7 of the domain. */
	fake->sysdata.domain = ((region->id & 3) << 4) + 8 + index;
	fake->sysdata.node = region->numa_node;
	fake->region = region;
	fake->busn = (struct resource){
		.name = "egmsim", .start = 0, .end = 1, .flags = IORESOURCE_BUS
	};
	fake_fill(fake);

	pci_add_resource(&resources, &fake->busn);
	pci_lock_rescan_remove();
	fake->root = pci_create_root_bus(NULL, 0, &fake_ops, &fake->sysdata, &resources);
	if (fake->root) {
		pci_scan_child_bus(fake->root);
		pci_bus_add_devices(fake->root);
	}
	pci_unlock_rescan_remove();

	if (!fake->root) {
		pci_free_resource_list(&resources);
		fake_free(fake);
		return ERR_PTR(-ENODEV);
	}
	return fake;
}

static struct pci_dev *fake_gpu(struct egmsim_fake *fake)
{
	return pci_get_domain_bus_and_slot(fake->sysdata.domain, 1, 0);
}

/* Plugs in or pulls out GPUs, always the one with the highest domain, until there are n. */
int egmsim_pci_set_gpus(struct egmsim_region *region, unsigned int n)
{
	int r = 0;

	if (n > EGMSIM_GPUS_MAX)
		return -ERANGE;

	mutex_lock(&region->fakes_lock);
	while (region->n_fakes > n)
		fake_free(region->fakes[--region->n_fakes]);
	while (region->n_fakes < n) {
		struct egmsim_fake *fake = fake_new(region, region->n_fakes);

		if (IS_ERR(fake)) {
			r = PTR_ERR(fake);
			break;
		}
		region->fakes[region->n_fakes++] = fake;
	}
	mutex_unlock(&region->fakes_lock);
	return r;
}

/* The standalone drivers' walk over the PCI devices at load; who is bound does not matter. */
void egmsim_pci_collect_gpus(struct egmsim_region *region)
{
	unsigned int i;

	mutex_lock(&region->fakes_lock);
	mutex_lock(&region->lock);
	if (!region->node) {
		egmsim_region_forget_gpus(region);
		for (i = 0; i < region->n_fakes; i++) {
			struct pci_dev *gpu = fake_gpu(region->fakes[i]);

			if (gpu)
				region->gpus[region->n_gpus++] = gpu;
		}
	}
	mutex_unlock(&region->lock);
	mutex_unlock(&region->fakes_lock);
}

static int driver_probe(struct pci_dev *gpu, const struct pci_device_id *id)
{
	struct egmsim_region *region;

	if (gpu->bus->ops != &fake_ops)
		return -ENODEV;

	region = fake_of(gpu->bus)->region;
	if (!region->variant->follows_gpus)
		return 0;
	return egmsim_region_add_gpu(region, gpu);
}

static void driver_remove(struct pci_dev *gpu)
{
	struct egmsim_region *region = fake_of(gpu->bus)->region;

	if (region->variant->follows_gpus)
		egmsim_region_remove_gpu(region, gpu);
}

/* Not in the module's alias table: udev must not load the module for a GPU it made itself. */
static const struct pci_device_id driver_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_NVIDIA, PCI_DEVICE_ID_NVIDIA_GB200) }, {}
};

static struct pci_driver driver = {
	.id_table = driver_ids,
	.probe = driver_probe,
	.remove = driver_remove,
};

int egmsim_pci_register_driver(const char *name)
{
	int r;

	if (!*name)
		return 0;

	driver.name = name;
	r = pci_register_driver(&driver);
	if (r)
		driver.name = NULL;
	return r;
}

void egmsim_pci_unregister_driver(void)
{
	if (driver.name)
		pci_unregister_driver(&driver);
	driver.name = NULL;
}
