/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>

#include "fd-util.h"
#include "internal.h"

/* What the daemon gets for its answer beyond the time that the request may wait. */
#define ANSWER_USEC (25 * USEC_PER_SEC)

_public_ int egm_request_new(egm_request **ret) {
        egm_request *r;

        if (!ret)
                return -EINVAL;
        r = calloc(1, sizeof(*r));
        if (!r)
                return -ENOMEM;
        r->n_ref = 1;
        r->holder_fd = -EBADF;
        r->delegate = UINT32_MAX;
        r->owner = UINT32_MAX;
        *ret = r;
        return 0;
}

static void request_free(egm_request *r) {
        for (size_t i = 0; i < r->n_slices; i++) {
                free(r->slices[i].region);
                free(r->slices[i].gpu);
        }
        free(r->slices);
        free(r->label);
        safe_close(r->holder_fd);
        free(r);
}

DEFINE_REF_UNREF(egm_request, request_free)

static int add(egm_request *r, uint64_t size, bool whole) {
        RequestSlice *t;

        if (!r)
                return -EINVAL;
        if (r->n_slices >= INT_MAX)
                return -E2BIG;
        t = reallocarray(r->slices, r->n_slices + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        r->slices = t;
        r->slices[r->n_slices] = (RequestSlice){.size = size, .whole = whole};
        return (int) r->n_slices++;
}

_public_ int egm_request_add_slice(egm_request *r, uint64_t size) {
        return add(r, size, false);
}

_public_ int egm_request_add_whole_slice(egm_request *r) {
        return add(r, 0, true);
}

static RequestSlice *get_slice(egm_request *r, size_t slice) {
        return r && slice < r->n_slices ? r->slices + slice : NULL;
}

_public_ int egm_request_set_slice_region(egm_request *r, size_t slice, const char *region) {
        RequestSlice *s = get_slice(r, slice);

        return s ? free_and_strdup(&s->region, region) : -EINVAL;
}

_public_ int egm_request_set_slice_gpu(egm_request *r, size_t slice, const char *gpu) {
        RequestSlice *s = get_slice(r, slice);

        return s ? free_and_strdup(&s->gpu, gpu) : -EINVAL;
}

_public_ int egm_request_set_slice_node(egm_request *r, size_t slice, int node) {
        RequestSlice *s = get_slice(r, slice);

        if (!s)
                return -EINVAL;
        s->has_node = true;
        s->node = node;
        return 0;
}

_public_ int egm_request_set_slice_socket(egm_request *r, size_t slice, int socket) {
        RequestSlice *s = get_slice(r, slice);

        if (!s)
                return -EINVAL;
        s->has_socket = true;
        s->socket = socket;
        return 0;
}

_public_ int egm_request_set_slice_align(egm_request *r, size_t slice, uint64_t align) {
        RequestSlice *s = get_slice(r, slice);

        if (!s)
                return -EINVAL;
        s->has_align = true;
        s->align = align;
        return 0;
}

_public_ int egm_request_set_slice_include_retired(egm_request *r, size_t slice, int include) {
        RequestSlice *s = get_slice(r, slice);

        if (!s)
                return -EINVAL;
        s->include_retired = include;
        return 0;
}

_public_ int egm_request_set_label(egm_request *r, const char *label) {
        return r ? free_and_strdup(&r->label, label) : -EINVAL;
}

_public_ int egm_request_set_persistent(egm_request *r, int persistent) {
        if (!r)
                return -EINVAL;
        r->persistent = persistent;
        return 0;
}

_public_ int egm_request_set_delegate(egm_request *r, uint32_t uid) {
        if (!r)
                return -EINVAL;
        r->delegate = uid;
        return 0;
}

_public_ int egm_request_set_dmabuf(egm_request *r, int dmabuf) {
        if (!r)
                return -EINVAL;
        r->dmabuf = dmabuf;
        return 0;
}

_public_ int egm_request_set_owner(egm_request *r, uint32_t uid) {
        if (!r)
                return -EINVAL;
        r->owner = uid;
        return 0;
}

_public_ int egm_request_set_holder(egm_request *r, int pidfd) {
        int fd = -EBADF;

        if (!r)
                return -EINVAL;
        if (pidfd >= 0) {
                fd = fd_copy(pidfd);
                if (fd < 0)
                        return fd;
        }
        safe_close(r->holder_fd);
        r->holder_fd = fd;
        return 0;
}

_public_ int egm_request_set_wait(egm_request *r, uint64_t usec) {
        if (!r)
                return -EINVAL;
        r->wait_usec = usec;
        return 0;
}

int request_copy(egm_request *r, egm_request **ret) {
        _cleanup_egm_(request) egm_request *t = NULL;
        int k;

        k = egm_request_new(&t);
        if (k < 0)
                return k;
        for (size_t i = 0; i < r->n_slices; i++) {
                RequestSlice *s;

                k = add(t, 0, false);
                if (k < 0)
                        return k;
                s = t->slices + i;
                *s = r->slices[i];
                s->region = s->gpu = NULL;
                k = free_and_strdup(&s->region, r->slices[i].region);
                if (k < 0)
                        return k;
                k = free_and_strdup(&s->gpu, r->slices[i].gpu);
                if (k < 0)
                        return k;
        }
        t->persistent = r->persistent;
        t->delegate = r->delegate;
        t->owner = r->owner;
        t->dmabuf = r->dmabuf;
        t->wait_usec = r->wait_usec;
        k = free_and_strdup(&t->label, r->label);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(t);
        return 0;
}

uint64_t request_timeout(egm_request *r) {
        uint64_t usec;

        return __builtin_add_overflow(r->wait_usec, ANSWER_USEC, &usec) ? UINT64_MAX : usec;
}

static int append_slice(const RequestSlice *s, sd_bus_message *m) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        r = s->whole ? sd_bus_message_append(m, "{sv}", "Whole", "b", 1)
                     : sd_bus_message_append(m, "{sv}", "Size", "t", s->size);
        if (r >= 0 && s->region)
                r = sd_bus_message_append(m, "{sv}", "Region", "s", s->region);
        if (r >= 0 && s->gpu)
                r = sd_bus_message_append(m, "{sv}", "Gpu", "s", s->gpu);
        if (r >= 0 && s->has_node)
                r = sd_bus_message_append(m, "{sv}", "Node", "i", s->node);
        if (r >= 0 && s->has_socket)
                r = sd_bus_message_append(m, "{sv}", "Socket", "i", s->socket);
        if (r >= 0 && s->has_align)
                r = sd_bus_message_append(m, "{sv}", "Align", "t", s->align);
        if (r >= 0 && s->include_retired)
                r = sd_bus_message_append(m, "{sv}", "Retired", "s", "include");
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_slices(egm_request *q, sd_bus_message *m) {
        static const struct {
                char type;
                const char *contents;
        } containers[] = {{'e', "sv"}, {'v', "aa{sv}"}, {'a', "a{sv}"}};
        int r;

        for (size_t i = 0; i < ELEMENTSOF(containers); i++) {
                r = sd_bus_message_open_container(m, containers[i].type, containers[i].contents);
                if (r >= 0 && i == 0)
                        r = sd_bus_message_append(m, "s", "Slices");
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < q->n_slices; i++) {
                r = append_slice(q->slices + i, m);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < ELEMENTSOF(containers); i++) {
                r = sd_bus_message_close_container(m);
                if (r < 0)
                        return r;
        }
        return 0;
}

int request_append(egm_request *q, sd_bus_message *m) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        r = append_slices(q, m);
        if (r >= 0 && q->label)
                r = sd_bus_message_append(m, "{sv}", "Label", "s", q->label);
        if (r >= 0 && q->persistent)
                r = sd_bus_message_append(m, "{sv}", "Lifetime", "s", "persistent");
        if (r >= 0 && q->delegate != UINT32_MAX)
                r = sd_bus_message_append(m, "{sv}", "Delegate", "u", q->delegate);
        if (r >= 0 && q->dmabuf)
                r = sd_bus_message_append(m, "{sv}", "Dmabuf", "b", 1);
        if (r >= 0 && q->owner != UINT32_MAX)
                r = sd_bus_message_append(m, "{sv}", "OwnerUid", "u", q->owner);
        if (r >= 0 && q->holder_fd >= 0)
                r = sd_bus_message_append(m, "{sv}", "Holder", "h", q->holder_fd);
        if (r >= 0 && q->wait_usec > 0)
                r = sd_bus_message_append(m, "{sv}", "WaitUSec", "t", q->wait_usec);
        return r < 0 ? r : sd_bus_message_close_container(m);
}
