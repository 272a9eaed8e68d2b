/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* bench-start ADDRESS PROGRAM ARGS...: from starting a service to its name on the bus, as the bus tells it. */

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>

#include "bench.h"

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *old, *new;

        if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0)
                return 0;
        if (strncmp(name, "org.nvidia.", strlen("org.nvidia.")) == 0 && *new)
                *(uint64_t *) userdata = bench_now();
        return 0;
}

int main(int argc, char *argv[]) {
        uint64_t start, named = 0;
        sd_bus *bus;
        pid_t pid;
        int status;

        if (argc < 3)
                errx(EXIT_FAILURE, "usage: bench-start ADDRESS PROGRAM ARGS...");
        bench_check(sd_bus_new(&bus), "sd_bus_new");
        bench_check(sd_bus_set_address(bus, argv[1]), "address");
        bench_check(sd_bus_set_bus_client(bus, true), "client");
        bench_check(sd_bus_start(bus), "connecting");
        bench_check(sd_bus_match_signal(bus, NULL, "org.freedesktop.DBus", NULL,
                                        "org.freedesktop.DBus", "NameOwnerChanged", on_owner,
                                        &named),
                    "match");
        start = bench_now();
        bench_check(-posix_spawn(&pid, argv[2], NULL, NULL, argv + 2, environ), argv[2]);
        while (named == 0) {
                int r = sd_bus_process(bus, NULL);

                bench_check(r, "bus");
                if (r == 0)
                        bench_check(sd_bus_wait(bus, UINT64_MAX), "bus");
                if (waitpid(pid, &status, WNOHANG) == pid)
                        errx(EXIT_FAILURE, "%s ended", argv[2]);
        }
        printf("{\"who\": \"%s\", \"what\": \"start\", \"ms\": %.3f}\n", argv[2],
               (double) (named - start) / 1e6);
        (void) kill(pid, SIGTERM);
        if (waitpid(pid, &status, 0) != pid)
                err(EXIT_FAILURE, "waitpid");
        sd_bus_flush_close_unref(bus);
        return EXIT_SUCCESS;
}
