/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>

#include "sim-config.h"
#include "size.h"
#include "sysfs-egm.h"

#define DEPTH_MAX 8
#define REGIONS_MAX 256U
#define PLACE_MAX 96U

typedef struct Parser {
        const char *name; /* of the file */
        uint64_t scale;
        SimConfig *config;
        EgmError *reterr;
} Parser;

/* A value and where it stands: "regions[0].size". */
typedef struct Value {
        json_object *json;
        char place[PLACE_MAX];
} Value;

typedef struct Field {
        const char *key;
        bool required;
        int (*parse)(Parser *p, const Value *v, void *dest);
        size_t offset; /* of its member in the struct that is filled */
} Field;

static int parse_refuse(Parser *p, const Value *v, const char *format, ...) _printf_(3, 4);

static int parse_refuse(Parser *p, const Value *v, const char *format, ...) {
        _cleanup_free_ char *words = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&words, format, ap);
        va_end(ap);
        if (r < 0) {
                words = NULL;
                return -ENOMEM;
        }
        return egm_error_set(p->reterr, EGM_ERROR_INVALID_ARGS, "%s: %s: %s", p->name,
                             v->place[0] ? v->place : "the file", words);
}

static int value_expect(Parser *p, const Value *v, enum json_type type, const char *what) {
        return json_object_get_type(v->json) == type ? 0 : parse_refuse(p, v, "not %s", what);
}

static Value value_member(const Value *v, const char *key, json_object *json) {
        Value m = {.json = json};

        (void) snprintf(m.place, sizeof(m.place), "%.60s%s%.30s", v->place, v->place[0] ? "." : "",
                        key);
        return m;
}

static Value value_item(const Value *v, size_t i) {
        Value m = {.json = json_object_array_get_idx(v->json, i)};

        (void) snprintf(m.place, sizeof(m.place), "%.70s[%zu]", v->place, i);
        return m;
}

static const Field *fields_find(const Field *fields, const char *key) {
        for (const Field *f = fields; f->key; f++)
                if (streq(f->key, key))
                        return f;
        return NULL;
}

