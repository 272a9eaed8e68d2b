/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-event.h>

#include "bed.h"
#include "size.h"

/* A polkit that is played, and callers that it is asked about. */

#define NOBODY 65534U
#define OTHER 1U
#define GROUP 60777U /* see meson.build */
#define SIZE (2 * MIB)
#define QUERIES_MAX 128U
#define QUERIES_PER_UID_MAX 16U
#define POLKIT "org.freedesktop.PolicyKit1"

extern sd_bus *bus; /* root's */
extern sd_event *event;
extern sd_bus *polkit, *nobody;

typedef struct Question {
        sd_bus_message *m;
        const char *kind, *subject, *action, *id;
        uint32_t flags;
        char details[256];
} Question;

extern Question questions[2 * QUERIES_MAX];
extern size_t n_questions, n_cancelled;
extern char cancelled[64]; /* the latest */

void polkit_comes(void);
void polkit_goes(void);
void answer(const Question *q, bool yes, bool challenge);

typedef struct Call {
        sd_bus_slot *slot;
        bool done;
        char error[128], text[256]; /* empty: it went well */
        sd_bus_message *reply;
} Call;

void call_send(Call *c, sd_bus *b, sd_bus_message *m);
void call_done(Call *c);
void wait_for(bool (*condition)(const void *arg), const void *arg, const char *what);
bool is_done(const void *arg);
bool was_cancelled(const void *arg); /* so many questions, a size_t; NULL: any */
const Question *wait_question(size_t n);
/* NULL: it must have gone well. */
void expect(Call *c, const char *error, const char *text);

sd_bus_message *acquire(sd_bus *b, uint64_t size, const char *lifetime);
sd_bus_message *manage(sd_bus *b, int on);
sd_bus_message *release(sd_bus *b, const char *path);
void release_as_root(const char *path);
Granted give_to(uid_t uid);
bool schedulable(void);

/* Of the group; and of each test, which leaves all memory free. */
int setup(void **state);
int teardown(void **state);
int each_setup(void **state);
int each_teardown(void **state);
