/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>

#include "egm-error.h"
#include "egm-names.h"
#include "internal.h"

/* More would keep a busy event loop from its other work; the rest is due at once (get_timeout says 0). */
#define DISPATCH_MAX 128

/* Somebody types a password: longer than the daemon waits for that. */
#define INTERACTIVE_USEC (180 * USEC_PER_SEC)

static int bus_open(const char *address, sd_bus **ret) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = NULL;
        int r;

        if (!address)
                return sd_bus_open_system_with_description(ret, "libegm");
        r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_description(bus, "libegm");
        if (r < 0)
                return r;
        r = sd_bus_set_address(bus, address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(bus, true);
        if (r < 0)
                return r;
        r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

_public_ int egm_connection_new(const char *address, egm_connection **ret) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        int r;

        if (!ret)
                return -EINVAL;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->n_ref = 1;
        c->origin = getpid();
        r = bus_open(address, &c->bus);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

static void connection_free(egm_connection *c) {
        /* In a child the bus is the parent's conversation: leave it alone. */
        if (c->origin == getpid())
                sd_bus_close_unref(c->bus);
        free(c->error_name);
        free(c->error_message);
        free(c);
}

DEFINE_REF_UNREF(egm_connection, connection_free)

int connection_begin(egm_connection *c) {
        if (!c)
                return -EINVAL;
        if (c->origin != getpid())
                return -ECHILD;
        c->error_name = mfree(c->error_name);
        c->error_message = mfree(c->error_message);
        return 0;
}

int connection_fail(egm_connection *c, int r, const sd_bus_error *error) {
        assert(r < 0);

        if (error && sd_bus_error_is_set(error)) {
                EgmErrorKind kind = egm_error_kind_from_name(error->name);

                /* sd-bus maps errors by a table of the process; that is not ours to add to. */
                r = kind > 0 ? -egm_error_kind_to_errno(kind) : -sd_bus_error_get_errno(error);
                if (r >= 0)
                        r = -EIO;
                (void) free_and_strdup(&c->error_name, error->name);
                (void) free_and_strdup(&c->error_message, error->message);
        }
        return r;
}

int connection_refuse(egm_connection *c, int r, const char *format, ...) {
        va_list ap;

        c->error_name = mfree(c->error_name);
        c->error_message = mfree(c->error_message);
        va_start(ap, format);
        if (vasprintf(&c->error_message, format, ap) < 0)
                c->error_message = NULL;
        va_end(ap);
        return r;
}

uint64_t connection_timeout(const egm_connection *c, uint64_t usec) {
        if (c->interactive && __builtin_add_overflow(usec, INTERACTIVE_USEC, &usec))
                usec = UINT64_MAX;
        return usec;
}

int connection_call(egm_connection *c, sd_bus_message *m, uint64_t usec, sd_bus_message **reply) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(c->bus, m, usec, &error, reply);

        return r < 0 ? connection_fail(c, r, &error) : 0;
}

int connection_new_call(egm_connection *c, const char *path, const char *interface,
                        const char *member, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(c->bus, ret, EGM_BUS_NAME, path, interface, member);
}

int connection_get_all(egm_connection *c, const char *path, const char *interface,
                       sd_bus_message **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = connection_new_call(c, path, "org.freedesktop.DBus.Properties", "GetAll", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", interface);
        if (r < 0)
                return r;
        return connection_call(c, m, 0, ret);
}

int connection_no_object(egm_connection *c, int r, int no_such, const char *what,
                         const char *name) {
        if (!streq_ptr(c->error_name, SD_BUS_ERROR_UNKNOWN_OBJECT) &&
            !streq_ptr(c->error_name, SD_BUS_ERROR_UNKNOWN_INTERFACE))
                return r;
        return connection_refuse(c, no_such, "There is no %s '%s'", what, name);
}

int bad_message(int r) {
        return r == -ENXIO || r == -EINVAL ? -EBADMSG : r;
}

bool name_is_valid(const char *name) {
        static const char good[] =
                        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

        return name && *name && !name[strspn(name, good)];
}

int path_from_name(const char *prefix, const char *name, char **ret) {
        assert(name_is_valid(name));
        return asprintf(ret, "%s/%s", prefix, name) < 0 ? -ENOMEM : 0;
}

const char *name_from_path(const char *prefix, const char *path) {
        size_t n = strlen(prefix);

        if (strncmp(path, prefix, n) != 0 || path[n] != '/' || !name_is_valid(path + n + 1))
                return NULL;
        return path + n + 1;
}

_public_ int egm_connection_set_interactive(egm_connection *c, int interactive) {
        int r = connection_begin(c);

        if (r < 0)
                return r;
        r = sd_bus_set_allow_interactive_authorization(c->bus, interactive != 0);
        if (r < 0)
                return r;
        c->interactive = interactive != 0;
        /* 0: the default again. */
        return sd_bus_set_method_call_timeout(c->bus, interactive ? INTERACTIVE_USEC : 0);
}

_public_ const char *egm_connection_get_error_name(egm_connection *c) {
        return c ? c->error_name : NULL;
}

_public_ const char *egm_connection_get_error_message(egm_connection *c) {
        return c ? c->error_message : NULL;
}

_public_ int egm_connection_get_fd(egm_connection *c) {
        int r = connection_begin(c);

        return r < 0 ? r : sd_bus_get_fd(c->bus);
}

_public_ int egm_connection_get_events(egm_connection *c) {
        int r = connection_begin(c);

        return r < 0 ? r : sd_bus_get_events(c->bus);
}

_public_ int egm_connection_get_timeout(egm_connection *c, uint64_t *ret_usec) {
        uint64_t usec;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!ret_usec)
                return -EINVAL;
        r = sd_bus_get_timeout(c->bus, &usec);
        if (r < 0)
                return r;
        *ret_usec = usec;
        return 0;
}

_public_ int egm_connection_dispatch(egm_connection *c) {
        _cleanup_egm_(connection) egm_connection *keep = NULL;
        int n = 0, r = connection_begin(c);

        if (r < 0)
                return r;
        keep = egm_connection_ref(c); /* a callback may give up the last reference */
        for (; n < DISPATCH_MAX; n++) {
                r = sd_bus_process(c->bus, NULL);
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
        }
        return n;
}

_public_ int egm_connection_wait(egm_connection *c, uint64_t timeout_usec) {
        int r = connection_begin(c);

        return r < 0 ? r : sd_bus_wait(c->bus, timeout_usec);
}

_public_ int egm_set_schedulable(egm_connection *c, const char *region, int schedulable) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *path = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!region)
                return -EINVAL;
        if (!name_is_valid(region))
                return connection_refuse(c, -ENODEV, "There is no region '%s'", region);
        r = path_from_name(EGM_REGION_PATH, region, &path);
        if (r < 0)
                return r;
        r = connection_new_call(c, path, EGM_REGION_INTERFACE, "SetSchedulable", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "b", schedulable);
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, NULL);
        return r < 0 ? connection_no_object(c, r, -ENODEV, "region", region) : 0;
}
