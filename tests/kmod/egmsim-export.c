// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dma-bufs of parts of a region, as driver version D exports them. It gives importers nothing but
 * lists of physical addresses, which takes a kernel with patches of its own; here nobody can import.
 */
#include <linux/dma-buf.h>
#include <linux/ioctl.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include "egmsim.h"

struct export_range {
	u64 offset;
	u64 length;
};

struct export_header {
	u32 argsz; /* never looked at */
	u32 flags;
	u32 nr_ranges;
	u32 open_flags;
};

/* Holds the node, but no file of it: the region can be opened, and cleared, under it. */
struct export {
	struct list_head entry;
	struct egmsim_node *node;
	struct dma_buf *dmabuf; /* NULL: not yet */
	bool revoked;
	u32 n;
	struct export_range *ranges;
};

/* The driver has no mapping of its dma-bufs by a CPU; a test wants to see what they are of. */
static bool dmabuf_mmap;
module_param(dmabuf_mmap, bool, 0644);
MODULE_PARM_DESC(dmabuf_mmap, "dma-bufs can be mapped");

static int export_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attachment)
{
	struct export *export = dmabuf->priv;

	return READ_ONCE(export->revoked) ? -ENODEV : 0;
}

static struct sg_table *export_map(struct dma_buf_attachment *attachment, enum dma_data_direction direction)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void export_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			 enum dma_data_direction direction)
{
}

static void export_free(struct export *export)
{
	struct egmsim_node *node = export->node;

	mutex_lock(&node->exports_lock);
	list_del(&export->entry);
	mutex_unlock(&node->exports_lock);
	atomic_dec(&node->n_exports);
	kvfree(export->ranges);
	kfree(export);
	put_device(&node->dev);
}

static void export_release(struct dma_buf *dmabuf)
{
	export_free(dmabuf->priv);
}

/* The ranges one after the other. */
static vm_fault_t export_fault(struct vm_fault *vmf)
{
	const struct export *export = vmf->vma->vm_private_data;
	u64 at = (u64) vmf->pgoff << PAGE_SHIFT;
	u32 i;

	if (READ_ONCE(export->revoked))
		return VM_FAULT_SIGBUS;
	for (i = 0; i < export->n && at >= export->ranges[i].length; i++)
		at -= export->ranges[i].length;
	if (i == export->n)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(vmf->vma, vmf->address & PAGE_MASK,
			      PHYS_PFN(export->node->phys + export->ranges[i].offset + at));
}

static const struct vm_operations_struct export_vm_ops = { .fault = export_fault };

/*
 * That it ends with the dma-buf was checked before. Page by page: remap_pfn_range() of less than the
 * whole mapping wants all of it to have one memory type, which on x86 depends on what others map of
 * it at that moment.
 */
static int export_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct export *export = dmabuf->priv;

	if (!dmabuf_mmap || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (READ_ONCE(export->revoked))
		return -ENODEV;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags |= VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP;
#else
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
#endif
	vma->vm_private_data = export;
	vma->vm_ops = &export_vm_ops;
	return 0;
}

static const struct dma_buf_ops export_ops = {
	.attach = export_attach,
	.map_dma_buf = export_map,
	.unmap_dma_buf = export_unmap,
	.release = export_release,
	.mmap = export_mmap,
};

static int check_ranges(const struct egmsim_node *node, const struct export_range *ranges, u32 n,
			size_t *ret_size)
{
	size_t sum = 0;
	u32 i;
	int r;

	for (i = 0; i < n; i++) {
		if (!ranges[i].length || !PAGE_ALIGNED(ranges[i].offset) ||
		    !PAGE_ALIGNED(ranges[i].length) ||
		    check_add_overflow(sum, ranges[i].length, &sum))
			return -EINVAL;
		r = egmsim_check_end(node, ranges[i].offset, ranges[i].length);
		if (r)
			return r;
	}
	*ret_size = sum;
	return 0;
}

/* Consumes the ranges. */
static struct export *export_new(struct egmsim_node *node, struct export_range *ranges, u32 n)
{
	struct export *export = kzalloc(sizeof(*export), GFP_KERNEL);

	if (!export) {
		kvfree(ranges);
		return NULL;
	}
	export->node = node;
	export->ranges = ranges;
	export->n = n;
	get_device(&node->dev);
	atomic_inc(&node->n_exports);
	mutex_lock(&node->exports_lock);
	list_add(&export->entry, &node->exports);
	export->revoked = node->revoked;
	mutex_unlock(&node->exports_lock);
	return export;
}

static long export_ranges(struct egmsim_node *node, struct export_range *ranges,
			  const struct export_header *header)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct export *export;
	struct dma_buf *dmabuf;
	size_t size;
	int r;

	r = check_ranges(node, ranges, header->nr_ranges, &size);
	if (r) {
		kvfree(ranges);
		return r;
	}
	export = export_new(node, ranges, header->nr_ranges);
	if (!export)
		return -ENOMEM;

	info.ops = &export_ops;
	info.size = size;
	info.flags = header->open_flags;
	info.priv = export;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		export_free(export);
		return PTR_ERR(dmabuf);
	}
	mutex_lock(&node->exports_lock);
	export->dmabuf = dmabuf;
	mutex_unlock(&node->exports_lock);
	r = dma_buf_fd(dmabuf, header->open_flags);
	if (r < 0)
		dma_buf_put(dmabuf);
	return r;
}

long egmsim_export_ioctl(struct egmsim_node *node, void __user *arg)
{
	struct export_header header;
	struct export_range *ranges;

	if (copy_from_user(&header, arg, sizeof(header)))
		return -EFAULT;
	if (header.flags || !header.nr_ranges)
		return -EINVAL;
	ranges = vmemdup_user(arg + sizeof(header), array_size(header.nr_ranges, sizeof(*ranges)));
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	return export_ranges(node, ranges, &header);
}

/* The device goes: nobody imports what there is of it any more. */
void egmsim_export_revoke(struct egmsim_node *node)
{
	struct export *export;

	mutex_lock(&node->exports_lock);
	node->revoked = true;
	list_for_each_entry(export, &node->exports, entry) {
		WRITE_ONCE(export->revoked, true);
		if (export->dmabuf)
			unmap_mapping_range(export->dmabuf->file->f_mapping, 0, 0, 1);
	}
	mutex_unlock(&node->exports_lock);
}

MODULE_IMPORT_NS(DMA_BUF);
