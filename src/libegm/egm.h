/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EGM_H
#define EGM_H

/* libegm: the client of egmd, the daemon that lends NVIDIA Grace EGM memory to virtual machines.
 *
 * Rules for everything below:
 *
 *   - Functions returning int give 0 or a positive value on success and a negative errno on failure.
 *     "ret" parameters are written on success only. Arguments that make no sense (NULL, an index
 *     past the end) give -EINVAL, or NULL, 0 from getters that return a value.
 *   - A refusal of the daemon is an errno too: -ENOSPC NoCapacity, -EXFULL Fragmented, -ENODEV
 *     NoSuchRegion, -ENOENT NoSuchLease, -ENOTUNIQ NotPartitionable, -ENOLINK RegionNotReady, -EDOM
 *     BadAlignment, -EDQUOT QuotaExceeded, -EPERM NotHolder, -EBUSY Draining, -ETIMEDOUT TimedOut,
 *     -EINVAL InvalidArgs, -EACCES AccessDenied, -ENOBUFS LimitsExceeded, -EOPNOTSUPP NotSupported.
 *     egm_connection_get_error_name() and egm_connection_get_error_message() tell more. An answer
 *     that a correct daemon cannot give is -EBADMSG; the daemon not being there is -EHOSTUNREACH; the
 *     connection being gone is -ENOTCONN or -ECONNRESET.
 *   - Objects are counted by reference and used by one thread at a time (no thread in particular). NULL
 *     may be unref'ed. In a child after fork() nothing that needs the daemon or maps works (-ECHILD);
 *     reading values, taking descriptors and unref'ing do.
 *   - Sizes and offsets are bytes, times are microseconds. Descriptors are close-on-exec. Strings and
 *     descriptors from "get" functions belong to the object; what "take" functions return is the
 *     caller's to close.
 *   - Enumerations are strings, as on the bus; expect values that you do not know yet.
 *   - The library installs no signal handlers, writes nothing anywhere and has no global state.
 *
 * All functions exist since 0.1. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct egm_connection egm_connection;
typedef struct egm_manager egm_manager;
typedef struct egm_quotas egm_quotas;
typedef struct egm_region egm_region;
typedef struct egm_extents egm_extents;
typedef struct egm_lease_info egm_lease_info;
typedef struct egm_snapshot egm_snapshot;
typedef struct egm_request egm_request;
typedef struct egm_pending egm_pending;
typedef struct egm_lease egm_lease;
typedef struct egm_watch egm_watch;
typedef struct egm_event egm_event;
typedef struct egm_inject egm_inject;

/* ---- Connection ---- */

/* Connects to the bus at a D-Bus address, or with NULL to the system bus (where
 * $DBUS_SYSTEM_BUS_ADDRESS says it is). The daemon need not run: a bus may start it on the first call.
 * Errors: those of connect(2), -EINVAL (malformed address), -ENOMEM. */
int egm_connection_new(const char *address, egm_connection **ret);
egm_connection *egm_connection_ref(egm_connection *c);
/* The last one closes the connection; leases and watches hold one each. Answers to egm_acquire_async()
 * that are still due then are not delivered: what they grant ends, unless it is persistent. */
egm_connection *egm_connection_unref(egm_connection *c);

/* Whether polkit may ask somebody to authenticate for what this connection calls (by default not; an agent has to run in
 * the caller's session). Calls may then take as long as that takes, up to three minutes. */
int egm_connection_set_interactive(egm_connection *c, int interactive);

/* Why the last failed call on this connection failed: the D-Bus error's name, or NULL if it failed on
 * this side of the bus; and a sentence, or NULL if the errno says all. Valid until the next call. */
const char *egm_connection_get_error_name(egm_connection *c);
const char *egm_connection_get_error_message(egm_connection *c);

/* For event loops: poll the descriptor (it stays ours) for these poll(2) events, which may differ each
 * time, until that time of CLOCK_MONOTONIC (UINT64_MAX: for ever; 0: do not wait), then dispatch.
 * Needed for watches and egm_acquire_async() only. */
int egm_connection_get_fd(egm_connection *c);
int egm_connection_get_events(egm_connection *c);
int egm_connection_get_timeout(egm_connection *c, uint64_t *ret_usec);
/* Calls the callbacks that are due; never waits. Returns how many messages it handled. */
int egm_connection_dispatch(egm_connection *c);
/* Without an event loop: waits for up to so long (UINT64_MAX: for ever) until there is something to
 * dispatch. Returns 0 if there is not. */
