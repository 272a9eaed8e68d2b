/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <egm.h>

#include "options.h"

#define _cleanup_egm_(type) _cleanup_(egm_##type##_unrefp)

/* What egmctl exits with; a table in its man page. */
enum {
        STATUS_OK = 0,
        STATUS_FAILED = 1,
        STATUS_USAGE = 2,
        STATUS_NOT_FOUND = 3,
        STATUS_DENIED = 4,
        STATUS_REFUSED = 5,
        STATUS_CANNOT_EXECUTE = 126,
        STATUS_NO_COMMAND = 127,
};

/* One verb each: args are what stands behind it. They return the exit status, having said what went wrong. */
int verb_status(const Options *o, int n_args, char **args);
int verb_list_regions(const Options *o, int n_args, char **args);
int verb_list_leases(const Options *o, int n_args, char **args);
int verb_show_region(const Options *o, int n_args, char **args);
int verb_show_lease(const Options *o, int n_args, char **args);
int verb_lease(const Options *o, int n_args, char **args);
int verb_run(const Options *o, int n_args, char **args);
int verb_format(const Options *o, int n_args, char **args);
int verb_release(const Options *o, int n_args, char **args);
int verb_monitor(const Options *o, int n_args, char **args);
int verb_map(const Options *o, int n_args, char **args);

/* ---- egmctl-util.c ---- */

/* "egmctl: …" on standard error; what others named cannot disturb the terminal. */
void complain(const char *format, ...) _printf_(1, 2);
/* The same with what is known of a failed call; returns the exit status. c may be NULL. */
int complain_call(egm_connection *c, int r, const char *format, ...) _printf_(3, 4);
int complain_oom(void);

/* 0, or an exit status. */
int connect_bus(const Options *o, egm_connection **ret);
int take_snapshot(const Options *o, egm_connection **ret_connection, egm_snapshot **ret_snapshot);

/* ---- egmctl-quota.c ---- */

/* Of one user, or all there are to see. */
int show_quotas(const Options *o, int n_args, char **args);

/* ---- egmctl-inject.c ---- */

/* What answers the command's opens, or NULL if nothing has to. 0, or an exit status. */
int inject_new(const Options *o, egm_lease *lease, int n_args, char **args, egm_inject **ret);
/* From then on it asks whether the lease still is one. */
typedef struct InjectLease {
        const char *bus;
        const char *id;
} InjectLease;
int inject_watch(egm_inject *inject, const InjectLease *lease);
/* Answers a call that waits, and says what is wrong with it. False: there will be no more. */
bool inject_serve(egm_inject *inject);
/* A command that failed may have failed for want of its memory. */
void inject_explain(egm_inject *inject, const char *command);

/* ---- egmctl-acquire.c ---- */

/* Acquires what the options say, labelled as they say or else so. 0, or an exit status. */
int acquire(const Options *o, egm_connection *c, const char *label, egm_lease **ret);
