/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdarg.h>

#include "lifeline.h"
#include "state-record-internal.h"
#include "string-table.h"
#include "text.h"

static const char *const slice_phase_table[_SLICE_PHASE_MAX] = {
                [SLICE_LEASED] = "leased",       [SLICE_DRAINING] = "draining",
                [SLICE_SCRUBBING] = "scrubbing", [SLICE_DONE] = "done",
                [SLICE_LOST] = "lost",
};
DEFINE_STRING_TABLE(slice_phase, SlicePhase)

void lease_record_done(LeaseRecord *r) {
        assert(r);

        free(r->boot);
        free(r->label);
        free(r->unit);
        free(r->account_unit);
        free(r->account_slice);
        free(r->bound);
        free(r->dmabufs);
        for (size_t i = 0; i < r->n_slices; i++)
                free(r->slices[i].region);
        free(r->slices);
        *r = (LeaseRecord){};
}

void region_record_done(RegionRecord *r) {
        assert(r);

        free(r->boot);
        free(r->name);
        *r = (RegionRecord){};
}

void daemon_record_done(DaemonRecord *r) {
        assert(r);

        free(r->boot);
        *r = (DaemonRecord){};
}

int state_refuse(char **ret_why, const char *format, ...) {
        va_list ap;
        int r;

        if (!ret_why)
                return -EBADMSG;
        va_start(ap, format);
        r = vasprintf(ret_why, format, ap);
        va_end(ap);
        if (r < 0) {
                *ret_why = NULL;
                return -ENOMEM;
        }
        return -EBADMSG;
}

bool state_name_is_valid(const char *s) {
        assert(s);

        for (const char *p = s; *p; p++)
                if (*p <= ' ' || *p >= 0x7f || *p == '/')
                        return false;
        return *s && strlen(s) <= STATE_NAME_MAX;
}

/* What goes out on the bus again must be UTF-8, and labels never held control characters. Those of older versions held others that
 * would be refused now: no lease is lost for that. */
static bool text_is_valid(const char *s) {
        return text_is_line(s) && strlen(s) <= STATE_TEXT_MAX;
}

static int slice_record_check(const SliceRecord *s, size_t i, char **ret_why) {
        if (!s->region || !state_name_is_valid(s->region))
                return state_refuse(ret_why, "slices[%zu]: not a region's name", i);
        if (s->size == 0)
                return state_refuse(ret_why, "slices[%zu]: empty", i);
        if (s->offset > INT64_MAX || s->size > INT64_MAX - s->offset)
                return state_refuse(ret_why,
                                    "slices[%zu]: offset %" PRIu64 " and size %" PRIu64
                                    " lead beyond any region",
                                    i, s->offset, s->size);
        if (!slice_phase_to_string(s->phase))
                return state_refuse(ret_why, "slices[%zu]: no such phase", i);
        return 0;
}

int lease_record_check(const LeaseRecord *r, char **ret_why) {
        int k;

        assert(r);

        if (!r->boot || !state_name_is_valid(r->boot))
                return state_refuse(ret_why, "boot: not a boot's id");
        if (r->id == 0)
                return state_refuse(ret_why, "id: leases count from 1");
        if (r->label && !text_is_valid(r->label))
                return state_refuse(ret_why,
                                    "label: too long, not UTF-8 or with control characters");
        if (r->unit && !text_is_valid(r->unit))
                return state_refuse(ret_why,
                                    "unit: too long, not UTF-8 or with control characters");
        if ((r->account_unit && !text_is_valid(r->account_unit)) ||
            (r->account_slice && !text_is_valid(r->account_slice)))
                return state_refuse(ret_why,
                                    "account: too long, not UTF-8 or with control characters");
        if (!lease_lifetime_to_string(r->lifetime))
                return state_refuse(ret_why, "lifetime: no such one");
        if (r->owner_pid < 0)
                return state_refuse(ret_why, "pid: %i is negative", r->owner_pid);
        if (r->n_bound > LIFELINE_BOUND_MAX)
                return state_refuse(ret_why, "bound: %zu processes, at most %u", r->n_bound,
                                    LIFELINE_BOUND_MAX);
        for (size_t i = 0; i < r->n_bound; i++)
                if (r->bound[i].pid <= 0)
                        return state_refuse(ret_why, "bound[%zu]: %i is no process", i,
                                            r->bound[i].pid);
        if (r->n_dmabufs > (r->dmabuf ? LEASE_DMABUFS_MAX : 0))
                return state_refuse(ret_why, "dmabufs: %zu, at most %u", r->n_dmabufs,
                                    r->dmabuf ? LEASE_DMABUFS_MAX : 0);
        if (r->n_slices == 0 || r->n_slices > STATE_SLICES_MAX)
                return state_refuse(ret_why, "slices: %zu, not 1 to %u", r->n_slices,
                                    STATE_SLICES_MAX);
        for (size_t i = 0; i < r->n_slices; i++) {
                k = slice_record_check(r->slices + i, i, ret_why);
                if (k < 0)
                        return k;
        }
        return 0;
}

