/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <limits.h>

#include "json-read.h"
#include "sim-config.h"
#include "size.h"
#include "sysfs-egm.h"

#define DEPTH_MAX 8
#define REGIONS_MAX 256U

/* What a reader reads. */
typedef struct Machine {
        uint64_t scale;
        SimConfig *config;
} Machine;

/* item(): as in JsonField, with the same dest for each. */
static int parse_array(JsonReader *p, const JsonValue *v, size_t max,
                       int (*item)(JsonReader *p, const JsonValue *v, void *dest), void *dest) {
        size_t n;
        int r;

        r = json_read_length(p, v, 0, max, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                JsonValue m = json_value_item(v, i);

                r = item(p, &m, dest);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A number of bytes, or text with a unit. */
static int parse_bytes(JsonReader *p, const JsonValue *v, void *dest) {
        uint64_t *ret = dest;
        int r;

        switch (json_object_get_type(v->json)) {
        case json_type_int:
                if (json_object_get_int64(v->json) < 0)
                        return json_read_refuse(p, v, "negative");
                *ret = json_object_get_uint64(v->json);
                return 0;
        case json_type_string:
                r = parse_size(json_object_get_string(v->json), ret);
                if (r < 0)
                        return json_read_refuse(p, v, "\"%s\" is %s",
                                                json_object_get_string(v->json),
                                                r == -ERANGE ? "too large" : "not a size");
                return 0;
        default:
                return json_read_refuse(p, v,
                                        "not a size (a number of bytes, or text like \"4G\")");
        }
}

static int parse_count(JsonReader *p, const JsonValue *v, void *dest) {
        int r = json_read_expect(p, v, json_type_int, "a number");

        if (r < 0)
                return r;
        if (json_object_get_int64(v->json) < 1)
                return json_read_refuse(p, v, "counts from 1");
        *(uint64_t *) dest = json_object_get_uint64(v->json);
        return 0;
}

/* Node or socket. */
static int parse_index(JsonReader *p, const JsonValue *v, void *dest) {
        int64_t i;
        int r;

        r = json_read_expect(p, v, json_type_int, "a number");
        if (r < 0)
                return r;
        i = json_object_get_int64(v->json);
        if (i < -1 || i > SYSFS_EGM_NODE_MAX)
                return json_read_refuse(p, v, "%" PRIi64 " is not between -1 and %d", i,
                                        SYSFS_EGM_NODE_MAX);
        *(int *) dest = (int) i;
        return 0;
}

static int parse_name(JsonReader *p, const JsonValue *v, void *dest) {
        const Machine *machine = p->userdata;
        char **ret = dest;
        int pxm, r;

        r = json_read_string(p, v, dest);
        if (r < 0)
                return r;
        if (sysfs_egm_parse_name(*ret, &pxm) < 0)
                return json_read_refuse(p, v, "\"%s\" is not \"egm\" and a number", *ret);
        for (size_t i = 0; i < machine->config->n_regions; i++) {
                char **other = &machine->config->regions[i].name;

                if (other != ret && streq_ptr(*other, *ret))
                        return json_read_refuse(p, v, "\"%s\" is there twice", *ret);
        }
        return 0;
}

static int parse_region_size(JsonReader *p, const JsonValue *v, void *dest) {
        const Machine *machine = p->userdata;
        uint64_t size, granule = provider_granule();
        int r;

        r = parse_bytes(p, v, &size);
        if (r < 0)
                return r;
        if (size > INT64_MAX)
                return json_read_refuse(p, v, "%" PRIu64 " is too large", size);
        if (size % granule != 0)
                return json_read_refuse(p, v, "%" PRIu64 " is not a multiple of %s", size,
                                        FORMAT_SIZE(granule));
        size = sim_config_scale(size, machine->scale);
        if (size == 0)
                return json_read_refuse(p, v, "nothing is left of it with --scale=%" PRIu64,
                                        machine->scale);
        *(uint64_t *) dest = size;
        return 0;
}

static int parse_variant(JsonReader *p, const JsonValue *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        SimVariant variant;
        int r;

        r = json_read_string(p, v, &s);
        if (r < 0)
                return r;
        variant = sim_variant_from_string(s);
        if (variant < 0)
                return json_read_refuse(p, v, "\"%s\" is not K2, R2, S3, S4 or D", s);
        *(SimVariant *) dest = variant;
        return 0;
}

static int parse_list_fault(JsonReader *p, const JsonValue *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        SimListFault fault;
        int r;

        r = json_read_string(p, v, &s);
        if (r < 0)
                return r;
        fault = sim_list_fault_from_string(s);
        if (fault < 0)
                return json_read_refuse(p, v, "\"%s\" is no way for the list to fail", s);
        *(SimListFault *) dest = fault;
        return 0;
}

static int parse_errno(JsonReader *p, const JsonValue *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        int r;

        r = json_read_string(p, v, &s);
        if (r < 0)
                return r;
        for (int e = 1; e < 4096; e++)
                if (streq_ptr(strerrorname_np(e), s)) {
                        *(int *) dest = e;
                        return 0;
                }
        return json_read_refuse(p, v, "\"%s\" is no error's name", s);
}

static int gpu_compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static bool config_has_gpu(const SimConfig *c, const char *address) {
        for (size_t i = 0; i < c->n_regions; i++)
                for (size_t k = 0; k < c->regions[i].n_gpus; k++)
                        if (streq(c->regions[i].gpus[k], address))
                                return true;
        return false;
}

static int parse_gpu(JsonReader *p, const JsonValue *v, void *dest) {
        const Machine *machine = p->userdata;
        SimRegion *s = dest;
        _cleanup_free_ char *address = NULL;
        char **gpus;
        int r;

        r = json_read_string(p, v, &address);
        if (r < 0)
                return r;
        if (!pci_address_is_normal(address))
                return json_read_refuse(p, v, "\"%s\" is not a PCI address like 0008:01:00.0",
                                        address);
        if (config_has_gpu(machine->config, address))
                return json_read_refuse(p, v, "\"%s\" is there twice", address);
        gpus = reallocarray(s->gpus, s->n_gpus + 1, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        s->gpus = gpus;
        s->gpus[s->n_gpus++] = TAKE_PTR(address);
        return 0;
}

static int parse_gpus(JsonReader *p, const JsonValue *v, void *dest) {
        SimRegion *s = dest;
        int r;

        r = parse_array(p, v, 64, parse_gpu, s);
        if (r < 0)
                return r;
        if (s->n_gpus > 0)
                qsort(s->gpus, s->n_gpus, sizeof(*s->gpus), gpu_compare);
        return 0;
}

/* A list of ranges, each a multiple of unit and inside the region. */
typedef struct RangesTarget {
        Ranges *ranges;
        uint64_t size;
        uint64_t unit;
} RangesTarget;

static int parse_range(JsonReader *p, const JsonValue *v, void *dest) {
        static const JsonField fields[] = {
                        {"offset", parse_bytes, offsetof(Range, offset)},
                        {"size", parse_bytes, offsetof(Range, size)},
                        {},
        };
        const RangesTarget *t = dest;
        Range range = {};
        int r;

        r = json_read_object(p, v, fields, &range);
        if (r < 0)
                return r;
        if (range.size == 0 || range.offset % t->unit != 0 || range.size % t->unit != 0)
                return json_read_refuse(p, v,
                                        "offset %#" PRIx64 " and size %#" PRIx64
                                        " are not multiples of %s, at least one",
                                        range.offset, range.size, FORMAT_SIZE(t->unit));
        if (range.offset >= t->size || range.size > t->size - range.offset)
                return json_read_refuse(p, v,
                                        "offset %#" PRIx64 " and size %#" PRIx64
                                        " lead beyond the region's %#" PRIx64,
                                        range.offset, range.size, t->size);
        return ranges_add(t->ranges, range.offset, range.size);
}

static int parse_retired(JsonReader *p, const JsonValue *v, void *dest) {
        SimRegion *s = dest;
        RangesTarget t = {&s->retired, s->size, 64 * KIB};

        return parse_array(p, v, 4096, parse_range, &t);
}

static int parse_bad(JsonReader *p, const JsonValue *v, void *dest) {
        SimRegion *s = dest;
        RangesTarget t = {&s->faults.bad, s->size, (uint64_t) sysconf(_SC_PAGESIZE)};

        return parse_array(p, v, 4096, parse_range, &t);
}

static int parse_faults(JsonReader *p, const JsonValue *v, void *dest) {
#define FAULT(member) offsetof(SimRegion, faults.member)
        static const JsonField fields[] = {
                        {"open_errno", parse_errno, FAULT(open_errno), .optional = true},
                        {"open_gate", json_read_string, FAULT(open_gate), .optional = true},
                        {"held", json_read_bool, FAULT(held), .optional = true},
                        {"useless", json_read_bool, FAULT(useless), .optional = true},
                        {"list", parse_list_fault, FAULT(list), .optional = true},
                        {"mmap_fail_at", parse_count, FAULT(mmap_fail_at), .optional = true},
                        {"bad", parse_bad, 0, .optional = true},
                        {},
        };
#undef FAULT

        return json_read_object(p, v, fields, dest);
}

static int parse_region(JsonReader *p, const JsonValue *v, void *dest) {
        static const JsonField fields[] = {
                        {"name", parse_name, offsetof(SimRegion, name)},
                        {"size", parse_region_size, offsetof(SimRegion, size)},
                        {"instance", parse_count, offsetof(SimRegion, instance), .optional = true},
                        {"node", parse_index, offsetof(SimRegion, node), .optional = true},
                        {"socket", parse_index, offsetof(SimRegion, socket), .optional = true},
                        {"variant", parse_variant, offsetof(SimRegion, variant), .optional = true},
                        {"gpus", parse_gpus, 0, .optional = true},
                        {"retired", parse_retired, 0, .optional = true},
                        {"faults", parse_faults, 0, .optional = true},
                        {},
        };
        SimConfig *c = ((const Machine *) p->userdata)->config;
        SimRegion *s = c->regions + c->n_regions++;

        *s = SIM_REGION_INIT;
        return json_read_object(p, v, fields, s);
}

static int parse_regions(JsonReader *p, const JsonValue *v, void *dest) {
        SimConfig *c = ((const Machine *) p->userdata)->config;
        size_t n;
        int r;

        r = json_read_length(p, v, 1, REGIONS_MAX, &n);
        if (r < 0)
                return r;
        c->regions = calloc(n, sizeof(*c->regions));
        if (!c->regions)
                return -ENOMEM;
        return parse_array(p, v, REGIONS_MAX, parse_region, NULL);
}

int sim_config_parse(const char *text, const char *name, uint64_t scale, SimConfig **ret,
                     EgmError *reterr) {
        static const JsonField fields[] = {
                        {"regions", parse_regions, 0},
                        {},
        };
        _cleanup_(sim_config_freep) SimConfig *c = NULL;
        _cleanup_json_ json_object *json = NULL;
        Machine machine = {.scale = scale};
        _cleanup_json_reader_ JsonReader p = {.depth_max = DEPTH_MAX, .userdata = &machine};
        JsonValue v = {};
        int r;

        assert(text);
        assert(strlen(text) < INT_MAX);
        assert(name);
        assert(scale > 0);
        assert(ret);

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        machine.config = c;
        r = json_read_text(&p, text, strlen(text), &json);
        if (r >= 0) {
                v.json = json;
                r = json_read_object(&p, &v, fields, c);
        }
        if (r == -EBADMSG)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "%s: %s", name, p.why);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}
