/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egm-names.h"
#include "fd-util.h"
#include "internal.h"

/* ---- Calls on a lease ---- */

static int new_lease_call(egm_connection *c, const char *path, const char *member,
                          sd_bus_message **ret) {
        return connection_new_call(c, path, EGM_LEASE_INTERFACE, member, ret);
}

static int release_path(egm_connection *c, const char *path, const char *id) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = new_lease_call(c, path, "Release", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "a{sv}", 0);
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, NULL);
        return r < 0 ? connection_no_object(c, r, -ENOENT, "lease", id) : 0;
}

static int call_with_process(egm_connection *c, const char *path, const char *id,
                             const char *member, int pidfd) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        if (pidfd < 0)
                return -EINVAL;
        r = new_lease_call(c, path, member, &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "h", pidfd);
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, NULL);
        return r < 0 ? connection_no_object(c, r, -ENOENT, "lease", id) : 0;
}

static int new_retired_call(egm_connection *c, egm_lease *l, sd_bus_message **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = connection_new_call(c, l->path, "org.freedesktop.DBus.Properties", "Get", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "ss", EGM_LEASE_INTERFACE, "RetiredRanges");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static int fetch_retired(egm_lease *l) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = new_retired_call(l->connection, l, &m);
        if (r < 0)
                return r;
        r = connection_call(l->connection, m, 0, &reply);
        return r < 0 ? r : lease_read_retired(l, reply);
}

/* Gives back a lease that the caller will not get to see. Closing the descriptors ends any but a persistent one; that
 * one is told, and what the daemon answers changes nothing for us. */
static void abandon(egm_connection *c, const char *path) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;

        if (!name_from_path(EGM_LEASE_PATH, path) || new_lease_call(c, path, "Release", &m) < 0 ||
            sd_bus_message_append(m, "a{sv}", 0) < 0 || sd_bus_message_set_expect_reply(m, 0) < 0)
                return;
        (void) sd_bus_send(c->bus, m, NULL);
}

/* ---- Acquire ---- */

static int read_grant(egm_connection *c, sd_bus_message *m, egm_request *request, egm_lease **ret) {
        _cleanup_egm_(lease) egm_lease *l = NULL;
        const char *path;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return bad_message(r);
        r = lease_new(c, path, &l);
        if (r >= 0)
                r = lease_read_descriptors(l, m);
        if (r >= 0)
                r = lease_check(l, request);
        if (r < 0) {
                abandon(c, path);
                return bad_message(r);
        }
        *ret = TAKE_PTR(l);
        return 0;
}

static int new_acquire_call(egm_connection *c, egm_request *request, sd_bus_message **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = connection_new_call(c, EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease", &m);
        if (r < 0)
                return r;
        r = request_append(request, m);
        if (r < 0)
                return r == -EINVAL ? connection_refuse(c, r, "A string is not UTF-8") : r;
        *ret = TAKE_PTR(m);
        return 0;
}

_public_ int egm_acquire(egm_connection *c, egm_request *request, egm_lease **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_egm_(lease) egm_lease *l = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!request || !ret)
                return -EINVAL;
        r = new_acquire_call(c, request, &m);
        if (r < 0)
                return r;
        r = connection_call(c, m, connection_timeout(c, request_timeout(request)), &reply);
        if (r < 0)
                return r;
        r = read_grant(c, reply, request, &l);
        if (r < 0)
                return r;
        r = fetch_retired(l);
        if (r < 0) {
                abandon(c, l->path);
                return r;
        }
        *ret = TAKE_PTR(l);
        return 0;
}

/* ---- Acquire without waiting ---- */

/* One reference is the caller's, one belongs to the call that is under way. Without the caller's it is cancelled. */
struct egm_pending {
        unsigned n_ref;
        unsigned n_calls;
        egm_connection *connection; /* borrowed: it outlives the call's slot, where it is used */
        egm_acquire_callback callback;
        void *userdata;
        egm_request *request;
        /* Granted, its retired ranges asked for. Without its reference to the connection, which would keep alive the
         * call that keeps this alive. */
        egm_lease *lease;
};

static void pending_free(egm_pending *p) {
        if (p->n_calls > 0)
                return;
        egm_request_unref(p->request);
        free(p);
}

