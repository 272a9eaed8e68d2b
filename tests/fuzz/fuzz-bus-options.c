/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/socket.h>

#include "bus-internal.h"
#include "fuzz-input.h"

/* AcquireLease's options: the input is a little program that writes the message, mostly of known keys and right types.
 * What is accepted is a request that the floor below may rely on, what is not is refused by name, in words. */

#define ENTRIES_MAX 9
#define STRING_MAX 160

static const struct {
        const char *key;
        char type; /* 'S': slices */
} request_keys[] =
                {
                                {"Slices", 'S'},   {"Label", 's'},    {"Lifetime", 's'},
                                {"Holder", 'h'},   {"WaitUSec", 't'}, {"Delegate", 'u'},
                                {"OwnerUid", 'u'}, {"Dmabuf", 'b'},
},
  slice_keys[] = {
                  {"Size", 't'}, {"Whole", 'b'},  {"Region", 's'}, {"Gpu", 's'},
                  {"Node", 'i'}, {"Socket", 'i'}, {"Align", 't'},  {"Retired", 's'},
};

typedef struct Writer {
        FuzzInput in;
        sd_bus_message *message;
        int fd;
        bool twice; /* a key in one dictionary */
} Writer;

static int write_string(Writer *w) {
        static const char *const known[] = {"avoid",      "include", "persistent",
                                            "descriptor", "egm4",    "0008:01:00.0"};
        _cleanup_free_ char *s = NULL;
        uint8_t which = fuzz_take_byte(&w->in);

        if (which % 8 < ELEMENTSOF(known))
                return sd_bus_message_append(w->message, "s", known[which % 8]);
        s = fuzz_take_string(&w->in, fuzz_take_byte(&w->in) % STRING_MAX);
        return sd_bus_message_append(w->message, "s", s);
}

static int write_entries(Writer *w, bool slice);

static int write_slices(Writer *w) {
        int r = sd_bus_message_open_container(w->message, 'a', "a{sv}");

        for (unsigned n = fuzz_take_byte(&w->in) % 20; r >= 0 && n > 0; n--)
                r = write_entries(w, true);
        return r < 0 ? r : sd_bus_message_close_container(w->message);
}

static int write_value(Writer *w, char type) {
        static const char *const other[] = {"v", "ay", "as", "a{sv}", "(st)", "g", "o", "d"};
        uint64_t v;
        int r;

        if (type == 'S') {
                r = sd_bus_message_open_container(w->message, 'v', "aa{sv}");
                if (r >= 0)
                        r = write_slices(w);
        } else if (type != 0) {
                r = sd_bus_message_open_container(w->message, 'v', (char[]){type, 0});
                if (r >= 0 && type == 's')
                        r = write_string(w);
                else if (r >= 0) {
                        v = type == 'h'   ? (uint64_t) w->fd
                            : type == 'b' ? fuzz_take_byte(&w->in) % 2
                                          : fuzz_take_number(&w->in);
                        r = sd_bus_message_append_basic(w->message, type, &v);
                }
        } else
                switch (fuzz_take_byte(&w->in) % ELEMENTSOF(other)) {
                case 0:
                        return sd_bus_message_append(w->message, "v", "v", "s", "x");
                case 1:
                        return sd_bus_message_append(w->message, "v", "ay", 2, 0, 1);
                case 2:
                        return sd_bus_message_append(w->message, "v", "as", 1, "x");
                case 3:
                        return sd_bus_message_append(w->message, "v", "a{sv}", 1, "Size", "t",
                                                     UINT64_C(1));
                default:
                        return sd_bus_message_append(w->message, "v", "(st)", "x", UINT64_C(1));
                }
        return r < 0 ? r : sd_bus_message_close_container(w->message);
}

static int write_entry(Writer *w, bool slice, unsigned *seen) {
        size_t n = slice ? ELEMENTSOF(slice_keys) : ELEMENTSOF(request_keys);
        uint8_t which = fuzz_take_byte(&w->in), oddity = fuzz_take_byte(&w->in);
        _cleanup_free_ char *key = NULL;
        char type = slice ? slice_keys[which % n].type : request_keys[which % n].type;
        int r;

        w->twice = w->twice || (oddity % 16 != 1 && (*seen & 1U << which % n));
        *seen |= oddity % 16 != 1 ? 1U << which % n : 0;
        if (oddity % 16 == 1)
                key = fuzz_take_string(&w->in, which % STRING_MAX);
        if (oddity % 16 == 2)
                type = "tbsiuhS"[which % 7];
        if (oddity % 16 == 3)
                type = 0;
        r = sd_bus_message_append(w->message, "s",
                                  key
                                                  ?: slice ? slice_keys[which % n].key
                                                           : request_keys[which % n].key);
        return r < 0 ? r : write_value(w, type);
}

