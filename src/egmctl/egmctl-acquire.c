/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "egmctl.h"

static int add_slice(egm_request *request, const SliceOption *s) {
        int slice, r;

        slice = s->whole ? egm_request_add_whole_slice(request)
                         : egm_request_add_slice(request, s->size);
        if (slice < 0)
                return slice;
        r = egm_request_set_slice_region(request, (size_t) slice, s->region);
        if (r >= 0)
                r = egm_request_set_slice_gpu(request, (size_t) slice, s->gpu);
        if (r >= 0 && s->has_node)
                r = egm_request_set_slice_node(request, (size_t) slice, s->node);
        if (r >= 0 && s->has_socket)
                r = egm_request_set_slice_socket(request, (size_t) slice, s->socket);
        if (r >= 0 && s->has_align)
                r = egm_request_set_slice_align(request, (size_t) slice, s->align);
        if (r >= 0)
                r = egm_request_set_slice_include_retired(request, (size_t) slice,
                                                          s->include_retired);
        return r;
}

static int new_request(const Options *o, const char *label, egm_request **ret) {
        _cleanup_egm_(request) egm_request *request = NULL;
        int r;

        r = egm_request_new(&request);
        if (r < 0)
                return r;
        for (size_t i = 0; i < o->n_slices; i++) {
                r = add_slice(request, o->slices + i);
                if (r < 0)
                        return r;
        }
        r = egm_request_set_label(request, o->label ?: label);
        if (r >= 0)
                r = egm_request_set_persistent(request, o->persistent);
        if (r >= 0)
                r = egm_request_set_dmabuf(request, o->dmabuf);
        if (r >= 0 && o->has_delegate)
                r = egm_request_set_delegate(request, o->delegate);
        if (r >= 0 && o->has_owner)
                r = egm_request_set_owner(request, o->owner);
        if (r >= 0)
                r = egm_request_set_wait(request, o->wait_usec);
        if (r >= 0)
                *ret = TAKE_PTR(request);
        return r;
}

int acquire(const Options *o, egm_connection *c, const char *label, egm_lease **ret) {
        _cleanup_egm_(request) egm_request *request = NULL;
        int r;

        r = new_request(o, label, &request);
        if (r < 0)
                return complain_oom();
        r = egm_acquire(c, request, ret);
        return r < 0 ? complain_call(c, r, "Failed to acquire a lease") : 0;
}
