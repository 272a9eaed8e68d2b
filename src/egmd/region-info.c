/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdarg.h>

#include "region-info.h"
#include "sysfs-egm.h"

RegionInfo *region_info_free(RegionInfo *i) {
        if (!i)
                return NULL;
        for (size_t k = 0; k < i->n_gpus; k++) {
                free(i->gpus[k].address);
                free(i->gpus[k].driver);
        }
        free(i->gpus);
        free(i->name);
        free(i->devnode);
        free(i->syspath);
        free(i->size_problem);
        free(i->notes);
        return mfree(i);
}

int region_info_copy(const RegionInfo *i, RegionInfo **ret) {
        _cleanup_(region_info_freep) RegionInfo *copy = NULL;

        assert(i);
        assert(ret);

        copy = malloc(sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        *copy = (RegionInfo){
                        .pxm = i->pxm,
                        .devnum = i->devnum,
                        .inode = i->inode,
                        .size = i->size,
                        .node = i->node,
                        .socket = i->socket,
                        .dialect = i->dialect,
        };
        if (free_and_strdup(&copy->name, i->name) < 0 ||
            free_and_strdup(&copy->devnode, i->devnode) < 0 ||
            free_and_strdup(&copy->syspath, i->syspath) < 0 ||
            free_and_strdup(&copy->size_problem, i->size_problem) < 0 ||
            free_and_strdup(&copy->notes, i->notes) < 0)
                return -ENOMEM;
        for (size_t k = 0; k < i->n_gpus; k++) {
                int r = region_info_add_gpu(copy, i->gpus[k].address, i->gpus[k].driver,
                                            i->gpus[k].node);

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(copy);
        return 0;
}

void region_info_note(RegionInfo *i, const char *format, ...) {
        _cleanup_free_ char *note = NULL;
        char *notes = NULL;
        va_list ap;
        int k;

        assert(i);

        va_start(ap, format);
        k = vasprintf(&note, format, ap);
        va_end(ap);
        if (k < 0) {
                note = NULL;
                return;
        }
        if (!i->notes) {
                i->notes = TAKE_PTR(note);
                return;
        }
        if (asprintf(&notes, "%s; %s", i->notes, note) < 0)
                return;
        free(i->notes);
        i->notes = notes;
}

int region_info_add_gpu(RegionInfo *i, const char *address, const char *driver, int node) {
        _cleanup_free_ char *a = NULL, *d = NULL;
        GpuInfo *gpus;

        assert(i);
        assert(address);

        a = strdup(address);
        d = driver ? strdup(driver) : NULL;
        if (!a || (driver && !d))
                return -ENOMEM;
        gpus = reallocarray(i->gpus, i->n_gpus + 1, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        i->gpus = gpus;
        i->gpus[i->n_gpus++] = (GpuInfo){
                        .address = TAKE_PTR(a),
                        .driver = TAKE_PTR(d),
                        .node = node,
        };
        return 0;
}

/* The lower of two numbers of which -1 is "not known". */
static int merge_known(int a, int b, bool *ret_differ) {
        if (a < 0 || b < 0)
                return MAX(a, b);
        if (a != b)
                *ret_differ = true;
        return MIN(a, b);
}

void region_info_locate(RegionInfo *i) {
        bool nodes_differ = false, sockets_differ = false;

        assert(i);

        i->node = i->socket = -1;
        for (size_t k = 0; k < i->n_gpus; k++) {
                uint32_t domain = pci_address_domain(i->gpus[k].address);

                i->node = merge_known(i->node, i->gpus[k].node, &nodes_differ);
                i->socket = merge_known(i->socket, sysfs_egm_socket_of_domain(domain),
                                        &sockets_differ);
        }
        if (nodes_differ)
                region_info_note(i, "its GPUs are on different NUMA nodes, taking the lowest, %d",
                                 i->node);
        if (sockets_differ)
                region_info_note(i, "its GPUs are on different sockets, taking the lowest, %d",
                                 i->socket);
        for (size_t k = 0; k < i->n_gpus; k++)
                if (i->gpus[k].node < 0)
                        i->gpus[k].node = i->node;
        if (i->n_gpus == 0)
                i->socket = sysfs_egm_socket_of_pxm(i->pxm);
}

int region_info_keep(RegionInfo *i, const RegionInfo *known) {
        _cleanup_free_ char *problem = NULL;

        assert(i);
        assert(known);

        if (i->node < 0) {
                i->node = known->node;
                for (size_t k = 0; k < i->n_gpus; k++)
                        i->gpus[k].node = i->node;
        }
        if (i->n_gpus == 0 && known->socket >= 0)
                i->socket = known->socket;
        if (known->size == 0 || i->size == known->size)
                return 0;
        if (i->size == 0)
                region_info_note(i, "%s; its size is still taken as %" PRIu64,
                                 i->size_problem ?: "egm_size is gone", known->size);
        else if (asprintf(&problem,
                          "egm_size changed from %" PRIu64 " to %" PRIu64 " on the same device",
                          known->size, i->size) < 0) {
                problem = NULL;
                return -ENOMEM;
        }
        i->size = known->size;
        free(i->size_problem);
        i->size_problem = TAKE_PTR(problem);
        return 0;
}

bool region_info_same_device(const RegionInfo *a, const RegionInfo *b) {
        return a->devnum == b->devnum && a->inode == b->inode && streq_ptr(a->name, b->name) &&
               streq_ptr(a->syspath, b->syspath);
}

static bool gpu_info_equal(const GpuInfo *a, const GpuInfo *b) {
        return streq(a->address, b->address) && streq_ptr(a->driver, b->driver) &&
               a->node == b->node;
}

bool region_info_equal(const RegionInfo *a, const RegionInfo *b) {
        assert(a);
        assert(b);

        if (!region_info_same_device(a, b) || a->pxm != b->pxm || a->size != b->size ||
            a->node != b->node || a->socket != b->socket || a->n_gpus != b->n_gpus ||
            !streq_ptr(a->devnode, b->devnode) || !streq_ptr(a->size_problem, b->size_problem) ||
            !streq_ptr(a->dialect, b->dialect))
                return false;
        for (size_t k = 0; k < a->n_gpus; k++)
                if (!gpu_info_equal(&a->gpus[k], &b->gpus[k]))
                        return false;
        return true;
}
