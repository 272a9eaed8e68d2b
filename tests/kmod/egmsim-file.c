// SPDX-License-Identifier: GPL-2.0-only
/* /dev/egmN: who may open it, what an open does to the memory, and what a mapping reaches. */
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioctl.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/moduleparam.h>
#include <linux/overflow.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/wait.h>
#include "egmsim.h"

static unsigned long scrub_step = 1UL << 30;
module_param(scrub_step, ulong, 0644);
MODULE_PARM_DESC(scrub_step, "bytes that a scrub clears at a stretch (default 1 GiB)");

/* A scrub takes minutes on the real thing; here it takes as long as the test wants. */
static bool scrub_hold;
static DECLARE_WAIT_QUEUE_HEAD(scrub_wait);

static int scrub_hold_set(const char *value, const struct kernel_param *param)
{
	int r = param_set_bool(value, param);

	wake_up_all(&scrub_wait);
	return r;
}
static const struct kernel_param_ops scrub_hold_ops = {
	.set = scrub_hold_set,
	.get = param_get_bool,
};
module_param_cb(scrub_hold, &scrub_hold_ops, &scrub_hold, 0644);
MODULE_PARM_DESC(scrub_hold, "every scrub stands still before its next step while this is set");

static int scrub_range(struct egmsim_node *node, u64 offset, u64 size)
{
	void *p = memremap(node->phys + offset, size, MEMREMAP_WB);

	if (!p)
		return -node->variant->memremap_errno;
	memset(p, 0, size);
	memunmap(p);
	return 0;
}

static int scrub_steps(struct egmsim_node *node, bool interruptible)
{
	u64 step = max(PAGE_ALIGN(READ_ONCE(scrub_step)), PAGE_SIZE), offset;
	int r;

	for (offset = 0; offset < node->size; offset += step) {
		wait_event(scrub_wait, !READ_ONCE(scrub_hold));
		if (interruptible && fatal_signal_pending(current))
			return -EINTR;
		r = scrub_range(node, offset, min(step, node->size - offset));
		if (r)
			return r;
		WRITE_ONCE(node->cleared, min(offset + step, node->size));
		cond_resched();
	}
	return 0;
}

static int scrub(struct egmsim_node *node, bool interruptible)
{
	int r;

	atomic_inc(&node->scrubs);
	WRITE_ONCE(node->cleared, 0);
	WRITE_ONCE(node->scrubbing, true);
	r = scrub_steps(node, interruptible);
	WRITE_ONCE(node->scrubbing, false);
	return r;
}

/* memremap() of nothing fails, and the first two versions map the region as a whole. */
static int scrub_whole(struct egmsim_node *node)
{
	return node->size ? scrub(node, false) : -node->variant->memremap_errno;
}

/* The second file is there, but of no use, and it counts. */
static int open_k2(struct egmsim_node *node, struct file *file)
{
	int r;

	if (atomic_inc_return(&node->opens) > 1)
		return 0;

	r = scrub_whole(node);
	if (r) {
		atomic_dec(&node->opens);
		return r;
	}
	file->private_data = node;
	return 0;
}

static int open_r2(struct egmsim_node *node, struct file *file)
{
	int r;

	if (atomic_cmpxchg(&node->opens, 0, 1))
		return -EBUSY;

	r = scrub_whole(node);
	if (r) {
		atomic_set(&node->opens, 0);
		return r;
	}
	file->private_data = node;
	return 0;
}

static int open_s3(struct egmsim_node *node, struct file *file)
{
	int r = 0;

	atomic_inc(&node->waiting);
	mutex_lock(&node->open_lock);
	atomic_dec(&node->waiting);
	if (atomic_read(&node->opens) == 0)
		r = scrub(node, false);
	if (!r) {
		atomic_inc(&node->opens);
		file->private_data = node;
	}
	mutex_unlock(&node->open_lock);
	return r;
}

static int open_s4(struct egmsim_node *node, struct file *file)
{
	int r;

	atomic_inc(&node->waiting);
	r = mutex_lock_killable(&node->open_lock);
	atomic_dec(&node->waiting);
	if (r)
		return r;

	r = atomic_read(&node->opens) ? -EBUSY : scrub(node, true);
	if (!r) {
		atomic_set(&node->opens, 1);
		file->private_data = node;
	}
	mutex_unlock(&node->open_lock);
	return r;
}

int egmsim_check_end(const struct egmsim_node *node, u64 offset, u64 size)
{
	phys_addr_t start;
	u64 end;

	if (check_add_overflow(node->phys, offset, &start) ||
	    check_add_overflow(offset, size, &end))
		return -EOVERFLOW;
	return end > node->size ? -EINVAL : 0;
}