int egm_connection_wait(egm_connection *c, uint64_t timeout_usec);

/* ---- What there is: copies made at one moment that never change ---- */

/* Everything: all regions, sorted by name; all leases, oldest first; the manager. */
int egm_snapshot_new(egm_connection *c, egm_snapshot **ret);
egm_snapshot *egm_snapshot_ref(egm_snapshot *s);
egm_snapshot *egm_snapshot_unref(egm_snapshot *s);
size_t egm_snapshot_count_regions(egm_snapshot *s);
size_t egm_snapshot_count_leases(egm_snapshot *s);
/* Borrowed: ref to keep one longer than the snapshot. NULL past the end. */
egm_region *egm_snapshot_get_region(egm_snapshot *s, size_t i);
egm_lease_info *egm_snapshot_get_lease(egm_snapshot *s, size_t i);
egm_manager *egm_snapshot_get_manager(egm_snapshot *s);

/* The daemon itself. */
int egm_get_manager(egm_connection *c, egm_manager **ret);
egm_manager *egm_manager_ref(egm_manager *m);
egm_manager *egm_manager_unref(egm_manager *m);
const char *egm_manager_get_version(egm_manager *m);
/* Capacity by socket; socket is -1 for regions whose socket is not known. Any ret may be NULL. */
size_t egm_manager_count_sockets(egm_manager *m);
int egm_manager_get_socket(egm_manager *m, size_t i, int *ret_socket, uint64_t *ret_size,
                           uint64_t *ret_free, uint64_t *ret_leased, uint64_t *ret_retired);
/* Requests that wait for memory, first in the queue first. Times are CLOCK_REALTIME. */
size_t egm_manager_count_waiting(egm_manager *m);
int egm_manager_get_waiting(egm_manager *m, size_t i, uint32_t *ret_uid, const char **ret_label,
                            uint64_t *ret_size, uint64_t *ret_since_usec, uint64_t *ret_until_usec);
/* PCI devices that carry EGM in a way this daemon cannot use. */
size_t egm_manager_count_unsupported(egm_manager *m);
int egm_manager_get_unsupported(egm_manager *m, size_t i, const char **ret_address,
                                uint64_t *ret_size);
uint32_t egm_manager_get_lease_count(egm_manager *m);
/* Counters since the daemon started. */
uint64_t egm_manager_get_granted(egm_manager *m);
uint64_t egm_manager_get_refused(egm_manager *m);
uint64_t egm_manager_get_ended(egm_manager *m);
uint64_t egm_manager_get_scrubbed_bytes(egm_manager *m);
uint64_t egm_manager_get_bad_pages(egm_manager *m);
uint64_t egm_manager_get_overreaches(egm_manager *m);
/* Limits. */
uint32_t egm_manager_get_leases_max(egm_manager *m);
uint32_t egm_manager_get_slices_max(egm_manager *m);
uint32_t egm_manager_get_waiting_max(egm_manager *m);
/* 1: the platform's GPUs accept EGM that does not start where its region starts. */
int egm_manager_get_egm_offset_allowed(egm_manager *m);

/* What users, systemd units and slices may have at once, and have: the caller's own, for root those of everybody; or of one
 * user (other than UINT32_MAX), for root and himself. -EACCES: somebody else's. */
int egm_get_quotas(egm_connection *c, uint32_t uid, egm_quotas **ret);
egm_quotas *egm_quotas_ref(egm_quotas *q);
egm_quotas *egm_quotas_unref(egm_quotas *q);
size_t egm_quotas_count(egm_quotas *q);
/* "user" with a uid, "unit" and "slice" with a name. Any ret may be NULL. */
int egm_quotas_get(egm_quotas *q, size_t i, const char **ret_scope, uint32_t *ret_uid,
                   const char **ret_name);
/* Of "bytes", "leases", "slices", "waiting" (requests), "calls"; at most UINT64_MAX: not limited. */
int egm_quotas_get_amount(egm_quotas *q, size_t i, const char *what, uint64_t *ret_used,
                          uint64_t *ret_max);