_public_ egm_pending *egm_pending_ref(egm_pending *p) {
        if (p) {
                assert(p->n_ref > 0);
                p->n_ref++;
        }
        return p;
}

_public_ egm_pending *egm_pending_unref(egm_pending *p) {
        if (p) {
                assert(p->n_ref > 0);
                if (--p->n_ref == 0) {
                        p->callback = NULL;
                        pending_free(p);
                }
        }
        return NULL;
}

static void call_destroyed(void *userdata) {
        egm_pending *p = userdata;

        assert(p->n_calls > 0);
        p->n_calls--;
        if (p->n_calls == 0) {
                p->lease = egm_lease_unref(p->lease);
                if (p->n_ref == 0)
                        pending_free(p);
        }
}

static int call_async(egm_pending *p, sd_bus_message *m, sd_bus_message_handler_t handler,
                      uint64_t usec) {
        sd_bus_slot *slot = NULL;
        int r;

        r = sd_bus_call_async(p->connection->bus, &slot, m, handler, p, usec);
        if (r < 0)
                return r;
        p->n_calls++;
        (void) sd_bus_slot_set_destroy_callback(slot, call_destroyed);
        /* The connection keeps it: a cancelled request must still give back what is granted. */
        (void) sd_bus_slot_set_floating(slot, true);
        sd_bus_slot_unref(slot);
        return 0;
}

static void finish(egm_pending *p, int r) {
        _cleanup_egm_(lease) egm_lease *l = TAKE_PTR(p->lease);
        egm_acquire_callback callback = p->callback;

        p->callback = NULL;
        if (l && (r < 0 || !callback))
                abandon(p->connection, l->path);
        else if (l)
                l->connection = egm_connection_ref(p->connection);
        if (callback)
                callback(p->connection, r < 0 ? r : 0, r < 0 ? NULL : TAKE_PTR(l), p->userdata);
}

/* Finds out what went wrong, if something did. */
static int reply_error(egm_pending *p, sd_bus_message *m) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        int r = connection_begin(p->connection);

        if (r < 0)
                return r;
        return error ? connection_fail(p->connection, -EIO, error) : 0;
}

static int on_retired(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        egm_pending *p = userdata;
        int r = reply_error(p, m);

        if (r >= 0)
                r = lease_read_retired(p->lease, m);
        finish(p, r);
        return 1;
}

static int on_grant(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_bus_message_ sd_bus_message *next = NULL;
        egm_pending *p = userdata;
        int r = reply_error(p, m);

        if (r >= 0)
                r = read_grant(p->connection, m, p->request, &p->lease);
        if (r >= 0)
                p->lease->connection = egm_connection_unref(p->lease->connection);
        if (r >= 0 && p->callback) {
                r = new_retired_call(p->connection, p->lease, &next);
                if (r >= 0)
                        r = call_async(p, next, on_retired, 0);
                if (r >= 0)
                        return 1;
        }
        finish(p, r);
        return 1;
}

_public_ int egm_acquire_async(egm_connection *c, egm_request *request,
                               egm_acquire_callback callback, void *userdata,
                               egm_pending **ret_pending) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_egm_(pending) egm_pending *p = NULL;
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!request || !callback)
                return -EINVAL;
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->n_ref = 1;
        p->connection = c;
        p->callback = callback;
        p->userdata = userdata;
        r = request_copy(request, &p->request);
        if (r < 0)
                return r;
        r = new_acquire_call(c, request, &m);
        if (r < 0)
                return r;
        r = call_async(p, m, on_grant, connection_timeout(c, request_timeout(request)));
        if (r < 0)
                return r;
        if (ret_pending)
                *ret_pending = TAKE_PTR(p);
        else {
                /* Nobody can cancel it; the call alone keeps it. */
                p->n_ref = 0;
                p = NULL;
        }
        return 0;
}

/* ---- Leases by object and by id ---- */

static int lease_begin(egm_lease *l) {
        if (!l)
                return -EINVAL;
        if (l->origin != getpid())
                return -ECHILD;
        return l->connection ? connection_begin(l->connection) : 0;
}

