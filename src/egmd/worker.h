/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* One long call in a thread of its own, its end reported on the event loop. It begins when the loop runs. */

typedef struct Worker Worker;

typedef int (*worker_work_t)(void *userdata); /* in the thread */
typedef void (*worker_done_t)(int r,
                              void *userdata); /* in the event loop; the worker is freed after it */

/* userdata belongs to the caller and must live until done() was called. */
int worker_start(sd_event *event, const char *name, worker_work_t work, worker_done_t done,
                 void *userdata, Worker **ret);
/* Gives up on a worker that may sit in the kernel for minutes: its thread is left alone, done() is never
 * called, and userdata must stay valid (leaked) for the thread's life. Only for exit. */
void worker_abandon(Worker *w);
