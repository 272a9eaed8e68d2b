/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the library's files share. Nothing of it is exported. */

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "egm.h"
#include "macro.h"

#define _cleanup_bus_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_bus_error_ _cleanup_(sd_bus_error_free)
#define _cleanup_egm_(type) _cleanup_(egm_##type##_unrefp)

/* Objects are for one thread at a time, so plain counters do. */
#define DEFINE_REF_UNREF(type, free_func) \
        _public_ type *type##_ref(type *p) { \
                if (p) { \
                        assert(p->n_ref > 0); \
                        p->n_ref++; \
                } \
                return p; \
        } \
        _public_ type *type##_unref(type *p) { \
                if (p) { \
                        assert(p->n_ref > 0); \
                        if (--p->n_ref == 0) \
                                free_func(p); \
                } \
                return NULL; \
        }

#define DEFINE_GETTER(object, type, member, fallback) \
        _public_ type egm_##object##_get_##member(egm_##object *o) { \
                return o ? o->member : (fallback); \
        }
/* Properties that the daemon left out are empty strings, so that callers need no check. */
#define DEFINE_STRING_GETTER(object, member) \
        _public_ const char *egm_##object##_get_##member(egm_##object *o) { \
                return !o ? NULL : o->member ? o->member : ""; \
        }

struct egm_connection {
        unsigned n_ref;
        pid_t origin; /* the process that made it; any other one is a child after fork() */
        sd_bus *bus;
        bool interactive;
        char *error_name;
        char *error_message;
};

typedef struct LeaseSlice {
        char *region;
        int fd;
        uint64_t offset;
        uint64_t size;
        bool retired_known;
        uint64_t *retired; /* pairs of (offset in the slice, size) */
        size_t n_retired;
} LeaseSlice;

struct egm_lease {
        unsigned n_ref;
        pid_t origin;
        egm_connection *connection; /* NULL for one from the environment */
        char *path;
        const char *id; /* points into path */
        int lifetime_fd;
        LeaseSlice *slices;
        size_t n_slices;
};

typedef struct RequestSlice {
        uint64_t size;
        bool whole;
        char *region;
        char *gpu;
        bool has_node, has_socket, has_align;
        int32_t node;
        int32_t socket;
        uint64_t align;
        bool include_retired;
} RequestSlice;

struct egm_request {
        unsigned n_ref;
        RequestSlice *slices;
        size_t n_slices;
        char *label;
        bool persistent;
        uint32_t delegate; /* UINT32_MAX: nobody */
        uint32_t owner;    /* UINT32_MAX: who asks */
        bool dmabuf;
        int holder_fd;
        uint64_t wait_usec;
};

/* ---- connection.c ---- */

/* First in every call: -EINVAL, -ECHILD, or 0 with the last error forgotten. */
int connection_begin(egm_connection *c);
/* Remember why, and give back the errno. r is what sd-bus said, error (may be NULL) what came with it. */
int connection_fail(egm_connection *c, int r, const sd_bus_error *error);
int connection_refuse(egm_connection *c, int r, const char *format, ...) _printf_(3, 4);
/* So long, and longer if somebody may be asked to authenticate meanwhile. */
uint64_t connection_timeout(const egm_connection *c, uint64_t usec);
/* Calls and remembers errors. usec 0: sd-bus's default. reply may be NULL. */
int connection_call(egm_connection *c, sd_bus_message *m, uint64_t usec, sd_bus_message **reply);
int connection_new_call(egm_connection *c, const char *path, const char *interface,
                        const char *member, sd_bus_message **ret);
int connection_get_all(egm_connection *c, const char *path, const char *interface,
                       sd_bus_message **ret);
/* After a failure on a path of ours: the object may just not be there. Then says so, as errno no_such. */
int connection_no_object(egm_connection *c, int r, int no_such, const char *what, const char *name);

/* What sd-bus says about messages that are not as they should be, as the one errno we promise. */
int bad_message(int r);

/* Names and ids are letters, digits and '_', so that they are parts of a path as they are. */
bool name_is_valid(const char *name);
int path_from_name(const char *prefix, const char *name, char **ret);
/* The name in a path under prefix, or NULL. */
const char *name_from_path(const char *prefix, const char *path);

/* ---- region.c, manager.c, lease-info.c: from the a{sv} that the message stands at ---- */

int region_from_properties(sd_bus_message *m, const char *name, egm_region **ret);
int manager_from_properties(sd_bus_message *m, egm_manager **ret);
int lease_info_from_properties(sd_bus_message *m, const char *id, egm_lease_info **ret);

/* ---- request.c ---- */

int request_copy(egm_request *r, egm_request **ret);
int request_append(egm_request *r, sd_bus_message *m);
/* How long the daemon may take to answer. */
uint64_t request_timeout(egm_request *r);

/* ---- lease.c ---- */

int lease_new(egm_connection *c, const char *path, egm_lease **ret);
/* Consumes fd, also on failure. */
int lease_add_slice(egm_lease *l, const char *region, int fd, uint64_t offset, uint64_t size);
/* Refuses what no correct daemon sends: descriptors of another kind, ranges that overflow, overlap or are not of
 * whole pages. request may be NULL. */
int lease_check(egm_lease *l, egm_request *request);
/* Reads "h" and "a(shtt)" from the message; descriptors are copied. */
int lease_read_descriptors(egm_lease *l, sd_bus_message *m);
/* Sets the slices' retired ranges from "a(stt)" rows. */
int lease_read_retired(egm_lease *l, sd_bus_message *m);
