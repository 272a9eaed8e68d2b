/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "describe.h"
#include "egmctl.h"
#include "format.h"

/* format: what the daemon and the host say of a lease, as the input of what is computed from it. */
typedef struct Source {
        egm_snapshot *snapshot; /* keeps the strings of the rest */
        egm_lease_info *lease;  /* borrowed from it */
        egm_lease *environment; /* the descriptors of the lease, if we run inside it */
        GuestSlice *slices;
        egm_region **regions; /* by slice; borrowed */
        char **paths;         /* by slice; NULL: the region's */
        size_t n_slices;
        GuestGpu *gpus;
        size_t n_gpus;
        size_t n_gpus_of_regions;
        NodeDistances distances;
} Source;

static void source_done(Source *s) {
        for (size_t i = 0; s->paths && i < s->n_slices; i++)
                free(s->paths[i]);
        free(s->paths);
        free(s->slices);
        free(s->regions);
        free(s->gpus);
        node_distances_done(&s->distances);
        egm_lease_unref(s->environment);
        egm_snapshot_unref(s->snapshot);
}

/* ---- The lease ---- */

static egm_region *find_region(egm_snapshot *s, const char *name) {
        egm_region *region;

        for (size_t i = 0; (region = egm_snapshot_get_region(s, i)); i++)
                if (streq(egm_region_get_name(region), name))
                        return region;
        return NULL;
}

static int find_lease(Source *s, egm_connection *c, const char *id) {
        _cleanup_egm_(lease_info) egm_lease_info *info = NULL;
        egm_lease_info *lease;
        int r;

        for (size_t i = 0; (lease = egm_snapshot_get_lease(s->snapshot, i)); i++)
                if (streq(egm_lease_info_get_id(lease), id)) {
                        s->lease = lease;
                        return 0;
                }
        /* For the words. */
        r = egm_get_lease_info(c, id, &info);
        if (r < 0)
                return complain_call(c, r, "Failed to look at lease %s", id);
        complain("Lease %s came only now, try again", id);
        return STATUS_FAILED;
}

static int add_slices(Source *s, const char *id) {
        const char *state = egm_lease_info_get_state(s->lease), *name;
        size_t n = egm_lease_info_count_slices(s->lease);
        uint64_t offset, size;

        if (!streq(state, "active") || n == 0) {
                complain("Lease %s is not to be used any more: %s", id, state);
                return STATUS_FAILED;
        }
        s->slices = calloc(n, sizeof(*s->slices));
        s->regions = calloc(n, sizeof(*s->regions));
        s->paths = calloc(n, sizeof(*s->paths));
        if (!s->slices || !s->regions || !s->paths)
                return complain_oom();
        for (size_t i = 0; egm_lease_info_get_slice(s->lease, i, &name, &offset, &size) >= 0; i++) {
                egm_region *region = find_region(s->snapshot, name);

                if (!region) {
                        complain("Region %s of lease %s is gone", name, id);
                        return STATUS_NOT_FOUND;
                }
                s->regions[i] = region;
                s->slices[i] = (GuestSlice){
                                .region = name,
                                .path = egm_region_get_device_path(region),
                                .offset = offset,
                                .size = size,
                                .region_size = egm_region_get_size(region),
                                .node = egm_region_get_node(region),
                                .fd = -1,
                };
                s->n_slices++;
        }
        return 0;
}

static int set_memmap_types(Source *s, const FormatOption *f) {
        for (size_t i = 0; i < f->n_memmaps; i++) {
                if (f->memmaps[i].slice >= s->n_slices) {
                        complain("--memmap-type=%zu:…: the lease has no such slice, it has %zu",
                                 f->memmaps[i].slice, s->n_slices);
                        return STATUS_USAGE;
                }
                s->slices[f->memmaps[i].slice].memmap_type = f->memmaps[i].type;
        }
        return 0;
}

/* ---- Its descriptors ---- */

static int set_fd(Source *s, size_t i, int fd) {
        if (asprintf(&s->paths[i], "/proc/self/fd/%d", fd) < 0) {
                s->paths[i] = NULL;
                return complain_oom();
        }
        s->slices[i].path = s->paths[i];
        s->slices[i].fd = fd;
        return 0;
}

static int set_fds(Source *s, const FormatOption *f) {
        if (f->n_fds != s->n_slices) {
                complain("--fd= has %zu descriptors, and the lease %zu slices", f->n_fds,
                         s->n_slices);
                return STATUS_USAGE;
        }
        for (size_t i = 0; i < s->n_slices; i++) {
                int r = set_fd(s, i, f->fds[i]);

                if (r != 0)
                        return r;
        }
        return 0;
}

/* Under `egmctl run` of this lease its descriptors are known. Only crosvm copies a descriptor that it is given as such a path;
 * the others would open the device once more. */