static u64 vma_size(const struct vm_area_struct *vma)
{
	return vma->vm_end - vma->vm_start;
}

static u64 vma_offset(const struct vm_area_struct *vma)
{
	return (u64) vma->vm_pgoff << PAGE_SHIFT;
}

/* Whatever offset was asked for, and however much: from the region's start, unchecked. */
static int map_k2(const struct egmsim_node *node, const struct vm_area_struct *vma, u64 *offset)
{
	*offset = 0;
	return 0;
}

static int map_r2(const struct egmsim_node *node, const struct vm_area_struct *vma, u64 *offset)
{
	*offset = vma_offset(vma) & (BIT_ULL(40) - 1);
	return egmsim_check_end(node, *offset, vma_size(vma));
}

static int map_s(const struct egmsim_node *node, const struct vm_area_struct *vma, u64 *offset)
{
	*offset = vma_offset(vma);
	if (*offset >= node->size)
		return -EINVAL;
	return egmsim_check_end(node, *offset, vma_size(vma));
}

const struct egmsim_variant egmsim_variants[] = {
	{
		.name = "K2",
		.follows_gpus = true,
		.gpu_file = true,
		.open = open_k2,
		.map = map_k2,
		.memremap_errno = EINVAL,
		.bounds = EGMSIM_BOUNDS_NONE,
		.runtime_poison = true,
	},
	{
		.name = "R2",
		.follows_gpus = true,
		.aux_parent = true,
		.open = open_r2,
		.map = map_r2,
		.memremap_errno = ENOMEM,
		.bounds = EGMSIM_BOUNDS_NONE,
		.runtime_poison = true,
	},
	{
		.name = "D",
		.follows_gpus = true,
		.aux_parent = true,
		.open = open_r2,
		.map = map_r2,
		.memremap_errno = ENOMEM,
		.bounds = EGMSIM_BOUNDS_NONE,
		.runtime_poison = true,
		.exports = true,
	},
	{
		.name = "S3",
		.open = open_s3,
		.map = map_s,
		.memremap_errno = ENOMEM,
		.bounds = EGMSIM_BOUNDS_ENTRY,
		.whole_entries = true,
		.runtime_poison = true,
	},
	{
		.name = "S4",
		.open = open_s4,
		.map = map_s,
		.memremap_errno = ENOMEM,
		.bounds = EGMSIM_BOUNDS_BASE,
		.whole_entries = true,
		.ascending = true,
	},
	{},
};

static int sim_open(struct inode *inode, struct file *file)
{
	struct egmsim_node *node = container_of(inode->i_cdev, struct egmsim_node, cdev);

	file->f_mapping = node->inode->i_mapping;
	return node->variant->open(node, file);
}

static int sim_release(struct inode *inode, struct file *file)
{
	struct egmsim_node *node = container_of(inode->i_cdev, struct egmsim_node, cdev);

	atomic_dec(&node->opens);
	return 0;
}

static bool is_cow(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE;
}

/*
 * The page frame behind an address: vm_pgoff says what was asked for (or, for private mappings,
 * what remap_pfn_range() made of it), vm_private_data by how much that is off. Moves and splits
 * keep both.
 */
static unsigned long vma_pfn(const struct vm_area_struct *vma, unsigned long address)
{
	return vma->vm_pgoff + ((address - vma->vm_start) >> PAGE_SHIFT) +
	       (unsigned long) vma->vm_private_data;
}

/* Only reached where poison took a page out, and next to it. */
static vm_fault_t sim_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct egmsim_node *node = vma->vm_file->private_data;
	unsigned long pfn = vma_pfn(vma, vmf->address & PAGE_MASK);
	vm_fault_t ret;

	mutex_lock(&node->retired_lock);
	if (egmsim_pages_has(&node->poisoned, PFN_PHYS(pfn) - node->phys))
		ret = VM_FAULT_HWPOISON;
	else if (is_cow(vma))
		ret = VM_FAULT_SIGBUS;
	else
		ret = vmf_insert_pfn(vma, vmf->address & PAGE_MASK, pfn);
	mutex_unlock(&node->retired_lock);
	return ret;
}

static const struct vm_operations_struct sim_vm_ops = { .fault = sim_fault };

