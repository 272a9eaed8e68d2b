// SPDX-License-Identifier: GPL-2.0-only
/* The list of retired pages: as the firmware gave it, and as each driver version repeats it. */
#include <linux/hash.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include "egmsim.h"

#define FW_ENTRIES_MAX 4096
#define HASH_BITS 10

struct list_header {
	u32 argsz;
	u32 count;
};

struct list_entry {
	u64 offset;
	u64 size;
};

/* After each answer "too short", that many more pages are found one by one. */
static unsigned int retired_growth;
module_param(retired_growth, uint, 0644);
MODULE_PARM_DESC(retired_growth, "pages retired between the two calls of a reader");

bool egmsim_pages_has(const struct egmsim_pages *pages, u64 offset)
{
	u32 i;

	for (i = 0; i < pages->n; i++)
		if (pages->offset[i] == offset)
			return true;
	return false;
}

static int pages_add(struct egmsim_pages *pages, u64 offset)
{
	if (pages->n == pages->allocated) {
		u32 n = pages->allocated ? pages->allocated * 2 : 64;
		u64 *p = kvmalloc_array(n, sizeof(*p), GFP_KERNEL);

		if (!p)
			return -ENOMEM;
		if (pages->n)
			memcpy(p, pages->offset, array_size(pages->n, sizeof(*p)));
		kvfree(pages->offset);
		pages->offset = p;
		pages->allocated = n;
	}
	pages->offset[pages->n++] = offset;
	return 0;
}

/* An entry of the firmware's table; its base may lie anywhere. */
static int add_entry(struct egmsim_node *node, u64 offset)
{
	const struct egmsim_variant *variant = node->variant;
	u64 n = variant->whole_entries ? EGMSIM_FW_ENTRY : PAGE_SIZE, end, i;
	int r;

	if (variant->bounds != EGMSIM_BOUNDS_NONE && offset >= node->size)
		return 0;
	if (variant->bounds == EGMSIM_BOUNDS_ENTRY &&
	    (check_add_overflow(offset, EGMSIM_FW_ENTRY, &end) || end > node->size))
		return 0;

	for (i = 0; i < n; i += PAGE_SIZE) {
		r = pages_add(&node->retired, offset + i);
		if (r)
			return r;
	}
	return 0;
}

static int add_entries(struct egmsim_node *node, u64 offset, unsigned int n)
{
	unsigned int i;
	int r = 0;

	if (n == 0 || n > FW_ENTRIES_MAX)
		return -ERANGE;

	mutex_lock(&node->retired_lock);
	for (i = 0; i < n && !r; i++)
		r = add_entry(node, offset + i * EGMSIM_FW_ENTRY);
	mutex_unlock(&node->retired_lock);
	return r;
}

/* "OFFSET" or "OFFSET*COUNT" */
static int parse_entries(char *s, u64 *ret_offset, unsigned int *ret_n)
{
	char *count = strchr(s, '*');
	int r;

	*ret_n = 1;
	if (count) {
		*count++ = 0;
		r = kstrtouint(count, 0, ret_n);
		if (r)
			return r;
	}
	return kstrtou64(s, 0, ret_offset);
}

/* The module's parameter: "4:0x10000,4:0x200000*3,5:0xffffffffffff0000" */
int egmsim_retired_load(struct egmsim_node *node)
{
	char *copy = kstrdup(egmsim_retired, GFP_KERNEL), *rest = copy, *item;
	unsigned int n;
	u64 offset;
	int r = 0;

	if (!copy)
		return -ENOMEM;

	while (!r && (item = strsep(&rest, ","))) {
		char *where = item;
		int id;

		if (!*item)
			continue;
		strsep(&where, ":");
		if (!where || kstrtoint(item, 0, &id)) {
			r = -EINVAL;
			break;
		}
		r = parse_entries(where, &offset, &n);
		if (!r && id == node->region->id)
			r = add_entries(node, offset, n);
	}
	kfree(copy);
	return r;
}

void egmsim_retired_free(struct egmsim_node *node)
{
	kvfree(node->retired.offset);
	kvfree(node->poisoned.offset);
}

static int compare_ascending(const void *a, const void *b)
{
	u64 x = *(const u64 *) a, y = *(const u64 *) b;

	return x < y ? -1 : x > y;
}

static int compare_hashed(const void *a, const void *b)
{
	u64 x = *(const u64 *) a, y = *(const u64 *) b;
	u32 hx = hash_64(x, HASH_BITS), hy = hash_64(y, HASH_BITS);

	if (hx != hy)
		return hx < hy ? -1 : 1;
	return -compare_ascending(a, b);
}

