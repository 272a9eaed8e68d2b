/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* Named descriptors, as the service manager keeps them for a service: the newest first, no open file twice. */

typedef struct KeeperStored {
        char *name;
        int fd;
} KeeperStored;

typedef struct KeeperStore {
        KeeperStored *items;
        size_t n;
} KeeperStore;

void keeper_store_done(KeeperStore *s); /* may be used again */
bool keeper_store_name_is_valid(const char *name);
/* Whether both are the same open file: 1, 0 or a negative errno. */
int keeper_store_same_file(int a, int b);
/* Takes the descriptor in any case. 1: stored, 0: it was there already, -EXFULL. */
int keeper_store_take(KeeperStore *s, const char *name, int fd);
void keeper_store_drop(KeeperStore *s, size_t i);
void keeper_store_forget(KeeperStore *s, const char *name); /* all of that name */
char *keeper_store_names(const KeeperStore *s);             /* "LISTEN_FDNAMES=a:b" */
