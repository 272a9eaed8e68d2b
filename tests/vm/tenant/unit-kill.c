/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <signal.h>
#include <systemd/sd-bus.h>

#include "macro.h"

/* egm-unit-kill UNIT: SIGKILL for its main process, and until systemd has another one that is ready. */

#define DEADLINE_USEC (240 * USEC_PER_SEC)
#define SYSTEMD "org.freedesktop.systemd1"
#define UNIT_INTERFACE SYSTEMD ".Unit"
#define SERVICE_INTERFACE SYSTEMD ".Service"

static inline void freep_bus(sd_bus **bus) {
        sd_bus_flush_close_unref(*bus);
}

static int get_pid(sd_bus *bus, const char *path, uint32_t *ret) {
        return sd_bus_get_property_trivial(bus, SYSTEMD, path, SERVICE_INTERFACE, "MainPID", NULL,
                                           'u', ret);
}

static int is_another(sd_bus *bus, const char *path, uint32_t old) {
        _cleanup_free_ char *state = NULL;
        uint32_t pid;
        int r;

        r = get_pid(bus, path, &pid);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, SYSTEMD, path, UNIT_INTERFACE, "ActiveState",
                                               NULL, &state);
        return r < 0 ? r : pid != 0 && pid != old && streq(state, "active");
}

static uint64_t now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

static int wait_for_another(sd_bus *bus, const char *path, uint32_t old) {
        uint64_t end = now() + DEADLINE_USEC;

        for (;;) {
                int r;

                do
                        r = sd_bus_process(bus, NULL);
                while (r > 0);
                if (r >= 0)
                        r = is_another(bus, path, old);
                if (r != 0)
                        return r < 0 ? r : 0;
                /* The calls in between may have queued a signal. */
                r = sd_bus_process(bus, NULL);
                if (r == 0 && now() >= end)
                        return -ETIMEDOUT;
                if (r == 0)
                        r = sd_bus_wait(bus, end - now());
                if (r < 0)
                        return r;
        }
}

static int run(const char *unit) {
        _cleanup_(freep_bus) sd_bus *bus = NULL;
        _cleanup_free_ char *path = NULL;
        uint32_t pid;
        int r;

        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);
        if (r >= 0)
                r = sd_bus_call_method(bus, SYSTEMD, "/org/freedesktop/systemd1",
                                       SYSTEMD ".Manager", "Subscribe", NULL, NULL, "");
        if (r >= 0)
                r = sd_bus_match_signal(bus, NULL, SYSTEMD, path, "org.freedesktop.DBus.Properties",
                                        "PropertiesChanged", NULL, NULL);
        if (r >= 0)
                r = get_pid(bus, path, &pid);
        if (r < 0)
                return r;
        if (pid == 0)
                return -ESRCH;
        if (kill((pid_t) pid, SIGKILL) < 0)
                return -errno;
        return wait_for_another(bus, path, pid);
}

int main(int argc, char *argv[]) {
        int r;

        if (argc != 2) {
                fprintf(stderr, "Usage: egm-unit-kill UNIT\n");
                return 2;
        }
        r = run(argv[1]);
        if (r < 0)
                fprintf(stderr, "egm-unit-kill: %s\n", strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