static u32 drop_duplicates(u64 *offset, u32 n)
{
	u32 i, kept = 0;

	for (i = 0; i < n; i++)
		if (!kept || offset[kept - 1] != offset[i])
			offset[kept++] = offset[i];
	return kept;
}

/* The pages in the order in which this version tells them. */
static int snapshot(struct egmsim_node *node, u64 **ret_offset, u32 *ret_n)
{
	u64 *copy = NULL;
	u32 n;

	mutex_lock(&node->retired_lock);
	n = node->gone ? 0 : node->retired.n;
	if (n) {
		copy = kvmalloc_array(n, sizeof(*copy), GFP_KERNEL);
		if (copy)
			memcpy(copy, node->retired.offset, array_size(n, sizeof(*copy)));
	}
	mutex_unlock(&node->retired_lock);
	if (n && !copy)
		return -ENOMEM;

	sort(copy, n, sizeof(*copy), node->variant->ascending ? compare_ascending : compare_hashed,
	     NULL);
	if (node->variant->ascending)
		n = drop_duplicates(copy, n);
	*ret_offset = copy;
	*ret_n = n;
	return 0;
}

static long put_entries(struct list_entry __user *to, const u64 *offset, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		struct list_entry e = { .offset = offset[i], .size = PAGE_SIZE };

		if (copy_to_user(to + i, &e, sizeof(e)))
			return -EFAULT;
	}
	return 0;
}

static void grow(struct egmsim_node *node)
{
	mutex_lock(&node->retired_lock);
	if (retired_growth > 0 && node->size >= (retired_growth + 1) * EGMSIM_FW_ENTRY)
		add_entry(node, node->size - retired_growth-- * EGMSIM_FW_ENTRY);
	mutex_unlock(&node->retired_lock);
}

long egmsim_retired_ioctl(struct egmsim_node *node, unsigned int cmd, void __user *arg)
{
	struct list_header header;
	u64 *offset = NULL;
	u64 need;
	u32 n = 0;
	long r;

	if (copy_from_user(&header, arg, sizeof(header)))
		return -EFAULT;
	if (!node || header.argsz < sizeof(header) || cmd != EGMSIM_RETIRED_PAGES_LIST)
		return -EINVAL;

	r = snapshot(node, &offset, &n);
	if (r)
		return r;

	need = sizeof(header) + (u64) n * sizeof(struct list_entry);
	header.count = n;
	if (header.argsz < need) {
		header.argsz = need;
		header.count = 0;
		grow(node);
	} else {
		r = put_entries(arg + sizeof(header), offset, n);
	}
	if (!r && copy_to_user(arg, &header, sizeof(header)))
		r = -EFAULT;
	kvfree(offset);
	return r;
}

static struct egmsim_node *node_of(struct device *dev)
{
	return container_of(dev, struct egmsim_node, dev);
}

static ssize_t sim_retire_store(struct device *dev, struct device_attribute *attr, const char *buf,
				size_t n)
{
	char *copy = kstrndup(buf, n, GFP_KERNEL);
	unsigned int entries = 0;
	u64 offset = 0;
	int r;

	if (!copy)
		return -ENOMEM;
	r = parse_entries(copy, &offset, &entries);
	if (!r)
		r = add_entries(node_of(dev), offset, entries);
	kfree(copy);
	return r ? r : n;
}
static DEVICE_ATTR_WO(sim_retire);

static ssize_t sim_poison_store(struct device *dev, struct device_attribute *attr, const char *buf,
				size_t n)
{
	struct egmsim_node *node = node_of(dev);
	u64 offset;
	bool mapped;
	int r;

	r = kstrtou64(buf, 0, &offset);
	if (r)
		return r;
	if (offset >= node->size)
		return -ERANGE;
	offset &= PAGE_MASK;

	mutex_lock(&node->retired_lock);
	r = egmsim_pages_has(&node->poisoned, offset) ? 0 : pages_add(&node->poisoned, offset);
	mutex_unlock(&node->retired_lock);
	if (r)
		return r;

	/* The real drivers learn of it by looking for who maps the page: nobody, no entry. */
	mapped = egmsim_unmap_page(node, offset);
	if (!mapped || !node->variant->runtime_poison)
		return n;

	mutex_lock(&node->retired_lock);
	r = egmsim_pages_has(&node->retired, offset) ? 0 : pages_add(&node->retired, offset);
	mutex_unlock(&node->retired_lock);
	return r ? r : n;
}
static DEVICE_ATTR_WO(sim_poison);

static struct attribute *retired_attrs[] = { &dev_attr_sim_retire.attr, &dev_attr_sim_poison.attr,
					     NULL };
const struct attribute_group egmsim_retired_group = { .attrs = retired_attrs };
