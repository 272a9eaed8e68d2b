/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "macro.h"

/* What the service manager is to egmd: starts it with a runtime directory and the descriptors it stored, hears its
 * notifications, keeps what it stores beyond its death. As systemd 252 with Type=notify, NotifyAccess=main and
 * RuntimeDirectoryPreserve=yes does it. Errors are negative errno; a process that the keeper started dies with it.
 *
 * Notifications are read by a thread, so that the daemon never waits for a test that is busy. What the store holds is
 * steady when the daemon does not run, or after keeper_pump() if it has sent nothing since. */

#define KEEPER_STORE_MAX 1024U

typedef struct Keeper Keeper;

/* args: what follows the program's name, NULL at the end; NULL: nothing. Both are copied, and the environment as well.
 * -ENOSYS or -EPERM: no kcmp() here. */
int keeper_new(const char *program, const char *const *args, Keeper **ret);
/* Kills the process if it runs, removes the directory. */
Keeper *keeper_free(Keeper *k);
DEFINE_TRIVIAL_CLEANUP_FUNC(Keeper *, keeper_free)

/* For the next start. RUNTIME_DIRECTORY and NOTIFY_SOCKET can be taken away as well; LISTEN_* come with the store. */
int keeper_setenv(Keeper *k, const char *name, const char *value);
void keeper_unsetenv(Keeper *k, const char *name);

/* Starts the program. 0: it got ready (and may have ended since); 1: it ended before that, see keeper_exit_status(); -ETIMEDOUT: it runs still. */
int keeper_start(Keeper *k, uint64_t timeout_usec);
/* Until the process ends: 0 and its status as of waitpid(); -ETIMEDOUT; -ECHILD: none runs. ret_status may be NULL. */
int keeper_wait(Keeper *k, uint64_t timeout_usec, int *ret_status);
/* -ESRCH: none runs. */
int keeper_signal(Keeper *k, int sig);
/* Takes in what has been sent so far. */
int keeper_pump(Keeper *k);

pid_t keeper_pid(const Keeper *k);  /* 0: none runs, or its end was not waited for */
int keeper_pidfd(const Keeper *k);  /* polls readable when it has ended */
int keeper_exit_status(Keeper *k);  /* of the last that ended, as of waitpid() */
bool keeper_is_ready(Keeper *k);    /* since the last start */
bool keeper_is_stopping(Keeper *k); /* since the last start */
char *keeper_status_text(
                Keeper *k); /* the last STATUS= since the last start; NULL: none. To be freed. */
char *keeper_log_text(Keeper *k); /* standard error since the last start. To be freed. */
const char *keeper_log_path(const Keeper *k); /* of all starts */
const char *keeper_runtime_dir(const Keeper *k);

bool keeper_has_stored(Keeper *k, const char *name); /* at any time */
/* The store, the newest first: so they are passed, too. The descriptors stay the keeper's. */
size_t keeper_n_stored(Keeper *k);
const char *keeper_stored_name(Keeper *k, size_t i);
int keeper_stored_fd(Keeper *k, size_t i);
/* Stores a copy. 1: stored, 0: that open file was there already (under whatever name), -EXFULL. */
int keeper_store_add(Keeper *k, const char *name, int fd);
void keeper_store_remove(Keeper *k, size_t i);
void keeper_store_clear(Keeper *k);
