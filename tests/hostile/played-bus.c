/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "played-bus.h"

#include <poll.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "fd-util.h"

#define DEADLINE_USEC (60 * USEC_PER_SEC)
#define KEPT_MAX 16U
/* egmd takes something at any time, or nothing for as long as it is not heard. */
#define STUFFED_MSEC 1000
#define STUFF_MAX 20000U

static sd_bus *bus;
static pid_t pid;
static char directory[64];
static Credentials credentials;
static Reading reading;
static sd_bus_message *kept[KEPT_MAX];
static size_t n_kept;
static unsigned n_answers, n_stats;
static bool has_name;

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

void played_set(Credentials c, Reading r) {
        credentials = c;
        reading = r;
}

/* ---- the bus ---- */

static void answer(sd_bus_message *call, const char *sender, const char *types, ...) {
        sd_bus_message *m = NULL;
        va_list ap;

        assert_true(sd_bus_message_new_method_return(call, &m) >= 0);
        va_start(ap, types);
        assert_true(sd_bus_message_appendv(m, types, ap) >= 0);
        va_end(ap);
        assert_true(sd_bus_message_set_sender(m, sender) >= 0);
        assert_true(sd_bus_send(bus, m, NULL) >= 0);
        sd_bus_message_unref(m);
}

static const char *argument(sd_bus_message *m) {
        const char *s;

        assert_true(sd_bus_message_rewind(m, true) >= 0);
        assert_true(sd_bus_message_read(m, "s", &s) > 0);
        return s;
}

static void tell_credentials(sd_bus_message *m) {
        const char *name = argument(m);
        unsigned uid;

        assert_int_equal(sscanf(name, ":%u.", &uid), 1);
        if (credentials == CREDENTIALS_FORGED)
                answer(m, name, "a{sv}", 1, "UnixUserID", "u", 0);
        else
                answer(m, "org.freedesktop.DBus", "a{sv}", 1, "UnixUserID", "u", uid);
}

void played_tell(void) {
        for (size_t i = 0; i < n_kept; i++) {
                tell_credentials(kept[i]);
                sd_bus_message_unref(kept[i]);
        }
        n_kept = 0;
}

static void on_credentials(sd_bus_message *m) {
        if (credentials != CREDENTIALS_LATER) {
                tell_credentials(m);
                return;
        }
        assert_true(n_kept < KEPT_MAX);
        kept[n_kept++] = sd_bus_message_ref(m);
}

static void on_stats(sd_bus_message *m) {
        sd_bus_message *e = NULL;

        n_stats++;
        if (reading != READING_UNTOLD) {
                answer(m, reading == READING_FORGED ? argument(m) : "org.freedesktop.DBus", "a{sv}",
                       3, "OutgoingBytes", "u", reading == READING_NONE ? UINT32_MAX : 0,
                       "OutgoingFDs", "u", reading == READING_NONE ? UINT32_MAX : 0, "IncomingFDs",
                       "u", reading == READING_NONE ? UINT32_MAX : 0);
                return;
        }
        assert_true(sd_bus_message_new_method_errorf(m, &e, SD_BUS_ERROR_UNKNOWN_METHOD,
                                                     "no such method") >= 0);
        assert_true(sd_bus_message_set_sender(e, "org.freedesktop.DBus") >= 0);
        assert_true(sd_bus_send(bus, e, NULL) >= 0);
        sd_bus_message_unref(e);
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *member = sd_bus_message_get_member(m);
        uint8_t type;

        assert_true(sd_bus_message_get_type(m, &type) >= 0);
        if (type != SD_BUS_MESSAGE_METHOD_CALL)
                return 1;
        if (streq_ptr(member, "Hello"))
                answer(m, "org.freedesktop.DBus", "s", ":1.1");
        else if (streq_ptr(member, "RequestName")) {
                answer(m, "org.freedesktop.DBus", "u", 1);
                has_name = true;
        } else if (streq_ptr(member, "GetConnectionCredentials"))
                on_credentials(m);
        else if (streq_ptr(member, "GetConnectionStats"))
                on_stats(m);
        else if (streq_ptr(member, "NameHasOwner"))
                answer(m, "org.freedesktop.DBus", "b", 1);
        else if (sd_bus_message_get_expect_reply(m) > 0)
                answer(m, "org.freedesktop.DBus", "");
        return 1;
}