/* One region. -ENODEV: there is none of that name. */
int egm_get_region(egm_connection *c, const char *name, egm_region **ret);
egm_region *egm_region_ref(egm_region *r);
egm_region *egm_region_unref(egm_region *r);
const char *egm_region_get_name(egm_region *r);        /* "egm4" */
const char *egm_region_get_device_path(egm_region *r); /* "/dev/egm4" */
/* size = free + leased + draining + dirty + scrubbing + retired. */
uint64_t egm_region_get_size(egm_region *r);
uint64_t egm_region_get_free(egm_region *r);
/* The longest run that can be lent in one slice. */
uint64_t egm_region_get_largest_free(egm_region *r);
uint64_t egm_region_get_leased(egm_region *r);
uint64_t egm_region_get_draining(egm_region *r);
uint64_t egm_region_get_dirty(egm_region *r);
uint64_t egm_region_get_scrubbing(egm_region *r);
uint64_t egm_region_get_scrubbed(egm_region *r); /* of those being scrubbed: zero already */
uint64_t egm_region_get_retired(egm_region *r);
uint64_t egm_region_get_granule(egm_region *r); /* sizes and offsets are multiples of it */
int egm_region_get_node(egm_region *r);         /* NUMA node, -1: not known */
int egm_region_get_socket(egm_region *r);       /* -1: not known */
/* "opening", "ready", "held-elsewhere", "failed", "gone", "delegated"; and why, empty when ready. */
const char *egm_region_get_state(egm_region *r);
const char *egm_region_get_reason(egm_region *r);
const char *egm_region_get_partitioning(egm_region *r);     /* "full", "whole-only" */
const char *egm_region_get_driver(egm_region *r);           /* "nvgrace-egm", "sim" */
const char *egm_region_get_isolation(egm_region *r);        /* "cooperative", "enforced" */
const char *egm_region_get_isolation_reason(egm_region *r); /* why it is not "enforced" */
int egm_region_get_schedulable(egm_region *r);              /* 0: switched off for maintenance */
/* The GPUs that this memory belongs to; the driver is "" when none is bound. Any ret may be NULL. */
size_t egm_region_count_gpus(egm_region *r);
int egm_region_get_gpu(egm_region *r, size_t i, const char **ret_address, const char **ret_driver);
/* Bad memory: sorted, disjoint, in bytes of the region. */
size_t egm_region_count_retired_ranges(egm_region *r);
int egm_region_get_retired_range(egm_region *r, size_t i, uint64_t *ret_offset, uint64_t *ret_size);
/* Who maps what he was not lent: kind is "unlent", "foreign", "unproven" or "private". For root; for others pid is 0 and the
 * command "". */
size_t egm_region_count_overreach(egm_region *r);
int egm_region_get_overreach(egm_region *r, size_t i, const char **ret_kind, uint64_t *ret_offset,
                             uint64_t *ret_size, uint32_t *ret_pid, const char **ret_command);

/* For maintenance, root only: with 0 the region lends nothing new. */
int egm_set_schedulable(egm_connection *c, const char *region, int schedulable);

/* Every run of bytes in one state, sorted by offset: "dirty", "scrubbing", "free", "leased", "draining",
 * "retired"; lease is the id of the lease that it is part of, or "". -ENODEV: no such region. */
int egm_get_extents(egm_connection *c, const char *region, egm_extents **ret);
egm_extents *egm_extents_ref(egm_extents *e);
egm_extents *egm_extents_unref(egm_extents *e);
size_t egm_extents_count(egm_extents *e);
int egm_extents_get(egm_extents *e, size_t i, uint64_t *ret_offset, uint64_t *ret_size,
                    const char **ret_state, const char **ret_lease);

/* One lease, anybody's. -ENOENT: there is none of that id.
 * Label, holder, unit and who holds it up are its owner's and root's to know: for others they are concealed, which is to say
 * empty. */
