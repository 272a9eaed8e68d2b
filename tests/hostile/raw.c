/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "raw.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "egm-names.h"
#include "fd-util.h"
#include "test.h"

enum {
        FIELD_PATH = 1,
        FIELD_INTERFACE,
        FIELD_MEMBER,
        FIELD_DESTINATION = 6,
        FIELD_SIGNATURE = 8,
        FIELD_FDS
};

typedef struct Raw {
        uint8_t data[128U * 1024U] __attribute__((aligned(8)));
        size_t n;
} Raw;

static void align_to(Raw *b, size_t align) {
        while (b->n % align != 0)
                b->data[b->n++] = 0;
        assert_true(b->n < sizeof(b->data) - 512);
}

static void put(Raw *b, const void *data, size_t size, size_t align) {
        align_to(b, align);
        memcpy(b->data + b->n, data, size);
        b->n += size;
}

static void put_byte(Raw *b, uint8_t v) {
        put(b, &v, 1, 1);
}

static void put_u32(Raw *b, uint32_t v) {
        put(b, &v, sizeof(v), sizeof(v));
}

static void put_u64(Raw *b, uint64_t v) {
        put(b, &v, sizeof(v), sizeof(v));
}

static void put_string(Raw *b, const char *s) {
        put_u32(b, (uint32_t) strlen(s));
        put(b, s, strlen(s) + 1, 1);
}

static void put_signature(Raw *b, const char *s) {
        put_byte(b, (uint8_t) strlen(s));
        put(b, s, strlen(s) + 1, 1);
}

/* Returns where its length goes. */
static size_t open_array(Raw *b, size_t align) {
        size_t at;

        align_to(b, 4);
        at = b->n;
        put_u32(b, 0);
        align_to(b, align);
        return at;
}

static void close_array(Raw *b, size_t at, size_t align) {
        size_t start = at + 4 + (align - (at + 4) % align) % align;
        uint32_t size = (uint32_t) (b->n - start);

        memcpy(b->data + at, &size, sizeof(size));
}

static void put_field(Raw *b, uint8_t code, const char *type, const char *s) {
        align_to(b, 8);
        put_byte(b, code);
        put_signature(b, type);
        if (*type == 'g')
                put_signature(b, s);
        else
                put_string(b, s);
}

static void put_key(Raw *b, const char *key, const char *type) {
        align_to(b, 8);
        put_string(b, key);
        put_signature(b, type);
}

static void put_arguments(Raw *b, const RawCall *c) {
        size_t options = open_array(b, 8), slices, slice;

        put_key(b, "Slices", "aa{sv}");
        slices = open_array(b, 4);
        slice = open_array(b, 8);
        put_key(b, "Size", "t");
        put_u64(b, c->size);
        put_key(b, "Region", "s");
        put_string(b, c->region);
        close_array(b, slice, 8);
        close_array(b, slices, 4);
        put_key(b, "WaitUSec", "t");
        put_u64(b, c->wait_usec);
        put_key(b, "Lifetime", "s");
        put_string(b, c->lifetime ?: "descriptor");
        close_array(b, options, 8);
}

static bool send_all(int fd, const void *data, size_t size, const int *fds, unsigned n_fds) {
        union {
                struct cmsghdr header;
                char data[CMSG_SPACE(RAW_FDS_MAX * sizeof(int))];
        } control = {};
        struct iovec iov = {.iov_base = (void *) data, .iov_len = size};
        struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t k;

        if (n_fds > 0) {
                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        }
        k = sendmsg(fd, &mh, MSG_NOSIGNAL);
        if (k < 0)
                return false;
        return (size_t) k == size ||
               send_all(fd, (const char *) data + k, size - (size_t) k, NULL, 0);
}

bool raw_send(int fd, uint32_t serial, const RawCall *c) {
        static Raw body, b;
        uint32_t body_size;
        size_t fields;

        body.n = b.n = 0;
        if (c->region)
                put_arguments(&body, c);
        body_size = (uint32_t) body.n;
        put_byte(&b, 'l');
        put_byte(&b, 1);
        put_byte(&b, c->flags);
        put_byte(&b, 1);
        put_u32(&b, body_size);
        put_u32(&b, serial);
        fields = open_array(&b, 8);
        put_field(&b, FIELD_PATH, "o", c->path);
        put_field(&b, FIELD_INTERFACE, "s", c->interface);
        put_field(&b, FIELD_MEMBER, "s", c->member);
        put_field(&b, FIELD_DESTINATION, "s",
                  streq(c->interface, "org.freedesktop.DBus") ? "org.freedesktop.DBus"
                                                              : EGM_BUS_NAME);
        if (body_size > 0)
                put_field(&b, FIELD_SIGNATURE, "g", "a{sv}");
        if (c->n_fds > 0) {
                align_to(&b, 8);
                put_byte(&b, FIELD_FDS);
                put_signature(&b, "u");
                put_u32(&b, c->n_fds);
        }
        close_array(&b, fields, 8);
        align_to(&b, 8);
        put(&b, body.data, body.n, 1);
        return send_all(fd, b.data, b.n, c->fds, c->n_fds);
}

static void say(int fd, const char *line, const char *expected) {
        char answer[256];
        size_t n = 0;

        assert_true(send_all(fd, line, strlen(line), NULL, 0));
        if (!expected)
                return;
        do {
                ssize_t k = recv(fd, answer + n, sizeof(answer) - 1 - n, 0);

                assert_true(k > 0);
                n += (size_t) k;
        } while (answer[n - 1] != '\n' && n < sizeof(answer) - 1);
        answer[n] = '\0';
        assert_int_equal(strncmp(answer, expected, strlen(expected)), 0);
}

int raw_connect(void) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        const char *path = strstr(getenv("EGM_TEST_BUS"), "unix:path=");
        const RawCall hello = {.path = "/org/freedesktop/DBus",
                               .interface = "org.freedesktop.DBus",
                               .member = "Hello"};
        char uid[16], line[128];
        size_t n;
        int fd;

        assert_non_null(path);
        path += strlen("unix:path=");
        (void) snprintf(sa.sun_path, sizeof(sa.sun_path), "%.*s", (int) strcspn(path, ","), path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (const struct sockaddr *) &sa, sizeof(sa)), 0);
        (void) snprintf(uid, sizeof(uid), "%u", (unsigned) geteuid());
        n = (size_t) snprintf(line, sizeof(line), "AUTH EXTERNAL ");
        for (const char *p = uid; *p; p++)
                n += (size_t) snprintf(line + n, sizeof(line) - n, "%02x", (unsigned char) *p);
        (void) snprintf(line + n, sizeof(line) - n, "\r\n");
        assert_int_equal(send(fd, "", 1, MSG_NOSIGNAL), 1);
        say(fd, line, "OK ");
        say(fd, "NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD");
        say(fd, "BEGIN\r\n", NULL);
        assert_true(raw_send(fd, 1, &hello));
        /* As long as it may still read what belongs to the greeting it takes no descriptors. */
        assert_true(recv(fd, line, sizeof(line), 0) > 0);
        return fd;
}
