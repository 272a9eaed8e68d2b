/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>

#include "bus-internal.h"
#include "fd-util.h"
#include "text.h"

/* Reads requests out of a{sv}. Everything about their form is judged here, everything about regions on the floor of
 * placement. An option that is not known is refused: to ignore it could mean to lend what was not asked for. */

#define NAME_MAX_BYTES 64U

typedef int (*option_read_t)(sd_bus_message *m, void *target, const char *key, EgmError *reterr);

typedef struct Option {
        const char *key;
        const char *signature; /* of the variant's content */
        option_read_t read;
        size_t offset; /* in the target */
} Option;

static int read_u64(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        return sd_bus_message_read_basic(m, 't', target);
}

/* 0 stands for no alignment given where requests are placed. */
static int read_align(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        uint64_t align;
        int r;

        r = sd_bus_message_read_basic(m, 't', &align);
        if (r < 0)
                return r;
        if (align == 0)
                return egm_error_set(reterr, EGM_ERROR_BAD_ALIGNMENT, "%s: 0 is not a power of two",
                                     key);
        *(uint64_t *) target = align;
        return r;
}

static int read_bool(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        int b, r;

        r = sd_bus_message_read_basic(m, 'b', &b);
        if (r < 0)
                return r;
        *(bool *) target = b;
        return r;
}

static int read_index(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        int32_t i;
        int r;

        r = sd_bus_message_read_basic(m, 'i', &i);
        if (r < 0)
                return r;
        if (i < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "%s: %" PRIi32 " is negative",
                                     key, i);
        *(int *) target = i;
        return r;
}

static int read_uid(sd_bus_message *m, const char *key, uid_t *ret, EgmError *reterr) {
        uint32_t uid;
        int r;

        r = sd_bus_message_read_basic(m, 'u', &uid);
        if (r < 0)
                return r;
        if (uid == UINT32_MAX)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS, "%s: no user has uid %u", key,
                                     uid);
        *ret = uid;
        return r;
}

static int read_owner(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        return read_uid(m, key, target, reterr);
}

static int read_delegate(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        AcquireRequest *q = target;
        int r = read_uid(m, key, &q->delegate_uid, reterr);

        q->delegate = r >= 0;
        return r;
}

static int read_name(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        const char *s;
        char *copy;
        int r;

        r = sd_bus_message_read_basic(m, 's', &s);
        if (r < 0)
                return r;
        if (!*s || strlen(s) > NAME_MAX_BYTES)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: %zu bytes long; 1 to %u are allowed", key, strlen(s),
                                     NAME_MAX_BYTES);
        for (const char *p = s; *p; p++)
                if (*p <= ' ' || *p >= 0x7f)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "%s: may hold printable ASCII characters only", key);
        copy = strdup(s);
        if (!copy)
                return -ENOMEM;
        *(char **) target = copy;
        return r;
}

static int read_label(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        const char *s;
        char *copy;
        int r;

        r = sd_bus_message_read_basic(m, 's', &s);
        if (r < 0)
                return r;
        if (strlen(s) > LEASE_LABEL_MAX)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: %zu bytes long; at most %u are allowed", key, strlen(s),
                                     LEASE_LABEL_MAX);
        if (!text_is_printable(s))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: may not hold control characters, nor what does not show "
                                     "or turns text around; U+%04" PRIX32 " is one",
                                     key, text_find_unprintable(s));
        copy = strdup(s);
        if (!copy)
                return -ENOMEM;
        *(char **) target = copy;
        return r;
}

static int read_retired(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        const char *s;
        int r;

        r = sd_bus_message_read_basic(m, 's', &s);
        if (r < 0)
                return r;
        if (!streq(s, "avoid") && !streq(s, "include"))
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: \"%.32s\" is neither \"avoid\" nor \"include\"", key, s);
        *(bool *) target = streq(s, "include");
        return r;
}

static int read_lifetime(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        const char *s;
        LeaseLifetime l;
        int r;

        r = sd_bus_message_read_basic(m, 's', &s);
        if (r < 0)
                return r;
        l = lease_lifetime_from_string(s);
        if (l < 0)
                return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                     "%s: \"%.32s\" is neither \"descriptor\" nor \"persistent\"",
                                     key, s);
        *(LeaseLifetime *) target = l;
        return r;
}

static int read_fd(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        int fd, r;

        r = sd_bus_message_read_basic(m, 'h', &fd);
        if (r < 0)
                return r;
        fd = fd_copy(fd);
        if (fd < 0)
                return fd;
        *(int *) target = fd;
        return r;
}

