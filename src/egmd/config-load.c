/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#include "config.h"
#include "fd-util.h"
#include "log.h"

#define FILE_SIZE_MAX (1 * MIB)

/* First wins. */
static const char *const directories[] = {"/etc/egmd", "/run/egmd", "/usr/lib/egmd"};

/* A drop-in: where it is. */
typedef struct DropIn {
        char *name;
        char *path;
} DropIn;

typedef struct Loader {
        Config *config;
        const char *root;
        DropIn *drop_ins;
        size_t n_drop_ins;
        config_warning_t warning;
        void *userdata;
} Loader;

static void loader_done(Loader *l) {
        for (size_t i = 0; i < l->n_drop_ins; i++) {
                free(l->drop_ins[i].name);
                free(l->drop_ins[i].path);
        }
        free(l->drop_ins);
}

int config_read_file(Config *c, const char *path, config_warning_t warning, void *userdata) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_full_file_at(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size);
        return r < 0 ? r : config_parse(c, text, size, path, warning, userdata);
}

static void warn_unreadable(Loader *l, const char *path, int error) {
        char message[1024];

        l->config->unreadable = true;
        (void) snprintf(message, sizeof(message),
                        "%.400s: cannot be read: %s; all regions are only observed", path,
                        strerror(-error));
        l->warning(message, l->userdata);
}

/* 1: it is there. */
static int read_one(Loader *l, const char *path) {
        int r = config_read_file(l->config, path, l->warning, l->userdata);

        if (r == -ENOENT || r == -ENOTDIR)
                return 0;
        if (r < 0 && r != -ENOMEM) {
                warn_unreadable(l, path, r);
                return 1;
        }
        return r < 0 ? r : 1;
}

static int read_main_file(Loader *l) {
        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_free_ char *path = NULL;
                int r;

                if (asprintf(&path, "%s%s/egmd.conf", l->root, directories[i]) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                r = read_one(l, path);
                if (r != 0)
                        return r;
        }
        return 0;
}

static bool is_known(const Loader *l, const char *name) {
        for (size_t i = 0; i < l->n_drop_ins; i++)
                if (streq(l->drop_ins[i].name, name))
                        return true;
        return false;
}

static int add_drop_in(Loader *l, const char *directory, const char *name) {
        size_t n = strlen(name);
        DropIn *t;

        if (name[0] == '.' || n < 6 || !streq(name + n - 5, ".conf") || is_known(l, name))
                return 0;
        t = reallocarray(l->drop_ins, l->n_drop_ins + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        l->drop_ins = t;
        t += l->n_drop_ins++;
        *t = (DropIn){.name = strdup(name)};
        if (asprintf(&t->path, "%s/%s", directory, name) < 0)
                t->path = NULL;
        return t->name && t->path ? 0 : -ENOMEM;
}

static void closedirp(DIR **d) {
        if (*d)
                (void) closedir(*d);
}

static int list_drop_ins(Loader *l, const char *directory) {
        _cleanup_free_ char *path = NULL;
        _cleanup_(closedirp) DIR *d = NULL;
        struct dirent *e;
        int r;

        if (asprintf(&path, "%s%s/egmd.conf.d", l->root, directory) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        d = opendir(path);
        if (!d) {
                if (errno != ENOENT && errno != ENOTDIR)
                        warn_unreadable(l, path, -errno);
                return 0;
        }
        while ((errno = 0, e = readdir(d))) {
                r = add_drop_in(l, path, e->d_name);
                if (r < 0)
                        return r;
        }
        if (errno != 0)
                warn_unreadable(l, path, -errno);
        return 0;
}

static int compare_drop_ins(const void *a, const void *b) {
        return strcmp(((const DropIn *) a)->name, ((const DropIn *) b)->name);
}

int config_read_host(Config *c, const char *root, config_warning_t warning, void *userdata) {
        _cleanup_(loader_done) Loader l = {
                        .config = c, .root = root, .warning = warning, .userdata = userdata};
        int r;

        r = read_main_file(&l);
        for (size_t i = 0; i < ELEMENTSOF(directories) && r >= 0; i++)
                r = list_drop_ins(&l, directories[i]);
        if (r < 0)
                return r;
        if (l.n_drop_ins > 0)
                qsort(l.drop_ins, l.n_drop_ins, sizeof(*l.drop_ins), compare_drop_ins);
        for (size_t i = 0; i < l.n_drop_ins; i++) {
                r = read_one(&l, l.drop_ins[i].path);
                if (r < 0)
                        return r;
        }
        return 0;
}

void config_find_users(Config *c, config_warning_t warning, void *userdata) {
        for (size_t i = 0; i < c->quota.n_rules; i++) {
                QuotaRule *rule = c->quota.rules + i;
                const struct passwd *user;
                char message[512];

                if (rule->scope != QUOTA_USER || rule->uid != (uid_t) -1)
                        continue;
                user = getpwnam(rule->glob);
                if (user) {
                        rule->uid = user->pw_uid;
                        continue;
                }
                (void) snprintf(message, sizeof(message),
                                "[User %s]: there is no such user; ignored", rule->glob);
                warning(message, userdata);
        }
}

static void log_one(const char *message, void *userdata) {
        log_warning("%s", message);
}

int config_load(const char *file, Config **ret) {
        _cleanup_(config_freep) Config *c = NULL;
        int r;

        r = config_new(&c);
        if (r < 0)
                return log_oom();
        r = file ? config_read_file(c, file, log_one, NULL)
                 : config_read_host(c, "", log_one, NULL);
        if (r < 0)
                return log_error_errno(r, "Failed to read the configuration%s%s: %m",
                                       file ? " " : "", file ?: "");
        config_find_users(c, log_one, NULL);
        *ret = TAKE_PTR(c);
        return 0;
}
