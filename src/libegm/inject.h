/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "inject-filter.h"
#include "inject-peer.h"
#include "inject-rules.h"
#include "internal.h"

typedef struct InjectSlice {
        char *path;
        int fd;
        struct stat file; /* of fd */
        InjectRange range;
        InjectPage *pages;
        size_t n_pages;
        unsigned n_opens;
} InjectSlice;

struct egm_inject {
        unsigned n_ref;
        pid_t origin;
        char *lease;
        int lifetime_fd;
        InjectSlice *slices;
        size_t n_slices;

        bool narrow;
        unsigned begin; /* number of the first leased descriptor; each slice has as many */
        struct sock_filter filter[INJECT_FILTER_MAX];
        size_t n_filter;

        int listener;
        size_t call_size;
        struct seccomp_notif *call;
        uint64_t mark; /* in the upper half of the descriptor of an mmap() that was moved, where the kernel does not look */
        egm_inject_callback callback;
        void *userdata;
        char *message;
        bool blind; /* it was said that some process cannot be looked at */
};

/* What the thread gets as an answer. */
typedef struct InjectAnswer {
        enum {
                INJECT_CONTINUE, /* what the kernel says */
                INJECT_VALUE,    /* this number, or negative errno */
                INJECT_FD,       /* the descriptor of slice under this number */
                INJECT_NONE,     /* it has been answered */
        } kind;
        int value;
        const InjectSlice *slice;
        int fd_flags;
} InjectAnswer;

/* inject-answer.c: never fails; what cannot be found out is refused, or left to the kernel where that cannot do harm. */
InjectAnswer inject_answer(egm_inject *i, Peer *peer, const struct seccomp_notif *call);

int inject_say(egm_inject *i, int r, const char *format, ...) _printf_(3, 4);
/* -ENOENT: it has no such number. */
int inject_slice_of(egm_inject *i, int fd);
unsigned inject_first_fd(egm_inject *i, const InjectSlice *s);

/* How many descriptors of a slice one process can have. */
#define INJECT_FDS_MAX 8