int egm_get_lease_info(egm_connection *c, const char *id, egm_lease_info **ret);
egm_lease_info *egm_lease_info_ref(egm_lease_info *l);
egm_lease_info *egm_lease_info_unref(egm_lease_info *l);
const char *egm_lease_info_get_id(egm_lease_info *l);
const char *egm_lease_info_get_label(egm_lease_info *l);
/* "active", "draining", "scrubbing", "lost". */
const char *egm_lease_info_get_state(egm_lease_info *l);
const char *egm_lease_info_get_lifetime(egm_lease_info *l);  /* "descriptor", "persistent" */
const char *egm_lease_info_get_isolation(egm_lease_info *l); /* "cooperative", "enforced" */
uint32_t egm_lease_info_get_owner_uid(egm_lease_info *l);
/* The process it is bound to; without one, the process that acquired it; 0: not known. */
uint32_t egm_lease_info_get_holder_pid(egm_lease_info *l);
const char *egm_lease_info_get_unit(egm_lease_info *l); /* that process's systemd unit, or "" */
uint64_t egm_lease_info_get_created_usec(egm_lease_info *l); /* CLOCK_REALTIME */
int egm_lease_info_get_concealed(egm_lease_info *l);         /* 1: they are, from us */
size_t egm_lease_info_count_slices(egm_lease_info *l);
int egm_lease_info_get_slice(egm_lease_info *l, size_t i, const char **ret_region,
                             uint64_t *ret_offset, uint64_t *ret_size);
/* Retired pages inside the slices, in bytes of the region. */
size_t egm_lease_info_count_retired_ranges(egm_lease_info *l);
int egm_lease_info_get_retired_range(egm_lease_info *l, size_t i, const char **ret_region,
                                     uint64_t *ret_offset, uint64_t *ret_size);
/* Of a draining lease: the processes that may still touch the bytes. */
size_t egm_lease_info_count_held_up_by(egm_lease_info *l);
int egm_lease_info_get_held_up_by(egm_lease_info *l, size_t i, uint32_t *ret_pid,
                                  const char **ret_command, const char **ret_unit);
/* When that process started (field 22 of /proc/PID/stat): with it, the pid means that process and no
 * later one. */
int egm_lease_info_get_held_up_by_start_time(egm_lease_info *l, size_t i, uint64_t *ret);

/* ---- Asking for memory ---- */

/* What to ask for. The daemon judges the values, not the library: it knows the limits and names them. */
int egm_request_new(egm_request **ret);
egm_request *egm_request_ref(egm_request *r);
egm_request *egm_request_unref(egm_request *r);
/* One more slice: so many bytes, or all of a region. Returns its index, counted from 0. */
int egm_request_add_slice(egm_request *r, uint64_t size);
int egm_request_add_whole_slice(egm_request *r);
/* Where a slice must come from; all that are set must hold. NULL takes a name back. */
int egm_request_set_slice_region(egm_request *r, size_t slice, const char *region); /* "egm4" */
int egm_request_set_slice_gpu(egm_request *r, size_t slice, const char *gpu); /* "0009:01:00.0" */
int egm_request_set_slice_node(egm_request *r, size_t slice, int node);
int egm_request_set_slice_socket(egm_request *r, size_t slice, int socket);
/* Alignment of the offset: a power of two from the region's granule to 1 GiB. Default 2 MiB. */
int egm_request_set_slice_align(egm_request *r, size_t slice, uint64_t align);
/* 1: the slice may hold retired pages, which the lease then lists. Default 0. */
int egm_request_set_slice_include_retired(egm_request *r, size_t slice, int include);
/* Up to 128 bytes by which people recognise the lease: printable, and nothing that does not show or turns text around. */
int egm_request_set_label(egm_request *r, const char *label);
/* 0, the default: the lease lives while any copy of its lifetime descriptor is open, or a process bound to
 * it runs. 1: only egm_release() ends it. */
int egm_request_set_persistent(egm_request *r, int persistent);
/* For who opens a region by its path: a single whole slice is handed over to this user, whose the node becomes; egmd closes the
 * region meanwhile. What egm_lease_get_fd() gives is a descriptor of the node alone (O_PATH). UINT32_MAX takes it back. */
int egm_request_set_delegate(egm_request *r, uint32_t uid);
/* 1: dma-bufs of it are to be had by egm_lease_export_dmabuf(). Default 0. */
int egm_request_set_dmabuf(egm_request *r, int dmabuf);
/* The lease belongs to this user, and no longer to the caller: for root, who acquires for others. UINT32_MAX takes it back. */
int egm_request_set_owner(egm_request *r, uint32_t uid);
/* As egm_lease_bind(), at once. The pidfd is copied. -1 takes it back. */
int egm_request_set_holder(egm_request *r, int pidfd);
/* Queue the request for up to so long if it can be satisfied later. Default 0. */
int egm_request_set_wait(egm_request *r, uint64_t usec);

/* Acquires all slices or none, waiting for as long as the request says. If the daemon stays silent for
 * 25 s more this gives up with -ETIMEDOUT; give up the connection then as well: the lease may have
 * been granted, and it ends with the answer that nobody read (unless it is persistent). */