int region_record_check(const RegionRecord *r, char **ret_why) {
        assert(r);

        if (!r->boot || !state_name_is_valid(r->boot))
                return state_refuse(ret_why, "boot: not a boot's id");
        if (!r->name || !state_name_is_valid(r->name))
                return state_refuse(ret_why, "name: not a region's name");
        if (r->size == 0 || r->size > INT64_MAX)
                return state_refuse(ret_why, "size: %" PRIu64 " cannot be", r->size);
        return 0;
}

int daemon_record_check(const DaemonRecord *r, char **ret_why) {
        assert(r);

        if (!r->boot || !state_name_is_valid(r->boot))
                return state_refuse(ret_why, "boot: not a boot's id");
        if (r->next_lease == 0)
                return state_refuse(ret_why, "next_lease: leases count from 1");
        return 0;
}

/* A lease's file is written before each answer about it, so its text goes straight into one buffer. Whether memory ran
 * out is asked once, at the end. */
typedef struct Text {
        char *data;
        size_t size;
        size_t room;
        bool failed;
} Text;

static char *text_reserve(Text *t, size_t n) {
        if (t->failed)
                return NULL;
        if (n > t->room - t->size) {
                size_t room = MAX(t->room * 2, t->size + n);
                char *data = realloc(t->data, room);

                if (!data) {
                        t->failed = true;
                        return NULL;
                }
                t->data = data;
                t->room = room;
        }
        return t->data + t->size;
}

static void text_add(Text *t, const char *s) {
        size_t n = strlen(s);
        char *p = text_reserve(t, n);

        if (!p)
                return;
        memcpy(p, s, n);
        t->size += n;
}

static void text_number(Text *t, uint64_t v) {
        char digits[20], *p = digits + sizeof(digits), *to;
        size_t n;

        do
                *--p = (char) ('0' + v % 10);
        while ((v /= 10) > 0);
        n = (size_t) (digits + sizeof(digits) - p);
        to = text_reserve(t, n);
        if (!to)
                return;
        memcpy(to, p, n);
        t->size += n;
}

/* Records hold no control characters; they are escaped all the same, since what this writes must be JSON whatever a rule
 * elsewhere says. */
static void text_string(Text *t, const char *s) {
        static const char hex[] = "0123456789abcdef";
        char *p;

        if (!s) {
                text_add(t, "null");
                return;
        }
        p = text_reserve(t, 6 * strlen(s) + 2);
        if (!p)
                return;
        *p++ = '"';
        for (; *s; s++) {
                unsigned char c = (unsigned char) *s;

                if (c < ' ') {
                        memcpy(p, "\\u00", 4);
                        p[4] = hex[c >> 4];
                        p[5] = hex[c & 15];
                        p += 6;
                        continue;
                }
                if (c == '"' || c == '\\')
                        *p++ = '\\';
                *p++ = (char) c;
        }
        *p++ = '"';
        t->size = (size_t) (p - t->data);
}

/* Before an item of a list or a member of an object: what is there already says whether it is the first. */
static void text_separate(Text *t) {
        if (t->size > 0 && t->data[t->size - 1] != '{' && t->data[t->size - 1] != '[')
                text_add(t, ",");
}

static void text_key(Text *t, const char *key) {
        text_separate(t);
        text_add(t, "\"");
        text_add(t, key);
        text_add(t, "\":");
}

static void text_number_member(Text *t, const char *key, uint64_t v) {
        text_key(t, key);
        text_number(t, v);
}

static void text_string_member(Text *t, const char *key, const char *s) {
        text_key(t, key);
        text_string(t, s);
}

static void text_bool_member(Text *t, const char *key, bool b) {
        text_key(t, key);
        text_add(t, b ? "true" : "false");
}

