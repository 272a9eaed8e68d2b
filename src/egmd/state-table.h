/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <bsd/sys/tree.h>

#include "macro.h"

/* The leases' records, in one file that stays open, each in a slot of its own: to write one down is a single system call,
 * where a file for each needs a new inode, a new name and the end of an old one. What a slot holds is not this
 * file's business.
 *
 * A slot never lies in two pages. The kernel copies what is written to one page with the page locked and nothing between
 * that a signal could end: whoever looks after a kill finds the old record or the new one. A slot that begins with NUL
 * is free, and a record ends at the first NUL. The first slot holds none, but says what the file is. */

#define TABLE_FILE "leases"
#define TABLE_SLOT 1024U

/* Where a lease's record is. */
typedef struct TableEntry {
        uint64_t id;
        uint32_t slot; /* 0: in none */
        bool own_file; /* it has a file of its own, which counts, whatever a slot still says */
        RB_ENTRY(TableEntry) by_id;
} TableEntry;

typedef RB_HEAD(TableTree, TableEntry) TableTree;

typedef struct Table {
        int dir_fd; /* borrowed */
        int fd;     /* negative: not opened yet */
        uint32_t n_slots;
        TableTree entries;
        uint32_t *free;
        size_t n_free, room_for_free;
} Table;

void table_init(Table *t, int dir_fd);
void table_done(Table *t);

/* The whole file, NUL-terminated; *ret_size is 0 when there is none. -EBADMSG: what has its name is no file. Forgets what
 * was known of entries: table_adopt() and table_vacate() tell it again, slot by slot. */
int table_read(Table *t, char **ret, size_t *ret_size);
/* Makes an empty one where there is none. -ESTALE: there is one that was not read. */
int table_open(Table *t);
/* This slot is that lease's. -EEXIST: there is a record of it already. */
int table_adopt(Table *t, uint32_t slot, uint64_t id);
/* What is in there is worth nothing, if there is anything. */
int table_vacate(Table *t, uint32_t slot, bool empty);
/* Before a file of its own is written for that lease: nothing can fail behind it. */
int table_prepare_own_file(Table *t, uint64_t id);
/* It is written, and what the table has of it is a remnant. */
void table_set_own_file(Table *t, uint64_t id);

const TableEntry *table_find(const Table *t, uint64_t id);
/* -E2BIG: it does not fit, or has a file of its own. Whatever the error, a file of its own is the way out: it counts, and what the
 * slot holds by then does not matter. */
int table_put(Table *t, uint64_t id, const char *text, size_t size);
/* No longer in the table. What is not there is forgotten already. On failure all is as it was. */
int table_drop(Table *t, uint64_t id);
/* Nor has it a file of its own. */
void table_forget(Table *t, uint64_t id);