int egm_acquire(egm_connection *c, egm_request *r, egm_lease **ret);

/* The same without waiting: dispatch calls back exactly once, with 0 and the lease (yours to unref), or
 * with a negative errno and NULL. The request may be changed or unref'ed at once. ret_pending may be NULL. */
typedef void (*egm_acquire_callback)(egm_connection *c, int r, egm_lease *lease, void *userdata);
int egm_acquire_async(egm_connection *c, egm_request *r, egm_acquire_callback callback,
                      void *userdata, egm_pending **ret_pending);
egm_pending *egm_pending_ref(egm_pending *p);
/* The last one cancels: no callback any more, and what is granted nevertheless is given back. */
egm_pending *egm_pending_unref(egm_pending *p);

/* ---- Holding memory ---- */

egm_lease *egm_lease_ref(egm_lease *l);
/* The last one closes the descriptors that were not taken. That ends the lease, unless it is persistent, a
 * process is bound to it or copies of the lifetime descriptor are open elsewhere. Mappings stay. */
egm_lease *egm_lease_unref(egm_lease *l);

/* The lease that `egmctl run` gave this process, from $EGM_LEASE, $EGM_LIFETIME_FD and $EGM_SLICES.
 * With unset 1 the variables are removed. The inherited descriptors become the object's and close-on-exec.
 * It has no connection: egm_lease_release() only closes, egm_lease_bind() gives -ENOTCONN.
 * -ENXIO: there is none. -EBADMSG: the variables or the descriptors are not what they should be. */
int egm_lease_new_from_environment(int unset, egm_lease **ret);

const char *egm_lease_get_id(egm_lease *l);
const char *egm_lease_get_path(egm_lease *l); /* of the D-Bus object */
/* Keep a copy open (hand it to the VMM) for as long as the memory is needed. -EBADF once taken. */
int egm_lease_get_lifetime_fd(egm_lease *l);
int egm_lease_take_lifetime_fd(egm_lease *l);
/* Slices in the order of the request: [offset, offset + size) of the descriptor, which gives access to
 * more than that: map nothing else. The bytes were zero when the lease was granted. The descriptor is
 * -EBADF once taken. Any ret may be NULL. */
size_t egm_lease_count_slices(egm_lease *l);
int egm_lease_get_slice(egm_lease *l, size_t slice, const char **ret_region, int *ret_fd,
                        uint64_t *ret_offset, uint64_t *ret_size);
int egm_lease_take_slice_fd(egm_lease *l, size_t slice);
/* Retired pages inside a slice, as of when it was acquired or reopened; offsets count from the start of
 * the slice. The count is -ENODATA for a lease from the environment. Watch for pages found later. */
int egm_lease_count_retired_ranges(egm_lease *l, size_t slice);
int egm_lease_get_retired_range(egm_lease *l, size_t slice, size_t i, uint64_t *ret_offset,
                                uint64_t *ret_size);

/* Maps size bytes from offset within the slice, shared, never anything outside the slice. Both are multiples
 * of the host's page size. prot: PROT_READ, PROT_WRITE or both; flags: MAP_POPULATE or 0. MAP_SHARED is
 * implied; private mappings are refused: their writes would not reach the memory. Undo with munmap(2). The
 * mapping outlives lease and object: the memory is not reused before it is gone.
 * -EINVAL: alignment, size 0, prot or flags. -ERANGE: outside the slice. -EBADF: the descriptor was taken. -EACCES: it is
 * enforced, and the process is not admitted: the lease has ended. -EHOSTUNREACH: it is enforced, and the daemon, which would
 * have to admit the process, cannot be reached now. Otherwise the errors of mmap(2). */
int egm_lease_map(egm_lease *l, size_t slice, uint64_t offset, uint64_t size, int prot, int flags,
                  void **ret);

/* Ends the lease now, whoever else holds copies of its descriptors, and closes those of the object. The memory is
 * reused once nobody has it mapped or open. -ENOENT: it had ended already. The descriptors are closed in any case. */
int egm_lease_release(egm_lease *l);
/* Ties it to a process as well: it does not end before that process is gone. The pidfd stays the caller's. */
int egm_lease_bind(egm_lease *l, int pidfd);
/* Lets a process, its threads and what it forks and executes from now on map the lease where that is enforced, without
 * tying the lease to it. Binding does, too; egm_lease_map() does it for the calling process by itself. -EDQUOT: it may
 * map too many leases already. */