_public_ int egm_lease_release(egm_lease *l) {
        int r = lease_begin(l);

        if (r < 0)
                return r;
        if (l->connection)
                r = release_path(l->connection, l->path, l->id);
        /* Even if it could not be told: what we hold must not keep the memory. */
        for (size_t i = 0; i < l->n_slices; i++)
                l->slices[i].fd = safe_close(l->slices[i].fd);
        l->lifetime_fd = safe_close(l->lifetime_fd);
        return r;
}

_public_ int egm_lease_bind(egm_lease *l, int pidfd) {
        int r = lease_begin(l);

        if (r < 0)
                return r;
        return l->connection ? call_with_process(l->connection, l->path, l->id, "Bind", pidfd)
                             : -ENOTCONN;
}

_public_ int egm_lease_admit(egm_lease *l, int pidfd) {
        int r = lease_begin(l);

        if (r < 0)
                return r;
        return l->connection ? call_with_process(l->connection, l->path, l->id, "Admit", pidfd)
                             : -ENOTCONN;
}

static int read_dmabufs(egm_lease *l, sd_bus_message *m, int *fds) {
        const char *region;
        size_t n = 0;
        int fd, r;

        r = sd_bus_message_enter_container(m, 'a', "(sh)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sh)", &region, &fd)) > 0) {
                if (n >= l->n_slices || !streq(region, l->slices[n].region))
                        return -EBADMSG;
                fds[n] = fd_copy(fd);
                if (fds[n] < 0)
                        return fds[n];
                n++;
        }
        if (r < 0)
                return r;
        return n == l->n_slices ? 0 : -EBADMSG;
}

_public_ int egm_lease_export_dmabuf(egm_lease *l, int *ret_fds) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ int *fds = NULL;
        int r = lease_begin(l);

        if (r < 0)
                return r;
        if (!ret_fds)
                return -EINVAL;
        if (!l->connection)
                return -ENOTCONN;
        fds = calloc(l->n_slices + 1, sizeof(*fds));
        if (!fds)
                return -ENOMEM;
        for (size_t i = 0; i < l->n_slices; i++)
                fds[i] = -EBADF;
        r = new_lease_call(l->connection, l->path, "ExportDmabuf", &m);
        if (r < 0)
                return r;
        r = connection_call(l->connection, m, 0, &reply);
        if (r < 0)
                return connection_no_object(l->connection, r, -ENOENT, "lease", l->id);
        r = read_dmabufs(l, reply, fds);
        if (r < 0) {
                for (size_t i = 0; i < l->n_slices; i++)
                        safe_close(fds[i]);
                return bad_message(r);
        }
        memcpy(ret_fds, fds, l->n_slices * sizeof(*fds));
        return 0;
}

/* -ENOENT with a sentence for what cannot be an id. */
static int id_to_path(egm_connection *c, const char *id, char **ret) {
        int r = connection_begin(c);

        if (r < 0)
                return r;
        if (!id)
                return -EINVAL;
        if (!name_is_valid(id))
                return connection_refuse(c, -ENOENT, "There is no lease '%s'", id);
        return path_from_name(EGM_LEASE_PATH, id, ret);
}

_public_ int egm_release(egm_connection *c, const char *id) {
        _cleanup_free_ char *path = NULL;
        int r = id_to_path(c, id, &path);

        return r < 0 ? r : release_path(c, path, id);
}

_public_ int egm_bind(egm_connection *c, const char *id, int pidfd) {
        _cleanup_free_ char *path = NULL;
        int r = id_to_path(c, id, &path);

        return r < 0 ? r : call_with_process(c, path, id, "Bind", pidfd);
}

_public_ int egm_reopen(egm_connection *c, const char *id, egm_lease **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_egm_(lease) egm_lease *l = NULL;
        _cleanup_free_ char *path = NULL;
        int r = id_to_path(c, id, &path);

        if (r < 0)
                return r;
        if (!ret)
                return -EINVAL;
        r = new_lease_call(c, path, "Reopen", &m);
        if (r < 0)
                return r;
        r = connection_call(c, m, 0, &reply);
        if (r < 0)
                return connection_no_object(c, r, -ENOENT, "lease", id);
        r = lease_new(c, path, &l);
        if (r < 0)
                return r;
        r = lease_read_descriptors(l, reply);
        if (r < 0)
                return bad_message(r);
        r = lease_check(l, NULL);
        if (r < 0)
                return r;
        r = fetch_retired(l);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}
