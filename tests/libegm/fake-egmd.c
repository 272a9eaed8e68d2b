/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <fcntl.h>
#include <sys/mman.h>

#include "egm-names.h"
#include "fake-egmd.h"
#include "fd-util.h"

#define CHECK(call) \
        do { \
                if ((call) < 0) { \
                        fprintf(stderr, "fake egmd: %s failed\n", #call); \
                        abort(); \
                } \
        } while (0)

static int make_fd(Fake *f, FakeFd kind) {
        char path[64];
        int fds[2];

        switch (kind) {
        case FAKE_LIFETIME:
                CHECK(pipe2(fds, O_CLOEXEC));
                safe_close(f->lifetime_fd);
                f->lifetime_fd = fds[0];
                return fds[1];
        case FAKE_MEMORY:
                return fd_copy(f->memory_fd);
        case FAKE_MEMORY_RDONLY:
                (void) snprintf(path, sizeof(path), "/proc/self/fd/%d", f->memory_fd);
                return open(path, O_RDONLY | O_CLOEXEC);
        case FAKE_DEVICE:
                return open("/dev/zero", O_RDWR | O_CLOEXEC);
        case FAKE_PIPE:
                CHECK(pipe2(fds, O_CLOEXEC));
                safe_close(fds[0]);
                return fds[1];
        default:
                return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
}

static void append_descriptors(Fake *f, sd_bus_message *m) {
        _cleanup_close_ int lifetime = make_fd(f, f->lifetime);

        CHECK(sd_bus_message_append(m, "h", lifetime));
        CHECK(sd_bus_message_open_container(m, 'a', "(shtt)"));
        for (size_t i = 0; i < f->n_slices; i++) {
                _cleanup_close_ int fd = make_fd(f, f->slices[i].fd);

                CHECK(sd_bus_message_append(m, "(shtt)", f->slices[i].region, fd,
                                            f->slices[i].offset, f->slices[i].size));
        }
        CHECK(sd_bus_message_close_container(m));
}

/* ---- The request, as text ---- */

static void dump_value(sd_bus_message *m, FILE *out) {
        const char *contents;
        char type;
        union {
                const char *s;
                uint64_t t;
                int32_t i;
        } v = {};

        CHECK(sd_bus_message_peek_type(m, &type, &contents));
        if (type == 'a' || type == 'v' || type == 'e') {
                CHECK(sd_bus_message_enter_container(m, type, contents));
                fputs(type == 'a' ? "[" : "", out);
                while (sd_bus_message_at_end(m, false) == 0) {
                        dump_value(m, out);
                        fputs(" ", out);
                }
                fputs(type == 'a' ? "]" : "", out);
                CHECK(sd_bus_message_exit_container(m));
                return;
        }
        CHECK(sd_bus_message_read_basic(m, type, &v));
        if (type == 's')
                fprintf(out, "%s", v.s);
        else if (type == 't')
                fprintf(out, "%llu", (unsigned long long) v.t);
        else
                fprintf(out, "%c%d", type, type == 'h' ? 0 : v.i);
}

static void note_request(Fake *f, sd_bus_message *m) {
        size_t size;
        FILE *out;

        f->interactive = sd_bus_message_get_allow_interactive_authorization(m) > 0;
        f->request = mfree(f->request);
        out = open_memstream(&f->request, &size);
        assert(out);
        dump_value(m, out);
        (void) fclose(out);
}

/* ---- Properties ---- */

typedef struct Fixture {
        const char *name;
        const char *signature;
        const char *string;
        int64_t number;
} Fixture;

static const Fixture region_fixtures[] = {
                {"Name", "s", "egm4", 0},
                {"DevicePath", "s", "/dev/egm4", 0},
                {"Size", "t", NULL, 1000},
                {"Free", "t", NULL, 400},
                {"LargestFree", "t", NULL, 300},
                {"Leased", "t", NULL, 200},
                {"Draining", "t", NULL, 150},
                {"Dirty", "t", NULL, 120},
                {"Scrubbing", "t", NULL, 70},
                {"Retired", "t", NULL, 60},
                {"Scrubbed", "t", NULL, 35},
                {"RetiredRanges", "a(tt)", NULL, 0},
                {"Granule", "t", NULL, 65536},
                {"Node", "i", NULL, -1},
                {"Socket", "i", NULL, 1},
                {"Gpus", "as", NULL, 0},
                {"GpuDrivers", "a(ss)", NULL, 0},
                {"State", "s", "held-elsewhere", 0},
                {"Reason", "s", "by pid 7", 0},
                {"Partitioning", "s", "full", 0},
                {"Driver", "s", "sim", 0},
                {"Isolation", "s", "cooperative", 0},
                {"IsolationReason", "s", "no lsm=bpf", 0},
                {"Schedulable", "b", NULL, 1},
                {"Overreach", "a(sttus)", NULL, 0},
                {"FromTheFuture", "s", "ignored", 0},
};

static const Fixture lease_fixtures[] = {
                {"Id", "s", "7", 0},
                {"Label", "s", "vm1", 0},
                {"Slices", "a(stt)", NULL, 0},
                {"State", "s", "draining", 0},
                {"Lifetime", "s", "descriptor", 0},
                {"Isolation", "s", "enforced", 0},
                {"OwnerUid", "u", NULL, 1000},
                {"HolderPid", "u", NULL, 4711},
                {"Unit", "s", "vm1.scope", 0},
                {"CreatedUSec", "t", NULL, 1234567},
                {"RetiredRanges", "a(stt)", NULL, 0},
                {"HeldUpBy", "a(usst)", NULL, 0},
                {"Concealed", "b", NULL, 0},
};

static const Fixture manager_fixtures[] = {
                {"Version", "s", "0.1.0", 0},      {"Sockets", "a(itttt)", NULL, 0},
                {"Waiting", "a(uusttt)", NULL, 0}, {"UnsupportedDevices", "a(st)", NULL, 0},
                {"LeaseCount", "u", NULL, 3},      {"Granted", "t", NULL, 4},
                {"Refused", "t", NULL, 5},         {"Ended", "t", NULL, 6},
                {"ScrubbedBytes", "t", NULL, 7},   {"BadPages", "t", NULL, 8},
                {"LeasesMax", "u", NULL, 9},       {"SlicesMax", "u", NULL, 10},
                {"WaitingMax", "u", NULL, 11},     {"EgmOffsetAllowed", "b", NULL, 1},
                {"Overreaches", "t", NULL, 12},
};

static int append_table(sd_bus_message *m, const char *signature) {
        if (streq(signature, "a(tt)"))
                return sd_bus_message_append(m, "a(tt)", 2, UINT64_C(64), UINT64_C(16),
                                             UINT64_C(128), UINT64_C(44));
        if (streq(signature, "as"))
                return sd_bus_message_append(m, "as", 2, "0008:01:00.0", "0009:01:00.0");
        if (streq(signature, "a(ss)"))
                return sd_bus_message_append(m, "a(ss)", 2, "0008:01:00.0", "", "0009:01:00.0",
                                             "nvgrace-gpu-vfio-pci");
        if (streq(signature, "a(stt)"))
                return sd_bus_message_append(m, "a(stt)", 2, "egm4", MIB, 2 * MIB, "egm5",
                                             UINT64_C(0), 4 * MIB);
        if (streq(signature, "a(sttus)"))
                return sd_bus_message_append(m, "a(sttus)", 2, "unlent", 2 * MIB, 4 * MIB,
                                             UINT32_C(4712), "vhost", "foreign", UINT64_C(0), MIB,
                                             UINT32_C(0), "");
        if (streq(signature, "a(usst)"))
                return sd_bus_message_append(m, "a(usst)", 1, UINT32_C(4711), "qemu", "vm1.scope",
                                             UINT64_C(987654321098));
        if (streq(signature, "a(itttt)"))
                return sd_bus_message_append(m, "a(itttt)", 2, -1, UINT64_C(10), UINT64_C(5),
                                             UINT64_C(4), UINT64_C(1), 1, UINT64_C(20),
                                             UINT64_C(19), UINT64_C(1), UINT64_C(0));
        if (streq(signature, "a(uusttt)"))
                return sd_bus_message_append(m, "a(uusttt)", 1, UINT32_C(1), UINT32_C(1000), "next",
                                             UINT64_C(77), UINT64_C(88), UINT64_C(99));
        assert(streq(signature, "a(st)"));
        return sd_bus_message_append(m, "a(st)", 1, "0008:00:00.0", UINT64_C(5));
}

static int append_value(sd_bus_message *m, const Fixture *x) {
        switch (x->signature[0]) {
        case 's':
                return sd_bus_message_append(m, "s", x->string);
        case 't':
                return sd_bus_message_append(m, "t", (uint64_t) x->number);
        case 'a':
                return append_table(m, x->signature);
        default:
                return sd_bus_message_append(m, x->signature, (int) x->number);
        }
}

static void append_properties(Fake *f, sd_bus_message *m, const Fixture *fixtures, size_t n) {
        CHECK(sd_bus_message_open_container(m, 'a', "{sv}"));
        for (size_t i = 0; i < n; i++) {
                Fixture x = fixtures[i];

                if (streq_ptr(f->left_out, x.name))
                        continue;
                if (streq_ptr(f->wrong_type, x.name)) {
                        CHECK(sd_bus_message_append(m, "{sv}", x.name, "d", 1.0));
                        continue;
                }
                if (streq(x.name, "Name") && f->name)
                        x.string = f->name;
                CHECK(sd_bus_message_open_container(m, 'e', "sv"));
                CHECK(sd_bus_message_append(m, "s", x.name));
                CHECK(sd_bus_message_open_container(m, 'v', x.signature));
                CHECK(append_value(m, &x));
                CHECK(sd_bus_message_close_container(m));
                CHECK(sd_bus_message_close_container(m));
        }
        CHECK(sd_bus_message_close_container(m));
}

static void append_interface(Fake *f, sd_bus_message *m, const char *interface) {
        if (streq(interface, EGM_REGION_INTERFACE))
                append_properties(f, m, region_fixtures, ELEMENTSOF(region_fixtures));
        else if (streq(interface, EGM_LEASE_INTERFACE))
                append_properties(f, m, lease_fixtures, ELEMENTSOF(lease_fixtures));
        else if (streq(interface, EGM_MANAGER_INTERFACE))
                append_properties(f, m, manager_fixtures, ELEMENTSOF(manager_fixtures));
        else
                CHECK(sd_bus_message_append(m, "a{sv}", 0));
}

static void append_object(Fake *f, sd_bus_message *m, const char *path, const char *interface) {
        CHECK(sd_bus_message_open_container(m, 'e', "oa{sa{sv}}"));
        CHECK(sd_bus_message_append(m, "o", path));
        CHECK(sd_bus_message_open_container(m, 'a', "{sa{sv}}"));
        for (int i = 0; i < 2; i++) {
                const char *name = i == 0 ? "org.freedesktop.DBus.Peer" : interface;

                CHECK(sd_bus_message_open_container(m, 'e', "sa{sv}"));
                CHECK(sd_bus_message_append(m, "s", name));
                append_interface(f, m, name);
                CHECK(sd_bus_message_close_container(m));
        }
        CHECK(sd_bus_message_close_container(m));
        CHECK(sd_bus_message_close_container(m));
}

/* ---- Calls ---- */

static void on_get(Fake *f, sd_bus_message *m, sd_bus_message *reply) {
        const char *name;

        CHECK(sd_bus_message_read(m, "ss", NULL, &name));
        if (streq(name, "Extents"))
                CHECK(sd_bus_message_append(reply, "v", "a(ttss)", 2, UINT64_C(0), UINT64_C(64),
                                            "free", "", UINT64_C(64), UINT64_C(32), "leased", "7"));
        else if (f->retired_fails)
                CHECK(sd_bus_message_append(reply, "v", "s", "no"));
        else
                CHECK(sd_bus_message_append(reply, "v", "a(stt)", 3, "egm4", UINT64_C(0),
                                            MIB + 4096, "egm4", 2 * MIB, UINT64_C(65536), "egm5",
                                            MIB, UINT64_C(65536)));
}

/* One of a newer daemon, one of a daemon that limits little. */
static void append_quotas(const Fake *f, sd_bus_message *reply) {
        CHECK(sd_bus_message_open_container(reply, 'a', "a{sv}"));
        CHECK(sd_bus_message_append(reply, "a{sv}", 6, "Scope", "s", "user", "Uid", "u",
                                    UINT32_C(1000), "BytesUsed", "t", UINT64_C(5), "BytesMax", "t",
                                    UINT64_C(6), "Bandwidth", "(tt)", UINT64_C(1), UINT64_C(2),
                                    "CallsMax", "t", UINT64_C(9)));
        if (f->wrong_type)
                CHECK(sd_bus_message_append(reply, "a{sv}", 1, "Name", "u", UINT32_C(1)));
        else
                CHECK(sd_bus_message_append(reply, "a{sv}", 2, "Scope", "s", "unit", "Name", "s",
                                            "a.service"));
        CHECK(sd_bus_message_close_container(reply));
}

static void answer(Fake *f, sd_bus_message *m, const char *member, sd_bus_message *reply) {
        const char *interface;

        if (streq(member, "AcquireLease")) {
                CHECK(sd_bus_message_append(reply, "o", f->lease_path ?: EGM_LEASE_PATH "/7"));
                append_descriptors(f, reply);
        } else if (streq(member, "Reopen"))
                append_descriptors(f, reply);
        else if (streq(member, "GetQuotas"))
                append_quotas(f, reply);
        else if (streq(member, "Get"))
                on_get(f, m, reply);
        else if (streq(member, "GetAll")) {
                CHECK(sd_bus_message_read(m, "s", &interface));
                append_interface(f, reply, interface);
        } else if (streq(member, "GetManagedObjects")) {
                CHECK(sd_bus_message_open_container(reply, 'a', "{oa{sa{sv}}}"));
                append_object(f, reply, EGM_REGION_PATH "/egm4", EGM_REGION_INTERFACE);
                append_object(f, reply, EGM_LEASE_PATH "/7", EGM_LEASE_INTERFACE);
                append_object(f, reply, EGM_PATH "/future/x", "org.nvidia.Egm1.Future");
                CHECK(sd_bus_message_close_container(reply));
        }
}

static void note(Fake *f, sd_bus_message *m, const char *member) {
        if (streq(member, "AcquireLease"))
                note_request(f, m);
        if (streq(member, "Release")) {
                CHECK(free_and_strdup(&f->released, sd_bus_message_get_path(m)));
                f->n_released++;
        }
        if (streq(member, "Admit"))
                CHECK(free_and_strdup(&f->admitted, sd_bus_message_get_path(m)));
        if (streq(member, "Bind"))
                CHECK(free_and_strdup(&f->bound, sd_bus_message_get_path(m)));
}

static void send_signals(Fake *f) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *lease = EGM_LEASE_PATH "/7", *region = EGM_REGION_PATH "/egm4";

        CHECK(sd_bus_message_new_signal(f->bus, &m, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                        "InterfacesAdded"));
        CHECK(sd_bus_message_append(m, "oa{sa{sv}}", lease, 2, "org.freedesktop.DBus.Peer", 0,
                                    EGM_LEASE_INTERFACE, 1, "Id", "s", "7"));
        CHECK(sd_bus_send(f->bus, m, NULL));
        CHECK(sd_bus_emit_signal(f->bus, region, "org.freedesktop.DBus.Properties",
                                 "PropertiesChanged", "sa{sv}as", EGM_REGION_INTERFACE, 2, "Free",
                                 "t", UINT64_C(1), "State", "s", "ready", 1, "RetiredRanges"));
        CHECK(sd_bus_emit_signal(f->bus, EGM_PATH, "org.freedesktop.DBus.Properties",
                                 "PropertiesChanged", "sa{sv}as", EGM_MANAGER_INTERFACE, 0, 1,
                                 "Sockets"));
        /* Nonsense in between must do no harm. */
        CHECK(sd_bus_emit_signal(f->bus, region, "org.freedesktop.DBus.Properties",
                                 "PropertiesChanged", "t", UINT64_C(4711)));
        CHECK(sd_bus_emit_signal(f->bus, region, "org.freedesktop.DBus.Properties",
                                 "PropertiesChanged", "sa{sv}as", EGM_LEASE_INTERFACE, 0, 1,
                                 "State"));
        CHECK(sd_bus_emit_signal(f->bus, EGM_PATH "/lease", EGM_LEASE_INTERFACE,
                                 "RetiredPagesFound", "a(stt)", 0));
        CHECK(sd_bus_emit_signal(f->bus, lease, EGM_LEASE_INTERFACE, "RetiredPagesFound", "a(stt)",
                                 1, "egm4", 2 * MIB, UINT64_C(65536)));
        CHECK(sd_bus_emit_signal(f->bus, EGM_PATH, "org.freedesktop.DBus.ObjectManager",
                                 "InterfacesRemoved", "oas", lease, 1, EGM_LEASE_INTERFACE));
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *member = sd_bus_message_get_member(m);
        Fake *f = userdata;

        if (sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
                return 0;
        if (streq(member, "Quit"))
                sd_bus_close(f->bus);
        else if (streq(member, "SendSignals"))
                send_signals(f);
        if (streq(member, "Quit") || f->mute)
                return 1;
        note(f, m, member);
        if (f->mute_bind && streq(member, "Bind"))
                return 1;
        if (f->error_name)
                return sd_bus_reply_method_errorf(m, f->error_name, "%s", f->error_message);
        CHECK(sd_bus_message_new_method_return(m, &reply));
        if (f->signature && streq(member, "AcquireLease")) {
                if (*f->signature)
                        CHECK(sd_bus_message_append(reply, f->signature, "nonsense"));
        } else
                answer(f, m, member, reply);
        CHECK(sd_bus_send(f->bus, reply, NULL));
        return 1;
}

static void *run(void *userdata) {
        Fake *f = userdata;

        for (;;) {
                int r = sd_bus_process(f->bus, NULL);

                if (r < 0 || sd_bus_is_open(f->bus) <= 0)
                        return NULL;
                if (r == 0 && sd_bus_wait(f->bus, UINT64_MAX) < 0)
                        return NULL;
        }
}

void fake_reset(Fake *f) {
        size_t keep = offsetof(Fake, error_name);
        int memory = f->memory_fd;

        safe_close(f->lifetime_fd);
        free(f->request);
        free(f->released);
        free(f->bound);
        free(f->admitted);
        memset((char *) f + keep, 0, sizeof(*f) - keep);
        f->memory_fd = memory;
        f->lifetime_fd = -EBADF;
        f->n_slices = 1;
        f->slices[0] = (FakeSlice){"egm4", FAKE_MEMORY, MIB, 2 * MIB};
}

int fake_start(const char *address, Fake *f) {
        int r;

        *f = (Fake){.lifetime_fd = -EBADF};
        f->memory_fd = memfd_create("fake-egm", MFD_CLOEXEC);
        if (f->memory_fd < 0 || ftruncate(f->memory_fd, FAKE_MEMORY_SIZE) < 0)
                return -errno;
        fake_reset(f);
        f->address = strdup(address);
        if (!f->address)
                return -ENOMEM;
        r = sd_bus_new(&f->bus);
        if (r < 0)
                return r;
        CHECK(sd_bus_set_address(f->bus, address));
        CHECK(sd_bus_set_bus_client(f->bus, true));
        CHECK(sd_bus_start(f->bus));
        CHECK(sd_bus_request_name(f->bus, EGM_BUS_NAME, 0));
        CHECK(sd_bus_add_filter(f->bus, NULL, on_message, f));
        return -pthread_create(&f->thread, NULL, run, f);
}

/* From the test's thread: a call without an answer to wait for, then one with. */
static void tell(Fake *f, const char *member, bool wait) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        CHECK(sd_bus_new(&bus));
        CHECK(sd_bus_set_address(bus, f->address));
        CHECK(sd_bus_set_bus_client(bus, true));
        CHECK(sd_bus_start(bus));
        CHECK(sd_bus_message_new_method_call(bus, &m, EGM_BUS_NAME, "/", "org.nvidia.Test",
                                             member));
        if (wait)
                CHECK(sd_bus_call(bus, m, 0, NULL, NULL));
        else
                CHECK(sd_bus_send(bus, m, NULL));
}

void fake_send_signals(Fake *f) {
        tell(f, "SendSignals", true);
}

void fake_stop(Fake *f) {
        tell(f, "Quit", false);
        (void) pthread_join(f->thread, NULL);
        fake_reset(f);
        safe_close(f->memory_fd);
        free(f->address);
        sd_bus_unref(f->bus);
}