/* In the order of the table, so that a field can rely on those before it. */
static int parse_object(Parser *p, const Value *v, const Field *fields, void *dest) {
        int r;

        r = value_expect(p, v, json_type_object, "an object");
        if (r < 0)
                return r;
        json_object_object_foreach(v->json, key, json) {
                Value m = value_member(v, key, json);

                if (!fields_find(fields, key))
                        return parse_refuse(p, &m, "unknown key");
        }
        for (const Field *f = fields; f->key; f++) {
                Value m = value_member(v, f->key, NULL);

                if (json_object_object_get_ex(v->json, f->key, &m.json))
                        r = f->parse(p, &m, (char *) dest + f->offset);
                else
                        r = f->required ? parse_refuse(p, &m, "missing") : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* item(): as in Field, with the same dest for each. */
static int parse_array(Parser *p, const Value *v, size_t max,
                       int (*item)(Parser *p, const Value *v, void *dest), void *dest) {
        size_t n;
        int r;

        r = value_expect(p, v, json_type_array, "a list");
        if (r < 0)
                return r;
        n = json_object_array_length(v->json);
        if (n > max)
                return parse_refuse(p, v, "%zu items, at most %zu", n, max);
        for (size_t i = 0; i < n; i++) {
                Value m = value_item(v, i);

                r = item(p, &m, dest);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_bool(Parser *p, const Value *v, void *dest) {
        int r = value_expect(p, v, json_type_boolean, "true or false");

        if (r < 0)
                return r;
        *(bool *) dest = json_object_get_boolean(v->json);
        return 0;
}

/* A number of bytes, or text with a unit. */
static int parse_bytes(Parser *p, const Value *v, void *dest) {
        uint64_t *ret = dest;
        int r;

        switch (json_object_get_type(v->json)) {
        case json_type_int:
                if (json_object_get_int64(v->json) < 0)
                        return parse_refuse(p, v, "negative");
                *ret = json_object_get_uint64(v->json);
                return 0;
        case json_type_string:
                r = parse_size(json_object_get_string(v->json), ret);
                if (r < 0)
                        return parse_refuse(p, v, "\"%s\" is %s", json_object_get_string(v->json),
                                            r == -ERANGE ? "too large" : "not a size");
                return 0;
        default:
                return parse_refuse(p, v, "not a size (a number of bytes, or text like \"4G\")");
        }
}

static int parse_count(Parser *p, const Value *v, void *dest) {
        int r = value_expect(p, v, json_type_int, "a number");

        if (r < 0)
                return r;
        if (json_object_get_int64(v->json) < 1)
                return parse_refuse(p, v, "counts from 1");
        *(uint64_t *) dest = json_object_get_uint64(v->json);
        return 0;
}

/* Node or socket. */
static int parse_index(Parser *p, const Value *v, void *dest) {
        int64_t i;
        int r;

        r = value_expect(p, v, json_type_int, "a number");
        if (r < 0)
                return r;
        i = json_object_get_int64(v->json);
        if (i < -1 || i > SYSFS_EGM_NODE_MAX)
                return parse_refuse(p, v, "%" PRIi64 " is not between -1 and %d", i,
                                    SYSFS_EGM_NODE_MAX);
        *(int *) dest = (int) i;
        return 0;
}

static int parse_text(Parser *p, const Value *v, void *dest) {
        const char *s;
        int r;

        r = value_expect(p, v, json_type_string, "text");
        if (r < 0)
                return r;
        s = json_object_get_string(v->json);
        if (strlen(s) != (size_t) json_object_get_string_len(v->json))
                return parse_refuse(p, v, "a NUL character in it");
        return free_and_strdup(dest, s);
}

static int parse_name(Parser *p, const Value *v, void *dest) {
        char **ret = dest;
        int pxm, r;

        r = parse_text(p, v, dest);
        if (r < 0)
                return r;
        if (sysfs_egm_parse_name(*ret, &pxm) < 0)
                return parse_refuse(p, v, "\"%s\" is not \"egm\" and a number", *ret);
        for (size_t i = 0; i < p->config->n_regions; i++) {
                char **other = &p->config->regions[i].name;

                if (other != ret && streq_ptr(*other, *ret))
                        return parse_refuse(p, v, "\"%s\" is there twice", *ret);
        }
        return 0;
}

static int parse_region_size(Parser *p, const Value *v, void *dest) {
        uint64_t size, granule = provider_granule();
        int r;

        r = parse_bytes(p, v, &size);
        if (r < 0)
                return r;
        if (size > INT64_MAX)
                return parse_refuse(p, v, "%" PRIu64 " is too large", size);
        if (size % granule != 0)
                return parse_refuse(p, v, "%" PRIu64 " is not a multiple of %s", size,
                                    FORMAT_SIZE(granule));
        size = sim_config_scale(size, p->scale);
        if (size == 0)
                return parse_refuse(p, v, "nothing is left of it with --scale=%" PRIu64, p->scale);
        *(uint64_t *) dest = size;
        return 0;
}

static int parse_variant(Parser *p, const Value *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        SimVariant variant;
        int r;

        r = parse_text(p, v, &s);
        if (r < 0)
                return r;
        variant = sim_variant_from_string(s);
        if (variant < 0)
                return parse_refuse(p, v, "\"%s\" is not K2, R2, S3 or S4", s);
        *(SimVariant *) dest = variant;
        return 0;
}

static int parse_list_fault(Parser *p, const Value *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        SimListFault fault;
        int r;

        r = parse_text(p, v, &s);
        if (r < 0)
                return r;
        fault = sim_list_fault_from_string(s);
        if (fault < 0)
                return parse_refuse(p, v, "\"%s\" is no way for the list to fail", s);
        *(SimListFault *) dest = fault;
        return 0;
}

static int parse_errno(Parser *p, const Value *v, void *dest) {
        _cleanup_free_ char *s = NULL;
        int r;

        r = parse_text(p, v, &s);
        if (r < 0)
                return r;
        for (int e = 1; e < 4096; e++)
                if (streq_ptr(strerrorname_np(e), s)) {
                        *(int *) dest = e;
                        return 0;
                }
        return parse_refuse(p, v, "\"%s\" is no error's name", s);
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

static int parse_gpu(Parser *p, const Value *v, void *dest) {
        SimRegion *s = dest;
        _cleanup_free_ char *address = NULL;
        char **gpus;
        int r;

        r = parse_text(p, v, &address);
        if (r < 0)
                return r;
        if (!pci_address_is_normal(address))
                return parse_refuse(p, v, "\"%s\" is not a PCI address like 0008:01:00.0", address);
        if (config_has_gpu(p->config, address))
                return parse_refuse(p, v, "\"%s\" is there twice", address);
        gpus = reallocarray(s->gpus, s->n_gpus + 1, sizeof(*gpus));
        if (!gpus)
                return -ENOMEM;
        s->gpus = gpus;
        s->gpus[s->n_gpus++] = TAKE_PTR(address);
        return 0;
}

static int parse_gpus(Parser *p, const Value *v, void *dest) {
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

static int parse_range(Parser *p, const Value *v, void *dest) {
        static const Field fields[] = {
                        {"offset", true, parse_bytes, offsetof(Range, offset)},
                        {"size", true, parse_bytes, offsetof(Range, size)},
                        {},
        };
        const RangesTarget *t = dest;
        Range range = {};
        int r;

        r = parse_object(p, v, fields, &range);
        if (r < 0)
                return r;
        if (range.size == 0 || range.offset % t->unit != 0 || range.size % t->unit != 0)
                return parse_refuse(p, v,
                                    "offset %#" PRIx64 " and size %#" PRIx64
                                    " are not multiples of %s, at least one",
                                    range.offset, range.size, FORMAT_SIZE(t->unit));
        if (range.offset >= t->size || range.size > t->size - range.offset)
                return parse_refuse(p, v,
                                    "offset %#" PRIx64 " and size %#" PRIx64
                                    " lead beyond the region's %#" PRIx64,
                                    range.offset, range.size, t->size);
        return ranges_add(t->ranges, range.offset, range.size);
}

static int parse_retired(Parser *p, const Value *v, void *dest) {
        SimRegion *s = dest;
        RangesTarget t = {&s->retired, s->size, 64 * KIB};

        return parse_array(p, v, 4096, parse_range, &t);
}

static int parse_bad(Parser *p, const Value *v, void *dest) {
        SimRegion *s = dest;
        RangesTarget t = {&s->faults.bad, s->size, (uint64_t) sysconf(_SC_PAGESIZE)};

        return parse_array(p, v, 4096, parse_range, &t);
}

static int parse_faults(Parser *p, const Value *v, void *dest) {
#define FAULT(member) offsetof(SimRegion, faults.member)
        static const Field fields[] = {
                        {"open_errno", false, parse_errno, FAULT(open_errno)},
                        {"open_gate", false, parse_text, FAULT(open_gate)},
                        {"held", false, parse_bool, FAULT(held)},
                        {"useless", false, parse_bool, FAULT(useless)},
                        {"list", false, parse_list_fault, FAULT(list)},
                        {"mmap_fail_at", false, parse_count, FAULT(mmap_fail_at)},
                        {"bad", false, parse_bad, 0},
                        {},
        };
#undef FAULT

        return parse_object(p, v, fields, dest);
}

static int parse_region(Parser *p, const Value *v, void *dest) {
        static const Field fields[] = {
                        {"name", true, parse_name, offsetof(SimRegion, name)},
                        {"size", true, parse_region_size, offsetof(SimRegion, size)},
                        {"node", false, parse_index, offsetof(SimRegion, node)},
                        {"socket", false, parse_index, offsetof(SimRegion, socket)},
                        {"variant", false, parse_variant, offsetof(SimRegion, variant)},
                        {"gpus", false, parse_gpus, 0},
                        {"retired", false, parse_retired, 0},
                        {"faults", false, parse_faults, 0},
                        {},
        };
        SimRegion *s = p->config->regions + p->config->n_regions++;

        *s = SIM_REGION_INIT;
        return parse_object(p, v, fields, s);
}

static int parse_regions(Parser *p, const Value *v, void *dest) {
        int r;

        r = value_expect(p, v, json_type_array, "a list");
        if (r < 0)
                return r;
        if (json_object_array_length(v->json) == 0)
                return parse_refuse(p, v, "empty");
        p->config->regions = calloc(MIN(json_object_array_length(v->json), (size_t) REGIONS_MAX),
                                    sizeof(*p->config->regions));
        if (!p->config->regions)
                return -ENOMEM;
        return parse_array(p, v, REGIONS_MAX, parse_region, NULL);
}

static int tokenize(Parser *p, const char *text, json_object **ret) {
        json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
        enum json_tokener_error e;
        size_t at;

        if (!t)
                return -ENOMEM;
        json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        /* With its NUL, so that a number at the end is known to be whole. */
        *ret = json_tokener_parse_ex(t, text, (int) strlen(text) + 1);
        e = json_tokener_get_error(t);
        at = json_tokener_get_parse_end(t);
        json_tokener_free(t);
        if (e == json_tokener_success)
                return 0;
        return egm_error_set(p->reterr, EGM_ERROR_INVALID_ARGS, "%s: not JSON at byte %zu: %s",
                             p->name, at,
                             e == json_tokener_continue ? "unexpected end"
                                                        : json_tokener_error_desc(e));
}

static void json_putp(json_object **o) {
        (void) json_object_put(*o);
}

int sim_config_parse(const char *text, const char *name, uint64_t scale, SimConfig **ret,
                     EgmError *reterr) {
        static const Field fields[] = {
                        {"regions", true, parse_regions, 0},
                        {},
        };
        _cleanup_(sim_config_freep) SimConfig *c = NULL;
        _cleanup_(json_putp) json_object *json = NULL;
        Parser p = {.name = name, .scale = scale, .reterr = reterr};
        Value v = {};
        int r;

        assert(text);
        assert(strlen(text) < INT_MAX);
        assert(name);
        assert(scale > 0);
        assert(ret);

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        p.config = c;
        r = tokenize(&p, text, &json);
        if (r < 0)
                return r;
        v.json = json;
        r = parse_object(&p, &v, fields, c);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}
