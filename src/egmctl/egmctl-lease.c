/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "describe.h"
#include "egmctl.h"
#include "fd-util.h"

static int print_lease(const Options *o, egm_connection *c, egm_lease *lease) {
        _cleanup_property_list_ PropertyList l = {};
        _cleanup_egm_(lease_info) egm_lease_info *info = NULL;
        const char *missing;
        int r;

        r = egm_get_lease_info(c, egm_lease_get_id(lease), &info);
        if (r < 0)
                return complain_call(c, r, "Failed to show lease %s", egm_lease_get_id(lease));
        if (o->json != JSON_OFF)
                r = print_json(lease_to_json(info), o->json);
        else
                r = describe_lease(info, &l);
        if (r < 0)
                return complain_oom();
        if (o->json == JSON_OFF && property_list_print(&l, o, &missing) < 0) {
                complain("There is no property '%s'", missing);
                return STATUS_USAGE;
        }
        /* A lease that nobody learns of is not kept. */
        return fflush(stdout) == 0 ? STATUS_OK : STATUS_FAILED;
}

/* ---- Holding ---- */

typedef struct Hold {
        const char *id;
        bool lost;
} Hold;

static void on_event(egm_connection *c, egm_event *e, void *userdata) {
        _cleanup_egm_(lease_info) egm_lease_info *info = NULL;
        Hold *h = userdata;
        int r, type = egm_event_get_type(e);

        /* A daemon that comes back has kept the lease, or not. */
        if (type != EGM_EVENT_DAEMON_STARTED &&
            !((type == EGM_EVENT_LEASE_CHANGED || type == EGM_EVENT_LEASE_REMOVED) &&
              streq(egm_event_get_name(e), h->id)))
                return;
        r = egm_get_lease_info(c, h->id, &info);
        h->lost = r == -ENOENT || (r >= 0 && !streq(egm_lease_info_get_state(info), "active"));
}

/* True at the end of input. */
static bool drain_input(void) {
        char buf[4096];
        ssize_t n;

        n = read(STDIN_FILENO, buf, sizeof(buf));
        return n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
}

/* Until the end of input or a signal (0), until the lease is lost (an exit status), or an errno. */
static int hold(egm_connection *c, Hold *h, int signal_fd) {
        for (;;) {
                struct pollfd p[] = {
                                {.fd = STDIN_FILENO, .events = POLLIN},
                                {.fd = signal_fd, .events = POLLIN},
                                {.fd = egm_connection_get_fd(c)},
                };
                int r;

                r = egm_connection_dispatch(c);
                if (r < 0)
                        return r;
                if (h->lost) {
                        complain("Lease %s has ended", h->id);
                        return STATUS_FAILED;
                }
                /* Until nothing is left to dispatch: then there is nothing to time out either. */
                if (r > 0)
                        continue;
                r = egm_connection_get_events(c);
                if (r < 0)
                        return r;
                p[2].events = (short) r;
                if (poll(p, ELEMENTSOF(p), -1) < 0 && errno != EINTR)
                        return -errno;
                if (p[1].revents != 0 || (p[0].revents != 0 && drain_input()))
                        return 0;
        }
}

static int hold_and_release(egm_connection *c, egm_lease *lease, Hold *h, int signal_fd) {
        int r, status;

        status = hold(c, h, signal_fd);
        if (status < 0)
                status = complain_call(c, status, "Failed to hold lease %s", h->id);
        r = egm_lease_release(lease);
        if (r < 0 && !h->lost)
                return complain_call(c, r, "Failed to release lease %s", h->id);
        return status;
}

/* Whoever reads which lease it is may end it at once: its end is listened for before. */
static int watch_and_print(const Options *o, egm_connection *c, egm_lease *lease, Hold *h,
                           egm_watch **ret) {
        int r;

        if (!o->persistent) {
                r = egm_watch_new(c, on_event, h, ret);
                if (r < 0)
                        return complain_call(c, r, "Failed to hold lease %s", h->id);
        }
        return print_lease(o, c, lease);
}

static int open_signals(void) {
        sigset_t set;
        int fd;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGINT);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        fd = signalfd(-1, &set, SFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int verb_lease(const Options *o, int n_args, char **args) {
        _cleanup_egm_(connection) egm_connection *c = NULL;
        _cleanup_egm_(lease) egm_lease *lease = NULL;
        _cleanup_egm_(watch) egm_watch *watch = NULL;
        _cleanup_close_ int signal_fd = -EBADF;
        Hold h = {};
        int r = connect_bus(o, &c);

        if (r != STATUS_OK)
                return r;
        /* Until here signals just end us, and the descriptors with us. */
        r = acquire(o, c, NULL, &lease);
        if (r != STATUS_OK)
                return r;
        h.id = egm_lease_get_id(lease);
        signal_fd = open_signals();
        if (signal_fd < 0)
                r = complain_call(c, signal_fd, "Failed to wait for signals");
        else
                r = watch_and_print(o, c, lease, &h, &watch);
        if (r != STATUS_OK) {
                (void) egm_lease_release(lease);
                return r;
        }
        return o->persistent ? STATUS_OK : hold_and_release(c, lease, &h, signal_fd);
}
