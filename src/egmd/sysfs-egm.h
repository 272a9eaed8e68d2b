/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* The words of the driver's sysfs files -> values. No I/O. Text is taken with its length, since
 * it may be anything; what is wrong with it comes back in words of printable ASCII that fit a
 * log and the bus. */

#define PCI_ADDRESS_MAX 20U /* "ffffffff:ff:1f.7" and more */

/* Larger than any physical address can be; a region that claims more is a misunderstanding. */
#define SYSFS_EGM_SIZE_MAX (UINT64_C(1) << 52)
#define SYSFS_EGM_NODE_MAX 1023 /* the kernel's own limit */

/* A PCI address as people and tools write it ("0008:01:00.0", "8:1:0.0", nvidia-smi's
 * "00000008:01:00.0", "01:00.0") -> as sysfs writes it: lower case, four-digit domain (more
 * where it needs more). -EINVAL. */
int pci_address_normalize(const char *s, char ret[static PCI_ADDRESS_MAX]);
/* Is it an address, written exactly as sysfs does? */
bool pci_address_is_normal(const char *s);
/* s must be an address. */
uint32_t pci_address_domain(const char *s);

/* "egm4" -> 4. -EINVAL for everything else in the class. */
int sysfs_egm_parse_name(const char *name, int *ret_pxm);

/* egm_size, in the base its prefix says. text NULL: the file is absent. -ENODATA (absent, empty
 * or zero), -EINVAL, -ERANGE, -ENOMEM; except for the last, reterr_problem says why. */
int sysfs_egm_parse_size(const char *text, size_t length, uint64_t *ret, char **reterr_problem);

/* gpu_devices: one address a line. Sorted, without duplicates, NULL-terminated; lines that are
 * no addresses are passed over and ret_problem says so (NULL otherwise). -ENOMEM is the only
 * failure. */
int sysfs_egm_parse_gpus(const char *text, size_t length, char ***ret, size_t *ret_n,
                         char **ret_problem);

/* numa_node of a PCI device; "-1" is a fine -1. -EINVAL, -ERANGE. */
int sysfs_egm_parse_node(const char *text, size_t length, int *ret);

/* Firmware counts sockets in the upper bits of the PCI segment; */
int sysfs_egm_socket_of_domain(uint32_t domain);
/* and, with a hypervisor carveout, names a socket's region socket + 4. -1 where that cannot be. */
int sysfs_egm_socket_of_pxm(int pxm);

char **gpu_addresses_free(char **l);
DEFINE_TRIVIAL_CLEANUP_FUNC(char **, gpu_addresses_free)