static bool zap_pfn(struct vm_area_struct *vma, unsigned long pfn)
{
	unsigned long first = vma_pfn(vma, vma->vm_start);

	if (pfn < first || pfn - first >= vma_pages(vma))
		return false;
	/* Else there may be a private copy of the page, which is as good as before. */
	if (!is_cow(vma))
		zap_vma_ptes(vma, vma->vm_start + ((pfn - first) << PAGE_SHIFT), PAGE_SIZE);
	return true;
}

/* Takes a page from everybody. Returns whether anybody had it. */
bool egmsim_unmap_page(struct egmsim_node *node, u64 offset)
{
	struct address_space *mapping = node->inode->i_mapping;
	unsigned long pfn = PHYS_PFN(node->phys + offset);
	struct rb_node *rb;
	bool mapped = false;

	i_mmap_lock_read(mapping);
	for (rb = rb_first_cached(&mapping->i_mmap); rb; rb = rb_next(rb))
		if (zap_pfn(rb_entry(rb, struct vm_area_struct, shared.rb), pfn))
			mapped = true;
	i_mmap_unlock_read(mapping);

	/* Private mappings have the page frame for an offset. Copies of it stay. */
	unmap_mapping_range(mapping, PFN_PHYS(pfn), PAGE_SIZE, 0);
	return mapped;
}

static int sim_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct egmsim_node *node = file->private_data;
	unsigned long pfn;
	u64 offset = 0;
	u32 i;
	int r;

	if (!node)
		return -EINVAL;

	r = node->variant->map(node, vma, &offset);
	if (r)
		return r;

	pfn = PHYS_PFN(node->phys + offset);
	r = remap_pfn_range(vma, vma->vm_start, pfn, vma_size(vma), vma->vm_page_prot);
	if (r)
		return r;
	vma->vm_private_data = (void *) (pfn - vma->vm_pgoff);
	vma->vm_ops = &sim_vm_ops;

	mutex_lock(&node->retired_lock);
	for (i = 0; i < node->poisoned.n; i++) {
		u64 at = node->poisoned.offset[i] - offset;

		if (node->poisoned.offset[i] >= offset && at < vma_size(vma))
			zap_vma_ptes(vma, vma->vm_start + at, PAGE_SIZE);
	}
	mutex_unlock(&node->retired_lock);
	return 0;
}

static long sim_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct egmsim_node *node = file->private_data;

	if (node && node->variant->exports && cmd == EGMSIM_EXPORT_DMABUF)
		return egmsim_export_ioctl(node, (void __user *) arg);
	return egmsim_retired_ioctl(node, cmd, (void __user *) arg);
}

const struct file_operations egmsim_fops = {
	.owner = THIS_MODULE,
	.open = sim_open,
	.release = sim_release,
	.mmap = sim_mmap,
	.unlocked_ioctl = sim_ioctl,
};

static ssize_t sim_state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct egmsim_node *node = container_of(dev, struct egmsim_node, dev);

	return sysfs_emit(
		buf, "variant=%s opens=%d waiting=%d scrubs=%d scrubbing=%d cleared=%llu exports=%d\n",
		node->variant->name, atomic_read(&node->opens), atomic_read(&node->waiting),
		atomic_read(&node->scrubs), READ_ONCE(node->scrubbing), READ_ONCE(node->cleared),
		atomic_read(&node->n_exports));
}
static DEVICE_ATTR_RO(sim_state);

static struct attribute *file_attrs[] = { &dev_attr_sim_state.attr, NULL };
const struct attribute_group egmsim_file_group = { .attrs = file_attrs };

/* A file system of inodes that nobody sees: a device node's own may go while it is mapped. */
static int sim_fs_init_context(struct fs_context *context)
{
	return init_pseudo(context, 0x45474d53) ? 0 : -ENOMEM;
}

/* Without an owner: its superblock lives as long as any node and would keep the module. */
static struct file_system_type sim_fs = {
	.name = "egmsim",
	.init_fs_context = sim_fs_init_context,
	.kill_sb = kill_anon_super,
};

static struct vfsmount *sim_mount;
static int sim_mount_count;

int egmsim_node_get_inode(struct egmsim_node *node)
{
	struct inode *inode;
	int r;

	r = simple_pin_fs(&sim_fs, &sim_mount, &sim_mount_count);
	if (r)
		return r;

	inode = alloc_anon_inode(sim_mount->mnt_sb);
	if (IS_ERR(inode)) {
		simple_release_fs(&sim_mount, &sim_mount_count);
		return PTR_ERR(inode);
	}
	node->inode = inode;
	return 0;
}

void egmsim_node_put_inode(struct egmsim_node *node)
{
	if (!node->inode)
		return;
	iput(node->inode);
	simple_release_fs(&sim_mount, &sim_mount_count);
}
