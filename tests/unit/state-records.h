/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "state-record.h"

/* Records of any kind for tests: at random, from fixtures, compared. */

#define RECORD_BOOT "0c3f9f4e-7a52-4d0b-9b1e-5f6a7b8c9d0e"

typedef enum RecordKind {
        RECORD_LEASE,
        RECORD_REGION,
        RECORD_DAEMON,
        _RECORD_KIND_MAX,
} RecordKind;

typedef union Record {
        LeaseRecord lease;
        RegionRecord region;
        DaemonRecord daemon;
} Record;

int record_from_text(RecordKind kind, const char *text, size_t size, Record *ret, unsigned *format,
                     char **why);
int record_to_text(RecordKind kind, const Record *r, char **ret, size_t *ret_size);
void record_done(RecordKind kind, Record *r);

void random_seed(uint64_t s);
uint64_t random_u64(void);
uint64_t random_below(uint64_t n);
void record_random(RecordKind kind, Record *r);

void lease_record_assert_equal(const LeaseRecord *a, const LeaseRecord *b);
void record_assert_equal(RecordKind kind, const Record *a, const Record *b);
void record_assert_empty(RecordKind kind, const Record *r);

/* Reads from memory of just that size, so that a byte too far is seen by who looks for such things. Whatever the text is:
 * an error in words, or a record that can be written and read again. */
int record_read_any(RecordKind kind, const char *text, size_t size);

/* Of tests/unit/state. */
char *record_fixture(unsigned format, const char *name, size_t *ret_size);
void record_fixture_read(RecordKind kind, unsigned format, const char *name, Record *ret);