int egm_lease_admit(egm_lease *l, int pidfd);

/* A dma-buf for each slice, in their order, for importers like iommufd: exactly the slice's bytes without its retired pages. ret_fds
 * has room for egm_lease_count_slices(); they are the caller's. The lease must have been acquired with egm_request_set_dmabuf(), and
 * drains until nobody has one of them open. -EOPNOTSUPP: it was not, or the host allows none; -ENOBUFS: too many. */
int egm_lease_export_dmabuf(egm_lease *l, int *ret_fds);

/* The same by id, for who lost the object: for the lease's owner and root, otherwise -EPERM. */
int egm_release(egm_connection *c, const char *id);
int egm_bind(egm_connection *c, const char *id, int pidfd);
/* The descriptors again, after the launcher restarted. */
int egm_reopen(egm_connection *c, const char *id, egm_lease **ret);

/* ---- Giving a lease to a program that opens its memory by path ---- */

/* Answers the program's open of a path with the leased descriptor, and its question for retired pages with those of the
 * slice. It works by a seccomp filter, installed in the child between fork() and execve(), that shows these calls to the
 * launcher:
 *
 *     child                                            launcher
 *                                                      egm_inject_new(), _set_…()
 *     fd = egm_inject_install(inject);                 fork()
 *     hand fd over (SCM_RIGHTS), close it, execve()    egm_inject_set_listener(inject, fd)
 *     open("/run/egm/lease-7/slice-0", O_RDWR)         poll egm_inject_get_fd(), egm_inject_dispatch()
 *
 * Everything the child forks or starts is shown as well. The launcher must go on answering for as long as one of them
 * lives: once nobody can answer, the calls that the filter names fail with ENOSYS. These are opens with O_RDWR, openat2(), and
 * what is done with the leased descriptors' own numbers (mmap, dup, lseek, ftruncate, fallocate, the ioctl for retired
 * pages); memory that is mapped stays mapped. The launcher must be allowed to trace the program, like a debugger.
 *
 * Mappings of the descriptor are held to the slice: others, and private ones, fail with EINVAL. While it moves one
 * (egm_inject_set_shift()), dispatch traces the mapping thread for a moment: no other thread of the launcher may wait for
 * any child (waitpid(-1)) during dispatch.
 *
 * Needs Linux 5.14; x86-64 or arm64. */

/* For all slices of a lease whose descriptors were not taken; keeps copies, also of the lifetime descriptor: the lease does
 * not end by itself before the object is gone. -ENODATA: from the environment, so that retired pages are not known.
 * -EMFILE: RLIMIT_NOFILE is too low. -EOPNOTSUPP: not on this kernel, not on this kind of machine. */
int egm_inject_new(egm_lease *l, egm_inject **ret);
egm_inject *egm_inject_ref(egm_inject *i);
/* The last one closes the listener: see above. */
egm_inject *egm_inject_unref(egm_inject *i);

/* The path that stands for a slice; it need not exist. An absolute one without empty, "." or ".." parts. Default
 * "/run/egm/lease-ID/slice-N", in a directory that does not exist, so that nothing can be created there by mistake.
 * -EEXIST: another slice has it. These three are set before the filter is installed; -EBUSY: too late. */
int egm_inject_set_path(egm_inject *i, size_t slice, const char *path);
const char *egm_inject_get_path(egm_inject *i, size_t slice);
/* 0, the default: the program maps [offset, offset + size) of the descriptor, as egm_lease_get_slice() says. 1: it knows of
 * no offset, and maps [0, size), which is moved there. It must not pass the descriptor on to others then, like vhost-user
 * does: they would not know. -1: either, which its first mapping tells; one that could be meant both ways fails. */
int egm_inject_set_shift(egm_inject *i, size_t slice, int shift);
/* 1: do not look at opens with O_CLOEXEC. That is right for QEMU, which opens its RAM without and everything else with it:
 * nothing is left then that a running QEMU would miss the launcher for. Default 0. */
int egm_inject_set_narrow(egm_inject *i, int narrow);

/* Called by dispatch before a descriptor is handed out: 0, or a negative errno that the program then gets instead. -ENODEV
 * stands for a lease that has ended, which the object itself only sees once egmd has forgotten it. NULL: none. */