static int set_inherited_fds(Source *s, const char *id) {
        const char *inherited = getenv("EGM_LEASE");
        int fd, r;

        if (!inherited || !streq(inherited, id))
                return 0;
        r = egm_lease_new_from_environment(0, &s->environment);
        if (r < 0 || egm_lease_count_slices(s->environment) != s->n_slices) {
                complain("The lease's descriptors are not here: %s",
                         strerror(r < 0 ? -r : EBADMSG));
                return STATUS_FAILED;
        }
        for (size_t i = 0; egm_lease_get_slice(s->environment, i, NULL, &fd, NULL, NULL) >= 0;
             i++) {
                r = set_fd(s, i, fd);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* ---- Its GPUs ---- */

static bool is_first_of_region(const Source *s, size_t slice) {
        for (size_t i = 0; i < slice; i++)
                if (s->regions[i] == s->regions[slice])
                        return false;
        return true;
}

/* Is it wanted? *ret_id: as what. */
static bool choose_gpu(const FormatOption *f, const char *address, const char **ret_id) {
        bool chosen = f->n_gpus == 0 && !f->no_gpus;

        *ret_id = NULL;
        for (size_t i = 0; i < f->n_gpus; i++)
                if (streq(f->gpus[i].address, address)) {
                        f->gpus[i].used = true;
                        *ret_id = f->gpus[i].id;
                        chosen = true;
                }
        return chosen;
}

static int add_gpus_of(Source *s, const FormatOption *f, size_t slice) {
        const char *address, *id;

        for (size_t i = 0; egm_region_get_gpu(s->regions[slice], i, &address, NULL) >= 0; i++) {
                GuestGpu *t;

                s->n_gpus_of_regions++;
                if (!choose_gpu(f, address, &id))
                        continue;
                t = reallocarray(s->gpus, s->n_gpus + 1, sizeof(*t));
                if (!t)
                        return complain_oom();
                s->gpus = t;
                s->gpus[s->n_gpus++] = (GuestGpu){.address = address, .id = id, .slice = slice};
        }
        return 0;
}

static int add_gpus(Source *s, const FormatOption *f, const char *lease) {
        for (size_t i = 0; i < s->n_slices; i++) {
                int r = is_first_of_region(s, i) ? add_gpus_of(s, f, i) : 0;

                if (r != 0)
                        return r;
        }
        for (size_t i = 0; i < f->n_gpus; i++) {
                if (!f->gpus[i].used) {
                        complain("GPU %s belongs to no region of lease %s", f->gpus[i].address,
                                 lease);
                        return STATUS_USAGE;
                }
                for (size_t k = 0; k < i; k++)
                        if (streq(f->gpus[i].address, f->gpus[k].address)) {
                                complain("GPU %s is given twice", f->gpus[i].address);
                                return STATUS_USAGE;
                        }
        }
        return 0;
}

/* ---- All of it ---- */

static int complain_refusal(int r, const EgmError *e) {
        if (r == -ENOMEM || !e->message)
                return complain_oom();
        complain("%s", e->message);
        return STATUS_FAILED;
}

static int read_source(Source *s, egm_connection *c, const FormatOption *f, const char *id) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        int r;

        r = find_lease(s, c, id);
        if (r == 0)
                r = add_slices(s, id);
        if (r == 0)
                r = set_memmap_types(s, f);
        if (r == 0 && f->n_fds > 0)
                r = set_fds(s, f);
        else if (r == 0 && f->consumer == CONSUMER_CROSVM)
                r = set_inherited_fds(s, id);
        if (r == 0)
                r = add_gpus(s, f, id);
        if (r != 0)
                return r;
        r = node_distances_read(f->node_directory ?: NODE_DIRECTORY, &s->distances, &e);
        return r < 0 ? complain_refusal(r, &e) : 0;
}

static int print_args(const Format *out, const FormatOption *f) {
        _cleanup_free_ char *line = NULL;

        if (!f->one_line) {
                for (size_t i = 0; i < out->n_args; i++)
                        puts(out->args[i]);
                return STATUS_OK;
        }
        if (format_quote_args(out, &line) < 0)
                return complain_oom();
        puts(line);
        return STATUS_OK;
}

static int print_format(Format *out, const Options *o) {
        JsonMode mode = o->json;
        json_object *json;

        if (out->text && mode != JSON_OFF) {
                complain("XML cannot be had as JSON");
                return STATUS_USAGE;
        }
        if (out->text) {
                fputs(out->text, stdout);
                return STATUS_OK;
        }
        if (out->json && mode == JSON_OFF)
                mode = o->format.one_line ? JSON_SHORT : JSON_PRETTY;
        if (mode == JSON_OFF)
                return print_args(out, &o->format);
        if (format_to_json(out, &json) < 0)
                return complain_oom();
        return print_json(json, mode) < 0 ? complain_oom() : STATUS_OK;
}

static int format_source(const Source *s, const Options *o, const char *lease) {
        GuestInput in = {
                        .lease = lease,
                        .slices = s->slices,
                        .n_slices = s->n_slices,
                        .gpus = s->gpus,
                        .n_gpus = s->n_gpus,
                        .n_regions_of_host = egm_snapshot_count_regions(s->snapshot),
                        .n_gpus_of_regions = s->n_gpus_of_regions,
                        .cpus = o->format.cpus,
                        .offset_allowed =
                                        o->format.allow_offset ||
                                        egm_manager_get_egm_offset_allowed(
                                                        egm_snapshot_get_manager(s->snapshot)) > 0,
                        .distances = &s->distances,
        };
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        _cleanup_format_ Format out = {};
        _cleanup_(guest_freep) Guest *g = NULL;
        int r;

        r = guest_new(&in, &g, &e);
        if (r >= 0)
                r = format_guest(g, o->format.consumer, &out, &e);
        if (r < 0)
                return complain_refusal(r, &e);
        r = print_format(&out, o);
        if (r == STATUS_OK && g->distances_assumed && consumer_has_distances(o->format.consumer))
                complain("Note: this host does not say how far the lease's nodes are from each "
                         "other; assumed");
        if (r == STATUS_OK && out.note)
                complain("Note: %s", out.note);
        return r;
}

int verb_format(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_(source_done) Source s = {};
        int r;

        r = take_snapshot(o, &c, &s.snapshot);
        if (r == 0)
                r = read_source(&s, c, &o->format, args[0]);
        return r == 0 ? format_source(&s, o, args[0]) : r;
}
