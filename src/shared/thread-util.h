/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <pthread.h>

/* A thread beside an event loop, to which signals belong: it gets none but the faults of its own making. */
int thread_start(void *(*fn)(void *), void *userdata, pthread_t *ret);