typedef int (*egm_inject_callback)(egm_inject *i, size_t slice, void *userdata);
int egm_inject_set_callback(egm_inject *i, egm_inject_callback callback, void *userdata);

/* In the child, last before execve(); nothing but system calls. Sets no_new_privs unless the child has CAP_SYS_ADMIN (set-user-ID
 * programs stay what they are then). Returns the listener, which is close-on-exec. -EBUSY: a filter with a listener is there
 * already; there can be only one. */
int egm_inject_install(egm_inject *i);
/* For who installs it otherwise: the program for SECCOMP_SET_MODE_FILTER, with SECCOMP_FILTER_FLAG_NEW_LISTENER and, if the
 * kernel has it, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV. It belongs to the object, and changes when that is changed. */
struct sock_filter;
int egm_inject_get_filter(egm_inject *i, const struct sock_filter **ret, size_t *ret_n);

/* The descriptor that the child got, in the launcher. It becomes the object's. -EBADF: it is no listener. */
int egm_inject_set_listener(egm_inject *i, int fd);
/* To poll for POLLIN. */
int egm_inject_get_fd(egm_inject *i);
/* Answers one call, if one waits. Returns whether there was one. -EPIPE: there is nobody left to ask. */
int egm_inject_dispatch(egm_inject *i);
/* A sentence about what that call did wrong, or NULL. Valid until the next dispatch. */
const char *egm_inject_get_message(egm_inject *i);
/* How often a slice's descriptor was handed out. */
int egm_inject_count_opens(egm_inject *i, size_t slice);

/* ---- Watching ---- */

enum {
        EGM_EVENT_REGION_ADDED = 1,
        EGM_EVENT_REGION_CHANGED,
        EGM_EVENT_REGION_REMOVED,
        EGM_EVENT_LEASE_ADDED,
        EGM_EVENT_LEASE_CHANGED,
        EGM_EVENT_LEASE_REMOVED,
        EGM_EVENT_RETIRED_PAGES_FOUND, /* in an active lease */
        EGM_EVENT_MANAGER_CHANGED,
        EGM_EVENT_DAEMON_STARTED, /* all snapshots are out of date */
        EGM_EVENT_DAEMON_STOPPED
};

/* Called by dispatch for every event from now on; new types of events may come. The event is valid during the
 * call. To miss nothing, watch first and take a snapshot then. */
typedef void (*egm_watch_callback)(egm_connection *c, egm_event *e, void *userdata);
int egm_watch_new(egm_connection *c, egm_watch_callback callback, void *userdata, egm_watch **ret);
egm_watch *egm_watch_ref(egm_watch *w);
/* The last one ends it. */
egm_watch *egm_watch_unref(egm_watch *w);

int egm_event_get_type(egm_event *e);
const char *egm_event_get_name(egm_event *e); /* region's name or lease's id, else "" */
/* Of changes: the D-Bus names of the properties that changed, "Free". NULL past the end. */
const char *egm_event_get_changed(egm_event *e, size_t i);
/* Of EGM_EVENT_RETIRED_PAGES_FOUND: the pages, in bytes of the region. */
size_t egm_event_count_pages(egm_event *e);
int egm_event_get_page(egm_event *e, size_t i, const char **ret_region, uint64_t *ret_offset,
                       uint64_t *ret_size);

/* For __attribute__((cleanup(…))). */
#define EGM_DEFINE_UNREFP(type) \
        static __inline__ void type##_unrefp(type **p) { \
                if (*p) \
                        *p = type##_unref(*p); \
        }
EGM_DEFINE_UNREFP(egm_connection)
EGM_DEFINE_UNREFP(egm_manager)
EGM_DEFINE_UNREFP(egm_quotas)
EGM_DEFINE_UNREFP(egm_region)
EGM_DEFINE_UNREFP(egm_extents)
EGM_DEFINE_UNREFP(egm_lease_info)
EGM_DEFINE_UNREFP(egm_snapshot)
EGM_DEFINE_UNREFP(egm_request)
EGM_DEFINE_UNREFP(egm_pending)
EGM_DEFINE_UNREFP(egm_lease)
EGM_DEFINE_UNREFP(egm_watch)
EGM_DEFINE_UNREFP(egm_inject)
#undef EGM_DEFINE_UNREFP

#ifdef __cplusplus
}
#endif

#endif
