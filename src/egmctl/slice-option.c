/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <limits.h>

#include "size.h"
#include "slice-option.h"

void slice_option_done(SliceOption *s) {
        free(s->region);
        free(s->gpu);
        *s = (SliceOption){};
}

static int refuse(EgmError *reterr, const char *what, const char *key, const char *value) {
        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "'%s' is not %s, for '%s'", value,
                             what, key);
}

static int set_size(uint64_t *p, bool *has, const char *key, const char *value, EgmError *reterr) {
        int r = parse_size(value, p);

        if (r == -ERANGE)
                return refuse(reterr, "below 2^64 bytes", key, value);
        if (r < 0)
                return refuse(reterr, "a size (bytes, or with K, M, G or T)", key, value);
        *has = true;
        return 0;
}

static int set_number(int *p, bool *has, const char *key, const char *value, EgmError *reterr) {
        int v, r = parse_int(value, &v);

        if (r < 0 || v < 0)
                return refuse(reterr, "a number from 0", key, value);
        *p = v;
        *has = true;
        return 0;
}

static int set_string(char **p, const char *key, const char *value, EgmError *reterr) {
        if (!*value)
                return refuse(reterr, "a name", key, value);
        return free_and_strdup(p, value);
}

static int set_whole(SliceOption *s, const char *value, EgmError *reterr) {
        if (value && streq(value, "no"))
                return 0;
        if (value && !streq(value, "yes"))
                return refuse(reterr, "yes or no", "whole", value);
        s->whole = true;
        return 0;
}

static int set_retired(SliceOption *s, const char *value, EgmError *reterr) {
        s->include_retired = streq(value, "include");
        if (!s->include_retired && !streq(value, "avoid"))
                return refuse(reterr, "avoid or include", "retired", value);
        s->has_retired = true;
        return 0;
}

static bool is_set(const SliceOption *s, const char *key) {
        return (streq(key, "size") && s->has_size) || (streq(key, "whole") && s->whole) ||
               (streq(key, "region") && s->region) || (streq(key, "gpu") && s->gpu) ||
               (streq(key, "node") && s->has_node) || (streq(key, "socket") && s->has_socket) ||
               (streq(key, "align") && s->has_align) || (streq(key, "retired") && s->has_retired);
}

static bool is_known(const char *key) {
        static const char *const keys[] = {"size", "whole",  "region", "gpu",
                                           "node", "socket", "align",  "retired"};

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (streq(keys[i], key))
                        return true;
        return false;
}

int slice_option_set(SliceOption *s, const char *key, const char *value, EgmError *reterr) {
        if (!is_known(key))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "'%s' is none of size, whole, region, gpu, node, socket, "
                                     "align, retired",
                                     key);
        if (is_set(s, key))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "'%s' is given twice", key);
        if (streq(key, "whole"))
                return set_whole(s, value, reterr);
        if (!value)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "'%s' has no value", key);
        if (streq(key, "size"))
                return set_size(&s->size, &s->has_size, key, value, reterr);
        if (streq(key, "align"))
                return set_size(&s->align, &s->has_align, key, value, reterr);
        if (streq(key, "region"))
                return set_string(&s->region, key, value, reterr);
        if (streq(key, "gpu"))
                return set_string(&s->gpu, key, value, reterr);
        if (streq(key, "node"))
                return set_number(&s->node, &s->has_node, key, value, reterr);
        if (streq(key, "socket"))
                return set_number(&s->socket, &s->has_socket, key, value, reterr);
        return set_retired(s, value, reterr);
}

int slice_option_check(const SliceOption *s, EgmError *reterr) {
        if (s->has_size == s->whole)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     s->whole ? "A slice has a size or is whole, not both"
                                              : "A slice needs a size, or whole");
        return 0;
}

int slice_option_parse(SliceOption *s, const char *text, EgmError *reterr) {
        _cleanup_free_ char *copy = strdup(text);
        char *p = copy, *key;
        int r;

        if (!copy)
                return -ENOMEM;
        while ((key = strsep(&p, ","))) {
                char *value = strchr(key, '=');

                if (value)
                        *value++ = '\0';
                r = slice_option_set(s, key, value, reterr);
                if (r < 0)
                        return r;
        }
        return slice_option_check(s, reterr);
}
