/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "manager.h"

/* The manager on D-Bus. */

typedef struct Bus Bus;

/* address NULL: the system bus. Connects and shows the objects; nobody can find them yet. */
int bus_new(Manager *m, const char *address, Bus **ret);
Bus *bus_free(Bus *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(Bus *, bus_free)

/* Takes the name: from here on clients come. */
int bus_start(Bus *b);
/* Sends what is still to be told. */
void bus_stop(Bus *b);