static void text_begin(Text *t, size_t room, const char *boot) {
        (void) text_reserve(t, room);
        text_add(t, "{");
        text_string_member(t, "private", "egmd's own notes, do not parse");
        text_number_member(t, "format", STATE_FORMAT);
        text_string_member(t, "boot", boot);
}

static int text_finish(Text *t, char **ret, size_t *ret_size) {
        text_add(t, "}\n");
        if (text_reserve(t, 1))
                t->data[t->size] = '\0';
        if (t->failed) {
                free(t->data);
                return -ENOMEM;
        }
        assert(t->size <= STATE_FILE_MAX);
        *ret = t->data;
        *ret_size = t->size;
        return 0;
}

static void text_bound(Text *t, const LeaseRecord *r) {
        text_key(t, "bound");
        text_add(t, "[");
        for (size_t i = 0; i < r->n_bound; i++) {
                text_separate(t);
                text_add(t, "{");
                text_number_member(t, "pid", (uint64_t) r->bound[i].pid);
                text_number_member(t, "start", r->bound[i].start_time);
                text_add(t, "}");
        }
        text_add(t, "]");
}

static void text_dmabufs(Text *t, const LeaseRecord *r) {
        text_key(t, "dmabufs");
        text_add(t, "[");
        for (size_t i = 0; i < r->n_dmabufs; i++) {
                text_separate(t);
                text_add(t, "{");
                text_number_member(t, "dev", r->dmabufs[i].dev);
                text_number_member(t, "ino", r->dmabufs[i].ino);
                text_add(t, "}");
        }
        text_add(t, "]");
}

static void text_slices(Text *t, const LeaseRecord *r) {
        text_key(t, "slices");
        text_add(t, "[");
        for (size_t i = 0; i < r->n_slices; i++) {
                const SliceRecord *s = r->slices + i;

                text_separate(t);
                text_add(t, "{");
                text_string_member(t, "region", s->region);
                text_number_member(t, "offset", s->offset);
                text_number_member(t, "size", s->size);
                text_string_member(t, "phase", slice_phase_to_string(s->phase));
                text_add(t, "}");
        }
        text_add(t, "]");
}

int lease_record_to_text(const LeaseRecord *r, char **ret, size_t *ret_size) {
        Text t = {};

        assert(ret);
        assert(ret_size);

        if (lease_record_check(r, NULL) < 0)
                return -EINVAL;
        text_begin(&t, 512 + 128 * (r->n_slices + r->n_bound), r->boot);
        text_number_member(&t, "id", r->id);
        text_string_member(&t, "label", r->label);
        text_string_member(&t, "lifetime", lease_lifetime_to_string(r->lifetime));
        text_number_member(&t, "uid", r->owner_uid);
        text_number_member(&t, "pid", (uint64_t) r->owner_pid);
        text_string_member(&t, "unit", r->unit);
        text_number_member(&t, "created", r->created_usec);
        text_bool_member(&t, "released", r->released);
        if (r->delegated)
                text_number_member(&t, "delegate", r->delegate_uid);
        else
                text_string_member(&t, "delegate", NULL);
        text_string_member(&t, "account_unit", r->account_unit);
        text_string_member(&t, "account_slice", r->account_slice);
        text_bool_member(&t, "dmabuf", r->dmabuf);
        text_dmabufs(&t, r);
        text_bound(&t, r);
        text_slices(&t, r);
        return text_finish(&t, ret, ret_size);
}

int region_record_to_text(const RegionRecord *r, char **ret, size_t *ret_size) {
        Text t = {};

        assert(ret);
        assert(ret_size);

        if (region_record_check(r, NULL) < 0)
                return -EINVAL;
        text_begin(&t, 512, r->boot);
        text_string_member(&t, "name", r->name);
        text_number_member(&t, "rdev", r->rdev);
        text_number_member(&t, "inode", r->inode);
        text_number_member(&t, "size", r->size);
        text_bool_member(&t, "offsets", r->offsets);
        text_number_member(&t, "file_dev", r->file_dev);
        text_number_member(&t, "file_ino", r->file_ino);
        text_bool_member(&t, "schedulable", r->schedulable);
        return text_finish(&t, ret, ret_size);
}

int daemon_record_to_text(const DaemonRecord *r, char **ret, size_t *ret_size) {
        Text t = {};

        assert(ret);
        assert(ret_size);

        if (daemon_record_check(r, NULL) < 0)
                return -EINVAL;
        text_begin(&t, 256, r->boot);
        text_number_member(&t, "next_lease", r->next_lease);
        return text_finish(&t, ret, ret_size);
}