/* One a{sv} by a table. */
static int read_options(sd_bus_message *m, const Option *table, size_t n, void *target,
                        EgmError *reterr) {
        uint64_t seen = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key, *content;
                size_t i = 0;

                r = sd_bus_message_read_basic(m, 's', &key);
                if (r < 0)
                        return r;
                r = sd_bus_message_peek_type(m, NULL, &content);
                if (r < 0)
                        return r;
                while (i < n && !streq(table[i].key, key))
                        i++;
                if (i == n)
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Unknown option \"%.64s\"", key);
                if (seen & (UINT64_C(1) << i))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Option %s is given twice", key);
                seen |= UINT64_C(1) << i;
                if (!streq(table[i].signature, content))
                        return egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                             "Option %s is of type %s and not %.64s", key,
                                             table[i].signature, content);
                r = sd_bus_message_enter_container(m, 'v', content);
                if (r < 0)
                        return r;
                r = table[i].read(m, (char *) target + table[i].offset, key, reterr);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static const Option slice_options[] = {
                {"Size", "t", read_u64, offsetof(SliceRequest, size)},
                {"Whole", "b", read_bool, offsetof(SliceRequest, whole)},
                {"Region", "s", read_name, offsetof(SliceRequest, region)},
                {"Gpu", "s", read_name, offsetof(SliceRequest, gpu)},
                {"Node", "i", read_index, offsetof(SliceRequest, node)},
                {"Socket", "i", read_index, offsetof(SliceRequest, socket)},
                {"Align", "t", read_align, offsetof(SliceRequest, align)},
                {"Retired", "s", read_retired, offsetof(SliceRequest, include_retired)},
};

static int read_slices(sd_bus_message *m, void *target, const char *key, EgmError *reterr) {
        AcquireRequest *q = target;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "a{sv}");
        if (r < 0)
                return r;
        q->slices = calloc(EGM_SLICES_MAX, sizeof(*q->slices));
        if (!q->slices)
                return -ENOMEM;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                SliceRequest *s;

                if (q->n_slices >= EGM_SLICES_MAX)
                        return egm_error_set(reterr, EGM_ERROR_LIMITS_EXCEEDED,
                                             "More slices than a request may have; the limit is %u",
                                             EGM_SLICES_MAX);
                s = q->slices + q->n_slices++;
                *s = (SliceRequest){.node = EGM_NODE_ANY, .socket = EGM_SOCKET_ANY};
                r = read_options(m, slice_options, ELEMENTSOF(slice_options), s, reterr);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static const Option acquire_options[] = {
                {"Slices", "aa{sv}", read_slices, 0},
                {"Label", "s", read_label, offsetof(AcquireRequest, label)},
                {"Lifetime", "s", read_lifetime, offsetof(AcquireRequest, lifetime)},
                {"Holder", "h", read_fd, offsetof(AcquireRequest, holder)},
                {"WaitUSec", "t", read_u64, offsetof(AcquireRequest, wait_usec)},
                {"Delegate", "u", read_delegate, 0},
                {"Dmabuf", "b", read_bool, offsetof(AcquireRequest, dmabuf)},
                {"OwnerUid", "u", read_owner, offsetof(AcquireRequest, uid)},
};

int bus_read_acquire(sd_bus_message *m, AcquireRequest *ret, EgmError *reterr) {
        AcquireRequest q = {.holder = -EBADF, .uid = (uid_t) -1};
        int r;

        r = read_options(m, acquire_options, ELEMENTSOF(acquire_options), &q, reterr);
        if (r >= 0 && q.n_slices == 0)
                r = egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                  "Option Slices is missing or empty");
        if (r >= 0 && q.delegate && (q.n_slices != 1 || !q.slices[0].whole))
                r = egm_error_set(
                                reterr, EGM_ERROR_INVALID_ARGS,
                                "Delegate: only a single whole region can be handed over by path");
        if (r >= 0 && q.delegate && q.dmabuf)
                r = egm_error_set(reterr, EGM_ERROR_INVALID_ARGS,
                                  "Dmabuf: what is handed over by path (Delegate) is not egmd's to "
                                  "export");
        if (r < 0) {
                acquire_request_done(&q);
                return r;
        }
        /* Who opens the region by path asks the driver himself for the list of retired pages. */
        if (q.delegate)
                q.slices[0].include_retired = true;
        for (size_t i = 0; i < q.n_slices; i++)
                q.slices[i].dmabuf = q.dmabuf;
        *ret = q;
        return 0;
}

int bus_read_quotas(sd_bus_message *m, uid_t *ret, EgmError *reterr) {
        static const Option options[] = {{"Uid", "u", read_owner, 0}};
        uid_t uid = (uid_t) -1;
        int r;

        r = read_options(m, options, ELEMENTSOF(options), &uid, reterr);
        if (r >= 0)
                *ret = uid;
        return r;
}

int bus_read_no_options(sd_bus_message *m, EgmError *reterr) {
        return read_options(m, NULL, 0, NULL, reterr);
}
