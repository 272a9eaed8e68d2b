/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <sys/syscall.h>
#include <systemd/sd-bus.h>

#include "attempt.h"

/* Asking egmd for the neighbour's lease. */

static int call(const Actor *a, const char *member, const char *types, int argument) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        char path[128];
        sd_bus *bus = NULL;
        int r;

        (void) snprintf(path, sizeof(path), "/org/nvidia/Egm1/lease/%s", a->neighbours_lease);
        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_call_method(bus, "org.nvidia.Egm1", path, "org.nvidia.Egm1.Lease",
                                       member, &error, NULL, types, argument);
        if (r < 0 && error.name && strstr(error.name, ".NotHolder"))
                r = -EPERM;
        if (r < 0 && error.name && strstr(error.name, ".AccessDenied"))
                r = -EACCES;
        sd_bus_error_free(&error);
        sd_bus_flush_close_unref(bus);
        return r < 0 ? r : SEEN_NOTHING;
}

static int ask_for(const Actor *a, const char *member) {
        _cleanup_close_ int pidfd = (int) syscall(SYS_pidfd_open, getpid(), 0);
        int r = call(a, member, "h", pidfd);

        return r < 0 ? r : look(a->own.fd, a->neighbours.offset, PAGE);
}

static void play_ask(Actor *a) {
        report(a, "asked-to-be-admitted", ask_for(a, "Admit"));
        if (getuid() == 0)
                return;
        report(a, "asked-to-be-bound", ask_for(a, "Bind"));
        report(a, "asked-for-descriptors", call(a, "Reopen", "", 0));
        report(a, "asked-to-release", call(a, "Release", "a{sv}", 0));
}

const Scene scene_ask = {.name = "ask", .play = play_ask};