static int write_entries(Writer *w, bool slice) {
        int r = sd_bus_message_open_container(w->message, 'a', "{sv}");
        unsigned seen = 0;

        for (unsigned n = fuzz_take_byte(&w->in) % ENTRIES_MAX; r >= 0 && n > 0; n--) {
                r = sd_bus_message_open_container(w->message, 'e', "sv");
                if (r >= 0)
                        r = write_entry(w, slice, &seen);
                if (r >= 0)
                        r = sd_bus_message_close_container(w->message);
        }
        return r < 0 ? r : sd_bus_message_close_container(w->message);
}

static void check_name(const char *s) {
        if (!s)
                return;
        FUZZ_CHECK(*s && strlen(s) <= 64);
        for (; *s; s++)
                FUZZ_CHECK(*s > ' ' && *s <= '~');
}

static void check_request(const AcquireRequest *q) {
        FUZZ_CHECK(q->n_slices > 0 && q->n_slices <= EGM_SLICES_MAX);
        FUZZ_CHECK(lease_lifetime_to_string(q->lifetime));
        FUZZ_CHECK(!q->label ||
                   (strlen(q->label) <= LEASE_LABEL_MAX && text_is_printable(q->label)));
        FUZZ_CHECK(!q->delegate ||
                   (q->n_slices == 1 && q->slices[0].whole && q->slices[0].include_retired &&
                    q->delegate_uid != (uid_t) -1 && !q->dmabuf));
        FUZZ_CHECK(q->holder == -EBADF || (fcntl(q->holder, F_GETFD) & FD_CLOEXEC));
        for (size_t i = 0; i < q->n_slices; i++) {
                const SliceRequest *s = q->slices + i;

                check_name(s->region);
                check_name(s->gpu);
                FUZZ_CHECK(s->node >= EGM_NODE_ANY && s->socket >= EGM_SOCKET_ANY);
                FUZZ_CHECK(s->dmabuf == q->dmabuf);
        }
}

/* Nobody is at the other end: messages are only made for it. */
static sd_bus *bus_to_nobody(void) {
        static sd_bus *bus;
        int fds[2];

        if (bus)
                return bus;
        FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        FUZZ_CHECK(sd_bus_new(&bus) >= 0);
        FUZZ_CHECK(sd_bus_set_fd(bus, fds[0], fds[0]) >= 0);
        FUZZ_CHECK(sd_bus_negotiate_fds(bus, true) >= 0);
        FUZZ_CHECK(sd_bus_start(bus) >= 0);
        return bus;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_egm_error_ EgmError e = EGM_ERROR_NULL;
        Writer w = {.in = {data, size}, .fd = STDERR_FILENO};
        AcquireRequest q;
        int r;

        FUZZ_CHECK(sd_bus_message_new_method_call(bus_to_nobody(), &w.message, EGM_BUS_NAME,
                                                  EGM_PATH, EGM_MANAGER_INTERFACE,
                                                  "AcquireLease") >= 0);
        /* What cannot be written cannot be sent. */
        if (write_entries(&w, false) >= 0 && sd_bus_message_seal(w.message, 1, 0) >= 0) {
                r = bus_read_acquire(w.message, &q, &e);
                if (r >= 0) {
                        check_request(&q);
                        FUZZ_CHECK(!w.twice);
                        acquire_request_done(&q);
                }
                FUZZ_CHECK((r < 0) >= (e.kind != EGM_ERROR_NONE));
                fuzz_check_words(e.kind != EGM_ERROR_NONE, e.message);
                /* A bus lets nothing through that is not as it should be; what else is wrong has a name. */
                FUZZ_CHECK(r >= 0 || e.kind != EGM_ERROR_NONE || r == -EBADMSG);
        }
        sd_bus_message_unref(w.message);
        return 0;
}