static bool pump(void) {
        int r = sd_bus_process(bus, NULL);

        if (r < 0)
                fail_msg("egmd has gone: %s", strerror(-r));
        return r > 0;
}

static void wait_for(bool (*condition)(const void *arg), const void *arg) {
        for (uint64_t end = now_usec() + DEADLINE_USEC; !condition(arg);) {
                if (pump())
                        continue;
                if (now_usec() >= end)
                        fail_msg("waited in vain for egmd");
                assert_true(sd_bus_wait(bus, 100 * USEC_PER_MSEC) >= 0);
        }
}

/* ---- egmd on it ---- */

static int bus_listen(struct sockaddr_un *sa) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void) snprintf(directory, sizeof(directory), "/tmp/egmd-played.XXXXXX");
        assert_non_null(mkdtemp(directory));
        *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
        (void) snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/bus", directory);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (const struct sockaddr *) sa, sizeof(*sa)), 0);
        assert_int_equal(listen(fd, 1), 0);
        return fd;
}

static bool name_taken(const void *arg) {
        return has_name;
}

static bool is_done(const void *arg) {
        return ((const Asked *) arg)->done;
}

/* Somebody that the tests do not play waits until both regions lend. It ends with the descriptors, which he does not keep. */
static void await_memory(void) {
        sd_bus_message *m = played_call(EGM_PATH, EGM_MANAGER_INTERFACE, "AcquireLease");
        Asked a = {};

        assert_true(sd_bus_message_append(m, "a{sv}", 2, "Slices", "aa{sv}", 2, 2, "Size", "t",
                                          (uint64_t) (64 * KIB), "Region", "s", "egm4", 2, "Size",
                                          "t", (uint64_t) (64 * KIB), "Region", "s", "egm5",
                                          "WaitUSec", "t", (uint64_t) DEADLINE_USEC) >= 0);
        played_send(":0.99999", m, &a);
        wait_for(is_done, &a);
        if (a.error[0])
                fail_msg("%s: %s", a.error, a.text);
}

void played_start(const char *egmd) {
        char arg_bus[192], arg_sim[] = "--simulate=gb200", arg_scale[] = "--scale=8192";
        char program[PATH_MAX];
        char *argv[] = {program, arg_sim, arg_scale, arg_bus, NULL};
        struct sockaddr_un sa;
        struct pollfd p;
        sd_id128_t id;
        int fd;

        fd = bus_listen(&sa);
        (void) snprintf(program, sizeof(program), "%s", egmd);
        (void) snprintf(arg_bus, sizeof(arg_bus), "--bus=unix:path=%s", sa.sun_path);
        assert_int_equal(setenv("RUNTIME_DIRECTORY", directory, true), 0);
        assert_int_equal(posix_spawn(&pid, program, NULL, NULL, argv, environ), 0);
        p = (struct pollfd){.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, (int) (DEADLINE_USEC / USEC_PER_MSEC)), 1);
        p.fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        assert_true(p.fd >= 0);
        (void) close(fd);
        assert_int_equal(sd_id128_randomize(&id), 0);
        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_fd(bus, p.fd, p.fd) >= 0);
        assert_true(sd_bus_set_server(bus, true, id) >= 0);
        assert_true(sd_bus_negotiate_fds(bus, true) >= 0);
        assert_true(sd_bus_add_filter(bus, NULL, on_message, NULL) >= 0);
        assert_true(sd_bus_start(bus) >= 0);
        has_name = false;
        n_answers = 0;
        played_set(CREDENTIALS_TOLD, READING_ALL);
        wait_for(name_taken, NULL);
        await_memory();
}

