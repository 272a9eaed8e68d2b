/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/stat.h>
#include <sys/xattr.h>

#include "egmctl.h"

/* Where execvp() would find it. */
static char *find_command(const char *name) {
        const char *path = getenv("PATH") ?: "/bin:/usr/bin";

        if (strchr(name, '/'))
                return strdup(name);
        for (;;) {
                size_t n = strcspn(path, ":");
                char *file;

                if (asprintf(&file, "%.*s%s%s", (int) n, path, n > 0 ? "/" : "", name) < 0)
                        return NULL;
                if (access(file, X_OK) == 0)
                        return file;
                free(file);
                if (path[n] == '\0')
                        return NULL;
                path += n + 1;
        }
}

/* Would it become somebody else, which no_new_privs prevents? */
static bool is_privileged(const char *command) {
        _cleanup_free_ char *file = find_command(command);
        struct stat st;

        if (geteuid() == 0 || !file || stat(file, &st) < 0)
                return false;
        return (st.st_mode & S_ISUID) ||
               (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) ||
               getxattr(file, "security.capability", NULL, 0) > 0;
}

static int complain_inject(int r) {
        const char *why = strerror(-r);

        if (r == -EOPNOTSUPP)
                why = "this kernel cannot, or not on this kind of machine";
        else if (r == -EMFILE)
                why = "the limit of open files (ulimit -n) is too low";
        complain("Failed to prepare for the command's opens: %s (--no-inject does without)", why);
        return STATUS_FAILED;
}

static int set_paths(egm_inject *inject, const InjectOption *o) {
        for (size_t i = 0; i < o->n_as; i++) {
                int r = egm_inject_set_path(inject, i, o->as[i]);

                if (r == -EINVAL) {
                        complain("--as=%s is no plain path", o->as[i]);
                        return STATUS_USAGE;
                }
                if (r < 0)
                        return complain_inject(r);
        }
        return STATUS_OK;
}

static int set_shifts(egm_inject *inject, const InjectOption *o, egm_lease *lease, int n_args,
                      char **args) {
        const char *shares = inject_shares_memory(n_args, args);

        for (size_t i = 0; i < egm_lease_count_slices(lease); i++) {
                int r, shift = inject_shift(o, i, n_args, args);
                uint64_t offset = 0;

                (void) egm_lease_get_slice(lease, i, NULL, NULL, &offset, NULL);
                if (shift != 0 && offset > 0 && shares) {
                        complain("'%s' passes on memory whose offset is not known to whom it is "
                                 "passed on: say offset={%zu.offset}, or --shift=off if the "
                                 "command knows it",
                                 shares, i);
                        return STATUS_USAGE;
                }
                r = egm_inject_set_shift(inject, i, shift);
                if (r < 0)
                        return complain_inject(r);
        }
        return STATUS_OK;
}

/* The lease may have been released from outside meanwhile. A daemon that is not there knows no better than its holder. */
static int check_lease(egm_inject *inject, size_t slice, void *userdata) {
        const InjectLease *lease = userdata;
        _cleanup_egm_(lease_info) egm_lease_info *info = NULL;
        _cleanup_egm_(connection) egm_connection *c = NULL;
        int r;

        r = egm_connection_new(lease->bus, &c);
        if (r >= 0)
                r = egm_get_lease_info(c, lease->id, &info);
        if (r == -ENOENT || (r >= 0 && !streq(egm_lease_info_get_state(info), "active")))
                return -ENODEV;
        return 0;
}

int inject_watch(egm_inject *inject, const InjectLease *lease) {
        return egm_inject_set_callback(inject, check_lease, (void *) lease);
}

int inject_new(const Options *o, egm_lease *lease, int n_args, char **args, egm_inject **ret) {
        _cleanup_egm_(inject) egm_inject *inject = NULL;
        int r;

        if (!inject_is_wanted(&o->inject, egm_lease_count_slices(lease), n_args, args)) {
                *ret = NULL;
                return STATUS_OK;
        }
        if (is_privileged(args[0])) {
                complain("%s is set-user-ID or has capabilities, which it would not get: run "
                         "egmctl as who it becomes, or with --no-inject",
                         args[0]);
                return STATUS_CANNOT_EXECUTE;
        }
        r = egm_inject_new(lease, &inject);
        if (r >= 0)
                r = egm_inject_set_narrow(inject, inject_is_narrow(n_args, args));
        if (r < 0)
                return complain_inject(r);
        r = set_paths(inject, &o->inject);
        if (r == STATUS_OK)
                r = set_shifts(inject, &o->inject, lease, n_args, args);
        if (r == STATUS_OK)
                *ret = TAKE_PTR(inject);
        return r;
}

bool inject_serve(egm_inject *inject) {
        int r = egm_inject_dispatch(inject);
        const char *message = egm_inject_get_message(inject);

        if (message)
                complain("%s", message);
        if (r < 0 && r != -EPIPE)
                (void) complain_call(NULL, r, "Failed to answer the command");
        return r >= 0;
}

void inject_explain(egm_inject *inject, const char *command) {
        for (size_t i = 0; egm_inject_get_path(inject, i); i++)
                if (egm_inject_count_opens(inject, i) == 0)
                        complain("%s ended without having opened %s for reading and writing",
                                 command, egm_inject_get_path(inject, i));
}
