/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fnmatch.h>

#include "inject-plan.h"
#include "placeholder.h"
#include "string-table.h"

static const struct {
        const char *pattern;
        bool narrow;
} vmms[] = {
                {"qemu-system-*", true},     {"qemu-kvm", true}, {"kvm", true},
                {"cloud-hypervisor", false}, {"crosvm", false},  {"lkvm", false},
};

static const char *const inject_mode_table[_INJECT_MODE_MAX] = {
                [INJECT_AUTO] = "auto",
                [INJECT_ON] = "on",
                [INJECT_OFF] = "off",
};

DEFINE_STRING_TABLE(inject_mode, InjectMode)

void inject_option_done(InjectOption *o) {
        free(o->as);
        *o = (InjectOption){};
}

static int add_path(InjectOption *o, const char *path, EgmError *reterr) {
        const char **t;

        if (path[0] != '/')
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--as= takes an absolute path, not '%s'", path);
        for (size_t i = 0; i < o->n_as; i++)
                if (streq(o->as[i], path))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "--as=%s is given twice: one path is one slice", path);
        t = reallocarray(o->as, o->n_as + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        o->as = t;
        o->as[o->n_as++] = path;
        return 0;
}

int inject_option_set(InjectOption *o, const char *key, const char *value, EgmError *reterr) {
        InjectMode mode;

        if (streq(key, "as"))
                return add_path(o, value, reterr);
        if (streq(key, "shift")) {
                mode = inject_mode_from_string(value);
                if (mode < 0)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "--shift= is auto, on or off, not '%s'", value);
                o->shift = mode;
                o->has_shift = true;
                return 0;
        }
        assert(streq(key, "inject") || streq(key, "no-inject"));
        mode = streq(key, "inject") ? INJECT_ON : INJECT_OFF;
        if (o->mode != INJECT_AUTO && o->mode != mode)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--inject and --no-inject exclude each other");
        o->mode = mode;
        return 0;
}

int inject_option_check(const InjectOption *o, size_t n_slices, EgmError *reterr) {
        if (o->mode == INJECT_OFF && (o->has_shift || o->n_as > 0))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--%s= needs what --no-inject switches off",
                                     o->has_shift ? "shift" : "as");
        if (o->n_as > n_slices)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "--as= is given %zu times, for %zu slices", o->n_as, n_slices);
        return 0;
}

static bool args_use(size_t slice, const char *word, int n_args, char **args) {
        for (int i = 0; i < n_args; i++)
                if (placeholder_is_used(args[i], slice, word))
                        return true;
        return false;
}

static const char *base_name(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static int find_vmm(const char *command) {
        for (size_t i = 0; i < ELEMENTSOF(vmms); i++)
                if (fnmatch(vmms[i].pattern, base_name(command), 0) == 0)
                        return (int) i;
        return -ENOENT;
}

bool inject_is_wanted(const InjectOption *o, size_t n_slices, int n_args, char **args) {
        if (o->mode != INJECT_AUTO)
                return o->mode == INJECT_ON;
        if (o->n_as > 0 || o->has_shift || find_vmm(args[0]) >= 0)
                return true;
        for (size_t i = 0; i < n_slices; i++)
                if (args_use(i, "path", n_args, args))
                        return true;
        return false;
}

bool inject_is_narrow(int n_args, char **args) {
        for (int i = 0; i < n_args; i++) {
                int k = find_vmm(args[i]);

                if (k >= 0)
                        return vmms[k].narrow;
        }
        return false;
}

int inject_shift(const InjectOption *o, size_t slice, int n_args, char **args) {
        if (o->shift == INJECT_AUTO)
                return args_use(slice, "offset", n_args, args) ? 0 : -1;
        return o->shift == INJECT_ON;
}

const char *inject_shares_memory(int n_args, char **args) {
        static const char *const words[] = {"vhost-user", "vhost_user", "vfio-user", "vfio_user",
                                            "x-pci-proxy"};

        for (int i = 1; i < n_args; i++)
                for (size_t k = 0; k < ELEMENTSOF(words); k++)
                        if (strstr(args[i], words[k]))
                                return args[i];
        return NULL;
}