void played_stop(void) {
        char command[128];
        int status;

        assert_int_equal(kill(pid, SIGTERM), 0);
        while (sd_bus_process(bus, NULL) >= 0 && sd_bus_wait(bus, DEADLINE_USEC) >= 0)
                ;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        bus = sd_bus_unref(bus);
        (void) snprintf(command, sizeof(command), "rm -rf '%s'", directory);
        assert_int_equal(system(command), 0);
}

/* ---- callers ---- */

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Asked *a = userdata;
        const char *path;

        assert_false(a->done);
        a->done = true;
        a->at = ++n_answers;
        if (e) {
                (void) snprintf(a->error, sizeof(a->error), "%s", e->name);
                (void) snprintf(a->text, sizeof(a->text), "%s", e->message);
        } else if (sd_bus_message_has_signature(m, "oha(shtt)")) {
                assert_true(sd_bus_message_read(m, "o", &path) > 0);
                (void) snprintf(a->path, sizeof(a->path), "%s", path);
        }
        return 1;
}

sd_bus_message *played_call(const char *path, const char *interface, const char *member) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &m, EGM_BUS_NAME, path, interface,
                                                   member) >= 0);
        return m;
}

void played_send(const char *sender, sd_bus_message *m, Asked *a) {
        if (sender)
                assert_true(sd_bus_message_set_sender(m, sender) >= 0);
        assert_true(sd_bus_call_async(bus, NULL, m, on_reply, a, UINT64_MAX) >= 0);
        sd_bus_message_unref(m);
}

void played_send_read(const char *sender, Asked *a) {
        sd_bus_message *m = played_call(EGM_PATH, EGM_MANAGER_INTERFACE, "GetQuotas");

        assert_true(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        played_send(sender, m, a);
}

void played_collect(const Asked *a, size_t n) {
        for (size_t i = 0; i < n; i++)
                wait_for(is_done, a + i);
}

size_t played_count_done(const Asked *a, size_t n) {
        size_t done = 0;

        for (size_t i = 0; i < n; i++)
                done += a[i].done;
        return done;
}

void played_settle(void) {
        static unsigned number;
        char name[32];

        for (unsigned i = 0; i < 3; i++) {
                Asked a = {};

                (void) snprintf(name, sizeof(name), ":0.%u", 100000 + number++);
                played_send_read(name, &a);
                wait_for(is_done, &a);
        }
}

static bool stats_asked(const void *arg) {
        return n_stats >= *(const unsigned *) arg;
}

void played_await_stats(void) {
        unsigned n = n_stats + 2;

        wait_for(stats_asked, &n);
}

void played_gone(const char *name) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_signal(bus, &m, "/org/freedesktop/DBus",
                                              "org.freedesktop.DBus", "NameOwnerChanged") >= 0);
        assert_true(sd_bus_message_append(m, "sss", name, name, "") >= 0);
        assert_true(sd_bus_message_set_sender(m, "org.freedesktop.DBus") >= 0);
        assert_true(sd_bus_send(bus, m, NULL) >= 0);
        sd_bus_message_unref(m);
}

bool played_stuff(void) {
        struct pollfd p = {.fd = sd_bus_get_fd(bus), .events = POLLOUT};

        for (unsigned n = 0; n < STUFF_MAX; n++) {
                sd_bus_message *m;
                uint64_t cookie;

                if (poll(&p, 1, STUFFED_MSEC) == 0)
                        return true;
                m = played_call(EGM_PATH, "org.freedesktop.DBus.Properties", "GetAll");
                assert_true(sd_bus_message_append(m, "s", EGM_MANAGER_INTERFACE) >= 0);
                assert_true(sd_bus_message_set_sender(m, ":65534.1") >= 0);
                assert_true(sd_bus_send(bus, m, &cookie) >= 0);
                sd_bus_message_unref(m);
        }
        return false;
}

void played_stop_daemon(void) {
        int status;

        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
}

void played_continue_daemon(void) {
        assert_int_equal(kill(pid, SIGCONT), 0);
}

void played_be_silent(void) {
        static Asked a[200];

        played_set(CREDENTIALS_TOLD, READING_UNTOLD);
        memset(a, 0, sizeof(a));
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                played_send_read(":65531.1", a + i);
        played_collect(a, ELEMENTSOF(a));
}
